"""The month's end as a range: as wide as days differ, never under what is spent, nothing before a week is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.forecast import month_end_usd
from analytics.formulas.objectives import Between

weeks_of_days = st.lists(st.floats(0, 1e9), min_size=7, max_size=60)


def test_equal_days_leave_no_doubt():
    assert month_end_usd(700, 20, [100.0] * 7) == Between(2700, 2700, 2700)


def test_days_that_differ_widen_the_range():
    forecast = month_end_usd(800, 22, [90.0, 110.0] * 4)
    error = 20 * math.sqrt(8 / 7) * math.sqrt(22 + 22**2 / 8)  # 2 x the sample's deviation
    assert forecast.estimate == 3000
    assert (forecast.lower, forecast.upper) == (pytest.approx(3000 - error), pytest.approx(3000 + error))


def test_less_than_a_week_or_unknown_money_tells_nothing():
    assert month_end_usd(600, 20, [100.0] * 6) is None
    assert month_end_usd(None, 20, [100.0] * 7) is None


@given(st.floats(0, 1e9), st.integers(0, 31), weeks_of_days)
def test_the_range_holds_the_estimate_and_what_is_spent(spent_usd: float, days_left: int, daily_usd: list[float]):
    forecast = month_end_usd(spent_usd, days_left, daily_usd)
    assert spent_usd <= forecast.lower <= forecast.upper < math.inf
    assert forecast.lower <= forecast.estimate * (1 + 1e-12)
    assert forecast.estimate <= forecast.upper * (1 + 1e-12)
