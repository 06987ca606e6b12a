"""A week as it was read, and as many hours of each of the weeks before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from analytics import commitments
from analytics.commitments import Standing
from analytics.formulas.local_time import MIDNIGHT, MS_PER_HOUR, Span, instant_ms, local
from analytics.ledger import Ledger, bill
from analytics.weekly.figure import Value
from analytics.weekly.summary import Day
from analytics.weekly.values import values
from analytics.weekly.week import Week, hours_so_far, totals, week_of
from core.settings import Settings
from storage.engine import Store

WOBBLE_WEEKS = 8


class Read(NamedTuple):
    """A week, or as many hours of it as are compared; ``days`` are there from ``days_since_ms`` on."""

    week: Week
    standings: tuple[Standing, ...]
    values: Mapping[str, Value]
    days: tuple[Day, ...]
    was_there: bool  # from its beginning


def read(
    engine: Store, settings: Settings, found: Week, priced: Ledger, days: tuple[Day, ...], begun_ms: int | None
) -> Read:
    """What is told of a week and compared with others; ``begun_ms`` is when the first thing was seen."""
    start_ms, end_ms = priced.of.start_ms, priced.of.end_ms
    standings: tuple[Standing, ...] = ()
    if settings.cost.contract and start_ms < end_ms:
        used = commitments.uses(engine, settings, [start_ms, end_ms], priced)
        each = (
            commitments.standing(one, settings, used[one.name], Span(start_ms, end_ms))
            for one in settings.cost.contract
        )
        standings = tuple(one for one in each if one is not None)
    return Read(
        week=found,
        standings=standings,
        values=values(found, priced, standings, settings),
        days=days,
        was_there=begun_ms is not None and begun_ms < start_ms + MS_PER_HOUR,
    )


def daily(priced: Ledger, settings: Settings) -> tuple[Day, ...]:
    """A bill for each local day of the window."""
    start_ms, end_ms = priced.of.start_ms, priced.of.end_ms
    if start_ms == end_ms:
        return ()
    hour_ms = priced.rows["hour_ms"]
    found = []
    for span in commitments.days(Span(start_ms, end_ms), settings):
        rows = priced.rows[(hour_ms >= span.start_ms) & (hour_ms < span.end_ms)]
        found.append(Day(span, None if rows.empty else bill(replace(priced, rows=rows))))
    return tuple(found)


def monday_ms(found: Week, settings: Settings, weeks_before: int) -> int:
    """The Monday of a week before the one found (Unix ms)."""
    zone = settings.site.zone
    day = local(found.span.start_ms, zone).date() - timedelta(weeks=weeks_before)
    return instant_ms(day, MIDNIGHT, zone)


def days_since_ms(found: Week, settings: Settings) -> int:
    """From when on days are told one by one (Unix ms): of the month in which the week ends, and of the week before."""
    zone = settings.site.zone
    first = local(found.span.end_ms - 1, zone).date().replace(day=1)
    return min(instant_ms(first, MIDNIGHT, zone), monday_ms(found, settings, 1))


def weeks_before(
    engine: Store, settings: Settings, found: Week, begun_ms: int | None, accounted: Mapping[int, int]
) -> Iterator[Read | None]:
    """As many hours of each of the weeks before, oldest first; ``None`` where nothing was there yet.

    Args:
        engine: the reader.
        settings: with prices and sites.
        found: the week that they are before.
        begun_ms: when the first thing was seen (Unix ms).
        accounted: ``queries.accounted_until``.
    """
    since_ms = days_since_ms(found, settings)
    for number in range(WOBBLE_WEEKS, 0, -1):
        span = Span(monday_ms(found, settings, number), monday_ms(found, settings, number - 1))
        last_ms = span.end_ms if found.is_whole else span.start_ms + round(found.hours * MS_PER_HOUR)
        if begun_ms is None or begun_ms >= last_ms:
            yield None
            continue
        hours = hours_so_far(span, last_ms)
        cuts_ms = [day.start_ms for day in commitments.days(hours, settings)] if span.end_ms > since_ms else []
        priced = totals(engine, settings, hours, accounted, cuts_ms)
        days = daily(priced, settings) if cuts_ms else ()
        yield read(engine, settings, week_of(engine, settings, span, priced), priced, days, begun_ms)
