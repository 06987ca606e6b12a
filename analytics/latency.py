"""Latency over any window and any set of deployments, from summed bucket increments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analytics.formulas.latency import LEAST_FOR_P99, histogram_quantiles, in_last_buckets

QUANTILES = (0.50, 0.95, 0.99)
_NAMES = {q: f"p{round(q * 100)}" for q in QUANTILES}
_AT_LEAST = tuple(f"{name}_at_least" for name in _NAMES.values())
FIGURES = (
    "observations",
    "left_out_observations",
    "mean_seconds",
    *(f"{name}_seconds" for name in _NAMES.values()),
    *_AT_LEAST,
    "lowest_bound_seconds",
    "highest_bound_seconds",
)


def quantiles_by(histograms: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """p50, p95, p99 and mean (s) of histograms as ``queries.latency`` gives them, added up where ``by`` is the same.

    Returns:
        The columns ``by``, in whose order they are, and those of ``FIGURES``. ``*_at_least``: the quantile
        lies beyond the highest finite bound. p99 is NaN under 100 observations. Servers with other bucket
        bounds cannot be added up: where sets of bounds meet, the one with most observations is used, and
        ``left_out_observations`` says how many the others had; the mean is of all of them. A histogram
        whose only bound is +Inf has no quantile, and its bounds are NaN. Of a quantile below
        ``lowest_bound_seconds`` just that is known: it is drawn on a line from zero to there.
    """
    grouped = histograms.groupby(list(by), sort=True)
    number, answer = grouped.ngroup().to_numpy(), grouped.size().reset_index()[list(by)]
    figures = {name: np.full(len(answer), np.nan) for name in FIGURES}
    figures |= {name: np.zeros(len(answer), "bool") for name in _AT_LEAST}
    everything, most = np.zeros(len(answer)), np.full(len(answer), -np.inf)
    for bounds in dict.fromkeys(histograms["upper_bounds_seconds"]):
        rows = (histograms["upper_bounds_seconds"] == bounds).to_numpy()
        counts = np.zeros((len(answer), len(bounds)))
        np.add.at(counts, number[rows], np.stack(list(histograms["increments"][rows])))
        observations = counts.sum(axis=1)
        everything += observations
        rank = np.where(np.bincount(number[rows], minlength=len(answer)) > 0, observations, -np.inf)
        if len(bounds) < 2:  # any histogram that has buckets tells more
            rank = np.minimum(rank, -1.0)
        best = rank > most
        most = np.maximum(rank, most)
        for name, values in _figures(bounds, counts[best]).items():
            figures[name][best] = values
    seconds = np.bincount(number, histograms["sum_seconds"], len(answer))
    with np.errstate(invalid="ignore"):
        figures["mean_seconds"] = seconds / np.where(everything > 0, everything, np.nan)
    figures["left_out_observations"] = everything - figures["observations"]
    return answer.assign(**figures)


def _figures(bounds: tuple[float, ...], increments: NDArray[np.float64]) -> dict[str, ArrayLike]:
    """What histograms with the same bounds tell by themselves."""
    observations = increments.sum(axis=1)
    figures: dict[str, ArrayLike] = {
        "observations": observations,
        "lowest_bound_seconds": bounds[0] if len(bounds) > 1 else np.nan,
        "highest_bound_seconds": bounds[-2] if len(bounds) > 1 else np.nan,
    }
    for q, name in _NAMES.items():
        enough = observations >= (LEAST_FOR_P99 if name == "p99" else 0)
        figures[f"{name}_seconds"] = np.where(enough, histogram_quantiles(q, bounds, increments), np.nan)
        figures[f"{name}_at_least"] = enough & in_last_buckets(q, increments) & (len(bounds) > 1)
    return figures
