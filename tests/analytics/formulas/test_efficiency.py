"""Worked example 10, and what a joule and a megawatt bring in worked example 1."""

from __future__ import annotations

import pytest

from analytics.formulas import efficiency
from tests.analytics.formulas.worked import near


def test_memory_bandwidth_of_a_decode_step():
    assert efficiency.mbu_ratio(70e9, 20e9, 0.020, 8, 5.3e12) == near(0.106132)


@pytest.mark.parametrize(("peak", "ratio"), [(2_615e12, 0.133843), (1_307.4e12, 0.267707)])
def test_arithmetic_against_the_peak_of_fp8_and_of_bf16(peak: float, ratio: float):
    assert efficiency.mfu_ratio(70e9, 20_000, 8, peak) == near(ratio)


def test_no_accelerators_no_share_of_their_peak():
    assert efficiency.mfu_ratio(70e9, 20_000, 0, 2_615e12) is None
    assert efficiency.mbu_ratio(70e9, 20e9, 0, 8, 5.3e12) is None
    assert efficiency.mfu_ratio(70e9, 0, 8, 2_615e12) == 0


def test_what_a_joule_and_a_megawatt_bring():
    joules = 7_200 * 168 * 3600
    rate = 1.5e9 / (168 * 3600)
    assert rate == near(2480.16)
    assert efficiency.tokens_per_joule(1.5e9, joules) == near(0.344466)
    assert efficiency.tokens_per_second_per_megawatt(rate, 7_200 * 1.3) == near(264_974)
