"""Days and weeks of a time zone as UTC instants. A local day may last 23 or 25 h, a week 167 or 169 h."""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

MS_PER_HOUR = 3_600_000
MIDNIGHT = time()
_MS_PER_DAY = 24 * MS_PER_HOUR


class Span(NamedTuple):
    """Time from ``start_ms`` up to, not including, ``end_ms`` (Unix ms, UTC)."""

    start_ms: int
    end_ms: int

    @property
    def hours(self) -> float:
        """Hours that really pass."""
        return (self.end_ms - self.start_ms) / MS_PER_HOUR


def local(at_ms: int, zone: ZoneInfo) -> datetime:
    """What calendar and clock of the zone show at an instant."""
    return datetime.fromtimestamp(at_ms / 1000, zone)


def instant_ms(day: date, at: time, zone: ZoneInfo, fold: int = 0) -> int:
    """When the zone's clock shows a time of a day; of a time shown twice the first, or with ``fold`` 1 the second.

    A time that the clock skips is read by the offset before the change, as PEP 495 has it.
    """
    return round(datetime.combine(day, at, zone).replace(fold=fold).timestamp() * 1000)


def iso_week(year: int, week: int, zone: ZoneInfo) -> Span:
    """A week of ISO 8601, from Monday 00:00 local to the next; ``ValueError`` where the year has no such week."""
    monday = date.fromisocalendar(year, week, 1)
    return Span(instant_ms(monday, MIDNIGHT, zone), instant_ms(monday + timedelta(days=7), MIDNIGHT, zone))


def clock_changes_ms(span: Span, zone: ZoneInfo) -> list[int]:
    """Instants after the start and up to the end of a span at which the zone's clock is put forward or back."""
    # By the day, since no zone changes twice within one.
    days = pairwise([*range(span.start_ms, span.end_ms, _MS_PER_DAY), span.end_ms])
    return [_first_change_ms(begin, end, zone) for begin, end in days if _offset(begin, zone) != _offset(end, zone)]


def _first_change_ms(begin_ms: int, end_ms: int, zone: ZoneInfo) -> int:
    before = _offset(begin_ms, zone)
    return begin_ms + bisect_left(range(begin_ms, end_ms), True, key=lambda at_ms: _offset(at_ms, zone) != before)


def _offset(at_ms: int, zone: ZoneInfo) -> timedelta | None:
    return local(at_ms, zone).utcoffset()
