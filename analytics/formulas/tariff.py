"""Electricity that costs more at some hours than at others, and the charge for the highest demand.

Prices go by the clock and calendar of the tariff's zone, energy by the seconds that really pass: the hour that
the clock repeats in autumn is billed twice, the one that it skips in spring not at all.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from itertools import groupby, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from analytics.formulas.energy import ENOUGH_COVERAGE
from analytics.formulas.local_time import MIDNIGHT, MS_PER_HOUR, Span, clock_changes_ms, instant_ms, local
from analytics.formulas.unknown import product

EVERY_DAY = frozenset(range(7))
QUARTER_MS = MS_PER_HOUR // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A price (USD/kWh at the meter) at local times of day, by default always.

    A band that ends no later than it begins crosses midnight. Its ``weekdays`` (Monday is 0) are those it
    begins on: from Friday 22:00 to 06:00 reaches into Saturday.
    """

    usd_per_kwh: float
    begins: time = MIDNIGHT
    ends: time = MIDNIGHT
    weekdays: frozenset[int] = EVERY_DAY

    def covers(self, weekday: int, at: time) -> bool:
        """Whether the price holds at a time of a weekday."""
        if self.begins < self.ends:
            return weekday in self.weekdays and self.begins <= at < self.ends
        day_before = (weekday - 1) % 7
        return (weekday in self.weekdays and at >= self.begins) or (day_before in self.weekdays and at < self.ends)


class Hole(NamedTuple):
    """Time of a weekday that has no price; it ends at midnight where ``ends`` is 00:00."""

    weekday: int
    begins: time
    ends: time

    def __str__(self) -> str:
        ends = "24:00" if self.ends == MIDNIGHT else f"{self.ends:%H:%M}"
        return f"{calendar.day_name[self.weekday]} {self.begins:%H:%M}-{ends}"


def holes(bands: Sequence[Band]) -> list[Hole]:
    """Times of the week that no band covers."""
    marks = _marks(bands)
    found = []
    for weekday in range(7):
        spans = [Hole(weekday, begins, ends) for begins, ends in pairwise([*marks, MIDNIGHT])]
        for uncovered, run in groupby(
            spans, key=lambda span: not any(b.covers(span.weekday, span.begins) for b in bands)
        ):
            if uncovered:
                stretch = list(run)
                found.append(Hole(weekday, stretch[0].begins, stretch[-1].ends))
    return found


@dataclass(frozen=True, slots=True)
class Tariff:
    """Bands in a time zone. The first that covers an instant counts, so a flat price "otherwise" stands last.

    Raises:
        ValueError: bands leave a time without a price (``holes``).
    """

    zone: ZoneInfo
    bands: tuple[Band, ...]

    def __post_init__(self) -> None:
        if uncovered := holes(self.bands):
            raise ValueError(f"no price for {', '.join(map(str, uncovered))}")

    def band_at(self, at_ms: int) -> Band:
        """The band whose price holds at an instant."""
        now = local(at_ms, self.zone)
        return next(band for band in self.bands if band.covers(now.weekday(), now.time()))


class Segment(NamedTuple):
    """Constant power (kW at the meter, so cooling and losses included) over a span of time (Unix ms, UTC).

    What was not observed is no segment; segments of several consumers may overlap, and add up.
    """

    start_ms: int
    end_ms: int
    kilowatts: float


class Piece(NamedTuple):
    """Time over which one band holds, within one local day and one offset from UTC."""

    span: Span
    band: Band


class Charge(NamedTuple):
    """Energy that was used while a band held."""

    band: Band
    kwh: float

    @property
    def usd(self) -> float:
        """What it costs."""
        return self.kwh * self.band.usd_per_kwh


def pieces(tariff: Tariff, span: Span) -> list[Piece]:
    """A span cut at every bound of a band, local midnight and change of the clock, in time order."""
    first, last = local(span.start_ms, tariff.zone).date(), local(span.end_ms, tariff.zone).date()
    # One day more: a clock put back just after midnight shows the day before again.
    days = (first + timedelta(days=n) for n in range((last - first).days + 2))
    marks = _marks(tariff.bands)
    cuts = {instant_ms(day, mark, tariff.zone, fold) for day in days for mark in marks for fold in (0, 1)}
    cuts.update(clock_changes_ms(span, tariff.zone))
    inside = sorted(cut for cut in cuts if span.start_ms < cut < span.end_ms)
    bounds = pairwise([span.start_ms, *inside, span.end_ms])
    return [Piece(Span(begin, end), tariff.band_at(begin)) for begin, end in bounds]


def charges(tariff: Tariff, segments: Sequence[Segment]) -> tuple[Charge, ...]:
    """Energy in each band of the tariff, in its order; the bill is the sum of their ``usd``."""
    kwh = dict.fromkeys(tariff.bands, 0.0)
    if segments:
        whole = Span(min(one.start_ms for one in segments), max(one.end_ms for one in segments))
        priced = pieces(tariff, whole)
        starts = [piece.span.start_ms for piece in priced]
        for start_ms, end_ms, kilowatts in segments:
            for span, band in priced[bisect_right(starts, start_ms) - 1 : bisect_left(starts, end_ms)]:
                overlap_ms = min(end_ms, span.end_ms) - max(start_ms, span.start_ms)
                kwh[band] += kilowatts * overlap_ms / MS_PER_HOUR
    return tuple(Charge(band, used) for band, used in kwh.items())


def peak_kilowatts(segments: Iterable[Segment]) -> float | None:
    """Highest mean power (kW) of a quarter of an hour by the clock; segments must not overlap.

    A quarter that was hardly observed says nothing: one minute of it would make a peak, and taking the rest
    for zero would hide one. ``None`` where none was observed nearly whole.
    """
    seen_ms: defaultdict[int, int] = defaultdict(int)
    weighed: defaultdict[int, float] = defaultdict(float)
    for start_ms, end_ms, kilowatts in segments:
        for quarter in range(start_ms // QUARTER_MS, -(-end_ms // QUARTER_MS)):
            overlap_ms = min(end_ms, (quarter + 1) * QUARTER_MS) - max(start_ms, quarter * QUARTER_MS)
            seen_ms[quarter] += overlap_ms
            weighed[quarter] += kilowatts * overlap_ms
    enough = (quarter for quarter, ms in seen_ms.items() if ms >= ENOUGH_COVERAGE * QUARTER_MS)
    return max((weighed[quarter] / seen_ms[quarter] for quarter in enough), default=None)


def demand_usd(peak_kilowatts: float | None, usd_per_kw_month: float | None) -> float | None:
    """Charge of a month for its highest quarter of an hour (USD)."""
    return product(peak_kilowatts, usd_per_kw_month)


def _marks(bands: Iterable[Band]) -> list[time]:
    """Times of day at which a price may change, midnight first."""
    return sorted({MIDNIGHT, *(at for band in bands for at in (band.begins, band.ends))})
