"""The worked examples: every number was computed by hand or by a second program; relative tolerance 1e-5."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas import cost, energy, latency
from analytics.formulas.energy import Quality


def near(value: float):
    return pytest.approx(value, rel=1e-5)


class TestOwnedNode:
    """Eight MI300X owned for a week of 168 h: 9.0e9 tokens in, 1.5e9 out, 7.2 kW, PUE 1.3, 0.12 USD/kWh."""

    fixed = cost.owned_usd_per_hour(
        capex_usd=200_000,
        residual_usd=20_000,
        life_years=4,
        capital_cost_ratio=0.08,
        maintenance_ratio=0.05,
        hosting_usd_per_kw_month=150,
        contracted_kilowatts=10,
    )
    joules = 7_200 * 168 * 3600.0
    kwh = energy.facility_kwh(joules, 1.3)
    electricity = cost.electricity_usd(kwh, 0.12)
    total = fixed * 168 + (electricity or math.nan)

    def test_fixed_cost_per_hour(self):
        assert self.fixed == near(9.33790)
        assert self.fixed * 168 == near(1568.77)

    @pytest.mark.parametrize(
        ("only", "per_hour"),
        [
            ({"capex_usd": 200_000, "residual_usd": 20_000}, 5.13699),
            ({"capital_cost_ratio": 0.08, "capex_usd": 200_000, "residual_usd": 20_000, "life_years": 1e12}, 1.00457),
            ({"maintenance_ratio": 0.05, "capex_usd": 200_000, "life_years": 1e12}, 1.14155),
            ({"hosting_usd_per_kw_month": 150, "contracted_kilowatts": 10}, 2.05479),
        ],
    )
    def test_each_part_alone(self, only: dict[str, float], per_hour: float):
        nothing = dict.fromkeys(
            (
                "capex_usd",
                "residual_usd",
                "capital_cost_ratio",
                "maintenance_ratio",
                "hosting_usd_per_kw_month",
                "contracted_kilowatts",
            ),
            0.0,
        )
        assert cost.owned_usd_per_hour(**(nothing | {"life_years": 4} | only)) == near(per_hour)

    def test_energy_and_electricity(self):
        assert energy.facility_kwh(self.joules, None) == near(1209.60)
        assert self.kwh == near(1572.48)
        assert self.electricity == near(188.698)

    def test_total_and_unit_prices(self):
        assert self.total == near(1757.46472)
        assert self.total / 1344 == near(1.30764)
        assert cost.usd_per_million(self.total, 10.5e9) == near(0.167378)
        assert cost.usd_per_million(self.total, 1.5e9) == near(1.17164)

    def test_weighted_pair_sums_back_to_the_total(self):
        weight = cost.weighted_tokens(9.0e9, 1.5e9, 4)
        assert weight == 1.5e10
        input_price = cost.usd_per_million(self.total, weight)
        assert input_price == near(0.117164)
        assert 9_000 * input_price + 1_500 * 4 * input_price == near(1757.46472)

    def test_joules_per_token(self):
        assert energy.joules_per_token(self.joules, 1.5e9) == near(2.90304)
        assert energy.joules_per_token(self.joules * 1.3, 1.5e9) == near(3.77395)
        assert energy.joules_per_token(self.joules, 10.5e9) == near(0.414720)

    def test_three_deployments_share_the_node(self):
        parts = cost.shares([5, 2, 1])
        assert [self.total * part for part in parts] == [near(1098.42), near(439.366), near(219.683)]


def test_rented_node_for_a_week():
    total = 2.69 * 8 * 168
    assert total == near(3615.36)
    assert cost.usd_per_million(total, 0.84e9) == near(4.30400)
    assert cost.usd_per_million(total, 5.04e9) == near(0.717333)


def test_an_idle_gpu_has_no_unit_price_and_no_joules_per_token():
    assert cost.usd_per_million(1.99 * 168, 0) is None
    assert energy.joules_per_token(140 * 168 * 3600, 0) is None
    kwh = energy.facility_kwh(140 * 168 * 3600, 1.3)
    assert kwh == near(30.5760)
    assert cost.electricity_usd(kwh, 0.12) == near(3.66912)


def test_unknown_stays_unknown():
    assert cost.electricity_usd(None, 0.1) is None
    assert cost.electricity_usd(1.0, None) is None
    assert cost.usd_per_million(None, 5) is None
    assert cost.usd_per_million(5, None) is None
    assert energy.joules_per_token(None, 5) is None


class TestQuantiles:
    bounds = (0.1, 0.25, 0.5, 1, 2.5, 5, math.inf)
    increments = np.diff([0, 120, 480, 780, 930, 985, 995, 1000])

    @pytest.mark.parametrize(
        ("q", "seconds"),
        [(0.05, 0.0416667), (0.5, 0.266667), (0.9, 0.9), (0.95, 1.54545), (0.99, 3.75), (0.999, 5)],
    )
    def test_interpolated_inside_the_bucket(self, q: float, seconds: float):
        assert latency.histogram_quantile(q, self.bounds, self.increments) == near(seconds)

    @given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=9), st.floats(0, 1))
    def test_of_many_histograms_each_is_as_it_is_alone(self, counts: list[list[int]], q: float):
        for bounds in ((0.5, 1.0, 2.0, math.inf), (-1.0, 0.0, 1.0, math.inf)):
            many = latency.histogram_quantiles(q, bounds, np.array(counts, dtype="float64"))
            assert many.tolist() == pytest.approx(
                [latency.histogram_quantile(q, bounds, one) for one in counts], nan_ok=True
            )
        beyond = latency.in_last_buckets(q, np.array(counts, dtype="float64"))
        assert beyond.tolist() == [latency.in_last_bucket(q, one) for one in counts]

    def test_beyond_the_last_bound_it_is_at_least(self):
        assert latency.in_last_bucket(0.999, self.increments)
        assert not latency.in_last_bucket(0.99, self.increments)

    def test_empty_is_unknown(self):
        assert math.isnan(latency.histogram_quantile(0.5, self.bounds, [0] * 7))

    def test_quantiles_outside_zero_to_one(self):
        assert latency.histogram_quantile(-0.1, self.bounds, self.increments) == -math.inf
        assert latency.histogram_quantile(1.1, self.bounds, self.increments) == math.inf

    @given(
        st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(any),
        st.floats(0.001, 1),
    )
    def test_the_quantile_lies_in_the_bucket_that_holds_the_rank(self, counts: list[int], q: float):
        bounds = [*(float(n + 1) for n in range(len(counts) - 1)), math.inf]
        value = latency.histogram_quantile(q, bounds, counts)
        rank, seen = q * sum(counts), 0
        for n, count in enumerate(counts):
            seen += count
            if seen >= rank or n == len(counts) - 1:
                upper = bounds[n] if n < len(counts) - 1 else bounds[-2]
                assert (n if n < len(counts) - 1 else bounds[-2]) <= value <= upper
                break


class TestEnergyFromPower:
    at = np.array([0, 10, 20, 30, 150, 160, 170.0])
    watts = np.array([300, 320, 500, 700, 680, 400, 120.0])

    def test_a_gap_adds_no_energy(self):
        observed = energy.from_power(self.at, self.watts, energy.max_gap_seconds(10))
        assert observed is not None
        assert observed.joules == near(21_200)
        assert observed.seconds / 170 == near(0.294118)

    def test_filled_with_the_mean_and_with_bounds(self):
        joules, seconds, window_seconds = (np.array([one]) for one in (21_200.0, 50.0, 170.0))
        assert energy.filled_joules(joules, seconds, window_seconds) == near(72_080)
        assert energy.filled_joules(joules, seconds, window_seconds, np.array([100.0])) == near(33_200)
        assert energy.filled_joules(joules, seconds, window_seconds, np.array([750.0])) == near(111_200)

    def test_what_is_neither_enough_nor_too_little_is_filled_with_the_mean(self):
        seconds = np.array([40.0, 90, 160, np.nan])
        joules, coverage, is_filled = energy.stands_for(
            np.array([8_000.0, 18_000, 32_000, np.nan]), seconds, np.full(4, 10.0), np.full(4, 170.0)
        )
        assert joules[:3].tolist() == near([8_000, 34_000, 32_000])
        assert np.isnan(joules[3])
        assert coverage.tolist() == near([50 / 170, 100 / 170, 1.0, 0.0])
        assert is_filled.tolist() == [False, True, False, False]

    def test_a_counter_bridges_the_gap(self):
        observed = energy.from_counter(np.array([0.0, 30, 150, 170]), np.array([0.0, 13_200, 90_000, 98_500]))
        assert observed == energy.Observed(98_500, 170)

    def test_a_restarted_counter_loses_that_step_and_says_so(self):
        observed = energy.from_counter(np.array([0.0, 10, 20, 30]), np.array([1000.0, 4000, 10, 3010]))
        assert observed == energy.Observed(6000, 20)

    def test_one_sample_is_no_energy(self):
        assert energy.from_power(np.array([0.0]), np.array([5.0]), 30) is None
        assert energy.from_counter(np.array([0.0, 1]), np.array([np.nan, 5.0])) is None

    @given(st.lists(st.floats(0, 1000), min_size=3, max_size=50), st.data())
    def test_energy_is_additive_over_split_windows(self, watts: list[float], data: st.DataObject):
        at, power = np.arange(len(watts)) * 10.0, np.array(watts)
        cut = data.draw(st.integers(1, len(watts) - 2))
        whole, first, second = (
            energy.from_power(at[part], power[part], 30) for part in (slice(None), slice(cut + 1), slice(cut, None))
        )
        assert whole
        assert first
        assert second
        assert whole.joules == pytest.approx(first.joules + second.joules)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 10))
def test_cost_is_linear_in_price(kwh: float, price: float, factor: float):
    one, scaled = cost.electricity_usd(kwh, price), cost.electricity_usd(kwh, price * factor)
    assert one is not None
    assert scaled == pytest.approx(one * factor, rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=20))
def test_shares_sum_to_one(weights: list[float]):
    assert sum(cost.shares(weights)) == pytest.approx(1)


def test_a_derived_figure_takes_the_worst_label():
    assert energy.worst(Quality.MEASURED, Quality.DERIVED) is Quality.DERIVED
    assert energy.worst(Quality.DERIVED, Quality.MISSING, Quality.MEASURED) is Quality.MISSING
