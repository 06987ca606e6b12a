"""Energy from counters and from power samples, and what it becomes per token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.formulas.unknown import per
from core.units import JOULES_PER_KWH

Floats = NDArray[np.floating[Any]]

ENOUGH_COVERAGE = 0.95  # at or above: the observed energy stands for the window
LEAST_COVERAGE = 0.50  # below: no figure per token
SANE = (0.1, 10.0)  # counter over integrated power


class Quality(StrEnum):
    """How a figure came about, best first; a derived figure takes the worst of its inputs."""

    MEASURED = "measured"
    DERIVED = "derived"
    ESTIMATED = "estimated"
    MISSING = "missing"


def worst(*qualities: Quality) -> Quality:
    """The label of a figure made from figures with these labels."""
    return max(qualities, key=list(Quality).index)


@dataclass(frozen=True, slots=True)
class Observed:
    """Energy in joules over the seconds that were really observed."""

    joules: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Portions:
    """Energy in joules of successive stretches of time, each from ``begin`` to ``end`` (s)."""

    begin: Floats
    end: Floats
    joules: Floats

    def together(self) -> Observed | None:
        """All of them as one; ``None`` when there is none."""
        if not len(self.joules):
            return None
        return Observed(float(self.joules.sum()), float((self.end - self.begin).sum()))


def counter_steps(before: Floats, after: Floats) -> Floats:
    """What a counter of energy grew by in steps from one reading to the next (J); NaN where it was restarted."""
    rise: Floats = after - before
    return np.where(rise >= 0, rise, np.nan)


def power_steps(before: Floats, after: Floats, seconds: Floats, max_gap_seconds: Floats) -> Floats:
    """Trapezoids of steps from one power sample to the next (J); NaN where a step is a gap."""
    return np.where(seconds <= max_gap_seconds, (before + after) / 2 * seconds, np.nan)


def power_weights(seconds: Floats, max_gap_seconds: Floats) -> Floats:
    """For how long each of some power samples stands (s): half of either step beside it, but of a gap for nothing.

    Samples times these make the sum of their ``power_steps``.
    """
    near = np.where(seconds <= max_gap_seconds, seconds, 0.0)
    weights: Floats = (np.append(near, 0.0) + np.append(0.0, near)) / 2
    return weights


def counter_portions(at_seconds: Floats, joules_total: Floats) -> Portions:
    """What a device's energy counter grew by between readings.

    A step back is a restart: what was used in that step is unknown, so it is left out. Gaps in time do no
    harm, since the counter went on.
    """
    known = np.isfinite(joules_total)
    at, total = at_seconds[known], joules_total[known]
    rise = counter_steps(total[:-1], total[1:])
    sound = ~np.isnan(rise)
    return Portions(at[:-1][sound], at[1:][sound], rise[sound])


def power_portions(at_seconds: Floats, watts: Floats, max_gap_seconds: float | Floats) -> Portions:
    """Trapezoids between power samples; a step longer than ``max_gap_seconds`` is a gap, not energy.

    Args:
        at_seconds: instants, ascending.
        watts: of each; NaN is unknown.
        max_gap_seconds: one for all, or one for each instant: of the step that ends there.
    """
    known = np.isfinite(watts)
    at, power = at_seconds[known], watts[known]
    longest = np.broadcast_to(max_gap_seconds, known.shape)[known][1:]
    joules = power_steps(power[:-1], power[1:], np.diff(at), longest)
    near = ~np.isnan(joules)
    return Portions(at[:-1][near], at[1:][near], joules[near])


def from_counter(at_seconds: Floats, joules_total: Floats) -> Observed | None:
    """Increase of a device's energy counter (J) over the time its steps cover."""
    if np.count_nonzero(np.isfinite(joules_total)) < 2:
        return None
    return counter_portions(at_seconds, joules_total).together() or Observed(0.0, 0.0)


def from_power(at_seconds: Floats, watts: Floats, max_gap_seconds: float | Floats) -> Observed | None:
    """Integrated power (J) over the time its trapezoids cover."""
    if np.count_nonzero(np.isfinite(watts)) < 2:
        return None
    return power_portions(at_seconds, watts, max_gap_seconds).together() or Observed(0.0, 0.0)


def counter_is_sane(counted_watts: Floats, sampled_watts: Floats) -> NDArray[np.bool_]:
    """Whether counters tell the same story as the power samples beside them, within a factor of ten.

    Where there are no power samples (NaN or 0) there is nothing to doubt a counter by.
    """
    doubtful = (sampled_watts > 0) & (
        (counted_watts < SANE[0] * sampled_watts) | (counted_watts > SANE[1] * sampled_watts)
    )
    return ~doubtful


def max_gap_seconds(interval_seconds: float | Floats) -> Floats:
    """Longest step between power samples that still makes a trapezoid."""
    longest: Floats = np.maximum(3 * np.asarray(interval_seconds, "float64"), 30.0)
    return longest


def filled_joules(
    joules: Floats, seconds: Floats, window_seconds: Floats, assumed_watts: Floats | None = None
) -> Floats:
    """Observed energy plus the gap at an assumed power, by default the mean power observed (J)."""
    filled: Floats = joules + (joules / seconds if assumed_watts is None else assumed_watts) * (
        window_seconds - seconds
    )
    return filled


def stands_for(
    joules: Floats, seconds: Floats, interval_seconds: Floats, window_seconds: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Energy of a window by what was observed of it: as it is, or filled where neither enough nor too little was seen.

    Args:
        joules: as observed; NaN is unknown.
        seconds: that they cover.
        interval_seconds: between samples: the newest may be one of these old.
        window_seconds: of each.

    Returns:
        joules; the part of the window that was observed (0 to 1), 0 where nothing is known; whether they were filled.
    """
    coverage = np.nan_to_num(np.minimum((seconds + interval_seconds) / window_seconds, 1.0))
    is_filled = (coverage >= LEAST_COVERAGE) & (coverage < ENOUGH_COVERAGE)
    return np.where(is_filled, filled_joules(joules, seconds, window_seconds), joules), coverage, is_filled


def facility_kwh(joules: float, pue_ratio: float | None) -> float:
    """Energy at the meter (kWh); without a PUE it is the energy of the equipment alone."""
    return joules / JOULES_PER_KWH * (1.0 if pue_ratio is None else pue_ratio)


def joules_per_token(joules: float | None, tokens: float | None) -> float | None:
    """Energy per token (J); ``None`` when a side is unknown or there were no tokens."""
    return per(joules, tokens)
