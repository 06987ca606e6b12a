"""Tests that look at what deployments did: which of them some hours, or part of their work, need not have cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analytics import objectives, prices
from analytics.formulas import wastes
from analytics.formulas.cost import SMALL_SAMPLE_TOKENS
from analytics.formulas.hosted import HostedTokens
from analytics.formulas.local_time import local
from analytics.formulas.unknown import total
from analytics.ledger import Ledger, deployment_bills
from analytics.serving import are_gateways, asks
from analytics.wastes.waste import Figure, Kind
from core.prices import HostedPrice
from core.settings import Objective, Settings
from core.sites import matches
from storage import queries
from storage.engine import Store

_STEP_MS = 300_000
_PEAK = 0.99
_MONTHS = 12
_TOKENS = ["prompt_tokens", "cached_prompt_tokens", "generation_tokens"]
_ENDED = ["succeeded_requests", "failed_requests", "aborted_requests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is wasted of the hours that a deployment holds: a part (0 to 1) of their cost, less what remains to pay.

    ``part`` is ``None`` where that is not known.
    """

    kind: Kind
    deployment_id: int
    evidence: tuple[Figure, ...]
    part: float | None = 1.0
    less_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tests share: the bill, deployments that are no gateways, and their tokens in the window."""

    engine: Store
    of: Ledger
    settings: Settings
    entities: pd.DataFrame
    tokens: pd.DataFrame

    @property
    def window(self) -> tuple[int, int]:
        """Its first instant and the one after its last (Unix ms)."""
        return self.of.of.start_ms, self.of.of.end_ms


def deployments(engine: Store) -> pd.DataFrame:
    """Those that compute, as ``queries.entities`` gives them, by entity_id; a key stands for a model without name."""
    found = queries.entities(engine, "deployment").set_index("entity_id")
    return found[~are_gateways(found)].assign(model=found["model"].fillna(found["key"]))


def cases(engine: Store, of: Ledger, settings: Settings, entities: pd.DataFrame) -> list[Case]:
    """All that is to be said of the deployments of a window."""
    tokens = of.of.work.groupby("deployment_id")[_TOKENS].sum(min_count=1)
    seen = Seen(engine, of, settings, entities, tokens)
    return [*spare_replicas(seen), *low_cache(seen), *wrong_tier(seen), *errors(seen)]


def spare_replicas(seen: Seen) -> Iterator[Case]:
    """The replica with least output where the others had carried the peak, while the objective was kept.

    Needs ``[[serving.objective]]`` for the model, its latency, and running and waiting requests of each replica. What a
    replica can carry is what one of them was seen to: no more is known. Replicas are of one model, on one kind of
    device at one site.
    """
    held = seen.of.of.shares.merge(seen.of.devices[["site", "model"]], left_on="device_id", right_index=True)
    held = held[held["deployment_id"].isin(seen.entities.index)]
    where = held.groupby("deployment_id")[["site", "model"]].agg(_joined)
    served = seen.entities["model"].reindex(where.index)
    for (model, _, _), rows in where.groupby([served, "site", "model"]):
        objective = objectives.objective_of(str(model), seen.settings.serving.objective)
        if objective is None or len(rows) < 2:
            continue
        ids = rows.index.astype("int64").tolist()
        load = _load(seen, ids)
        if load is None or not wastes.one_to_spare(*load, len(ids)) or not _kept(seen, objective, ids):
            continue
        yield Case(
            kind=Kind.SPARE_REPLICA,
            deployment_id=ids[int(seen.tokens["generation_tokens"].reindex(ids).fillna(0.0).argmin())],
            evidence=(
                Figure("replicas", float(len(ids))),
                Figure("needed_requests", load[0]),
                Figure("carried_requests", load[1]),
            ),
        )


def _joined(names: pd.Series[str]) -> str:
    return ", ".join(sorted(set(names)))


def _load(seen: Seen, ids: list[int]) -> tuple[float, float] | None:
    """Requests at all replicas together, and the most that one ran, nearly always; ``None`` if hardly seen."""
    metrics = ["running_requests", "waiting_requests"]
    frame = queries.read(seen.engine, "deployment", metrics, ids, *seen.window, _STEP_MS)
    frame["needed"] = frame["running_requests_max"] + frame["waiting_requests_max"]
    complete = frame.dropna().groupby("bucket_at")["needed"].agg(["sum", "size"])
    needed = complete.loc[complete["size"] == len(ids), "sum"]
    if len(needed) < wastes.LEAST_STEPS:
        return None
    carried = frame.groupby("entity_id")["running_requests_max"].quantile(_PEAK).max()
    return float(needed.quantile(_PEAK)), float(carried)


def _kept(seen: Seen, objective: Objective, ids: list[int]) -> bool:
    attained = objectives.kept(seen.engine, objective, ids, *seen.window).attained
    return attained is not None and attained.lower >= objective.target_ratio


def low_cache(seen: Seen) -> Iterator[Case]:
    """Deployments whose prompts were found in the cache clearly less often than in the best month of their model.

    Needs servers that count cached prompt tokens, and a whole month before the window. The part saved is work that a
    cached token does not cause, as in sharing out the cost of a device.
    """
    best = _best_month(seen)
    for deployment_id, (prompt, cached, output) in seen.tokens.dropna().iterrows():
        model = seen.entities["model"].get(deployment_id)
        if model not in best or prompt <= 0 or best[model] - cached / prompt < wastes.MATERIAL_RATIO:
            continue
        weight = seen.settings.cost.output_weight_ratio
        yield Case(
            kind=Kind.LOW_CACHE,
            deployment_id=int(str(deployment_id)),
            evidence=(Figure("hit_ratio", float(cached / prompt)), Figure("best_month_hit_ratio", best[model])),
            part=wastes.cacheable_ratio(best[model], prompt, cached, output, weight),
        )


def _best_month(seen: Seen) -> dict[str, float]:
    """Highest hit ratio of each model in a calendar month (UTC) that ended before the window."""
    start = pd.Timestamp(seen.window[0], unit="ms", tz="UTC")
    first = start.normalize().replace(day=1)
    edges = [int((first - pd.DateOffset(months=n)).timestamp() * 1000) for n in range(_MONTHS, -1, -1)]
    found = queries.accounts(seen.engine, "deployment", seen.entities.index.tolist(), edges)
    found["model"] = seen.entities["model"].reindex(found["entity_id"]).to_numpy()
    found = found.dropna(subset=_TOKENS[:2])
    months = found.groupby(["model", "bucket_at"])[_TOKENS[:2]].sum()
    enough = months[months["prompt_tokens"] >= SMALL_SAMPLE_TOKENS]
    ratios = enough["cached_prompt_tokens"] / enough["prompt_tokens"]
    return {str(model): float(best) for model, best in ratios.groupby("model").max().items()}


def wrong_tier(seen: Seen) -> Iterator[Case]:
    """Deployments dearer than the same tokens at a hosted endpoint that was seen to keep the model's objective.

    Needs ``[[cost.hosted]]`` and ``[[serving.objective]]`` for the model, servers that count cached prompt tokens, and
    100 requests or more of a probe of that endpoint in the window. A price is for all models that its pattern fits.
    """
    at_ms = seen.window[1] - 1
    day = local(at_ms, seen.settings.site.zone).date()
    offers = [offer for offer in seen.settings.cost.hosted if offer.holds_on(day)]
    bills = deployment_bills(seen.of) if offers else {}
    probes = queries.probes(seen.engine, *seen.window) if offers else pd.DataFrame()
    tokens = {int(str(i)): counts for i, counts in seen.tokens.iterrows()}
    for deployment_id, entity in seen.entities[seen.entities.index.isin(bills)].iterrows():
        number, model = int(str(deployment_id)), str(entity["model"])
        objective = objectives.objective_of(model, seen.settings.serving.objective)
        if objective is None or number not in tokens:
            continue
        kept = [offer for offer in offers if matches(offer.model, model) and _keeps(seen, offer, objective, probes)]
        amounts = [_hosted_usd(seen, offer, tokens[number], at_ms) for offer in kept]
        hosted_usd = min((usd for usd in amounts if usd is not None), default=None)
        paid = bills[number]
        own_usd = total(paid.hardware_usd, paid.electricity_active_usd, paid.electricity_idle_usd)
        if hosted_usd is not None and own_usd is not None and hosted_usd < own_usd:
            yield Case(
                kind=Kind.WRONG_TIER,
                deployment_id=number,
                evidence=(Figure("own_usd", own_usd), Figure("hosted_usd", hosted_usd)),
                less_usd=hosted_usd,
            )


def _keeps(seen: Seen, offer: HostedPrice, objective: Objective, probes: pd.DataFrame) -> bool:
    """Whether probes of what is offered, which is none of the own servers, kept an objective."""
    every = queries.entities(seen.engine, "probe").to_dict("records")
    asked = [
        one["entity_id"]
        for one in every
        if matches(offer.endpoint, one["key"])
        and matches(offer.model, one["labels"].get("model", ""))
        and not any(asks(one["labels"], labels) for labels in seen.entities["labels"])
    ]
    found = objectives.probed(probes[probes["entity_id"].isin(asked)], objective.limits_seconds)
    return found.judged >= wastes.LEAST_REQUESTS and found.kept >= objective.target_ratio * found.judged


def _hosted_usd(seen: Seen, offer: HostedPrice, tokens: pd.Series[Any], at_ms: int) -> float | None:
    prompt, cached, output = (None if pd.isna(count) else float(count) for count in tokens[_TOKENS])
    uncached = None if prompt is None or cached is None else prompt - cached
    counted = HostedTokens(uncached_tokens=uncached, cached_tokens=cached, write_tokens=0.0, output_tokens=output)
    return prices.hosted_usd(seen.settings, offer, counted, at_ms)


def errors(seen: Seen) -> Iterator[Case]:
    """Deployments many of whose requests failed or were cancelled. What that cost is not known.

    No server counts the tokens of such requests, nor which requests were retries, so their share of the cost would be
    a guess.
    """
    start_ms, end_ms = seen.window
    if start_ms == end_ms:
        return
    found = queries.accounts(seen.engine, "deployment", seen.entities.index.tolist(), [start_ms, end_ms])
    for deployment_id, ended in found.set_index("entity_id")[_ENDED].iterrows():
        requests, lost = float(ended.sum()), float(ended[_ENDED[1:]].sum())
        if requests >= wastes.LEAST_REQUESTS and lost > wastes.MATERIAL_RATIO * requests:
            yield Case(
                kind=Kind.ERRORS,
                deployment_id=int(str(deployment_id)),
                evidence=(Figure("requests", requests), *(Figure(name, _known(ended[name])) for name in _ENDED[1:])),
                part=None,
            )


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
