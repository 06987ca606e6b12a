"""What the exporters of accelerators have in common: a table of columns, one row of points per device, and bounds.

A dialect says which series fills which field of ``AcceleratorSample`` and by what factor. A value beyond what any
device can show is how an exporter says "not measured" (NVML's and DCGM's blanks, 2^31 - 16 or so, 2^47, 2^63 - 14, all
ones) and becomes ``None``. Types that a page declares are not looked at: people edit them, names they don't.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collectors.scrape.exposition import Page, Point
from collectors.sources.amd.tables import JITTER_JOULES
from collectors.sources.exporters.dialect import said
from core.catalog import FAMILIES
from core.metric import Kind, Metric
from core.readings import AcceleratorSample, DeviceUser

Values = dict[str, Any]
Rows = dict[str, list[Point]]
"""The points of one device, by series."""

_METRICS = {metric.name: metric for metric in FAMILIES[AcceleratorSample.family].metrics}
_NEVER_ZERO = frozenset(
    (
        *("power_watts", "power_limit_watts", "energy_joules_total", "memory_total_bytes"),
        *("temperature_celsius", "memory_temperature_celsius"),
    )
)
"""Where 0 stands for a sensor that is not there, or not read yet: a chip that answers is warm and draws something."""

_HIGHEST_GAUGE = {
    "_ratio": 1.01,  # rounding may pass 1 by a hair
    "_celsius": 150.0,
    "_watts": 10_000.0,
    "_hertz": 1e10,
    "_bytes": 2.0**44,
    "_bytes_per_second": 1e13,
}
_HIGHEST_COUNTER = {"_joules": 1e14, "_seconds": 1e9, "_bytes": 2.0**62}
_HIGHEST_STATE = {"performance_state": 15, "recovery_action": 7, "pcie_generation": 9, "pcie_lanes": 32}
_HIGHEST_COUNT = 2.0**31 - 17
_LOWEST_MARGIN = -100.0  # degrees past the point where the device slows down

_USERS = {
    "namespace": ("namespace", "pod_namespace"),
    "pod": ("pod", "pod_name"),
    "container": ("container", "container_name"),
    "job": ("hpc_job", "job_id"),
    "user": ("job_user",),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One way to read a field.

    Args:
        series: names whose values are added; all of them must be there, each perhaps repeating one figure.
        factor: how many of the field's unit one of the exported is.
        divisor: or how many of the exported unit make one of the field's.
    """

    series: tuple[str, ...]
    factor: int = 1
    divisor: int = 1

    def read(self, rows: Rows) -> float | None:
        """The value in the unit of the field, as exported: perhaps impossible."""
        values = [[p.value for p in rows.get(name, ()) if math.isfinite(p.value)] for name in self.series]
        return math.fsum(map(max, values)) * self.factor / self.divisor if all(values) else None


def column(*series: str, factor: int = 1, divisor: int = 1) -> Column:
    """A ``Column``, written shorter."""
    return Column(series, factor, divisor)


Columns = Mapping[str, tuple[Column, ...]]
"""Field of ``AcceleratorSample`` to the ways to read it, best first."""


def series_of(columns: Columns) -> frozenset[str]:
    """All names of a table."""
    return frozenset(name for ways in columns.values() for way in ways for name in way.series)


def read(columns: Columns, rows: Rows) -> Values:
    """Every field whose value is possible."""
    values = {}
    for name, ways in columns.items():
        for way in ways:
            value = possible(name, way.read(rows))
            if value is not None:
                values[name] = value
                break
    return values


def possible(name: str, value: float | None) -> float | int | None:
    """A value of a field, in the field's type; ``None`` for what no device can show."""
    if value is None or not math.isfinite(value):
        return None
    metric = _METRICS[name]
    lowest = _LOWEST_MARGIN if name == "temperature_margin_celsius" else 0.0
    if value < lowest or value > _highest(metric) or (value == 0 and name in _NEVER_ZERO):
        return None
    if metric.integer:
        return round(value)
    return min(value, 1.0) if name.endswith("_ratio") else value


def _highest(metric: Metric) -> float:
    bounds = _HIGHEST_COUNTER if metric.kind is Kind.COUNTER else _HIGHEST_GAUGE
    return _HIGHEST_STATE.get(metric.name, bounds.get(metric.unit.suffix, _HIGHEST_COUNT))


def single(rows: Rows, name: str) -> float | None:
    """The value of a series that repeats one figure, if at all."""
    return column(name).read(rows)


def by_device(page: Page, series: Iterable[str], key: Callable[[Mapping[str, str]], str]) -> dict[str, Rows]:
    """The points of each device; those whose key is empty are no device's."""
    devices: dict[str, Rows] = {}
    for name in series:
        for point in page.points.get(name, ()):
            if device := key(point.series.labels):
                devices.setdefault(device, {}).setdefault(name, []).append(point)
    return devices


def labels_of(rows: Rows) -> dict[str, str]:
    """The labels of a device: those of all its points, since not every series carries all."""
    labels: dict[str, str] = {}
    for points in rows.values():
        for point in points:
            labels = {**point.series.labels, **labels}
    return labels


class Energy:
    """The energy counters of one target's devices, with what an exporter adds to their faults taken out.

    An exporter that looks every 30 s and is asked every 10 shows the same counter three times. Stored like that it
    would say that the device drew nothing for 20 s, though it shows a power: so a counter that stood still while
    power was drawn is unknown, and the next one that moved tells what was used since the last that did.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}  # as exported, as told

    def joules(self, key: str, exported: float | None, power_watts: float | None) -> float | None:
        """The counter as it is to be stored. A step back of less than ``JITTER_JOULES`` holds the highest value."""
        if exported is None:
            return None
        before, told = self._last.get(key, (None, 0.0))
        if exported == before and power_watts:
            return None
        if not told - JITTER_JOULES < exported < told:
            told = exported
        self._last[key] = exported, told
        return told

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forget devices that are not on the page any more."""
        kept = set(keys)
        self._last = {key: last for key, last in self._last.items() if key in kept}


class Users:
    """Who the devices of one target are given to, as Kubernetes or Slurm told the exporter.

    Several containers may share a device, each of which is told. Once one was told, devices without any are told to
    be nobody's; an exporter that knows of no scheduler says nothing.
    """

    def __init__(self) -> None:
        self._told = False

    def of(self, devices: Mapping[str, Rows], at_ms: int, *, federated: bool) -> list[DeviceUser]:
        """The users of all devices of a page."""
        users = {key: _users(rows, federated=federated) for key, rows in devices.items()}
        self._told = self._told or any(users.values())
        if not self._told:
            return []
        return [
            DeviceUser(key=key, observed_at_ms=at_ms, labels=labels)
            for key, several in users.items()
            for labels in several or ({},)
        ]


def _users(rows: Rows, *, federated: bool) -> list[dict[str, str]]:
    found: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for points in rows.values():
        for point in points:
            if user := _user(point.series.labels, federated=federated):
                found[tuple(user.items())] = user
    return list(found.values())


def _user(labels: Mapping[str, str], *, federated: bool) -> dict[str, str]:
    """Who a point says its device is given to.

    On a federated page plain labels may be about the exporter itself, which uses no device.
    """
    handed_on = any(name.startswith("exported_") for name in labels)
    wanted = {name: text for name, text in labels.items() if name.startswith("exported_")} if handed_on else labels
    user = {name: text for name, sources in _USERS.items() if (text := said(wanted, *sources))}
    if federated and not handed_on and "exporter" in user.get("pod", "") + user.get("container", ""):
        return {}
    return user
