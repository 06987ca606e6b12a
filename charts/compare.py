"""Speed against what it takes: one mark per deployment or endpoint, coloured by what it runs on."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import theme
from core.language import _, say

SHAPES = {_("own"): "circle", _("hosted"): "diamond", _("published"): "cross"}
LABEL_PIXELS = 150
ROOM = 1.25
MOST_APART = 30  # times: beyond, the smaller values would lie on the axis
_HEIGHT = 320


def speed_against(frame: pd.DataFrame, column: str, title: str) -> alt.LayerChart:
    """Output tokens per second of one user over a figure per token. Up and left is better.

    Args:
        frame: name, kind (one of ``SHAPES``), hardware, ``tokens_per_second``, the column, ``conditions``;
            rows in which either number is unknown are not drawn.
        column: what it takes.
        title: of that axis.
    """
    drawn = frame.dropna(subset=["tokens_per_second", column]).rename(columns={column: "taken"})
    drawn = drawn[["name", "kind", "hardware", "tokens_per_second", "taken", "conditions"]]
    drawn = drawn.assign(label=drawn["name"].str.rpartition("/")[2])
    kinds = [kind for kind in SHAPES if (drawn["kind"] == kind).any()]
    names = [name for kind in kinds for name in sorted(drawn.loc[drawn["kind"] == kind, "hardware"].unique())]
    base = alt.Chart(drawn.assign(kind=drawn["kind"].map(say))).encode(
        x=alt.X("taken:Q", title=title, scale=_scale(drawn["taken"])),
        y=alt.Y("tokens_per_second:Q", title=say("output tokens/s per user"), scale=_scale(drawn["tokens_per_second"])),
        tooltip=[
            alt.Tooltip("name:N", title=say("which")),
            alt.Tooltip("hardware:N", title=say("runs on")),
            alt.Tooltip("tokens_per_second:Q", title=say("tokens/s per user"), format=",.1f"),
            alt.Tooltip("taken:Q", title=title, format=",.4~f"),
            alt.Tooltip("conditions:N", title=say("conditions")),
        ],
    )
    marks = base.mark_point(filled=True, size=130, opacity=1).encode(
        color=alt.Color(
            "hardware:N",
            scale=alt.Scale(domain=list(dict.fromkeys(names))),
            legend=alt.Legend(orient="top", title=None, labelLimit=300, columns=2),
        ),
        shape=alt.Shape(
            "kind:N",
            scale=alt.Scale(domain=[say(kind) for kind in kinds], range=[SHAPES[kind] for kind in kinds]),
            legend=alt.Legend(orient="bottom", title=None, symbolFillColor=theme.MISSING) if len(kinds) > 1 else None,
        ),
    )
    # A middle grey: it reads on a light ground and on a dark one.
    labels = base.mark_text(dy=-14, limit=LABEL_PIXELS, color=theme.MISSING).encode(text="label:N")
    return alt.LayerChart(layer=[marks, labels], height=_HEIGHT, padding=theme.PADDING)


def _scale(values: pd.Series) -> alt.Scale:
    """From 0 to beyond the largest, so that its mark and name have room; logarithmic where they lie far apart."""
    largest, least = float(values.max()), float(values.min())
    if 0 < least < largest / MOST_APART:
        return alt.Scale(type="log", domain=[least / ROOM, largest * ROOM * ROOM], nice=False)
    return alt.Scale(domain=[0.0, largest * ROOM if largest > 0 else 1.0], nice=False)
