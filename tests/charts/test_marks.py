"""Rules where something happened, and the week before as a dotted line; the specification is what the browser gets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from charts import theme
from charts.axis import Span, window_of
from charts.bill import price_bars
from charts.latency import quantile_lines
from charts.layered import Layered
from charts.marks import SIGNS, mark_layers, with_marks
from charts.power import under_caps
from charts.timeseries import band, over_time, stacked
from tests.charts.drawn import drawn

START = 1_795_003_200_000
STEP = 30_000
SPAN = Span(START, START + 3_600_000, 45_000, ZoneInfo("America/Santiago"))
OFFSET = -3 * 3_600_000


def at(*steps: int) -> pd.DatetimeIndex:
    return pd.to_datetime([START + step * STEP for step in steps], unit="ms", utc=True)


def power(watts: float, *steps: int, series: str = "a") -> pd.DataFrame:
    return pd.DataFrame({"bucket_at": at(*steps), "series": series, "power_watts": watts})


def happened(*signs: str) -> pd.DataFrame:
    return pd.DataFrame({"at": at(*range(len(signs))), "sign": signs, "what": "<b>*x*</b>", "thing": "gpu"})


def layers(chart: Layered, colour: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Those of a colour, each with its data."""
    return [(layer, rows) for layer, rows in drawn(chart) if layer["mark"].get("color") == colour]


def test_each_mark_is_a_rule_with_the_sign_of_its_kind_at_the_sites_time():
    chart = with_marks(
        over_time(power(1.0, 0, 1), "power_watts", SPAN), mark_layers(happened("restart", "error"), SPAN)
    )
    (rule, rows), (sign, _) = layers(chart, theme.MARK)
    assert (rule["mark"]["type"], sign["mark"]["type"]) == ("rule", "point")
    assert [(row["at"], row["shape"]) for row in rows] == [
        (START + OFFSET, "triangle-up"),
        (START + OFFSET + STEP, "cross"),
    ]
    assert sign["encoding"]["shape"]["scale"] is None


def test_no_two_kinds_look_the_same():
    assert (
        len({sign.shape for sign in SIGNS.values()}) == len({sign.character for sign in SIGNS.values()}) == len(SIGNS)
    )


def test_foreign_text_of_a_mark_is_data():
    chart = with_marks(over_time(power(1.0, 0), "power_watts", SPAN), mark_layers(happened("error"), SPAN))
    assert layers(chart, theme.MARK)[0][1][0]["what"] == "<b>*x*</b>"
    assert "<b>" not in str(chart.to_dict()["layer"])


def test_where_nothing_happened_the_chart_stays_as_it_is():
    chart = over_time(power(1.0, 0), "power_watts", SPAN)
    assert with_marks(chart, mark_layers(happened(), SPAN)).to_dict() == chart.to_dict()


def test_the_week_before_is_dotted_in_the_unit_of_the_axis_and_a_gap_in_it_stays_one():
    chart = over_time(power(500.0, 0, 1), "power_watts", SPAN, before=power(2500.0, 0, 1, 20))
    ((line, rows),) = layers(chart, theme.EARLIER)
    assert [row["value"] for row in rows] == [2.5, 2.5, None, 2.5]
    assert line["mark"]["strokeDash"] == theme.DOTS
    assert {row["said"] for row in rows} == {"7 × 24 h earlier"}
    assert line["encoding"]["opacity"]["legend"]["orient"] == "bottom"
    assert chart.to_dict()["height"] > theme.HEIGHT


@pytest.mark.parametrize("before", [None, power(1.0), power(float("nan"), 0, 1)])
def test_nothing_is_drawn_of_a_week_of_which_nothing_is_stored(before: pd.DataFrame | None):
    now = power(500.0, 0, 1)
    charts = [
        over_time(now, "power_watts", SPAN, before=before),
        stacked(now, "power_watts", SPAN, STEP, before=before),
        under_caps(now, SPAN, STEP, caps={}, unseen=pd.DataFrame({"bucket_at": at(), "said": []}), before=before),
    ]
    for chart in charts:
        assert layers(chart, theme.EARLIER) == []
        assert chart.to_dict()["height"] == theme.HEIGHT


def test_of_a_stack_the_sum_a_week_before_is_drawn_over_it():
    parts = pd.concat([power(100.0, 0, 1), power(300.0, 0, 1, series="b")])
    chart = stacked(power(1.0, 0, 1), "power_watts", SPAN, STEP, before=parts)
    assert [layer["mark"]["type"] for layer, _ in drawn(chart)] == ["area", "line", "rect"]
    ((_, rows),) = layers(chart, theme.EARLIER)
    assert [row["value"] for row in rows] == [400.0, 400.0]


def test_of_many_series_the_mean_a_week_before_is_drawn():
    names = [f"gpu {number}" for number in range(theme.MOST_SERIES + 1)]
    now = pd.concat([power(1.0, 0, series=name) for name in names])
    before = pd.concat([power(100.0, 0, series="x"), power(300.0, 0, series="y")])
    ((_, rows),) = layers(over_time(now, "power_watts", SPAN, before=before), theme.EARLIER)
    assert [row["value"] for row in rows] == [200.0]


def test_a_band_has_room_for_what_was_higher_a_week_before():
    now = pd.DataFrame({"bucket_at": at(0), "power_watts": 1.0, "power_watts_min": 1.0, "power_watts_max": 1.0})
    chart = band(now, "power_watts", SPAN, before=pd.DataFrame({"bucket_at": at(0), "power_watts": 4000.0}))
    assert [row["value"] for row in layers(chart, theme.EARLIER)[0][1]] == [4.0]


def quantiles(p95: float, *steps: int) -> pd.DataFrame:
    columns = dict.fromkeys(("p50_seconds", "p99_seconds", "mean_seconds"), 0.2)
    return pd.DataFrame({"bucket_at": at(*steps), "observations": 200.0, **columns, "p95_seconds": p95})


def test_of_latency_p95_a_week_before_is_drawn_within_the_axis():
    chart = quantile_lines(quantiles(0.3, 0, 1), SPAN, before=quantiles(30.0, 0, 1))
    ((line, rows),) = layers(chart, theme.EARLIER)
    assert {(row["series"], row["seconds"], row["said"]) for row in rows} == {("p95", 30.0, "p95, 7 × 24 h earlier")}
    assert line["encoding"]["y"]["scale"]["domain"][1] >= 30.0
    assert layers(quantile_lines(quantiles(0.3, 0), SPAN), theme.EARLIER) == []


def test_a_chart_tells_the_window_that_its_axis_shows():
    spec = over_time(power(1.0, 0), "power_watts", SPAN).whole()
    begin = datetime.fromtimestamp((START + OFFSET) / 1000, UTC)
    assert window_of(spec) == (begin, begin + pd.Timedelta(hours=1))
    bars = price_bars(pd.DataFrame({"name": ["a"], "kind": ["own"], "price": [1.0]}), "USD")
    assert window_of(bars.whole()) is None


def test_a_lower_limit_of_the_week_before_is_told_as_one():
    chart = quantile_lines(quantiles(0.3, 0, 1), SPAN, before=quantiles(80.0, 0, 1).assign(p95_at_least=True))
    ((_, rows),) = layers(chart, theme.EARLIER)
    assert [row["text"] for row in rows] == ["≥ 80.0 s"] * 2
