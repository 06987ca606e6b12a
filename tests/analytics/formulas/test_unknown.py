"""Unknown stays unknown, zero is a number, and nothing is divided by it."""

from __future__ import annotations

import inspect
import math
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas import carbon, commitment, cost, efficiency, hosted, tariff
from analytics.formulas.unknown import per, product, total
from tests.analytics.formulas.worked import unknown_or

MODULES = (carbon, commitment, cost, efficiency, hosted, tariff)


def of_plain_numbers(module: ModuleType) -> list:
    """Functions of a module that take and return nothing but numbers."""
    functions = [f for name, f in vars(module).items() if inspect.isfunction(f) and not name.startswith("_")]
    own = [f for f in functions if f.__module__ == module.__name__]
    return [f for f in own if set(f.__annotations__.values()) <= {"float", "float | None"}]


FORMULAS = [f for module in MODULES for f in of_plain_numbers(module) if f.__annotations__["return"] != "float"]


def test_unknown_spreads_and_zero_does_not():
    assert product(2, None) is product(0, None) is total(1, None) is total() is None
    assert (product(2, 3, 0.5), total(1, 0, 2), per(0, 4)) == (3, 3, 0)


def test_nothing_falls_to_no_units():
    assert per(5, 0) is per(0, 0) is per(None, 1) is per(1, None) is None


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: f"{formula.__module__}.{formula.__name__}")
@given(data=st.data())
def test_a_formula_gives_a_number_or_unknown_and_never_a_number_from_unknown(formula, data: st.DataObject):
    kinds = {name: kind for name, kind in formula.__annotations__.items() if name != "return"}
    given_values = {
        name: data.draw(unknown_or if kind == "float | None" else st.floats(1e-3, 1e6), name)
        for name, kind in kinds.items()
    }
    value = formula(**given_values)
    if None in given_values.values():
        assert value is None
    assert value is None or math.isfinite(value)


def test_the_formulas_above_were_found():
    assert {"idle_usd", "sci_grams", "mfu_ratio", "break_even_tokens", "usd_per_mwh", "demand_usd"} <= {
        formula.__name__ for formula in FORMULAS
    }
