"""The frame of every page: title, simulated banner, live strip, and what stands in place of missing data.

A page calls ``page(title, draw)``; ``draw(view)`` puts verdict, tiles, pictures and tables, in this
order, and runs again by itself while the "Live" switch is on, as often as its steps. How fresh the samples
are is told more often than that.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from core.errors import ConfigError, StoreError
from core.language import say
from core.settings import Settings
from pages.shared import filters, language, loaders, sign_in, words
from pages.shared.filters import View
from pages.shared.store import settings

RETRY_SECONDS = 5.0
Draw = Callable[[View], None]


def page(title: str, draw: Draw, *, controls: Callable[[], None] | None = None) -> None:
    """Draw one page.

    Args:
        title: its heading, marked for translation.
        draw: the live part; runs again with every step.
        controls: widgets of this page alone, drawn once above the live part; ``draw`` reads them from
            ``st.session_state``.
    """
    current = _begun(title)
    if current is None:
        return
    if controls is not None:
        controls()
    is_live = st.session_state.get("live", True)
    look, again = (filters.look_seconds(current), filters.draw_seconds(current)) if is_live else (None, None)
    st.fragment(_live, run_every=look, key="strip")(strip)
    st.fragment(_live, run_every=again, key="page")(draw)


def still_page(title: str, draw: Callable[[], None]) -> None:
    """Draw a page that shows no window of time and does not run again by itself."""
    if _begun(title) is not None:
        draw()


def _begun(title: str) -> Settings | None:
    """The title and what holds for the whole page; ``None``: nothing can be shown, and why stands there."""
    if sign_in.is_needed():  # should a page ever be run without the dashboard around it
        sign_in.draw()
        return None
    language.speak_to_visitor()
    st.title(say(title))
    try:
        simulated = loaders.facts().get("simulated")
        current = settings()
    except ConfigError as exc:
        st.error(
            say("The settings cannot be used. {why}", why=words.plain(exc, limit=500)), icon=":material/settings_alert:"
        )
        return None
    except StoreError:
        st.fragment(_wait_for_store, run_every=RETRY_SECONDS)()
        return None
    if simulated:
        st.warning(say("Simulated data: no figure on this page was measured."), icon=":material/science:")
    return current


def _live(draw: Draw) -> None:
    language.speak_to_visitor()
    try:
        draw(filters.current(settings()))
    except StoreError:  # the file was there a moment ago
        st.rerun()


def _wait_for_store() -> None:
    """What an empty installation says of itself; goes away when the database appears."""
    language.speak_to_visitor()
    try:
        loaders.facts()
    except StoreError as exc:
        st.info(say("Nothing has been measured yet."), icon=":material/hourglass_empty:")
        st.markdown(f"**{say('Looked for')}**")
        st.code(settings().storage.place, language=None)
        st.markdown(f"**{say('Found')}**")
        st.text(words.one_line(exc))
        st.markdown(say("**Start one of these**, and this page fills by itself within seconds:"))
        st.code(
            f"make run     # {say('measure this machine')}\nmake demo    # {say('a simulated fleet, to look around')}",
            language=None,  # Streamlit's colours of code are too pale on white
        )
        return
    st.rerun()


def strip(view: View) -> None:
    """How fresh everything below is, and which window and steps it shows."""
    newest = loaders.newest_sample_at_ms()
    end = words.clock(_utc(view.end_ms), view.zone, now=view.now)
    window = (
        view.words if view.is_fixed else say("{window} to {end}", window=view.words, end=end)
    ) + f", {view.resolution} · {words.plain(view.zone.key)} ({words.offset(view.now, view.zone)})"
    if newest is None:
        st.warning(say("No data: the collectors have not stored anything yet."), icon=":material/hourglass_empty:")
        return
    age_seconds = max(view.now_ms - newest, 0) / 1000
    if age_seconds * 1000 > view.stale_after_ms:
        st.warning(
            say(
                "Stale: last sample {age} ago ({at}), expected every {interval}. What follows is the last that is "
                "known, not the present. Is the collector daemon running?",
                age=words.duration(age_seconds),
                at=words.clock(_utc(newest), view.zone, now=view.now),
                interval=words.duration(view.interval_ms / 1000),
            ),
            icon=":material/history_toggle_off:",
        )
        st.caption(window)
        return
    live = st.session_state.get("live", True)
    state = f":material/sensors: {say('live')}" if live else f":material/pause_circle: {say('paused')}"
    st.caption(f"{state} · {say('last sample {age} ago', age=words.duration(age_seconds))} · {window}")


def no_data(what: str, why: str = "", remedy: str = "") -> None:
    """Stands where a picture or table would be; says what is missing, why, and what helps."""
    with st.container(border=True):
        st.markdown(f":material/blur_off: **{words.plain(what)}**")
        if why:
            st.caption(words.plain(why, limit=500))
        if remedy:
            st.caption(say("Remedy: {remedy}", remedy=words.plain(remedy, limit=500)))


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
