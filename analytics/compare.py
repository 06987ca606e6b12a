"""Speed against price and energy: own deployments and probed endpoints, each with the conditions it was seen under.

What others published stands apart: it was seen by nobody here.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analytics.costs import NO_PRICE, DeploymentCost
from analytics.formulas.energy import Quality
from analytics.latency import quantiles_by
from analytics.serving import are_gateways, asks
from core.hardware.catalogue import endpoints
from core.readings import Latency, Outcome
from core.settings import ProbeSettings, Settings
from storage import queries
from storage.engine import Store

HOSTED, UNKNOWN_HARDWARE = "hosted endpoint", "unknown hardware"
LIST_PRICE = "list price of output tokens, prompts cost extra"
OWN_PRICE = "hardware and electricity, prompts and idle hours included"
NO_LIST_PRICE = "no price of this endpoint: set usd_per_million_output_tokens in its [[probe]]"
_COUNTERS = ["prompt_tokens_total", "generation_tokens_total", "succeeded_requests_total", "decode_seconds_total"]
_RUNNING = "running_requests"
_UNKNOWN: dict[Hashable, Any] = dict.fromkeys([*_COUNTERS, _RUNNING], math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Output tokens per second that one user sees, how it was found, and from how many observations."""

    tokens_per_second: float | None = None
    basis: str = "no time per token"
    observations: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One model on one kind of hardware, or at one endpoint. ``None``: unknown, and ``reason`` says why."""

    kind: Literal["own", "hosted", "published"]
    model: str
    server: str
    hardware: str
    speed: Speed
    usd_per_million_output_tokens: float | None
    price_basis: str
    price_quality: Quality
    joules_per_output_token: float | None = None
    energy_scope: str = ""
    energy_quality: Quality = Quality.MISSING
    devices: int | None = None
    running_requests: float | None = None  # mean over the window
    prompt_tokens_per_request: float | None = None
    output_tokens_per_request: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Load:
    """What deployments did in the window, by entity."""

    did: Mapping[Hashable, Mapping[Hashable, Any]]
    speeds: Mapping[int, Speed]
    hardware: Mapping[int, tuple[str, int]]


def points(
    engine: Store, settings: Settings, costs: Sequence[DeploymentCost], start_ms: int, end_ms: int
) -> list[Point]:
    """Every deployment that was seen and every endpoint that was probed; gateways are neither.

    Args:
        engine: the reader.
        settings: with prices.
        costs: ``costs.deployment_costs`` of the window.
        start_ms: window start.
        end_ms: window end.
    """
    entities = queries.entities(engine)
    deployments = entities[entities["family"] == "deployment"]["entity_id"].tolist()
    metrics = [*_COUNTERS, _RUNNING]
    did = queries.read(engine, "deployment", metrics, None, start_ms, end_ms, max(end_ms - start_ms, 1))
    load = _Load(
        did.set_index("entity_id")[metrics].to_dict("index"),
        _median_speeds(engine, deployments, start_ms, end_ms),
        _hardware(engine, entities, start_ms, end_ms),
    )
    return [*(_own(cost, load) for cost in costs), *_hosted(engine, entities, settings, start_ms, end_ms)]


def published() -> list[Point]:
    """What vendors and testers published of endpoints, with who and when."""
    return [
        Point(
            kind="published",
            model=endpoint.model,
            server="",
            hardware=endpoint.vendor,
            speed=Speed(tokens_per_second=endpoint.tokens_per_second, basis=f"published, {endpoint.as_of}"),
            usd_per_million_output_tokens=endpoint.usd_per_million_output_tokens,
            price_basis=f"{LIST_PRICE}; {endpoint.source}; {endpoint.notes}",
            price_quality=Quality.ESTIMATED,
        )
        for endpoint in endpoints()
    ]


def _hardware(engine: Store, entities: pd.DataFrame, start_ms: int, end_ms: int) -> dict[int, tuple[str, int]]:
    """What each deployment ran on: the model of its accelerators and how many, or the CPUs of hosts."""
    joined = queries.assignments(engine, start_ms, end_ms)
    sockets = entities[entities["family"] == "cpu"].dropna(subset=["model"])
    cpus = sockets.drop_duplicates("host").set_index("host")["model"]
    names = {
        entity_id: f"CPU {cpus.get(host, '')}".strip() if family == "host" else str(model or "GPU")
        for entity_id, family, host, model in zip(
            *(entities[name] for name in ("entity_id", "family", "host", "model")), strict=True
        )
    }
    targets: dict[int, dict[int, str]] = {}
    for deployment_id, target_id in zip(joined["deployment_id"], joined["target_id"], strict=True):
        targets.setdefault(deployment_id, {})[target_id] = names[target_id]
    return {
        deployment_id: (" + ".join(sorted(set(ran_on.values()))), len(ran_on))
        for deployment_id, ran_on in targets.items()
    }


def _own(cost: DeploymentCost, load: _Load) -> Point:
    counted = load.did.get(cost.deployment_id, _UNKNOWN)
    requests = counted["succeeded_requests_total"]
    hardware, devices = load.hardware.get(cost.deployment_id, (UNKNOWN_HARDWARE, None))
    return Point(
        kind="own",
        model=cost.model,
        server=cost.server,
        hardware=hardware,
        devices=devices,
        speed=load.speeds.get(cost.deployment_id) or _mean_speed(counted),
        usd_per_million_output_tokens=cost.usd_per_million_output_tokens,
        price_basis=OWN_PRICE,
        price_quality=Quality.MISSING if cost.usd_per_million_output_tokens is None else cost.label,
        joules_per_output_token=cost.joules_per_output_token,
        energy_scope=cost.scope,
        energy_quality=cost.energy_quality,
        running_requests=_known(counted[_RUNNING]),
        prompt_tokens_per_request=_ratio(counted["prompt_tokens_total"], requests),
        output_tokens_per_request=_ratio(counted["generation_tokens_total"], requests),
        reason=cost.reason,
    )


def _median_speeds(engine: Store, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> dict[int, Speed]:
    """One over the median time per token of each deployment that has a histogram of it."""
    speeds: dict[int, Speed] = {}
    for kind in (Latency.TPOT, Latency.ITL):
        rest = [entity_id for entity_id in entity_ids if entity_id not in speeds]
        found = quantiles_by(queries.latency(engine, rest, [kind.value], start_ms, end_ms), ["entity_id"])
        basis = f"1 / {kind.value.upper()} median"
        for row in found[found["p50_seconds"] > 0].to_dict("records"):
            speeds[row["entity_id"]] = Speed(
                tokens_per_second=1 / row["p50_seconds"], basis=basis, observations=row["observations"]
            )
    return speeds


def _mean_speed(counted: Mapping[Hashable, Any]) -> Speed:
    """The same over the mean, for a server that has counters alone."""
    tokens = counted["generation_tokens_total"]
    rate = _ratio(tokens, counted["decode_seconds_total"])
    if not rate:
        return Speed()
    return Speed(tokens_per_second=rate, basis="1 / mean time per token, by counters", observations=float(tokens))


def _hosted(engine: Store, entities: pd.DataFrame, settings: Settings, start_ms: int, end_ms: int) -> list[Point]:
    """Endpoints that are seen by probes alone."""
    requests = dict(iter(queries.probes(engine, start_ms, end_ms).groupby("entity_id")))
    prices = {probe.name: probe for probe in settings.probe}
    deployments = entities[(entities["family"] == "deployment") & ~are_gateways(entities)]
    found = []
    for probe in entities[entities["family"] == "probe"].to_dict("records"):
        mine = requests.get(probe["entity_id"])
        if mine is not None and not any(asks(probe["labels"], labels) for labels in deployments["labels"]):
            answered = mine[mine["outcome"] == Outcome.OK.value]
            found.append(_endpoint(probe["labels"], answered, prices.get(probe["key"])))
    return found


def _endpoint(labels: dict[str, str], answered: pd.DataFrame, price: ProbeSettings | None) -> Point:
    times = answered["tpot_seconds"].dropna()
    times = times[times > 0]
    usd = None if price is None else price.usd_per_million_output_tokens
    return Point(
        kind="hosted",
        model=labels.get("model", "unknown model"),
        server=labels.get("url", ""),
        hardware=HOSTED,
        speed=Speed(
            tokens_per_second=float((1 / times).median()), basis="median of 1 / TPOT, probes", observations=len(times)
        )
        if len(times)
        else Speed(),
        usd_per_million_output_tokens=usd,
        price_basis=LIST_PRICE,
        price_quality=Quality.MISSING if usd is None else Quality.MEASURED,
        prompt_tokens_per_request=_known(answered["prompt_tokens"].mean()),
        output_tokens_per_request=_known(answered["output_tokens"].mean()),
        reason=NO_LIST_PRICE if usd is None else "",
    )


def needs_price(point: Point) -> bool:
    """Whether a price in the settings is all that is missing."""
    return NO_PRICE in point.reason or NO_LIST_PRICE in point.reason


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 and not pd.isna(part) else None
