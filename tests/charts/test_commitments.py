"""Burn and weeks of a contract: what is unknown is not drawn, least of all as zero."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from charts.axis import Span
from charts.commitments import burn, weekly_split
from tests.charts import drawn

AT = pd.to_datetime(["2026-11-01", "2026-11-08", "2026-12-01"], utc=True)
NONE = np.nan


def span(first: str, last: str) -> Span:
    begin, end = (int(pd.Timestamp(day, tz="UTC").timestamp() * 1000) for day in (first, last))
    return Span(begin, end, 0, ZoneInfo("UTC"))


def spec(first: str = "2026-11-01", last: str = "2026-12-01") -> dict[str, Any]:
    frame = pd.DataFrame(
        {
            "at": AT,
            "delivered": [0.0, 7.0, 30.0],
            "used": [0.0, 5.0, NONE],
            "low": [NONE, 5.0, 18.0],
            "high": [NONE, 5.0, 25.0],
        }
    )
    return burn(frame, span(first, last), "MWh").to_dict()


def test_use_and_forecast_are_drawn_only_where_they_are_known():
    transforms = [layer.get("transform", []) for layer in spec()["layer"]]
    filters = [one["filter"] for transform in transforms for one in transform if "filter" in one]
    assert filters == ["isValid(datum.low)", "isValid(datum.used)"]
    assert spec()["layer"][0]["encoding"]["y2"] == {"field": "high"}


@pytest.mark.parametrize(
    ("first", "last", "form", "ticks"),
    [
        ("2026-11-01", "2026-11-06", "%d %b", 6),
        ("2026-11-01", "2026-12-01", "%d %b", 5),
        ("2026-01-01", "2026-06-15", "%b %Y", 6),
        ("2026-01-01", "2029-01-01", "%b %Y", 7),
    ],
)
def test_the_time_axis_has_as_many_ticks_as_it_has_room_for(first: str, last: str, form: str, ticks: int):
    axis = spec(first, last)["layer"][0]["encoding"]["x"]["axis"]
    assert form in axis["labelExpr"]
    assert len(axis["values"]) == ticks


def test_a_week_that_was_not_seen_has_a_stroke_and_no_bar():
    frame = pd.DataFrame({"week": ["02 Nov", "09 Nov"], "used": [3.0, NONE], "unused": [1.0, NONE]})
    chart = weekly_split(frame, "USD")
    bars, strokes = (drawn.rows(chart, layer) for layer in range(2))
    assert bars[["week", "part", "amount"]].to_numpy().tolist() == [["02 Nov", "used", 3.0], ["02 Nov", "unused", 1.0]]
    assert strokes["week"].tolist() == ["09 Nov"]
    assert chart.to_dict()["layer"][0]["encoding"]["x"]["scale"]["domain"] == ["02 Nov", "09 Nov"]
