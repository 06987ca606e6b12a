"""Latency over any window and any set of deployments, from summed bucket increments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas.latency import LEAST_FOR_P99, histogram_quantile, in_last_bucket
from storage import queries
from storage.engine import Store

QUANTILES = (0.50, 0.95, 0.99)
_NAMES = {q: f"p{round(q * 100)}" for q in QUANTILES}
COLUMNS = (
    "bucket_at",
    "observations",
    "left_out_observations",
    "mean_seconds",
    *(f"{name}_seconds" for name in _NAMES.values()),
    *(f"{name}_at_least" for name in _NAMES.values()),
    "lowest_bound_seconds",
    "highest_bound_seconds",
)


def quantiles(
    engine: Store,
    entity_ids: Sequence[int] | None,
    kind: str,
    start_ms: int,
    end_ms: int,
    step_ms: int | None = None,
) -> pd.DataFrame:
    """p50, p95, p99 and mean (s) per step, over all the deployments given.

    Returns:
        The columns of ``COLUMNS``. ``*_at_least``: the quantile lies beyond the highest finite bound.
        p99 is NaN under 100 observations. Servers with other bucket bounds cannot be added up: where
        sets of bounds meet in one step, the one with most observations is used, and
        ``left_out_observations`` says how many the others had; the mean is of all of them. A histogram
        whose only bound is +Inf has no quantile, and its bounds are NaN. Of a quantile below
        ``lowest_bound_seconds`` just that is known: it is drawn on a line from zero to there.
    """
    frame = queries.latency(engine, entity_ids, [kind], start_ms, end_ms, step_ms)
    rows = [_row(bucket_at, by_bounds) for bucket_at, by_bounds in sorted(_merged(frame).items())]
    if rows:
        return pd.DataFrame(rows, columns=list(COLUMNS))
    empty = pd.DataFrame({name: pd.Series(dtype="float64") for name in COLUMNS})
    empty["bucket_at"] = pd.to_datetime(empty["bucket_at"], utc=True)
    return empty


@dataclass(slots=True)
class _Histogram:
    """Of one step and one set of bounds."""

    increments: NDArray[np.float64]
    seconds: float


def _merged(frame: pd.DataFrame) -> dict[Any, dict[tuple[float, ...], _Histogram]]:
    """One histogram per step and set of bounds, over all deployments."""
    steps: dict[Any, dict[tuple[float, ...], _Histogram]] = {}
    for row in frame.itertuples():
        by_bounds = steps.setdefault(row.bucket_at, {})
        bounds: Any = row.upper_bounds_seconds
        increments: Any = row.increments
        seconds: Any = row.sum_seconds
        if bounds in by_bounds:
            by_bounds[bounds].increments = by_bounds[bounds].increments + increments
            by_bounds[bounds].seconds += seconds
        else:
            by_bounds[bounds] = _Histogram(increments, seconds)
    return steps


def _row(bucket_at: object, by_bounds: dict[tuple[float, ...], _Histogram]) -> dict[str, object]:
    bounds, most = max(by_bounds.items(), key=lambda item: (len(item[0]) > 1, item[1].increments.sum()))
    observations = float(most.increments.sum())
    everything = sum(float(one.increments.sum()) for one in by_bounds.values())
    seconds = sum(one.seconds for one in by_bounds.values())
    row: dict[str, object] = {
        "bucket_at": bucket_at,
        "observations": observations,
        "left_out_observations": everything - observations,
        "mean_seconds": seconds / everything if everything else np.nan,
        "lowest_bound_seconds": bounds[0] if len(bounds) > 1 else np.nan,
        "highest_bound_seconds": bounds[-2] if len(bounds) > 1 else np.nan,
    }
    for q, name in _NAMES.items():
        too_few = name == "p99" and observations < LEAST_FOR_P99
        row[f"{name}_seconds"] = np.nan if too_few else histogram_quantile(q, bounds, most.increments)
        row[f"{name}_at_least"] = not too_few and len(bounds) > 1 and in_last_bucket(q, most.increments)
    return row
