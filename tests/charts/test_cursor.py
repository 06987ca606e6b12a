"""What lies under the pointer: every step tells all lines, whatever they are called."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from charts.axis import Span
from charts.cursor import cursor

START = 1_795_000_000_000
STEP = 60_000
SPAN = Span(START, START + 60 * STEP, 2 * STEP, ZoneInfo("UTC"))


def told(*rows: tuple[int, str, str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The layer's data and specification for texts of series at steps."""
    frame = pd.DataFrame([(float(START + step * STEP), *row) for step, *row in rows], columns=["at", "series", "text"])
    layer = cursor(frame, ["b", "a.b['<i>']"], SPAN)
    return layer.data, layer.to_dict()


def test_a_step_tells_each_line_in_order_and_what_is_not_known():
    data, spec = told((0, "b", "2 W"), (1, "b", "3 W"), (1, "a.b['<i>']", "1 W"))
    assert [field["title"] for field in spec["encoding"]["tooltip"]] == ["time", "b", "a.b['<i>']"]
    assert data[["text_0", "text_1"]].astype("str").to_numpy().tolist() == [["2 W", "unknown"], ["3 W", "1 W"]]
    assert data["time"].tolist() == ["2026-11-18 11:06:40", "2026-11-18 11:07:40"]


def test_a_band_is_as_wide_as_a_step_also_beside_a_gap():
    data, _ = told((0, "b", ""), (1, "b", ""), (30, "b", ""), (31, "b", ""))
    assert (data["end"] - data["begin"] == STEP).all()
    assert ((data["end"] + data["begin"]) / 2 - START).tolist() == [0, STEP, 30 * STEP, 31 * STEP]


def test_nothing_and_one_step_are_drawn_as_well():
    assert told()[0].empty
    data, _ = told((5, "b", "1 W"))
    assert (data["end"] - data["begin"]).tolist() == [SPAN.gap_ms]
