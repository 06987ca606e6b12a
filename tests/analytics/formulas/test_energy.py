"""Worked example 8 in kWh, and the wrong answer that it warns of; the rest is in ``test_formulas``."""

from __future__ import annotations

import numpy as np

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
