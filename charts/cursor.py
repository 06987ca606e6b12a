"""The step under the pointer, as a grey band that tells what every line of a chart was then.

One band per step, with texts made here: a point per value that each tells itself takes a browser several times as long
as the lines do.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span
from charts.narrow import narrow
from core.language import say

_POINTED = "pointed"


def cursor(told: pd.DataFrame, names: list[str], span: Span, *, step_ms: int | None = None) -> alt.Chart:
    """The layer that lies over lines; where nothing is known of a line at a step, it says so.

    Args:
        told: ``at`` (as ``Span.wall`` makes it), ``series`` and ``text``; a row for each value that is drawn.
        names: of the series, in the order in which they are told.
        span: the time shown.
        step_ms: for how long values hold from their time on, as in a stack; else a band lies around each time.
    """
    texts = told.pivot(index="at", columns="series", values="text").reindex(columns=names).astype("object")
    texts = texts.where(texts.notna(), say("unknown"))
    at = texts.index.to_series().reset_index(drop=True)
    wide_ms = step_ms or (at.diff().median() if len(at) > 1 else span.gap_ms)
    begin = at if step_ms else at - wide_ms / 2
    columns = {f"text_{number}": texts[name].to_numpy() for number, name in enumerate(names)}  # names may be anything
    drawn = pd.DataFrame({"begin": begin, "end": begin + wide_ms, "time": span.clock(at), **columns})
    visible = alt.OpacityValue(0, condition={"param": _POINTED, "empty": False, "value": theme.BAND_OPACITY})
    tooltip = [
        alt.Tooltip("time:N", title=say("time")),
        *(alt.Tooltip(f"{column}:N", title=name) for column, name in zip(columns, names, strict=True)),
    ]
    band: alt.Chart = (
        alt.Chart(narrow(drawn))
        .mark_rect(color=theme.MISSING, clip=True)
        .encode(x=span.axis("begin"), x2=alt.X2("end:Q"), opacity=visible, tooltip=tooltip)
        .add_params(alt.selection_point(name=_POINTED, on="pointerover", clear="pointerout"))
    )
    return band
