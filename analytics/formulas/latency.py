"""Quantiles from histogram buckets, as Prometheus computes them.

A histogram here is ``upper_bounds`` (ascending, the last is +Inf) and plain ``increments`` per bucket
over a window. Sum increments first, take the quantile last; never average quantiles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]

LEAST_FOR_P99 = 100  # observations


def histogram_quantile(q: float, upper_bounds: ArrayLike, increments: ArrayLike) -> float:
    """The q-quantile (s), interpolated linearly inside its bucket.

    The first bucket begins at 0 when its bound is positive. A rank in the +Inf bucket gives the
    highest finite bound: show it as "at least" (``in_last_bucket``). NaN when nothing was observed.
    """
    if math.isnan(q):
        return math.nan
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q)
    bounds = np.asarray(upper_bounds, dtype="float64")
    cumulative = np.cumsum(np.maximum(np.asarray(increments, dtype="float64"), 0.0))
    if len(bounds) < 2 or cumulative[-1] == 0:
        return math.nan
    rank = q * float(cumulative[-1])
    bucket = int(np.searchsorted(cumulative[:-1], rank, side="left"))
    if bucket == len(bounds) - 1:
        return float(bounds[-2])
    if bucket == 0 and bounds[0] <= 0:
        return float(bounds[0])
    start = float(bounds[bucket - 1]) if bucket else 0.0
    below = float(cumulative[bucket - 1]) if bucket else 0.0
    inside = float(cumulative[bucket]) - below
    if inside == 0:  # only q = 0 over an empty first bucket
        return math.nan
    end = float(bounds[bucket])
    return start + (end - start) * (rank - below) / inside


def in_last_bucket(q: float, increments: ArrayLike) -> bool:
    """Whether the quantile lies beyond the highest finite bound."""
    counts = np.asarray(increments, dtype="float64")
    total = counts.sum()
    return bool(total > 0 and q * total > total - counts[-1])
