"""A chart under its heading, or what is known about why there is none; and any chart as a file."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal
from zoneinfo import ZoneInfo

import altair as alt
import streamlit as st
import vl_convert
from babel import Locale
from babel.dates import get_day_names, get_month_names
from babel.numbers import get_decimal_symbol, get_group_symbol

from charts.axis import window_of
from charts.layered import Layered
from charts.narrow import as_arrow
from core.errors import StoreError
from core.language import say, spoken
from pages.shared import loaders, words
from pages.shared.filters import narrowed
from pages.shared.frame import no_data
from pages.shared.marks import Marks
from pages.shared.store import settings

KINDS = {"PNG": "image/png", "SVG": "image/svg+xml"}
_WIDTH = 860  # px of a file's chart
_MOST_LETTERS = 130  # of a line below its title
_ON_CANVAS = {"embedOptions": {"renderer": "canvas"}}  # thousands of marks as nodes of the page are slow
_PIXELS = 2.0  # a screen of today has as many per px


def picture(
    title: str,
    chart: Layered | None,
    *,
    key: str,
    help: str | None = None,
    note: str = "",
    why: str = "",
    remedy: str = "",
    about: str = "",
    marks: Marks | None = None,
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
        about: what it is a picture of, where its title does not say so; for the file. May be foreign text.
        marks: what happened meanwhile, for a chart over time.
    """
    st.markdown(f"##### {title}", help=help)
    if chart is None:
        no_data(say("No data in this window"), why, remedy)
        return
    drawn = chart if marks is None else marks.over(chart)
    plot(drawn, key=key, alt=title)
    told = "" if marks is None else marks.said
    small_print(drawn, " · ".join(part for part in (note, told) if part), title=title, key=key, about=about)


def plot(chart: Layered, *, key: str, alt: str, height: Literal["content"] | int = "content") -> None:
    """Draw a chart alone, its numbers and weekdays in the visitor's language; ``alt`` is what it is called."""
    spec, frames = _spoken(chart, spoken().locale).apart()
    spec["config"]["aria"] = False  # a sentence for each mark, which nobody hears on a canvas
    data = {name: as_arrow(frame) for name, frame in frames.items()}
    st.vega_lite_chart(None, {**spec, "datasets": data}, width="stretch", height=height, key=key, alt=alt)


def _spoken(chart: Layered, locale: Locale) -> Layered:
    told: Layered = chart.configure(  # no chart has a locale of its own
        locale=vega_locale(locale),
        axisY=alt.AxisConfig(labelFlush=False),  # else Streamlit's theme moves the outermost away from what they name
    )
    told.usermeta = _ON_CANVAS
    return told


def small_print(chart: Layered, note: str, *, title: str, key: str, about: str = "", help: str | None = None) -> None:
    """What is said below a chart, and the chart as a file; ``title``, ``key`` and ``about`` as in ``picture``."""
    with st.container(horizontal=True, wrap=False, gap="small"):
        if note:
            st.caption(note, help=help)
        simulated = _is_simulated()
        lines = [
            " · ".join(part for part in (words.one_line(about), *narrowed()) if part),
            _unmarked(note),
            say("Simulated data: nothing in this picture was measured.") if simulated else "",
        ]
        zone, locale = settings().site.zone, spoken().locale
        for kind, media_type in KINDS.items():
            st.download_button(
                kind,
                partial(as_file, chart, kind, _unmarked(title), lines, zone, locale),
                f"vatio-{'simulated-' if simulated else ''}{key}.{kind.lower()}",
                media_type,
                key=f"{key}-{kind}",
                on_click="ignore",
                type="tertiary",
                help=say("{title}: this picture as a file, with its title and window", title=title),
            )


def _is_simulated() -> bool:
    """Whether the store says so; what is drawn without one came from none."""
    try:
        return bool(loaders.facts().get("simulated"))
    except StoreError:
        return False


def as_file(chart: Layered, kind: str, title: str, lines: Sequence[str], zone: ZoneInfo, locale: Locale) -> bytes:
    """A chart as a file on white that tells what it shows, of when, and whether it is simulated.

    Made when somebody asks for it, in a thread that speaks no language: all text comes said.

    Args:
        chart: as it is drawn.
        kind: one of ``KINDS``.
        title: what stands above it.
        lines: what stands below the title; long ones are folded, empty ones left out.
        zone: of the chart's time axis.
        locale: of its numbers and weekdays.
    """
    spec = _spoken(chart, locale).whole()
    window = window_of(spec)
    own = spec.get("title", {}).get("text", "")  # a small chart has its axis's title there
    when = [] if window is None else [f"{window[0]:%Y-%m-%d %H:%M} – {window[1]:%Y-%m-%d %H:%M} · {zone.key}"]
    below = [part for line in (own, *when, *lines) for part in textwrap.wrap(line, _MOST_LETTERS)]
    spec["title"] = {"text": title, "subtitle": below, "anchor": "start", "subtitlePadding": 6, "offset": 14}
    spec |= {"width": _WIDTH, "padding": 16, "background": "white"}
    spec["config"] = {**spec["config"], **_on_paper()}
    if kind == "PNG":
        return bytes(vl_convert.vegalite_to_png(spec, scale=_PIXELS))
    return str(vl_convert.vegalite_to_svg(spec)).encode()


def _on_paper() -> dict[str, Any]:
    """The light theme's colours; in the browser Streamlit sees to them."""
    ramp = st.get_option("theme.light.chartSequentialColors")
    return {
        "range": {
            "category": st.get_option("theme.light.chartCategoricalColors"),
            "ramp": ramp,
            "heatmap": ramp,
        },
        "view": {"stroke": None},
        "axis": {"gridColor": "#e6e6e6", "titleFontWeight": "normal"},
        "legend": {"titleFontWeight": "normal"},
    }


def _unmarked(text: str) -> str:
    """Text made harmless for Markdown, for a place that shows it as it is."""
    return html.unescape(text).replace("\u2060", "")


@cache
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
