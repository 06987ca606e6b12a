"""What the tables of one AMD GPU say, in SI units: pure functions, and two counters that need memory.

A table is the dict of ``amdsmi_get_gpu_metrics_info`` (one firmware snapshot). Nothing here talks to a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from collectors.sources.amd.rocm import Number, known, within
from core.readings import Throttle
from core.units import KIB, MIB

Table = Mapping[str, Any]

MAX_WATTS = 10_000
MAX_CELSIUS = 150
MEGA = 1_000_000

JOULES_PER_COUNT = 2.0**-16
"""What firmware counts energy in (15.259 µJ). The library's own resolution is this, rounded to 15.3: 0.3 % too much."""

JITTER_JOULES = 1000.0
"""A smaller step back of the energy counter is jitter, not a restart.

On MI300A the counter has been seen to fall by some 200 J and go on from there. A reader takes any fall for a
restart and would count everything since driver load a second time. Holding the highest value instead costs
nothing but a flat second or two. A true restart hidden that way cannot hide more than these 1000 J.
"""

_GENERATION_OF_SPEED = {2_500: 1, 5_000: 2, 8_000: 3, 16_000: 4, 32_000: 5, 64_000: 6}  # MT/s per lane

_RESIDENCIES = {
    "ppt_residency_acc": Throttle.POWER_CAP,
    "socket_thm_residency_acc": Throttle.SOFTWARE_THERMAL,  # firmware's own loop around the temperature limit
    "hbm_thm_residency_acc": Throttle.MEMORY_THERMAL,
    "vr_thm_residency_acc": Throttle.REGULATOR_THERMAL,
    "prochot_residency_acc": Throttle.PROCHOT,
}
_POWER, _BRAKE = "ppt_residency_acc", "prochot_residency_acc"
_THERMAL = ("socket_thm_residency_acc", "hbm_thm_residency_acc", "vr_thm_residency_acc")

# Bits of indep_throttle_status, the same for every ASIC (amdgpu_smu.h: SMU_THROTTLER_…_BIT).
_THROTTLER_BITS = (
    (range(8), Throttle.POWER_CAP),  # package power limits
    (range(16, 24), Throttle.POWER_CAP),  # current limits of the rails
    ((32, 33, 35, 36, 37, 42, 43), Throttle.SOFTWARE_THERMAL),  # core, edge, hotspot, SoC, liquid
    ((34,), Throttle.MEMORY_THERMAL),
    (range(38, 42), Throttle.REGULATOR_THERMAL),
    ((44, 45), Throttle.REGULATOR_THERMAL),  # VRHOT pins
    ((46, 47), Throttle.PROCHOT),
    ((56,), Throttle.POWER_CAP),  # PPM, the platform's power limit
    ((57,), Throttle.HARDWARE_SLOWDOWN),  # FIT, reliability of the silicon
)


def ratio(percent: object) -> float | None:
    """Percent of 0 to 100 as a ratio; firmware writes more than 100 where it has nothing to say."""
    number = within(percent, 0, 100)
    return None if number is None else number / 100


def watts(*candidates: object) -> float | None:
    """The first reading that is a power in watts.

    Which of the keys a board fills depends on its generation. 0 W is never a measurement: a chip that answers
    draws something. It is what an MI350X says until its first snapshot, the second die of an MI250X and, in some
    releases, every partition but the first.
    """
    return next((float(number) for value in candidates if (number := within(value, 1, MAX_WATTS)) is not None), None)


def power_cap_watts(cap: object) -> float | None:
    """The power cap, which libraries before ROCm 6.1.2 and some hosts give in W, all others in µW."""
    number = known(cap)
    if number is not None and number > MAX_WATTS:
        number /= MEGA
    return watts(number)


def celsius(*candidates: object) -> float | None:
    """The highest of some sensors; 0 °C is what a table holds before firmware filled it."""
    return max((float(n) for value in candidates if (n := within(value, 1, MAX_CELSIUS)) is not None), default=None)


def hertz(*megahertz: object) -> float | None:
    """The mean of some clocks in MHz; unused places of an array are left out."""
    clocks = [number * MEGA for value in megahertz if (number := known(value)) is not None]
    return fmean(clocks) if clocks else None


def mebibytes(value: object) -> int | None:
    """What the library calls MB is 2^20 bytes."""
    number = known(value)
    return None if number is None else int(number * MIB)


def link_bytes(kilobytes: object) -> float | None:
    """The sum over all links of an accumulated KB array, in bytes."""
    links = [number for value in _items(kilobytes) if (number := known(value)) is not None]
    return float(sum(links) * KIB) if links else None


def pcie_generation(megatransfers: object) -> int | None:
    """PCIe generation of a lane's speed in MT/s."""
    number = known(megatransfers)
    return None if number is None else _GENERATION_OF_SPEED.get(int(number))


