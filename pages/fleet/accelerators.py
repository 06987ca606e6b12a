"""Every accelerator: who works, who idles, who is hot, who errs, and what runs on it."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit import column_config

from pages.fleet import findings, tallies
from pages.fleet.strips import STRIPS, heat_strip
from pages.shared import things, watts, words
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.reasons import reasons
from pages.shared.tables import table
from pages.shared.verdict import verdict

GROUPS = {"host": "host", "vendor": "vendor", "model": "model", "served model": "runs"}
TITLES = {
    "name": "device",
    "utilization_ratio": "busy",
    "power_of_limit_ratio": "power of cap",
    "memory_held_ratio": "memory held",
    "temperature_celsius": "hottest",
    "ecc_uncorrected_errors_total": "uncorrected errors",
    "ecc_corrected_errors_total": "corrected errors",
    "throttle": "held down by",
    "observed_at": "last sample",
    "utilization_mean_ratio": "busy, mean",
    "runs": "runs",
}


def render() -> None:
    """Draw the page."""
    page("Accelerators", draw, controls=controls)


def controls() -> None:
    """What the heat strip shows and how the table is grouped."""
    with st.container(horizontal=True):
        st.segmented_control(
            "Strip shows", list(STRIPS), default=next(iter(STRIPS)), required=True, key="strip", bind="query-params"
        )
        st.segmented_control("Sum up by", list(GROUPS), key="group", bind="query-params")


def draw(view: View) -> None:
    """Verdict, figures, heat strip, sums, and the table; a picked row brings a link to its page."""
    frame = things.accelerators(view)
    if frame.empty:
        no_data("No accelerator was found", *reasons(("nvidia", "amd"), view))
        return
    verdict(findings.of_accelerators(frame, view), "All well: no device slows itself down, errs or is silent.", view)
    figures = [tallies.accelerators_active(frame, view), watts.accelerator_power(frame, view)]
    tiles([*figures, tallies.busy(frame, view), tallies.memory_held(frame, view), tallies.hottest(frame, view)], view)
    heat_strip("Accelerators", "accelerator", frame, view, st.session_state.get("strip"))
    group = st.session_state.get("group")
    if group:
        table(grouped(frame, GROUPS[group]), view, key="accelerator-sums", titles=TITLES)
    st.markdown("##### Devices", help="Pick a row for a link to the page of that device.")
    rows = listed(frame)
    columns = {"throttle": column_config.TextColumn("Held down by", width="medium")}
    picked = table(rows, view, key="accelerators", titles=TITLES, columns=columns, selectable=True)
    if picked is not None:
        chosen = frame.iloc[picked]
        st.page_link(
            "pages/fleet/device.py",
            label=f"Open the page of {words.plain(chosen['name'])}",
            icon=":material/developer_board:",
            query_params={"device": str(chosen["key"])},
        )


def listed(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per device, in the order of the frame."""
    rows = frame.assign(
        state=frame["state"].map(tallies.STATE_WORDS),
        throttle=frame["throttle_reasons"].map(words.throttle),
        temperature_celsius=frame[["temperature_celsius", "memory_temperature_celsius"]].max(axis=1),
    )
    columns = ["name", "state", "utilization_ratio", "sm_active_ratio", "memory_held_ratio", "power_of_limit_ratio"]
    columns += ["power_watts", "temperature_celsius", "throttle", "ecc_uncorrected_errors_total"]
    columns += ["ecc_corrected_errors_total", "runs", "host", "vendor", "model", "observed_at"]
    return rows[columns].dropna(axis="columns", how="all")


def grouped(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Devices, those active, mean busy time, power and cap per group; slices count with their device."""
    whole = things.whole(frame).assign(active=lambda rows: rows["state"] == "active")
    return (
        whole.groupby(by, dropna=False)
        .agg(
            devices=("name", "size"),
            active=("active", "sum"),
            utilization_mean_ratio=("utilization_ratio", "mean"),
            power_watts=("power_watts", lambda watts: watts.sum(min_count=1)),
            power_limit_watts=("power_limit_watts", lambda watts: watts.sum(min_count=1)),
        )
        .reset_index()
    )


if __name__ == "__main__":
    render()
