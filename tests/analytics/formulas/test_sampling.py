from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.sampling import usual_intervals


def at(*paces: tuple[int, int]) -> np.ndarray:
    """Instants of so many steps of each length."""
    return np.cumsum([0, *(length for length, count in paces for _ in range(count))])


def test_a_gap_is_no_pace():
    found = usual_intervals(at((10, 50), (3600, 1), (10, 50)))
    assert set(found) == {10.0}


@pytest.mark.parametrize(("before", "after"), [(60, 10), (10, 60), (1, 300)])
def test_a_pace_that_changes_is_no_gap(before: int, after: int):
    instants = at((before, 40), (after, 40))
    steps = np.diff(instants)
    assert usual_intervals(instants)[1:].tolist() == steps.tolist()


@given(st.lists(st.integers(1, 10_000), max_size=60))
def test_there_is_one_for_each_instant_and_within_the_steps(steps: list[int]):
    found = usual_intervals(np.cumsum([0, *steps]))
    assert len(found) == len(steps) + 1
    if steps:
        assert min(steps) <= found.min()
        assert found.max() <= max(steps)
    else:
        assert found.tolist() == [0.0]
