"""What was promised of a model's latency (``[[serving.objective]]``) against what its servers and probes saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas import objectives as formulas
from analytics.formulas.objectives import NONE_SEEN, Between
from core.readings import Latency, Outcome
from core.settings import Objective
from storage import queries
from storage.engine import Store

_SEEN_AS = {
    Latency.TTFT: (Latency.TTFT,),
    Latency.TPOT: (Latency.TPOT, Latency.ITL),  # a server without the one may have the other
    Latency.E2E: (Latency.E2E,),
}
KINDS = [kind.value for seen in _SEEN_AS.values() for kind in seen]
COUNTERS = ["succeeded_requests_total", "failed_requests_total"]
Floats = NDArray[np.float64]
ByBounds = dict[tuple[float, ...], Floats]
_ANYTHING = Between(0.0, 1.0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One limit, and how it was kept.

    ``seen`` is the histogram it is measured by: gaps between tokens (ITL) where a server has no TPOT; then it
    is a share of gaps, and errors, which are requests, are not among them.
    """

    kind: Latency
    seen: Latency
    limit_seconds: float
    target_ratio: float
    observations: float
    errored: float
    attained: Between | None

    @property
    def of_requests(self) -> bool:
        """Whether one observation is one request."""
        return self.seen is not Latency.ITL

    @property
    def burn(self) -> Between | None:
        """How fast the budget of misses is used up; 1 is just so."""
        return None if self.attained is None else formulas.burn(self.attained, self.target_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An objective over a window: each limit by itself, and requests that kept all of them."""

    promises: tuple[Promise, ...]
    attained: Between | None
    good_requests_per_second: Between | None


@dataclass(frozen=True, slots=True)
class Probed:
    """Requests of probes: how many can be judged, how many of these kept every limit, how many cannot be judged."""

    judged: int
    kept: int
    undetermined: int


def objective_of(model: str, objectives: Sequence[Objective]) -> Objective | None:
    """The first objective whose ``model`` is part of the model's name."""
    return next((one for one in objectives if one.model.casefold() in model.casefold()), None)


def kept(engine: Store, objective: Objective, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> Kept:
    """How deployments, taken together, kept an objective. Whatever bounds their histograms have adds up here."""
    seen = queries.latency(engine, entity_ids, KINDS, start_ms, end_ms, together=True)
    counts = queries.increases(engine, "deployment", COUNTERS, entity_ids, start_ms, end_ms)
    return kept_by(objective, seen, counts, (end_ms - start_ms) / 1000)


def kept_by(objective: Objective, seen: pd.DataFrame, counts: pd.DataFrame, seconds: float) -> Kept:
    """The same from what was read of these deployments.

    Args:
        objective: with its limits.
        seen: histograms of ``KINDS`` of the whole window, as ``queries.latency`` gives them.
        counts: increases of ``COUNTERS``, as ``queries.increases`` gives them.
        seconds: length of the window.
    """
    succeeded, errored = (float(total) for total in counts[COUNTERS].sum())  # nothing where a server does not count
    histograms = _together(seen)
    promises = tuple(
        _promise(histograms, Latency(kind), limit, objective.target_ratio, errored)
        for kind, limit in objective.limits_seconds.items()
    )
    attained, rate = None, None
    if any(one.attained is not None for one in promises):
        each = [one.attained if one.attained is not None and one.of_requests else _ANYTHING for one in promises]
        attained = formulas.of_all(each)
        of_requests = [one.observations for one in promises if one.of_requests]
        requests = (succeeded or max(of_requests, default=0.0)) + errored
        rate = None if attained is None else attained.scaled(requests / seconds)
    return Kept(promises=promises, attained=attained, good_requests_per_second=rate)


def _promise(
    histograms: Mapping[str, ByBounds], kind: Latency, limit_seconds: float, target_ratio: float, errored: float
) -> Promise:
    seen = {name: histograms.get(name, {}) for name in _SEEN_AS[kind]}
    name = next((name for name, of_kind in seen.items() if _observations(of_kind)), kind)
    found, errors = seen[name], 0.0 if name is Latency.ITL else errored
    within = sum(
        (formulas.within(limit_seconds, bounds, increments) for bounds, increments in found.items()), NONE_SEEN
    )
    observations = _observations(found)
    return Promise(
        kind=kind,
        seen=name,
        limit_seconds=limit_seconds,
        target_ratio=target_ratio,
        observations=observations,
        errored=errors,
        attained=formulas.attainment(within, observations, errors) if observations else None,
    )


def _together(rows: pd.DataFrame) -> dict[str, ByBounds]:
    """Increments of several deployments, by kind and bounds."""
    sums: dict[str, ByBounds] = defaultdict(dict)
    for kind, bounds, increments in zip(rows["kind"], rows["upper_bounds_seconds"], rows["increments"], strict=True):
        of_kind = sums[kind]
        of_kind[bounds] = of_kind[bounds] + increments if bounds in of_kind else increments
    return sums


def _observations(histograms: ByBounds) -> float:
    return float(sum(increments.sum() for increments in histograms.values()))


def probed(probes: pd.DataFrame, limits_seconds: Mapping[str, float]) -> Probed:
    """The same of probes, request by request: exact. What was refused was never asked, what failed has missed.

    Args:
        probes: as ``queries.probes`` gives them.
        limits_seconds: kind of latency to limit (s).
    """
    asked = probes[probes["outcome"] != Outcome.REFUSED.value]
    verdicts = [_kept_all(row, limits_seconds) for row in asked.to_dict("records")]
    undetermined = verdicts.count(None)
    return Probed(len(verdicts) - undetermined, verdicts.count(True), undetermined)


def _kept_all(row: Mapping[object, object], limits_seconds: Mapping[str, float]) -> bool | None:
    if row["outcome"] != Outcome.OK.value:
        return False
    one_token = row["output_tokens"] == 1  # there is no time per token after the first
    limits = {kind: limit for kind, limit in limits_seconds.items() if not (kind == Latency.TPOT and one_token)}
    measured = {kind: row[f"{kind}_seconds"] for kind in limits}
    known = {k: float(value) for k, value in measured.items() if isinstance(value, float) and value == value}
    return formulas.meets_all(known, limits)
