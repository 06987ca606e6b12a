"""A generated week of a GPU fleet: what every store of the comparison is given, value for value.

Modelled is the shape that decides how well numbers compress, not any particular workload:

- Jobs and pauses alternate. A job lasts 40 minutes and a pause 12 minutes on average, both exponentially
  distributed; a job has one level of load, around which the device wanders slowly, with a little noise on top.
- Power, SM activity, memory activity and PCIe rates follow the load, each with noise of its own. Temperature
  follows power with a time constant of 90 s, energy is the integral of power, the core clock gives way as power
  nears the limit, and time at the limit is counted.
- Every value has the resolution that a driver delivers: whole percents, milliwatts, millijoules, whole degrees,
  15 MHz, MiB, kB/s, microseconds.

Instants lie exactly on the grid, as if no collector were ever late. That is the best case for every store here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

BEGIN_MS = 1_767_571_200_000  # Monday 2026-01-05 00:00 UTC, a multiple of 8 h
METRICS = (
    "utilization_ratio",
    "memory_activity_ratio",
    "sm_active_ratio",
    "memory_used_bytes",
    "power_watts",
    "energy_joules_total",
    "temperature_celsius",
    "core_clock_hertz",
    "memory_clock_hertz",
    "pcie_rx_bytes_per_second",
    "pcie_tx_bytes_per_second",
    "throttle_power_seconds_total",
)

_MIB = 1 << 20
_IDLE_WATTS, _LIMIT_WATTS = 71.0, 700.0
_JOB_SECONDS, _PAUSE_SECONDS, _DEEP_PAUSE_SECONDS = 2400.0, 720.0, 1800.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Accelerators that are sampled every ``step_seconds`` for ``days``; the same seed gives the same numbers."""

    accelerators: int = 64
    days: int = 7
    step_seconds: int = 10
    seed: int = 1

    @property
    def ticks(self) -> int:
        """Samples of one metric of one accelerator."""
        return self.days * 86_400 // self.step_seconds

    @property
    def samples(self) -> int:
        """Numbers in all: accelerators x metrics x ticks."""
        return self.accelerators * len(METRICS) * self.ticks

    @property
    def end_ms(self) -> int:
        """One step after the last sample (Unix ms)."""
        return BEGIN_MS + self.ticks * self.step_seconds * 1000

    def key(self, accelerator: int) -> str:
        """UUID of an accelerator, as NVML spells it."""
        return f"GPU-{np.random.default_rng((self.seed, accelerator, 1)).bytes(16).hex()}"

    def times_ms(self) -> NDArray[np.int64]:
        """When every metric of every accelerator was sampled (Unix ms)."""
        return BEGIN_MS + np.arange(self.ticks, dtype=np.int64) * (self.step_seconds * 1000)

    def series(self, accelerator: int) -> dict[str, Series]:
        """All of ``METRICS`` for one accelerator, in base units, one value for each of ``times_ms``."""
        rng = np.random.default_rng((self.seed, accelerator))
        phase, level = self._phases(rng)
        busy = level > 0
        load = np.clip(level + busy * (self._wander(rng, 180) * 0.06 + rng.normal(0, 0.015, self.ticks)), 0, 1)
        memory_bound = rng.uniform(0.3, 0.8, phase[-1] + 1)[phase]

        watts = _IDLE_WATTS + load * (560 + 110 * memory_bound) + rng.normal(0, 1, self.ticks) * (0.4 + 9 * load)
        watts = np.round(np.minimum(watts, _LIMIT_WATTS - rng.exponential(1.5, self.ticks)), 3)
        pressure = np.clip((watts - 0.85 * _LIMIT_WATTS) / (0.15 * _LIMIT_WATTS), 0, 1)
        throttled = np.round(pressure**2 * rng.uniform(0.5, 1, self.ticks) * self.step_seconds, 6)
        clock_mhz = np.where(busy, 1980 - 300 * pressure - 20 * rng.random(self.ticks), 345)

        return {
            "utilization_ratio": self._percent(np.where(busy, load * 1.15, rng.random(self.ticks) < 0.01)),
            "memory_activity_ratio": self._percent(load * memory_bound + busy * rng.normal(0, 0.02, self.ticks)),
            "sm_active_ratio": np.round(np.clip(load * (0.9 + rng.normal(0, 0.03, self.ticks)), 0, 1), 4),
            "memory_used_bytes": self._memory(rng, phase, busy),
            "power_watts": watts,
            "energy_joules_total": np.round(rng.uniform(1e8, 1e9) + np.cumsum(watts * self.step_seconds), 3),
            "temperature_celsius": np.rint(27 + 0.063 * self._follow(watts, 90) + rng.normal(0, 0.25, self.ticks)),
            "core_clock_hertz": np.rint(clock_mhz / 15) * 15e6,
            "memory_clock_hertz": np.where(self._deep_pauses(phase, busy), 1593e6, 2619e6),
            "pcie_rx_bytes_per_second": self._rate(rng, load, 9e8),
            "pcie_tx_bytes_per_second": self._rate(rng, load, 3e8),
            "throttle_power_seconds_total": np.round(np.cumsum(throttled), 6),
        }

    def _phases(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], Series]:
        """Number of the job or pause at each tick, and its level of load (0 in a pause)."""
        count = 8 + 4 * int(self.ticks * self.step_seconds / (_JOB_SECONDS + _PAUSE_SECONDS))
        seconds = rng.exponential(np.where(np.arange(count) % 2, _PAUSE_SECONDS, _JOB_SECONDS))
        ends = np.cumsum(seconds) / self.step_seconds
        phase = np.searchsorted(ends, np.arange(self.ticks) + rng.uniform(0, _JOB_SECONDS / self.step_seconds))
        levels = np.where(np.arange(count) % 2, 0.0, rng.beta(4, 2, count).clip(0.15, 0.97))
        return phase - phase[0], levels[phase]

    def _deep_pauses(self, phase: NDArray[np.int64], busy: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where a pause has lasted so long that the device lowers its memory clock."""
        first = np.searchsorted(phase, phase)
        return ~busy & ((np.arange(self.ticks) - first) * self.step_seconds > _DEEP_PAUSE_SECONDS)

    def _memory(self, rng: np.random.Generator, phase: NDArray[np.int64], busy: NDArray[np.bool_]) -> Series:
        """A job's weights, and what it allocates now and then on top; little in a pause."""
        weights = rng.integers(9_000, 60_000, phase[-1] + 1)[phase]
        steps = np.where(rng.random(self.ticks) < 0.02, rng.integers(-400, 401, self.ticks), 0)
        held = np.clip(weights + np.cumsum(steps) % 12_000, 0, 81_000)
        return np.where(busy, held, 529).astype(np.float64) * _MIB

    def _rate(self, rng: np.random.Generator, load: Series, full: float) -> Series:
        """A sampled transfer rate: log-normal around the load's share of ``full``, now and then a few kB/s at idle."""
        busy = load * full * rng.lognormal(-0.3, 0.7, self.ticks)
        idle = rng.integers(0, 4, self.ticks) * (rng.random(self.ticks) < 0.3) * 1000
        return np.rint(np.where(load > 0, busy, idle) / 1000) * 1000

    def _wander(self, rng: np.random.Generator, seconds: float) -> Series:
        """Noise of unit variance that forgets over ``seconds``."""
        slow = self._follow(rng.normal(0, 1, self.ticks), seconds)
        return slow / slow.std()

    def _follow(self, values: Series, seconds: float) -> Series:
        """What trails ``values`` exponentially with this time constant."""
        span = int(6 * seconds / self.step_seconds)
        kernel = np.exp(-np.arange(span) * self.step_seconds / seconds)
        padded = np.concatenate([np.full(span - 1, values[0]), values])
        return np.convolve(padded, kernel / kernel.sum(), "valid")

    @staticmethod
    def _percent(share: Series | NDArray[np.bool_]) -> Series:
        """Whole percents, as ratios."""
        return np.rint(np.clip(share, 0, 1) * 100) / 100
