"""Weekly summaries that pages read, cached: those that are kept, and the running week as it is so far."""

from __future__ import annotations

import streamlit as st

from analytics.weekly import WeeklySummary, weekly_summary
from analytics.weekly.kept import read_kept
from pages.shared.loaders import NOW_TTL, WINDOW_TTL
from pages.shared.store import open_store, settings
from storage import summaries
from storage.summaries import Delivery, Kept


@st.cache_data(ttl=NOW_TTL, max_entries=2, show_spinner=False)
def kept_weeks() -> list[Kept]:
    """``summaries.kept``: every version of every week, newest first."""
    return summaries.kept(open_store().engine)


@st.cache_data(ttl=NOW_TTL, max_entries=2, show_spinner=False)
def deliveries() -> list[Delivery]:
    """``summaries.deliveries``."""
    return summaries.deliveries(open_store().engine)


@st.cache_data(ttl=WINDOW_TTL, max_entries=32, show_spinner=False)
def kept_week(week: str, version: int) -> WeeklySummary | None:
    """``read_kept``: a version as it was made."""
    return read_kept(open_store().engine, week, version)


@st.cache_data(ttl=WINDOW_TTL, max_entries=4, show_spinner=False)
def week_so_far(week: str, at_ms: int) -> WeeklySummary:
    """``weekly_summary`` of a week such as ``2026-W46`` up to an instant."""
    year, number = week.split("-W")
    return weekly_summary(open_store().engine, settings(), int(year), int(number), at_ms)
