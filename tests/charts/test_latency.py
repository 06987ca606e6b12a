"""Charts of latency: gaps stay gaps, lower limits are marked, each bucket is a row."""

from __future__ import annotations

import math
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from charts import latency
from charts.axis import Span
from tests.charts.drawn import layers, rows

START_MS = 1_760_000_000_000
SPAN = Span(START_MS, START_MS + 600_000, 90_000, ZoneInfo("UTC"))

POINTS, CURSOR = 1, 2  # layers


def at(*minutes: int) -> pd.Series:
    return pd.Series(pd.to_datetime([START_MS + m * 60_000 for m in minutes], unit="ms", utc=True))


def quantiles(*minutes: int, **changes: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"bucket_at": at(*minutes), "observations": 200.0, "mean_seconds": 0.2})
    for name, value in (("p50", 0.1), ("p95", 0.4), ("p99", 0.9)):
        frame[f"{name}_seconds"], frame[f"{name}_at_least"] = value, False
    return frame.assign(**changes)


def test_each_figure_is_a_series():
    drawn = rows(latency.quantile_lines(quantiles(0, 1, 2), SPAN))
    assert set(drawn["series"]) == {"p50", "p95", "p99", "mean"}
    assert len(drawn) == 12


def test_a_missing_step_breaks_every_line():
    drawn = rows(latency.quantile_lines(quantiles(0, 1, 5), SPAN))
    assert drawn.groupby("series")["seconds"].apply(lambda values: int(values.isna().sum())).to_dict() == {
        "mean": 1, "p50": 1, "p95": 1, "p99": 1,
    }  # fmt: skip


def test_a_quantile_that_is_not_known_is_not_drawn():
    drawn = rows(latency.quantile_lines(quantiles(0, 1, p99_seconds=np.nan), SPAN))
    assert "p99" not in set(drawn["series"])


def test_lower_limits_are_marked_and_written_as_such():
    chart = latency.quantile_lines(quantiles(0, 1, p99_seconds=80.0, p99_at_least=True), SPAN)
    assert rows(chart, POINTS)[["series", "kind"]].to_numpy().tolist() == [["p99", latency.AT_LEAST]] * 2
    assert rows(chart, CURSOR)["text_2"].tolist() == ["≥ 80.0 s"] * 2


def test_a_lone_step_is_a_point_and_a_run_of_steps_a_line():
    assert rows(latency.quantile_lines(quantiles(0, 1), SPAN), POINTS).empty
    found = rows(latency.quantile_lines(quantiles(0, 1, 30), SPAN), POINTS)
    assert dict(zip(found["series"], found["at"], strict=True)) == dict.fromkeys(
        ("mean", "p50", "p95", "p99"), START_MS + 30 * 60_000
    )


def test_the_cursor_tells_all_figures_of_a_step_and_of_how_many_they_are():
    chart = latency.quantile_lines(quantiles(0, 1, p99_seconds=[0.9, np.nan]), SPAN)
    tooltip = chart.to_dict()["layer"][CURSOR]["encoding"]["tooltip"]
    assert [field["title"] for field in tooltip] == ["time", "p50", "p95", "p99", "mean", "observations"]
    told = rows(chart, CURSOR)[[field["field"] for field in tooltip[1:]]].to_numpy().tolist()
    assert told == [["100 ms", "400 ms", "900 ms", "200 ms", "200"], ["100 ms", "400 ms", "unknown", "200 ms", "200"]]


@pytest.mark.parametrize(
    ("low", "high", "domain"), [(0.03, 0.4, [0.02, 0.5]), (0.1, 0.1, [0.05, 0.2]), (0.0004, 90.0, [0.0002, 100.0])]
)
def test_the_axis_runs_between_round_values(low: float, high: float, domain: list[float]):
    axis = latency.seconds_axis(pd.Series([low, high, np.nan])).to_dict()
    assert axis["scale"]["domain"] == pytest.approx(domain)
    assert axis["scale"]["type"] == "log"
    assert 2 <= len(axis["axis"]["values"]) <= latency.MOST_LABELS


def test_nothing_known_still_has_an_axis():
    assert latency.seconds_axis(pd.Series([np.nan])).to_dict()["scale"]["domain"]


def histogram(*increments: tuple[float, ...], bounds: tuple[float, ...] = (0.1, 1.0, math.inf)) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "bucket_at": at(*range(len(increments))),
            "upper_bounds_seconds": [bounds] * len(increments),
            "increments": [np.array(row) for row in increments],
        }
    )


def test_cells_hold_counts_and_shares_of_their_step():
    cells = latency.heat_cells(histogram((3.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 5.0, 5.0)))
    found = {(row.bucket_at.minute, row.upper_seconds): (row.count, row.share) for row in cells.itertuples(name="Cell")}
    first, last = at(0)[0].minute, at(2)[0].minute
    assert cells["share"].groupby(cells["bucket_at"]).sum().tolist() == [1.0, 1.0]
    assert {key: share for key, (_, share) in found.items()} == {
        (first, 0.1): 0.75, (first, 1.0): 0.25, (last, 1.0): 0.5, (last, math.inf): 0.5,
    }  # fmt: skip


def test_rows_of_one_step_are_added_up():
    frame = pd.concat([histogram((1.0, 0.0, 0.0)), histogram((2.0, 1.0, 0.0))])
    cells = latency.heat_cells(frame)
    assert dict(zip(cells["upper_seconds"], cells["count"], strict=True)) == {0.1: 3.0, 1.0: 1.0}


def test_the_heat_map_shows_the_used_buckets_from_slow_to_fast():
    chart = latency.heat_map(histogram((0.0, 4.0, 1.0)), SPAN, 60_000)
    spec = chart.to_dict()
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == ["> 1.0 s", "≤ 1.0 s"]
    drawn = rows(chart)
    assert (drawn["end"] - drawn["at"] == 60_000).all()


def test_two_clocks_are_a_line_and_points():
    server = pd.DataFrame({"bucket_at": at(0, 1), "seconds": [0.1, 0.2]})
    probes = pd.DataFrame({"observed_at": at(1), "seconds": [0.3]})
    drawn = layers(latency.two_clocks(server, probes, SPAN))
    assert [layer["mark"]["type"] for layer in drawn] == ["line", "point"]


def test_every_chart_becomes_vega_lite():
    for chart in (latency.quantile_lines(quantiles(0, 1), SPAN), latency.heat_map(histogram((1.0, 1.0, 1.0)), SPAN, 1)):
        assert chart.to_dict()["layer"]


def test_a_promise_is_a_rule_and_lies_on_the_axis():
    chart = latency.quantile_lines(quantiles(0, 1), SPAN, limit_seconds=20.0)
    assert rows(chart, -1)["seconds"].tolist() == [20.0]
    assert rows(chart, -1)["text"].tolist() == ["objective: 20.0 s"]
    assert chart.to_dict()["layer"][0]["encoding"]["y"]["scale"]["domain"][1] > 20.0
    assert len(layers(latency.quantile_lines(quantiles(0, 1), SPAN))) == 3


def test_a_histogram_without_bounds_draws_its_mean_alone():
    unknown = {f"{name}_seconds": np.nan for name in ("p50", "p95", "p99")}
    drawn = rows(latency.quantile_lines(quantiles(0, 1, **unknown), SPAN))
    assert set(drawn["series"]) == {"mean"}
    only = histogram((5.0,), (7.0,), bounds=(math.inf,))
    assert rows(latency.heat_map(only, SPAN, 60_000))["bucket"].tolist() == ["any", "any"]
