"""Worked example 8 in kWh, the wrong answer that it warns of, and sums of steps; the rest is in ``test_formulas``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas import energy
from tests.analytics.formulas.worked import near


def test_energy_as_it_is_shown():
    assert energy.facility_kwh(21_200, None) == near(0.00588889)
    assert energy.facility_kwh(72_080, None) == near(0.0200222)
    assert energy.facility_kwh(140 * 168 * 3600, None) == near(23.5200)


def test_a_trapezoid_over_the_gap_would_invent_energy():
    at, watts = np.array([0, 10, 20, 30, 150, 160, 170.0]), np.array([300, 320, 500, 700, 680, 400, 120.0])
    naive = energy.from_power(at, watts, max_gap_seconds=120)
    honest = energy.from_power(at, watts, energy.max_gap_seconds(10))
    assert naive.joules - honest.joules == near(82_800)
    assert honest.joules / honest.seconds == near(424.000)


@given(
    steps=st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1_000)), max_size=20),
    first=st.floats(0, 1_000),
    longest=st.floats(0.1, 100),
)
def test_samples_times_their_weights_are_the_energy_of_the_steps_between(
    steps: list[tuple[float, float]], first: float, longest: float
):
    seconds = np.array([wide for wide, _ in steps])
    watts = np.array([first, *(power for _, power in steps)])
    limit = np.full(len(seconds), longest)
    joules = np.nansum(energy.power_steps(watts[:-1], watts[1:], seconds, limit))
    assert watts @ energy.power_weights(seconds, limit) == pytest.approx(joules)
