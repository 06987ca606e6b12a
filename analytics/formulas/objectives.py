"""How far promises of latency were kept: within a limit, of every limit at once, and against a budget of misses.

A histogram tells exactly how many kept a limit only where the limit is one of its bounds. Elsewhere the counts
at the neighbouring bounds are limits of the truth, and a straight line between them is an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SAME = 1e-9  # relative; bounds that a server gives in milliseconds are not the same float as a limit in seconds


@dataclass(frozen=True, slots=True)
class Between:
    """A figure that lies from ``lower`` to ``upper``; ``estimate`` is ``None`` where nothing speaks for a value."""

    lower: float
    upper: float
    estimate: float | None

    @property
    def exact(self) -> bool:
        """Whether it is known to a point."""
        return self.lower == self.upper

    def scaled(self, factor: float) -> Between:
        """The same in another unit; the factor is not negative."""
        estimate = None if self.estimate is None else self.estimate * factor
        return Between(self.lower * factor, self.upper * factor, estimate)

    def __add__(self, other: Between) -> Between:
        unknown = self.estimate is None or other.estimate is None
        estimate = None if unknown else (self.estimate or 0.0) + (other.estimate or 0.0)
        return Between(self.lower + other.lower, self.upper + other.upper, estimate)


NONE_SEEN = Between(0.0, 0.0, 0.0)


def within(limit_seconds: float, upper_bounds: ArrayLike, increments: ArrayLike) -> Between:
    """How many observations took no longer than the limit.

    Beyond the highest finite bound there is no estimate, unless nothing was seen there.

    Args:
        limit_seconds: over zero.
        upper_bounds: of the buckets (s), ascending, the last +Inf.
        increments: plain counts, one per bound.
    """
    bounds = np.asarray(upper_bounds, dtype="float64")
    cumulative = np.append(0.0, np.cumsum(np.maximum(np.asarray(increments, dtype="float64"), 0.0)))
    bucket = int(np.searchsorted(bounds, limit_seconds * (1 - SAME)))
    end = float(bounds[bucket])
    lower, upper = float(cumulative[bucket]), float(cumulative[bucket + 1])
    if lower == upper or math.isclose(end, limit_seconds, rel_tol=2 * SAME):
        return Between(upper, upper, upper)
    if math.isinf(end):
        return Between(lower, upper, None)
    start = float(bounds[bucket - 1]) if bucket else 0.0
    return Between(lower, upper, lower + (upper - lower) * (limit_seconds - start) / (end - start))


def attainment(kept: Between, observations: float, errored: float = 0.0) -> Between | None:
    """Share (0 to 1) that kept the limit; errors count as misses, ``None`` when nothing was seen."""
    everything = observations + errored
    return kept.scaled(1 / everything) if everything > 0 else None


def of_all(attained: Sequence[Between]) -> Between | None:
    """Share of requests that kept every limit, from the share that kept each.

    Separate histograms do not tell which requests missed. If the misses never fall together, they add up;
    if they always do, the worst limit decides (Fréchet's bounds). There is no estimate in between.
    """
    if not attained:
        return None
    if len(attained) == 1:
        return attained[0]
    lower = max(0.0, 1.0 - sum(1.0 - one.lower for one in attained))
    upper = min(one.upper for one in attained)
    return Between(min(lower, upper), upper, upper if lower >= upper else None)


def burn(attained: Between, target_ratio: float) -> Between:
    """Misses over the misses that the target allows: 1 uses the budget up just so, 2 twice as fast."""
    allowed = 1.0 - target_ratio
    estimate = None if attained.estimate is None else (1.0 - attained.estimate) / allowed
    return Between((1.0 - attained.upper) / allowed, (1.0 - attained.lower) / allowed, estimate)


def meets_all(measured: Mapping[str, float | None], limits_seconds: Mapping[str, float]) -> bool | None:
    """Whether one request kept every limit; ``None`` where it cannot be told, since a latency is unknown."""
    known = {kind: measured.get(kind) for kind in limits_seconds}
    if any(value is not None and value > limits_seconds[kind] for kind, value in known.items()):
        return False
    return None if None in known.values() else True
