"""node_exporter: the machine as a whole; its CPU sockets are read in ``node_cpu``.

Shares of time are what counters grew by since the look before, in the sense of the ``host`` source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from collectors.scrape.exposition import Page, Point
from collectors.sources.exporters.dialect import Dialect, Look, known, machine, said
from collectors.sources.exporters.node_cpu import CPU_SERIES, SocketsReader, Ticks, clock_ticks, shares
from collectors.sources.machine.hwmon import WHOLE_NODE
from core.readings import Entity, HostSample, Reading

Values = Mapping[str, Any]

_UNAME, _OS, _DMI = "node_uname_info", "node_os_info", "node_dmi_info"
_TIME, _BOOTED = "node_time_seconds", "node_boot_time_seconds"
_LOAD = "node_load1"
_TOTAL, _AVAILABLE = "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes"
_SWAP, _SWAP_FREE = "node_memory_SwapTotal_bytes", "node_memory_SwapFree_bytes"
_DISK, _DISK_FREE = "node_filesystem_size_bytes", "node_filesystem_free_bytes"
_READ, _WRITTEN = "node_disk_read_bytes_total", "node_disk_written_bytes_total"
_RECEIVED, _SENT = "node_network_receive_bytes_total", "node_network_transmit_bytes_total"
_BONDS = "node_bonding_slaves"
_WAITING = {f"{what}_pressure_ratio": f"node_pressure_{what}_waiting_seconds_total" for what in ("cpu", "memory", "io")}
_METERS = ("node_hwmon_power_average_watt", "node_hwmon_power_input_watt")
_SENSOR, _CHIP = "node_hwmon_sensor_label", "node_hwmon_chip_names"

_SERIES = CPU_SERIES | {
    _UNAME, _OS, _DMI, _TIME, _BOOTED, _LOAD, _TOTAL, _AVAILABLE, _SWAP, _SWAP_FREE, _DISK, _DISK_FREE, _READ, _WRITTEN,
    _RECEIVED, _SENT, _BONDS, *_WAITING.values(), *_METERS, _SENSOR, _CHIP,
}  # fmt: skip

_STACKED_DISK = re.compile(
    r"(?:dm-|md|loop|z?ram|sr|fd|drbd|bcache|zd)\d.*|(?:[hsv]|xv)d[a-z]+\d+|(?:nvme\d+n|mmcblk)\d+p\d+|nvme\d+c\d+n\d+"
)
"""Partitions, and what stands on other disks: their bytes are counted on the disk itself."""

_VIRTUAL_INTERFACE = re.compile(
    r"(?:veth|docker|br-|virbr|cni|cali|flannel|cilium|lxc|vxlan|geneve|kube|nodelocaldns|tunl|tun|tap|ifb|dummy|wg|"
    r"bond|team|vlan|macvlan|sit|gre|ovs|ip6tnl|tailscale|zt).*|lo|br\d+|.*[.@].*"
)
"""Loopback, and what stands on other interfaces."""

_SAME_BOOT_SECONDS = 5.0  # the kernel computes the instant anew, from two clocks
_MOST_WATTS = 1e6
_YEAR_5000 = 95_617_584_000


@dataclass(frozen=True, slots=True)
class _Before:
    """What the look before showed."""

    seconds: float
    booted_at: float | None
    ticks: Ticks
    waited: Mapping[str, float]


class NodeReader:
    """One node_exporter."""

    def __init__(self) -> None:
        self._before: _Before | None = None
        self._sockets = SocketsReader()
        self._said: list[Reading] = []

    def read(self, look: Look) -> list[Reading]:
        """The host, and its sockets; the same again when the page is that of the look before."""
        now = _Before(
            seconds=_one(look.page, _TIME) or look.at_ms / 1000,
            booted_at=_one(look.page, _BOOTED),
            ticks=clock_ticks(look.page),
            waited={name: waited for name, of in _WAITING.items() if (waited := _one(look.page, of)) is not None},
        )
        if self._before is None or now.seconds != self._before.seconds:
            self._said = list(self._read(look, now))
            self._before = now
        return self._said

    def _read(self, look: Look, now: _Before) -> Iterator[Reading]:
        page = look.page
        before = self._comparable(now)
        elapsed = now.seconds - before.seconds if before else None
        uname = _about(page, _UNAME)
        host = machine({"hostname": said(uname, "nodename")}, look)
        values = {**_values(page), **_shares(before, now, elapsed)}
        if any(value is not None for value in values.values()):
            labels = _labels(page, uname, len(now.ticks))
            yield Entity(observed_at_ms=look.at_ms, family=HostSample.family, key=host, host=host, labels=labels)
            yield HostSample(key=host, observed_at_ms=look.at_ms, **values)
        ticks = before.ticks if before else {}
        yield from self._sockets.read(page, host, look.at_ms, before=ticks, now=now.ticks, seconds=elapsed)

    def _comparable(self, now: _Before) -> _Before | None:
        """What can be counted from: nothing at the first look, after a start of the machine, or a clock set back."""
        before = self._before
        if before is None or now.seconds < before.seconds:
            return None
        if abs((now.booted_at or 0.0) - (before.booted_at or 0.0)) > _SAME_BOOT_SECONDS:
            return None
        return before


NODE = Dialect(
    name="node_exporter",
    marks=("\nnode_exporter_build_info", "\nnode_cpu_seconds_total", "\nnode_rapl_", "\nnode_hwmon_"),
    series=_SERIES,
    reader=NodeReader,
)


def _values(page: Page) -> Values:
    """What the page tells by itself."""
    total, available = _one(page, _TOTAL), _one(page, _AVAILABLE)
    swap, swap_free = _one(page, _SWAP), _one(page, _SWAP_FREE)
    disk, disk_free = _root(page, _DISK), _root(page, _DISK_FREE)
    return {
        "load_1m": _one(page, _LOAD),
        "memory_used_bytes": _used(total, available),
        "memory_total_bytes": _whole(total),
        "swap_used_bytes": _used(swap, swap_free),
        "disk_used_bytes": _used(disk, disk_free),
        "disk_total_bytes": _whole(disk),
        "disk_read_bytes_total": _sum(_disks(page, _READ)),
        "disk_written_bytes_total": _sum(_disks(page, _WRITTEN)),
        "network_rx_bytes_total": _sum(_interfaces(page, _RECEIVED)),
        "network_tx_bytes_total": _sum(_interfaces(page, _SENT)),
        "node_power_watts": _node_watts(page),
    }


def _shares(before: _Before | None, now: _Before, elapsed: float | None) -> Values:
    """What needs an earlier look to count from."""
    if before is None or not elapsed:
        return {}
    busy, waiting = shares(before.ticks, now.ticks, sorted(now.ticks))
    pressures = {
        name: min((waited - before.waited[name]) / elapsed, 1.0)
        for name, waited in now.waited.items()
        if before.waited.get(name, math.inf) <= waited
    }
    return {"cpu_utilization_ratio": busy, "cpu_iowait_ratio": waiting, **pressures}


def _one(page: Page, name: str) -> float | None:
    """A figure that a machine has once."""
    value = page.single(name)
    return value if value is not None and 0 <= value < math.inf else None


def _root(page: Page, name: str) -> float | None:
    """A figure of the file system that holds the root."""
    for point in page.points.get(name, ()):
        labels = point.series.labels
        if labels.get("mountpoint") == "/" and labels.get("fstype") != "rootfs" and 0 <= point.value < math.inf:
            return point.value
    return None


def _disks(page: Page, name: str) -> Iterator[Point]:
    """The points of whole disks that stand on no other."""
    return (p for p in page.points.get(name, ()) if not _STACKED_DISK.fullmatch(said(p.series.labels, "device")))


def _interfaces(page: Page, name: str) -> list[Point]:
    """The points of interfaces that stand on no other; of all but loopback where there are none, as in a container."""
    bonds = {said(point.series.labels, "master") for point in page.points.get(_BONDS, ())}
    named = [(said(point.series.labels, "device"), point) for point in page.points.get(name, ())]
    real = [p for device, p in named if device not in bonds and not _VIRTUAL_INTERFACE.fullmatch(device)]
    return real or [point for device, point in named if device != "lo"]


def _node_watts(page: Page) -> float | None:
    """Power of the whole machine, where exactly one meter says that it measures that; 0 W is none."""
    labels = {_sensor(p.series.labels): said(p.series.labels, "label") for p in page.points.get(_SENSOR, ())}
    chips = {said(p.series.labels, "chip"): said(p.series.labels, "chip_name") for p in page.points.get(_CHIP, ())}
    meters: dict[tuple[str, str], float] = {}
    for point in (point for name in _METERS for point in page.points.get(name, ())):
        meter = _sensor(point.series.labels)
        label = labels.get(meter, "")
        if WHOLE_NODE.match(label) or (not label and chips.get(meter[0]) == "power_meter"):
            meters.setdefault(meter, point.value)
    (watts,) = meters.values() if len(meters) == 1 else (math.nan,)
    return watts if 0 < watts < _MOST_WATTS else None


def _sensor(labels: Mapping[str, str]) -> tuple[str, str]:
    return said(labels, "chip"), said(labels, "sensor")


def _labels(page: Page, uname: Mapping[str, str], cpus: int) -> dict[str, str]:
    dmi = _about(page, _DMI)
    memory, booted_at = _one(page, _TOTAL), _one(page, _BOOTED) or 0.0
    return known(
        {
            "hostname": said(uname, "nodename"),
            "os": said(_about(page, _OS), "pretty_name"),
            "kernel": said(uname, "release"),
            "architecture": said(uname, "machine"),
            "model": f"{said(dmi, 'system_vendor')} {said(dmi, 'product_name')}".strip(),
            "cpus": str(cpus or ""),
            "memory_bytes": str(_whole(memory) or ""),
            "booted_at": datetime.fromtimestamp(booted_at, UTC).isoformat() if 0 < booted_at < _YEAR_5000 else "",
        }
    )


def _about(page: Page, name: str) -> Mapping[str, str]:
    """The labels of a series that only has labels."""
    points = page.points.get(name)
    return points[0].series.labels if points else {}


def _sum(points: Iterable[Point]) -> float | None:
    values = [point.value for point in points if 0 <= point.value < math.inf]
    return math.fsum(values) if values else None


def _used(total: float | None, free: float | None) -> int | None:
    return None if total is None or free is None or free > total else round(total - free)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
