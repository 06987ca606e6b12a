"""How many accelerators and nodes hold a model, per type of accelerator, with the arithmetic to show.

Memory decides. Speed is a bound by memory bandwidth, and what was measured stands beside it. Nothing is forecast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from analytics.formulas import capacity
from analytics.formulas.capacity import RUNTIME_RESERVE_BYTES, USABLE_MEMORY_RATIO, Layout
from analytics.formulas.energy import ENOUGH_COVERAGE, Quality
from analytics.formulas.states import LOOKBACK_MS
from analytics.formulas.unknown import product
from analytics.prices import hourly_price
from analytics.serving import are_gateways
from core.hardware import catalogue
from core.hardware.catalogue import AcceleratorModel, match_accelerator
from core.hardware.planning import ModelShape, Precision, match_model, node_of
from core.settings import Settings
from storage import queries
from storage.engine import Store

POWER_SCOPE, POWER_QUALITY = "accelerators only, TDP", Quality.ESTIMATED
BOUND = "bound by memory bandwidth, not a forecast"
NO_NODE = "how many of them one server has is not published"
NO_TDP, NO_BANDWIDTH = "no TDP is published", "no memory bandwidth is published"
DOES_NOT_FIT = "not even with one layer on each node"
DOES_NOT_FIT_A_SERVER = f"more than {capacity.LARGEST_GROUP} accelerators, and {NO_NODE}"


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the arithmetic: what it is, its value in ``unit``, and how it came about. ``None``: unknown."""

    name: str
    value: float | None
    unit: str
    arithmetic: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What the fullest accelerator of a plan is filled with (B); together that is all of its memory."""

    weight_bytes: float
    kv_bytes: float
    reserve_bytes: float
    free_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.weight_bytes + self.kv_bytes + self.reserve_bytes + self.free_bytes

    @property
    def filled_ratio(self) -> float:
        """Weights and KV cache of all memory."""
        return (self.weight_bytes + self.kv_bytes) / self.total_bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """Output tokens per second and accelerator that were seen, and under which conditions."""

    model: str
    accelerator: str
    tokens_per_second_per_accelerator: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One model on one type of accelerator. ``None``: does not fit or unknown, and ``reason`` says why."""

    model: str
    accelerator: AcceleratorModel
    layout: Layout | None = None
    memory: Memory | None = None
    accelerators_per_node: int | None = None
    nodes: int | None = None
    node_watts: float | None = None  # POWER_SCOPE, POWER_QUALITY
    usd_per_node_hour: float | None = None
    decode_bound_tokens_per_second: float | None = None  # BOUND
    terms: tuple[Term, ...] = ()
    measured: tuple[Measured, ...] = ()
    reason: str = ""

    @property
    def accelerators(self) -> int | None:
        """How many hold the model."""
        return None if self.layout is None else self.layout.accelerators

    @property
    def usd_per_hour(self) -> float | None:
        """Price of its nodes, each as a whole (USD/h)."""
        return product(self.nodes, self.usd_per_node_hour)


@dataclass(frozen=True, slots=True)
class Target:
    """Accelerators that give the output asked for, going by what was measured; ``None``: nothing was, or does not fit.

    They are whole copies of the model, so often a few more than the rate alone asks for.
    """

    accelerators: int | None = None
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class _Demand:
    """What all types are asked to hold (B)."""

    model: ModelShape
    concurrency: int
    weight_bytes: float
    active_weight_bytes: float
    kv_bytes: float
    terms: tuple[Term, ...]


def plan(
    model: ModelShape,
    precision: Precision,
    context_tokens: int,
    concurrency: int,
    accelerators: Iterable[AcceleratorModel],
    *,
    kv_precision: Precision = Precision.BF16,
    usd_per_accelerator_hour: Mapping[str, float] | None = None,
) -> list[Plan]:
    """The smallest number of accelerators that holds one copy of the model, for each type.

    Args:
        model: what to serve.
        precision: of the weights.
        context_tokens: of each request, prompt and answer together.
        concurrency: requests in memory at the same time.
        accelerators: types to plan for.
        kv_precision: of the KV cache; servers keep it at 16 bits unless told otherwise.
        usd_per_accelerator_hour: own prices by model of accelerator.

    Raises:
        ValueError: without a request, or with one of no tokens.
    """
    if context_tokens < 1 or concurrency < 1:
        raise ValueError("expected one request of one token at least")
    if context_tokens > model.context_tokens:
        reason = f"a request of this model holds {model.context_tokens:,} tokens at most"
        return [Plan(model=model.model, accelerator=one, reason=reason) for one in accelerators]
    demand = _demand(model, precision, context_tokens, concurrency, kv_precision)
    prices = usd_per_accelerator_hour or {}
    return [_plan(demand, one, prices.get(one.model)) for one in accelerators]


