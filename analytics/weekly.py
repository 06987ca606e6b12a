"""The weekly summary as data: what a manager reads on Monday, in keys and numbers, without a word of any language.

``reports`` and the weekly page put it into words. Comparisons are with the week before, over as many hours as this one
has had so far; amounts that add up over time are compared per hour, so that a week of 167 or 169 hours is like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

from analytics import commitments, prices
from analytics.commitments import Standing
from analytics.device_hours import IDLE_ID, device_hours, whole_hours
from analytics.formulas import change
from analytics.formulas.cost import SMALL_SAMPLE_TOKENS, usd_per_million
from analytics.formulas.energy import Quality, worst
from analytics.formulas.forecast import month_end_usd
from analytics.formulas.local_time import MIDNIGHT, MS_PER_HOUR, Span, instant_ms, local
from analytics.formulas.objectives import Between
from analytics.formulas.unknown import per, product, total
from analytics.ledger import NO_ENERGY, NO_PRICE, NO_TARIFF, Bill, Ledger, bill, bills, deployment_bills, ledger
from analytics.prices import NO_RATE, Converted
from analytics.wastes.find import NO_AMOUNT, NO_TOKENS_OF_ERRORS, NO_USE, find_wastes
from analytics.wastes.waste import Commitment, Kind, Waste
from analytics.week import WOBBLE_WEEKS, Attainment, Week, is_clear, read_week, usual_change, week_span
from core.settings import Settings
from core.units import JOULES_PER_KWH
from storage import queries
from storage.engine import Store

TOP_WASTES, TOP_ACTIONS = 5, 3
LEAST_REQUESTS = 100
"""Fewer are a count and no share (reference rule)."""
_DAY_HOURS = 24


class Unit(StrEnum):
    """What a figure is counted in."""

    USD = "usd"
    USD_PER_MILLION_TOKENS = "usd_per_million_tokens"
    TOKENS = "tokens"
    REQUESTS = "requests"
    RATIO = "ratio"
    SECONDS = "seconds"
    GPU_HOURS = "gpu_hours"
    KWH = "kwh"
    JOULES_PER_TOKEN = "joules_per_token"  # noqa: S105  a unit
    GRAMS_PER_MILLION_TOKENS = "grams_per_million_tokens"


MONEY = (Unit.USD, Unit.USD_PER_MILLION_TOKENS)


class Reason(StrEnum):
    """Why a figure is unknown, or is to be read with care."""

    NO_DATA = "no_data"
    LITTLE_SEEN = "little_seen"
    NO_PRICE = "no_price"
    NO_TARIFF = "no_tariff"
    NO_RATE = "no_rate"
    NO_ENERGY = "no_energy"
    NO_TOKENS = "no_tokens"
    FEW_TOKENS = "few_tokens"
    NOT_COUNTED = "not_counted"
    NO_OBJECTIVE = "no_objective"
    FEW_REQUESTS = "few_requests"
    NO_LATENCY = "no_latency"
    NO_GRID_FACTOR = "no_grid_factor"
    NO_CONTRACT = "no_contract"
    NOT_SEEN = "not_seen"
    NO_HOSTED_PRICE = "no_hosted_price"
    FEW_DAYS = "few_days"
    NO_TOKENS_OF_ERRORS = "no_tokens_of_errors"
    USE_UNKNOWN = "use_unknown"
    AMOUNT_UNKNOWN = "amount_unknown"


_REASONS = {
    NO_PRICE: Reason.NO_PRICE,
    NO_TARIFF: Reason.NO_TARIFF,
    NO_ENERGY: Reason.NO_ENERGY,
    NO_RATE: Reason.NO_RATE,
    commitments.NOT_SEEN: Reason.NOT_SEEN,
    commitments.SEEN_LITTLE: Reason.LITTLE_SEEN,
    commitments.NO_HOSTED_PRICE: Reason.NO_HOSTED_PRICE,
    NO_TOKENS_OF_ERRORS: Reason.NO_TOKENS_OF_ERRORS,
    NO_USE: Reason.USE_UNKNOWN,
    NO_AMOUNT: Reason.AMOUNT_UNKNOWN,
}


class Why(NamedTuple):
    """A reason, what it is about (a device, a contract; empty: everything), and the currency that has no rate."""

    reason: Reason
    about: str = ""
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure. ``value`` is ``None`` where it is unknown; then ``why`` says why, or ``low`` and ``high`` bound it.

    better: "up" or "down" where one of them is good.
    previous: that of the same hours of the week before.
    change: against ``previous``; of what adds up over time, against as many hours of it. A difference, in the unit.
    change_ratio: the same over what was; ``None`` of shares, which differ in percentage points.
    is_clear: more than 5 %, and more than weeks usually differ.
    covered_ratio: part of the devices' time that was seen; ``None`` where counters tell, which go on unseen.
    history: of the eight weeks before, oldest first, over as many hours.
    """

    key: str
    unit: Unit
    better: str
    value: float | None
    low: float | None
    high: float | None
    previous: float | None
    change: float | None
    change_ratio: float | None
    is_clear: bool
    quality: Quality
    covered_ratio: float | None
    why: Why | None
    history: tuple[float | None, ...]


