"""How many accelerators and nodes hold a model, of each type, beside what was measured of it. Nothing is stored."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from analytics import capacity
from analytics.capacity import Measured, Plan, Target
from analytics.formulas.capacity import RUNTIME_RESERVE_BYTES, USABLE_MEMORY_RATIO, Layout
from charts.capacity import memory_bars
from core.errors import ConfigError, StoreError
from core.hardware.catalogue import AcceleratorModel, accelerators, match_accelerator
from core.hardware.planning import ModelShape, Precision, models
from core.units import PLAIN, UNITS, show, show_money, unit_of
from pages.shared import filters, loaders, words
from pages.shared.columns import configured
from pages.shared.filters import View
from pages.shared.frame import page
from pages.shared.pictures import picture
from pages.shared.store import settings
from pages.shared.tables import table

OWN, USUAL = "own numbers", "usual"
KV_PRECISIONS = (Precision.BF16, Precision.FP8, Precision.INT8)
DEFAULT_MODEL = "Llama 3.3 70B"
NOT_MEASURED = "no measurement"
BILLION = 10**9
NO_ENTITIES = pd.DataFrame(columns=["family", "key", "parent_key", "model", "host"])


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form asks for; ``target_tokens_per_second`` is of output, if any."""

    model: ModelShape
    precision: Precision
    kv_precision: Precision
    context_tokens: int
    requests: int
    target_tokens_per_second: float | None


def render() -> None:
    """Draw the page; the plan needs no database, so it is there without one too."""
    page("Capacity", draw, controls=form)
    try:
        loaders.facts()
    except ConfigError:  # said by the frame
        return
    except StoreError:
        form()
        _plans(filters.current(settings()), NO_ENTITIES, [], stored=False)


def form() -> None:
    """What to hold, kept in the address."""
    with st.container(border=True):
        left, *right = st.columns([2, 1, 1])
        with left:
            st.selectbox(
                "Model",
                [OWN, *(one.model for one in models())],
                index=1 + [one.model for one in models()].index(DEFAULT_MODEL),
                key="plan",
                bind="query-params",
                help="Sizes from each model's own config.json, or your own numbers.",
            )
        if st.session_state["plan"] == OWN:
            _own_form()
        with right[0]:
            st.selectbox(
                "Weights",
                [USUAL, *Precision],
                format_func=lambda name: f"as usual: {_shape().precision}" if name == USUAL else str(name),
                key="weights",
                bind="query-params",
                help="How weights are stored. As usual: as the model was published, bf16 for own numbers.",
            )
        with right[1]:
            st.selectbox(
                "KV cache",
                KV_PRECISIONS,
                format_func=str,
                key="kv",
                bind="query-params",
                help="Servers keep it at 16 bits unless told otherwise.",
            )
        for place, (label, key, value, most, why) in zip(
            st.columns(3),
            (
                ("Context (tokens)", "context", 8_192, 10**8, "Of each request, prompt and answer together."),
                ("Requests at once", "requests", 16, 10**6, "All of them are in the KV cache at the same time."),
                ("Output wanted (tokens/s)", "target", None, 10**9, "Of all requests together. May stay empty."),
            ),
            strict=True,
        ):
            with place:
                _number(label, key, value, most, why)


def _own_form() -> None:
    fields = (
        ("Parameters (10⁹)", "parameters", 70.0, 1e5, "All of them."),
        ("Active (10⁹)", "active", None, 1e5, "Read for one token; empty: all, as in a dense model."),
        ("Layers", "layers", 80, 10**3, ""),
        ("KV heads", "heads", 8, 10**4, "Cached in each layer. One for a latent (MLA)."),
        ("Head dimension", "head_dim", 128, 10**5, "Half the latent for MLA, which is key and value in one."),
    )
    for place, (label, key, value, most, why) in zip(st.columns(len(fields)), fields, strict=True):
        with place:
            _number(label, key, value, most, why)


