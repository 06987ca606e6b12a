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
    return float(histogram_quantiles(q, upper_bounds, np.asarray(increments, dtype="float64")[None, :])[0])


def histogram_quantiles(q: float, upper_bounds: ArrayLike, increments: Floats) -> Floats:
    """``histogram_quantile`` of many histograms with the same bounds.

    Args:
        q: from 0 to 1.
        upper_bounds: ascending, the last is +Inf.
        increments: a histogram in each row.
    """
    bounds = np.asarray(upper_bounds, dtype="float64")
    cumulative = np.cumsum(np.maximum(increments, 0.0), axis=1)
    if len(bounds) < 2:
        return np.full(len(cumulative), np.nan)
    rank = q * cumulative[:, -1]
    bucket = np.count_nonzero(cumulative[:, :-1] < rank[:, None], axis=1)
    every = np.arange(len(bucket))
    start = np.where(bucket > 0, bounds[bucket - 1], 0.0)
    below = np.where(bucket > 0, cumulative[every, bucket - 1], 0.0)
    inside = cumulative[every, bucket] - below
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing inside: only q = 0 over an empty first bucket
        value: Floats = start + (bounds[bucket] - start) * (rank - below) / inside
    value[bucket == len(bounds) - 1] = bounds[-2]
    if bounds[0] <= 0:
        value[bucket == 0] = bounds[0]
    value[cumulative[:, -1] == 0] = np.nan
    return value


def in_last_bucket(q: float, increments: ArrayLike) -> bool:
    """Whether the quantile lies beyond the highest finite bound."""
    return bool(in_last_buckets(q, np.asarray(increments, dtype="float64")[None, :])[0])


def in_last_buckets(q: float, increments: Floats) -> NDArray[np.bool_]:
    """The same of many histograms, one in each row."""
    total = increments.sum(axis=1)
    answer: NDArray[np.bool_] = (total > 0) & (q * total > total - increments[:, -1])
    return answer
