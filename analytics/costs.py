"""Cost of each deployment over a window: the hardware it ran on, the electricity, and the unit price.

A deployment is charged for the hours it was assigned to a device, idle ones included, with its part of the host. Where
whole hours of a window are accounted for, its part of their bill (``analytics.ledger``) is its cost, so that all parts
together are the bill. A shorter window, and a new store, are priced by samples: hardware and electricity alone, at the
prices at its end. Who used what then is ``analytics.allocation``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd

from analytics import costs_of_hours
from analytics.allocation import Use, Window, uses
from analytics.cost_figures import (
    INSIDE,
    NO_ENERGY,
    NO_PRICE,
    NO_TARIFF,
    NO_TOKENS,
    NOT_JOINED,
    SPARSE,
    UNKNOWN,
    CostFigures,
    DeploymentCost,
    Term,
    changes_term,
    dearest_first,
    electricity_terms,
    hardware_terms,
    joined_by,
)
from analytics.formulas import cost as formulas
from analytics.formulas.energy import LEAST_COVERAGE, Quality, facility_kwh, joules_per_token, worst
from analytics.formulas.local_time import MS_PER_HOUR, Span
from analytics.formulas.unknown import product, total
from analytics.ledger import hourly_ledger
from analytics.power import hours_of
from analytics.prices import EnergyPrice, HourlyPrice, SiteFound, hourly_price, price_cuts, site_of
from analytics.serving import are_gateways, is_gateway
from core.language import _
from core.settings import Settings
from core.texts import text
from core.units import JOULES_PER_KWH
from storage import queries
from storage.engine import Store

__all__ = [
    "NOT_JOINED",
    "NO_ENERGY",
    "NO_PRICE",
    "NO_TARIFF",
    "NO_TOKENS",
    "SPARSE",
    "CostFigures",
    "DeploymentCost",
    "Term",
    "by_samples",
    "deployment_costs",
    "priced_hours",
    "unjoined",
]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the bill of one use of one device (USD); unknown for a ``reason`` only."""

    usd: float | None
    reason: str
    quality: Quality
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class _Prices:
    """What a device of a host costs, the host itself, and electricity at its site; ``None``: no price was given."""

    device: HourlyPrice | None
    host: HourlyPrice | None
    site: SiteFound
    electricity: EnergyPrice
    electricity_terms: tuple[Term, ...]

    @property
    def main(self) -> HourlyPrice | None:
        """The price that says whether electricity comes on top."""
        return self.device or self.host


def deployment_costs(engine: Store, settings: Settings, start_ms: int, end_ms: int) -> list[DeploymentCost]:
    """Cost of every deployment that was seen or assigned in the window, dearest first, unknown ones last.

    Gateways are no deployments of their own: what they pass on is paid for where it is computed.
    """
    hours = priced_hours(start_ms, end_ms, max(queries.accounted_until(engine).values(), default=0))
    if hours is None:
        return by_samples(engine, settings, start_ms, end_ms)
    of = hourly_ledger(engine, settings, *hours, with_states=False)
    return costs_of_hours.deployment_costs(engine, settings, of)


def priced_hours(start_ms: int, end_ms: int, accounted_ms: int) -> Span | None:
    """The whole hours that stand for a window: those that it touches and that are accounted for.

    Args:
        start_ms: window start.
        end_ms: window end.
        accounted_ms: up to where accounts reach; the hour that is over last may not be there yet.

    Returns:
        ``None`` for a window shorter than an hour, and where accounts end before it begins.
    """
    if end_ms - start_ms < MS_PER_HOUR or accounted_ms <= start_ms - MS_PER_HOUR:
        return None
    return Span(*hours_of(start_ms, min(end_ms, accounted_ms)))