def beside(plans: Iterable[Plan], measured: Iterable[Measured]) -> list[Plan]:
    """The same plans with what was measured of their model on their accelerator."""
    rows = tuple(measured)
    return [
        replace(
            one,
            measured=tuple(row for row in rows if (row.model, row.accelerator) == (one.model, one.accelerator.model)),
        )
        for one in plans
    ]


def towards(one: Plan, tokens_per_second: float) -> Target:
    """How many accelerators give an output (tokens/s), if they work as fast as those that were measured."""
    if one.layout is None or not one.measured:
        return Target()
    size, rate = one.layout.accelerators, one.measured[0].tokens_per_second_per_accelerator
    copies = math.ceil(tokens_per_second / (rate * size))
    count = copies * size
    arithmetic = f"⌈{tokens_per_second:,.0f} tokens/s / ({rate:,.1f} tokens/s × {size})⌉ × {size} in each copy"
    return Target(
        count,
        (
            Term("measured output of an accelerator", rate, "tokens/s", one.measured[0].basis),
            Term("accelerators for the output asked for", count, "accelerators", arithmetic),
        ),
    )


def hourly_prices(settings: Settings, entities: pd.DataFrame, at_ms: int) -> dict[str, float]:
    """What an hour of each type costs by the settings (USD), by model of accelerator; without a price it is not there.

    A price names a part of what drivers call a device. A type that was seen is asked for by that, any other by
    vendor and model.

    Args:
        settings: with the prices.
        entities: as ``queries.entities`` gives them.
        at_ms: the day that prices must hold on (Unix ms).
    """
    seen: dict[str, list[tuple[str, str]]] = {}
    for name, host in _devices(entities)[["model", "host"]].dropna().drop_duplicates().itertuples(index=False):
        found = match_accelerator(name)
        if found is not None:
            seen.setdefault(found.model, []).append((name, host))
    answer: dict[str, float] = {}
    for one in catalogue.accelerators():
        for name, host in seen.get(one.model, [(f"{one.vendor} {one.model}", "")]):
            price = hourly_price(settings, "accelerator", name, host, at_ms)
            if price is not None and price.usd_per_hour is not None:
                answer.setdefault(one.model, price.usd_per_hour)
    return answer


def measured(engine: Store, start_ms: int, end_ms: int) -> list[Measured]:
    """Output per accelerator while its deployment worked, over a window, by model and type of accelerator.

    Steps of five minutes count in which a server had requests or wrote tokens; both they and the step before must
    have been watched, so that no growth of an unwatched time is taken for that of a short one. What cannot be told
    apart is left out: deployments that shared an accelerator, ran on slices or on several types.
    """
    entities = queries.entities(engine)
    work = _work(engine, entities, start_ms, end_ms)
    held = _held(work, queries.assignments(engine, start_ms, end_ms), entities)
    rows = work.merge(held, on=["entity_id", "bucket_at"])
    rows = rows[rows["watched"]]
    answer = []
    for (model, kind), of in rows.groupby(["model", "type"]):
        device_seconds = float((of["seconds"] * of["devices"]).sum())
        tokens, running = float(of["generation_tokens_total"].sum()), of["running_requests"].mean()
        if tokens > 0 and device_seconds > 0:
            load = "" if pd.isna(running) else f", {running:,.1f} requests at once in a copy"
            basis = f"{tokens:,.0f} output tokens / {device_seconds:,.0f} s of accelerators at work{load}"
            answer.append(Measured(str(model), str(kind), tokens / device_seconds, basis))
    return answer


