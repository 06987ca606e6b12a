"""Contracts: what was promised and delivered, what was used of it, what that makes a unit cost, where it leads.

``uses`` reads what was used, stretch by stretch; all else is arithmetic on that, the terms and the price book.

================  =========================  =======================================================================
unit              amounts here are           used is
================  =========================  =======================================================================
``megawatts``     MWh                        energy of devices on its hosts at the meter, cooling included where the
                                             site has a PUE
``gpu_hours``     GPU-hours                  hours in which deployments of its models held accelerators of its hosts
``tokens``        output tokens              output tokens of its models
``money``         its currency               the bill of its hosts; of a contract that names models and no hosts, what
                                             their tokens cost at hosted prices
================  =========================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics import prices
from analytics.device_hours import IDLE_ID, DeviceHours, device_hours
from analytics.formulas.commitment import HOURS_PER_MONTH, Split, amortised_usd, usd_per_kw_month, used_and_unused
from analytics.formulas.cost import usd_per_million
from analytics.formulas.energy import ENOUGH_COVERAGE, LEAST_COVERAGE, Quality, worst
from analytics.formulas.forecast import month_end_usd
from analytics.formulas.hosted import HostedTokens
from analytics.formulas.local_time import MIDNIGHT, MS_PER_HOUR, Span, instant_ms, local
from analytics.formulas.objectives import Between
from analytics.formulas.unknown import per, product, total
from analytics.ledger import LINES, NO_ENERGY, ledger
from analytics.prices import Converted
from analytics.serving import are_gateways, asks
from core.prices import Contract, Tranche
from core.settings import Settings
from core.sites import matches
from storage import queries
from storage.engine import Store

NOT_SEEN, SEEN_LITTLE = "nothing it pays for was seen", "too little of the time was seen"
NO_HOSTED_PRICE = "no hosted price"
_KWH_PER_MWH = 1_000
_DAY_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was seen of a contract's use over a stretch of its term. ``None``: unknown.

    ``covered_ratio`` is the part of the stretch that the amounts are from: by readings for energy; for all else, since
    counters go on while nobody looks, from the first sight of what it pays for to the store's last account.
    """

    span: Span
    used: float | None
    covered_ratio: float
    gpu_hours: float | None = None
    output_tokens: float | None = None
    prompt_tokens: float | None = None
    is_estimated: bool = False
    reason: str = ""