class Headline(NamedTuple):
    """A figure of the first page, and what stands small beside it."""

    key: str
    figures: tuple[Figure, ...]


class Day(NamedTuple):
    """A local day of the week so far; no bill where no device was there."""

    span: Span
    bill: Bill | None


class CostRow(NamedTuple):
    """What a deployment cost at a site, by the hours it held devices there; ``IDLE_ID`` has what nobody held."""

    site: str
    deployment_id: int
    model: str
    server: str
    device_hours: float
    bill: Bill


class ModelCost(NamedTuple):
    """What a model cost at all its servers; one that the servers do not name, or that nobody held, has no name."""

    model: str
    usd: float | None
    kwh: float | None
    output_tokens: float | None
    usd_per_million_output_tokens: float | None


class ContractUse(NamedTuple):
    """A contract over the part of its term that lies in the week."""

    name: str
    last_day: date
    ends_in_week: bool
    used_ratio: float | None
    usd: float | None
    unused_usd: float | None
    quality: Quality
    why: Why | None


class Promise(NamedTuple):
    """How a model's objective was kept; ``is_kept`` is ``None`` where that cannot be told."""

    model: str
    target_ratio: float
    low: float | None
    high: float | None
    requests: float
    is_kept: bool | None


class Effort(NamedTuple):
    """What an action takes: its size and the hours of one person, by rule of thumb; and what it does to latency."""

    size: str
    low_hours: float
    high_hours: float
    latency_risk: str


EFFORTS: Mapping[Kind, Effort] = {
    Kind.PARKED: Effort("S", 0.5, 2, "cold_start"),
    Kind.FREE: Effort("M", 2, 8, "none"),
    Kind.SPARE_REPLICA: Effort("S", 0.5, 2, "peaks"),
    Kind.TROUGH: Effort("M", 2, 8, "cold_start"),
    Kind.LOW_CACHE: Effort("M", 4, 16, "none"),
    Kind.WRONG_TIER: Effort("L", 16, 40, "other_path"),
    Kind.COMMITMENT: Effort("M", 2, 8, "none"),
    Kind.IDLE_POWER: Effort("S", 0.5, 2, "wake_up"),
    Kind.ERRORS: Effort("M", 4, 16, "none"),
    Kind.DEAR_HOURS: Effort("M", 2, 8, "later"),
}
"""Project rule; nobody measured them."""


class Action(NamedTuple):
    """What could be done about a waste, and what that could be worth in a week."""

    waste: Waste
    saving_usd: tuple[float, float]
    freed_gpu_hours: float
    effort: Effort