def _work(engine: Store, entities: pd.DataFrame, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Steps in which deployments of known models worked, and whether each was ``watched``; gateways compute nothing."""
    deployments = entities[(entities["family"] == "deployment") & ~are_gateways(entities)].set_index("entity_id")
    models = {i: match_model(name) for i, name in deployments["model"].dropna().items()}
    known = {i: shape.model for i, shape in models.items() if shape is not None}
    metrics = ["generation_tokens_total", "running_requests"]
    ids = [int(i) for i in deployments.index]
    steps = queries.read(engine, "deployment", metrics, ids, start_ms - LOOKBACK_MS, end_ms, LOOKBACK_MS)
    whole = steps["coverage_ratio"] >= ENOUGH_COVERAGE
    before = steps["bucket_at"].diff() == pd.Timedelta(milliseconds=LOOKBACK_MS)
    same = steps["entity_id"] == steps["entity_id"].shift()
    steps["watched"] = whole & whole.shift(fill_value=False) & before & same
    steps["seconds"] = steps["coverage_ratio"] * LOOKBACK_MS / 1000
    steps["model"] = steps["entity_id"].map(known)
    return steps[(steps["generation_tokens_total"] > 0) | (steps["running_requests_max"] > 0)]


def _held(work: pd.DataFrame, joined: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """The accelerators that a deployment had all through a step to itself, all of one type: how many and which."""
    names = _devices(entities).set_index("entity_id")["model"].dropna()
    types = {i: found.model for i, name in names.items() if (found := match_accelerator(name)) is not None}
    pairs = work[["entity_id", "bucket_at"]].merge(joined, left_on="entity_id", right_on="deployment_id")
    ends = pairs["bucket_at"] + pd.Timedelta(milliseconds=LOOKBACK_MS)
    pairs = pairs[(pairs["valid_from_at"] < ends) & ~(pairs["valid_to_at"] <= pairs["bucket_at"])]
    through = (pairs["valid_from_at"] <= pairs["bucket_at"]) & ~(pairs["valid_to_at"] < ends)
    pairs = pairs.assign(
        type=pairs["target_id"].map(types),
        clear=through & ~pairs.duplicated(["bucket_at", "target_id"], keep=False),
    )
    steps = pairs.groupby(["entity_id", "bucket_at"])["type"].agg(["size", "count", "nunique", "first"])
    steps["clear"] = pairs.groupby(["entity_id", "bucket_at"])["clear"].all()
    steps = steps[steps["clear"] & (steps["size"] == steps["count"]) & (steps["nunique"] == 1)]
    return steps.rename(columns={"size": "devices", "first": "type"})[["devices", "type"]].reset_index()


def _devices(entities: pd.DataFrame) -> pd.DataFrame:
    """Accelerators without the slices of others."""
    devices = entities[entities["family"] == "accelerator"]
    return devices[~devices["parent_key"].isin(devices["key"])]


def _demand(
    model: ModelShape, precision: Precision, context_tokens: int, concurrency: int, kv_precision: Precision
) -> _Demand:
    wide = model.embedding_parameters + model.wide_parameters
    weights = capacity.weight_bytes(model.parameters, wide, precision)
    token = capacity.kv_bytes_per_token(model.layers, model.kv_heads, model.kv_values_per_head, kv_precision)
    cached = capacity.cached_tokens(context_tokens, model.layers, model.windowed_layers, model.window_tokens)
    kv = concurrency * cached * token
    narrow_bytes, kv_value_bytes = capacity.bytes_per_value(precision), capacity.bytes_per_value(kv_precision)
    wide_bytes = capacity.weight_bytes(1, 1, precision)
    return _Demand(
        model=model,
        concurrency=concurrency,
        weight_bytes=weights,
        active_weight_bytes=capacity.weight_bytes(model.active_parameters, model.wide_parameters, precision),
        kv_bytes=kv,
        terms=(
            Term(
                "weights",
                weights,
                "B",
                f"{model.parameters - wide:,} parameters × {narrow_bytes:g} B + {wide:,} × {wide_bytes:g} B",
            ),
            Term(
                "KV cache of a token",
                token,
                "B",
                f"{model.layers} layers × {model.kv_heads} KV heads × {model.kv_values_per_head} values"
                f" × {kv_value_bytes:g} B",
            ),
            Term(
                "KV cache of all requests",
                kv,
                "B",
                f"{concurrency:,} requests × {cached:,.0f} tokens (mean of the layers) × {token:,.0f} B",
            ),
        ),
    )


def _plan(demand: _Demand, accelerator: AcceleratorModel, usd_per_accelerator_hour: float | None) -> Plan:
    node = node_of(accelerator)
    size = None if node is None else node.accelerators
    usable = capacity.usable_bytes(accelerator.memory_bytes)
    terms = (
        *demand.terms,
        Term(
            "usable memory of an accelerator",
            usable,
            "B",
            f"{accelerator.memory_bytes:,} B × {USABLE_MEMORY_RATIO:g} − {RUNTIME_RESERVE_BYTES:,} B for the runtime",
        ),
    )
    layout = _smallest(demand, size, usable)
    if layout is None:
        reason = DOES_NOT_FIT_A_SERVER if size is None else DOES_NOT_FIT
        return Plan(
            model=demand.model.model,
            accelerator=accelerator,
            accelerators_per_node=size,
            terms=terms,
            reason=reason,
        )
    nodes = capacity.nodes_needed(layout.accelerators, size)
    tdp_watts, bandwidth = accelerator.tdp_watts, accelerator.memory_bytes_per_second
    node_watts = product(size, tdp_watts)
    usd_per_node_hour = product(size, usd_per_accelerator_hour)
    bound = capacity.decode_bound_tokens_per_second(
        demand.active_weight_bytes,
        demand.kv_bytes,
        demand.concurrency,
        layout,
        bandwidth,
    )
    return Plan(
        model=demand.model.model,
        accelerator=accelerator,
        layout=layout,
        memory=_memory(demand, layout, accelerator.memory_bytes, usable),
        accelerators_per_node=size,
        nodes=nodes,
        node_watts=node_watts,
        usd_per_node_hour=usd_per_node_hour,
        decode_bound_tokens_per_second=bound,
        terms=(
            *terms,
            *_layout_terms(demand, layout),
            Term("nodes", nodes, "nodes", f"⌈{layout.accelerators} / {_shown(size)}⌉"),
            Term("power of a node", node_watts, "W", f"{_shown(size)} × {_shown(tdp_watts)} W, {POWER_SCOPE}"),
            Term("price of a node", usd_per_node_hour, "USD/h", f"{_shown(size)} × {_price(usd_per_accelerator_hour)}"),
            Term(
                "output of all requests at most",
                bound,
                "tokens/s",
                f"{demand.concurrency:,} requests × {layout.tensor_parallel} × {_shown(bandwidth)} B/s"
                f" / ({demand.active_weight_bytes:,.0f} B of weights for a token + {demand.kv_bytes:,.0f} B of KV cache"
                f" / {min(demand.concurrency, layout.pipeline_parallel)});"
                f" {BOUND}",
            ),
        ),
        reason="; ".join(_unknown(size, tdp_watts, bandwidth)),
    )


def _unknown(size: int | None, tdp_watts: float | None, bandwidth: float | None) -> list[str]:
    figures = {NO_NODE: size, NO_TDP: tdp_watts, NO_BANDWIDTH: bandwidth}
    return [reason for reason, figure in figures.items() if figure is None]


def _smallest(demand: _Demand, accelerators_per_node: int | None, usable: float) -> Layout | None:
    for layout in capacity.layouts(accelerators_per_node, demand.model.layers, demand.model.kv_heads):
        held = _filled(demand, layout)
        if held is not None and held <= usable:
            return layout
    return None


def _memory(demand: _Demand, layout: Layout, memory_bytes: float, usable: float) -> Memory | None:
    filled = _filled(demand, layout)
    weights = _filled(replace(demand, kv_bytes=0.0), layout)
    if filled is None or weights is None:
        return None
    return Memory(weights, filled - weights, memory_bytes - usable, usable - filled)


def _filled(demand: _Demand, layout: Layout) -> float | None:
    return capacity.bytes_per_accelerator(
        demand.weight_bytes, demand.kv_bytes, demand.model.layers, demand.model.kv_heads, layout
    )


def _layout_terms(demand: _Demand, layout: Layout) -> tuple[Term, ...]:
    heads, group, stages = demand.model.kv_heads, layout.tensor_parallel, layout.pipeline_parallel
    held = capacity.kv_heads_held(heads, group)
    sharing = "divided" if heads % group == 0 else f"each on {group // heads} accelerators"
    ratio = capacity.stage_ratio(demand.model.layers, stages)
    return (
        Term("accelerators", layout.accelerators, "accelerators", f"tensor parallel {group} × {stages} in a pipeline"),
        Term(
            "memory filled on an accelerator",
            _filled(demand, layout),
            "B",
            f"{ratio:.3g} of the layers × (weights / {group} + KV cache × {held}/{heads}), KV heads {sharing}",
        ),
    )


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _price(usd_per_hour: float | None) -> str:
    return "a price that the settings do not give" if usd_per_hour is None else f"{usd_per_hour:,.4f} USD/h"
