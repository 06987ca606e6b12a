"""What a month will have cost, as a range."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from analytics.formulas.objectives import Between

LEAST_DAYS = 7
STANDARD_ERRORS = 2.0  # about 19 months in 20 if days were independent and normal; 9 in 10 on only seven of them


def month_end_usd(spent_usd: float | None, days_left: float, daily_usd: Sequence[float]) -> Between | None:
    """Cost of the month at its end (USD), if the days that are left are like those seen.

    It assumes that days vary about one level by chance: no trend, no weekday, no price that will change. Weekdays
    that differ only widen the range. It never falls under what is already spent.

    Args:
        spent_usd: this month so far.
        days_left: until its end, with those whose cost is unknown.
        daily_usd: cost of whole recent days, of this month or before.

    Returns:
        ``None`` where less than a week of days or the money spent is unknown.
    """
    if spent_usd is None or len(daily_usd) < LEAST_DAYS:
        return None
    expected = mean(daily_usd) * days_left
    # Both the days to come and the mean that is taken from n days seen are uncertain.
    error = stdev(daily_usd) * (days_left + days_left**2 / len(daily_usd)) ** 0.5
    low, high = expected - STANDARD_ERRORS * error, expected + STANDARD_ERRORS * error
    return Between(spent_usd + max(low, 0.0), spent_usd + high, spent_usd + expected)
