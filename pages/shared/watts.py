"""Power of accelerators, CPU packages and whole nodes, each of its own scope: now, as figures, and over time."""

from __future__ import annotations

import pandas as pd

from analytics.power import Course, in_hours
from core.language import _, say, spoken
from core.units import show, unit_of
from pages.shared import loaders, things
from pages.shared.figures import Figure
from pages.shared.filters import View
from pages.shared.reasons import reasons

_WATTS = unit_of("power_watts")
MEASURED = _("measured")


def over_time(family: str, metric: str, frame: pd.DataFrame, by: str, view: View) -> tuple[pd.DataFrame, Course]:
    """``bucket_at``, ``series`` and the metric, per step and group by a column; and what that was made of."""
    ids = frame["entity_id"].to_numpy()
    groups = {str(name): tuple(ids[rows].tolist()) for name, rows in sorted(frame.groupby(by).indices.items())}
    course = loaders.power_course(family, metric, tuple(groups.values()), view.start_ms, view.end_ms, view.step_ms)
    return course.parts(list(groups), metric), course


def basis(view: View, measured: str = MEASURED) -> list[str]:
    """How power over time came about, and its steps; ``measured``, marked: what is said of samples."""
    if in_hours(view.start_ms, view.step_ms):
        return [say("derived"), view.resolution, say("accounts of whole hours")]
    return [say(measured), view.resolution]


def accelerator_power(frame: pd.DataFrame, view: View) -> Figure:
    """Board power now against the caps in force."""
    now = things.current(frame, view)
    limits = things.whole(now)["power_limit_watts"]
    cap = float(limits.sum()) if len(limits) and limits.notna().all() else None  # of some only, it caps nothing
    return Figure(
        label=say("Accelerator power"),
        value=things.total(now, "power_watts"),
        unit=_WATTS,
        at=now["observed_at"].max(),
        note=say("cap {power}", power=show(cap, _WATTS)) if cap else "",
        help=say("Sum of board power over the devices that report: accelerator only, not the node or the wall."),
        reason=reasons(("nvidia", "amd"), view)[0],
    )


def cpu_power(frame: pd.DataFrame, view: View) -> Figure:
    """Package power now."""
    now = things.current(frame, view)
    return Figure(
        label=say("CPU package power"),
        value=things.total(now, "power_watts"),
        unit=_WATTS,
        at=now["observed_at"].max(),
        help=say("Sum of package power over the sockets that report: CPU package only, not the node or the wall."),
        reason=reasons(("cpu",), view)[0],
    )


def node_power(frame: pd.DataFrame, view: View) -> Figure:
    """Power at the supply, of the hosts that have a meter."""
    now = things.current(frame, view)
    metered = int(now["node_power_watts"].notna().sum())
    return Figure(
        label=say("Node power"),
        value=things.total(now, "node_power_watts"),
        unit=_WATTS,
        at=now["observed_at"].max(),
        note=say("{number} of {all} hosts", number=spoken().number(metered), all=spoken().number(len(now)))
        if metered < len(now)
        else "",
        help=say("Whole-node power at the supply, by the host's power meter or BMC: everything in the box."),
        reason=say("no host has a power meter that the kernel shows"),
    )
