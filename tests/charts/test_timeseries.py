"""What lines and areas are made of; the specification is what the browser gets."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from charts import theme
from charts.axis import Span
from charts.timeseries import band, over_time, spread, stacked
from core.units import Unit
from tests.charts.drawn import layers
from tests.charts.drawn import records as rows

START = 1_795_000_000_000
STEP = 30_000
SPAN = Span(START, START + 3_600_000, 45_000, ZoneInfo("UTC"))
LONG_NAMES = [f"DeepSeek-R1-Distill-Llama-70B @ {server}" for server in "abcd"]


def readings(names: list[str], steps: list[int], value: float = 500.0) -> pd.DataFrame:
    rows = [(pd.Timestamp(START + step * STEP, unit="ms", tz="UTC"), name, value) for name in names for step in steps]
    frame = pd.DataFrame(rows, columns=["bucket_at", "series", "power_watts"])
    return frame.astype({"bucket_at": "datetime64[ms, UTC]", "series": "str", "power_watts": "float64"})


def test_lines_are_scaled_and_named() -> None:
    chart = over_time(readings(["a", "b"], [0, 1], value=2_500.0), "power_watts", SPAN)
    assert {row["value"] for row in rows(chart)} == {2.5}
    assert layers(chart)[0]["encoding"]["y"]["title"] == "power (kW)"
    assert layers(chart)[0]["encoding"]["color"]["scale"]["domain"] == ["a", "b"]


def test_one_series_has_no_legend() -> None:
    chart = over_time(readings(["a"], [0, 1]), "power_watts", SPAN)
    assert layers(chart)[0]["encoding"]["color"]["legend"] is None


def test_lines_have_strokes_in_their_legend_and_parts_squares() -> None:
    """A line has no fill, so that a square of its legend would be of nothing."""
    frame = readings(["a", "b"], [0, 1])
    charts = (over_time(frame, "power_watts", SPAN), stacked(frame, "power_watts", SPAN, STEP))
    strokes, squares = (layers(chart)[0]["encoding"]["color"]["legend"] for chart in charts)
    assert (strokes["symbolType"], squares["symbolType"]) == ("stroke", "square")
    assert strokes["symbolStrokeWidth"] > 0


def test_a_gap_is_an_empty_row() -> None:
    values = [row["value"] for row in rows(over_time(readings(["a"], [0, 1, 20, 21]), "power_watts", SPAN))]
    assert values == [500.0, 500.0, None, 500.0, 500.0]


def test_more_series_than_colours_become_a_band() -> None:
    names = [f"gpu {i}" for i in range(theme.MOST_SERIES + 1)]
    chart = over_time(readings(names, [0, 1]), "power_watts", SPAN)
    assert layers(chart)[0]["mark"]["type"] == "area"
    assert len(rows(chart)) == 2


def test_spread_knows_mean_and_extremes() -> None:
    frame = pd.concat([readings(["a"], [0], 100.0), readings(["b"], [0], 300.0)])
    step = spread(frame, "power_watts").iloc[0]
    assert (step["power_watts"], step["power_watts_min"], step["power_watts_max"]) == (200, 100, 300)


def test_a_band_breaks_at_gaps_too() -> None:
    frame = spread(readings(["a"], [0, 20]), "power_watts")
    assert [row["low"] for row in rows(band(frame, "power_watts", SPAN))] == [500.0, None, 500.0]


def test_a_limit_is_in_the_unit_of_the_axis_and_within_it() -> None:
    chart = over_time(readings(["a"], [0, 1]), "power_watts", SPAN, limit=5_600.0)
    rule = layers(chart)[-1]
    assert rule["mark"]["type"] == "rule"
    assert rows(chart, -1) == [{"limit": 5.6}]
    assert rows(chart)[0]["value"] == 0.5


def test_parts_are_stacked() -> None:
    frame = pd.concat([readings(["a"], [0], 100.0), readings(["b"], [0], 300.0)])
    drawn = rows(stacked(frame, "power_watts", SPAN, STEP))[::3]
    first = {row["series"]: (row["top"] - row["bottom"], row["top"]) for row in drawn}
    assert first == {"a": (100.0, 100.0), "b": (300.0, 400.0)}


def test_a_step_that_was_not_seen_has_nothing_of_the_part() -> None:
    drawn = rows(stacked(readings(["a"], [0, 1, 3]), "power_watts", SPAN, STEP))
    seen = [(round((row["at"] - START) / STEP, 2), row["top"]) for row in drawn]
    assert seen == [(0, 500.0), (1, 500.0), (2, 500.0), (2, None), (3, 500.0), (4, 500.0), (4, None)]


@pytest.mark.parametrize("chart", [over_time, lambda f, c, s: stacked(f, c, s, STEP)])
def test_nothing_seen_is_still_a_chart(chart: Any) -> None:
    assert chart(readings(["a"], []), "power_watts", SPAN).to_dict()["layer"]


def test_heights_are_fixed() -> None:
    frame = readings(["a"], [0, 1])
    assert over_time(frame, "power_watts", SPAN).to_dict()["height"] == theme.HEIGHT
    assert over_time(frame, "power_watts", SPAN, small=True).to_dict()["height"] == theme.SMALL_HEIGHT


def test_a_legend_has_as_many_columns_as_names_fit_uncut_and_the_chart_room_for_its_rows() -> None:
    few, long = (over_time(readings(names, [0]), "power_watts", SPAN) for names in (["a", "b"], LONG_NAMES))
    legends = [layers(chart)[0]["encoding"]["color"]["legend"] for chart in (few, long)]
    assert legends[0]["columns"] >= 2
    assert legends[1]["columns"] == 1
    assert few.to_dict()["height"] == theme.HEIGHT
    assert long.to_dict()["height"] == theme.HEIGHT + (len(LONG_NAMES) - 2) * theme.LEGEND_ROW_HEIGHT


def test_a_unit_that_no_name_tells_is_given() -> None:
    frame = readings(["a"], [0], value=2_500.0).rename(columns={"power_watts": "cost_mxn"})
    told = over_time(frame, "cost_mxn", SPAN, title="cost", unit=Unit("", "MXN", ((1, "MXN"),)))
    assert layers(told)[0]["encoding"]["y"]["title"] == "cost (MXN)"
    assert rows(told)[0]["value"] == 2_500.0
