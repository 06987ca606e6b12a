"""Where the power of hosts goes: accelerators, CPU packages, and the rest where the whole node is measured."""

from __future__ import annotations

import pandas as pd

from core.language import _
from pages.shared import loaders, things
from pages.shared.filters import View

ACCELERATORS, CPUS, REST = _("accelerators"), _("CPU packages"), _("rest of the node")
HELP = _(
    "Accelerator boards and CPU packages by their own meters. The rest (memory, fans, disks, losses of the supply) "
    "is the node's power at the supply less these two; where CPU power is unknown, the rest includes it."
)


def expected(accelerators: pd.DataFrame) -> list[str]:
    """The parts that there should be."""
    return [*([ACCELERATORS] if len(accelerators) else []), CPUS, REST]


def by_part(hosts: pd.DataFrame, sockets: pd.DataFrame, accelerators: pd.DataFrame, view: View) -> pd.DataFrame:
    """Power per part and step, summed over hosts.

    Returns:
        bucket_at, series (the part), power_watts. A part that nobody measures has no rows.
    """
    boards, complete = _per_host("accelerator", "power_watts", things.whole(accelerators), view)
    packages, _ = _per_host("cpu", "power_watts", sockets, view)
    node, _ = _per_host("host", "node_power_watts", hosts, view)
    # A board that is silent draws something: only where all of a host's report is the rest known.
    without = ~node.index.get_level_values("host").isin(accelerators["host"])
    known = boards[complete].reindex(node.index)
    known[without] = 0.0
    rest = (node - known - packages.reindex(node.index).fillna(0.0)).clip(lower=0.0)
    parts = [
        watts.dropna().groupby("bucket_at").sum().rename("power_watts").reset_index().assign(series=part)
        for part, watts in ((ACCELERATORS, boards), (CPUS, packages), (REST, rest))
    ]
    return pd.concat(parts, ignore_index=True)


def _per_host(family: str, metric: str, frame: pd.DataFrame, view: View) -> tuple[pd.Series, pd.Series]:
    """A metric summed per host and step where any part reports it; and whether all parts do that are there."""
    read = loaders.series(family, (metric,), things.ids(frame), view.start_ms, view.end_ms, view.step_ms)
    read = read.assign(host=read["entity_id"].map(frame.set_index("entity_id")["host"]))
    there = read.groupby("host")["entity_id"].nunique()
    steps = read.dropna(subset=[metric]).groupby(["host", "bucket_at"])[metric].agg(["sum", "count"])
    return steps["sum"], steps["count"] == there.reindex(steps.index, level="host")