class Effective(NamedTuple):
    """What units really cost (USD) over a stretch: the contract's own as available and as used, and others."""

    usd_per_kw_month: float | None
    usd_per_available: float | None
    usd_per_used: float | None
    usd_per_gpu_hour: float | None
    usd_per_million_output_tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A contract over the part of its term that lies in a window.

    ``committed`` is as if all of it were there from the first day, ``delivered`` what was: tranches from their day on.
    ``used`` stands for the whole window: gaps, where they are few, at the mean of what was seen. ``rows`` are the used
    and unused part of ``usd`` and add up to it to the cent.
    """

    contract: Contract
    use: Use
    committed: float
    delivered: float
    used: float | None
    used_ratio: float | None
    usd: float | None
    rows: Split | None
    effective: Effective
    quality: Quality
    reason: str
    money_reason: str

    @property
    def unused(self) -> float | None:
        """What was delivered and not used; use beyond it leaves nothing."""
        return None if self.used is None else max(self.delivered - self.used, 0.0)


class Forecast(NamedTuple):
    """Use from the first day seen to the end of the term as a range, beside what will have been delivered then."""

    span: Span
    used: Between
    delivered: float


def term(contract: Contract, settings: Settings) -> Span:
    """From midnight of its first day to midnight after its last, in the zone of the main site."""
    return Span(_midnight_ms(contract.begins, settings), _midnight_ms(contract.ends, settings))


def days_left(contract: Contract, settings: Settings, at_ms: int) -> int:
    """Local days of the term that are still to come or have begun; 0 when it is over."""
    return max((contract.ends - max(_day(settings, at_ms), contract.begins)).days, 0)


def state(contract: Contract, settings: Settings, at_ms: int) -> str:
    """Where in its term a contract is, in words."""
    today, last = _day(settings, at_ms), contract.ends - timedelta(days=1)
    if today < contract.begins:
        return f"begins on {contract.begins:%A, %Y-%m-%d}, in {_count((contract.begins - today).days)}"
    if today > last:
        return f"ended on {last:%A, %Y-%m-%d}"
    return f"running, {_count(days_left(contract, settings, at_ms))} left, the last is {last:%A, %Y-%m-%d}"


def _count(number: int) -> str:
    return "1 day" if number == 1 else f"{number:,} days"


def _day(settings: Settings, at_ms: int) -> date:
    return local(at_ms, settings.site.zone).date()


def within(span: Span, other: Span) -> Span | None:
    """The part of a stretch that lies in another, if any."""
    part = Span(max(span.start_ms, other.start_ms), min(span.end_ms, other.end_ms))
    return part if part.start_ms < part.end_ms else None


def days(span: Span, settings: Settings) -> list[Span]:
    """A stretch cut at local midnights."""
    return _cut(span, settings, 1)


def weeks(span: Span, settings: Settings) -> list[Span]:
    """The same cut at the midnights on which Mondays begin."""
    return _cut(span, settings, 7)


def _cut(span: Span, settings: Settings, step_days: int) -> list[Span]:
    day = _day(settings, span.start_ms)
    day -= timedelta(days=day.weekday() if step_days > 1 else 0)
    cuts = []
    while (at_ms := _midnight_ms(day, settings)) < span.end_ms:
        cuts += [at_ms] if at_ms > span.start_ms else []
        day += timedelta(days=step_days)
    return [Span(*edges) for edges in pairwise([span.start_ms, *cuts, span.end_ms])]


def _midnight_ms(day: date, settings: Settings) -> int:
    """When a day begins in the zone of the main site, to the UTC hour: accounts know no smaller ones."""
    return _hour(instant_ms(day, MIDNIGHT, settings.site.zone))


def _hour(at_ms: int) -> int:
    return at_ms // MS_PER_HOUR * MS_PER_HOUR


# --- what was promised ---


def committed(contract: Contract, settings: Settings, span: Span) -> float:
    """What of the whole amount falls into a stretch, as if it were there from the first day."""
    return _due(contract, settings, span, [Tranche(begins=contract.begins, amount=contract.amount)])


def delivered(contract: Contract, settings: Settings, span: Span) -> float:
    """What was there to be used: megawatts of tranches that have begun, or an even part of each tranche's rest."""
    return _due(contract, settings, span, contract.tranche) if contract.tranche else committed(contract, settings, span)


def _due(contract: Contract, settings: Settings, span: Span, tranches: Iterable[Tranche]) -> float:
    end_ms = term(contract, settings).end_ms
    due = 0.0
    for one in tranches:
        lasts = Span(_midnight_ms(one.begins, settings), end_ms)
        part = within(span, lasts)
        if part is not None:
            due += one.amount * (part.hours if contract.unit == "megawatts" else part.hours / lasts.hours)
    return due


def amortised(contract: Contract, settings: Settings, span: Span) -> Converted:
    """The price's even part of a stretch (USD), converted at the rate of each day."""
    whole = term(contract, settings)
    part = within(span, whole)
    if part is None:
        return Converted(0.0)
    edges = [part.start_ms, *prices.price_cuts(settings, *part), part.end_ms]
    pieces = [Span(*edge) for edge in pairwise(edges)]
    rates = [prices.to_currency(settings, 1.0, contract.currency, "USD", piece.start_ms) for piece in pieces]
    usd = total(
        *(
            product(amortised_usd(contract.price, whole, piece), rate.amount)
            for piece, rate in zip(pieces, rates, strict=True)
        )
    )
    dates = [rate.rate_on for rate in rates if rate.rate_on]
    return Converted(usd, min(dates, default=None), next((rate.reason for rate in rates if rate.reason), ""))


# --- what was used ---


