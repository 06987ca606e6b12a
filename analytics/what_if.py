"""What a million output tokens would cost at another utilization, tariff, PUE or hardware price, beside hosted prices.

It begins at what was measured over whole hours and changes one thing at a time; nothing is stored. Hardware and
overhead fall due whether work is done or not, electricity by the hours with and without work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import pandas as pd

from analytics import cost_totals, prices
from analytics.cost_figures import DeploymentCost
from analytics.costs_of_hours import held_parts
from analytics.device_hours import IDLE_ID
from analytics.formulas import hosted
from analytics.formulas.cost import usd_per_million
from analytics.formulas.hosted import HostedPrice, HostedTokens
from analytics.formulas.local_time import local
from analytics.formulas.unknown import total
from analytics.ledger import LINES, Ledger, deployment_bills
from core.hardware.catalogue import HostedEndpoint, endpoints
from core.language import _
from core.prices import HostedPrice as ListPrice
from core.settings import Settings
from core.sites import matches
from core.texts import Text, text
from core.units import JOULES_PER_KWH

HOURS_PER_DAY = 24
LEAST_HOURS = 0.5  # that devices worked in an hour, for its rate to say something
NOT_COUNTED = _("the server does not count prompt tokens")
_SAME_PRICE = 1e-9  # of an hour's price: less is rounding


class Movable(NamedTuple):
    """Work that can wait: energy (kWh) and what it cost, and the mean price (USD/kWh) of each hour of the day.

    The hour of the day is that of the main site; ``None``: nothing was used in it.
    """

    kwh: float
    usd: float
    hourly_usd_per_kwh: tuple[float | None, ...]

    def usd_in(self, first_hour: int, hours: int) -> float | None:
        """What the same energy costs in hours of the day, spread evenly over those with a known price."""
        chosen = [self.hourly_usd_per_kwh[(first_hour + n) % HOURS_PER_DAY] for n in range(hours)]
        known = [price for price in chosen if price is not None]
        return self.kwh * sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What some deployments cost and did.

    hours: in which they held a device. device_hours: of all their devices.
    utilization_ratio: part of the hours in which they held devices that these worked; ``None``: not known.
    best_hour_ratio: tokens for each hour that a device worked, in the hour with most of them, over their mean: how far
        devices were from full while they worked.
    pue_ratio: of energy at the meter to that of the devices, as it was priced.
    movable: ``None`` where no work can wait, or electricity costs the same at all hours.
    """

    hours: float
    device_hours: float
    output_tokens: float
    prompt_tokens: float | None
    cached_prompt_tokens: float | None
    hardware_usd: float
    electricity_active_usd: float
    electricity_idle_usd: float
    overhead_usd: float
    utilization_ratio: float | None
    best_hour_ratio: float | None
    pue_ratio: float
    movable: Movable | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Settings to try; ``None`` and factors of 1 are as measured. ``batch_hours``: first hour of the day, how many."""

    utilization_ratio: float | None = None
    tariff_factor: float = 1.0
    pue_ratio: float | None = None
    hardware_factor: float = 1.0
    batch_hours: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The four lines (USD) and the tokens that they would be for."""

    hardware_usd: float
    electricity_active_usd: float
    electricity_idle_usd: float
    overhead_usd: float
    output_tokens: float

    @property
    def total_usd(self) -> float:
        """The lines together."""
        return total(*(getattr(self, line) for line in LINES)) or 0.0

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """Output tokens carry the whole cost."""
        return usd_per_million(self.total_usd, self.output_tokens)


