"""How many accelerators and nodes hold a model, of each type, beside what was measured of it. Nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st
from babel.lists import format_list

from analytics import capacity
from analytics.capacity import Measured, Plan
from core.errors import ConfigError, StoreError
from core.hardware.catalogue import AcceleratorModel, accelerators, match_accelerator
from core.hardware.planning import ModelShape
from core.language import _, say, spoken
from core.texts import significant
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
    page(_("Capacity"), draw, controls=form)
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
        st.warning(say("Active parameters are a part of all parameters: there cannot be more."), icon=":material/edit:")
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
        reasons = list(dict.fromkeys(one.reason for one in every)) or [say("the filters leave none")]
        why = words.plain(format_list(reasons, style="or", locale=spoken().locale), limit=500)
        st.warning(say("No type of accelerator holds it: {reasons}.", reasons=why), icon=":material/block:")
        return
    small = held[0]
    told = [say("Smallest that holds it: {plan}, {nodes}.", plan=plans.name(small), nodes=plans.nodes(small))]
    cheap = min((one for one in held if one.usd_per_hour is not None), key=_price, default=None)
    if cheap is None:
        told.append(say("Cheapest: set a price in [[cost.hardware]] to see it."))
    else:
        told.append(
            say(
                "Cheapest by the prices in the settings: {plan}, {nodes}, {price} per hour.",
                plan=plans.name(cheap),
                nodes=plans.nodes(cheap),
                price=currency.show(cheap.usd_per_hour),
            )
        )
    told += [_seen(one, wanted.target_tokens_per_second) for one in held if one.measured]
    st.success(words.plain(" ".join(told), limit=900), icon=":material/check_circle:")


def _seen(one: Plan, tokens_per_second: float | None) -> str:
    """What was measured of it, and how many that makes for the output wanted."""
    rate = spoken().number(one.measured[0].tokens_per_second_per_accelerator, 1)
    needed = plans.target(one, tokens_per_second).accelerators
    if needed is None or tokens_per_second is None:
        return say("Measured on {type}: {rate} tokens/s per accelerator.", type=one.accelerator.model, rate=rate)
    return say(
        "Measured on {type}: {rate} tokens/s per accelerator, so {needed} for {wanted} tokens/s.",
        type=one.accelerator.model,
        rate=rate,
        needed=spoken().number(needed),
        wanted=spoken().number(tokens_per_second),
    )


def _price(one: Plan) -> float:
    return math.inf if one.usd_per_hour is None else one.usd_per_hour


def _sizes(model: ModelShape) -> None:
    """What the plan takes the model for, and from where."""
    told = say(
        "{parameters} billion parameters, {active} read for a token, {layers} layers, {heads} KV heads × {values} "
        "values. From: {source}.",
        parameters=significant(model.parameters / BILLION, 4),
        active=significant(model.active_parameters / BILLION, 4),
        layers=spoken().number(model.layers),
        heads=spoken().number(model.kv_heads),
        values=spoken().number(model.kv_values_per_head),
        source=model.source or say("your own numbers, embeddings at the precision of all weights"),
    )
    st.caption(words.plain(told, limit=500))


if __name__ == "__main__":
    render()