def whole(value: object) -> int | None:
    """A known count."""
    number = known(value)
    return None if number is None else int(number)


def utilization_ratio(table: Table) -> float | None:
    """Mean busy time of the compute dies; from the dies themselves where the summary is missing."""
    summary = ratio(table.get("average_gfx_activity"))
    if summary is not None:
        return summary
    partitions = _items(table.get("xcp_stats.gfx_busy_inst"))
    dies = [busy for partition in partitions for value in _items(partition) if (busy := ratio(value)) is not None]
    return fmean(dies) if dies else None


def core_clock_hertz(table: Table) -> float | None:
    """Mean graphics clock: one per compute die from MI300 on, a single one before."""
    mean = hertz(*_items(table.get("current_gfxclks")))
    return hertz(table.get("current_gfxclk")) if mean is None else mean


def memory_celsius(table: Table) -> float | None:
    """Hottest HBM stack, or the one memory sensor."""
    return celsius(table.get("temperature_mem"), *_items(table.get("temperature_hbm")))


def independent_reasons(bits: int) -> Throttle:
    """The throttler bits of boards before MI300, in our vocabulary."""
    reasons = Throttle(0)
    for places, reason in _THROTTLER_BITS:
        if any(bits >> place & 1 for place in places):
            reasons |= reason
    return reasons


def retired_pages(pages: object, reserved: int | None) -> int | None:
    """Pages that were taken out of use; pending and unreservable ones still are in use."""
    if not isinstance(pages, list) or reserved is None:
        return None
    return sum(1 for page in pages if page["status"] == reserved)


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


class EnergyCounter:
    """The energy counter of one board, with its known faults taken out."""

    def __init__(self) -> None:
        self._counts: Number | None = None
        self._joules = 0.0

    def joules(self, energy: Table, power_watts: float | None) -> float | None:
        """Energy since driver load in J, from ``amdsmi_get_energy_count``.

        Unknown while the counter stands still although the board draws power: on MI100 it can be stuck
        until the next boot, and a flat counter would say that the work cost nothing.
        """
        counts = known(energy.get("energy_accumulator", energy.get("power")))  # "power" before ROCm 6.2.1
        microjoules = known(energy.get("counter_resolution"))
        if not counts or not microjoules:
            return None
        before, self._counts = self._counts, counts
        if counts == before and power_watts is not None:
            return None
        exact = abs(microjoules / MEGA / JOULES_PER_COUNT - 1) < 0.01
        joules = counts * (JOULES_PER_COUNT if exact else microjoules / MEGA)
        if not self._joules - JITTER_JOULES < joules < self._joules:
            self._joules = joules
        return self._joules


@dataclass(frozen=True, slots=True)
class Throttling:
    """Why and for how long the clocks of one board were held down."""

    reasons: int | None = None
    power_seconds: float | None = None
    thermal_seconds: float | None = None
    brake_seconds: float | None = None


class ThrottleCounter:
    """Seconds held down, from the residencies that firmware accumulates (MI300 and later).

    A residency grows by one in each accumulation cycle in which its limiter was at work, so its growth over
    that of ``accumulation_counter`` is a share of the time between two snapshots. This is what the library's
    violation status measures too, but that call waits for two snapshots of its own (100 ms and more).
    """

    def __init__(self) -> None:
        self._before: dict[str, Number] = {}
        self._before_seconds = 0.0
        self._power = self._thermal = self._brake = 0.0

    def update(self, table: Table, seconds: float) -> Throttling:
        """Take in a snapshot made at ``seconds`` of a monotonic clock."""
        now = {name: n for name in ("accumulation_counter", *_RESIDENCIES) if (n := known(table.get(name))) is not None}
        if "accumulation_counter" not in now:
            return Throttling()
        grown = {name: value - self._before.get(name, value) for name, value in now.items()}
        cycles = grown.pop("accumulation_counter")
        reasons = None
        if cycles > 0 and all(growth >= 0 for growth in grown.values()):
            elapsed = seconds - self._before_seconds
            held = {name: min(1.0, growth / cycles) * elapsed for name, growth in grown.items()}
            self._power += held.get(_POWER, 0.0)
            # Limits can hold at the same time: the longest is the least that all of them took together.
            self._thermal += max(held.get(name, 0.0) for name in _THERMAL)
            self._brake += held.get(_BRAKE, 0.0)
            reasons = sum(_RESIDENCIES[name].value for name, growth in grown.items() if growth)
        if cycles or not self._before:  # the same snapshot again leaves its time to the next one
            self._before, self._before_seconds = now, seconds
        return Throttling(
            reasons,
            self._power if _POWER in now else None,
            self._thermal if any(name in now for name in _THERMAL) else None,
            self._brake if _BRAKE in now else None,
        )
