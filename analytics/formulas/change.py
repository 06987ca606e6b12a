"""Why cost and unit price changed between two windows: effects that sum to the difference, with nothing left over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from analytics.formulas.cost import usd_per_million
from analytics.formulas.unknown import per


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one window cost and did; ``None`` is unknown."""

    cost_usd: float | None
    gpu_hours: float | None
    used_gpu_hours: float | None = None
    tokens: float | None = None


class CostEffects(NamedTuple):
    """Why the cost changed (USD): dearer hours, and more hours."""

    price_usd: float
    volume_usd: float


class UnitPriceEffects(NamedTuple):
    """Why a million tokens changed in price (USD): dearer hours, more of them idle, fewer tokens in a used one."""

    hourly_price_usd: float
    utilization_usd: float
    throughput_usd: float


def cost_effects(before: Window, after: Window) -> CostEffects | None:
    """``(p1 - p0) h0 + p1 (h1 - h0)``, with p the cost of an hour and h the hours.

    Without hours there is no price of one: the other window's then stands for it, so that hours which came or
    went are volume. ``None`` where a cost or hours are unknown.
    """
    if before.cost_usd is None or after.cost_usd is None or before.gpu_hours is None or after.gpu_hours is None:
        return None
    priced = after if after.gpu_hours else before
    usd_per_hour = per(priced.cost_usd, priced.gpu_hours) or 0.0  # no hours on either side: no volume
    volume_usd = usd_per_hour * (after.gpu_hours - before.gpu_hours)
    return CostEffects(after.cost_usd - before.cost_usd - volume_usd, volume_usd)


def unit_price_effects(before: Window, after: Window) -> UnitPriceEffects | None:
    """The change of USD per million tokens, in three.

    A unit price is the price of an hour over (part of the hours used x tokens per used hour). Each effect is the
    logarithm of its factor's change times the logarithmic mean of both unit prices (Ang's LMDI), so that they
    sum to the difference in any order. ``None`` where a figure is unknown or not above zero: it has no logarithm.
    """
    was, now = _factors(before), _factors(after)
    unit_usd = usd_per_million(before.cost_usd, before.tokens)
    if was is None or now is None or unit_usd is None:
        return None
    price, utilization, throughput = (math.log(new) - math.log(old) for old, new in zip(was, now, strict=True))
    change = price - utilization - throughput
    mean_usd = unit_usd * (math.expm1(change) / change if change else 1.0)
    return UnitPriceEffects(mean_usd * price, -mean_usd * utilization, -mean_usd * throughput)


def _factors(of: Window) -> tuple[float, float, float] | None:
    """USD per GPU-hour, used part of the GPU-hours, tokens per used GPU-hour."""
    factors = per(of.cost_usd, of.gpu_hours), per(of.used_gpu_hours, of.gpu_hours), per(of.tokens, of.used_gpu_hours)
    price, utilization, throughput = factors
    if not price or not utilization or not throughput:
        return None
    return price, utilization, throughput
