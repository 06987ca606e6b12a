"""The step under the pointer, as a grey band that tells what every line of a chart was then.

One band per step, with texts made here: a point per value that each tells itself takes a browser several times as long
as the lines do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span
from core.language import say

_POINTED = "pointed"


def cursor(at: pd.Series, texts: Mapping[str, Sequence[str]], span: Span, *, step_ms: int | None = None) -> alt.Chart:
    """The layer that lies over lines.

    Args:
        at: times (as ``Span.wall`` makes them), ascending.
        texts: what each line was at each time, by the line's name, in the order in which they are told.
        span: the time shown.
        step_ms: for how long values hold from their time on, as in a stack; else a band lies around each time.
    """
    wide_ms = step_ms or (at.diff().median() if len(at) > 1 else span.gap_ms)
    begin = (at if step_ms else at - wide_ms / 2).to_numpy()
    columns = {name: f"text_{number}" for number, name in enumerate(texts)}  # names may be anything
    # As objects: pandas sends its own texts with offsets twice as wide.
    drawn = pd.DataFrame(
        {
            "begin": begin,
            "end": begin + wide_ms,
            "time": pd.Series(span.clock(at), dtype="object"),
            **{columns[name]: pd.Series(told, dtype="object") for name, told in texts.items()},
        }
    )
    visible = alt.OpacityValue(0, condition={"param": _POINTED, "empty": False, "value": theme.BAND_OPACITY})
    tooltip = [
        alt.Tooltip("time:N", title=say("time")),
        *(alt.Tooltip(f"{column}:N", title=name) for name, column in columns.items()),
    ]
    band: alt.Chart = (
        alt.Chart(drawn)
        .mark_rect(color=theme.MISSING, clip=True)
        .encode(x=span.axis("begin"), x2=alt.X2("end:Q"), opacity=visible, tooltip=tooltip)
        .add_params(alt.selection_point(name=_POINTED, on="pointerover", clear="pointerout"))
    )
    return band
