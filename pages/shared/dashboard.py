"""The frame around every page: page configuration, shared filters, navigation. ``app.py`` runs it.

It lies here, beside no ``pages`` folder, so that Streamlit finds no pages but those listed below and a
link into a server that has just started opens without a "Page not found".
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.errors import ConfigError
from core.language import say
from pages.shared import filters, language, sign_in, words
from pages.shared.store import settings

PAGES = Path(__file__).resolve().parent.parent
STILL = {"weekly"}  # pages that show no window of time
SIDEBAR_PIXELS = 240


def pages() -> dict[str, list[st.Page]]:
    """Every page, by area; all lie one folder deep, where Streamlit does not go looking by itself."""
    return {
        say("Fleet"): [
            _page("fleet/overview", say("Overview"), "dashboard", default=True),
            _page("fleet/accelerators", say("Accelerators"), "memory"),
            _page("fleet/device", say("Device"), "developer_board"),
            _page("fleet/hosts", say("Hosts"), "dns"),
        ],
        say("Serving"): [
            _page("serving/latency", say("Latency"), "timer"),
            _page("serving/compare", say("Compare"), "scatter_plot"),
        ],
        say("Energy"): [_page("energy/power", say("Power"), "bolt")],
        say("Cost"): [
            _page("cost/tokens", say("Tokens"), "payments"),
            _page("cost/commitments", say("Contracts"), "handshake"),
            _page("cost/capacity", say("Capacity"), "calculate"),
        ],
        say("Summary"): [_page("summary/weekly", say("Week"), "summarize")],
        say("Operations"): [_page("ops/health", say("Health"), "monitor_heart")],
    }


def _page(file: str, title: str, icon: str, *, default: bool = False) -> st.Page:
    url = file.rpartition("/")[2]
    shown = sign_in.draw if sign_in.is_needed() else PAGES / f"{file}.py"
    return st.Page(shown, title=title, icon=f":material/{icon}:", url_path=url, default=default)


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="Vatio", page_icon="⚡", layout="wide", initial_sidebar_state=SIDEBAR_PIXELS)
    language.speak_to_visitor()
    if sign_in.is_needed():
        st.navigation(pages(), position="hidden").run()  # an address stays what it is, and opens afterwards
        return
    page = st.navigation(pages())
    try:
        filters.bar(settings(), applies=page.url_path not in STILL)
        with st.sidebar:
            language.choice()
            sign_in.sign_out_button()
    except ConfigError as exc:
        st.error(
            say("The settings cannot be used. {why}", why=words.plain(exc, limit=500)), icon=":material/settings_alert:"
        )
        return
    page.run()


if __name__ == "__main__":
    main()
