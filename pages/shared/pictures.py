"""A chart under its heading, or what is known about why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import altair as alt
import streamlit as st
from babel import Locale
from babel.dates import get_day_names, get_month_names
from babel.numbers import get_decimal_symbol, get_group_symbol

from core.language import say, spoken
from pages.shared.frame import no_data


def picture(
    title: str,
    chart: alt.LayerChart | None,
    *,
    key: str,
    help: str | None = None,
    note: str = "",
    why: str = "",
    remedy: str = "",
) -> None:
    """Draw a chart.

    Args:
        title: heading, said; of our own making, since Markdown is read in it.
        chart: ``None`` where there is nothing to draw: then ``why`` and ``remedy`` stand in its place.
        key: stable name, so that a live chart is updated and not built anew.
        help: what the quantity means.
        note: label and scope of what is drawn, in small print.
        why: reason for missing data; may be foreign text.
        remedy: what to do about it; may be foreign text.
    """
    st.markdown(f"##### {title}", help=help)
    if chart is None:
        no_data(say("No data in this window"), why, remedy)
        return
    plot(chart, key=key, alt=title)
    if note:
        st.caption(note)


def plot(chart: alt.LayerChart, *, key: str, alt: str, height: Literal["content"] | int = "content") -> None:
    """Draw a chart alone, its numbers and weekdays in the visitor's language; ``alt`` is what it is called."""
    st.altair_chart(
        chart.configure(locale=vega_locale(spoken().locale)),  # takes the place of a chart's own: none has any
        width="stretch",
        height=height,
        theme="streamlit",
        key=key,
        alt=alt,
    )


def vega_locale(locale: Locale) -> dict[str, Any]:
    """How Vega is to write numbers and dates, as d3-format and d3-time-format take it."""
    return {
        "number": {
            "decimal": get_decimal_symbol(locale),
            "thousands": get_group_symbol(locale),
            "grouping": [3],
            "currency": ["", ""],  # amounts carry the code of their currency in the title
        },
        "time": {
            "dateTime": "%Y-%m-%d %H:%M:%S",
            "date": "%Y-%m-%d",
            "time": "%H:%M:%S",
            "periods": ["AM", "PM"],  # asked for by the form; charts write 24 hours
            "days": _from_sunday(get_day_names("wide", locale=locale)),
            "shortDays": _from_sunday(get_day_names("abbreviated", locale=locale)),
            "months": list(get_month_names("wide", locale=locale).values()),
            "shortMonths": list(get_month_names("abbreviated", locale=locale).values()),
        },
    }


def _from_sunday(days: Mapping[int, str]) -> list[str]:
    """Names by weekday, of which Babel's first is Monday and d3's Sunday."""
    return [days[(number - 1) % 7] for number in range(7)]
