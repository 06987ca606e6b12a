"""CPU energy from RAPL through ``powercap``: packages summed per socket, wrap-around removed.

Both Intel and AMD appear as ``intel-rapl:N``. Only ``package-*`` and, apart, ``dram`` are read: ``core``
and ``uncore`` are inside the package, ``psys`` contains it, and ``intel-rapl-mmio`` repeats it. AMD's
figures come from a model in the CPU and leave out part of the I/O die. No container has its own.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from collectors.sources.machine.kernel import read_int, read_text

DEFAULT_ROOT = Path("/sys/class/powercap")
LEAST_POWER_SECONDS = 0.1  # the register moves every millisecond: shorter steps give noise
CEILING_WATTS = 1000.0  # no package draws more; TDPs end at 500 W

_PACKAGE = re.compile(r"package-(\d+)(-die-\d+)?")
_MICRO = 1e-6


@dataclass(frozen=True, slots=True)
class SocketEnergy:
    """What one socket used. Totals count from the first reading; power is the mean since the one before."""

    energy_joules_total: float | None
    power_watts: float | None
    dram_energy_joules_total: float | None


@dataclass(frozen=True, slots=True)
class Access:
    """Whether energy can be read, and else why not and what to do."""

    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Zone:
    energy: Path
    range_uj: int


class _Domain:
    """The zones of one socket that are added up (two in a part with two dies)."""

    def __init__(self) -> None:
        self.zones: list[_Zone] = []
        self._raw: list[int] = []
        self._read_at = 0.0
        self._joules_total = 0.0
        self._power_from: tuple[float, float] | None = None  # time and total that the next power counts from

    def advance(self, now: float) -> tuple[float | None, float | None]:
        """Energy since the first reading (J) and mean power (W); unknown when a zone cannot be read."""
        raw = [value for zone in self.zones if (value := read_int(zone.energy)) is not None]
        if not self.zones or len(raw) < len(self.zones):
            return None, None
        rise = self._rise(raw, now) if self._raw else None
        self._raw, self._read_at = raw, now
        if rise is None:
            self._joules_total, self._power_from = 0.0, (now, 0.0)
            return 0.0, None
        self._joules_total += rise
        return self._joules_total, self._power(now)

    def _rise(self, raw: list[int], now: float) -> float | None:
        """Joules since the last reading; ``None`` when the registers may have wrapped more than once.

        The total then begins again at zero, which every reader of a counter takes for a restart: what
        was used in between is unknown, and a guess would be wrong by whole ranges.
        """
        seconds = now - self._read_at
        steps = [
            new - old if new >= old else new - old + zone.range_uj
            for new, old, zone in zip(raw, self._raw, self.zones, strict=True)
        ]
        most = CEILING_WATTS * max(seconds, LEAST_POWER_SECONDS)
        sure = all(step * _MICRO <= most < zone.range_uj * _MICRO for step, zone in zip(steps, self.zones, strict=True))
        return sum(steps) * _MICRO if sure else None

    def _power(self, now: float) -> float | None:
        if self._power_from is None or now - self._power_from[0] < LEAST_POWER_SECONDS:
            return None
        since, joules = self._power_from
        self._power_from = (now, self._joules_total)
        return (self._joules_total - joules) / (now - since)


class RaplReader:
    """All packages below one powercap root. ``clock`` is in seconds and never steps back."""

    def __init__(self, root: Path = DEFAULT_ROOT, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._packages: dict[int, _Domain] = {}
        self._dram: dict[int, _Domain] = {}

    def discover(self, *, container: bool, virtual: bool) -> Access:
        """Find the packages anew; totals begin again at zero."""
        self._packages, self._dram = defaultdict(_Domain), defaultdict(_Domain)
        for path in self._package_paths():
            package = _PACKAGE.fullmatch(read_text(path / "name") or "")
            if package:
                self._add(self._packages[int(package[1])], path)
                for part in self._subzones(path):
                    if read_text(part / "name") == "dram":
                        self._add(self._dram[int(package[1])], part)
        refused = next((zone.energy for d in self._packages.values() for zone in d.zones if _refused(zone)), None)
        if refused is not None:
            return _denied(refused)
        if any(domain.zones for domain in self._packages.values()):
            return Access(ok=True)
        return self._missing(container, virtual)

    def read(self) -> dict[int, SocketEnergy]:
        """Energy and power by package number; the number is the socket's physical id."""
        now = self._clock()
        readings = {}
        for number, package in self._packages.items():
            joules, watts = package.advance(now)
            dram = self._dram[number].advance(now)[0] if number in self._dram else None
            readings[number] = SocketEnergy(joules, watts, dram)
        return readings

    def _package_paths(self) -> Iterator[Path]:
        """Top zones: flat in ``/sys/class/powercap``, one folder deeper in ``/sys/devices/virtual/powercap``."""
        found = {path.name: path for folder in (self._root / "intel-rapl", self._root) for path in _zones(folder, 1)}
        for name in sorted(found):
            yield found[name]

    def _subzones(self, package: Path) -> list[Path]:
        return [path for path in _zones(package, 2) if path.name.startswith(f"{package.name}:")]

    @staticmethod
    def _add(domain: _Domain, path: Path) -> None:
        range_uj = read_int(path / "max_energy_range_uj")
        if range_uj:
            domain.zones.append(_Zone(path / "energy_uj", range_uj))

    def _missing(self, container: bool, virtual: bool) -> Access:
        there = os.path.isdir(self._root)
        leads_nowhere = any(not os.path.isdir(path) for path in _zones(self._root, 1))
        if leads_nowhere or (there and container and not virtual):
            return _masked(self._root)
        if not there and self._root != DEFAULT_ROOT:
            return Access(False, f"there is no {self._root}", "correct collectors.powercap_root")
        if virtual:
            return Access(
                False,
                "this virtual machine is given no CPU energy counters",
                "measure on the physical host; inside the VM CPU power stays unknown",
            )
        return Access(
            False,
            f"the kernel offers no CPU energy counters in {self._root}",
            "on x86 load the driver with modprobe intel_rapl_msr (AMD since Linux 5.11)",
        )


def _denied(path: Path) -> Access:
    return Access(
        False,
        f"CPU energy is there, but only root may read {path} (CVE-2020-8694)",
        "give the collector CAP_DAC_READ_SEARCH (systemd: AmbientCapabilities=CAP_DAC_READ_SEARCH), or let its group "
        "read at every boot with a line in tmpfiles.d: "
        "z /sys/devices/virtual/powercap/intel-rapl/intel-rapl:*/energy_uj 0440 root GROUP",
    )


def _masked(root: Path) -> Access:
    return Access(
        False,
        f"CPU energy counters are hidden, as containers do by default: {root} leads to none",
        "mount the host's /sys/class/powercap and /sys/devices/virtual/powercap read-only below another prefix "
        '(/host/sys/...) and set collectors.powercap_root = "/host/sys/class/powercap"',
    )


def _zones(folder: Path, depth: int) -> list[Path]:
    """Zones of ``intel-rapl`` at a depth (1: packages), in a folder that may not be there."""
    pattern = re.compile(r"intel-rapl" + r":\d+" * depth)
    return [folder / name for name in _names(folder) if pattern.fullmatch(name)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _refused(zone: _Zone) -> bool:
    try:
        zone.energy.read_bytes()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
