"""Quantiles as pages show them, asked of a store."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analytics.latency import quantiles_by
from storage import queries
from storage.engine import Store


def quantiles(
    engine: Store,
    entity_ids: Sequence[int] | None,
    kind: str,
    start_ms: int,
    end_ms: int,
    step_ms: int | None = None,
) -> pd.DataFrame:
    """``quantiles_by`` step, of the deployments given taken together."""
    histograms = queries.latency(engine, entity_ids, [kind], start_ms, end_ms, step_ms, together=True)
    return quantiles_by(histograms, ["bucket_at"])
