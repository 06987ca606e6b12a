"""Cost of each deployment over a window: the hardware it ran on, the electricity, and the unit price.

A deployment is charged for the hours it was assigned to a device, idle ones included, with its part of
the host. Who used what is ``analytics.allocation``; the arithmetic is ``analytics.formulas``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analytics.allocation import Use, Window, uses
from analytics.formulas import cost as formulas
from analytics.formulas.energy import LEAST_COVERAGE, Quality, facility_kwh, joules_per_token, worst
from analytics.prices import HourlyPrice, hourly_price
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
class _Charge:
    """The money of one use of one device (USD)."""

    hardware_usd: float | None
    electricity_usd: float | None
    reason: str
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
    charges = [_charge(use, settings) for use in used]
    output = window.count(deployment_id, "generation_tokens_total")
    prompt = window.count(deployment_id, "prompt_tokens_total")
    hardware = _sum([charge.hardware_usd for charge in charges])
    electricity = _sum([charge.electricity_usd for charge in charges])
    total = _sum([hardware, electricity])
    joules = _sum([use.joules for use in used])
    coverage = min([observed_ratio, *(use.coverage_ratio for use in used if use.joules is not None)])
    sparse = coverage < LEAST_COVERAGE
    per_output = None if sparse else output
    per_token = None if sparse or output is None or prompt is None else output + prompt
    reasons = [charge.reason for charge in charges if charge.reason] or ([] if used else [NOT_JOINED])
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
        hardware_usd=hardware,
        electricity_usd=electricity,
        total_usd=total,
        usd_per_million_output_tokens=formulas.usd_per_million(total, per_output),
        usd_per_million_tokens_blended=formulas.usd_per_million(total, per_token),
        energy_joules=joules,
        joules_per_output_token=joules_per_token(joules, per_output),
        energy_label=", ".join(dict.fromkeys(use.energy_label for use in used)) or "missing",
        energy_quality=Quality.MISSING if joules is None else worst(*(use.quality for use in used)),
        scope=", ".join(dict.fromkeys(use.scope for use in used)),
        coverage_ratio=coverage,
        label=Quality.MISSING if total is None else worst(Quality.DERIVED, *_qualities(used, electricity)),
        reason="; ".join(dict.fromkeys(reasons)),
        terms=tuple(dict.fromkeys(term for charge in charges for term in charge.terms)),
    )


def _qualities(used: list[Use], electricity_usd: float | None) -> list[Quality]:
    """Energy counts for the label only where it was paid for."""
    return [use.quality for use in used] if electricity_usd else []


def _charge(use: Use, settings: Settings) -> _Charge:
    device = None if use.family == "host" else hourly_price(settings.cost, "accelerator", use.model)
    host = hourly_price(settings.cost, "host", use.host)
    host_part = 1 / use.host_parts
    main = host if use.family == "host" else device
    hours = use.hours * use.share
    terms = [Term(f"{use.target}: hours", f"{use.hours:.4g} h x share {use.share:.1%}", f"joined by {use.origin}")]
    hardware = None
    if main is not None:
        hardware = hours * (device.usd_per_hour if device else 0.0) + hours * host_part * (
            host.usd_per_hour if host else 0.0
        )
        terms += [
            _price_term(price, what)
            for price, what in ((device, "accelerator"), (host, f"host x {host_part:.3g}"))
            if price
        ]
    electricity, more = _electricity(use, settings, main)
    reason = NO_PRICE if main is None else ""
    if not reason and electricity is None:
        reason = NO_ENERGY if use.joules is None else NO_TARIFF
    return _Charge(hardware, electricity, reason, (*terms, *more))


def _electricity(use: Use, settings: Settings, price: HourlyPrice | None) -> tuple[float | None, list[Term]]:
    """Electricity (USD) on top of the hardware price; 0 where that price includes it."""
    site = settings.site
    energy = Term(
        f"{use.target}: energy ({use.scope})",
        show(use.joules, unit_of("energy_joules")),
        f"{use.energy_label}, {use.quality.value}, observed {use.coverage_ratio:.0%}",
    )
    if price is not None and not price.electricity_on_top:
        return 0.0, [energy, Term("electricity", "0 USD on top", "inside the hardware price")]
    kwh = None if use.joules is None else facility_kwh(use.joules, site.pue_ratio)
    tariff = "unknown" if site.usd_per_kwh is None else f"{site.usd_per_kwh:g} USD/kWh"
    pue = "not given: cooling left out" if site.pue_ratio is None else f"{site.pue_ratio:g}"
    terms = [
        energy,
        Term("electricity price", tariff, "settings: site.usd_per_kwh"),
        Term("PUE", pue, "settings: site.pue_ratio"),
    ]
    return formulas.electricity_usd(kwh, site.usd_per_kwh), terms


def _price_term(price: HourlyPrice, what: str) -> Term:
    return Term(f"hardware price, {what}", f"{price.usd_per_hour:.6g} USD/h", price.source)


def _sum(parts: list[float | None]) -> float | None:
    """A sum is unknown when a part is, or when there is nothing to add."""
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None