class Exchange(NamedTuple):
    """The currency that people read amounts in, and what a US dollar costs in it; ``None``: no rate is known."""

    currency: str
    per_usd: float | None
    rate_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQuality:
    """What the figures stand on.

    energy_scope: "meter" where every site has a PUE, "device" where none has, else "mixed".
    accounted_until_ms: how far accounts reach; ``None`` where there are none.
    missing: what is unknown of which device.
    tariff_changes_ms: new versions of a tariff in this week or the one before; amounts are not compared across them.
    """

    covered_ratio: float | None
    is_lower_bound: bool
    devices: int
    energy_scope: str
    accounted_until_ms: int | None
    batches_dropped: int
    missing: tuple[Why, ...]
    tariff_changes_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the amounts assume, and where prices and factors are from."""

    price_sources: tuple[str, ...]
    grid_source: str
    pue_by_site: tuple[tuple[str, float | None], ...]
    output_weight_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklySummary:
    """A week. Amounts are USD; ``exchange`` says what people read them in."""

    name: str
    span: Span
    zone: str
    elapsed_hours: float
    whole_hours: float
    is_simulated: bool
    exchange: Exchange
    headlines: tuple[Headline, ...]
    cost_effects: change.CostEffects | None
    unit_price_effects: change.UnitPriceEffects | None
    promises: tuple[Promise, ...]
    wastes: tuple[Waste, ...]
    actions: tuple[Action, ...]
    contracts: tuple[ContractUse, ...]
    days: tuple[Day, ...]
    models: tuple[ModelCost, ...]
    sites: tuple[tuple[str, Bill], ...]
    rows: tuple[CostRow, ...]
    quality: DataQuality
    assumptions: Assumptions

    @property
    def is_whole(self) -> bool:
        """Whether the week is over."""
        return self.elapsed_hours == self.whole_hours

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures of the headlines by their key."""
        return {figure.key: figure for headline in self.headlines for figure in headline.figures}


class _Value(NamedTuple):
    """A figure of one week by itself."""

    value: float | None
    quality: Quality = Quality.MEASURED
    why: Why | None = None
    covered_ratio: float | None = None
    low: float | None = None
    high: float | None = None


class _Spec(NamedTuple):
    """A figure: where it stands, its unit, what is good, and whether it adds up over time."""

    headline: str
    key: str
    unit: Unit
    better: str = ""
    adds_up: bool = False


_SPECS = (
    _Spec("cost", "total_usd", Unit.USD, adds_up=True),
    _Spec("unit_price", "usd_per_million_output_tokens", Unit.USD_PER_MILLION_TOKENS, "down"),
    _Spec("unit_price", "usd_per_million_tokens", Unit.USD_PER_MILLION_TOKENS, "down"),
    _Spec("tokens", "output_tokens", Unit.TOKENS, adds_up=True),
    _Spec("tokens", "prompt_tokens", Unit.TOKENS, adds_up=True),
    _Spec("tokens", "cached_ratio", Unit.RATIO, "up"),
    _Spec("service", "attained_ratio", Unit.RATIO, "up"),
    _Spec("service", "requests", Unit.REQUESTS, adds_up=True),
    _Spec("latency", "ttft_p95_seconds", Unit.SECONDS, "down"),
    _Spec("latency", "tpot_p95_seconds", Unit.SECONDS, "down"),
    _Spec("gpu_hours", "used_ratio", Unit.RATIO, "up"),
    _Spec("gpu_hours", "used_gpu_hours", Unit.GPU_HOURS, adds_up=True),
    _Spec("gpu_hours", "allocated_gpu_hours", Unit.GPU_HOURS, adds_up=True),
    _Spec("gpu_hours", "available_gpu_hours", Unit.GPU_HOURS, adds_up=True),
    _Spec("idle", "idle_usd", Unit.USD, "down", adds_up=True),
    _Spec("idle", "idle_ratio", Unit.RATIO, "down"),
    _Spec("energy", "kwh", Unit.KWH, "down", adds_up=True),
    _Spec("energy", "joules_per_output_token", Unit.JOULES_PER_TOKEN, "down"),
    _Spec("carbon", "grams_per_million_output_tokens", Unit.GRAMS_PER_MILLION_TOKENS, "down"),
    _Spec("commitment", "commitment_used_ratio", Unit.RATIO, "up"),
    _Spec("forecast", "month_end_usd", Unit.USD),
    _Spec("coverage", "covered_ratio", Unit.RATIO, "up"),
)


class _Read(NamedTuple):
    """A week, or as many hours of it as are compared."""

    week: Week
    standings: tuple[Standing, ...]
    values: Mapping[str, _Value]
    days: tuple[Day, ...]
    was_there: bool  # from its beginning


