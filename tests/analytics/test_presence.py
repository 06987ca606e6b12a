"""When things existed: stretches add up to the time between the first sign of life and the last account."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.presence import stretches_there

instants = st.integers(0, 1_000)
THING = 7


def seen(*first_ms: int) -> pd.Series[int]:
    return pd.Series(first_ms, pd.Index([THING] * len(first_ms), name="entity_id"), dtype="int64")


@given(first=instants, last=instants, edges=st.lists(instants, min_size=2, max_size=8, unique=True).map(sorted))
def test_stretches_add_up_to_the_life_of_a_thing_within_the_edges(first: int, last: int, edges: list[int]):
    found = stretches_there(seen(first), {THING: last}, edges)
    assert found["there_ms"].sum() == max(min(last, edges[-1]) - max(first, edges[0]), 0)
    assert (found["there_ms"] > 0).all()
    assert set(found["start_ms"]) <= set(edges[:-1])


@pytest.mark.parametrize(("first", "until_ms"), [(seen(0), {}), (seen(), {THING: 10})])
def test_what_has_no_account_or_was_not_asked_for_was_never_there(first: pd.Series[int], until_ms: dict[int, int]):
    assert stretches_there(first, until_ms, [0, 10]).empty
