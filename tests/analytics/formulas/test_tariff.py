"""Time of use: worked example 4, nights on which clocks change, bands that cross midnight, the demand charge."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.local_time import Span, clock_changes_ms, instant_ms, local
from analytics.formulas.tariff import (
    Band,
    Hole,
    Segment,
    Tariff,
    charges,
    demand_usd,
    holes,
    peak_kilowatts,
    pieces,
)
from tests.analytics.formulas.worked import near

MADRID, SANTIAGO = ZoneInfo("Europe/Madrid"), ZoneInfo("America/Santiago")
NIGHT = Band(ends=time(8), usd_per_kwh=0.08)
DAY = Band(begins=time(8), usd_per_kwh=0.14)
NIGHT_AND_DAY = Tariff(MADRID, (DAY, NIGHT))
MINUTE, HOUR = 60_000, 3_600_000

zones = st.sampled_from(["Europe/Madrid", "America/Santiago", "America/New_York", "Asia/Kolkata", "UTC"]).map(ZoneInfo)
times = st.times().map(lambda at: at.replace(microsecond=0))
weekdays = st.frozensets(st.integers(0, 6))
prices = st.floats(0, 1)
bands = st.builds(Band, begins=times, ends=times, weekdays=weekdays, usd_per_kwh=prices)
tariffs = st.builds(
    lambda zone, some, flat: Tariff(zone, (*some, flat)), zones, st.lists(bands), st.builds(Band, usd_per_kwh=prices)
)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)).map(
    lambda at: int(at.replace(tzinfo=UTC).timestamp() * 1000)
)
spans = st.builds(lambda start, ms: Span(start, start + ms), instants, st.integers(1, 10 * 24 * HOUR))


def at(zone: ZoneInfo, day: date, clock: time) -> int:
    return instant_ms(day, clock, zone)


def usd(tariff: Tariff, *segments: Segment) -> float:
    return sum(charge.usd for charge in charges(tariff, segments))


@pytest.mark.parametrize(
    ("evening", "day_hours", "night_hours", "kwh", "cost_usd"),
    [
        (date(2026, 6, 13), 2, 8, 120, 11.0400),
        (date(2026, 10, 24), 2, 9, 132, 12.0000),
        (date(2026, 3, 28), 2, 7, 108, 10.0800),
    ],
)
def test_nights_in_madrid(evening: date, day_hours: float, night_hours: float, kwh: float, cost_usd: float):
    morning = evening + timedelta(days=1)
    night = Segment(at(MADRID, evening, time(22)), at(MADRID, morning, time(8)), 12.0)
    by_day, by_night = charges(NIGHT_AND_DAY, [night])
    assert (by_day.band, by_night.band) == (DAY, NIGHT)
    assert (by_day.kwh / 12, by_night.kwh / 12) == (near(day_hours), near(night_hours))
    assert by_day.kwh + by_night.kwh == near(kwh)
    assert by_day.usd + by_night.usd == near(cost_usd)


@pytest.mark.parametrize(
    ("evening", "hours_by_day", "hours_by_night"),
    [
        (date(2026, 4, 4), 3, 8),  # 23:00-24:00 comes twice
        (date(2026, 9, 5), 2, 7),  # 00:00-01:00 does not come
    ],
)
def test_nights_in_santiago(evening: date, hours_by_day: float, hours_by_night: float):
    morning = evening + timedelta(days=1)
    night = Segment(at(SANTIAGO, evening, time(22)), at(SANTIAGO, morning, time(8)), 1.0)
    assert [charge.kwh for charge in charges(Tariff(SANTIAGO, (DAY, NIGHT)), [night])] == [
        near(hours_by_day),
        near(hours_by_night),
    ]


def test_a_segment_across_midnight_is_cut_there():
    start = at(MADRID, date(2026, 6, 13), time(23, 50))
    segment = Segment(start, start + 20 * MINUTE, 12.0)
    assert usd(NIGHT_AND_DAY, segment) == near(0.440000)
    halves = pieces(NIGHT_AND_DAY, Span(segment.start_ms, segment.end_ms))
    assert [(piece.band, piece.span.hours) for piece in halves] == [(DAY, near(1 / 6)), (NIGHT, near(1 / 6))]


def test_a_band_across_midnight_belongs_to_the_day_it_begins_on():
    friday_night = Band(begins=time(22), ends=time(6), weekdays=frozenset({4}), usd_per_kwh=0.05)
    tariff = Tariff(MADRID, (friday_night, Band(usd_per_kwh=0.2)))
    friday = date(2026, 6, 12)
    week = Segment(at(MADRID, friday - timedelta(days=4), time()), at(MADRID, friday + timedelta(days=3), time()), 1.0)
    assert [charge.kwh for charge in charges(tariff, [week])] == [near(8), near(160)]
    assert tariff.band_at(at(MADRID, friday + timedelta(days=1), time(5, 59))) == friday_night
    assert tariff.band_at(at(MADRID, friday, time(5))) != friday_night


@pytest.mark.parametrize(
    ("day", "dear_hours", "flat_hours"),
    [
        (date(2026, 3, 29), 1, 2),  # 02:30 does not come: from 03:00 on
        (date(2026, 10, 25), 2, 3),  # 02:30 comes twice, and 02:00 in between
    ],
)
def test_a_band_that_begins_in_the_hour_of_the_change(day: date, dear_hours: float, flat_hours: float):
    tariff = Tariff(MADRID, (Band(begins=time(2, 30), ends=time(4), usd_per_kwh=1.0), Band(usd_per_kwh=0.1)))
    dear, flat = charges(tariff, [Segment(at(MADRID, day, time()), at(MADRID, day, time(4)), 1.0)])
    assert (dear.kwh, flat.kwh) == (near(dear_hours), near(flat_hours))


def test_a_clock_put_back_just_after_midnight_shows_the_day_before_again():
    zone = ZoneInfo("America/St_Johns")  # 2010-11-07 00:01 was followed by 2010-11-06 23:01
    start, half_past = at(zone, date(2010, 11, 6), time(22)), instant_ms(date(2010, 11, 6), time(23, 30), zone, fold=1)
    by_day, by_night = charges(Tariff(zone, (DAY, NIGHT)), [Segment(start, half_past, 60.0)])
    assert (by_day.kwh, by_night.kwh) == (near(149), near(1))


def test_time_without_a_price_is_told_and_refused():
    office = Band(begins=time(8), ends=time(18), weekdays=frozenset(range(5)), usd_per_kwh=0.2)
    evening = Band(begins=time(18), ends=time(8), weekdays=frozenset(range(5)), usd_per_kwh=0.1)
    saturday, sunday, monday = Hole(5, time(8), time()), Hole(6, time(), time()), Hole(0, time(), time(8))
    assert holes([office, evening]) == [monday, saturday, sunday]
    with pytest.raises(ValueError, match="Monday 00:00-08:00, Saturday 08:00-24:00, Sunday 00:00-24:00"):
        Tariff(MADRID, (office, evening))
    assert len(holes([])) == 7


@given(st.lists(bands, max_size=5), st.integers(0, 6), times)
def test_a_time_is_in_a_hole_or_in_a_band(some: list[Band], weekday: int, clock: time):
    in_hole = any(
        hole.weekday == weekday and hole.begins <= clock and (clock < hole.ends or hole.ends == time())
        for hole in holes(some)
    )
    assert in_hole != any(band.covers(weekday, clock) for band in some)


@given(tariffs, spans, st.floats(0, 1))
def test_the_price_of_a_piece_holds_all_through_it(tariff: Tariff, span: Span, part: float):
    cut = pieces(tariff, span)
    assert [cut[0].span.start_ms, cut[-1].span.end_ms] == list(span)
    assert all(one.span.end_ms == following.span.start_ms for one, following in pairwise(cut))
    for (start_ms, end_ms), band in cut:
        assert band == tariff.band_at(start_ms + int((end_ms - 1 - start_ms) * part))
        assert local(start_ms, tariff.zone).date() == local(end_ms - 1, tariff.zone).date()
        assert not [ms for ms in clock_changes_ms(Span(start_ms, end_ms), tariff.zone) if ms < end_ms]


@given(tariffs, spans, st.floats(0, 1), st.floats(0, 1000))
def test_energy_and_cost_add_up_over_split_segments(tariff: Tariff, span: Span, part: float, kilowatts: float):
    middle = span.start_ms + int((span.end_ms - span.start_ms) * part)
    halves = Segment(span.start_ms, middle, kilowatts), Segment(middle, span.end_ms, kilowatts)
    whole = charges(tariff, [Segment(*span, kilowatts)])
    assert sum(charge.kwh for charge in whole) == pytest.approx(kilowatts * span.hours)
    assert [charge.kwh for charge in charges(tariff, halves)] == pytest.approx([charge.kwh for charge in whole])
    assert sum(usd(tariff, half) for half in halves) == pytest.approx(sum(charge.usd for charge in whole))


def test_without_segments_each_band_is_there_with_nothing():
    assert [charge.usd for charge in charges(NIGHT_AND_DAY, [])] == [0, 0]


class TestDemand:
    start = at(MADRID, date(2026, 6, 13), time(12))

    def minutes(self, begin: float, end: float, kilowatts: float) -> Segment:
        return Segment(self.start + int(begin * MINUTE), self.start + int(end * MINUTE), kilowatts)

    def test_the_highest_quarter_of_an_hour_counts_by_its_mean(self):
        peak = peak_kilowatts([self.minutes(0, 15, 10), self.minutes(15, 20, 40), self.minutes(20, 60, 10)])
        assert peak == near(20.0)
        assert demand_usd(peak, 9.5) == near(190.0)

    def test_a_minute_alone_is_no_peak(self):
        assert peak_kilowatts([self.minutes(0, 15, 10), self.minutes(15, 16, 500)]) == near(10.0)
        assert peak_kilowatts([self.minutes(15, 16, 500)]) is None
        assert peak_kilowatts([]) is None

    def test_a_short_gap_is_not_taken_for_zero(self):
        assert peak_kilowatts([self.minutes(0, 14.5, 10)]) == near(10.0)