def weekly_summary(engine: Store, settings: Settings, year: int, week: int, now_ms: int) -> WeeklySummary:
    """Everything that is said of a week.

    Args:
        engine: the reader.
        settings: with prices and sites.
        year: of ISO 8601.
        week: its number.
        now_ms: a week that is not over has the hours up to now that are accounted for.

    Raises:
        ValueError: the year has no such week.
    """
    span = week_span(year, week, settings)
    begun_ms, accounted_ms = _begun_ms(engine), max(queries.accounted_until(engine).values(), default=None)
    until_ms = span.end_ms if now_ms >= span.end_ms else min(now_ms, accounted_ms or span.start_ms)
    found, priced = read_week(engine, settings, year, week, until_ms)
    now = _read(engine, settings, found, priced, begun_ms)
    before = list(_weeks_before(engine, settings, found, begun_ms))
    wastes = find_wastes(engine, priced, settings, [_commitment(one) for one in now.standings])
    rows = tuple(_rows(engine, priced))
    values = dict(now.values)
    daily = _days_of_month(engine, settings, now, before)
    values["month_end_usd"] = _month_end(settings, found.span, daily)
    tariff_changes = _tariff_changes(settings, Span(_monday_ms(found, settings, 1), span.end_ms))
    last = before[-1] if before and before[-1] is not None and before[-1].was_there and not tariff_changes else None
    facts = queries.facts(engine)
    return WeeklySummary(
        name=found.name,
        span=span,
        zone=settings.site.time_zone,
        elapsed_hours=found.hours,
        whole_hours=Span(*whole_hours(*span)).hours,
        is_simulated=settings.simulated or facts.get("simulated") == "true",
        exchange=_exchange(settings, found),
        headlines=tuple(_headlines(values, found.hours, before, bool(tariff_changes))),
        cost_effects=None if last is None else change.cost_effects(last.week.window, found.window),
        unit_price_effects=None if last is None else change.unit_price_effects(last.week.window, found.window),
        promises=tuple(map(_promise, found.attainments)),
        wastes=tuple(wastes[:TOP_WASTES]),
        actions=tuple(_actions(wastes))[:TOP_ACTIONS],
        contracts=tuple(_contract(one, settings, span) for one in now.standings),
        days=now.days,
        models=_models(priced, rows, found.is_observed),
        sites=tuple(sorted(bills(priced, "site").items(), key=lambda one: (-(one[1].total_usd or 0.0), one[0]))),
        rows=rows,
        quality=DataQuality(
            covered_ratio=values["covered_ratio"].value,
            is_lower_bound=found.is_lower_bound,
            devices=int(priced.rows["device_id"].nunique()),
            energy_scope=_energy_scope(settings, priced),
            accounted_until_ms=accounted_ms,
            batches_dropped=int(facts.get("batches_dropped", 0)),
            missing=tuple(_why(reason, who) for who, reason in found.bill.missing),
            tariff_changes_ms=tariff_changes,
        ),
        assumptions=Assumptions(
            price_sources=priced.sources,
            grid_source=found.grid_source,
            pue_by_site=tuple((site.name, site.pue_ratio) for site in (settings.site, *settings.site.other)),
            output_weight_ratio=settings.cost.output_weight_ratio,
        ),
    )


def _begun_ms(engine: Store) -> int | None:
    """When the first thing that has accounts was seen (Unix ms)."""
    first = queries.entities(engine)["first_seen_at"]
    return None if first.empty else int(queries.epoch_ms(first).min())


# --- one week ---


def _read(engine: Store, settings: Settings, found: Week, priced: Ledger, begun_ms: int | None) -> _Read:
    start_ms, end_ms = priced.of.start_ms, priced.of.end_ms
    standings: tuple[Standing, ...] = ()
    if settings.cost.contract and start_ms < end_ms:
        used = commitments.uses(engine, settings, [start_ms, end_ms])
        each = (
            commitments.standing(one, settings, used[one.name], Span(start_ms, end_ms))
            for one in settings.cost.contract
        )
        standings = tuple(one for one in each if one is not None)
    return _Read(
        week=found,
        standings=standings,
        values=_values(found, priced, standings, settings),
        days=_days(priced, settings),
        was_there=begun_ms is not None and begun_ms < start_ms + MS_PER_HOUR,
    )


