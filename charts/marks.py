"""Over a chart: what happened, as upright rules. Behind it: the same quantity a week before, dotted.

Each kind of mark has a shape of its own, so that no colour need be told from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span, instant
from charts.layered import Layered
from core.language import _, say

WEEK_MS = 7 * 24 * 3_600_000
_TOP = 6  # px from the upper edge to the middle of a sign


@dataclass(frozen=True, slots=True)
class Sign:
    """How a kind of mark looks: Vega's shape, the same as a character, and its word, marked for translation."""

    shape: str
    character: str
    word: str


SIGNS = {
    "error": Sign("cross", "✚", _("error")),
    "lost": Sign("square", "■", _("lost or back")),
    "throttle": Sign("triangle-down", "▼", _("slowed down")),
    "restart": Sign("triangle-up", "▲", _("restart")),
    "change": Sign("diamond", "◆", _("version change")),
    "price": Sign("circle", "●", _("price change")),
}


def mark_layers(marks: pd.DataFrame, span: Span) -> list[alt.Chart]:
    """An upright rule at each instant, and on top of it its sign, which tells what happened.

    Args:
        marks: ``at`` (UTC), ``sign`` (of ``SIGNS``), ``what`` and ``thing``, both shown as they are.
        span: the time shown.
    """
    if marks.empty:
        return []
    drawn = pd.DataFrame(
        {
            "at": span.wall(marks["at"]),
            "shape": [SIGNS[sign].shape for sign in marks["sign"]],
            "kind": [say(SIGNS[sign].word) for sign in marks["sign"]],
            "what": marks["what"],
            "thing": marks["thing"],
        }
    )
    tooltip = [
        instant(),
        alt.Tooltip("kind:N", title=say("mark")),
        alt.Tooltip("what:N", title=say("what happened")),
        alt.Tooltip("thing:N", title=say("to what")),
    ]
    base = alt.Chart(drawn).encode(x=span.axis())
    signs = base.mark_point(filled=True, size=75, opacity=1, color=theme.MARK).encode(
        y=alt.value(_TOP),
        shape=alt.Shape("shape:N", scale=None),  # the shape itself: no scale that others would share
        tooltip=tooltip,
    )
    return [base.mark_rule(color=theme.MARK, strokeWidth=1), signs]


def with_marks(chart: Layered, layers: Sequence[alt.Chart]) -> Layered:
    """A chart over time with the layers of ``mark_layers`` on it, made once for all charts of a window."""
    marked: Layered = chart.copy(deep=False)
    marked.layer = [*chart.layer, *layers]
    return marked


def dotted(
    drawn: pd.DataFrame, span: Span, y: alt.Y, value: alt.Tooltip, *, name: str = "", steps: bool = False
) -> alt.Chart:
    """A week before as a dotted grey line per series; nothing where nothing is known.

    Args:
        drawn: ``at`` (wall clock, as ``Span.wall`` makes it, a week later than it was), ``series``, what ``y`` shows.
        span: the time shown.
        y: the chart's own axis.
        value: how the tooltip tells it.
        name: what the line is of, where the chart has several.
        steps: each value holds until the next, as in a stack.
    """
    said = say("7 × 24 h earlier")
    legend = alt.Legend(
        orient="bottom",  # above there is none left beside that of the series
        title=None,
        symbolType="stroke",
        symbolStrokeColor=theme.EARLIER,
        symbolStrokeWidth=2,
        symbolSize=400,
        symbolDash=theme.DOTS,
        labelLimit=300,
    )
    earlier: alt.Chart = (
        alt.Chart(drawn.assign(said=f"{name}, {said}" if name else said))
        .mark_line(
            color=theme.EARLIER,
            strokeDash=theme.DOTS,
            strokeWidth=2,
            strokeCap="round",
            interpolate="step-after" if steps else "linear",
        )
        .encode(
            x=span.axis(),
            y=y,
            detail=alt.Detail("series:N"),
            # Opacity has the legend: no other layer has a scale for it.
            opacity=alt.Opacity("said:O", scale=alt.Scale(range=[1]), legend=legend),
            tooltip=[
                instant(),
                alt.Tooltip("said:N", title=say("line")),
                alt.Tooltip("series:N", title=say("series")),
                value,
            ],
        )
    )
    return earlier
