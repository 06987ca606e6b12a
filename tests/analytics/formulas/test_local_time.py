"""Weeks and days of real zones, to the hour; clocks that were put forward and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from analytics.formulas.local_time import MIDNIGHT, Span, clock_changes_ms, instant_ms, iso_week, local

WEEKS_OF_2026 = range(1, 54)


def utc_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def hours_of_day(zone: ZoneInfo, day: date) -> float:
    return Span(instant_ms(day, MIDNIGHT, zone), instant_ms(day + timedelta(days=1), MIDNIGHT, zone)).hours


@pytest.mark.parametrize(
    ("zone", "odd"),
    [
        ("Europe/Madrid", {"2026-03-23": 167, "2026-10-19": 169}),
        ("America/Santiago", {"2026-03-30": 169, "2026-08-31": 167}),
        ("America/New_York", {"2026-03-02": 167, "2026-10-26": 169}),
        ("America/Mexico_City", {}),
        ("America/Sao_Paulo", {}),
    ],
)
def test_weeks_of_a_year(zone: str, odd: dict[str, float]):
    weeks = [iso_week(2026, week, ZoneInfo(zone)) for week in WEEKS_OF_2026]
    assert all(one.end_ms == following.start_ms for one, following in pairwise(weeks))
    starts = {local(week.start_ms, ZoneInfo(zone)): week.hours for week in weeks}
    assert all(start.isocalendar().weekday == 1 and start.time() == MIDNIGHT for start in starts)
    assert {str(start.date()): hours for start, hours in starts.items() if hours != 168} == odd


def test_a_year_without_a_week_53_refuses_it():
    with pytest.raises(ValueError):
        iso_week(2025, 53, ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Santiago", date(2026, 4, 4), 25),
        ("America/Santiago", date(2026, 9, 6), 23),  # begins at 01:00
        ("Europe/Madrid", date(2026, 10, 25), 25),
        ("Europe/Madrid", date(2026, 3, 29), 23),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # begins at 01:00
    ],
)
def test_days_on_which_the_clock_changes(zone: str, day: date, hours: float):
    assert hours_of_day(ZoneInfo(zone), day) == hours


def test_the_instants_at_which_a_clock_changes():
    year = Span(utc_ms("2026-01-01"), utc_ms("2027-01-01"))
    assert clock_changes_ms(year, ZoneInfo("Europe/Madrid")) == [utc_ms("2026-03-29T01:00"), utc_ms("2026-10-25T01:00")]
    assert clock_changes_ms(year, ZoneInfo("America/Santiago")) == [
        utc_ms("2026-04-05T03:00"),
        utc_ms("2026-09-06T04:00"),
    ]
    assert clock_changes_ms(year, ZoneInfo("America/Mexico_City")) == []


def test_a_time_shown_twice_is_two_instants():
    zone, night = ZoneInfo("Europe/Madrid"), date(2026, 10, 25)
    half_past_two = MIDNIGHT.replace(hour=2, minute=30)
    first, second = (instant_ms(night, half_past_two, zone, fold) for fold in (0, 1))
    assert second - first == 3_600_000