def _monday_ms(found: Week, settings: Settings, weeks_before: int) -> int:
    zone = settings.site.zone
    day = local(found.span.start_ms, zone).date() - timedelta(weeks=weeks_before)
    return instant_ms(day, MIDNIGHT, zone)


def _weeks_before(engine: Store, settings: Settings, found: Week, begun_ms: int | None) -> Iterator[_Read | None]:
    """As many hours of each of the weeks before, oldest first; ``None`` where nothing was there yet."""
    zone = settings.site.zone
    for number in range(WOBBLE_WEEKS, 0, -1):
        start_ms = _monday_ms(found, settings, number)
        year, week, _ = local(start_ms, zone).isocalendar()
        span = week_span(year, week, settings)
        until_ms = span.end_ms if found.is_whole else span.start_ms + round(found.hours * MS_PER_HOUR)
        if begun_ms is None or begun_ms >= until_ms:
            yield None
            continue
        yield _read(engine, settings, *read_week(engine, settings, year, week, until_ms), begun_ms)


def _values(found: Week, priced: Ledger, standings: Sequence[Standing], settings: Settings) -> dict[str, _Value]:
    """Figures of one week, each with what it rests on."""
    nothing = priced.rows.empty
    money, energy = _money(found, nothing), _energy(found, priced, settings)
    covered = None if nothing else found.bill.covered_ratio
    scarce = None if found.is_observed else Why(Reason.NO_DATA if nothing else Reason.LITTLE_SEEN)

    def seen(value: float | None, why: Why | None, quality: Quality = Quality.DERIVED) -> _Value:
        """What is of devices; unknown for a reason where none was there."""
        reason = Why(Reason.NO_DATA) if nothing else why
        known = None if nothing else value
        return _Value(known, Quality.MISSING if known is None else quality, reason if known is None else None, covered)

    def by_token(value: float | None, of: _Value, why: Why | None = None) -> _Value:
        if value is None:
            return _Value(None, Quality.MISSING, of.why or why or scarce or _no_tokens(found.output_tokens), covered)
        few = (found.output_tokens or 0.0) < SMALL_SAMPLE_TOKENS
        return _Value(value, of.quality, Why(Reason.FEW_TOKENS) if few else None, covered)

    def counted(value: float | None) -> _Value:
        return _Value(value) if value is not None else _Value(None, Quality.MISSING, Why(Reason.NOT_COUNTED))

    cost = seen(found.bill.total_usd, money, found.bill.quality)
    idle = seen(_idle_usd(found, priced), money or Why(Reason.LITTLE_SEEN), found.bill.quality)
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
        "attained_ratio": _attained(found.attainments, has_objectives=bool(settings.serving.objective)),
        "requests": counted(found.requests),
        "ttft_p95_seconds": _latency(found.ttft_p95_seconds),
        "tpot_p95_seconds": _latency(found.tpot_p95_seconds),
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
        "commitment_used_ratio": _commitments_used(standings),
        "covered_ratio": seen(covered, None, Quality.MEASURED),
    }


def _money(found: Week, nothing: bool) -> Why | None:
    """Why the bill is unknown, if it is; of overhead alone there is a price without a rate."""
    if nothing or found.bill.total_usd is not None:
        return None
    return next((_why(reason, who) for who, reason in found.bill.missing), Why(Reason.NO_RATE))


def _idle_usd(found: Week, priced: Ledger) -> float | None:
    """Hardware and electricity of the time in which devices were parked or free, as far as it was seen (USD)."""
    active = priced.of.hours["active_ratio"]
    if found.bill.total_usd is None or not found.is_observed or not active.notna().any():
        return None
    usd = priced.rows["hardware_usd"] * (1 - active) + priced.rows["electricity_idle_usd"].fillna(0.0)
    return float(usd[active.notna()].sum())


def _why(text: str, about: str = "") -> Why:
    """What the price book, the bill and the contracts say in English, as a key."""
    reason = next((one for start, one in _REASONS.items() if text.startswith(start)), Reason.AMOUNT_UNKNOWN)
    return Why(reason, about, text.removeprefix(NO_RATE).strip() if reason is Reason.NO_RATE else "")


