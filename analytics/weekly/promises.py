"""Objectives of latency over a week: what was attained of each, and what may be said of it."""

from __future__ import annotations

from collections.abc import Sequence

from analytics.formulas.energy import Quality
from analytics.formulas.objectives import Between
from analytics.objectives import kept, objective_of
from analytics.serving import are_gateways
from analytics.weekly.figure import Value
from analytics.weekly.reasons import Reason, Why
from analytics.weekly.summary import Attainment, Promise
from core.settings import Settings
from storage import queries
from storage.engine import Store

LEAST_REQUESTS = 100
"""Fewer are a count and no share (reference rule)."""


def attainments(engine: Store, settings: Settings, start_ms: int, end_ms: int) -> list[Attainment]:
    """Of every model that something is promised of."""
    entities = queries.entities(engine, "deployment")
    entities = entities[~are_gateways(entities)]
    found = []
    for model, rows in entities.groupby("model"):
        objective = objective_of(str(model), settings.serving.objective)
        if objective is None or start_ms >= end_ms:
            continue
        of = kept(engine, objective, [int(i) for i in rows["entity_id"]], start_ms, end_ms)
        requests = max((one.observations for one in of.promises if one.of_requests), default=0.0)
        found.append(
            Attainment(
                model=str(model),
                target_ratio=objective.target_ratio,
                attained=of.attained,
                requests=requests,
            )
        )
    return found


def attained(of: Sequence[Attainment], *, has_objectives: bool) -> Value:
    """Share of requests that kept their objective, over all models that have one."""
    if not has_objectives:
        return Value(None, Quality.MISSING, Why(Reason.NO_OBJECTIVE))
    known = [(one.attained, one.requests) for one in of if one.attained is not None]
    requests = sum(number for _, number in known)
    if not requests:
        return Value(None, Quality.MISSING, Why(Reason.NO_LATENCY))
    if requests < LEAST_REQUESTS:
        return Value(None, Quality.MISSING, Why(Reason.FEW_REQUESTS))
    shared = sum((one.scaled(number / requests) for one, number in known), Between(0.0, 0.0, 0.0))
    if shared.exact:
        return Value(shared.lower, Quality.DERIVED)
    return Value(shared.estimate, Quality.ESTIMATED, low=shared.lower, high=shared.upper)


def promise(of: Attainment) -> Promise:
    """An objective as the summary lists it."""
    seen = of.attained if of.requests >= LEAST_REQUESTS else None
    kept: bool | None = None
    if seen is not None and seen.lower >= of.target_ratio:
        kept = True
    elif seen is not None and seen.upper < of.target_ratio:
        kept = False
    low, high = (None, None) if seen is None else (seen.lower, seen.upper)
    return Promise(of.model, of.target_ratio, low, high, of.requests, kept)
