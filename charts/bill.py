"""The lines of a bill, stacked; prices beside each other, and when they changed."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span, instant
from charts.layered import Layered
from charts.marks import with_marks
from core.language import _, say

LINES = {
    "hardware_usd": _("hardware"),
    "electricity_active_usd": _("electricity, active"),
    "electricity_idle_usd": _("electricity, idle"),
    "overhead_usd": _("overhead"),
}
_ROW = 34
_AROUND = 120
LABEL_PIXELS = 140
_NAME_PIXELS = 200
_NAME_PARTS = " @ "  # between what and where


def stacked(frame: pd.DataFrame, currency: str) -> Layered:
    """A bar per row of the frame, cut into its lines.

    Args:
        frame: ``who`` and the columns of ``LINES``, in the currency; lines that are unknown are not drawn.
        currency: its code.
    """
    words = {line: say(text) for line, text in LINES.items()}
    drawn = frame[["who", *LINES]].melt("who", var_name="line", value_name="amount").dropna(subset=["amount"])
    drawn = drawn.assign(order=drawn["line"].map(list(LINES).index), line=drawn["line"].map(words))
    bars = (
        alt.Chart(drawn)
        .mark_bar()
        .encode(
            x=alt.X("amount:Q", title=currency, stack="zero"),
            y=alt.Y("who:N", title=None, sort=list(frame["who"]), axis=_names()),
            color=alt.Color(
                "line:N",
                scale=alt.Scale(domain=list(words.values())),
                legend=alt.Legend(orient="top", title=None, columns=2, labelLimit=LABEL_PIXELS),
            ),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("who:N", title=say("who")),
                alt.Tooltip("line:N", title=say("line")),
                alt.Tooltip("amount:Q", title=currency, format=",.2f"),
            ],
        )
    )
    return Layered(layer=[bars], height=_AROUND + _ROW * len(frame), padding=theme.PADDING)


def price_bars(frame: pd.DataFrame, title: str) -> Layered:
    """A bar per price, in the order of the frame; a dashed rule at the first leads the eye through the others.

    Args:
        frame: ``name``, ``kind`` (said; a colour each), ``price``; rows without one are not drawn.
        title: of the prices, with their currency.
    """
    drawn = frame.dropna(subset=["price"])
    kinds = list(dict.fromkeys(drawn["kind"]))
    bars = (
        alt.Chart(drawn)
        .mark_bar()
        .encode(
            x=alt.X("price:Q", title=title, scale=alt.Scale(zero=True)),
            y=alt.Y(
                "name:N",
                title=None,
                sort=list(drawn["name"]),
                axis=_names(),
            ),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=kinds),
                legend=alt.Legend(orient="top", title=None, columns=3, labelLimit=LABEL_PIXELS),
            ),
            tooltip=[
                alt.Tooltip("name:N", title=say("which")),
                alt.Tooltip("kind:N", title=say("kind")),
                alt.Tooltip("price:Q", title=title, format=",.4~f"),
            ],
        )
    )
    rule = (
        alt.Chart(drawn.head(1))
        .mark_rule(color=theme.LIMIT, strokeDash=[5, 4], strokeWidth=1.5)
        .encode(x=alt.X("price:Q", title=title))
    )
    return Layered(layer=[bars, rule], height=_AROUND + _ROW * len(drawn), padding=theme.PADDING)


def _names() -> alt.Axis:
    """What a bar is of, and in a second line where that is; both lines together beside its middle."""
    has_two = f"indexof(datum.value, '{_NAME_PARTS}') >= 0"
    return alt.Axis(
        labelExpr=f"split(datum.label, '{_NAME_PARTS}')",
        labelBaseline={"condition": {"test": has_two, "value": "bottom"}, "value": "middle"},
        labelLimit=_NAME_PIXELS,
        labelOverlap=False,
    )


def marked(chart: Layered, changes: pd.DataFrame, span: Span) -> Layered:
    """A chart over time with an upright rule at each instant, such as one at which a price changed.

    Args:
        chart: its time axis is that of the span.
        changes: ``at`` (UTC) and ``what`` in words.
        span: the time shown.
    """
    if changes.empty:
        return chart
    rules = (
        alt.Chart(changes.assign(at=span.wall(changes["at"])))
        .mark_rule(color=theme.LIMIT, strokeDash=[2, 3], strokeWidth=1.5)
        .encode(x=span.axis(), tooltip=[instant(), alt.Tooltip("what:N", title=say("change"))])
    )
    return with_marks(chart, [rules])
