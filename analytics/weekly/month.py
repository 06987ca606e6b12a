"""Where the cost of the month leads if days to come are like those seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import fsum
from statistics import mean, stdev

from analytics import commitments
from analytics.device_hours import whole_hours
from analytics.formulas.energy import Quality
from analytics.formulas.forecast import month_end_usd
from analytics.formulas.local_time import MIDNIGHT, Span, instant_ms, local
from analytics.weekly.figure import Value
from analytics.weekly.history import Read, daily, days_since_ms
from analytics.weekly.reasons import Reason, Why
from analytics.weekly.summary import Day, Month
from analytics.weekly.week import totals
from core.settings import Settings
from storage.engine import Store

_DAY_HOURS = 24


def days_of_month(
    engine: Store, settings: Settings, now: Read, before: Sequence[Read | None], accounted: Mapping[int, int]
) -> list[Day]:
    """Days of the month in which the week ends, and of the week before, as far as anything was there."""
    since_ms = days_since_ms(now.week, settings)
    days: list[Day] = []
    for one in before:
        if one is None or one.week.span.end_ms <= since_ms:
            continue
        if one.week.is_whole:
            days += one.days
        else:  # only the hours that are compared were read
            hours = Span(*whole_hours(*one.week.span))
            cuts_ms = (day.start_ms for day in commitments.days(hours, settings))
            days += daily(totals(engine, settings, hours, accounted, cuts_ms), settings)
    return [*days, *now.days]


def month_so_far(settings: Settings, week: Span, days: Sequence[Day]) -> tuple[Month, Value]:
    """The month in which the week ends, and its cost if days to come are like those seen."""
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
    spent, daily = fsum(usd for _, usd in in_month), [usd for _, usd in known]
    found = month_end_usd(spent, left, daily)
    if found is None:
        return Month(spent, len(in_month), left, len(daily), None, None), Value(
            None, Quality.MISSING, Why(Reason.FEW_DAYS)
        )
    seen = Month(spent, len(in_month), left, len(daily), mean(daily), stdev(daily))
    return seen, Value(found.estimate, Quality.ESTIMATED, low=found.lower, high=found.upper)


def _midnight_after(span: Span, settings: Settings) -> int:
    zone = settings.site.zone
    return instant_ms(local(span.start_ms, zone).date() + timedelta(days=1), MIDNIGHT, zone)
