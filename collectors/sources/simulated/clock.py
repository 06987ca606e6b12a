"""Time in the simulated world: a week of ten-second ticks that repeats, counters over it, chance without state."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

TICK_SECONDS = 10
DAY_TICKS = 86_400 // TICK_SECONDS
WEEK_TICKS = 7 * DAY_TICKS
ORIGIN_MS = 1_704_067_200_000  # Monday 2024-01-01 00:00 UTC: here every counter began


@dataclass(frozen=True, slots=True)
class Position:
    """Instants as whole weeks since the origin, tick within the week, and fraction of that tick."""

    weeks: Floats
    tick: Integers
    fraction: Floats


def position(at_ms: Integers) -> Position:
    """Where instants (Unix ms) lie in the table."""
    weeks, within = np.divmod(at_ms - ORIGIN_MS, WEEK_TICKS * TICK_SECONDS * 1000)
    tick, rest = np.divmod(within, TICK_SECONDS * 1000)
    return Position(weeks.astype("float64"), tick, rest / (TICK_SECONDS * 1000))


class Counter:
    """A total since the origin; its rate (per second) is constant within a tick."""

    def __init__(self, per_second: Floats) -> None:
        self._before = np.concatenate(([0.0], np.cumsum(per_second * TICK_SECONDS)))

    def at(self, where: Position) -> Floats:
        """The total at each instant."""
        start, end = self._before[where.tick], self._before[where.tick + 1]
        total: Floats = where.weeks * self._before[-1] + start + (end - start) * where.fraction
        return total


def hour_of_day() -> Floats:
    """Hour (UTC, with its fraction) at the begin of each tick of the week."""
    hours: Floats = np.arange(WEEK_TICKS) * TICK_SECONDS / 3600 % 24
    return hours


def noise(seed: int, name: str, indices: Integers) -> Floats:
    """Evenly spread over [0, 1), the same for the same seed, name and index (SplitMix64)."""
    x = indices.astype("uint64") + np.uint64((seed << 32) ^ zlib.crc32(name.encode()))
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: Floats = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype("float64") / float(1 << 53)
    return spread


def wander(seed: int, name: str, knot_seconds: int) -> Floats:
    """A smooth line through one random knot after the other, within [-1, 1]; it closes over the week."""
    knots = np.arange(WEEK_TICKS * TICK_SECONDS // knot_seconds)
    heights = 2 * noise(seed, name, knots) - 1
    at = np.arange(WEEK_TICKS) * TICK_SECONDS / knot_seconds
    line: Floats = np.interp(at, np.append(knots, len(knots)), np.append(heights, heights[0]))
    return line
