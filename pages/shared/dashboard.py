"""The frame around every page: page configuration, shared filters, navigation. ``app.py`` runs it.

It lies here, beside no ``pages`` folder, so that Streamlit finds no pages but those listed below and a
link into a server that has just started opens without a "Page not found".
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.errors import ConfigError
from pages.shared import filters, words
from pages.shared.store import settings

PAGES = Path(__file__).resolve().parent.parent
STILL = {"weekly"}  # pages that show no window of time


def pages() -> dict[str, list[st.Page]]:
    """Every page, by area; all lie one folder deep, where Streamlit does not go looking by itself."""
    return {
        "Fleet": [
            _page("fleet/overview", "Overview", "dashboard", default=True),
            _page("fleet/accelerators", "Accelerators", "memory"),
            _page("fleet/device", "Device", "developer_board"),
            _page("fleet/hosts", "Hosts", "dns"),
        ],
        "Serving": [
            _page("serving/latency", "Latency", "timer"),
            _page("serving/compare", "Compare", "scatter_plot"),
        ],
        "Energy": [_page("energy/power", "Power", "bolt")],
        "Cost": [
            _page("cost/tokens", "Tokens", "payments"),
            _page("cost/commitments", "Contracts", "handshake"),
            _page("cost/capacity", "Capacity", "calculate"),
        ],
        "Summary": [_page("summary/weekly", "Week", "summarize")],
        "Operations": [_page("ops/health", "Health", "monitor_heart")],
    }


def _page(file: str, title: str, icon: str, *, default: bool = False) -> st.Page:
    url = file.rpartition("/")[2]
    return st.Page(PAGES / f"{file}.py", title=title, icon=f":material/{icon}:", url_path=url, default=default)


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="Vatio", page_icon="⚡", layout="wide")
    page = st.navigation(pages())
    try:
        filters.bar(settings(), applies=page.url_path not in STILL)
    except ConfigError as exc:
        st.error(f"The settings cannot be used. {words.plain(exc, limit=500)}", icon=":material/settings_alert:")
        return
    page.run()


if __name__ == "__main__":
    main()