def by_samples(engine: Store, settings: Settings, start_ms: int, end_ms: int) -> list[DeploymentCost]:
    """The same from the samples of any window: hardware and electricity, at the prices at its end."""
    window = Window.read(engine, start_ms, end_ms)
    by_deployment: dict[int, list[Use]] = {}
    for use in uses(window, settings.cost.output_weight_ratio):
        by_deployment.setdefault(use.deployment_id, []).append(use)
    observed = queries.observed_seconds(engine, "deployment", None, start_ms, end_ms)
    observed_seconds = dict(zip(observed["entity_id"], observed["observed_seconds"], strict=True))
    there = queries.seen(engine, "deployment", start_ms, end_ms) | by_deployment.keys()
    prices = cache(partial(_prices, settings, Span(start_ms, end_ms)))  # few differ, many devices ask
    changes = _changes(price_cuts(settings, start_ms, end_ms))
    costs = []
    for deployment_id, entity in window.entities.items():
        if deployment_id not in there or is_gateway(entity.labels):
            continue
        # A deployment is not "unobserved" before it was there: its window begins when it was first seen.
        alive_ms = end_ms - max(start_ms, entity.first_seen_ms)
        seen_ms = observed_seconds.get(deployment_id, 0.0) * 1000
        ratio = min(seen_ms / alive_ms, 1.0) if alive_ms > 0 else 0.0
        used = by_deployment.get(deployment_id, [])
        bills = [_bill(use, prices(use.family, use.model, use.host)) for use in used]
        costs.append(_cost(deployment_id, window, used, bills, changes, ratio))
    return dearest_first(costs)


