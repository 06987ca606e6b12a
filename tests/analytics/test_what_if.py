"""Trying other settings: what was measured stays what it is, and each price does what a price does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import costs_of_hours
from analytics.cost_totals import total
from analytics.formulas.cost import realised_usd_per_million, usd_per_million_at_full_use
from analytics.ledger import bill
from analytics.what_if import Choice, Measured, Movable, at_full_use, break_even, measured, offers, outcome
from core.settings import Settings
from tests.analytics.test_costs_of_hours import PRICED, two_cards_and_a_free_one
from tests.analytics.test_ledger import BEGIN_MS, OWNED, card, kept, priced, runs_on, served, settings
from tests.conftest import Store

BASE = Measured(
    hours=24.0,
    device_hours=48.0,
    output_tokens=1e8,
    prompt_tokens=3e8,
    cached_prompt_tokens=1e8,
    hardware_usd=96.0,
    electricity_active_usd=6.0,
    electricity_idle_usd=2.0,
    overhead_usd=16.0,
    utilization_ratio=0.5,
    best_hour_ratio=2.0,
    pue_ratio=1.3,
    movable=None,
)
AMOUNTS = st.floats(0, 1e6)
MEASURED = st.builds(
    Measured,
    hours=st.floats(1, 1000),
    device_hours=st.floats(1, 1e6),
    output_tokens=st.floats(1, 1e12),
    prompt_tokens=st.none() | st.floats(0, 1e12),
    cached_prompt_tokens=st.none(),
    hardware_usd=AMOUNTS,
    electricity_active_usd=AMOUNTS,
    electricity_idle_usd=AMOUNTS,
    overhead_usd=AMOUNTS,
    utilization_ratio=st.none() | st.floats(0.01, 1),
    best_hour_ratio=st.none(),
    pue_ratio=st.floats(1, 3),
    movable=st.none() | st.builds(Movable, AMOUNTS, AMOUNTS, st.just((0.1,) * 24)),
)


@given(MEASURED)
def test_at_the_measured_settings_the_outcome_is_what_was_measured_exactly(of: Measured):
    for choice in (Choice(), Choice(utilization_ratio=of.utilization_ratio, pue_ratio=of.pue_ratio)):
        found = outcome(of, choice)
        assert found.hardware_usd == of.hardware_usd
        assert found.electricity_active_usd == of.electricity_active_usd
        assert found.electricity_idle_usd == of.electricity_idle_usd
        assert found.overhead_usd == of.overhead_usd
        assert found.output_tokens == of.output_tokens


@given(MEASURED, st.floats(0, 10), st.floats(0, 10))
def test_the_cost_is_linear_in_the_price_of_hardware_and_in_the_tariff(of: Measured, one: float, two: float):
    for name in ("hardware_factor", "tariff_factor"):
        none, first, second, both = (
            outcome(of, replace(Choice(), **{name: factor})).total_usd for factor in (0.0, one, two, one + two)
        )
        assert both - none == pytest.approx((first - none) + (second - none), rel=1e-6, abs=1e-6)


@given(MEASURED.filter(lambda of: of.utilization_ratio is not None), st.floats(0.01, 1))
def test_more_use_makes_more_tokens_and_never_a_dearer_one(of: Measured, ratio: float):
    found, more = (outcome(of, Choice(utilization_ratio=r)) for r in (ratio, min(ratio * 1.5, 1.0)))
    assert found.output_tokens == pytest.approx(of.output_tokens * ratio / (of.utilization_ratio or 1))
    dear, cheap = found.usd_per_million_output_tokens, more.usd_per_million_output_tokens
    assert dear is not None
    assert cheap is not None
    assert cheap <= dear * (1 + 1e-9)


@given(MEASURED.filter(lambda of: of.utilization_ratio is not None), st.floats(0.001, 1e6))
def test_at_break_even_the_price_is_the_hosted_one_and_never_means_that_electricity_costs_more(
    of: Measured, usd: float
):
    even = break_even(of, Choice(), usd)
    full = at_full_use(of, Choice())
    assert full is not None
    if even is None:
        assert full.electricity_active_usd / full.output_tokens * 1e6 >= usd * (1 - 1e-6)
    elif even.utilization_ratio > 1:
        assert (full.usd_per_million_output_tokens or 0.0) >= usd * (1 - 1e-6)
        more = even.output_tokens_per_day * of.hours / 24
        cost = full.total_usd + full.electricity_active_usd * (even.utilization_ratio - 1)
        assert cost / more * 1e6 == pytest.approx(usd, rel=1e-4)
    elif even.utilization_ratio > 1e-6:
        there = outcome(of, Choice(utilization_ratio=even.utilization_ratio))
        rounding = 1e-9 * outcome(of, Choice(utilization_ratio=0.0)).total_usd
        assert there.total_usd == pytest.approx(usd * there.output_tokens / 1e6, rel=1e-6, abs=rounding)
        assert even.output_tokens_per_day == pytest.approx(there.output_tokens / of.hours * 24)


def test_the_numbers_of_a_day_computed_by_hand():
    assert outcome(BASE, Choice()).usd_per_million_output_tokens == pytest.approx(1.2)
    full = outcome(BASE, Choice(utilization_ratio=1.0))
    assert (full.electricity_active_usd, full.electricity_idle_usd, full.output_tokens) == (12.0, 0.0, 2e8)
    assert full.usd_per_million_output_tokens == pytest.approx(124 / 200)
    assert outcome(BASE, Choice(pue_ratio=2.6)).electricity_idle_usd == pytest.approx(4.0)
    even = break_even(BASE, Choice(), 1.2)
    assert even == pytest.approx((0.5, 1e8))
    # at full use it is 0.62, 0.06 of it the electricity of work: (96 + 16) / (0.5 - 0.06) = 254.5 M tokens of 200
    assert break_even(BASE, Choice(), 0.5) == pytest.approx((1.2727, 2.5455e8), rel=1e-4)
    assert break_even(BASE, Choice(), 0.06) is None


def test_rented_hardware_at_full_use_has_the_price_of_capacity_and_the_realised_one_is_that_over_its_use():
    # RunPod, one week of 8 H100, economics.md example 2: 2.69 USD/h, 55 % busy
    week = replace(
        BASE,
        hours=168.0,
        output_tokens=0.84e9,
        hardware_usd=3615.36,
        electricity_active_usd=0.0,
        electricity_idle_usd=0.0,
        overhead_usd=0.0,
        utilization_ratio=0.55,
    )
    full = at_full_use(week, Choice())
    assert full is not None
    capacity = usd_per_million_at_full_use(2.69, 0.84e9 / (8 * 0.55 * 168 * 3600))
    assert full.usd_per_million_output_tokens == pytest.approx(capacity)
    assert realised_usd_per_million(capacity, 0.55) == pytest.approx(
        outcome(week, Choice()).usd_per_million_output_tokens
    )


def test_where_no_hour_was_without_work_one_takes_as_much_as_with_work():
    busy = replace(BASE, utilization_ratio=1.0, electricity_idle_usd=0.0)
    assert outcome(busy, Choice(utilization_ratio=0.5)).electricity_idle_usd == pytest.approx(3.0)


def test_batch_work_pays_the_mean_price_of_the_hours_it_is_moved_to_over_midnight_too():
    by_hour = (0.1,) * 6 + (None,) + (0.3,) * 17
    of = replace(BASE, movable=Movable(10.0, 2.5, by_hour))
    assert outcome(of, Choice(batch_hours=(0, 6))).electricity_active_usd == pytest.approx(6.0 - 2.5 + 1.0)
    assert outcome(of, Choice(batch_hours=(23, 2))).electricity_active_usd == pytest.approx(6.0 - 2.5 + 2.0)
    assert outcome(of, Choice(batch_hours=(6, 1))).electricity_active_usd == 6.0  # nothing is known of that hour


def test_offers_are_for_the_same_tokens_and_cached_prompts_are_cheaper_only_where_they_have_a_price():
    listed = [
        {"model": "*llama*", "per_million_input": 1.0, "per_million_cached": 0.1, "per_million_output": 5.0},
        {"model": "other", "endpoint": "e", "per_million_input": 1.0, "per_million_output": 5.0, "currency": "EUR"},
        {"model": "past", "per_million_input": 1.0, "per_million_output": 5.0, "valid_to": "2020-01-01"},
    ]
    found = offers(BASE, ["Llama-3"], Settings(cost={"hosted": listed}), BEGIN_MS)  # type: ignore[arg-type]
    first, second, *published = found
    assert first.usd_per_million_output_tokens == pytest.approx((200 * 1.0 + 100 * 0.1 + 100 * 5.0) / 100)
    assert first.saved_by_cache_usd == pytest.approx(100 * 0.9 / 100)
    assert (first.name, first.fits) == ("*llama*", True)
    assert (second.usd_per_million_output_tokens, second.reason) == (None, "no exchange rate for EUR")
    assert {one.kind for one in published} == {"published"}
    assert all(one.saved_by_cache_usd is None and one.usd_per_million_output_tokens for one in published)
    silent = offers(replace(BASE, prompt_tokens=None), [], Settings(), BEGIN_MS)
    assert {one.usd_per_million_output_tokens for one in silent} == {None}


def test_trying_begins_at_the_price_on_the_page_and_with_the_free_devices_at_the_bill(store: Store):
    two_cards_and_a_free_one(store)
    of = priced(store, PRICED)
    costs = costs_of_hours.deployment_costs(store.reader, PRICED, of)
    alone, together = (measured(of, costs, PRICED, with_unheld=both) for both in (False, True))
    assert alone is not None
    assert together is not None
    assert outcome(alone, Choice()).usd_per_million_output_tokens == total(costs).usd_per_million_output_tokens
    assert outcome(together, Choice()).total_usd == pytest.approx(bill(of).total_usd)
    assert (alone.device_hours, together.device_hours) == (4.0, 6.0)
    assert alone.utilization_ratio == pytest.approx(1.0)
    assert together.utilization_ratio == pytest.approx(2 / 3)
    assert alone.pue_ratio == pytest.approx(1.5)
    assert alone.best_hour_ratio == pytest.approx(1.0)


def test_without_prices_or_tokens_there_is_nothing_to_try(store: Store):
    two_cards_and_a_free_one(store)
    of = priced(store, Settings())
    assert measured(of, costs_of_hours.deployment_costs(store.reader, Settings(), of), Settings()) is None


def test_only_work_that_can_wait_and_a_tariff_by_the_hour_can_be_moved(store: Store):
    kept(store, *card("0"), *served("batch"), runs_on("batch", "0"))
    bands = [{"begins": "00:00", "ends": "01:00", "per_kwh": 0.1}, {"begins": "01:00", "ends": "24:00", "per_kwh": 0.3}]
    for flexible, site, moves in (
        (["batch"], {"tariff": [{"band": bands}]}, True),
        (["batch"], {"usd_per_kwh": 0.2}, False),
        ([], {"tariff": [{"band": bands}]}, False),
    ):
        the_settings = settings(OWNED, cost={"flexible_models": flexible}, **site)
        of = priced(store, the_settings)
        found = measured(of, costs_of_hours.deployment_costs(store.reader, the_settings, of), the_settings)
        assert found is not None
        assert (found.movable is not None) is moves
        if found.movable is not None:
            assert found.movable.kwh == pytest.approx(1.0)
            assert found.movable.usd == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
            assert found.movable.usd_in(0, 1) == pytest.approx(0.1)
            assert found.movable.usd_in(5, 1) is None
