"""The p95 of a week with the part of the histogram that it was taken from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analytics.formulas.latency import LEAST_FOR_P99, histogram_quantile
from analytics.weekly.summary import Percentile
from core.readings import Latency
from storage import queries
from storage.engine import Store

_Q = 0.95


def p95(engine: Store, ids: Sequence[int], kind: Latency, start_ms: int, end_ms: int) -> Percentile | None:
    """Of all servers together, as ``analytics.latency.quantiles`` has it; ``None`` where too little was seen."""
    if not ids or start_ms >= end_ms:
        return None
    frame = queries.latency(engine, ids, [kind.value], start_ms, end_ms, together=True)
    by_bounds: dict[tuple[float, ...], NDArray[np.float64]] = dict(
        zip(frame["upper_bounds_seconds"], frame["increments"], strict=True)
    )
    if not by_bounds:
        return None
    bounds, most = max(by_bounds.items(), key=lambda one: (len(one[0]) > 1, one[1].sum()))
    seconds = histogram_quantile(_Q, bounds, most)
    if most.sum() < LEAST_FOR_P99 or np.isnan(seconds):
        return None
    upto = np.append(0.0, np.cumsum(most))
    bucket = int(np.searchsorted(upto[1:-1], _Q * upto[-1]))
    return Percentile(
        seconds=seconds,
        observations=float(upto[-1]),
        left_out_observations=float(sum(one.sum() for one in by_bounds.values()) - upto[-1]),
        lower_seconds=float(bounds[bucket - 1]) if bucket else 0.0,
        lower_observations=float(upto[bucket]),
        upper_seconds=None if bucket == len(bounds) - 1 else float(bounds[bucket]),
        upper_observations=float(upto[bucket + 1]),
    )
