"""A week's files, the versions of it that are kept, and who got it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd
import streamlit as st

from analytics.weekly import WeeklySummary
from core.language import _, say
from pages.shared import weeks, words
from pages.shared.store import settings
from reports import weekly
from reports.words import Words
from storage.summaries import State

MIME: Mapping[str, str] = {
    "pdf": "application/pdf",
    "html": "text/html",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
    "json": "application/json",
}
HELP = {
    "pdf": _("Two pages, to print or to forward"),
    "html": _("One file that stands alone; prints on two pages"),
    "xlsx": _("A workbook with a sheet for each part"),
    "csv": _("A row per site and deployment, with the column names of FOCUS"),
    "json": _("Every figure, for programs; reports/weekly.schema.json describes it"),
}
STATES = {
    State.DELIVERED: _("delivered"),
    State.FAILED: _("failed"),
    State.SENDING: _("cut off while it was sent: it may have arrived"),
}


def files(summary: WeeklySummary, spoken: Words) -> None:
    """A button for each format; a file is made when it is asked for."""
    with st.container(horizontal=True):
        for name, mime in MIME.items():
            st.download_button(
                name.upper(),
                partial(weekly.FORMATS[name], summary, spoken),
                weekly.file_name(summary, name),
                mime,
                key=f"week-{name}",
                help=say(HELP[name]),
                icon=":material/download:",
                on_click="ignore",
            )


def versions(week: str) -> None:
    """What is kept of the week, and why there is more than one."""
    known = [one for one in weeks.kept_weeks() if one.week == week]
    if not known:
        st.caption(say("This week is not kept yet: what it says changes until it is over and accounted for."))
    elif len(known) > 1:
        st.caption(
            say("{number} versions of this week are kept; an earlier one stays as it was made.", number=str(len(known)))
        )


def deliveries(week: str) -> None:
    """Who got it, and what became of failures."""
    found = [one for one in weeks.deliveries() if one.week == week]
    if not found:
        return
    zone = settings().site.zone
    st.markdown(f"##### {say('Sent to')}")
    rows = [
        {
            say("recipient"): words.one_line(one.recipient),
            say("state"): say(STATES[one.state]),
            say("version"): one.version,
            say("tries"): one.attempts,
            say("last try"): words.clock(pd.Timestamp(one.tried_at_ms, unit="ms", tz="UTC"), zone),
            say("next try"): ""
            if one.next_at_ms is None
            else words.clock(pd.Timestamp(one.next_at_ms, unit="ms", tz="UTC"), zone),
            say("what was said"): words.one_line(one.error),
        }
        for one in found
    ]
    st.dataframe(pd.DataFrame(rows), key="week-deliveries", hide_index=True)
    if any(one.state is not State.DELIVERED for one in found):
        st.caption(say("To send it at once: {command}", command=f"`python -m reports weekly --week {week} --deliver`"))