def _no_tokens(output_tokens: float | None) -> Why:
    return Why(Reason.NOT_COUNTED if output_tokens is None else Reason.NO_TOKENS)


def _latency(seconds: float | None) -> _Value:
    return (
        _Value(seconds, Quality.DERIVED)
        if seconds is not None
        else _Value(None, Quality.MISSING, Why(Reason.NO_LATENCY))
    )


def _places(settings: Settings, priced: Ledger) -> list[prices.SiteFound]:
    """The sites that have devices."""
    by_key = {site.key: site for host in priced.devices["host"].unique() for site in [prices.site_of(settings, host)]}
    return list(by_key.values())


def _energy_scope(settings: Settings, priced: Ledger) -> str:
    known = {site.place.pue_ratio is not None for site in _places(settings, priced)}
    return "mixed" if len(known) > 1 else "meter" if True in known else "device"


def _energy(found: Week, priced: Ledger, settings: Settings) -> Quality:
    """A PUE is a mean of a year, so what it makes of a week is an estimate; so is what fills a gap."""
    estimated = priced.of.hours["is_filled"].any() or _energy_scope(settings, priced) != "device"
    return Quality.MISSING if found.kwh is None else Quality.ESTIMATED if estimated else Quality.DERIVED


def _carbon(found: Week, priced: Ledger, settings: Settings) -> tuple[float | None, Quality]:
    factors = [prices.grid_factor(site) for site in _places(settings, priced)]
    labels = [Quality.MISSING if one is None else one.quality for one in factors]
    return found.operational_grams, worst(Quality.DERIVED, *labels)


def _attained(of: Sequence[Attainment], *, has_objectives: bool) -> _Value:
    """Share of requests that kept their objective, over all models that have one."""
    if not has_objectives:
        return _Value(None, Quality.MISSING, Why(Reason.NO_OBJECTIVE))
    known = [(one.attained, one.requests) for one in of if one.attained is not None]
    requests = sum(number for _, number in known)
    if not requests:
        return _Value(None, Quality.MISSING, Why(Reason.NO_LATENCY))
    if requests < LEAST_REQUESTS:
        return _Value(None, Quality.MISSING, Why(Reason.FEW_REQUESTS))
    shared = sum((one.scaled(number / requests) for one, number in known), Between(0.0, 0.0, 0.0))
    if shared.exact:
        return _Value(shared.lower, Quality.DERIVED)
    return _Value(shared.estimate, Quality.ESTIMATED, low=shared.lower, high=shared.upper)


def _promise(of: Attainment) -> Promise:
    seen = of.attained if of.requests >= LEAST_REQUESTS else None
    kept: bool | None = None
    if seen is not None and seen.lower >= of.target_ratio:
        kept = True
    elif seen is not None and seen.upper < of.target_ratio:
        kept = False
    low, high = (None, None) if seen is None else (seen.lower, seen.upper)
    return Promise(of.model, of.target_ratio, low, high, of.requests, kept)


def _commitments_used(standings: Sequence[Standing]) -> _Value:
    """Of all contracts together by what they cost; of one alone by its own amounts."""
    if not standings:
        return _Value(None, Quality.MISSING, Why(Reason.NO_CONTRACT))
    lacking = [_why(one.reason, one.contract.name) for one in standings if one.used_ratio is None]
    if len(standings) == 1 and not lacking:
        return _Value(standings[0].used_ratio, standings[0].quality)
    lacking += [_why(one.money_reason, one.contract.name) for one in standings if one.rows is None]
    if lacking:
        return _Value(None, Quality.MISSING, lacking[0])
    usd = total(*(one.usd for one in standings))
    used = total(*(one.rows.used_usd for one in standings if one.rows is not None))
    return _Value(per(used, usd), worst(*(one.quality for one in standings)))


# --- days and the month ---


def _days(priced: Ledger, settings: Settings) -> tuple[Day, ...]:
    start_ms, end_ms = priced.of.start_ms, priced.of.end_ms
    if start_ms == end_ms:
        return ()
    hour_ms = priced.rows["hour_ms"]
    found = []
    for span in commitments.days(Span(start_ms, end_ms), settings):
        rows = priced.rows[(hour_ms >= span.start_ms) & (hour_ms < span.end_ms)]
        found.append(Day(span, None if rows.empty else bill(replace(priced, rows=rows))))
    return tuple(found)


