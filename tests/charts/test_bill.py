"""Bills and prices: lines in their order, what is unknown left out, changes where they happened."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd
import vl_convert

from charts.axis import Span
from charts.bill import LINES, marked, price_bars, stacked
from charts.timeseries import over_time
from tests.charts.drawn import drawn, rows


def frame() -> pd.DataFrame:
    rows = {"who": ["a", "b"], "hardware_usd": [3.0, 2.0], "electricity_active_usd": [0.5, None]}
    return pd.DataFrame({**rows, "electricity_idle_usd": [0.1, 0.2], "overhead_usd": [0.0, 0.0]})


def test_every_known_line_is_a_piece_of_its_bar():
    chart = stacked(frame(), "CLP")
    pieces = rows(chart)
    assert len(pieces) == 7
    assert pieces.loc[pieces["who"] == "a", "amount"].sum() == 3.6
    assert set(pieces["line"]) == set(LINES.values())


def test_bars_stay_in_the_order_of_the_frame():
    assert stacked(frame(), "CLP").to_dict()["layer"][0]["encoding"]["y"]["sort"] == ["a", "b"]


def test_amounts_are_called_by_their_currency():
    assert stacked(frame(), "CLP").to_dict()["layer"][0]["encoding"]["x"]["title"] == "CLP"


def test_prices_keep_their_order_and_one_that_is_unknown_has_no_bar():
    prices = {"name": ["measured", "b", "a"], "kind": ["own", "hosted", "hosted"], "price": [2.0, None, 1.0]}
    (bars, _), (_, rule) = drawn(price_bars(pd.DataFrame(prices), "CLP"))
    assert bars["encoding"]["y"]["sort"] == ["measured", "a"]
    assert [one["price"] for one in rule] == [2.0]


def test_a_change_is_a_rule_on_the_same_axis_and_none_leaves_the_chart_as_it_is():
    span = Span(0, 7_200_000, 5_400_000, ZoneInfo("UTC"))
    at = pd.to_datetime(pd.Series([0, 3_600_000]), unit="ms", utc=True)
    chart = over_time(pd.DataFrame({"bucket_at": at, "series": "a", "cost_usd": [1.0, 2.0]}), "cost_usd", span)
    changes = pd.DataFrame({"at": at[1:], "what": ["tariff"]})
    both = marked(chart, changes, span).whole()
    assert both["layer"][-1]["encoding"]["x"]["scale"] == span.axis().to_dict()["scale"]
    assert "mark-rule" in vl_convert.vegalite_to_svg(both)  # it draws, with all that the chart itself stands on
    assert marked(chart, changes.head(0), span) is chart


def test_where_a_bar_is_stands_below_its_name():
    drawn = frame().assign(who=lambda rows: "model @ http://host-" + rows["who"].astype(str))
    picture = vl_convert.vegalite_to_svg(stacked(drawn, "USD").to_dict())
    assert ">http://host-" in picture
    assert ">model @" not in picture
