"""What contracts promise, and when: terms and days in the zone of the main site, amounts and money of a stretch."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from enum import Enum, auto
from itertools import pairwise
from typing import NamedTuple

from analytics import prices
from analytics.formulas.commitment import amortised_usd
from analytics.formulas.local_time import MIDNIGHT, MS_PER_HOUR, Span, instant_ms, local
from analytics.formulas.unknown import product, total
from analytics.prices import Converted
from core.prices import Contract, Tranche
from core.settings import Settings


class Phase(Enum):
    """Where in its term a contract is."""

    AHEAD = auto()
    RUNNING = auto()
    OVER = auto()


class State(NamedTuple):
    """Where in its term a contract is, and the day that is to be told: the first of one ahead, else the last.

    days: to the first day of one ahead, and left of one that runs.
    """

    phase: Phase
    day: date
    days: int


def term(contract: Contract, settings: Settings) -> Span:
    """From midnight of its first day to midnight after its last, in the zone of the main site."""
    return Span(midnight_ms(contract.begins, settings), midnight_ms(contract.ends, settings))


def days_left(contract: Contract, settings: Settings, at_ms: int) -> int:
    """Local days of the term that are still to come or have begun; 0 when it is over."""
    return max((contract.ends - max(day_of(settings, at_ms), contract.begins)).days, 0)


def state(contract: Contract, settings: Settings, at_ms: int) -> State:
    """Where in its term a contract is at an instant."""
    today, last = day_of(settings, at_ms), contract.ends - timedelta(days=1)
    if today < contract.begins:
        return State(Phase.AHEAD, contract.begins, (contract.begins - today).days)
    left = days_left(contract, settings, at_ms)
    return State(Phase.RUNNING if left else Phase.OVER, last, left)


def day_of(settings: Settings, at_ms: int) -> date:
    """Which day it is at an instant, in the zone of the main site."""
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
    day = day_of(settings, span.start_ms)
    day -= timedelta(days=day.weekday() if step_days > 1 else 0)
    cuts = []
    while (at_ms := midnight_ms(day, settings)) < span.end_ms:
        cuts += [at_ms] if at_ms > span.start_ms else []
        day += timedelta(days=step_days)
    return [Span(*edges) for edges in pairwise([span.start_ms, *cuts, span.end_ms])]


def midnight_ms(day: date, settings: Settings) -> int:
    """When a day begins in the zone of the main site, to the UTC hour: accounts know no smaller ones."""
    return whole_hour(instant_ms(day, MIDNIGHT, settings.site.zone))


def whole_hour(at_ms: int) -> int:
    """The UTC hour that an instant lies in."""
    return at_ms // MS_PER_HOUR * MS_PER_HOUR


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
        lasts = Span(midnight_ms(one.begins, settings), end_ms)
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
