from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.scrape.exposition import Point, Series
from collectors.scrape.histograms import Cumulative, Identity, histograms, increase

A: Identity = ("h", (("engine", "0"),))
B: Identity = ("h", (("engine", "1"),))
INF = math.inf


def bucket(bound: float, value: float, engine: str = "0") -> Point:
    return Point(Series("h_bucket", {"engine": engine}, bound, (("engine", engine),)), value)


def plain(name: str, value: float, engine: str = "0") -> Point:
    return Point(Series(name, {"engine": engine}, None, (("engine", engine),)), value)


def cumulative(*counts: float, sum: float | None = None, bounds: tuple[float, ...] = (0.1, 1.0, INF)) -> Cumulative:
    return Cumulative(bounds, tuple(map(float, counts)), sum)


def test_buckets_are_sorted_and_grouped_by_series():
    lines = [bucket(INF, 5), bucket(0.1, 2), bucket(INF, 1, "1"), bucket(0.1, 0, "1")]
    found = histograms("h", lines, [plain("h_sum", 2.5)], [])
    assert found == {A: Cumulative((0.1, INF), (2, 5), 2.5), B: Cumulative((0.1, INF), (0, 1), None)}


def test_a_missing_last_bucket_is_the_count():
    assert histograms("h", [bucket(0.1, 2)], [], [plain("h_count", 5)]) == {A: Cumulative((0.1, INF), (2, 5), None)}


@pytest.mark.parametrize("lines", [[bucket(0.1, 2)], [bucket(0.1, -1), bucket(INF, 2)], [bucket(INF, math.nan)]])
def test_impossible_histograms_are_left_out(lines):
    assert histograms("h", lines, [], []) == {}


@pytest.mark.parametrize("total", [math.nan, -1.0, INF])
def test_an_impossible_sum_is_unknown(total):
    assert histograms("h", [bucket(INF, 1)], [plain("h_sum", total)], [])[A].sum is None


def test_increase_per_bucket():
    added = increase({A: cumulative(1, 4, 4, sum=2.0)}, {A: cumulative(2, 6, 9, sum=7.5)}, new_from_zero=True)
    assert added is not None
    assert (added.bounds, added.counts, added.sum) == ((0.1, 1.0, INF), (1, 1, 3), 5.5)


def test_increases_are_added_over_series_not_totals():
    """One engine begins again while the other goes on: its reset must not hide the other's increase."""
    before = {A: cumulative(100, 100, 100), B: cumulative(0, 0, 10)}
    now = {A: cumulative(0, 3, 3), B: cumulative(0, 0, 30)}
    added = increase(before, now, new_from_zero=True)
    assert added is not None
    assert added.counts == (0, 3, 20)


def test_a_reset_counts_what_is_there_now():
    added = increase({A: cumulative(5, 6, 7, sum=9.0)}, {A: cumulative(0, 1, 7, sum=1.5)}, new_from_zero=True)
    assert added is not None
    assert (added.counts, added.sum) == ((0, 1, 6), 1.5)


def test_changed_bounds_say_nothing():
    now = {A: cumulative(9, 9, 9, bounds=(0.2, 1.0, INF))}
    assert increase({A: cumulative(1, 1, 1)}, now, new_from_zero=True) is None


def test_series_with_different_bounds_are_never_merged():
    now = {A: cumulative(1, 1, 1), B: cumulative(1, 1, 1, bounds=(0.2, 1.0, INF))}
    assert increase({}, now, new_from_zero=True) is None


def test_a_new_series_counts_from_zero_only_where_its_past_is_known():
    now = {A: cumulative(1, 2, 3, sum=4.0)}
    assert increase({}, now, new_from_zero=False) is None
    added = increase({}, now, new_from_zero=True)
    assert added is not None
    assert (added.counts, added.sum) == ((1, 1, 1), 4.0)


def test_an_unknown_sum_stays_unknown():
    added = increase({A: cumulative(0, 0, 1)}, {A: cumulative(0, 0, 2, sum=1.0)}, new_from_zero=True)
    assert added is not None
    assert added.sum is None


increments = st.lists(st.integers(0, 1000), min_size=3, max_size=3)
intervals = st.lists(st.tuples(st.sampled_from([A, B]), increments, st.booleans()), max_size=12)


@given(intervals)
def test_increments_are_what_was_observed(history):
    """Two engines count, now and then one begins again from zero: each interval is found as it happened.

    A restart can go unnoticed only when every bucket has passed its old count; then less is found, never more.
    """
    shown = {A: (0, 0, 0), B: (0, 0, 0)}
    for engine, counts, restarts in history:
        before = {key: cumulative(*accumulate(value), sum=float(sum(value))) for key, value in shown.items()}
        base = (0, 0, 0) if restarts else shown[engine]
        shown[engine] = tuple(old + new for old, new in zip(base, counts, strict=True))
        now = {key: cumulative(*accumulate(value), sum=float(sum(value))) for key, value in shown.items()}
        added = increase(before, now, new_from_zero=True)
        assert added is not None
        assert all(count >= 0 for count in added.counts)
        noticed = any(new < old for old, new in zip(before[engine].counts, now[engine].counts, strict=True))
        if noticed or not restarts:
            assert added.counts == tuple(counts)
            assert added.sum == sum(counts)
        else:
            assert sum(added.counts) <= sum(counts)


@given(st.lists(st.floats(0, 1e9), min_size=3, max_size=3), st.lists(st.floats(0, 1e9), min_size=3, max_size=3))
def test_any_two_pages_give_counts_that_add_up(before, now):
    """Also pages whose cumulative counts are not in order."""
    added = increase({A: cumulative(*before)}, {A: cumulative(*now)}, new_from_zero=True)
    assert added is not None
    assert all(count >= 0 for count in added.counts)
    reset = any(new < old for old, new in zip(before, now, strict=True))
    expected = max(now) if reset else max(new - old for old, new in zip(before, now, strict=True))
    assert sum(added.counts) == pytest.approx(expected)
