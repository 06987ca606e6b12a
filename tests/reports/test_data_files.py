"""JSON and CSV: what programs read, against the schema and the bill."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import reports
from analytics.weekly import WeeklySummary
from reports import as_csv, as_json
from reports.words import Words, words
from tests.analytics.weeks import settings
from tests.reports.conftest import CASES, NASTY

SCHEMA = json.loads((Path(reports.__file__).parent / as_json.SCHEMA).read_text())


def english() -> Words:
    return words("en", settings().site.zone)


def as_object(summary: WeeklySummary) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json.file(summary, english()))
    return found


def as_rows(summary: WeeklySummary) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv.file(summary, english()).decode())))


@pytest.mark.parametrize("case", CASES)
def test_every_week_is_as_the_schema_says(summaries: Callable[[str], WeeklySummary], case: str):
    jsonschema.Draft202012Validator(SCHEMA).validate(as_object(summaries(case)))


def test_a_week_kept_before_its_inputs_were_is_as_the_schema_says(summaries: Callable[[str], WeeklySummary]):
    older = replace(summaries("whole"), inputs=None)
    jsonschema.Draft202012Validator(SCHEMA).validate(as_object(older))


def test_the_schema_refuses_what_is_no_summary(summaries: Callable[[str], WeeklySummary]):
    wrong = as_object(summaries("whole"))
    wrong["headlines"][0]["figures"][0]["value"] = "unknown"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(wrong)


def test_json_has_times_in_utc_and_the_numbers_of_the_summary(summaries: Callable[[str], WeeklySummary]):
    summary = summaries("whole")
    found = as_object(summary)
    assert found["span"] == {"start_at": "2026-09-28T03:00:00Z", "end_at": "2026-10-05T03:00:00Z"}
    assert found["headlines"][0]["figures"][0]["value"] == summary.figures["total_usd"].value
    assert found["is_simulated"]


def test_rows_add_up_to_the_bill(summaries: Callable[[str], WeeklySummary]):
    summary = summaries("whole")
    rows = as_rows(summary)
    assert sum(float(row["EffectiveCost"]) for row in rows) == pytest.approx(summary.figures["total_usd"].value)
    assert {row["ServiceName"] for row in rows} == {NASTY, as_csv.HELD_BY_NOBODY}
    assert {row["BilledCost"] for row in rows} == {""}
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {
        ("2026-09-28T03:00:00Z", "2026-10-05T03:00:00Z")
    }
    assert {row["x_Simulated"] for row in rows} == {"true"}


def test_what_has_no_price_is_an_empty_cell_with_the_reason(summaries: Callable[[str], WeeklySummary]):
    rows = as_rows(summaries("no prices"))
    hardware = [row for row in rows if row["ChargeDescription"] == "hardware"]
    assert {row["EffectiveCost"] for row in hardware} == {""}
    assert all("no hardware price" in row["x_Missing"] for row in hardware)
    assert all(float(row["ConsumedQuantity"]) > 0 for row in hardware)


def test_a_week_without_data_has_no_rows(summaries: Callable[[str], WeeklySummary]):
    assert as_rows(summaries("nothing")) == []
