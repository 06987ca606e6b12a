"""Worked example 6: 750 MW, 10 billion USD, three years, used to 62 %; at once and in tranches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas import commitment
from analytics.formulas.commitment import Tranche
from analytics.formulas.cost import usd_per_million
from analytics.formulas.local_time import Span
from tests.analytics.formulas.worked import amounts, near, ratios

USD, MONTHS, USED = 10e9, 36, 0.62
AT_ONCE = sum(commitment.megawatts_by_month([Tranche(0, 750)], MONTHS))
IN_TRANCHES = sum(commitment.megawatts_by_month([Tranche(0, 250), Tranche(12, 250), Tranche(24, 250)], MONTHS))
DAY_MS = 86_400_000


def test_capacity_counts_from_the_month_it_is_delivered():
    assert (AT_ONCE, IN_TRANCHES) == (27_000, 18_000)
    assert commitment.megawatts_by_month([Tranche(1, 5), Tranche(2, 2)], 4) == (0, 5, 7, 7)


def test_capacity_by_the_year_and_the_month():
    assert commitment.usd_per_kw_month(USD, AT_ONCE) == near(370.370)
    assert commitment.usd_per_kw_month(USD, AT_ONCE) * 12_000 == near(4_444_444)  # MW-year
    assert commitment.usd_per_kw_month(USD, IN_TRANCHES) == near(555.556)


def test_energy_available_and_used():
    assert commitment.usd_per_mwh(USD, AT_ONCE, 1) == near(507.357)
    assert commitment.usd_per_mwh(USD, AT_ONCE, USED) == near(818.317)
    assert commitment.usd_per_mwh(USD, IN_TRANCHES, 1) == near(761.035)
    assert commitment.usd_per_mwh(USD, IN_TRANCHES, USED) == near(1227.48)


def test_used_and_unused_rows():
    month = commitment.usd_per_month(USD, MONTHS)
    assert month == near(277_777_778)
    assert commitment.used_and_unused(month, USED) == (near(172_222_222), near(105_555_556))
    assert commitment.used_and_unused(USD, USED).unused_usd == near(3.8e9)


def test_tokens_and_their_price():
    used, full = (commitment.tokens(AT_ONCE, 900_000, ratio) for ratio in (USED, 1))
    assert used == near(3.95934e16)
    assert usd_per_million(USD, used) == near(0.252567)
    assert usd_per_million(USD, full) == near(0.156592)


def test_a_contract_that_ends_inside_the_window_counts_its_part():
    term, window = Span(0, 100 * DAY_MS), Span(97 * DAY_MS, 104 * DAY_MS)
    assert commitment.amortised_usd(1000, term, window) == near(30)
    assert commitment.amortised_usd(1000, term, Span(100 * DAY_MS, 107 * DAY_MS)) == 0
    assert commitment.amortised_usd(None, term, window) is None


@given(amounts, st.lists(st.integers(-50, 150), min_size=2, max_size=10).map(sorted))
def test_windows_of_a_term_add_up(usd: float, bounds: list[int]):
    term = Span(0, 100 * DAY_MS)
    days = [-50, *bounds, 150]
    windows = [Span(begin * DAY_MS, end * DAY_MS) for begin, end in pairwise(days)]
    parts = [commitment.amortised_usd(usd, term, window) or 0.0 for window in windows]
    assert sum(parts) == pytest.approx(usd)


@given(amounts, ratios)
def test_rows_are_the_whole(usd: float, used: float):
    assert sum(commitment.used_and_unused(usd, used)) == pytest.approx(usd)


def test_more_use_than_promised_leaves_nothing_unused_and_unknown_use_no_rows():
    assert commitment.used_and_unused(100, 1.3) == (100, 0)
    assert commitment.used_and_unused(100, None) is None
    assert commitment.usd_per_mwh(USD, AT_ONCE, 0) is None
