"""What happened stands on charts, most severe first; a week before beside it; and charts can be taken away as files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from babel import Locale
from streamlit.testing.v1 import AppTest

from charts import theme
from charts.axis import Span
from charts.heatstrip import grid, strip
from charts.layered import Layered
from charts.timeseries import over_time
from core.readings import Entity, Event, Severity
from pages.shared import filters, store
from pages.shared.filters import View
from pages.shared.marks import MOST, happened
from pages.shared.pictures import as_file
from tests.pages import databases
from tests.pages.additions import add
from tests.pages.conftest import Open

WEEK_MS = 7 * 24 * 3_600_000


def view(now_ms: int) -> View:
    return filters.current(store.settings(), now_ms=now_ms)


def event(at_ms: int, kind: str, severity: Severity, message: str, key: str = databases.NVIDIA) -> Event:
    return Event(observed_at_ms=at_ms, kind=kind, severity=severity, message=message, family="accelerator", key=key)


def marks(now_ms: int, **filtered: str) -> pd.DataFrame:
    found = happened(replace(view(now_ms), **filtered))
    assert found is not None
    return found.shown


def test_of_too_many_the_most_severe_are_marked_and_the_rest_is_counted(empty: Path, now_ms: int):
    start_ms = view(now_ms).start_ms
    events = [event(start_ms + n * 60_000, "xid", Severity.WARNING, f"XID {n}") for n in range(MOST + 4)]
    add(empty, *events, event(start_ms, "ras", Severity.CRITICAL, "memory"))
    found = happened(view(now_ms))
    assert found is not None
    assert len(found.shown) == MOST
    assert found.left_out == 5
    assert found.shown["what"].iloc[0] == "memory"
    assert found.shown["what"].iloc[-1] == f"XID {MOST + 3}"
    assert "5 less severe are not drawn" in found.said
    assert "✚" in found.said


def test_one_thing_that_happened_to_several_devices_at_once_is_one_mark(empty: Path, now_ms: int):
    start_ms = view(now_ms).start_ms
    for key in (databases.NVIDIA, databases.AMD):
        for at_ms, driver in ((start_ms - 1000, "1"), (start_ms + 1000, "2")):
            add(empty, Entity(observed_at_ms=at_ms, family="accelerator", key=key, host="", labels={"driver": driver}))
    found = marks(now_ms)
    assert list(found["sign"]) == ["change"]
    assert found["thing"].iloc[0] == f"{databases.AMD}, {databases.NVIDIA}"


def test_what_concerns_the_collector_alone_or_is_filtered_away_is_no_mark(full: Path, now_ms: int):
    add(full, event(now_ms - 600_000, "unknown metrics", Severity.WARNING, "news"))
    assert set(marks(now_ms)["sign"]) == {"error"}
    assert marks(now_ms, vendor="AMD").empty


def test_a_price_that_changes_within_the_window_is_marked(empty: Path, now_ms: int):
    today = pd.Timestamp(now_ms, unit="ms", tz="America/Santiago").date()
    config = empty.with_name("vatio.toml")
    config.write_text(f"{config.read_text()}[[site.tariff]]\nvalid_from = {today}\nper_kwh = 0.1\n")
    whole = replace(view(now_ms), start_ms=now_ms - 2 * 86_400_000)
    found = happened(whole)
    assert found is not None
    assert list(found.shown["sign"]) == ["price"]
    assert found.shown["at"].iloc[0] == pd.Timestamp(today, tz="America/Santiago")


def colours(test: AppTest) -> set[str]:
    """Of all layers of all charts."""
    charts = [json.loads(one.proto.spec) for one in test.get("vega_lite_chart")]
    return {str(layer["mark"].get("color")) for chart in charts for layer in chart["layer"]}


@pytest.mark.parametrize("page", ["fleet/overview", "fleet/device", "serving/latency", "energy/power"])
def test_the_switch_takes_marks_off_every_chart(page: str, full: Path, open_page: Open):
    assert theme.MARK in colours(open_page(page))
    assert theme.MARK not in colours(open_page(page, marks=False))


@pytest.mark.parametrize("page", ["fleet/overview", "fleet/accelerators", "serving/latency", "energy/power"])
def test_the_week_before_is_drawn_on_demand(page: str, database: Path, now_ms: int, open_page: Open):
    databases.write(database, now_ms - WEEK_MS)
    databases.write(database, now_ms)
    assert theme.EARLIER not in colours(open_page(page))
    assert theme.EARLIER in colours(open_page(page, before=True))


def test_a_week_of_which_nothing_is_stored_is_said(full: Path, open_page: Open):
    test = open_page("fleet/overview", before=True)
    assert theme.EARLIER not in colours(test)
    assert any("7 × 24 h earlier: nothing stored" in caption.value for caption in test.caption)


START = 1_795_003_200_000
SPAN = Span(START, START + 3_600_000, 90_000, ZoneInfo("America/Santiago"))


def lines() -> Layered:
    at = pd.to_datetime([START, START + 60_000], unit="ms", utc=True)
    frame = pd.DataFrame({"bucket_at": at, "series": ["<&>", "<&>"], "power_watts": [1500.0, None]})
    return over_time(frame, "power_watts", SPAN)


def wide_strip() -> Layered:
    """More cells than Altair lets through by itself."""
    frame = pd.DataFrame({"series": "a", "bucket_at": pd.to_datetime([START], unit="ms", utc=True), "x_ratio": 0.5})
    cells = grid(frame, [f"gpu {n}" for n in range(100)], "x_ratio", SPAN, 60_000)
    return strip(cells, "x_ratio", SPAN, 60_000)


def test_a_file_tells_title_window_unit_and_that_it_is_simulated():
    begin = pd.Timestamp(START, unit="ms", tz=SPAN.zone)
    svg = as_file(lines(), "SVG", "Power <1>", ["host box", "", "simulated"], SPAN.zone, Locale("es")).decode()
    for said in ("Power &lt;1&gt;", f"{begin:%Y-%m-%d %H:%M}", "America/Santiago", "(kW)", "host box", "simulated"):
        assert said in svg
    assert "<1>" not in svg


@pytest.mark.parametrize("chart", [lines(), wide_strip()], ids=["lines", "strip"])
def test_every_kind_of_file_can_be_made(chart: Layered):
    assert as_file(chart, "PNG", "a", [], SPAN.zone, Locale("es")).startswith(b"\x89PNG")
    assert as_file(chart, "SVG", "a", [], SPAN.zone, Locale("es")).startswith(b"<svg")


def test_each_chart_is_offered_as_png_and_svg(full: Path, open_page: Open):
    test = open_page("fleet/device")
    offered = [button.label for button in test.get("download_button")]
    assert offered.count("PNG") == offered.count("SVG") == len(test.get("vega_lite_chart"))
