"""The machine as a whole: CPU time, memory, disks, network, pressure, and power where a meter shows it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from collectors.base import Availability, now_ms
from collectors.sources.machine.cgroup import limits
from collectors.sources.machine.hwmon import node_power_sensor
from collectors.sources.machine.kernel import (
    cpu_times,
    in_container,
    is_virtual,
    machine_model,
    read_int,
    read_text,
    time_shares,
)
from core.errors import SourceUnavailable
from core.readings import Entity, HostSample, Reading

Values = Mapping[str, float | None]

_UNREADABLE = (OSError, ValueError, RuntimeError, psutil.Error)  # NotImplementedError is a RuntimeError
_NVME_PATH = re.compile(r"(nvme\d+)c\d+(n\d+)")  # one of the ways to the disk nvme0n1
_PRESSURE = re.compile(r"^some avg10=([\d.]+)", re.MULTILINE)
_CRAY_POWER = re.compile(r"(\d+) W(?: (\d+) us)?")


class HostSource:
    """This machine, from psutil and, where psutil is silent, ``/proc`` and ``/sys``.

    psutil finds procfs by its own ``PROCFS_PATH``. It always shows the host, also inside a container:
    limits of the container are labels.

    Args:
        host: the name this machine goes by.
        proc: where procfs is.
        sys: where sysfs is.
    """

    name = "host"

    def __init__(self, host: str, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._host = host
        self._proc = proc
        self._sys = sys
        self._forget()

    def _forget(self) -> None:
        self._ticks_before: tuple[int, ...] = ()
        self._power_sensor: Path | None = None
        self._power_stamp: str | None = None
        self._to_describe = True

    def discover(self) -> Availability:
        """There is always a machine; without Linux, little is known about it."""
        self._forget()
        self._power_sensor = node_power_sensor(self._sys)
        if not os.path.exists(self._proc / "stat"):
            return Availability(True, f"no {self._proc}: CPU time and pressure need Linux", "", (self._host,))
        return Availability(True, entities=(self._host,))

    def collect(self) -> Iterator[Reading]:
        """One sample; what cannot be read stays unknown. CPU shares need an earlier tick to count from.

        Raises:
            SourceUnavailable: nothing at all can be read.
        """
        at_ms = now_ms()
        values: dict[str, Any] = {}
        for part in (
            self._cpu,
            _load,
            _memory,
            _swap,
            _root_disk,
            self._disks,
            self._network,
            self._pressure,
            self._power,
        ):
            with suppress(*_UNREADABLE):
                values.update(part())
        if all(value is None for value in values.values()):
            raise SourceUnavailable(f"nothing can be read of this machine in {self._proc}")
        if self._to_describe:
            self._to_describe = False
            yield Entity(observed_at_ms=at_ms, family="host", key=self._host, host=self._host, labels=self._labels())
        yield HostSample(key=self._host, observed_at_ms=at_ms, **values)

    def close(self) -> None:
        """Nothing is held open."""

    def _cpu(self) -> Values:
        ticks = cpu_times(self._proc)["cpu"]
        before, self._ticks_before = self._ticks_before, ticks
        busy, waiting = time_shares(before, ticks) if before else (None, None)
        return {"cpu_utilization_ratio": busy, "cpu_iowait_ratio": waiting}

    def _disks(self) -> Values:
        """Whole physical disks: no partitions, and nothing stacked on them (LVM, RAID, loops)."""
        counters = psutil.disk_io_counters(perdisk=True)
        paths: dict[str, list[str]] = {}
        for name in counters:
            disk = _NVME_PATH.sub(r"\1\2", name)
            paths.setdefault(disk, []).extend([name] if name != disk else [])
        disks = [disk for disk in paths if disk in counters and self._has_device("block", disk.replace("/", "!"))]
        if not disks:
            return {}

        def total(how: str) -> int:
            # Older kernels count a multipath disk on its paths alone, newer ones on both: the larger is right.
            of = {name: getattr(io, how) for name, io in counters.items()}
            return sum(max(of[disk], sum(of[path] for path in paths[disk])) for disk in disks)

        return {"disk_read_bytes_total": total("read_bytes"), "disk_written_bytes_total": total("write_bytes")}

    def _network(self) -> Values:
        """Physical interfaces, so that a bridge or tunnel does not count again; inside a container, all it has."""
        counters = psutil.net_io_counters(pernic=True)
        names = [name for name in counters if name != "lo"]
        physical = [
            name
            for name in names
            # A master with a device of its own counts for its parts (accelerated networking in clouds).
            if self._has_device("class/net", name) and not self._has_device("class/net", f"{name}/master")
        ]
        seen = [counters[name] for name in physical or names]
        return {
            "network_rx_bytes_total": sum(io.bytes_recv for io in seen),
            "network_tx_bytes_total": sum(io.bytes_sent for io in seen),
        }

    def _has_device(self, folder: str, name: str) -> bool:
        return os.path.exists(self._sys / folder / name / "device")

    def _pressure(self) -> Values:
        texts = {what: read_text(self._proc / "pressure" / what) or "" for what in ("cpu", "memory", "io")}
        found = {what: _PRESSURE.search(text) for what, text in texts.items()}
        return {f"{what}_pressure_ratio": float(match[1]) / 100 for what, match in found.items() if match}

    def _power(self) -> Values:
        """Power of the node; 0 W is how meters say that they measure nothing."""
        watts = self._cray_watts()
        if watts is None and self._power_sensor is not None:
            watts = (read_int(self._power_sensor) or 0) / 1e6
        return {"node_power_watts": watts or None}

    def _cray_watts(self) -> float | None:
        """HPE Cray EX: ``495 W 1784929200356706 us``. A stamp that stands still is a meter that does."""
        found = _CRAY_POWER.match(read_text(self._sys / "cray/pm_counters/power") or "")
        if found is None or (found[2] and found[2] == self._power_stamp):
            return None
        self._power_stamp = found[2]
        return float(found[1])

    def _labels(self) -> dict[str, str]:
        allowed = limits(self._proc, self._sys)
        facts: dict[str, Callable[[], object]] = {
            "hostname": platform.node,
            "os": lambda: platform.freedesktop_os_release()["PRETTY_NAME"],
            "kernel": platform.release,
            "architecture": platform.machine,
            "model": lambda: machine_model(self._sys),
            "cpus": psutil.cpu_count,
            "memory_bytes": lambda: psutil.virtual_memory().total,
            "booted_at": lambda: datetime.fromtimestamp(psutil.boot_time(), UTC).isoformat(),
            "container": lambda: "yes" if in_container(self._proc) else "",
            "virtual_machine": lambda: "yes" if is_virtual(self._proc, self._sys) else "",
            "allowed_cpus": lambda: allowed.cpus and f"{allowed.cpus:g}",
            "allowed_memory_bytes": lambda: allowed.memory_bytes,
        }
        labels = {}
        for label, ask in facts.items():
            with suppress(*_UNREADABLE, KeyError):
                labels[label] = str(ask() or "")
        return {label: value for label, value in labels.items() if value}


def _load() -> Values:
    return {"load_1m": psutil.getloadavg()[0]}


def _memory() -> Values:
    memory = psutil.virtual_memory()
    return {"memory_used_bytes": memory.total - memory.available, "memory_total_bytes": memory.total}


def _swap() -> Values:
    return {"swap_used_bytes": psutil.swap_memory().used}


def _root_disk() -> Values:
    disk = psutil.disk_usage("/")
    return {"disk_used_bytes": disk.used, "disk_total_bytes": disk.total}