def _number(label: str, key: str, value: float | None, most: float, why: str) -> None:
    least = 0.01 if isinstance(most, float) else 1
    st.number_input(
        label,
        min_value=least,
        max_value=most,
        value=value,
        key=key,
        bind="query-params",
        required=value is not None,
        help=why or None,
        placeholder="",
    )


def _shape() -> ModelShape:
    """The model that the form names."""
    state = st.session_state
    if state["plan"] != OWN:
        return next(one for one in models() if one.model == state["plan"])
    parameters = round(state["parameters"] * BILLION)
    return ModelShape(
        vendor="",
        model=OWN,
        name_pattern=re.compile("(?!)"),
        parameters=parameters,
        active_parameters=round((state["active"] or state["parameters"]) * BILLION),
        embedding_parameters=0,
        wide_parameters=0,
        layers=state["layers"],
        windowed_layers=0,
        window_tokens=0,
        kv_heads=state["heads"],
        kv_values_per_head=2 * state["head_dim"],
        precision=Precision.BF16,
        context_tokens=sys.maxsize,
        source="",
        notes="",
    )


def _asked() -> Asked:
    state, shape = st.session_state, _shape()
    return Asked(
        model=shape,
        precision=shape.precision if state["weights"] == USUAL else Precision(state["weights"]),
        kv_precision=Precision(state["kv"]),
        context_tokens=state["context"],
        requests=state["requests"],
        target_tokens_per_second=state["target"],
    )


def draw(view: View) -> None:
    """The plan beside what the window holds of measurements."""
    _plans(view, loaders.entities(), loaders.measured(view.start_ms, view.end_ms), stored=True)


def _plans(view: View, entities: pd.DataFrame, measured: Sequence[Measured], *, stored: bool) -> None:
    """Verdict, memory, the types that hold it and those that do not, and the arithmetic of one."""
    asked = _asked()
    if asked.model.active_parameters > asked.model.parameters:
        st.warning("Active parameters are a part of all parameters: there cannot be more.", icon=":material/edit:")
        return
    plans = capacity.plan(
        asked.model,
        asked.precision,
        asked.context_tokens,
        asked.requests,
        _types(view),
        kv_precision=asked.kv_precision,
        usd_per_accelerator_hour=capacity.hourly_prices(settings(), entities, view.now_ms),
    )
    plans = sorted(capacity.beside(plans, measured), key=_size)
    held = [one for one in plans if one.memory is not None]
    _verdict(held, plans, asked)
    _sizes(asked.model)
    if held:
        _picture(held)
        one = held[_table(_listed(held, asked), view, stored=stored) or 0]
        _terms(one, _target(one, asked))
    _refused([one for one in plans if one.memory is None], view, stored=stored)


def _types(view: View) -> list[AcceleratorModel]:
    """What the filters let through of the catalogue."""
    chosen = None if view.hardware is None else match_accelerator(view.hardware)
    return [
        one for one in accelerators() if view.vendor in (None, one.vendor) and (view.hardware is None or one is chosen)
    ]


def _size(one: Plan) -> tuple[float, float]:
    """Fewest accelerators first, among as many those with the least memory."""
    return one.accelerators or math.inf, one.accelerator.memory_bytes


def _verdict(held: Sequence[Plan], plans: Sequence[Plan], asked: Asked) -> None:
    """The smallest and the cheapest that hold it, and what was measured."""
    if not held:
        reasons = " or ".join(dict.fromkeys(one.reason for one in plans)) or "the filters leave none"
        st.warning(f"No type of accelerator holds it: {words.plain(reasons, limit=500)}.", icon=":material/block:")
        return
    small = held[0]
    said = f"Smallest that holds it: {_name(small)}, {_nodes(small)}"
    cheap = min((one for one in held if one.usd_per_hour is not None), key=_price, default=None)
    if cheap is None:
        said += ". Cheapest: set a price in [[cost.hardware]] to see it"
    else:
        price = show_money(cheap.usd_per_hour)
        said += f". Cheapest by the prices in the settings: {_name(cheap)}, {_nodes(cheap)}, {price} per hour"
    said += "".join(_seen(one, asked) for one in held if one.measured)
    st.success(f"{words.plain(said, limit=900)}.", icon=":material/check_circle:")


