"""Bars of memory: parts follow each other without a hole and end where the memory does."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charts.capacity import PARTS, memory_bars
from tests.charts.drawn import rows as of_layer

GIB = float(1 << 30)


def frame(rows: list[tuple[float, ...]]) -> pd.DataFrame:
    names = [f"type {number}" for number in range(len(rows))]
    parts = pd.DataFrame(rows, columns=["weight_bytes", "kv_bytes", "reserve_bytes", "free_bytes"]) * GIB
    return parts.assign(name=names, layout="tensor parallel 1")


def drawn(rows: list[tuple[float, ...]]) -> pd.DataFrame:
    chart = memory_bars(frame(rows))
    return pd.concat([of_layer(chart, layer) for layer in range(len(chart.layer))])


sizes = st.floats(0, 100)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(sizes, sizes, sizes, st.floats(1, 100)), min_size=1, max_size=5))
def test_parts_join_up_and_end_with_the_memory(rows: list[tuple[float, ...]]):
    found = drawn(rows)
    for number, row in enumerate(rows):
        parts = found[found["name"] == f"type {number}"].set_index("part").loc[list(PARTS)]
        assert parts["begin"].iloc[0] == 0
        assert parts["begin"].iloc[1:].tolist() == pytest.approx(parts["end"].iloc[:-1].tolist())
        assert (parts["size"] * scale_of(rows)).tolist() == pytest.approx([size * GIB for size in row])


def scale_of(rows: list[tuple[float, ...]]) -> float:
    title = memory_bars(frame(rows)).to_dict()["layer"][0]["encoding"]["x"]["title"]
    return {"GiB": GIB, "TiB": 1024 * GIB}[title.rpartition("(")[2].rstrip(")")]


def test_bars_keep_the_order_they_come_in():
    rows = [(70.0, 5.0, 11.0, 3.0), (20.0, 5.0, 11.0, 3.0)]
    for layer in memory_bars(frame(rows)).to_dict()["layer"]:
        assert layer["encoding"]["y"]["sort"] == ["type 0", "type 1"]
