"""Units, time and gaps on axes."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from charts import theme
from charts.axis import Span, TooManyPoints, broken_at_gaps, scale_for, value_scale, words_of

START = 1_795_000_000_000
SPAN = Span(START, START + 3_600_000, 45_000, ZoneInfo("America/Santiago"))


def series(*seconds: int, name: str = "a", value: float = 1.0) -> pd.DataFrame:
    at = pd.to_datetime([START + s * 1000 for s in seconds], unit="ms", utc=True)
    return pd.DataFrame({"bucket_at": at, "series": name, "power_watts": value})


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("memory_used_bytes", "memory used"),
        ("cpu_utilization_ratio", "CPU utilization"),
        ("pcie_rx_bytes_per_second", "PCIe received"),
        ("load_1m", "load 1 min"),
        ("ecc_corrected_errors_total", "ECC corrected errors"),
    ],
)
def test_words_of_a_column(column: str, words: str) -> None:
    assert words_of(column) == words


@pytest.mark.parametrize(
    ("column", "values", "limit", "title", "factor"),
    [
        ("power_watts", [300.0, 2_500.0], None, "power (kW)", 1_000),
        ("power_watts", [300.0], None, "power (W)", 1),
        ("power_watts", [300.0], 5_600.0, "power (kW)", 1_000),
        ("memory_used_bytes", [float(80 << 30)], None, "memory used (GiB)", 1 << 30),
        ("utilization_ratio", [0.5], None, "utilization (%)", 0.01),
        ("power_watts", [], None, "power (W)", 1),
        ("power_watts", [0.0], None, "power (W)", 1),
        ("power_watts", [float("nan")], None, "power (W)", 1),
    ],
)
def test_the_largest_value_picks_the_unit(
    column: str, values: list[float], limit: float | None, title: str, factor: float
) -> None:
    scale = scale_for(column, pd.Series(values, dtype="float64"), limit=limit)
    assert (scale.title, scale.factor) == (title, factor)


def test_ratios_always_run_to_a_hundred_percent() -> None:
    scale = scale_for("utilization_ratio", pd.Series([0.01]))
    assert value_scale("utilization_ratio", scale).to_dict()["domain"] == [0, 100]


def test_a_constant_temperature_has_room_around_it() -> None:
    scale = scale_for("temperature_celsius", pd.Series([66.0, 66.0]))
    assert value_scale("temperature_celsius", scale).to_dict()["domain"] == [63, 69]


def test_zeros_lie_on_the_ground() -> None:
    scale = scale_for("errors_total", pd.Series([0.0, 0.0]))
    assert value_scale("errors_total", scale).to_dict()["domain"] == [0, 1]


def test_a_line_is_broken_only_where_the_gap_is_longer_than_allowed() -> None:
    broken = broken_at_gaps(series(0, 30, 60, 300, 330), ["power_watts"], "series", SPAN)
    holes = broken[broken["power_watts"].isna()]
    assert len(broken) == 6
    assert len(holes) == 1
    assert pd.Timestamp(START + 60_000, unit="ms", tz="UTC") < holes["bucket_at"].iloc[0]
    assert holes["bucket_at"].iloc[0] < pd.Timestamp(START + 300_000, unit="ms", tz="UTC")


def test_unknown_values_make_a_gap_like_missing_ones() -> None:
    frame = series(0, 30, 60, 90, 120, 150)
    frame.loc[2:4, "power_watts"] = float("nan")
    assert broken_at_gaps(frame, ["power_watts"], "series", SPAN)["power_watts"].isna().sum() == 1


def test_gaps_of_one_series_leave_the_others_whole() -> None:
    frame = pd.concat([series(0, 300), series(0, 30, 60, name="b")])
    broken = broken_at_gaps(frame, ["power_watts"], "series", SPAN)
    assert broken[broken["power_watts"].isna()]["series"].tolist() == ["a"]


def test_an_empty_frame_stays_empty() -> None:
    assert broken_at_gaps(series(), ["power_watts"], "series", SPAN).empty


def test_more_points_than_a_screen_has_are_refused() -> None:
    frame = series(*range(theme.MOST_POINTS + 1))
    with pytest.raises(TooManyPoints, match="power_watts"):
        broken_at_gaps(frame, ["power_watts"], "series", SPAN)


def test_time_is_the_wall_clock_of_the_site() -> None:
    noon = pd.Series(pd.to_datetime(["2026-11-23T15:00:00Z"]))
    wall = Span(START, START, 1, ZoneInfo("America/Santiago")).wall(noon)
    assert pd.to_datetime(wall, unit="ms").iloc[0] == pd.Timestamp("2026-11-23T12:00:00")


def test_time_stays_even_across_a_change_of_the_clock() -> None:
    # Madrid goes from UTC+2 to UTC+1 at 2026-10-25T01:00Z: the offset at the end holds for all of the span.
    at = pd.Series(pd.to_datetime(["2026-10-25T00:30Z", "2026-10-25T01:30Z"]))
    end_ms = int(at.iloc[1].timestamp() * 1000)
    wall = Span(end_ms - 7_200_000, end_ms, 1, ZoneInfo("Europe/Madrid")).wall(at)
    assert wall.diff().iloc[1] == 3_600_000
    assert pd.to_datetime(wall, unit="ms").iloc[1] == pd.Timestamp("2026-10-25T02:30")


@pytest.mark.parametrize("seconds", [900, 3_600, 21_600, 86_400, 604_800])
def test_ticks_are_few_and_on_round_wall_times(seconds: int) -> None:
    span = Span(START, START + seconds * 1000, 1, ZoneInfo("Asia/Kolkata"))
    told = span.window().data.iloc[0]
    values = range(told["first_tick"], told["end"] + 1, told["tick_step"])
    assert 3 <= len(values) <= 9
    assert all(told["begin"] <= value <= told["end"] for value in values)
    assert {value % 60_000 for value in values} == {0}
    assert told["end"] - told["begin"] == seconds * 1000
