"""A chart under its heading, or what is known about why there is none."""

from __future__ import annotations

import altair as alt
import streamlit as st

from pages.shared.frame import no_data


def picture(
    title: str,
    chart: alt.LayerChart | None,
    *,
    key: str,
    help: str | None = None,
    note: str = "",
    why: str = "",
    remedy: str = "",
) -> None:
    """Draw a chart.

    Args:
        title: heading; of our own making, since Markdown is read in it.
        chart: ``None`` where there is nothing to draw: then ``why`` and ``remedy`` stand in its place.
        key: stable name, so that a live chart is updated and not built anew.
        help: what the quantity means.
        note: label and scope of what is drawn, in small print.
        why: reason for missing data; may be foreign text.
        remedy: what to do about it; may be foreign text.
    """
    st.markdown(f"##### {title}", help=help)
    if chart is None:
        no_data("No data in this window", why, remedy)
        return
    st.altair_chart(chart, width="stretch", theme="streamlit", key=key, alt=title)
    if note:
        st.caption(note)
