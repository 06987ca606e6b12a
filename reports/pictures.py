"""The summary's charts as SVG text, drawn without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
import vl_convert
from babel.numbers import get_decimal_symbol, get_group_symbol

from analytics.formulas.local_time import local
from analytics.formulas.unknown import product
from analytics.ledger import LINES
from analytics.weekly import Figure, WeeklySummary
from charts import weekly
from charts.layered import Layered
from reports import phrases
from reports.words import Words

_FAINT = "#8a8f9855"


class Picture(NamedTuple):
    """A chart, what it shows, and the same in a sentence for who does not see it."""

    title: str
    svg: str


def pictures(summary: WeeklySummary, words: Words, *, ink: str, font: str) -> tuple[Picture, ...]:
    """All that have something to show.

    Args:
        summary: of the week.
        words: of the language.
        ink: colour of text and axes, as SVG has it.
        font: of all text.
    """
    return tuple(Picture(title, _svg(chart, words, ink, font)) for title, chart in charts(summary, words))


def charts(summary: WeeklySummary, words: Words) -> Iterator[tuple[str, Layered]]:
    """The same before they are drawn, each with its title."""
    yield from _daily(summary, words)
    yield from _history(summary, words)


def _daily(summary: WeeklySummary, words: Words) -> Iterator[tuple[str, Layered]]:
    rows = [
        {
            "day": words.weekday(day.span.start_ms),
            "line": words.say(phrases.COST_LINES[line]),
            "amount": None if day.bill is None or day.bill.total_usd is None else getattr(day.bill, line),
            "note": words.say("no data") if day.bill is None else words.say("unknown"),
        }
        for day in summary.days
        for line in LINES
    ]
    frame = pd.DataFrame(rows, columns=["day", "line", "amount", "note"]).astype({"amount": "float64"})
    if frame["amount"].notna().any():
        frame["amount"] *= words.per_usd
        yield words.say("Cost by day"), weekly.daily(frame, words.currency)


def _history(summary: WeeklySummary, words: Words) -> Iterator[tuple[str, Layered]]:
    """Of the unit price, else of the cost, where two weeks at least are known."""
    for key in ("usd_per_million_output_tokens", "total_usd"):
        figure = summary.figures[key]
        known = [one for one in (*figure.history, figure.value) if one is not None]
        if len(known) > 1:
            title = words.say("{figure}, by week", figure=words.say(phrases.FIGURES[key]))
            yield title, _by_week(figure, summary, words)
            return


def _by_week(figure: Figure, summary: WeeklySummary, words: Words) -> Layered:
    monday = local(summary.span.start_ms, words.zone)
    count = len(figure.history)
    weeks = [f"W{(monday - timedelta(weeks=count - number)).isocalendar().week:02}" for number in range(count + 1)]
    amounts = [product(one, words.per_usd) for one in (*figure.history, figure.value)]
    frame = pd.DataFrame({"week": weeks, "amount": np.array(amounts, dtype="float64")})
    return weekly.history(frame, words.currency, weeks)


def _svg(chart: Layered, words: Words, ink: str, font: str) -> str:
    axis = {"labelColor": ink, "titleColor": ink, "domainColor": _FAINT, "tickColor": _FAINT, "gridColor": _FAINT}
    config = {
        "background": None,
        "font": font,
        "view": {"stroke": None},
        "axis": axis | {"titleFontWeight": "normal"},
        "legend": {"labelColor": ink},
    }
    spec = chart.to_dict() | {"config": config}
    symbols = {"decimal": get_decimal_symbol(words.locale), "thousands": get_group_symbol(words.locale)}
    return vl_convert.vegalite_to_svg(spec, format_locale={**symbols, "grouping": [3], "currency": ["", ""]})
