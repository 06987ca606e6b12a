"""The heat strip of devices, for each of the quantities it can show."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from charts.heatstrip import grid, strip
from core.language import _, say, spoken
from core.readings import Throttle
from pages.shared import loaders, things, words
from pages.shared.filters import View
from pages.shared.marks import happened
from pages.shared.pictures import picture

COLUMNS = 60
MOST_ROWS = 64


@dataclass(frozen=True, slots=True)
class Strip:
    """A quantity: its metric, and what it means, marked for translation."""

    metric: str
    help: str


BUSY = _("busy time")
STRIPS = {
    BUSY: Strip(
        "utilization_ratio",
        _(
            "The share of time in which at least one kernel ran (a CPU: was not idle). It says nothing of how full an "
            "accelerator was; its page shows SM activity beside it where the device reports it."
        ),
    ),
    _("memory held"): Strip(
        "memory_used_bytes", _("Device memory held. A loaded model holds memory and may do no work.")
    ),
    _("power"): Strip("power_watts", _("Board power. Slices of a device have none of their own.")),
    _("temperature"): Strip("temperature_celsius", _("Core (NVIDIA) or hotspot (AMD).")),
}


def heat_strip(title: str, family: str, frame: pd.DataFrame, view: View, what: str | None = None) -> None:
    """A row per device, a column per step; ``title`` is in the visitor's language."""
    what = what if what in STRIPS else BUSY
    metric, key = STRIPS[what].metric, f"{family}-strip"
    if frame.empty:
        picture(title, None, key=key)
        return
    shown = frame.head(MOST_ROWS)
    step_ms = view.coarse_step_ms(COLUMNS)
    read = loaders.series(family, (metric,), things.ids(shown), view.start_ms, view.end_ms, step_ms)
    cells = grid(things.named(read, shown), list(shown["name"]), metric, view.span, step_ms)
    note = say(
        "measured · mean per cell of {step} · hatched: no sample · grey: not reported.",
        step=words.duration(step_ms / 1000),
    )
    if len(frame) > MOST_ROWS:
        most, number = spoken().number(MOST_ROWS), spoken().number(len(frame))
        note += " " + say("Showing {most} of {number}: filter to see others.", most=most, number=number)
    chart = strip(cells, metric, view.span, step_ms, title=say(what))
    marks = happened(view, things.ids(frame))
    picture(f"{title}: {say(what)}", chart, key=key, help=say(STRIPS[what].help), note=note, marks=marks)


def throttle_strip(device: pd.DataFrame, view: View) -> None:
    """A row per reason for which clocks of one accelerator were held down: its share of each step."""
    step_ms = view.coarse_step_ms(COLUMNS)
    raw = loaders.raw("accelerator", ("throttle_reasons",), things.ids(device), view.start_ms, view.end_ms)
    known = raw.dropna(subset=["throttle_reasons"])
    title = say("Held down by")
    if known.empty:
        picture(title, None, key="throttle", why=say("the device does not say why clocks are held down"))
        return
    bits = known["throttle_reasons"].astype("int64")
    seen = [reason for reason in Throttle if reason is not Throttle.IDLE and (bits & int(reason)).any()]
    if not seen:
        st.markdown(f"##### {title}")
        st.caption(say("Never (measured, {window}; being idle does not count).", window=view.words))
        return
    at_ms = known["observed_at"].dt.tz_convert(None).astype("datetime64[ms]").astype("int64")
    bucket_at = pd.to_datetime(view.start_ms + (at_ms - view.start_ms) // step_ms * step_ms, unit="ms", utc=True)
    shares = pd.concat(
        [
            ((bits & int(reason)) > 0)
            .astype("float64")
            .groupby(bucket_at)
            .mean()
            .rename_axis("bucket_at")
            .rename("time_ratio")
            .reset_index()
            .assign(series=words.throttle(reason))
            for reason in seen
        ]
    )
    names = [words.throttle(reason) for reason in seen]
    cells = grid(shares, names, "time_ratio", view.span, step_ms)
    chart = strip(cells, "time_ratio", view.span, step_ms, title=say("share of samples"))
    note = say(
        "measured · share of samples per cell of {step} · hatched: no sample.", step=words.duration(step_ms / 1000)
    )
    picture(
        title,
        chart,
        key="throttle",
        help=say("A power cap on a busy device is normal; heat is not."),
        note=note,
        about=str(device["name"].iloc[0]),
        marks=happened(view, things.ids(device)),
    )
