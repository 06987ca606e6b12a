"""Where the power of hosts goes: accelerators, CPU packages, and the rest where the whole node is measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.power import Course
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
    names = sorted({*hosts["host"], *sockets["host"], *accelerators["host"]})
    whole = things.whole(accelerators)
    boards = _per_host("accelerator", "power_watts", whole, names, view)
    packages = _per_host("cpu", "power_watts", sockets, names, view)
    node = _per_host("host", "node_power_watts", hosts, names, view)
    # A board that is silent draws something: only where all of a host's report is the rest known.
    seen = loaders.seen("accelerator", view.start_ms, view.end_ms)
    there = whole.loc[whole["entity_id"].isin(seen), "host"].value_counts().reindex(names, fill_value=0).to_numpy()
    known = np.where(boards.reporting == there[:, None], boards.watts, np.nan)
    known[~np.isin(names, accelerators["host"])] = 0.0
    rest = (node.watts - known - np.nan_to_num(packages.watts)).clip(min=0.0)
    return pd.concat(
        [
            _together(watts, node.steps).assign(series=part)
            for part, watts in ((ACCELERATORS, boards.watts), (CPUS, packages.watts), (REST, rest))
        ],
        ignore_index=True,
    )


def _per_host(family: str, metric: str, frame: pd.DataFrame, names: list[str], view: View) -> Course:
    """A metric summed per host, in the order of their names, where any part reports it."""
    ids = frame.groupby("host")["entity_id"].agg(tuple).reindex(names)
    groups = tuple(one if isinstance(one, tuple) else () for one in ids)
    return loaders.power_course(family, metric, groups, view.start_ms, view.end_ms, view.step_ms)


def _together(watts: NDArray[np.float64], steps: pd.DatetimeIndex) -> pd.DataFrame:
    """Summed over the hosts of which it is known."""
    there = np.flatnonzero(np.isfinite(watts).any(axis=0))
    return pd.DataFrame({"bucket_at": steps[there], "power_watts": np.nansum(watts[:, there], axis=0)})
