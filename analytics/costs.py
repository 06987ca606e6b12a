"""Cost of each deployment over a window: the hardware it ran on, the electricity, and the unit price.

A deployment is charged for the hours it was assigned to a device, idle ones included, with its part of
the host. Who used what is ``analytics.allocation``; the arithmetic is ``analytics.formulas``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analytics.allocation import Use, Window, uses
from analytics.formulas import cost as formulas
from analytics.formulas.energy import LEAST_COVERAGE, Quality, facility_kwh, joules_per_token, worst
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import product
from analytics.prices import HourlyPrice, energy_price, hourly_price, price_cuts, site_of
from analytics.serving import are_gateways
from core.settings import Settings
from core.units import show, unit_of
from storage import queries
from storage.engine import Store

NO_PRICE = "no hardware price in the settings: add a [[cost.hardware]] entry"
NO_TARIFF = "no electricity price in the settings: set site.usd_per_kwh"
NO_ENERGY = "no energy reading for what it runs on: see ops/health"
NO_TOKENS = "no tokens"
NOT_JOINED = "not known what it runs on: set serving.server.accelerators"
SPARSE = "observed less than half of the time: no figure per token"


@dataclass(frozen=True, slots=True)
class Term:
    """One input of a figure, as its explanation shows it."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostFigures:
    """Cost, energy and what they make per token over a window. ``None``: unknown, and ``reason`` says why."""

    output_tokens: float | None
    prompt_tokens: float | None
    hardware_usd: float | None
    electricity_usd: float | None
    total_usd: float | None
    usd_per_million_output_tokens: float | None
    usd_per_million_tokens_blended: float | None
    energy_joules: float | None
    joules_per_output_token: float | None
    energy_quality: Quality
    coverage_ratio: float
    label: Quality
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentCost(CostFigures):
    """The figures of one deployment, what it ran on, and the terms they were made from."""

    deployment_id: int
    key: str
    model: str
    server: str
    engine_name: str
    targets: tuple[str, ...]
    origin: str
    energy_label: str
    scope: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the bill of one use of one device (USD); unknown for a ``reason`` only."""

    usd: float | None
    reason: str
    quality: Quality
    terms: tuple[Term, ...]


def deployment_costs(engine: Store, settings: Settings, start_ms: int, end_ms: int) -> list[DeploymentCost]:
    """Cost of every deployment that was seen or assigned in the window, dearest first, unknown ones last.

    Gateways are no deployments of their own: what they pass on is paid for where it is computed.
    """
    window = Window.read(engine, start_ms, end_ms)
    by_deployment: dict[int, list[Use]] = {}
    for use in uses(window, settings.cost.output_weight_ratio):
        by_deployment.setdefault(use.deployment_id, []).append(use)
    observed = queries.observed_seconds(engine, "deployment", None, start_ms, end_ms).set_index("entity_id")
    costs = []
    there = queries.seen(engine, "deployment", start_ms, end_ms) | by_deployment.keys()
    there -= set(window.entities.index[are_gateways(window.entities)])
    for deployment_id, entity in window.entities[window.entities.index.isin(there)].iterrows():
        number = int(str(deployment_id))
        # A deployment is not "unobserved" before it was there: its window begins when it was first seen.
        alive_ms = end_ms - max(start_ms, int(entity["first_seen_at"].timestamp() * 1000))
        seen_ms = float(observed["observed_seconds"].get(number, 0.0)) * 1000
        ratio = min(seen_ms / alive_ms, 1.0) if alive_ms > 0 else 0.0
        costs.append(_cost(number, entity, window, by_deployment.get(number, []), settings, ratio))
    return sorted(costs, key=lambda cost: (cost.total_usd is None, -(cost.total_usd or 0.0), cost.key))


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
    entity: pd.Series[Any],
    window: Window,
    used: list[Use],
    settings: Settings,
    observed_ratio: float,
) -> DeploymentCost:
    labels: dict[str, str] = entity["labels"]
    bills = [_bill(use, settings, window) for use in used]
    lines = [*itertools.chain(*bills), *_changes(price_cuts(settings, window.start_ms, window.end_ms))]
    output = window.count(deployment_id, "generation_tokens_total")
    prompt = window.count(deployment_id, "prompt_tokens_total")
    hardware_usd = _sum([hardware.usd for hardware, _ in bills])
    electricity_usd = _sum([electricity.usd for _, electricity in bills])
    total = _sum([hardware_usd, electricity_usd])
    joules = _sum([use.joules for use in used])
    coverage = min([observed_ratio, *(use.coverage_ratio for use in used if use.joules is not None)])
    sparse = coverage < LEAST_COVERAGE
    per_output = None if sparse else output
    per_token = None if sparse or output is None or prompt is None else output + prompt
    reasons = [*filter(None, (hardware.reason or electricity.reason for hardware, electricity in bills))]
    if not used:
        reasons = [NOT_JOINED]
    if not reasons and sparse:
        reasons = [SPARSE]
    elif not reasons and not output:
        reasons = [NO_TOKENS]
    return DeploymentCost(
        deployment_id=deployment_id,
        key=str(entity["key"]),
        model=labels.get("model", "unknown model"),
        server=labels.get("url", ""),
        engine_name=labels.get("engine", ""),
        targets=tuple(dict.fromkeys(use.target for use in used)),
        origin=used[-1].origin if used else "unjoined",
        output_tokens=output,
        prompt_tokens=prompt,
        hardware_usd=hardware_usd,
        electricity_usd=electricity_usd,
        total_usd=total,
        usd_per_million_output_tokens=formulas.usd_per_million(total, per_output),
        usd_per_million_tokens_blended=formulas.usd_per_million(total, per_token),
        energy_joules=joules,
        joules_per_output_token=joules_per_token(joules, per_output),
        energy_label=", ".join(dict.fromkeys(use.energy_label for use in used)) or "missing",
        energy_quality=Quality.MISSING if joules is None else worst(*(use.quality for use in used)),
        scope=", ".join(dict.fromkeys(use.scope for use in used)),
        coverage_ratio=coverage,
        label=Quality.MISSING if total is None else worst(*(line.quality for line in lines)),
        reason="; ".join(dict.fromkeys(reasons)),
        terms=tuple(dict.fromkeys(term for line in lines for term in line.terms)),
    )


def _changes(cuts: tuple[int, ...]) -> list[_Line]:
    """What is to be known where prices changed within the window; it costs nothing by itself."""
    term = Term("changes of prices", f"{len(cuts)} in the window", "those at its end stand for all of it")
    return [_Line(0.0, "", Quality.ESTIMATED, (term,))] if cuts else []


def _bill(use: Use, settings: Settings, window: Window) -> tuple[_Line, _Line]:
    """Hardware and electricity of one use, at the prices that hold at the end of the window."""
    last_ms = window.end_ms - 1
    device = None if use.family == "host" else hourly_price(settings, "accelerator", use.model, use.host, last_ms)
    host = hourly_price(settings, "host", use.host, use.host, last_ms)
    main = host if use.family == "host" else device
    return _hardware(use, main, device, host), _electricity(use, settings, main, Span(window.start_ms, window.end_ms))


def _hardware(use: Use, main: HourlyPrice | None, device: HourlyPrice | None, host: HourlyPrice | None) -> _Line:
    """What the device and its part of the host cost; unknown without a price of what it mainly runs on."""
    hours, host_part = use.hours * use.share, 1 / use.host_parts
    term = Term(f"{use.target}: hours", f"{use.hours:.4g} h x share {use.share:.1%}", f"joined by {use.origin}")
    if main is None:
        return _Line(None, NO_PRICE, Quality.DERIVED, (term,))
    parts = ((device, "accelerator", 1.0), (host, f"host x {host_part:.3g}", host_part))
    priced = [(price, what, part) for price, what, part in parts if price is not None]
    return _Line(
        _sum([product(hours, part, price.usd_per_hour) for price, _, part in priced]),
        next((price.reason for price, _, _ in priced if price.reason), ""),
        Quality.DERIVED,
        (term, *(_price_term(price, what) for price, what, _ in priced)),
    )


def _electricity(use: Use, settings: Settings, price: HourlyPrice | None, span: Span) -> _Line:
    """Electricity on top of the hardware price; 0 where that price includes it."""
    energy = Term(
        f"{use.target}: energy ({use.scope})",
        show(use.joules, unit_of("energy_joules")),
        f"{use.energy_label}, {use.quality.value}, observed {use.coverage_ratio:.0%}",
    )
    if price is not None and not price.electricity_on_top:
        inside = Term("electricity", "0 USD on top", "inside the hardware price")
        return _Line(0.0, "", Quality.DERIVED, (energy, inside))
    site = site_of(settings, use.host)
    pue_ratio = site.place.pue_ratio
    tariff = energy_price(settings, site, span)
    kwh = None if use.joules is None else facility_kwh(use.joules, pue_ratio)
    usd = formulas.electricity_usd(kwh, tariff.usd_per_kwh)
    each = "unknown" if tariff.usd_per_kwh is None else f"{tariff.usd_per_kwh:.6g} USD/kWh"
    pue = "not given: cooling left out" if pue_ratio is None else f"{pue_ratio:g}"
    return _Line(
        usd,
        "" if usd is not None else NO_ENERGY if use.joules is None else tariff.reason or NO_TARIFF,
        worst(use.quality, tariff.quality) if usd else Quality.DERIVED,  # energy counts only where it was paid for
        (
            energy,
            Term("electricity price", each, tariff.source),
            Term("PUE", pue, f"settings: {site.key}.pue_ratio"),
        ),
    )


def _price_term(price: HourlyPrice, what: str) -> Term:
    value = "unknown" if price.usd_per_hour is None else f"{price.usd_per_hour:.6g} USD/h"
    return Term(f"hardware price, {what}", value, price.source)


def _sum(parts: list[float | None]) -> float | None:
    """A sum is unknown when a part is, or when there is nothing to add."""
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None
