"""One device, accelerator or CPU socket: all it reports, what happened to it, who uses it, what it is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts.axis import words_of
from charts.timeseries import over_time
from core.hardware.catalogue import match_accelerator
from core.language import _, say
from core.units import show, unit_of
from pages.fleet import findings, tallies
from pages.fleet.strips import throttle_strip
from pages.fleet.topics import TOPICS, Topic, courses, unreported
from pages.shared import loaders, things, words
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.marks import Marks
from pages.shared.marks import happened as marks_of
from pages.shared.pictures import plot, small_print
from pages.shared.reasons import reasons
from pages.shared.tables import table
from pages.shared.verdict import verdict

PER_ROW = 3
DEVICE_SOURCES = ("nvidia", "amd", "cpu", "epyc")


def render() -> None:
    """Draw the page."""
    page(_("Device"), draw, controls=controls)


def controls() -> None:
    """Pick the device; the address keeps it. Not bound to it: there a name would stand instead of the key."""
    devices = _devices()
    if devices.empty:
        return
    names = dict(zip(devices["key"], things.names(devices), strict=True))
    keys, asked = list(names), st.query_params.get("device")
    chosen = st.selectbox(
        say("Device"),
        keys,
        index=keys.index(asked) if asked in names else 0,
        format_func=lambda key: words.one_line(f"{names[key]} · {key}"),
        key="picked-device",
        label_visibility="collapsed",
    )
    if chosen != asked:
        st.query_params["device"] = chosen


def _devices() -> pd.DataFrame:
    return pd.concat([loaders.entities("accelerator"), loaders.entities("cpu")], ignore_index=True)


def draw(view: View) -> None:
    """Verdict, figures, small multiples by topic, throttling, events, processes and identity of one device."""
    devices = _devices()
    if devices.empty:
        no_data(say("No device was ever seen"), *reasons(DEVICE_SOURCES, view))
        return
    chosen = devices[devices["key"] == st.session_state["picked-device"]].head(1)
    family = str(chosen["family"].iloc[0])
    accelerator = family == "accelerator"
    frame = things.accelerators(view, chosen) if accelerator else things.sockets(view, chosen)
    wrong = findings.of_accelerators(frame, view) if accelerator else findings.silent(frame, "socket", view)
    verdict(wrong, say("All well: it reports, and does not slow itself down."), view)
    tiles(tallies.of_device(frame, view), view)
    marks = marks_of(view, things.ids(frame))
    for topic in TOPICS[family]:
        multiples(topic, frame, view, marks)
    if accelerator:
        throttle_strip(frame, view)
    happened(frame, view)
    if accelerator:
        used_by(frame, view)
    st.markdown("##### " + say("Identity"))
    labels = {"key": frame["key"].iloc[0], "host": frame["host"].iloc[0], **frame["labels"].iloc[0]}
    labels |= specification(str(labels.get("model", "")))
    table(pd.DataFrame(labels.items(), columns=["label", "value"]), view, key="identity")


def specification(driver_name: str) -> dict[str, str]:
    """What the maker's figures say of an accelerator the catalog knows; a specification, not a reading."""
    known = match_accelerator(driver_name)
    if known is None:
        return {}
    text = say(
        "{device}: memory {memory}, memory bandwidth {bandwidth}, TDP {power} (source: {source})",
        device=f"{known.vendor} {known.model}",
        memory=show(known.memory_bytes, unit_of("x_bytes")),
        bandwidth=show(known.memory_bytes_per_second, unit_of("x_bytes_per_second")),
        power=show(known.tdp_watts, unit_of("x_watts")),
        source=known.source,
    )
    return {say("specification"): text}


def multiples(topic: Topic, device: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Small charts of a topic's metrics; those that stayed zero or were not seen are named instead."""
    st.markdown(f"##### {say(topic.title)}", help=say(topic.help) or None)
    seen = courses(topic, device, view)
    moved = [course for course in seen if not course.still]
    name = str(device["name"].iloc[0])
    for start in range(0, len(moved), PER_ROW):
        for column, course in zip(st.columns(PER_ROW), moved[start : start + PER_ROW], strict=False):
            words_of_it = words_of(course.column)
            drawn = course.frame.assign(series=words_of_it)
            chart = over_time(drawn, course.column, topic.span(view), limit=course.limit, small=True)
            chart = chart if marks is None else marks.over(chart)
            with column:
                key = f"device-{course.column}"
                plot(chart, key=key, alt=words_of_it)
                small_print(chart, say(course.basis), title=words_of_it, key=key, about=name, help=say(course.help))
    still = [words_of(course.column) for course in seen if course.still]
    if still:
        said = say("zero as counted ({window}): {metrics}.", window=view.words, metrics=", ".join(still))
        st.caption(f":material/check: {said}")
    unseen = unreported(topic, seen)
    if unseen:
        said = say("missing, not reported ({window}): {metrics}.", window=view.words, metrics=", ".join(unseen))
        st.caption(f":material/blur_off: {said}")


def happened(frame: pd.DataFrame, view: View) -> None:
    """Events of the device within the window."""
    st.markdown("##### " + say("Events"))
    events = loaders.events(view.start_ms, loaders.now_ms())
    events = events[events["entity_id"] == frame["entity_id"].iloc[0]]
    if events.empty:
        st.caption(say("None ({window}).", window=view.words))
        return
    table(events[["observed_at", "severity", "kind", "code", "message"]], view, key="events")


def used_by(frame: pd.DataFrame, view: View) -> None:
    """Processes that hold memory on the device, as of the last time it was asked."""
    st.markdown("##### " + say("Processes"))
    known = frame["processes"].iloc[0]
    processes = loaders.device_processes(int(frame["entity_id"].iloc[0]))
    if known == 0:
        st.caption(say("None holds memory on it (measured)."))
    elif processes.empty:
        st.caption(":material/blur_off: " + say("missing: the driver does not name them."))
    else:
        asked_at = processes["observed_at"].max()
        if asked_at < view.now - pd.Timedelta(milliseconds=things.KNOWN_FOR_MS):
            age = words.duration((view.now - asked_at).total_seconds())
            st.caption(":material/history_toggle_off: " + say("stale: last asked {age} ago.", age=age))
        table(processes[["pid", "name", "memory_used_bytes", "observed_at"]], view, key="processes")


if __name__ == "__main__":
    render()
