"""The CPU sockets that node_exporter shows, as far as it tells which logical CPU, sensor and energy zone are whose.

Energy is what the kernel's RAPL counters say as they are, which start again at the end of their range, at 300 W after
a few minutes. The range is not exported. There are two, by the unit that the CPU counts in, and the value tells when it
must be the longer one; where it explains no step, or may have been passed unseen, the total begins again at zero and
what was used in between is unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from collectors.scrape.exposition import Page, Point
from collectors.sources.exporters.dialect import said
from collectors.sources.machine.kernel import summed, time_shares
from collectors.sources.machine.rapl import CEILING_WATTS, LEAST_POWER_SECONDS
from collectors.sources.machine.topology import socket_labels
from core.readings import CpuSample, Entity, Reading

Ticks = Mapping[str, tuple[int, ...]]
"""Clock ticks by ``cpu0``, ``cpu1``, …"""

RAPL_RANGES_JOULES = (65_532.610987, 262_143.328850)  # 2^32 steps of 15.258 and of 61.035 microjoules

_CPU_TIME = "node_cpu_seconds_total"
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # the columns of /proc/stat
_TICKS_PER_SECOND = 100
_INFO, _THROTTLES = "node_cpu_info", "node_cpu_package_throttles_total"
_CLOCKS = ("node_cpu_scaling_frequency_hertz", "node_cpu_frequency_hertz")
_TEMPERATURE, _SENSOR = "node_hwmon_temp_celsius", "node_hwmon_sensor_label"
_PACKAGE, _DRAM = "node_rapl_package_joules_total", "node_rapl_dram_joules_total"
_DIES = {f"node_rapl_package_{number}_die_joules_total": number for number in range(16)}

CPU_SERIES = frozenset((_CPU_TIME, _INFO, _THROTTLES, *_CLOCKS, _TEMPERATURE, _SENSOR, _PACKAGE, _DRAM, *_DIES))

_PACKAGE_SENSOR = re.compile(r"(?:Package|Physical) id (\d{1,3})")
_AMD_SENSORS = ("Tdie", "Tctl")  # Tctl may carry an offset for fan control
_ZONE = re.compile(r"intel-rapl:(\d{1,3})(?::\d+)?$")
_HOTTEST = 150.0
_HIGHEST_HERTZ = 1e10


def clock_ticks(page: Page) -> dict[str, tuple[int, ...]]:
    """Time of each logical CPU, in the ticks and the order of ``/proc/stat``."""
    ticks: dict[str, list[int]] = {}
    for series, seconds, _ in page.points.get(_CPU_TIME, ()):
        cpu, mode = series.labels.get("cpu", ""), series.labels.get("mode")
        if mode in _MODES and 0 <= seconds < math.inf:
            ticks.setdefault(f"cpu{cpu}", [0] * len(_MODES))[_MODES.index(mode)] = round(seconds * _TICKS_PER_SECOND)
    return {cpu: tuple(times) for cpu, times in ticks.items()}


def shares(before: Ticks, now: Ticks, cpus: Sequence[str]) -> tuple[float | None, float | None]:
    """Shares of time not idle, and idle while waiting for a disk, over those CPUs that were there before and are."""
    there = [cpu.removeprefix("cpu") for cpu in cpus if cpu in before and cpu in now]
    numbers = [int(cpu) for cpu in there if cpu.isdecimal()]
    return time_shares(summed(before, numbers), summed(now, numbers)) if numbers else (None, None)


@dataclass(slots=True)
class _Zones:
    """The energy zones of one package, added up from the first look."""

    raw: dict[str, float] = field(default_factory=dict)
    joules_total: float = 0.0

    def advance(self, raw: Mapping[str, float], seconds: float | None) -> tuple[float, float | None]:
        """Energy since the first look and mean power since the last, given what the zones show now."""
        steps = [_step(self.raw.get(zone), now, seconds) for zone, now in raw.items()]
        known = [step for step in steps if step is not None]
        self.raw = dict(raw)
        if seconds is None or len(known) < len(steps):
            self.joules_total = 0.0  # which every reader of a counter takes for a restart
            return 0.0, None
        self.joules_total += sum(known)
        return self.joules_total, sum(known) / seconds if seconds >= LEAST_POWER_SECONDS else None


def _step(before: float | None, now: float, seconds: float | None) -> float | None:
    """What a zone counted; ``None`` when that cannot be told for sure."""
    if before is None or seconds is None:
        return None
    whole = next((whole for whole in RAPL_RANGES_JOULES if max(before, now) <= whole), math.inf)
    step = now - before if now >= before else now - before + whole
    most = CEILING_WATTS * max(seconds, LEAST_POWER_SECONDS)
    return step if step <= most < whole else None


class SocketsReader:
    """The sockets of one machine."""

    def __init__(self) -> None:
        self._packages: dict[int, _Zones] = {}
        self._dram: dict[int, _Zones] = {}

    def read(
        self, page: Page, host: str, at_ms: int, *, before: Ticks, now: Ticks, seconds: float | None
    ) -> Iterator[Reading]:
        """Every socket.

        Args:
            page: with the series ``CPU_SERIES``.
            host: the name of the machine.
            at_ms: when the page was so.
            before: ticks at the last look; empty at the first.
            now: ticks at this one.
            seconds: between the two; ``None`` when there is none to count from.
        """
        infos = _infos(page)
        packages, dram = _zones(page)
        hot = _hottest(page)
        numbers = sorted({*infos, *packages, *hot, *_throttled(page)})
        if not numbers and now:
            numbers = [0]  # nothing tells them apart, as in most virtual machines
        amd = _amd_temperatures(page, len(numbers))
        clocks = _clocks(page)
        for place, number in enumerate(numbers):
            info = infos.get(number, ())
            cpus = [f"cpu{said(labels, 'cpu')}" for labels in info] if info or len(numbers) > 1 else sorted(now)
            energy, power = self._energy(self._packages, number, packages, seconds)
            known = [hertz for cpu, hertz in clocks.items() if cpu in cpus]
            key = f"{host}/socket {number}"
            labels = _labels(info) | ({"energy_source": "RAPL"} if number in packages else {})
            yield Entity(observed_at_ms=at_ms, family=CpuSample.family, key=key, host=host, labels=labels)
            yield CpuSample(
                key=key,
                observed_at_ms=at_ms,
                utilization_ratio=shares(before, now, cpus)[0],
                power_watts=power,
                energy_joules_total=energy,
                dram_energy_joules_total=self._energy(self._dram, number, dram, seconds)[0],
                temperature_celsius=hot.get(number, amd[place] if amd else None),
                frequency_hertz=fmean(known) if known else None,
            )

    @staticmethod
    def _energy(
        of: dict[int, _Zones], number: int, shown: Mapping[int, Mapping[str, float]], seconds: float | None
    ) -> tuple[float | None, float | None]:
        raw = shown.get(number)
        return of.setdefault(number, _Zones()).advance(raw, seconds) if raw else (None, None)


def _infos(page: Page) -> dict[int, list[Mapping[str, str]]]:
    """The descriptions of the logical CPUs of each package, where node_exporter is asked for them."""
    packages: dict[int, list[Mapping[str, str]]] = {}
    for point in page.points.get(_INFO, ()):
        number = _number(point, "package")
        if number is not None:
            packages.setdefault(number, []).append(point.series.labels)
    return packages


def _throttled(page: Page) -> set[int]:
    """The packages that have a throttle counter: all, on Intel."""
    numbers = (_number(point, "package") for point in page.points.get(_THROTTLES, ()))
    return {number for number in numbers if number is not None}


def _zones(page: Page) -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
    """What the energy zones of each package show, J, and those of its memory."""
    packages: dict[int, dict[str, float]] = {}
    of_zone: dict[str, int] = {}
    for name, package in (*_DIES.items(), (_PACKAGE, None)):
        for point in _readable(page, name):
            number = _number(point, "index") if package is None else package
            if number is not None:
                packages.setdefault(number, {})[f"{name} {said(point.series.labels, 'index')}"] = point.value
                of_zone[_zone(point)] = number
    dram: dict[int, dict[str, float]] = {}
    for point in _readable(page, _DRAM):
        zone = _zone(point)
        owner = of_zone.get(zone) if zone else next(iter(packages), None) if len(packages) == 1 else None
        if owner is not None:
            dram.setdefault(owner, {})[said(point.series.labels, "path", "index")] = point.value
    return packages, dram


def _readable(page: Page, name: str) -> Iterator[Point]:
    """The zones of a kind; those of ``intel-rapl-mmio`` count the same energy again."""
    for point in page.points.get(name, ()):
        if "mmio" not in point.series.labels.get("path", "") and 0 <= point.value < math.inf:
            yield point


def _zone(point: Point) -> str:
    """The number of the package's zone, from the path; empty in releases that do not export it."""
    found = _ZONE.search(point.series.labels.get("path", ""))
    return found[1] if found else ""


