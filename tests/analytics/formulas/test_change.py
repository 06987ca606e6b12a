"""Effects sum to the difference, whatever happened between two windows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.change import Window, cost_effects, unit_price_effects
from tests.analytics.formulas.worked import amounts

BEFORE = Window(cost_usd=2000, gpu_hours=1000, used_gpu_hours=500, tokens=1e9)

windows = st.builds(Window, cost_usd=amounts, gpu_hours=amounts)
positive = st.floats(1e-3, 1e12)
working = st.builds(Window, cost_usd=positive, gpu_hours=positive, used_gpu_hours=positive, tokens=positive)


def test_dearer_hours_and_more_of_them():
    after = Window(cost_usd=3300, gpu_hours=1100)
    assert cost_effects(BEFORE, after) == (pytest.approx(1000), pytest.approx(300))


def test_hours_that_came_or_went_are_volume():
    nothing = Window(cost_usd=0, gpu_hours=0)
    assert cost_effects(nothing, BEFORE) == (0, 2000)
    assert cost_effects(BEFORE, nothing) == (0, -2000)
    assert cost_effects(nothing, nothing) == (0, 0)


def test_hours_that_became_free_are_a_price():
    assert cost_effects(BEFORE, Window(cost_usd=0, gpu_hours=1500)) == (-2000, 0)


def test_unknown_has_no_effects():
    assert cost_effects(BEFORE, Window(cost_usd=None, gpu_hours=1)) is None
    assert cost_effects(Window(cost_usd=1, gpu_hours=None), BEFORE) is None


@given(windows, windows)
def test_cost_effects_sum_to_the_difference(before: Window, after: Window):
    effects = cost_effects(before, after)
    assert all(math.isfinite(effect) for effect in effects)
    scale = max(before.cost_usd, after.cost_usd, abs(effects.volume_usd))
    assert sum(effects) == pytest.approx(after.cost_usd - before.cost_usd, abs=1e-12 * scale)


@pytest.mark.parametrize(
    ("after", "effects"),
    [
        ({"cost_usd": 4000}, (2, 0, 0)),
        ({"used_gpu_hours": 1000, "tokens": 2e9}, (0, -1, 0)),
        ({"tokens": 2e9}, (0, 0, -1)),
        ({}, (0, 0, 0)),
        ({"cost_usd": 4000, "tokens": 2e9}, (2 * math.log(2), 0, -2 * math.log(2))),
        ({"cost_usd": 4000, "used_gpu_hours": 1000, "tokens": 2e9}, (2 * math.log(2), -2 * math.log(2), 0)),
    ],
)
def test_one_cause_is_one_effect_and_two_that_cancel_are_two(after: dict[str, float], effects: tuple[float, ...]):
    assert unit_price_effects(BEFORE, replace(BEFORE, **after)) == pytest.approx(effects)


@pytest.mark.parametrize("figure", ["cost_usd", "gpu_hours", "used_gpu_hours", "tokens"])
@pytest.mark.parametrize("value", [None, 0])
def test_without_a_figure_the_unit_price_is_not_taken_apart(figure: str, value: float | None):
    without = replace(BEFORE, **{figure: value})
    assert unit_price_effects(BEFORE, without) is unit_price_effects(without, BEFORE) is None


@given(working, working)
def test_unit_price_effects_sum_to_the_difference(before: Window, after: Window):
    was, now = before.cost_usd / before.tokens * 1e6, after.cost_usd / after.tokens * 1e6
    effects = unit_price_effects(before, after)
    assert all(math.isfinite(effect) for effect in effects)
    assert sum(effects) == pytest.approx(
        now - was, abs=1e-11 * sum(abs(effect) for effect in effects) + 1e-12 * max(was, now)
    )


@given(working, working)
def test_back_again_undoes_every_effect(before: Window, after: Window):
    there, back = unit_price_effects(before, after), unit_price_effects(after, before)
    assert there == pytest.approx(tuple(-effect for effect in back), rel=1e-6, abs=1e-9)
