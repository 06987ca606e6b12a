"""When things existed: stretches add up to the time between the first sign of life and the last account."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.presence import stretches_there

instants = st.integers(0, 1_000)
THING = 7


def seen(first_ms: int) -> pd.DataFrame:
    at = pd.to_datetime([first_ms], unit="ms", utc=True)
    return pd.DataFrame({"first_seen_at": at}, index=pd.Index([THING], name="entity_id"))


@given(first=instants, last=instants, edges=st.lists(instants, min_size=2, max_size=8, unique=True).map(sorted))
def test_stretches_add_up_to_the_life_of_a_thing_within_the_edges(first: int, last: int, edges: list[int]):
    found = stretches_there(seen(first), [THING], {THING: last}, edges)
    assert found["there_ms"].sum() == max(min(last, edges[-1]) - max(first, edges[0]), 0)
    assert (found["there_ms"] > 0).all()
    assert set(found["start_ms"]) <= set(edges[:-1])


@pytest.mark.parametrize(("ids", "until_ms"), [([THING], {}), ([], {THING: 10})])
def test_what_has_no_account_or_was_not_asked_for_was_never_there(ids: list[int], until_ms: dict[int, int]):
    assert stretches_there(seen(0), ids, until_ms, [0, 10]).empty