def _seen(one: Plan, asked: Asked) -> str:
    """What was measured of it, and how many that makes for the output wanted."""
    rate = one.measured[0].tokens_per_second_per_accelerator
    said = f". Measured on {one.accelerator.model}: {rate:,.1f} tokens/s per accelerator"
    wanted, count = asked.target_tokens_per_second, _target(one, asked).accelerators
    return said if wanted is None or count is None else f"{said}, so {count:,} for {wanted:,.0f} tokens/s"


def _price(one: Plan) -> float:
    return math.inf if one.usd_per_hour is None else one.usd_per_hour


def _name(one: Plan) -> str:
    return f"{one.accelerators} × {one.accelerator.model}"


def _nodes(one: Plan) -> str:
    if one.nodes is None:
        return "nodes unknown"
    return f"{one.nodes} node{'' if one.nodes == 1 else 's'} of {one.accelerators_per_node}"


def _sizes(model: ModelShape) -> None:
    """What the plan takes the model for, and from where."""
    said = (
        f"{model.parameters / BILLION:,.4g} billion parameters, {model.active_parameters / BILLION:,.4g} read for a "
        f"token, {model.layers} layers, {model.kv_heads} KV heads × {model.kv_values_per_head} values."
    )
    whence = model.source or "your own numbers, embeddings at the precision of all weights"
    st.caption(words.plain(f"{said} From: {whence}.", limit=500))


def _layout(layout: Layout | None) -> str:
    if layout is None:
        return ""
    return f"tensor {layout.tensor_parallel}" + (
        f" × pipeline {layout.pipeline_parallel}" if layout.pipeline_parallel > 1 else ""
    )


def _picture(held: Sequence[Plan]) -> None:
    rows = [
        {
            "name": _name(one),
            "layout": _layout(one.layout),
            **{f"{part}_bytes": getattr(one.memory, f"{part}_bytes") for part in ("weight", "kv", "reserve", "free")},
        }
        for one in held
    ]
    picture(
        "Memory of one accelerator",
        memory_bars(pd.DataFrame(rows)),
        key="capacity-memory",
        help="Of the one that holds most. A bar is as long as the memory is large.",
        note=f"derived · reserve: {1 - USABLE_MEMORY_RATIO:.0%} that a server leaves alone, and "
        f"{show(RUNTIME_RESERVE_BYTES, unit_of('x_bytes'))} for its runtime",
    )


def _target(one: Plan, asked: Asked) -> Target:
    wanted = asked.target_tokens_per_second
    return Target() if wanted is None else capacity.towards(one, wanted)


def _listed(held: Sequence[Plan], asked: Asked) -> pd.DataFrame:
    """One row per type that holds it; unknown figures are empty and ``not_known`` says why."""
    columns: dict[str, Any] = {
        "type": [one.accelerator.model for one in held],
        "accelerators": pd.Series([one.accelerators for one in held], dtype="Int64"),
        "nodes": pd.Series([one.nodes for one in held], dtype="Int64"),
        "memory_filled_ratio": [one.memory and one.memory.filled_ratio for one in held],
        "node_hour_usd": pd.Series([one.usd_per_node_hour for one in held], dtype="float64"),
        "measured_tokens_per_second": pd.Series(
            [one.measured[0].tokens_per_second_per_accelerator if one.measured else None for one in held],
            dtype="float64",
        ),
    }
    if asked.target_tokens_per_second is not None:
        counts = [_target(one, asked).accelerators for one in held]
        columns["accelerators_for_output"] = [NOT_MEASURED if count is None else f"{count:,}" for count in counts]
    columns |= {
        "node_power_watts": pd.Series([one.node_watts for one in held], dtype="float64"),
        "layout": [_layout(one.layout) for one in held],
        "bound_tokens_per_second": pd.Series([one.decode_bound_tokens_per_second for one in held], dtype="float64"),
        "not_known": [one.reason for one in held],
        "measured_by": [one.measured[0].basis if one.measured else NOT_MEASURED for one in held],
        "vendor": [one.accelerator.vendor for one in held],
    }
    return pd.DataFrame(columns)


