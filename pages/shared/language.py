"""Which language a visitor reads: the one chosen, which the address keeps, else that of the browser."""

from __future__ import annotations

import streamlit as st

from core.language import SOURCE, language, languages, say, speak

_KEY = "language"


def speak_to_visitor() -> None:
    """Speak the visitor's language in this thread; every run of a page or of a part of it begins with this."""
    speak(language(_wanted()))


def choice() -> None:
    """Let the language be chosen."""
    known = languages()
    st.selectbox(
        say("Language"),
        known,
        index=known.index(_wanted().partition("-")[0]),
        key=_KEY,
        bind="query-params",
    )


def _wanted() -> str:
    """A language that there are words in; with the browser's region where that is the browser's language."""
    browser = st.context.locale or SOURCE
    of_browser = browser.partition("-")[0]
    chosen = st.session_state.get(_KEY) or st.query_params.get(_KEY)
    if chosen not in languages():
        chosen = of_browser if of_browser in languages() else SOURCE
    return browser if chosen == of_browser else str(chosen)
