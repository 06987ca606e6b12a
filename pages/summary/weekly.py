"""The weekly summary: any week as it was kept, the running one so far, its files, and who got it."""

from __future__ import annotations

import streamlit as st

from analytics.weekly import WeeklySummary
from core.errors import StoreError
from core.language import _, say, spoken
from pages.shared import weeks, words
from pages.shared.frame import no_data, still_page
from pages.shared.store import settings
from pages.summary import choosing, kept, layout
from pages.summary.computed import computed
from reports import document, pictures
from reports.words import Words


def render() -> None:
    """Draw the page."""
    still_page(_("Weekly summary"), draw)


def draw() -> None:
    """Choose a week; then what the file of that week says, in the same order."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        week = choosing.week()
        version = choosing.version(week)
    try:
        summary = _summary(week, version)
    except StoreError as exc:
        no_data(say("This version cannot be shown."), str(exc))
        return
    if summary is None:
        no_data(
            say("There is no week to tell of yet."),
            say("A week is told from the accounts of whole hours, which begin an hour after the first sample."),
            say("leave the collector daemon running (make run), or look at a simulated fleet (make demo)"),
        )
        return
    said_in = Words.of(spoken(), settings().site.zone, summary.exchange)
    said = document.document(summary, said_in)
    layout.head(said)
    kept.files(summary, said_in)
    layout.tiles(said, computed(summary, said.subtitle, said_in))
    layout.pictures(pictures.charts(summary, said_in))
    layout.sections(said.first)
    st.divider()
    layout.sections(said.second)
    st.caption(words.plain(said.footer))
    kept.versions(summary.name)
    kept.deliveries(summary.name)


def _summary(week: str | None, version: int | None) -> WeeklySummary | None:
    """As it was kept; of a week that is not, as it is so far."""
    if week is None:
        return None
    return weeks.week_so_far(week) if version is None else weeks.kept_week(week, version)


if __name__ == "__main__":
    render()
