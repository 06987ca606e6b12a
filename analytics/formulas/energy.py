"""Energy from counters and from power samples, and what it becomes per token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.units import JOULES_PER_KWH

Floats = NDArray[np.floating[Any]]

ENOUGH_COVERAGE = 0.95  # at or above: the observed energy stands for the window
LEAST_COVERAGE = 0.50  # below: no figure per token


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


def from_counter(at_seconds: Floats, joules_total: Floats) -> Observed | None:
    """Increase of a device's energy counter (J).

    A step back is a restart: what was used in that step is unknown, so it is left out and its time
    counts as not observed. Gaps in time do no harm, since the counter went on.
    """
    known = np.isfinite(joules_total)
    at, total = at_seconds[known], joules_total[known]
    if len(at) < 2:
        return None
    rise, seconds = np.diff(total), np.diff(at)
    sound = rise >= 0
    return Observed(float(rise[sound].sum()), float(seconds[sound].sum()))


def from_power(at_seconds: Floats, watts: Floats, max_gap_seconds: float) -> Observed | None:
    """Trapezoids over power samples (J); a step longer than ``max_gap_seconds`` is a gap, not energy."""
    known = np.isfinite(watts)
    at, power = at_seconds[known], watts[known]
    if len(at) < 2:
        return None
    seconds = np.diff(at)
    joules = (power[1:] + power[:-1]) / 2 * seconds
    near = seconds <= max_gap_seconds
    return Observed(float(joules[near].sum()), float(seconds[near].sum()))


def max_gap_seconds(interval_seconds: float) -> float:
    """Longest step between power samples that still makes a trapezoid."""
    return max(3 * interval_seconds, 30.0)


def filled_joules(observed: Observed, window_seconds: float, assumed_watts: float | None = None) -> float:
    """Observed energy plus the gap at an assumed power, by default the mean power observed (J)."""
    if assumed_watts is None:
        assumed_watts = observed.joules / observed.seconds
    return observed.joules + assumed_watts * (window_seconds - observed.seconds)


def facility_kwh(joules: float, pue_ratio: float | None) -> float:
    """Energy at the meter (kWh); without a PUE it is the energy of the equipment alone."""
    return joules / JOULES_PER_KWH * (1.0 if pue_ratio is None else pue_ratio)


def joules_per_token(joules: float | None, tokens: float | None) -> float | None:
    """Energy per token (J); ``None`` when a side is unknown or there were no tokens."""
    if joules is None or not tokens:
        return None
    return joules / tokens
