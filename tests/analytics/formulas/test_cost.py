"""Owned and rented hardware: worked examples 1 to 3, and what must hold for any price."""

from __future__ import annotations

import pytest
from hypothesis import given

from analytics.formulas import cost
from tests.analytics.formulas.worked import amounts, near, ratios


class TestOwnedNode:
    total = cost.owned_usd(9.337899543, 168, cost.electricity_usd(1572.48, 0.12))

    def test_a_week_is_its_fixed_part_and_its_electricity(self):
        assert self.total == near(1757.46472)
        assert cost.electricity_usd(1572.48, 0.12) / self.total == near(0.107369)

    def test_the_weighted_pair_sums_back_to_the_cost(self):
        prices = cost.weighted_usd_per_million(self.total, 9.0e9, 1.5e9, 4)
        assert prices
        assert (prices.input_usd_per_million, prices.output_usd_per_million) == (near(0.117164), near(0.468657))
        assert 9_000 * prices.input_usd_per_million + 1_500 * prices.output_usd_per_million == near(1757.46472)

    def test_without_its_electricity_the_cost_is_unknown(self):
        assert cost.owned_usd(9.3, 168, None) is None
        assert cost.owned_usd(9.3, 168, 0.0) == near(1562.4)


class TestRentedNode:
    """Eight H100 at 2.69 USD per GPU-hour for a week, busy 55 % of it."""

    total = cost.rented_usd(2.69, 8 * 168)
    rate_while_busy = 0.84e9 / (168 * 3600 * 8) / 0.55

    def test_hours_billed_are_paid(self):
        assert self.total == near(3615.36)

    def test_prices_of_requests(self):
        assert cost.usd_per_request(self.total, 1_050_000) == near(0.00344320)
        assert cost.usd_per_good_request(self.total, 1_050_000, 0.962) == near(0.00357921)

    def test_the_price_at_full_use_becomes_the_realised_one(self):
        assert self.rate_while_busy == near(315.657)
        full = cost.usd_per_million_at_full_use(2.69, self.rate_while_busy)
        assert full == near(2.36720)
        assert cost.realised_usd_per_million(full, 0.55) == near(4.30400) == cost.usd_per_million(self.total, 0.84e9)

    def test_idle_time_is_paid_too(self):
        assert cost.idle_usd(self.total, 0.55) == near(1626.91)


def test_an_idle_gpu_costs_all_of_its_rent_for_nothing():
    total = cost.rented_usd(1.99, 168)
    assert total == cost.idle_usd(total, 0.0) == near(334.320)
    assert cost.weighted_usd_per_million(total, 0, 0, 4) is cost.weighted_usd_per_million(total, None, 5, 4) is None
    assert cost.usd_per_million_at_full_use(1.99, 0) is None
    assert cost.realised_usd_per_million(2.0, 0) is None
    assert cost.usd_per_good_request(total, 100, 0.0) is None


@given(amounts, amounts, amounts)
def test_cost_adds_up_over_split_windows(price: float, first_hours: float, second_hours: float):
    whole = cost.owned_usd(price, first_hours + second_hours, cost.electricity_usd(first_hours + second_hours, price))
    parts = [cost.owned_usd(price, h, cost.electricity_usd(h, price)) for h in (first_hours, second_hours)]
    assert whole == pytest.approx(sum(parts))


@given(amounts, amounts, amounts)
def test_cost_is_linear_in_price(price: float, hours: float, factor: float):
    assert cost.rented_usd(price * factor, hours) == pytest.approx(factor * cost.rented_usd(price, hours))


@given(amounts, amounts, amounts, amounts)
def test_any_weighted_pair_sums_back(usd: float, prompt: float, output: float, weight: float):
    prices = cost.weighted_usd_per_million(usd, prompt, output, weight)
    if prices is None:
        assert prompt == 0 == output * weight
    else:
        assert (prompt * prices.input_usd_per_million + output * prices.output_usd_per_million) / 1e6 == pytest.approx(
            usd
        )


@given(amounts, ratios)
def test_used_and_idle_are_the_whole(usd: float, used: float):
    assert usd * used + cost.idle_usd(usd, used) == pytest.approx(usd)
