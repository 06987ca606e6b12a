"""Contracts: what has been used beside what was there and where that leads, and each week's used and unused part."""

from __future__ import annotations

import json

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span, instant
from charts.layered import Layered
from core.language import _, say

USED, UNUSED, DELIVERED, FORECAST = _("used"), _("unused"), _("delivered"), _("forecast")
_LOW, _HIGH = _("low"), _("high")
_MOST_TICKS = 7
_CALENDAR = (
    ("D", "%d %b"),
    ("W-MON", "%d %b"),
    ("2W-MON", "%d %b"),
    ("MS", "%b %Y"),
    ("2MS", "%b %Y"),
    ("QS", "%b %Y"),
    ("2QS", "%b %Y"),
    ("YS", "%Y"),
)
_STROKE = "M-0.9,0.9L0.9,-0.9"  # as in a heat strip: hatching is for what was not seen


def burn(frame: pd.DataFrame, span: Span, title: str) -> Layered:
    """What adds up over a term: the line of what is there, the area of what was used, the band of a forecast.

    Args:
        frame: ``at`` (UTC), ``delivered``, ``used``, ``low``, ``high``; what is unknown at an instant is not drawn.
        span: the time shown.
        title: of the amounts, with their unit.
    """
    drawn = frame.assign(at=span.wall(frame["at"]))
    base = alt.Chart(drawn).encode(x=_calendar(span))
    y = alt.Y("used:Q", title=title, scale=alt.Scale(zero=True, nice=True))
    tooltip = [instant(), *map(_amount, (DELIVERED, USED))]
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=[say(USED), say(DELIVERED), say(FORECAST)]),
        legend=alt.Legend(orient="top", title=None, symbolType="square", symbolSize=90, symbolOpacity=1),
    )
    line = base.encode(y=alt.Y("delivered:Q", title=title), tooltip=tooltip)
    layers = [
        _as(FORECAST, base.transform_filter("isValid(datum.low)"))
        .mark_area(opacity=2 * theme.BAND_OPACITY, line=True)
        .encode(
            y=alt.Y("low:Q", title=title),
            y2=alt.Y2("high:Q"),
            color=color,
            tooltip=[instant(), *map(_amount, (_LOW, _HIGH))],
        ),
        _as(USED, base.transform_filter("isValid(datum.used)"))
        .mark_area(opacity=0.75)
        .encode(y=y, color=color, tooltip=tooltip),
        _as(DELIVERED, line).mark_line(strokeDash=[5, 4], strokeWidth=1.8).encode(color=color),
        line.mark_point(size=90, opacity=0),
    ]
    return Layered(layer=layers, height=theme.HEIGHT, padding=theme.PADDING)


def _amount(column: str) -> alt.Tooltip:
    return alt.Tooltip(f"{column}:Q", title=say(column), format=",.1f")


def _as(series: str, chart: alt.Chart) -> alt.Chart:
    named: alt.Chart = chart.transform_calculate(series=json.dumps(say(series)))  # a string of Vega's own language
    return named


def _calendar(span: Span) -> alt.X:
    """A time axis with ticks at days, Mondays or months, whichever is the finest that has room."""
    ends = pd.to_datetime(pd.Series([span.start_ms, span.end_ms]), unit="ms", utc=True)
    start, end = span.wall(ends)
    first, last = (pd.Timestamp(at, unit="ms") for at in (start, end))
    steps = [(pd.date_range(first.ceil("D"), last, freq=step), form) for step, form in _CALENDAR]
    ticks, form = next((one for one in steps if len(one[0]) <= _MOST_TICKS), steps[-1])
    axis = alt.Axis(
        values=[int(tick.timestamp() * 1000) for tick in ticks],
        labelExpr=f"utcFormat(datum.value, '{form}')",
        labelOverlap="greedy",
        grid=False,
    )
    return alt.X("at:Q", title=None, scale=alt.Scale(domain=[start, end], nice=False, zero=False), axis=axis)


def weekly_split(frame: pd.DataFrame, title: str) -> Layered:
    """A bar per week: what was used and what was not; a week of which nothing is known has a stroke, and no bar.

    Args:
        frame: ``week`` (its first day, text), ``used``, ``unused``; NaN where unknown.
        title: of the amounts, with their unit.
    """
    order = frame["week"].tolist()
    parts = frame.dropna(subset=[USED]).melt("week", [USED, UNUSED], var_name="part", value_name="amount")
    stacked = parts["part"].map({USED: 0, UNUSED: 1})
    x = alt.X("week:O", title=None, sort=order, scale=alt.Scale(domain=order), axis=alt.Axis(labelAngle=0))
    colors = alt.Color(
        "part:N",
        scale=alt.Scale(domain=[say(USED), say(UNUSED)]),
        legend=alt.Legend(orient="top", title=None, symbolType="square", symbolSize=90),
    )
    bars = (
        alt.Chart(parts.assign(part=parts["part"].map(say), stacked=stacked))
        .mark_bar()
        .encode(
            x=x,
            y=alt.Y("amount:Q", title=title, stack="zero"),
            color=colors,
            order=alt.Order("stacked:Q"),
            tooltip=[
                alt.Tooltip("week:O", title=say("week from")),
                alt.Tooltip("part:N", title=say("part")),
                alt.Tooltip("amount:Q", title=title, format=",.2f"),
            ],
        )
    )
    unknown = frame.loc[frame[USED].isna(), ["week"]].assign(amount=0.0, state=say("not seen"))
    strokes = (
        alt.Chart(unknown)
        .mark_point(shape=_STROKE, size=120, stroke=theme.MISSING, strokeWidth=1.6, filled=False)
        .encode(
            x=x,
            y=alt.Y("amount:Q"),
            tooltip=[alt.Tooltip("week:O", title=say("week from")), alt.Tooltip("state:N", title=say("state"))],
        )
    )
    return Layered(layer=[bars, strokes], height=theme.HEIGHT, padding=theme.PADDING)
