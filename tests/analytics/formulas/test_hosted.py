"""Hosted tokens: worked example 5, caches that cost more than they save, and break-even with own hardware."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analytics.formulas import hosted
from analytics.formulas.cost import usd_per_million, usd_per_million_at_full_use, usd_per_request
from analytics.formulas.hosted import HostedPrice, HostedTokens
from tests.analytics.formulas.worked import amounts, near

PRICE = HostedPrice(input_usd_per_million=1.25, cached_usd_per_million=0.125, output_usd_per_million=10.0)
TOKENS = HostedTokens(uncached_tokens=240e6, cached_tokens=180e6, write_tokens=0, output_tokens=95e6)
NO_TOKENS = HostedTokens(uncached_tokens=0, cached_tokens=0, write_tokens=0, output_tokens=0)


def test_a_month_of_a_hosted_model():
    total = hosted.hosted_usd(TOKENS, PRICE)
    assert total == near(1272.50)
    assert usd_per_million(total, 515e6) == near(2.47087)
    assert usd_per_request(total, 310_000) == near(0.00410484)
    assert usd_per_million(total, 65e6) == near(19.5769)


@pytest.mark.parametrize(
    ("only", "usd"),
    [({"uncached_tokens": 240e6}, 300.0), ({"cached_tokens": 180e6}, 22.5), ({"output_tokens": 95e6}, 950.0)],
)
def test_each_class_of_tokens_at_its_own_price(only: dict[str, float], usd: float):
    assert hosted.hosted_usd(replace(NO_TOKENS, **only), PRICE) == near(usd)


def test_what_the_cache_was_worth():
    assert hosted.cache_hit_ratio(TOKENS) == near(0.428571)
    assert hosted.effective_input_usd_per_million(TOKENS, PRICE) == near(0.767857)
    assert hosted.saved_by_cache_usd(TOKENS, PRICE) == near(202.500)
    assert 420 * hosted.effective_input_usd_per_million(TOKENS, PRICE) / 1272.50 == near(0.253438)


def test_a_cache_that_is_written_and_never_read_costs():
    tokens = HostedTokens(uncached_tokens=1e6, cached_tokens=0, write_tokens=1e6, output_tokens=0)
    price = HostedPrice(
        input_usd_per_million=4.0, cached_usd_per_million=0.4, write_usd_per_million=5.0, output_usd_per_million=20.0
    )
    assert hosted.hosted_usd(tokens, price) == near(9.0)
    assert hosted.saved_by_cache_usd(tokens, price) == near(-1.0)


def test_a_missing_price_matters_only_for_tokens_there_are():
    assert hosted.hosted_usd(TOKENS, replace(PRICE, cached_usd_per_million=None)) is None
    assert hosted.hosted_usd(replace(TOKENS, cached_tokens=0), replace(PRICE, cached_usd_per_million=None)) == near(
        1250.0
    )
    assert hosted.hosted_usd(replace(TOKENS, output_tokens=None), PRICE) is None


def test_without_tokens_there_is_a_bill_of_zero_and_no_unit_price():
    assert hosted.hosted_usd(NO_TOKENS, PRICE) == 0
    assert hosted.effective_input_usd_per_million(NO_TOKENS, PRICE) is None
    assert hosted.cache_hit_ratio(NO_TOKENS) is None


@given(amounts, amounts, st.floats(0.01, 100))
def test_hosted_cost_is_linear_in_price(uncached: float, output: float, factor: float):
    tokens = replace(NO_TOKENS, uncached_tokens=uncached, output_tokens=output)
    dearer = replace(
        PRICE,
        input_usd_per_million=PRICE.input_usd_per_million * factor,
        output_usd_per_million=PRICE.output_usd_per_million * factor,
    )
    assert hosted.hosted_usd(tokens, dearer) == pytest.approx(factor * hosted.hosted_usd(tokens, PRICE))


@given(st.floats(0.01, 1e9), st.floats(0.01, 100), st.floats(0, 99))
def test_at_break_even_both_cost_the_same(fixed_usd: float, theirs: float, own: float):
    assume(theirs > own + 1e-6)
    tokens = hosted.break_even_tokens(fixed_usd, theirs, own)
    assert fixed_usd + tokens * own / 1e6 == pytest.approx(tokens * theirs / 1e6, rel=1e-6)


def test_a_price_under_the_own_electricity_is_never_matched():
    assert hosted.break_even_tokens(1000, 0.10, 0.10) is None
    assert hosted.break_even_tokens(0, 0.10, 0.05) == 0


def test_a_rented_node_breaks_even_at_the_part_of_the_time_that_its_full_price_is_of_theirs():
    full = usd_per_million_at_full_use(2.69, 315.657)
    assert hosted.break_even_utilization_ratio(full, 4.30400) == near(0.55)
    assert hosted.break_even_utilization_ratio(full, 2.0) > 1
    assert hosted.break_even_utilization_ratio(full, 0) is None
