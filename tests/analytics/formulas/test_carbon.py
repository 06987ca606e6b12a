"""Emissions of worked examples 1 and 3."""

from __future__ import annotations

import pytest
from hypothesis import given

from analytics.formulas import carbon
from tests.analytics.formulas.worked import amounts, near, ratios


def test_a_week_of_an_owned_node():
    operational, embodied = carbon.operational_grams(1572.48, 265.5), carbon.embodied_grams(4e6, 168, 4)
    assert (operational, embodied) == (near(417_493), near(19_178.1))
    assert carbon.sci_grams(operational, embodied, 1.5e9 / 1e6) == near(291.114)


def test_an_idle_gpu_emits():
    assert carbon.operational_grams(30.5760, 265.5) == near(8_117.93)
    assert carbon.sci_grams(8_117.93, 0.0, 0) is None


def test_without_the_embodied_part_the_score_is_unknown_and_not_lower():
    assert carbon.embodied_grams(None, 168, 4) is None
    assert carbon.sci_grams(417_493, None, 1500) is None


@given(amounts, ratios)
def test_parts_of_a_device_bear_all_of_it(grams: float, part: float):
    parts = [carbon.embodied_grams(grams, 35_040, 4, one) for one in (part, 1 - part)]
    assert sum(parts) == pytest.approx(grams)
