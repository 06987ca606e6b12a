"""What lies under the pointer: every step tells all lines, whatever they are called."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from charts.axis import Span
from charts.cursor import cursor
from charts.timeseries import stacked
from tests.charts.drawn import layers, rows

START = 1_795_000_000_000
STEP = 60_000
SPAN = Span(START, START + 60 * STEP, 2 * STEP, ZoneInfo("UTC"))


def drawn(steps: list[int], **texts: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The layer's data and specification for texts of lines at steps."""
    layer = cursor(pd.Series([float(START + step * STEP) for step in steps]), texts, SPAN)
    return layer.data, layer.to_dict()


def test_a_step_tells_each_line_in_order_whatever_it_is_called():
    data, spec = drawn([0, 1], **{"b": ["2 W", "3 W"], "a.b['<i>']": ["unknown", "1 W"]})
    assert [field["title"] for field in spec["encoding"]["tooltip"]] == ["time", "b", "a.b['<i>']"]
    assert data[["text_0", "text_1"]].to_numpy().tolist() == [["2 W", "unknown"], ["3 W", "1 W"]]
    assert data["time"].tolist() == ["2026-11-18 11:06:40", "2026-11-18 11:07:40"]


def test_a_band_is_as_wide_as_a_step_also_beside_a_gap():
    data, _ = drawn([0, 1, 30, 31], b=[""] * 4)
    assert (data["end"] - data["begin"] == STEP).all()
    assert ((data["end"] + data["begin"]) / 2 - START).tolist() == [0, STEP, 30 * STEP, 31 * STEP]


def test_nothing_and_one_step_are_drawn_as_well():
    assert drawn([], b=[])[0].empty
    data, _ = drawn([5], b=["1 W"])
    assert (data["end"] - data["begin"]).tolist() == [SPAN.gap_ms]


def test_over_a_stack_each_part_and_their_sum_are_told_for_as_long_as_they_hold():
    at = pd.to_datetime([START, START, START + STEP], unit="ms", utc=True)
    frame = pd.DataFrame({"bucket_at": at, "series": ["a", "b", "a"], "power_watts": [1.0, 2.0, 4.0]})
    chart = stacked(frame, "power_watts", SPAN, STEP)
    data, tooltip = rows(chart, -1), layers(chart)[-1]["encoding"]["tooltip"]
    assert [field["title"] for field in tooltip] == ["time", "a", "b", "sum"]
    told = data[["text_0", "text_1", "text_2"]].to_numpy().tolist()
    assert told == [["1.0 W", "2.0 W", "3.0 W"], ["4.0 W", "unknown", "4.0 W"]]
    assert (data["begin"] - START).tolist() == [0, STEP]
    assert (data["end"] - data["begin"] == STEP).all()
