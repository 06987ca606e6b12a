"""Charts write numbers and weekdays as the visitor's language does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from babel import Locale

from pages.shared.pictures import vega_locale
from tests.pages.conftest import Open


@pytest.mark.parametrize(
    ("name", "decimal", "thousands", "sunday", "january"),
    [
        ("en", ".", ",", "Sunday", "January"),
        ("es", ",", ".", "domingo", "enero"),
        ("pt_BR", ",", ".", "domingo", "janeiro"),
    ],
)
def test_vega_is_told_how_a_language_writes(name: str, decimal: str, thousands: str, sunday: str, january: str):
    told = vega_locale(Locale.parse(name))
    assert (told["number"]["decimal"], told["number"]["thousands"]) == (decimal, thousands)
    assert (told["time"]["days"][0], told["time"]["months"][0]) == (sunday, january)
    assert [len(told["time"][key]) for key in ("days", "shortDays", "months", "shortMonths")] == [7, 7, 12, 12]


@pytest.mark.parametrize("page", ["fleet/overview", "fleet/device", "fleet/hosts", "serving/latency", "energy/power"])
def test_every_chart_of_a_page_is_told(page: str, full: Path, open_page: Open):
    test = open_page(page, language="es")
    charts = [json.loads(one.proto.spec) for one in test.get("vega_lite_chart")]
    assert charts
    assert {chart["config"]["locale"]["number"]["decimal"] for chart in charts} == {","}
