"""Latency over any window and any set of deployments, from summed bucket increments."""

from __future__ import annotations

from collections.abc import Sequence
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
    "mean_seconds",
    *(f"{name}_seconds" for name in _NAMES.values()),
    *(f"{name}_at_least" for name in _NAMES.values()),
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
        sets of bounds meet in one step, the one with most observations is used, and the others are
        left out of that row.
    """
    frame = queries.latency(engine, entity_ids, [kind], start_ms, end_ms, step_ms)
    rows = [
        _row(bucket_at, bounds, increments, seconds)
        for bucket_at, (bounds, increments, seconds) in _merged(frame).items()
    ]
    if rows:
        return pd.DataFrame(rows, columns=list(COLUMNS))
    empty = pd.DataFrame({name: pd.Series(dtype="float64") for name in COLUMNS})
    empty["bucket_at"] = pd.to_datetime(empty["bucket_at"], utc=True)
    return empty


def _merged(frame: pd.DataFrame) -> dict[Any, tuple[tuple[float, ...], NDArray[np.float64], float]]:
    """One histogram per step."""
    steps: dict[Any, dict[tuple[float, ...], tuple[NDArray[np.float64], float]]] = {}
    for row in frame.itertuples():
        by_bounds = steps.setdefault(row.bucket_at, {})
        bounds: Any = row.upper_bounds_seconds
        increments: Any = row.increments
        seconds: Any = row.sum_seconds
        have = by_bounds.get(bounds)
        by_bounds[bounds] = (increments, seconds) if have is None else (have[0] + increments, have[1] + seconds)
    merged = {}
    for bucket_at in sorted(steps):
        bounds, (increments, seconds) = max(steps[bucket_at].items(), key=lambda item: item[1][0].sum())
        merged[bucket_at] = (bounds, increments, seconds)
    return merged


def _row(
    bucket_at: object, bounds: tuple[float, ...], increments: NDArray[np.float64], seconds: float
) -> dict[str, object]:
    observations = float(increments.sum())
    row: dict[str, object] = {
        "bucket_at": bucket_at,
        "observations": observations,
        "mean_seconds": seconds / observations if observations else np.nan,
        "highest_bound_seconds": bounds[-2] if len(bounds) > 1 else np.nan,
    }
    for q, name in _NAMES.items():
        too_few = name == "p99" and observations < LEAST_FOR_P99
        row[f"{name}_seconds"] = np.nan if too_few else histogram_quantile(q, bounds, increments)
        row[f"{name}_at_least"] = not too_few and in_last_bucket(q, increments)
    return row
