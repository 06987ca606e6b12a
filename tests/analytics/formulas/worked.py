"""What the tests of formulas share: the tolerance of the worked examples, and amounts as they occur."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st


def near(value: float):
    """The digits that a worked example prints."""
    return pytest.approx(value, rel=1e-5)


amounts = st.just(0.0) | st.floats(1e-6, 1e12)
ratios = st.just(0.0) | st.floats(1e-6, 1.0)
unknown_or = st.none() | amounts