class BreakEven(NamedTuple):
    """From which use on own hardware is no dearer. Over 1: more tokens than full use makes at the measured rate."""

    utilization_ratio: float
    output_tokens_per_day: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the same tokens cost elsewhere, per million output tokens (USD), prompts included.

    fits: whether it is the price of a model that was served. saved_by_cache_usd: per million output tokens; ``None``
        where the offer has no price for cached prompts.
    """

    kind: Literal["hosted", "published"]
    name: str
    source: str | Text
    fits: bool
    usd_per_million_output_tokens: float | None
    saved_by_cache_usd: float | None
    reason: str = ""


def measured(
    of: Ledger, costs: Sequence[DeploymentCost], settings: Settings, *, with_unheld: bool = False
) -> Measured | None:
    """Where trying begins; ``None`` where a line of the cost or the tokens are unknown, or there were none.

    Args:
        of: the bill of whole hours.
        costs: of deployments, from the same bill; those whose cost is unknown are left out.
        settings: name the models whose work can wait.
        with_unheld: devices that no deployment held are paid for too.
    """
    priced = [cost for cost in costs if cost.total_usd is not None]
    summed = cost_totals.total(priced)
    free = deployment_bills(of).get(IDLE_ID) if with_unheld else None
    lines = {
        line: summed.lines.get(line) if free is None else total(summed.lines.get(line), getattr(free, line))
        for line in LINES
    }
    known = {line: usd for line, usd in lines.items() if usd is not None}
    if len(known) < len(LINES) or not summed.charged_output_tokens:
        return None
    ids = {cost.deployment_id for cost in priced}
    parts = held_parts(of)
    parts = parts[parts["deployment_id"].isin(ids if free is None else ids | {IDLE_ID})]
    seen = parts.dropna(subset=["active_ratio"])
    by_hour = (seen["hours"] * seen["active_ratio"]).groupby(seen["hour_ms"]).sum()
    seen_hours, worked = seen["hours"].sum(), by_hour.sum()
    kwh = (parts["active_kwh"] + parts["idle_kwh"]).sum()
    device_kwh = parts["energy_joules"].sum() / JOULES_PER_KWH
    work = of.of.work[of.of.work["deployment_id"].isin(ids)]
    made = work.groupby("hour_ms")["generation_tokens"].sum()
    rates = (made / by_hour.where(by_hour >= LEAST_HOURS)).dropna()
    cached = work["cached_prompt_tokens"].sum(min_count=1)
    waiting = {c.deployment_id for c in priced if any(matches(p, c.model) for p in settings.cost.flexible_models)}
    return Measured(
        hours=float(parts["hour_ms"].nunique()),
        device_hours=float(parts["hours"].sum()),
        output_tokens=summed.charged_output_tokens,
        prompt_tokens=summed.charged_prompt_tokens,
        cached_prompt_tokens=None if pd.isna(cached) else float(cached),
        **known,
        utilization_ratio=float(worked / seen_hours) if worked > 0 else None,
        best_hour_ratio=float(rates.max() / (made.sum() / worked)) if worked > 0 and len(rates) else None,
        pue_ratio=float(kwh / device_kwh) if device_kwh > 0 else 1.0,
        movable=_movable(parts, waiting, settings),
    )


def _movable(parts: pd.DataFrame, waiting: set[int], settings: Settings) -> Movable | None:
    paid = parts[parts["electricity_active_usd"] + parts["electricity_idle_usd"] > 0]
    mine = paid[paid["deployment_id"].isin(waiting)]
    at = pd.to_datetime(paid["hour_ms"].astype("int64"), unit="ms", utc=True).dt.tz_convert(settings.site.zone)
    usd = (paid["electricity_active_usd"] + paid["electricity_idle_usd"]).groupby(at.dt.hour).sum()
    per_kwh = (usd / (paid["active_kwh"] + paid["idle_kwh"]).groupby(at.dt.hour).sum()).to_dict()
    flat = not per_kwh or max(per_kwh.values()) - min(per_kwh.values()) <= _SAME_PRICE * max(per_kwh.values())
    if flat or mine.empty:
        return None
    by_hour = tuple(per_kwh.get(hour) for hour in range(HOURS_PER_DAY))
    return Movable(float(mine["active_kwh"].sum()), float(mine["electricity_active_usd"].sum()), by_hour)


def outcome(of: Measured, choice: Choice) -> Outcome:
    """What the choice makes of what was measured; with the measured settings it is just that.

    Work and its energy grow with utilization, at the rate and power measured while there was work. An hour without
    work takes what such hours took; where there were none, as much as one with work, which is the most it can be.
    """
    measured_ratio = of.utilization_ratio
    ratio = measured_ratio if choice.utilization_ratio is None else choice.utilization_ratio
    active, idle_usd, worked = of.electricity_active_usd, of.electricity_idle_usd, 1.0
    if choice.batch_hours is not None and of.movable is not None:
        moved = of.movable.usd_in(*choice.batch_hours)
        active += 0.0 if moved is None else moved - of.movable.usd
    if measured_ratio is not None and ratio is not None and ratio != measured_ratio:
        worked = ratio / measured_ratio
        if measured_ratio < 1:
            idle_usd *= (1 - ratio) / (1 - measured_ratio)
        else:
            idle_usd += active * (1 - ratio)
    energy = choice.tariff_factor * (1.0 if choice.pue_ratio is None else choice.pue_ratio / of.pue_ratio)
    return Outcome(
        hardware_usd=of.hardware_usd * choice.hardware_factor,
        electricity_active_usd=active * worked * energy,
        electricity_idle_usd=idle_usd * energy,
        overhead_usd=of.overhead_usd,
        output_tokens=of.output_tokens * worked,
    )


def at_full_use(of: Measured, choice: Choice) -> Outcome | None:
    """The same if devices worked in every hour they are held; ``None`` where utilization is not known."""
    return None if of.utilization_ratio is None else outcome(of, replace(choice, utilization_ratio=1.0))


def break_even(of: Measured, choice: Choice, usd_per_million_output_tokens: float | None) -> BreakEven | None:
    """How much the devices must do to be no dearer than a hosted price, all else as chosen.

    Beyond full use they would have to make more tokens in an hour, at the energy per token of such hours.

    Returns:
        ``None`` where a figure is unknown, and where electricity alone costs more: then it never happens.
    """
    full = at_full_use(of, choice)
    if full is None:
        return None
    standing = outcome(of, replace(choice, utilization_ratio=0.0)).total_usd
    fixed = full.total_usd - full.electricity_active_usd
    found = [
        hosted.break_even_tokens(
            usd, usd_per_million_output_tokens, usd_per_million(full.total_usd - usd, full.output_tokens)
        )
        for usd in (standing, fixed)
    ]
    within, beyond = found
    tokens = within if within is not None and within <= full.output_tokens else beyond
    if tokens is None:
        return None
    return BreakEven(tokens / full.output_tokens, tokens / of.hours * HOURS_PER_DAY)


def offers(of: Measured, models: Sequence[str], settings: Settings, at_ms: int) -> list[Offer]:
    """Hosted list prices of the settings that hold at an instant, then published ones, for the same tokens.

    Prompts that were cached cost as others do where an offer has no price for them, or a server does not count them.
    """
    day = local(at_ms, settings.site.zone).date()
    listed = [(number, one) for number, one in enumerate(settings.cost.hosted) if one.holds_on(day)]
    return [
        *(
            _listed(of, one, text(_("settings: {key}"), key=f"cost.hosted.{number}"), models, settings, at_ms)
            for number, one in listed
        ),
        *(_published(of, one, models) for one in endpoints()),
    ]


def _listed(
    of: Measured, price: ListPrice, source: Text, models: Sequence[str], settings: Settings, at_ms: int
) -> Offer:
    has_cached = price.per_million_cached is not None
    usd, uncached_usd = (
        prices.hosted_usd(settings, price, _tokens(of, cached_apart=apart), at_ms) for apart in (has_cached, False)
    )
    saved = None if usd is None or uncached_usd is None or not has_cached else uncached_usd - usd
    rate = prices.to_currency(settings, 1.0, price.currency, "USD", at_ms)
    return Offer(
        kind="hosted",
        name=price.model if price.endpoint == "*" else f"{price.model} @ {price.endpoint}",
        source=rate.noted(source),
        fits=any(matches(price.model, model) for model in models),
        usd_per_million_output_tokens=usd_per_million(usd, of.output_tokens),
        saved_by_cache_usd=usd_per_million(saved, of.output_tokens),
        reason=rate.reason or ("" if usd is not None else NOT_COUNTED),
    )


def _published(of: Measured, one: HostedEndpoint, models: Sequence[str]) -> Offer:
    price = HostedPrice(
        input_usd_per_million=one.usd_per_million_input_tokens,
        output_usd_per_million=one.usd_per_million_output_tokens,
    )
    usd = hosted.hosted_usd(_tokens(of, cached_apart=False), price)
    return Offer(
        kind="published",
        name=f"{one.model} @ {one.vendor}",
        source=f"{one.source}; {one.as_of}; {one.notes}",
        fits=any(matches(f"*{one.model}*", model) for model in models),
        usd_per_million_output_tokens=usd_per_million(usd, of.output_tokens),
        saved_by_cache_usd=None,
        reason="" if usd is not None else NOT_COUNTED,
    )


def _tokens(of: Measured, *, cached_apart: bool) -> HostedTokens:
    cached = (of.cached_prompt_tokens or 0.0) if cached_apart else 0.0
    uncached = None if of.prompt_tokens is None else max(of.prompt_tokens - cached, 0.0)
    return HostedTokens(
        uncached_tokens=uncached, cached_tokens=cached, write_tokens=0.0, output_tokens=of.output_tokens
    )
