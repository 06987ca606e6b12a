"""The smallest number of accelerators of each type that holds a model. Memory decides; speed is a bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from analytics.capacity.demand import Demand, Term
from analytics.capacity.output import Measured
from analytics.formulas import capacity
from analytics.formulas.capacity import RUNTIME_RESERVE_BYTES, USABLE_MEMORY_RATIO, Layout
from analytics.formulas.unknown import product
from core.hardware.catalogue import AcceleratorModel
from core.hardware.planning import ModelShape, Precision, node_of
from core.language import _
from core.texts import Part, Text, text

NO_NODE = _("how many of them one server has is not published")
NO_TDP, NO_BANDWIDTH = _("no TDP is published"), _("no memory bandwidth is published")
DOES_NOT_FIT = text(_("not even with one layer on each node"))
DOES_NOT_FIT_A_SERVER = text(
    _("more than {number} accelerators, and how many of them one server has is not published"),
    number=capacity.LARGEST_GROUP,
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One model on one type of accelerator. ``None``: does not fit or unknown, and ``reason`` says why.

    Power is an estimate: TDP of the accelerators alone. The bound is by memory bandwidth, and not a forecast.
    """

    model: str
    accelerator: AcceleratorModel
    layout: Layout | None = None
    memory: Memory | None = None
    accelerators_per_node: int | None = None
    nodes: int | None = None
    node_watts: float | None = None
    usd_per_node_hour: float | None = None
    decode_bound_tokens_per_second: float | None = None
    terms: tuple[Term, ...] = ()
    measured: tuple[Measured, ...] = ()
    reasons: tuple[Text, ...] = ()

    @property
    def reason(self) -> str:
        """Why it does not fit, or what is not known of the type, in the language of the thread."""
        return "; ".join(map(str, self.reasons))

    @property
    def accelerators(self) -> int | None:
        """How many hold the model."""
        return None if self.layout is None else self.layout.accelerators

    @property
    def usd_per_hour(self) -> float | None:
        """Price of its nodes, each as a whole (USD/h)."""
        return product(self.nodes, self.usd_per_node_hour)


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
        reason = text(_("a request of this model holds {tokens} tokens at most"), tokens=model.context_tokens)
        return [Plan(model=model.model, accelerator=one, reasons=(reason,)) for one in accelerators]
    demand = Demand.of(model, precision, context_tokens, concurrency, kv_precision)
    prices = usd_per_accelerator_hour or {}
    return [_plan(demand, one, prices.get(one.model)) for one in accelerators]


def _plan(demand: Demand, accelerator: AcceleratorModel, usd_per_accelerator_hour: float | None) -> Plan:
    node = node_of(accelerator)
    size = None if node is None else node.accelerators
    usable = capacity.usable_bytes(accelerator.memory_bytes)
    terms = (
        *demand.terms,
        Term(
            _("usable memory of an accelerator"),
            usable,
            "B",
            text(
                _("{memory} B × {usable} − {reserve} B for the runtime"),
                memory=accelerator.memory_bytes,
                usable=USABLE_MEMORY_RATIO,
                reserve=RUNTIME_RESERVE_BYTES,
            ),
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
            reasons=(reason,),
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
            Term(_("nodes"), nodes, "nodes", text(f"⌈{layout.accelerators} / {_shown(size)}⌉")),
            Term(
                _("power of a node"),
                node_watts,
                "W",
                text(_("{number} × {power} W, accelerators only, TDP"), number=_shown(size), power=_shown(tdp_watts)),
            ),
            Term(
                _("price of a node"),
                usd_per_node_hour,
                "USD/h",
                text("{number} × {price}", number=_shown(size), price=_price(usd_per_accelerator_hour)),
            ),
            Term(
                _("output of all requests at most"),
                bound,
                "tokens/s",
                text(
                    _(
                        "{requests} requests × {group} × {bandwidth} B/s / ({weights} B of weights for a token + "
                        "{kv} B of KV cache / {stages}); bound by memory bandwidth, not a forecast"
                    ),
                    requests=demand.concurrency,
                    group=layout.tensor_parallel,
                    bandwidth=_shown(bandwidth),
                    weights=round(demand.active_weight_bytes),
                    kv=round(demand.kv_bytes),
                    stages=min(demand.concurrency, layout.pipeline_parallel),
                ),
            ),
        ),
        reasons=tuple(text(reason) for reason in _unknown(size, tdp_watts, bandwidth)),
    )


def _unknown(size: int | None, tdp_watts: float | None, bandwidth: float | None) -> list[str]:
    figures = {NO_NODE: size, NO_TDP: tdp_watts, NO_BANDWIDTH: bandwidth}
    return [reason for reason, figure in figures.items() if figure is None]


def _smallest(demand: Demand, accelerators_per_node: int | None, usable: float) -> Layout | None:
    for layout in capacity.layouts(accelerators_per_node, demand.model.layers, demand.model.kv_heads):
        held = _filled(demand, layout)
        if held is not None and held <= usable:
            return layout
    return None


def _memory(demand: Demand, layout: Layout, memory_bytes: float, usable: float) -> Memory | None:
    filled = _filled(demand, layout)
    weights = _filled(replace(demand, kv_bytes=0.0), layout)
    if filled is None or weights is None:
        return None
    return Memory(weights, filled - weights, memory_bytes - usable, usable - filled)


def _filled(demand: Demand, layout: Layout) -> float | None:
    return capacity.bytes_per_accelerator(
        demand.weight_bytes, demand.kv_bytes, demand.model.layers, demand.model.kv_heads, layout
    )


def _layout_terms(demand: Demand, layout: Layout) -> tuple[Term, ...]:
    heads, group, stages = demand.model.kv_heads, layout.tensor_parallel, layout.pipeline_parallel
    held = capacity.kv_heads_held(heads, group)
    ratio = capacity.stage_ratio(demand.model.layers, stages)
    sharing = text(_("KV heads divided"))
    if heads % group:
        sharing = text(_("each KV head on {number} accelerators"), number=group // heads)
    arithmetic = text(
        _("{ratio} of the layers × (weights / {group} + KV cache × {held}/{heads}), {sharing}"),
        ratio=ratio,
        group=group,
        held=_shown(held),
        heads=heads,
        sharing=sharing,
    )
    arrangement = text(_("tensor parallel {group} × {stages} in a pipeline"), group=group, stages=stages)
    return (
        Term(_("accelerators"), layout.accelerators, "accelerators", arrangement),
        Term(_("memory filled on an accelerator"), _filled(demand, layout), "B", arithmetic),
    )


def _shown(value: float | None) -> Part:
    return "?" if value is None else round(value)


def _price(usd_per_hour: float | None) -> Text:
    if usd_per_hour is None:
        return text(_("a price that the settings do not give"))
    return text(_("{usd} USD/h"), usd=usd_per_hour)
