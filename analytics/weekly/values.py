"""The figures of one week by themselves, each with what it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from analytics import prices
from analytics.commitments import Standing
from analytics.formulas.cost import SMALL_SAMPLE_TOKENS, usd_per_million
from analytics.formulas.energy import Quality, worst
from analytics.formulas.unknown import per, product, total
from analytics.ledger import Ledger
from analytics.weekly.contracts import commitments_used
from analytics.weekly.figure import Value
from analytics.weekly.promises import attained
from analytics.weekly.reasons import Reason, Why, why_of
from analytics.weekly.summary import Percentile
from analytics.weekly.week import Week
from core.settings import Settings
from core.units import JOULES_PER_KWH


def values(found: Week, priced: Ledger, standings: Sequence[Standing], settings: Settings) -> dict[str, Value]:
    """Figures of one week, each with what it rests on."""
    nothing = priced.rows.empty
    money, energy = _money(found, nothing), _energy(found, priced, settings)
    covered = None if nothing else found.bill.covered_ratio
    scarce = None if found.is_observed else Why(Reason.NO_DATA if nothing else Reason.LITTLE_SEEN)

    def seen(value: float | None, why: Why | None, quality: Quality = Quality.DERIVED) -> Value:
        """What is of devices; unknown for a reason where none was there."""
        reason = Why(Reason.NO_DATA) if nothing else why
        known = None if nothing else value
        return Value(known, Quality.MISSING if known is None else quality, reason if known is None else None, covered)

    def by_token(value: float | None, of: Value, why: Why | None = None) -> Value:
        if value is None:
            return Value(None, Quality.MISSING, of.why or why or scarce or _no_tokens(found.output_tokens), covered)
        few = (found.output_tokens or 0.0) < SMALL_SAMPLE_TOKENS
        return Value(value, of.quality, Why(Reason.FEW_TOKENS) if few else None, covered)

    def counted(value: float | None) -> Value:
        return Value(value) if value is not None else Value(None, Quality.MISSING, Why(Reason.NOT_COUNTED))

    cost = seen(found.bill.total_usd, money, found.bill.quality)
    idle = seen(total(*idle_lines(found, priced)), money or Why(Reason.LITTLE_SEEN), found.bill.quality)
    kwh = seen(found.kwh, Why(Reason.NO_ENERGY), energy)
    used = seen(found.used_gpu_hours if found.is_observed else None, Why(Reason.LITTLE_SEEN))
    grams, grid = _carbon(found, priced, settings)
    joules = product(found.kwh_per_million_output_tokens, JOULES_PER_KWH / 1e6)
    return {
        "total_usd": cost,
        "usd_per_million_output_tokens": by_token(found.usd_per_million_output_tokens, cost),
        "usd_per_million_tokens": by_token(found.usd_per_million_tokens, cost),
        "output_tokens": counted(found.output_tokens),
        "prompt_tokens": counted(found.prompt_tokens),
        "cached_ratio": counted(per(found.cached_prompt_tokens, found.prompt_tokens)),
        "attained_ratio": attained(found.attainments, has_objectives=bool(settings.serving.objective)),
        "requests": counted(found.requests),
        "ttft_p95_seconds": _latency(found.ttft),
        "tpot_p95_seconds": _latency(found.tpot),
        "used_ratio": seen(per(used.value, found.available_gpu_hours), used.why),
        "used_gpu_hours": used,
        "allocated_gpu_hours": seen(found.allocated_gpu_hours, None),
        "available_gpu_hours": seen(found.available_gpu_hours, None),
        "idle_usd": idle,
        "idle_ratio": seen(per(idle.value, cost.value), idle.why, found.bill.quality),
        "kwh": kwh,
        "joules_per_output_token": by_token(joules, kwh),
        "grams_per_million_output_tokens": by_token(
            usd_per_million(grams, found.output_tokens) if found.is_observed else None,  # the same division
            kwh._replace(quality=worst(kwh.quality, grid)),
            None if grams is not None else Why(Reason.NO_GRID_FACTOR),
        ),
        "commitment_used_ratio": commitments_used(standings),
        "covered_ratio": seen(covered, None, Quality.MEASURED),
    }


def _money(found: Week, nothing: bool) -> Why | None:
    """Why the bill is unknown, if it is; of overhead alone there is a price without a rate."""
    if nothing or found.bill.total_usd is not None:
        return None
    return next((why_of(reason, who) for who, reason in found.bill.missing), Why(Reason.NO_RATE))


def idle_lines(found: Week, priced: Ledger) -> tuple[float | None, float | None]:
    """Hardware and electricity of the time in which devices were parked or free, as far as it was seen (USD)."""
    active = priced.of.hours["active_ratio"]
    seen = active.notna()
    if found.bill.total_usd is None or not found.is_observed or not seen.any():
        return None, None
    hardware, electricity = priced.rows["hardware_usd"] * (1 - active), priced.rows["electricity_idle_usd"]
    return float(hardware[seen].sum()), float(electricity[seen].sum())


def _no_tokens(output_tokens: float | None) -> Why:
    return Why(Reason.NOT_COUNTED if output_tokens is None else Reason.NO_TOKENS)


def _latency(of: Percentile | None) -> Value:
    return Value(None, Quality.MISSING, Why(Reason.NO_LATENCY)) if of is None else Value(of.seconds, Quality.DERIVED)


def _places(settings: Settings, priced: Ledger) -> list[prices.SiteFound]:
    """The sites that have devices."""
    by_key = {site.key: site for host in priced.devices["host"].unique() for site in [prices.site_of(settings, host)]}
    return list(by_key.values())


def energy_scope(settings: Settings, priced: Ledger) -> str:
    """``DataQuality.energy_scope``."""
    known = {site.place.pue_ratio is not None for site in _places(settings, priced)}
    return "mixed" if len(known) > 1 else "meter" if True in known else "device"


def _energy(found: Week, priced: Ledger, settings: Settings) -> Quality:
    """A PUE is a mean of a year, so what it makes of a week is an estimate; so is what fills a gap."""
    estimated = priced.of.hours["is_filled"].any() or energy_scope(settings, priced) != "device"
    return Quality.MISSING if found.kwh is None else Quality.ESTIMATED if estimated else Quality.DERIVED


def _carbon(found: Week, priced: Ledger, settings: Settings) -> tuple[float | None, Quality]:
    factors = [prices.grid_factor(site) for site in _places(settings, priced)]
    labels = [Quality.MISSING if one is None else one.quality for one in factors]
    return found.operational_grams, worst(Quality.DERIVED, *labels)