def _days_of_month(engine: Store, settings: Settings, now: _Read, before: Sequence[_Read | None]) -> list[Day]:
    """Days of the month in which the week ends, and of the week before, as far as anything was there."""
    zone = settings.site.zone
    first = instant_ms(local(now.week.span.end_ms - 1, zone).date().replace(day=1), MIDNIGHT, zone)
    since_ms = min(first, _monday_ms(now.week, settings, 1))
    days: list[Day] = []
    for one in before:
        if one is None or one.week.span.end_ms <= since_ms:
            continue
        if one.week.is_whole:
            days += one.days
        else:  # only the hours that are compared were read
            hours = whole_hours(*one.week.span)
            of = device_hours(engine, *hours, settings.cost.output_weight_ratio)
            days += _days(ledger(of, settings), settings)
    return [*days, *now.days]


def _month_end(settings: Settings, week: Span, days: Sequence[Day]) -> _Value:
    """Cost of the month in which the week ends, if days to come are like those seen."""
    zone = settings.site.zone
    last = local(week.end_ms - 1, zone).date()
    first_ms = instant_ms(last.replace(day=1), MIDNIGHT, zone)
    end_ms = instant_ms((last.replace(day=28) + timedelta(days=4)).replace(day=1), MIDNIGHT, zone)
    there = [day for day in days if day.bill is not None]
    whole = [
        day for day in there[1:] if day.span.end_ms == _midnight_after(day.span, settings)
    ]  # the first may be part
    known = [(day.span, usd) for day in whole if day.bill is not None and (usd := day.bill.total_usd) is not None]
    in_month = [(span, usd) for span, usd in known if span.start_ms >= first_ms]
    begins_ms = max(first_ms, there[0].span.start_ms) if there else first_ms
    left = Span(begins_ms, end_ms).hours / _DAY_HOURS - len(in_month)
    found = month_end_usd(sum(usd for _, usd in in_month), left, [usd for _, usd in known])
    if found is None:
        return _Value(None, Quality.MISSING, Why(Reason.FEW_DAYS))
    return _Value(found.estimate, Quality.ESTIMATED, low=found.lower, high=found.upper)


def _midnight_after(span: Span, settings: Settings) -> int:
    zone = settings.site.zone
    return instant_ms(local(span.start_ms, zone).date() + timedelta(days=1), MIDNIGHT, zone)


# --- against the weeks before ---


def _headlines(
    values: Mapping[str, _Value], hours: float, before: Sequence[_Read | None], is_broken: bool
) -> Iterator[Headline]:
    by_headline: dict[str, list[Figure]] = {}
    for spec in _SPECS:
        figure = _figure(spec, values[spec.key], hours, before, is_broken and spec.unit in MONEY)
        by_headline.setdefault(spec.headline, []).append(figure)
    for key, figures in by_headline.items():
        yield Headline(key, tuple(figures))


def _figure(spec: _Spec, now: _Value, hours: float, before: Sequence[_Read | None], is_broken: bool) -> Figure:
    history = [_comparable(spec, one, hours) for one in before]
    was = history[-1] if history and not is_broken else None
    moved = None if was is None or now.value is None else now.value - was
    read = before[-1] if before else None
    return Figure(
        key=spec.key,
        unit=spec.unit,
        better=spec.better,
        value=now.value,
        low=now.low,
        high=now.high,
        previous=None if read is None or spec.key not in read.values else read.values[spec.key].value,
        change=moved,
        change_ratio=None if spec.unit is Unit.RATIO else per(moved, was),
        is_clear=moved is not None and is_clear(was, now.value, usual_change(history)),
        quality=now.quality,
        covered_ratio=now.covered_ratio,
        why=now.why,
        history=tuple(history),
    )


def _comparable(spec: _Spec, read: _Read | None, hours: float) -> float | None:
    """A figure of a week before; of what adds up, as if that week had had as many hours."""
    if read is None or spec.key not in read.values or not read.week.hours:
        return None
    value = read.values[spec.key].value
    if not spec.adds_up:
        return value
    return product(value, hours / read.week.hours) if read.was_there else None


