"""What fills the memory of an accelerator: one bar per type, as long as its memory."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import scale_for
from charts.layered import Layered
from core.language import _, say

MODEL_PARTS = (_("weights"), _("KV cache"))
OTHER_PARTS = (_("reserve"), _("still free"))
PARTS = (*MODEL_PARTS, *OTHER_PARTS)
MOST_LABEL_PIXELS = 190
_FAINT = "33"  # of 255, as the last two digits of a colour


def memory_bars(frame: pd.DataFrame) -> Layered:
    """Parts of one accelerator's memory from the left; a bar ends where its memory does.

    Args:
        frame: name (a bar each, drawn in the order of the frame), layout in words, and ``weight_bytes``, ``kv_bytes``,
            ``reserve_bytes``, ``free_bytes``.
    """
    columns = dict(zip(("weight_bytes", "kv_bytes", "reserve_bytes", "free_bytes"), PARTS, strict=True))
    ends = frame[list(columns)].cumsum(axis="columns")
    scale = scale_for("memory_bytes", ends["free_bytes"], title=say("memory of one accelerator"))
    parts = [
        frame[["name", "layout"]].assign(
            part=say(part),
            size=frame[column] / scale.factor,
            begin=(ends[column] - frame[column]) / scale.factor,
            end=ends[column] / scale.factor,
        )
        for column, part in columns.items()
    ]
    drawn = pd.concat(parts, ignore_index=True)
    order = frame["name"].tolist()
    grey = [theme.MISSING, theme.MISSING + _FAINT]
    layers = [
        _layer(drawn, order, scale.title, [say(part) for part in MODEL_PARTS]),
        _layer(drawn, order, scale.title, [say(part) for part in OTHER_PARTS], grey),
    ]
    chart = Layered(layer=layers, height=alt.Step(theme.ROW_HEIGHT), padding=theme.PADDING)
    layered: Layered = chart.resolve_scale(color="independent")
    return layered


def _layer(
    drawn: pd.DataFrame, order: list[str], title: str, parts: list[str], colours: list[str] | None = None
) -> alt.Chart:
    bars: alt.Chart = (
        alt.Chart(drawn[drawn["part"].isin(parts)])
        .mark_bar()
        .encode(
            y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=MOST_LABEL_PIXELS, labelFlush=False)),
            x=alt.X("begin:Q", title=title, scale=alt.Scale(zero=True, nice=False)),
            x2=alt.X2("end:Q"),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=parts) if colours is None else alt.Scale(domain=parts, range=colours),
                sort=parts,
                legend=alt.Legend(orient="top", columns=1, title=None, symbolType="square", symbolSize=90),
            ),
            tooltip=[
                alt.Tooltip("name:N", title=say("type")),
                alt.Tooltip("layout:N", title=say("layout")),
                alt.Tooltip("part:N", title=say("part")),
                alt.Tooltip("size:Q", title=title, format=",.1f"),
            ],
        )
    )
    return bars
