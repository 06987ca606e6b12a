"""Machines: sockets, where the power goes, memory, network, disk, and who waits for what."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts.timeseries import over_time, stacked
from pages.fleet import findings, power, tallies
from pages.shared import loaders, things, watts, words
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.pictures import picture
from pages.shared.reasons import reasons
from pages.shared.tables import table
from pages.shared.verdict import verdict

TITLES = {
    "cpu_utilization_ratio": "CPU busy",
    "utilization_ratio": "busy",
    "load_1m": "load, 1 min",
    "reports": "reports now",
    "observed_at": "last sample",
}
NETWORK = ("network_rx_bytes_total", "network_tx_bytes_total")
DISK = ("disk_read_bytes_total", "disk_written_bytes_total")
PRESSURE = ("cpu_pressure_ratio", "memory_pressure_ratio", "io_pressure_ratio")
PRESSURE_HELP = "Share of the last 10 s in which some task waited for a CPU, for memory, for disk or network (PSI)."


def render() -> None:
    """Draw the page."""
    page("Hosts", draw)


def draw(view: View) -> None:
    """Verdict, figures, sockets, power by part, memory, network, disk and pressure, tables."""
    hosts, sockets, accelerators = things.hosts(view), things.sockets(view), things.accelerators(view)
    if hosts.empty:
        no_data("No host was seen", *reasons(("host", "cpu"), view))
        return
    verdict(findings.of_hosts(hosts, view), "All well: every host reports, none is out of memory or disk.", view)
    figures = [tallies.host_cpu(hosts, view), tallies.host_memory(hosts, view), watts.cpu_power(sockets, view)]
    tiles([*figures, watts.node_power(hosts, view), tallies.not_accelerators(hosts, accelerators, view)], view)
    left, right = st.columns(2)
    with left:
        sockets_chart(sockets, view)
    with right:
        power_chart(hosts, sockets, accelerators, view)
    left, right = st.columns(2)
    with left:
        memory_chart(hosts, view)
        flow_chart("Network", NETWORK, hosts, view)
    with right:
        pressure_chart(hosts, view)
        flow_chart("Disk", DISK, hosts, view)
    st.markdown("##### Hosts")
    table(tallies.host_table(hosts, accelerators), view, key="hosts", titles=TITLES)
    st.markdown("##### CPU sockets")
    if sockets.empty:
        no_data("No CPU socket was seen", *reasons(("cpu",), view))
    else:
        table(tallies.socket_table(sockets), view, key="sockets", titles=TITLES)


def sockets_chart(sockets: pd.DataFrame, view: View) -> None:
    """Busy time per socket."""
    read = loaders.series("cpu", ("utilization_ratio",), things.ids(sockets), view.start_ms, view.end_ms, view.step_ms)
    chart = over_time(things.named(read, sockets), "utilization_ratio", view.span, title="busy") if len(read) else None
    picture("CPU busy time by socket", chart, key="sockets-busy", note=f"measured · {view.resolution}")


def power_chart(hosts: pd.DataFrame, sockets: pd.DataFrame, accelerators: pd.DataFrame, view: View) -> None:
    """What draws the power, part by part; the rest only where the whole node is known."""
    parts = power.by_part(hosts, sockets, accelerators, view)
    why, remedy = reasons(("cpu", "epyc", "host", "nvidia", "amd"), view)
    chart = stacked(parts, "power_watts", view.span, view.step_ms) if len(parts) else None
    unknown = [part for part in power.expected(accelerators) if part not in set(parts["series"])]
    missing = f" · missing: {', '.join(unknown)}{f' ({words.plain(why)})' if why else ''}" if unknown else ""
    note = f"measured, the rest derived · {view.resolution}{missing}"
    picture("Power by part", chart, key="power-parts", help=power.HELP, note=note, why=why, remedy=remedy)


def memory_chart(hosts: pd.DataFrame, view: View) -> None:
    """Memory in use, per host."""
    read = _read(hosts, ("memory_used_bytes",), view)
    limit = hosts["memory_total_bytes"].iloc[0] if len(hosts) == 1 else None
    chart = over_time(things.named(read, hosts), "memory_used_bytes", view.span, limit=limit) if len(read) else None
    note = f"measured · {view.resolution}" + (" · dashed: installed" if limit else "")
    picture("Memory", chart, key="memory", help="Total less available memory.", note=note)


def pressure_chart(hosts: pd.DataFrame, view: View) -> None:
    """Who waits for what; of several hosts the one that waits most."""
    highest = _read(hosts, PRESSURE, view).groupby("bucket_at")[list(PRESSURE)].max()
    tidy = things.tidy(highest, "waiting_ratio")
    chart = over_time(tidy, "waiting_ratio", view.span) if len(tidy) else None
    note = f"measured · {view.resolution}" + (" · highest of all hosts" if len(hosts) > 1 else "")
    picture("Pressure", chart, key="pressure", help=PRESSURE_HELP, note=note, why="the kernel offers no PSI")


def flow_chart(title: str, counters: tuple[str, ...], hosts: pd.DataFrame, view: View) -> None:
    """Bytes per second by direction, all hosts together."""
    read = loaders.rates("host", counters, things.ids(hosts), view.start_ms, view.end_ms, view.step_ms)
    columns = [column for column in read.columns if column.endswith("_per_second")]
    tidy = things.tidy(read.groupby("bucket_at")[columns].sum(min_count=1), "flow_bytes_per_second")
    chart = over_time(tidy, "flow_bytes_per_second", view.span, title=title.lower()) if len(tidy) else None
    note = f"derived from counters · {view.resolution}" + (" · all hosts together" if len(hosts) > 1 else "")
    picture(title, chart, key=title.lower(), note=note)


def _read(hosts: pd.DataFrame, metrics: tuple[str, ...], view: View) -> pd.DataFrame:
    return loaders.series("host", metrics, things.ids(hosts), view.start_ms, view.end_ms, view.step_ms)


if __name__ == "__main__":
    render()