def _tariff_changes(settings: Settings, span: Span) -> tuple[int, ...]:
    days = [(one.valid_from, site.zone) for site in (settings.site, *settings.site.other) for one in site.tariff]
    cuts = {instant_ms(day, MIDNIGHT, zone) for day, zone in days if day is not None}
    return tuple(sorted(cut for cut in cuts if span.start_ms < cut < span.end_ms))


def _exchange(settings: Settings, found: Week) -> Exchange:
    currency = settings.cost.currency
    rate: Converted = prices.to_currency(settings, 1.0, "USD", currency, found.span.end_ms - 1)
    return Exchange(currency, rate.amount, rate.rate_on)


# --- wastes, contracts and who pays ---


def _actions(wastes: Iterable[Waste]) -> Iterator[Action]:
    """Wastes that acting on could save cash or free capacity, dearest first."""
    for one in wastes:
        saving = one.cash_saving_usd
        if saving is not None and saving[0] >= 0 and (saving[1] > 0 or one.freed_gpu_hours > 0):
            yield Action(one, saving, one.freed_gpu_hours, EFFORTS[one.kind])


def why_unknown(waste: Waste) -> Why | None:
    """Why what a waste costs is unknown, if it is."""
    if not waste.reason:
        return None
    about, _, text = waste.reason.partition("; ")[0].rpartition(": ")
    return _why(text, about)


def _commitment(of: Standing) -> Commitment:
    return Commitment(of.contract.name, of.used_ratio, of.usd, of.quality)


def _contract(of: Standing, settings: Settings, week: Span) -> ContractUse:
    reason = of.reason or of.money_reason
    return ContractUse(
        name=of.contract.name,
        last_day=of.contract.ends - timedelta(days=1),
        ends_in_week=commitments.term(of.contract, settings).end_ms < week.end_ms,
        used_ratio=of.used_ratio,
        usd=of.usd,
        unused_usd=None if of.rows is None else of.rows.unused_usd,
        quality=of.quality,
        why=_why(reason, of.contract.name) if reason else None,
    )


def _named(engine: Store) -> dict[int, tuple[str, str]]:
    """Model and address of every deployment, and of what nobody held."""
    found = queries.entities(engine, "deployment")
    names = zip(found["entity_id"], found["model"].fillna(found["key"]), found["labels"], strict=True)
    return {IDLE_ID: ("", "")} | {int(i): (str(model), str(labels.get("url", ""))) for i, model, labels in names}


def _models(priced: Ledger, rows: Iterable[CostRow], is_observed: bool) -> tuple[ModelCost, ...]:
    made = priced.of.work.groupby("deployment_id")["generation_tokens"].sum(min_count=1).dropna()
    by_model: dict[str, list[CostRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    found = []
    for model, parts in by_model.items():
        usd = total(*(one.bill.total_usd for one in parts))
        kwh = total(*(amount for one in parts for amount in (one.bill.active_kwh, one.bill.idle_kwh)))
        output = total(*(made.get(number) for number in {one.deployment_id for one in parts}))
        found.append(ModelCost(model, usd, kwh, output, usd_per_million(usd, output) if is_observed else None))
    return tuple(sorted(found, key=lambda one: (one.usd is None, -(one.usd or 0.0), one.model)))


def _rows(engine: Store, priced: Ledger) -> Iterator[CostRow]:
    named = _named(engine)
    site_of_row = priced.devices["site"].reindex(priced.rows["device_id"]).to_numpy()
    there = priced.rows[["device_id", "hour_ms", "there_ratio"]].assign(site=site_of_row)
    held = priced.of.shares.merge(there, on=["device_id", "hour_ms"])
    hours = (held["share"] * held["there_ratio"]).groupby([held["site"], held["deployment_id"]]).sum()
    for site in sorted(set(site_of_row)):
        part = replace(priced, rows=priced.rows[site_of_row == site])
        for number, one in sorted(deployment_bills(part).items()):
            yield CostRow(str(site), number, *named[number], float(hours[site, number]), one)
