"""Weekly summaries that pages read, cached: those that are kept, and the running week as it is so far."""

from __future__ import annotations

import time

import streamlit as st

from analytics.weekly import WeeklySummary, weekly_summary
from analytics.weekly.kept import read_kept
from core.language import say
from pages.shared.loaders import NOW_TTL, WINDOW_TTL, cached
from pages.shared.store import open_store, settings
from reports.keep import settings_digest
from storage import summaries
from storage.summaries import SO_FAR, Delivery, Kept

FRESH_MS = 2 * 3_600_000  # it is made anew each hour


@cached(NOW_TTL, 2)
def kept_weeks() -> list[Kept]:
    """``summaries.kept``: every version of every week, newest first."""
    return summaries.kept(open_store().engine)


@cached(NOW_TTL, 2)
def deliveries() -> list[Delivery]:
    """``summaries.deliveries``."""
    return summaries.deliveries(open_store().engine)


@cached(WINDOW_TTL, 32)
def kept_week(week: str, version: int, made_at_ms: int | None = None) -> WeeklySummary | None:
    """``read_kept``: a version as it was made; at an instant, where there was another before."""
    return read_kept(open_store().engine, week, version)


def week_so_far(week: str) -> WeeklySummary:
    """The running week such as ``2026-W46`` as it was kept within the last hours, else made now."""
    have, now_ms = _kept_so_far(), round(time.time() // WINDOW_TTL * WINDOW_TTL * 1000)
    if have is not None and have.week == week and now_ms - have.made_at_ms < FRESH_MS and _is_of_these_prices(have):
        found = kept_week(week, SO_FAR, have.made_at_ms)
        if found is not None:
            return found
    with st.spinner(say("Reading the week so far"), show_time=True):
        return _week_so_far(week, now_ms)


@cached(NOW_TTL, 2)
def _kept_so_far() -> Kept | None:
    return summaries.kept_so_far(open_store().engine)


def _is_of_these_prices(have: Kept) -> bool:
    return have.settings_digest == settings_digest(settings())


@cached(WINDOW_TTL, 4)
def _week_so_far(week: str, at_ms: int) -> WeeklySummary:
    year, number = week.split("-W")
    return weekly_summary(open_store().engine, settings(), int(year), int(number), at_ms)