def uses(engine: Store, settings: Settings, edges_ms: Sequence[int]) -> dict[str, tuple[Use, ...]]:
    """What was used of every contract, by its name, between successive edges that lie in its term.

    Args:
        engine: the reader.
        settings: with contracts and prices.
        edges_ms: ascending, whole UTC hours (Unix ms). Where a term begins or ends or a price changes, a stretch is
            cut once more.
    """
    start_ms, end_ms = edges_ms[0], edges_ms[-1]
    edges = sorted({*edges_ms, *map(_hour, prices.price_cuts(settings, start_ms, end_ms))})
    seen = _Seen.read(engine, settings, start_ms, end_ms)
    found = {}
    for contract in settings.cost.contract:
        whole = term(contract, settings)
        spans = [Span(*edge) for edge in pairwise(edges) if within(Span(*edge), whole)]
        scope = _scope(contract, settings, seen)
        found[contract.name] = tuple(_use(contract, settings, scope, span) for span in spans)
    return found


class _Seen(NamedTuple):
    """All that contracts are measured by, over one window."""

    of: DeviceHours
    rows: pd.DataFrame  # of the ledger
    entities: pd.DataFrame
    requests: pd.DataFrame  # of probes
    until_ms: int  # the store's last account

    @classmethod
    def read(cls, engine: Store, settings: Settings, start_ms: int, end_ms: int) -> _Seen:
        of = device_hours(engine, start_ms, end_ms, settings.cost.output_weight_ratio)
        requests = queries.probes(engine, start_ms, end_ms)
        return cls(
            of=of,
            rows=ledger(of, settings).rows,
            entities=queries.entities(engine).set_index("entity_id"),
            requests=requests.assign(hour_ms=queries.epoch_ms(requests["observed_at"])),
            until_ms=max(queries.accounted_until(engine).values(), default=0),
        )


class _Scope(NamedTuple):
    """What one contract pays for."""

    rows: pd.DataFrame  # of the ledger, of devices on its hosts
    held: pd.DataFrame  # hour_ms, gpu_hours
    work: pd.DataFrame  # of deployments of its models
    spent: pd.DataFrame  # hour_ms, usd (NaN without a price): tokens at hosted prices
    has_devices: bool
    has_servers: bool
    has_pue: bool
    known: Span | None  # first sight of it to the store's last account


def _scope(contract: Contract, settings: Settings, seen: _Seen) -> _Scope:
    of, entities = seen.of, seen.entities
    devices = of.devices[_fits(contract.hosts, of.devices["host"])]
    servers = _deployments(contract, entities)
    held = of.shares[of.shares["device_id"].isin(devices.index) & (of.shares["deployment_id"] != IDLE_ID)]
    held = held[held["deployment_id"].isin(servers)]
    if contract.hosts:
        servers = sorted(set(held["deployment_id"]))
    cards = devices.index[devices["family"] == "accelerator"]
    held = held[held["device_id"].isin(cards)].merge(of.hours[["device_id", "hour_ms", "there_ratio"]])
    probes = _probes(contract, entities, servers)
    by_tokens = _is_by_tokens(contract)
    things = [*servers, *probes] if by_tokens or contract.unit == "tokens" else devices.index.tolist()
    first = queries.epoch_ms(entities.loc[things, "first_seen_at"])
    work = of.work[of.work["deployment_id"].isin(servers)]
    requests = seen.requests[seen.requests["entity_id"].isin(probes)]
    return _Scope(
        rows=seen.rows[seen.rows["device_id"].isin(devices.index)],
        held=held.assign(gpu_hours=held["share"] * held["there_ratio"]),
        work=work,
        spent=_spent(settings, entities, work, requests) if by_tokens else pd.DataFrame(),
        has_devices=len(devices) > 0,
        has_servers=len(servers) > 0,
        has_pue=any(prices.site_of(settings, str(host)).place.pue_ratio for host in devices["host"].unique()),
        known=None if first.empty else Span(int(first.min()), seen.until_ms),
    )


