"""Promises: exact where a limit is a bound, never a point where it is not, the same by whatever way it is added up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas import objectives as formulas
from analytics.formulas.objectives import NONE_SEEN, Between

BOUNDS = (0.1, 0.5, 1.0, 2.0, math.inf)
COUNTS = (10.0, 20.0, 40.0, 20.0, 10.0)

values = st.lists(st.floats(1e-4, 100.0), min_size=1, max_size=60)
bounds = st.lists(st.floats(1e-3, 50.0), min_size=0, max_size=8, unique=True).map(lambda b: (*sorted(b), math.inf))
limits = st.floats(1e-3, 200.0)
shares = st.builds(
    lambda low, high: Between(min(low, high), max(low, high), None), st.floats(0.0, 1.0), st.floats(0.0, 1.0)
)


def histogram(raw: list[float], upper: tuple[float, ...]) -> np.ndarray:
    """Counts per bucket: each value in the first bucket whose bound it does not pass."""
    return np.bincount(np.searchsorted(upper, raw), minlength=len(upper)).astype("float64")


def within_exactly(raw: list[float], limit: float) -> int:
    return sum(value <= limit for value in raw)


def test_at_a_bound_the_count_is_exact():
    assert formulas.within(0.5, BOUNDS, COUNTS) == Between(30.0, 30.0, 30.0)
    assert formulas.within(0.5, BOUNDS, COUNTS).exact


def test_a_bound_in_milliseconds_is_the_limit_in_seconds():
    upper = (0.1 + 0.2, math.inf)  # 0.30000000000000004
    assert formulas.within(0.3, upper, (7.0, 3.0)) == Between(7.0, 7.0, 7.0)
    assert formulas.within(0.1 + 0.2, (0.3, math.inf), (7.0, 3.0)) == Between(7.0, 7.0, 7.0)


def test_between_bounds_the_neighbours_are_limits_and_a_line_is_the_estimate():
    assert formulas.within(0.75, BOUNDS, COUNTS) == Between(30.0, 70.0, 50.0)
    assert formulas.within(0.05, BOUNDS, COUNTS) == Between(0.0, 10.0, 5.0)


def test_beyond_the_highest_bound_nothing_is_estimated():
    assert formulas.within(30.0, BOUNDS, COUNTS) == Between(90.0, 100.0, None)
    assert formulas.within(30.0, BOUNDS, (*COUNTS[:-1], 0.0)) == Between(90.0, 90.0, 90.0)


def test_one_bucket_tells_only_how_many_there_were():
    assert formulas.within(1.0, (math.inf,), (8.0,)) == Between(0.0, 8.0, None)


@given(values, bounds, limits)
def test_the_truth_lies_between(raw: list[float], upper: tuple[float, ...], limit: float):
    found = formulas.within(limit, upper, histogram(raw, upper))
    truth = within_exactly(raw, limit)
    assert found.lower <= truth <= found.upper
    if found.estimate is not None:
        assert found.lower <= found.estimate <= found.upper
        assert math.isfinite(found.estimate)


@given(values, bounds, st.data())
def test_a_limit_on_a_bound_counts_raw_values(raw: list[float], upper: tuple[float, ...], data: st.DataObject):
    finite = upper[:-1]
    if not finite:
        return
    limit = data.draw(st.sampled_from(finite))
    # Bounds closer than the tolerance cannot be told apart, and no server has such.
    if any(other != limit and math.isclose(other, limit, rel_tol=1e-6) for other in finite):
        return
    found = formulas.within(limit, upper, histogram(raw, upper))
    assert found == Between(*[float(within_exactly(raw, limit))] * 3)


@given(values, bounds, limits, limits)
def test_a_longer_limit_never_holds_fewer(raw: list[float], upper: tuple[float, ...], one: float, other: float):
    short, long = (formulas.within(limit, upper, histogram(raw, upper)) for limit in sorted((one, other)))
    assert short.lower <= long.lower
    assert short.upper <= long.upper
    if short.estimate is not None and long.estimate is not None:
        assert short.estimate <= long.estimate + 1e-9


@given(values, values, bounds, limits)
def test_windows_add_up(one: list[float], other: list[float], upper: tuple[float, ...], limit: float):
    parts = [formulas.within(limit, upper, histogram(raw, upper)) for raw in (one, other)]
    whole = formulas.within(limit, upper, histogram([*one, *other], upper))
    added = sum(parts, NONE_SEEN)
    assert (added.lower, added.upper) == (whole.lower, whole.upper)
    if added.estimate is not None:
        assert added.estimate == pytest.approx(whole.estimate)


def test_errors_are_misses_and_nothing_seen_is_unknown():
    assert formulas.attainment(Between(90.0, 90.0, 90.0), 95.0, 5.0) == Between(0.9, 0.9, 0.9)
    assert formulas.attainment(NONE_SEEN, 0.0) is None


def test_misses_of_several_limits_add_up_at_the_worst():
    found = formulas.of_all([Between(0.99, 0.99, 0.99), Between(0.95, 0.95, 0.95)])
    assert found is not None
    assert (found.lower, found.upper, found.estimate) == (pytest.approx(0.94), 0.95, None)
    assert formulas.of_all([]) is None
    assert formulas.of_all([Between(0.2, 0.4, 0.3)]) == Between(0.2, 0.4, 0.3)
    worst = formulas.of_all([Between(0.3, 0.3, 0.3), Between(0.4, 0.4, 0.4)])
    assert worst is not None
    assert worst.lower == 0.0  # never below


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_whatever_requests_missed_goodput_lies_between(requests: list[tuple[bool, bool, bool]]):
    n = len(requests)
    each = [Between(*[sum(one[kind] for one in requests) / n] * 3) for kind in range(3)]
    found = formulas.of_all(each)
    assert found is not None
    assert found.lower - 1e-12 <= sum(all(one) for one in requests) / n <= found.upper + 1e-12


@given(st.lists(shares, min_size=1, max_size=4))
def test_all_limits_are_never_kept_more_often_than_one(each: list[Between]):
    found = formulas.of_all(each)
    assert found is not None
    assert 0.0 <= found.lower <= found.upper <= min(one.upper for one in each)


def test_burn_is_one_where_the_budget_is_used_up_just_so():
    assert formulas.burn(Between(0.99, 0.99, 0.99), 0.99).estimate == pytest.approx(1.0)
    found = formulas.burn(Between(0.96, 0.98, None), 0.99)
    assert (found.lower, found.upper, found.estimate) == (pytest.approx(2.0), pytest.approx(4.0), None)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ({"ttft": 0.5, "tpot": 0.05}, True),
        ({"ttft": 1.0, "tpot": 0.1}, True),  # the limit itself is kept
        ({"ttft": 1.5, "tpot": 0.05}, False),
        ({"ttft": 1.5, "tpot": None}, False),  # one miss is enough
        ({"ttft": 0.5}, None),
    ],
)
def test_a_request_is_judged_by_all_its_limits(measured: dict[str, float | None], verdict: bool | None):
    assert formulas.meets_all(measured, {"ttft": 1.0, "tpot": 0.1}) is verdict