def unjoined(engine: Store, start_ms: int, end_ms: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deployments without hardware and accelerators without a deployment; listed, never dropped.

    Returns:
        Two frames as ``queries.entities`` gives them.
    """
    joined = queries.assignments(engine, start_ms, end_ms)
    there = set().union(*(queries.seen(engine, f, start_ms, end_ms) for f in ("deployment", "accelerator")))
    entities = queries.entities(engine)
    entities = entities[entities["entity_id"].isin(there) & ~are_gateways(entities)]
    deployments = entities[(entities["family"] == "deployment") & ~entities["entity_id"].isin(joined["deployment_id"])]
    accelerators = entities[(entities["family"] == "accelerator") & ~entities["entity_id"].isin(joined["target_id"])]
    sliced = set(accelerators["parent_key"].dropna())  # a card cut into slices is joined through them
    return deployments, accelerators[~accelerators["key"].isin(sliced)]


def _cost(
    deployment_id: int,
    window: Window,
    used: list[Use],
    bills: list[tuple[_Line, _Line]],
    changes: list[_Line],
    observed_ratio: float,
) -> DeploymentCost:
    entity = window.entities[deployment_id]
    lines = [*itertools.chain(*bills), *changes]
    output = window.count(deployment_id, "generation_tokens_total")
    prompt = window.count(deployment_id, "prompt_tokens_total")
    paid = {
        "hardware_usd": total(*(hardware.usd for hardware, _ in bills)),
        "electricity_usd": total(*(electricity.usd for _, electricity in bills)),
    }
    joules = total(*(use.joules for use in used))
    coverage = min([observed_ratio, *(use.coverage_ratio for use in used if use.joules is not None)])
    sparse = coverage < LEAST_COVERAGE
    per_output = None if sparse else output
    reasons = [*filter(None, (hardware.reason or electricity.reason for hardware, electricity in bills))]
    if not used:
        reasons = [NOT_JOINED]
    if not reasons and sparse:
        reasons = [SPARSE]
    elif not reasons and not output:
        reasons = [NO_TOKENS]
    return DeploymentCost(
        deployment_id=deployment_id,
        key=entity.key,
        model=entity.labels.get("model", "unknown model"),
        server=entity.labels.get("url", ""),
        engine_name=entity.labels.get("engine", ""),
        targets=tuple(dict.fromkeys(use.target for use in used)),
        origin=used[-1].origin if used else "unjoined",
        output_tokens=output,
        prompt_tokens=prompt,
        charged_output_tokens=per_output,
        charged_prompt_tokens=None if sparse else prompt,
        charged_requests=None if sparse else window.count(deployment_id, "succeeded_requests_total"),
        lines=paid,
        energy_joules=joules,
        joules_per_output_token=joules_per_token(joules, per_output),
        energy_label=", ".join(dict.fromkeys(use.energy_label for use in used)) or "missing",
        energy_quality=Quality.MISSING if joules is None else worst(*(use.quality for use in used)),
        scope=", ".join(dict.fromkeys(use.scope for use in used)),
        coverage_ratio=coverage,
        label=Quality.MISSING if None in paid.values() else worst(*(line.quality for line in lines)),
        reason="; ".join(dict.fromkeys(reasons)),
        terms=tuple(dict.fromkeys(term for line in lines for term in line.terms)),
    )


def _changes(cuts: tuple[int, ...]) -> list[_Line]:
    """What is to be known where prices changed within the window; it costs nothing by itself."""
    term = changes_term(len(cuts), text(_("those at its end stand for all of it")))
    return [_Line(0.0, "", Quality.ESTIMATED, (term,))] if cuts else []


def _prices(settings: Settings, span: Span, family: str, model: str, host: str) -> _Prices:
    """Of a device of a host, at the prices that hold at the end of a span."""
    last_ms, site = span.end_ms - 1, site_of(settings, host)
    device = None if family == "host" else hourly_price(settings, "accelerator", model, host, last_ms)
    electricity, terms = electricity_terms(settings, site, span)
    return _Prices(device, hourly_price(settings, "host", host, host, last_ms), site, electricity, terms)


def _bill(use: Use, prices: _Prices) -> tuple[_Line, _Line]:
    """Hardware and electricity of one use."""
    return _hardware(use, prices), _electricity(use, prices)


def _hardware(use: Use, prices: _Prices) -> _Line:
    """What the device and its part of the host cost; unknown without a price of either."""
    hours, host_part = use.hours * use.share, 1 / use.host_parts
    term = Term(
        text(_("{device}: hours"), device=use.target),
        text(_("{hours} h x share {share} %"), hours=use.hours, share=round(100 * use.share, 1)),
        joined_by(use.origin),
    )
    if prices.main is None:
        return _Line(None, NO_PRICE, Quality.DERIVED, (term,))
    priced = [(price, part) for price, part in ((prices.device, 1.0), (prices.host, host_part)) if price is not None]
    return _Line(
        total(*(product(hours, part, price.usd_per_hour) for price, part in priced)),
        next((price.reason for price, _ in priced if price.reason), ""),
        Quality.DERIVED,
        (term, *hardware_terms(prices.device, prices.host, host_part)),
    )


def _electricity(use: Use, prices: _Prices) -> _Line:
    """Electricity on top of the hardware price; 0 where that price includes it."""
    energy = Term(
        text(_("{device}: energy ({scope})"), device=use.target, scope=text(use.scope)),
        UNKNOWN if use.joules is None else text(_("{energy} kWh"), energy=use.joules / JOULES_PER_KWH),
        text(
            _("{source}, {quality}, observed {share} %"),
            source=text(use.energy_label),
            quality=text(use.quality.value),
            share=round(100 * use.coverage_ratio),
        ),
    )
    if prices.main is not None and not prices.main.electricity_on_top:
        return _Line(0.0, "", Quality.DERIVED, (energy, INSIDE))
    tariff = prices.electricity
    kwh = None if use.joules is None else facility_kwh(use.joules, prices.site.place.pue_ratio)
    usd = formulas.electricity_usd(kwh, tariff.usd_per_kwh)
    return _Line(
        usd,
        "" if usd is not None else NO_ENERGY if use.joules is None else tariff.reason or NO_TARIFF,
        worst(use.quality, tariff.quality) if usd else Quality.DERIVED,  # energy counts only where it was paid for
        (energy, *prices.electricity_terms),
    )
