"""Worked example 7: how many requests had their first token in time, where the limit is a bound and where not."""

from __future__ import annotations

import math

import numpy as np

from analytics.formulas.objectives import attainment, within
from tests.analytics.formulas.worked import near

BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, math.inf)
INCREMENTS = np.diff([0, 120, 480, 780, 930, 985, 995, 1000])


def test_at_a_bound_the_share_is_exact():
    share = attainment(within(1.0, BOUNDS, INCREMENTS), 1000)
    assert (share.lower, share.upper) == (near(0.93), near(0.93))


def test_between_bounds_it_is_estimated_with_certain_limits():
    share = attainment(within(0.8, BOUNDS, INCREMENTS), 1000)
    assert (share.lower, share.upper, share.estimate) == (near(0.78), near(0.93), near(0.87))