def _fits(patterns: Sequence[str], names: Iterable[object]) -> NDArray[np.bool_]:
    """Which of them a contract that names these is for; one that names none is for all."""
    fits = [not patterns or any(matches(pattern, str(name)) for pattern in patterns) for name in names]
    return np.asarray(fits, "bool")


def _is_by_tokens(contract: Contract) -> bool:
    return contract.unit == "money" and bool(contract.models) and not contract.hosts


def _deployments(contract: Contract, entities: pd.DataFrame) -> list[int]:
    """Deployments of its models; a gateway counts for models that no server behind it is seen to serve."""
    servers = entities[entities["family"] == "deployment"]
    servers = servers[_fits(contract.models, servers["model"])]
    gateway = are_gateways(servers)
    return servers.index[~gateway | ~servers["model"].isin(servers.loc[~gateway, "model"])].tolist()


def _probes(contract: Contract, entities: pd.DataFrame, servers: list[int]) -> list[int]:
    """Probes of its models whose requests no counted server has counted already."""
    probes = entities[entities["family"] == "probe"]
    labels = entities.loc[servers, "labels"]
    counted = [any(asks(probe, server) for server in labels) for probe in probes["labels"]]
    mine = _fits(contract.models, probes["model"]) & ~np.asarray(counted, "bool")
    return [int(probe_id) for probe_id in probes.index[mine]]


