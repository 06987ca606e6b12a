"""Every accelerator: who works, who idles, who is hot, who errs, and what runs on it."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit import column_config

from charts.timeseries import band
from core.language import _, say
from pages.fleet import findings, tallies
from pages.fleet.strips import BUSY, STRIPS, heat_strip
from pages.shared import loaders, things, watts, words
from pages.shared.choice import choice
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.marks import happened, lacking, week_before
from pages.shared.pictures import picture
from pages.shared.reasons import reasons
from pages.shared.tables import table
from pages.shared.verdict import verdict

GROUPS = {_("host"): "host", _("vendor"): "vendor", _("model"): "model", _("served model"): "runs"}
TITLES = {
    "name": _("device"),
    "utilization_ratio": _("busy"),
    "power_of_limit_ratio": _("power of cap"),
    "memory_held_ratio": _("memory held"),
    "temperature_celsius": _("hottest"),
    "ecc_uncorrected_errors_total": _("uncorrected errors"),
    "ecc_corrected_errors_total": _("corrected errors"),
    "throttle": _("held down by"),
    "observed_at": _("last sample"),
    "utilization_mean_ratio": _("busy, mean"),
    "runs": _("runs"),
}


def render() -> None:
    """Draw the page."""
    page(_("Accelerators"), draw, controls=controls)


def controls() -> None:
    """What the heat strip shows and how the table is grouped."""
    with st.container(horizontal=True):
        choice(say("Strip shows"), list(STRIPS), "strip", default=BUSY)
        choice(say("Sum up by"), list(GROUPS), "group")


def draw(view: View) -> None:
    """Verdict, figures, heat strip, sums, and the table; a picked row brings a link to its page."""
    frame = things.accelerators(view)
    if frame.empty:
        no_data(say("No accelerator was found"), *reasons(("nvidia", "amd"), view))
        return
    all_well = say("All well: no device slows itself down, errs or is silent.")
    verdict(findings.of_accelerators(frame, view), all_well, view)
    figures = [tallies.accelerators_active(frame, view), watts.accelerator_power(frame, view)]
    tiles([*figures, tallies.busy(frame, view), tallies.memory_held(frame, view), tallies.hottest(frame, view)], view)
    heat_strip(say("Accelerators"), "accelerator", frame, view, st.session_state.get("strip"))
    mean_beside_week_before(frame, view)
    group = st.session_state.get("group")
    if group:
        table(grouped(frame, GROUPS[group]), view, key="accelerator-sums", titles=TITLES)
    st.markdown("##### " + say("Devices"), help=say("Pick a row for a link to the page of that device."))
    rows = listed(frame)
    columns = {"throttle": column_config.TextColumn(say("Held down by"), width="medium")}
    picked = table(rows, view, key="accelerators", titles=TITLES, columns=columns, said=("state",), selectable=True)
    if picked is not None:
        chosen = frame.iloc[picked]
        st.page_link(
            "pages/fleet/device.py",
            label=say("Open the page of {device}", device=words.plain(chosen["name"])),
            icon=":material/developer_board:",
            query_params={"device": str(chosen["key"])},
        )


def mean_beside_week_before(frame: pd.DataFrame, view: View) -> None:
    """Mean busy time over all devices, where somebody wants to see that of a week before: a strip cannot show it."""
    metric = "utilization_ratio"

    def mean(view: View) -> pd.DataFrame:
        window = (view.start_ms, view.end_ms, view.step_ms)
        return loaders.spread("accelerator", metric, things.ids(things.whole(frame)), *window)

    before = week_before(view, mean)
    if before is None:
        return
    now = mean(view)
    picture(
        say("Mean busy time of accelerators"),
        band(now, metric, view.span, title=say("busy"), before=before) if len(now) else None,
        key="accelerators-mean",
        note=" · ".join([say("measured"), view.resolution, say("mean and extremes"), *lacking(before)]),
        marks=happened(view, things.ids(frame)),
    )


def listed(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per device, in the order of the frame."""
    rows = frame.assign(
        state=frame["state"].map(tallies.STATE_WORDS).fillna(""),
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
