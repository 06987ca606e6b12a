"""A chart apart from its data: what a browser must build anew, and what it only moves."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import altair as alt
import pandas as pd
import vl_convert

from charts.axis import WINDOW, Span
from charts.layered import Layered
from charts.timeseries import over_time

START = 1_795_003_200_000
HOUR = 3_600_000


def power(start_ms: int, hours: int) -> Layered:
    at = pd.to_datetime([start_ms + n * HOUR for n in range(hours)], unit="ms", utc=True)
    frame = pd.DataFrame({"bucket_at": at, "series": "a", "power_watts": range(1, hours + 1)})
    return over_time(frame, "power_watts", Span(start_ms, start_ms + hours * HOUR, 2 * HOUR, ZoneInfo("UTC")))


def test_another_window_changes_the_data_alone():
    (spec, frames), (later, its) = power(START, 6).apart(), power(START + 5 * HOUR, 200).apart()
    assert spec == later
    assert list(frames) == list(its)
    assert not frames[WINDOW].equals(its[WINDOW])


def test_the_axis_is_drawn_from_the_window():
    """Ticks of the second window are days; both by Vega itself."""
    hours, days = (vl_convert.vegalite_to_svg(power(START, number).whole()) for number in (6, 200))
    assert ">13:00<" in hours
    assert ">Thu 19<" in days
    assert ">13:00<" not in days


def test_a_frame_that_two_layers_show_is_told_once():
    frame = pd.DataFrame({"a": [1.0]})
    base = alt.Chart(frame).encode(x="a:Q")
    spec, frames = Layered(layer=[base.mark_rule(), base.mark_point()]).apart()
    assert [layer["data"] for layer in spec["layer"]] == [{"name": "frame0"}] * 2
    assert list(frames) == ["frame0"]
    assert frames["frame0"] is frame
