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
from analytics.weekly.week import Week, read_week, week_span
from core.settings import Settings
from storage.engine import Store

WOBBLE_WEEKS = 8


class Read(NamedTuple):
    """A week, or as many hours of it as are compared."""

    week: Week
    standings: tuple[Standing, ...]
    values: Mapping[str, Value]
    days: tuple[Day, ...]
    was_there: bool  # from its beginning


def read(engine: Store, settings: Settings, found: Week, priced: Ledger, begun_ms: int | None) -> Read:
    """What is told of a week and compared with others; ``begun_ms`` is when the first thing was seen."""
    start_ms, end_ms = priced.of.start_ms, priced.of.end_ms
    standings: tuple[Standing, ...] = ()
    if settings.cost.contract and start_ms < end_ms:
        used = commitments.uses(engine, settings, [start_ms, end_ms])
        each = (
            commitments.standing(one, settings, used[one.name], Span(start_ms, end_ms))
            for one in settings.cost.contract
        )
        standings = tuple(one for one in each if one is not None)
    return Read(
        week=found,
        standings=standings,
        values=values(found, priced, standings, settings),
        days=daily(priced, settings),
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


def weeks_before(engine: Store, settings: Settings, found: Week, begun_ms: int | None) -> Iterator[Read | None]:
    """As many hours of each of the weeks before, oldest first; ``None`` where nothing was there yet."""
    zone = settings.site.zone
    for number in range(WOBBLE_WEEKS, 0, -1):
        start_ms = monday_ms(found, settings, number)
        year, week, _ = local(start_ms, zone).isocalendar()
        span = week_span(year, week, settings)
        until_ms = span.end_ms if found.is_whole else span.start_ms + round(found.hours * MS_PER_HOUR)
        if begun_ms is None or begun_ms >= until_ms:
            yield None
            continue
        yield read(engine, settings, *read_week(engine, settings, year, week, until_ms), begun_ms)
