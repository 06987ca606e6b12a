"""What the weekly page can be asked for: the week, which the address keeps, and its version."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from core.language import _, say
from pages.shared import loaders, weeks, words
from pages.shared.store import settings
from storage.summaries import Made

_REASONS = {
    Made.CLOSED: _("when the week closed"),
    Made.SETTINGS: _("after prices or promises changed"),
    Made.DATA: _("after late data came"),
}


def week() -> str | None:
    """A week that is kept, or the running one, which stands first; ``None``: nothing has been accounted for."""
    if not loaders.accounted_until_ms():
        return None
    running = f"{datetime.fromtimestamp(loaders.now_ms() / 1000, settings().site.zone).date():%G-W%V}"
    kept = list(dict.fromkeys(one.week for one in weeks.kept_weeks()))
    known = [running, *(name for name in kept if name != running)]
    chosen = st.selectbox(
        say("Week"),
        known,
        index=min(1, len(known) - 1),  # the last whole one
        key="week",
        bind="query-params",
        help=say(
            "From Monday 00:00 to Monday 00:00 in the reporting time zone; the first is the running one, as far as it "
            "has come."
        ),
        width=220,
    )
    return chosen if chosen in known else known[0]


def version(of_week: str | None) -> int | None:
    """One of those that are kept, the newest unless another is chosen; ``None``: the week is not kept."""
    known = {one.version: one for one in weeks.kept_weeks() if one.week == of_week}
    if len(known) < 2:
        return next(iter(known), None)
    zone = settings().site.zone

    def told(number: int) -> str:
        at = datetime.fromtimestamp(known[number].made_at_ms / 1000, zone)
        return f"{number}: {words.clock(at, zone)}, {say(_REASONS[known[number].reason])}"

    chosen = st.selectbox(
        say("Version"),
        list(known),
        key=f"version-{of_week}",
        format_func=told,
        help=say("A week that is kept is never changed."),
        width=320,
    )
    return chosen if chosen in known else next(iter(known))
