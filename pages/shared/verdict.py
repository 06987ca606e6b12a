"""The first line of a page: what is wrong and since when, or that all is well and what was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import streamlit as st

from core.language import say, spoken
from core.readings import Severity
from pages.shared import loaders, words
from pages.shared.filters import View

SHOWN = 4
_ORDER = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``text`` is said and plain (foreign text is fine); ``since`` where it is known."""

    severity: Severity
    text: str
    since: datetime | pd.Timestamp | None = None


def verdict(findings: Sequence[Finding], all_well: str, view: View) -> None:
    """Say the worst first; ``all_well`` is the sentence for when there is nothing, and samples are recent."""
    if loaders.silent_ms(view.now_ms) > view.stale_after_ms:
        st.warning(say("Nothing can be said of the present: no sample is recent enough."), icon=":material/help:")
    elif not findings:
        st.success(words.plain(all_well, limit=500), icon=":material/check_circle:")
    if not findings:
        return
    ordered = sorted(findings, key=lambda finding: _ORDER[finding.severity])
    lines = [_sentence(finding, view) for finding in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        lines.append(say("and {number} more", number=spoken().number(len(ordered) - SHOWN)))
    text = "  \n".join(lines)
    if ordered[0].severity is Severity.CRITICAL:
        st.error(text, icon=":material/error:")
    elif ordered[0].severity is Severity.WARNING:
        st.warning(text, icon=":material/warning:")
    else:
        st.info(text, icon=":material/info:")


def _sentence(finding: Finding, view: View) -> str:
    text = words.plain(finding.text, limit=300)
    if finding.since is None or pd.isna(finding.since):
        return text
    return say("{finding} (since {time})", finding=text, time=words.clock(finding.since, view.zone, now=view.now))