def _labelled(page: Page) -> Iterator[tuple[str, str, float]]:
    """Chip, label and reading of every temperature sensor with a label, in °C."""
    names = {_sensor(point): said(point.series.labels, "label") for point in page.points.get(_SENSOR, ())}
    for point in page.points.get(_TEMPERATURE, ()):
        if 0 < point.value <= _HOTTEST:
            yield _sensor(point)[0], names.get(_sensor(point), ""), point.value


def _sensor(point: Point) -> tuple[str, str]:
    return said(point.series.labels, "chip"), said(point.series.labels, "sensor")


def _hottest(page: Page) -> dict[int, float]:
    """The temperature of each Intel package."""
    found: dict[int, float] = {}
    for _, label, value in _labelled(page):
        if package := _PACKAGE_SENSOR.fullmatch(label):
            found[int(package[1])] = max(value, found.get(int(package[1]), 0.0))
    return found


def _amd_temperatures(page: Page, sockets: int) -> list[float]:
    """The temperature of each AMD socket: one chip per node of it, in the order of their PCI addresses."""
    chips: dict[str, dict[str, float]] = {}
    for chip, label, value in _labelled(page):
        if label in _AMD_SENSORS:
            chips.setdefault(chip, {})[label] = value
    nodes = [
        next(readings[label] for label in _AMD_SENSORS if label in readings) for _, readings in sorted(chips.items())
    ]
    per_socket, rest = divmod(len(nodes), sockets) if sockets else (0, 0)
    if not per_socket or rest:
        return []
    return [max(nodes[first : first + per_socket]) for first in range(0, len(nodes), per_socket)]


def _clocks(page: Page) -> dict[str, float]:
    name = next((name for name in _CLOCKS if name in page.points), "")
    points = page.points.get(name, ())
    return {f"cpu{said(p.series.labels, 'cpu')}": p.value for p in points if 0 < p.value <= _HIGHEST_HERTZ}


def _labels(infos: Sequence[Mapping[str, str]]) -> dict[str, str]:
    if not infos:
        return {}
    cores = {said(labels, "core") for labels in infos}
    block = {
        "vendor_id": said(infos[0], "vendor"),
        "model name": said(infos[0], "model_name"),
        "cpu family": said(infos[0], "family"),
        "model": said(infos[0], "model"),
        "stepping": said(infos[0], "stepping"),
        "cpu cores": str(len(cores)),
    }
    return socket_labels([{name: text for name, text in block.items() if text}] * len(infos))


def _number(point: Point, label: str) -> int | None:
    text = said(point.series.labels, label)
    return int(text) if text.isdecimal() and len(text) < 4 else None