def _table(frame: pd.DataFrame, view: View, *, stored: bool) -> int | None:
    st.markdown("##### Types that hold it", help="Pick a row for its arithmetic.")
    number = st.column_config.NumberColumn
    columns = {
        "node_hour_usd": number("USD/node-hour", format="%.2f"),
        "measured_tokens_per_second": number("Measured tokens/s each", format="%.1f"),
        "bound_tokens_per_second": number("Bound, tokens/s in all", format="%.0f"),
    }
    titles = {
        "memory_filled_ratio": "memory filled",
        "node_power_watts": "node by TDP, estimated",
        "accelerators_for_output": "needed for output",
        "not_known": "not known",
        "measured_by": "measured by",
    }
    picked = _shown(frame, view, "capacity-types", titles, columns, stored=stored, selectable=True)
    st.caption(
        "Bound: what memory bandwidth allows at most; a bound, not a forecast. Power: TDP of the accelerators of a "
        "node, the rest of it not included. Price: its accelerators by the settings; where they are owned, electricity "
        f"comes on top. Measured: {view.words}, at the load, prompts and precision that there were, so a server with "
        "few requests gives less than it could."
    )
    return picked


def _shown(
    frame: pd.DataFrame,
    view: View,
    key: str,
    titles: dict[str, str],
    columns: dict[str, Any],
    *,
    stored: bool,
    selectable: bool = False,
) -> int | None:
    """A table with its file; without a database, which says whether data are simulated, without the file."""
    if stored:
        return table(frame, view, key=key, titles=titles, columns=columns, selectable=selectable)
    shown, config = configured(frame, view.zone, titles)
    st.dataframe(shown, key=key, hide_index=True, column_config=config | columns)
    return None


def _terms(one: Plan, target: Target) -> None:
    """The arithmetic of one plan, line by line."""
    st.markdown(f"##### How was this computed: {words.plain(_name(one))}")
    lines = [
        {"name": term.name, "arithmetic": term.arithmetic, "value": _value(term.value, term.unit)}
        for term in (*one.terms, *target.terms)
    ]
    st.table(pd.DataFrame(lines).map(words.plain, limit=500), hide_index=True)
    notes = (one.accelerator.notes, f"Figures of the type: {one.accelerator.source}")
    st.caption(". ".join(words.plain(note, limit=500) for note in notes if note))


def _value(value: float | None, unit: str) -> str:
    found = next((one for one in UNITS if one.symbol == unit), PLAIN)
    if value is None or found is not PLAIN:
        return show(value, found)
    return f"{value:,.6g} {unit.removesuffix('s') if value == 1 else unit}"


def _refused(refused: Sequence[Plan], view: View, *, stored: bool) -> None:
    """Types that do not hold it, or of which too little is known to say so."""
    if not refused:
        return
    st.markdown("##### Types that do not hold it")
    frame = pd.DataFrame(
        {
            "type": [one.accelerator.model for one in refused],
            "reason": [one.reason for one in refused],
            "memory_bytes": [float(one.accelerator.memory_bytes) for one in refused],
            "vendor": [one.accelerator.vendor for one in refused],
        }
    )
    _shown(frame, view, "capacity-refused", {"memory_bytes": "memory of one"}, {}, stored=stored)


if __name__ == "__main__":
    render()
