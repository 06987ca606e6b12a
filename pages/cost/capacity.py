"""How many accelerators and nodes hold a model, of each type, beside what was measured of it. Nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics import capacity
from analytics.capacity import Measured, Plan
from core.errors import ConfigError, StoreError
from core.hardware.catalogue import AcceleratorModel, accelerators, match_accelerator
from core.hardware.planning import ModelShape
from pages.cost import plans
from pages.cost.capacity_form import BILLION, Asked, asked, form
from pages.shared import filters, loaders, words
from pages.shared.filters import View
from pages.shared.frame import page
from pages.shared.money import Money, money
from pages.shared.store import settings

NO_ENTITIES = pd.DataFrame(columns=["family", "key", "parent_key", "model", "host"])


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


def draw(view: View) -> None:
    """The plan beside what the window holds of measurements."""
    _plans(view, loaders.entities(), loaders.measured(view.start_ms, view.end_ms), stored=True)


def _plans(view: View, entities: pd.DataFrame, measured: Sequence[Measured], *, stored: bool) -> None:
    """Verdict, memory, the types that hold it and those that do not, and the arithmetic of one."""
    wanted, currency = asked(), money(view)
    if wanted.model.active_parameters > wanted.model.parameters:
        st.warning("Active parameters are a part of all parameters: there cannot be more.", icon=":material/edit:")
        return
    every = capacity.plan(
        wanted.model,
        wanted.precision,
        wanted.context_tokens,
        wanted.requests,
        _types(view),
        kv_precision=wanted.kv_precision,
        usd_per_accelerator_hour=capacity.hourly_prices(settings(), entities, view.now_ms),
    )
    every = sorted(capacity.beside(every, measured), key=_size)
    held = [one for one in every if one.memory is not None]
    _verdict(held, every, wanted, currency)
    _sizes(wanted.model)
    if currency.caption and any(one.usd_per_hour is not None for one in held):
        st.caption(words.plain(currency.caption, limit=500))
    if held:
        output = wanted.target_tokens_per_second
        plans.memory(held)
        plans.arithmetic(plans.types(held, output, currency, view, stored=stored), output, currency)
    plans.refused([one for one in every if one.memory is None], view, stored=stored)


def _types(view: View) -> list[AcceleratorModel]:
    """What the filters let through of the catalogue."""
    chosen = None if view.hardware is None else match_accelerator(view.hardware)
    return [
        one for one in accelerators() if view.vendor in (None, one.vendor) and (view.hardware is None or one is chosen)
    ]


def _size(one: Plan) -> tuple[float, float]:
    """Fewest accelerators first, among as many those with the least memory."""
    return one.accelerators or math.inf, one.accelerator.memory_bytes


def _verdict(held: Sequence[Plan], every: Sequence[Plan], wanted: Asked, currency: Money) -> None:
    """The smallest and the cheapest that hold it, and what was measured."""
    if not held:
        reasons = " or ".join(dict.fromkeys(one.reason for one in every)) or "the filters leave none"
        st.warning(f"No type of accelerator holds it: {words.plain(reasons, limit=500)}.", icon=":material/block:")
        return
    small = held[0]
    said = f"Smallest that holds it: {plans.name(small)}, {plans.nodes(small)}"
    cheap = min((one for one in held if one.usd_per_hour is not None), key=_price, default=None)
    if cheap is None:
        said += ". Cheapest: set a price in [[cost.hardware]] to see it"
    else:
        price = currency.show(cheap.usd_per_hour)
        named = f"{plans.name(cheap)}, {plans.nodes(cheap)}"
        said += f". Cheapest by the prices in the settings: {named}, {price} per hour"
    said += "".join(_seen(one, wanted.target_tokens_per_second) for one in held if one.measured)
    st.success(f"{words.plain(said, limit=900)}.", icon=":material/check_circle:")


def _seen(one: Plan, tokens_per_second: float | None) -> str:
    """What was measured of it, and how many that makes for the output wanted."""
    rate = one.measured[0].tokens_per_second_per_accelerator
    said = f". Measured on {one.accelerator.model}: {rate:,.1f} tokens/s per accelerator"
    count = plans.target(one, tokens_per_second).accelerators
    return said if count is None else f"{said}, so {count:,} for {tokens_per_second:,.0f} tokens/s"


def _price(one: Plan) -> float:
    return math.inf if one.usd_per_hour is None else one.usd_per_hour


def _sizes(model: ModelShape) -> None:
    """What the plan takes the model for, and from where."""
    said = (
        f"{model.parameters / BILLION:,.4g} billion parameters, {model.active_parameters / BILLION:,.4g} read for a "
        f"token, {model.layers} layers, {model.kv_heads} KV heads × {model.kv_values_per_head} values."
    )
    whence = model.source or "your own numbers, embeddings at the precision of all weights"
    st.caption(words.plain(f"{said} From: {whence}.", limit=500))


if __name__ == "__main__":
    render()
