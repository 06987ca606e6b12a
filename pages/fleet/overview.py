"""The first thing that ops sees: what is wrong, what works, what it draws."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts.timeseries import stacked
from core.language import _, say
from pages.fleet import findings, tallies
from pages.fleet.by_thing import by_thing
from pages.fleet.strips import heat_strip
from pages.shared import things, watts
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.marks import Marks, happened, lacking, week_before
from pages.shared.pictures import picture
from pages.shared.reasons import reasons
from pages.shared.tables import table
from pages.shared.verdict import verdict

TITLES = {
    "cpu_utilization_ratio": _("CPU busy"),
    "load_1m": _("load, 1 min"),
    "reports": _("reports now"),
    "observed_at": _("last sample"),
    "kv_cache_usage_ratio": _("KV cache"),
}


def render() -> None:
    """Draw the page."""
    page(_("Overview"), draw)


def draw(view: View) -> None:
    """Verdict, figures, heat strip, power and CPU over time, hosts and servers."""
    accelerators, sockets, hosts = things.accelerators(view), things.sockets(view), things.hosts(view)
    deployments = things.deployments(view)
    verdict(findings.everything(accelerators, hosts, deployments, view), findings.all_well(view), view)
    drawn = watts.accelerator_power(accelerators, view) if len(accelerators) else watts.cpu_power(sockets, view)
    figures = [
        drawn,
        tallies.output_tokens(deployments, view),
        tallies.unit_price(deployments, view),
        tallies.host_cpu(hosts, view),
        tallies.sources_healthy(view),
    ]
    tiles([tallies.accelerators_active(accelerators, view), *figures], view)
    if accelerators.empty:
        no_data(say("No accelerator was found: CPU sockets are shown instead"), *reasons(("nvidia", "amd"), view))
        heat_strip(say("CPU sockets"), "cpu", sockets, view)
    else:
        heat_strip(say("Accelerators"), "accelerator", accelerators, view)
    marks, (left, right) = happened(view), st.columns(2)
    with left:
        power_chart(accelerators, sockets, view, marks)
    with right:
        cpu_chart(sockets, view, marks)
    st.markdown("##### " + say("Hosts"))
    if hosts.empty:
        no_data(say("No host was seen"), *reasons(("host",), view))
    else:
        table(tallies.host_table(hosts, accelerators), view, key="hosts", titles=TITLES, said=("reports",))
    st.markdown("##### " + say("Inference servers"))
    if deployments.empty:
        no_data(say("No inference server was found"), *reasons(("serving",), view))
    else:
        table(tallies.server_table(deployments, view), view, key="servers", titles=TITLES, said=("reports",))


def power_chart(accelerators: pd.DataFrame, sockets: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Accelerators by model and CPU packages, stacked."""
    accelerators, sockets = accelerators.fillna({"model": say("unnamed accelerator")}), sockets.assign(part="CPU")

    def parts(view: View) -> pd.DataFrame:
        boards, packages = ("accelerator", accelerators, "model"), ("cpu", sockets, "part")
        found = [watts.over_time(family, "power_watts", frame, by, view)[0] for family, frame, by in (boards, packages)]
        return pd.concat(found, ignore_index=True)

    power, before = parts(view), week_before(view, parts)
    why, remedy = reasons(("cpu",) if accelerators.empty else ("nvidia", "amd"), view)
    chart = stacked(power, "power_watts", view.span, view.step_ms, before=before) if len(power) else None
    scope = say("sum of the boards and CPU packages that report: not the node or the wall.")
    note = " · ".join([*watts.basis(view), scope, *lacking(before)])
    picture(say("Power"), chart, key="power", note=note, why=why, remedy=remedy, marks=marks)


def cpu_chart(sockets: pd.DataFrame, view: View, marks: Marks | None) -> None:
    """Busy time of CPU sockets."""
    chart = by_thing("cpu", "utilization_ratio", sockets, view, title=say("busy"))
    note = " · ".join([say("measured"), view.resolution])
    picture(say("CPU busy time by socket"), chart, key="cpu", note=note, marks=marks)


if __name__ == "__main__":
    render()
