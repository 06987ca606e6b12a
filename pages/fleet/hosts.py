"""Machines: sockets, where the power goes, memory, network, disk, and who waits for what."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts.timeseries import over_time, stacked
from core.language import _, say
from pages.fleet import findings, power, tallies
from pages.fleet.by_thing import by_thing
from pages.shared import loaders, things, watts, words
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.marks import Marks, happened
from pages.shared.pictures import picture
from pages.shared.reasons import reasons
from pages.shared.tables import table
from pages.shared.verdict import verdict

TITLES = {
    "cpu_utilization_ratio": _("CPU busy"),
    "utilization_ratio": _("busy"),
    "load_1m": _("load, 1 min"),
    "reports": _("reports now"),
    "observed_at": _("last sample"),
}
NETWORK = ("network_rx_bytes_total", "network_tx_bytes_total")
DISK = ("disk_read_bytes_total", "disk_written_bytes_total")
PRESSURE = ("cpu_pressure_ratio", "memory_pressure_ratio", "io_pressure_ratio")
PRESSURE_HELP = _("Share of the last 10 s in which some task waited for a CPU, for memory, for disk or network (PSI).")


def render() -> None:
    """Draw the page."""
    page(_("Hosts"), draw)


def draw(view: View) -> None:
    """Verdict, figures, sockets, power by part, memory, network, disk and pressure, tables."""
    hosts, sockets, accelerators = things.hosts(view), things.sockets(view), things.accelerators(view)
    if hosts.empty:
        no_data(say("No host was seen"), *reasons(("host", "cpu"), view))
        return
    verdict(findings.of_hosts(hosts, view), say("All well: every host reports, none is out of memory or disk."), view)
    figures = [tallies.host_cpu(hosts, view), tallies.host_memory(hosts, view), watts.cpu_power(sockets, view)]
    tiles([*figures, watts.node_power(hosts, view), tallies.not_accelerators(hosts, accelerators, view)], view)
    marks, (left, right) = happened(view), st.columns(2)
    with left:
        sockets_chart(sockets, view, marks)
    with right:
        power_chart(hosts, sockets, accelerators, view, marks)
    left, right = st.columns(2)
    with left:
        memory_chart(hosts, view, marks)
        flow_chart(_("Network"), NETWORK, hosts, view, marks)
    with right:
        pressure_chart(hosts, view, marks)
        flow_chart(_("Disk"), DISK, hosts, view, marks)
    st.markdown("##### " + say("Hosts"))
    table(tallies.host_table(hosts, accelerators), view, key="hosts", titles=TITLES, said=("reports",))
    st.markdown("##### " + say("CPU sockets"))
    if sockets.empty:
        no_data(say("No CPU socket was seen"), *reasons(("cpu",), view))
    else:
        table(tallies.socket_table(sockets), view, key="sockets", titles=TITLES, said=("reports",))


def sockets_chart(sockets: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Busy time per socket."""
    chart = by_thing("cpu", "utilization_ratio", sockets, view, title=say("busy"))
    note = " · ".join([say("measured"), view.resolution])
    picture(say("CPU busy time by socket"), chart, key="sockets-busy", note=note, marks=marks)


def power_chart(
    hosts: pd.DataFrame, sockets: pd.DataFrame, accelerators: pd.DataFrame, view: View, marks: Marks | None
) -> None:
    """What draws the power, part by part; the rest only where the whole node is known."""
    parts = power.by_part(hosts, sockets, accelerators, view)
    parts["series"] = parts["series"].map(say)
    why, remedy = reasons(("cpu", "epyc", "host", "nvidia", "amd"), view)
    chart = stacked(parts, "power_watts", view.span, view.step_ms) if len(parts) else None
    unknown = [part for part in map(say, power.expected(accelerators)) if part not in set(parts["series"])]
    notes = watts.basis(view, _("measured, the rest derived"))
    if unknown:
        missing = say("missing: {parts}", parts=", ".join(unknown))
        notes.append(f"{missing} ({words.plain(why)})" if why else missing)
    note = " · ".join(notes)
    picture(
        say("Power by part"),
        chart,
        key="power-parts",
        help=say(power.HELP),
        note=note,
        why=why,
        remedy=remedy,
        marks=marks,
    )


def memory_chart(hosts: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Memory in use, per host."""
    limit = hosts["memory_total_bytes"].iloc[0] if len(hosts) == 1 else None
    chart = by_thing("host", "memory_used_bytes", hosts, view, limit=limit)
    notes = [say("measured"), view.resolution, *([say("dashed: installed")] if limit else [])]
    explained, note = say("Total less available memory."), " · ".join(notes)
    picture(say("Memory"), chart, key="memory", help=explained, note=note, marks=marks)


def pressure_chart(hosts: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Who waits for what; of several hosts the one that waits most."""
    window = (things.ids(hosts), view.start_ms, view.end_ms, view.step_ms)
    tidy = things.tidy(loaders.highest("host", tuple(PRESSURE), *window), "waiting_ratio")
    chart = over_time(tidy, "waiting_ratio", view.span) if len(tidy) else None
    notes = [say("measured"), view.resolution, *([say("highest of all hosts")] if len(hosts) > 1 else [])]
    why, note = say("the kernel offers no PSI"), " · ".join(notes)
    picture(say("Pressure"), chart, key="pressure", help=say(PRESSURE_HELP), note=note, why=why, marks=marks)


def flow_chart(title: str, counters: tuple[str, ...], hosts: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Bytes per second by direction, all hosts together."""
    # All that flows is read at once: to find the samples costs as much as to decode a counter.
    read = loaders.rates("host", (*NETWORK, *DISK), things.ids(hosts), view.start_ms, view.end_ms, view.step_ms)
    columns = [f"{counter.removesuffix('_total')}_per_second" for counter in counters]
    tidy = things.tidy(read.groupby("bucket_at")[columns].sum(min_count=1), "flow_bytes_per_second")
    chart = over_time(tidy, "flow_bytes_per_second", view.span, title=say(title).lower()) if len(tidy) else None
    notes = [say("derived from counters"), view.resolution, *([say("all hosts together")] if len(hosts) > 1 else [])]
    picture(say(title), chart, key=title.lower(), note=" · ".join(notes), marks=marks)


if __name__ == "__main__":
    render()