def _spent(settings: Settings, entities: pd.DataFrame, work: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """What tokens of servers and probes cost: what the probe booked, else the hosted price of their model."""
    served = work.rename(columns={"deployment_id": "entity_id", "generation_tokens": "output_tokens"})
    rows = pd.concat([served, requests], ignore_index=True)
    usd = [
        _hosted_usd(settings, entities.loc[row["entity_id"]], row) if pd.isna(row.get("cost_usd")) else row["cost_usd"]
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame({"hour_ms": rows["hour_ms"], "usd": pd.Series(usd, dtype="float64")})


def _hosted_usd(settings: Settings, entity: pd.Series[Any], row: dict[Any, Any]) -> float | None:
    """Tokens at the first hosted price that holds for the model there; failed requests have no tokens to pay for."""
    prompt, cached, output = (
        0.0 if pd.isna(row.get(name)) else float(row[name])
        for name in ("prompt_tokens", "cached_prompt_tokens", "output_tokens")
    )
    day = _day(settings, row["hour_ms"])
    called = [str(entity["key"]), str(entity["labels"].get("url", ""))]
    for price in settings.cost.hosted:
        if (
            price.holds_on(day)
            and matches(price.model, str(entity["model"]))
            and any(matches(price.endpoint, name) for name in called)
        ):
            counted = HostedTokens(
                uncached_tokens=max(prompt - cached, 0.0), cached_tokens=cached, write_tokens=0.0, output_tokens=output
            )
            return prices.hosted_usd(settings, price, counted, row["hour_ms"])
    return None if prompt or output else 0.0


def _use(contract: Contract, settings: Settings, scope: _Scope, span: Span) -> Use:
    known = None if scope.known is None else within(span, scope.known)
    if known is None:
        return Use(span=span, used=None, covered_ratio=0.0, reason=NOT_SEEN)
    rows, held, work = (_in(frame, span) for frame in (scope.rows, scope.held, scope.work))
    gpu_hours = float(held["gpu_hours"].sum()) if scope.has_devices else None
    output, prompt = (
        float(work[name].sum()) if scope.has_servers else None for name in ("generation_tokens", "prompt_tokens")
    )
    used, covered, reason, estimated = None, known.hours / span.hours, "", False
    match contract.unit:
        case "megawatts":
            used, read = _megawatt_hours(rows)
            covered, reason = covered * read, "" if used is not None else NO_ENERGY
            estimated = scope.has_pue  # the mean of a year, put on some days of it
        case "gpu_hours":
            used = gpu_hours
        case "tokens":
            used = output
        case "money":
            used, reason = _money(contract, settings, scope, span)
            estimated = not _is_by_tokens(contract) and bool(rows["is_estimated"].any())
    return Use(
        span=span,
        used=used,
        covered_ratio=0.0 if used is None else covered,
        gpu_hours=gpu_hours,
        output_tokens=output,
        prompt_tokens=prompt,
        is_estimated=estimated,
        reason=reason or ("" if used is not None else NOT_SEEN),
    )


def _in(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    if frame.empty:
        return frame
    return frame[(frame["hour_ms"] >= span.start_ms) & (frame["hour_ms"] < span.end_ms)]


def _megawatt_hours(rows: pd.DataFrame) -> tuple[float | None, float]:
    """Energy at the meter (MWh) and the part of the devices' time that it was read in."""
    there = rows["there_ratio"].sum()
    if not there:
        return 0.0, 1.0  # they were taken away
    kwh = rows["active_kwh"] + rows["idle_kwh"]
    read = float((rows["there_ratio"] * rows["covered_ratio"]).sum() / there)
    return (float(kwh.sum()) / _KWH_PER_MWH, read) if read else (None, 0.0)


def _money(contract: Contract, settings: Settings, scope: _Scope, span: Span) -> tuple[float | None, str]:
    """Bill or spend of a stretch in the contract's currency, or why it is unknown."""
    if _is_by_tokens(contract):
        spent = _in(scope.spent, span)["usd"] if len(scope.spent) else pd.Series(dtype="float64")
        if spent.isna().any():
            return None, NO_HOSTED_PRICE
        usd = float(spent.sum())
    else:
        rows = _in(scope.rows, span)
        lacking = rows.loc[~rows["reason"].isin(["", NO_ENERGY]), "reason"]
        if len(lacking):
            return None, str(lacking.iloc[0])
        usd = float(np.nansum(rows[list(LINES)].to_numpy(dtype="float64")))
    there = prices.to_currency(settings, usd, "USD", contract.currency, span.start_ms)
    return there.amount, there.reason


def together(of: Iterable[Use], span: Span) -> Use:
    """Successive uses that lie in a stretch as one; what is missing between them lowers the coverage."""
    parts = [one for one in of if span.start_ms <= one.span.start_ms and one.span.end_ms <= span.end_ms]

    def added(name: str) -> float | None:
        return total(*(amount for one in parts if (amount := getattr(one, name)) is not None))

    return Use(
        span=span,
        used=added("used"),
        covered_ratio=min(sum(one.covered_ratio * one.span.hours for one in parts) / span.hours, 1.0),
        gpu_hours=added("gpu_hours"),
        output_tokens=added("output_tokens"),
        prompt_tokens=added("prompt_tokens"),
        is_estimated=any(one.is_estimated for one in parts),
        reason=next((one.reason for one in parts if one.reason), "" if parts else NOT_SEEN),
    )


# --- what it makes ---


def standing(contract: Contract, settings: Settings, of: Iterable[Use], window: Span) -> Standing | None:
    """A contract over a window; ``None`` where its term does not reach in.

    Below ``LEAST_COVERAGE`` nothing is said of the whole window, below ``ENOUGH_COVERAGE`` it is an estimate.
    """
    part = within(window, term(contract, settings))
    if part is None:
        return None
    use = together(of, part)
    there = delivered(contract, settings, part)
    factor = None
    if use.covered_ratio >= LEAST_COVERAGE:
        factor = 1.0 if use.covered_ratio >= ENOUGH_COVERAGE else 1 / use.covered_ratio
    used = product(use.used, factor)
    ratio = per(used, there)
    money = amortised(contract, settings, part)
    usd = None if money.amount is None else round(money.amount, 2)
    split = used_and_unused(usd, ratio)
    estimated = contract.estimate or use.is_estimated or factor != 1.0
    return Standing(
        contract=contract,
        use=use,
        committed=committed(contract, settings, part),
        delivered=there,
        used=used,
        used_ratio=ratio,
        usd=usd,
        rows=None if split is None or usd is None else _to_the_cent(usd, split),
        effective=_effective(contract, money.amount, there, used, use, factor),
        quality=Quality.MISSING if used is None else worst(Quality.DERIVED, *([Quality.ESTIMATED] * estimated)),
        reason="" if used is not None else use.reason or f"{SEEN_LITTLE}: {use.covered_ratio:.0%}",
        money_reason=money.reason,
    )


def _to_the_cent(usd: float, split: Split) -> Split:
    used = round(split.used_usd, 2)
    return Split(used, round(usd - used, 2))


def _effective(
    contract: Contract, usd: float | None, there: float, used: float | None, use: Use, factor: float | None
) -> Effective:
    def price(amount: float | None) -> float | None:
        return usd_per_million(usd, amount) if contract.unit == "tokens" else per(usd, amount)

    months = there / HOURS_PER_MONTH if contract.unit == "megawatts" else None
    return Effective(
        usd_per_kw_month=usd_per_kw_month(usd, months),
        usd_per_available=price(there),
        usd_per_used=price(used),
        usd_per_gpu_hour=per(usd, product(use.gpu_hours, factor)),
        usd_per_million_output_tokens=usd_per_million(usd, product(use.output_tokens, factor)),
    )


def since_ms(of: Iterable[Use]) -> int | None:
    """When the first stretch began of which something is known (Unix ms)."""
    return min((one.span.start_ms for one in of if one.covered_ratio), default=None)


def forecast(contract: Contract, settings: Settings, of: Sequence[Use]) -> Forecast | None:
    """Use at the end of the term if the days to come are like those seen.

    ``None`` under seven whole days of data, and when the term is over.

    Time before the first sight of what the contract pays for is left out, on both sides.
    """
    first_ms = since_ms(of)
    if first_ms is None:
        return None
    whole = term(contract, settings)
    span, seen = Span(first_ms, whole.end_ms), Span(first_ms, max(one.span.end_ms for one in of))
    if seen.end_ms >= span.end_ms:
        return None
    full_days = set(days(whole, settings))
    by_day = [together(of, day) for day in days(seen, settings) if day in full_days]
    daily = [one.used for one in by_day if one.used is not None and one.covered_ratio >= ENOUGH_COVERAGE]
    others = max(span.hours / _DAY_HOURS - len(daily), 0.0)
    found = month_end_usd(sum(daily), others, daily)  # its arithmetic is the same in every unit
    return None if found is None else Forecast(span, found, delivered(contract, settings, span))


BURN = ("at", "delivered", "used", "low", "high")


def burn(contract: Contract, settings: Settings, of: Sequence[Use]) -> pd.DataFrame:
    """Amounts that have added up since the first day seen, week by week, and where they lead.

    Returns:
        at (UTC), delivered (to the end of the term), used (as far as it was seen), low and high (the forecast's range;
        from the last day seen to the end).
    """
    first_ms = since_ms(of)
    if first_ms is None:
        return pd.DataFrame(columns=list(BURN)).astype(
            {"at": "datetime64[ms, UTC]"} | dict.fromkeys(BURN[1:], "float64")
        )
    end_ms, last_ms = term(contract, settings).end_ms, max(one.span.end_ms for one in of)
    totals = {first_ms: 0.0}
    for week in weeks(Span(first_ms, last_ms), settings):
        totals[week.end_ms] = totals[week.start_ms] + (together(of, week).used or 0.0)
    ahead = forecast(contract, settings, of)
    low = {} if ahead is None else {last_ms: totals[last_ms], end_ms: ahead.used.lower}
    high = {} if ahead is None else low | {end_ms: ahead.used.upper}
    begins = {at_ms for one in contract.tranche if (at_ms := _midnight_ms(one.begins, settings)) > first_ms}
    edges = pd.Series(sorted({*totals, *begins, end_ms}))
    return pd.DataFrame(
        {
            "at": pd.to_datetime(edges, unit="ms", utc=True),
            "delivered": [delivered(contract, settings, Span(first_ms, at)) for at in edges],
            "used": edges.map(totals).astype("float64"),
            "low": edges.map(low).astype("float64"),
            "high": edges.map(high).astype("float64"),
        }
    )
