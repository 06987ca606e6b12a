"""Bills: worked example 9, and rows that sum to the cent whatever the fleet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.allocation import (
    IDLE,
    IdleRule,
    bill,
    in_cents,
    reserved_gpu_hours,
    shared_gpu_hours,
    split_cents,
)
from tests.analytics.formulas.worked import amounts, near

RESERVED = {"chat": 5 * 168.0, "rag": 2 * 168.0}
EXACT = {
    IdleRule.APART: (1098.42, 439.366, 219.683),
    IdleRule.PROPORTIONAL: (1255.33, 502.133, 0),
    IdleRule.EVEN: (1208.26, 549.208, 0),
}

cents = st.integers(0, 10**12)
owners = st.dictionaries(st.text(max_size=5), amounts, max_size=30)


@pytest.mark.parametrize(("rule", "exact"), EXACT.items())
def test_two_deployments_and_a_free_gpu(rule: IdleRule, exact: tuple[float, ...]):
    rows = bill(in_cents(1757.46472), 0, RESERVED, 8 * 168, rule)
    assert [row.owner for row in rows] == ["chat", "rag", IDLE]
    assert [row.total_cents / 100 for row in rows] == pytest.approx(exact, abs=0.011)
    assert sum(row.total_cents for row in rows) == 175746
    # The same in a currency of small enough coins shows the printed digits.
    fine = bill(175_746_472_000, 0, RESERVED, 8 * 168, rule)
    assert [row.total_cents / 1e8 for row in fine] == [near(usd) for usd in exact]


def test_overhead_falls_to_owners_as_their_direct_cost_does():
    rows = bill(80_000, 7_001, RESERVED, 8 * 168)
    assert [(row.direct_cents, row.idle_cents, row.overhead_cents) for row in rows] == [
        (50_000, 0, 5_001),
        (20_000, 0, 2_000),
        (0, 10_000, 0),
    ]


@pytest.mark.parametrize("rule", IdleRule)
def test_with_no_owner_all_is_idle(rule: IdleRule):
    rows = bill(1000, 50, {"asleep": 0.0}, 8, rule)
    assert {row.owner: row.total_cents for row in rows} == {"asleep": 0, IDLE: 1050}


def test_more_reserved_than_there_is_leaves_nothing_idle():
    assert [row.total_cents for row in bill(900, 0, {"a": 6.0, "b": 3.0}, 8)] == [600, 300, 0]


def test_an_owner_cannot_take_the_name_of_the_idle_row():
    assert [row.owner for row in bill(100, 0, {IDLE: 4.0, "a": 4.0}, 8)] == ["a", IDLE]
    assert [row.total_cents for row in bill(100, 0, {IDLE: 4.0, "a": 4.0}, 8)] == [50, 50]


def test_a_shared_server_goes_by_weighted_tokens():
    assert shared_gpu_hours(168, {"a": 3e9, "b": 1e9}) == {"a": near(126), "b": near(42)}
    assert shared_gpu_hours(168, {"a": 0.0, "b": 0.0}) == {"a": near(84), "b": near(84)}
    assert shared_gpu_hours(168, {}) == {}


def test_owners_answer_for_the_larger_of_request_and_use():
    assert reserved_gpu_hours(10, 12) == reserved_gpu_hours(12, 10) == reserved_gpu_hours(None, 12) == 12
    assert reserved_gpu_hours(None, None) is None


def test_rounding_falls_to_the_largest_row():
    assert split_cents(100, {"a": 1.0, "b": 1.0, "c": 1.0}) == {"a": 34, "b": 33, "c": 33}
    assert split_cents(200, {"a": 1.0, "b": 4.0, "c": 1.0}) == {"a": 33, "b": 134, "c": 33}


def test_no_row_is_made_negative_by_rounding():
    assert split_cents(600, {str(n): 1.0 for n in range(1000)}) == {str(n): int(n >= 400) for n in range(1000)}


@given(cents, cents, owners, amounts, st.sampled_from(IdleRule))
def test_rows_sum_to_the_bill(hardware: int, overhead: int, reserved: dict[str, float], free: float, rule: IdleRule):
    rows = bill(hardware, overhead, reserved, sum(reserved.values()) + free, rule)
    assert sum(row.direct_cents + row.idle_cents for row in rows) == hardware
    assert sum(row.overhead_cents for row in rows) == overhead
    assert all(min(row.direct_cents, row.idle_cents, row.overhead_cents) >= 0 for row in rows)
    assert len(rows) == len(reserved) + 1


@given(st.integers(10**6, 10**10), st.lists(st.floats(1, 1000), min_size=1, max_size=20), st.floats(0, 1000))
def test_a_row_is_its_exact_share_but_for_rounding(hardware: int, hours: list[float], free: float):
    available = sum(hours) + free
    rows = bill(hardware, 0, {str(n): one for n, one in enumerate(hours)}, available)
    for row, one in zip(rows, hours, strict=False):
        assert row.total_cents == pytest.approx(hardware * one / available, abs=0.5 * len(rows))
