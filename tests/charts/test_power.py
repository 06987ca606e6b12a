"""Stacks under caps and bars by state; the specification is what the browser gets."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from charts.axis import Span
from charts.layered import Layered
from charts.power import STATES, UNATTRIBUTED, energy_bars, largest, near, under_caps
from tests.charts.drawn import drawn

START = 1_795_003_200_000
HOUR = 3_600_000
SPAN = Span(START, START + 4 * HOUR, HOUR, ZoneInfo("UTC"))
KWH = 3.6e6


def at(hours: list[int]) -> pd.DatetimeIndex:
    return pd.to_datetime([START + n * HOUR for n in hours], unit="ms", utc=True)


def unseen(*hours: int) -> pd.DataFrame:
    said = pd.Series(["observed 50%"] * len(hours), dtype="str")
    return pd.DataFrame({"bucket_at": at(list(hours)), "said": said})


def power(**watts: float) -> pd.DataFrame:
    rows = [(when, name, value) for when in at([0, 1]) for name, value in watts.items()]
    return pd.DataFrame(rows, columns=["bucket_at", "series", "power_watts"])


def energy(**kwh: float) -> pd.DataFrame:
    columns = {name: [kwh.get(name.replace(" ", "_"), 0.0) * KWH] for name in (*STATES, UNATTRIBUTED)}
    return pd.DataFrame({"bucket_at": at([0]), **columns})


def rows(chart: Layered, mark: str) -> list[dict[str, Any]]:
    """The data of the first layer with this mark."""
    return next(rows for layer, rows in drawn(chart) if layer["mark"]["type"] == mark)


def test_caps_are_named_lines_in_the_unit_of_the_stack():
    chart = under_caps(power(a=1000.0, b=500.0), SPAN, HOUR, caps={"limits": 5600.0}, unseen=unseen())
    assert rows(chart, "rule") == [{"cap": 5.6, "said": "limits"}]
    assert max(row["top"] or 0 for row in rows(chart, "area")) == 1.5


def test_a_cap_that_would_flatten_the_stack_is_not_drawn():
    parts = power(a=1000.0, b=500.0)
    assert near(parts, {"limits": 5600.0, "contract": 750e6}) == {"limits": 5600.0}
    assert rows(under_caps(parts, SPAN, HOUR, caps={"contract": 750e6}, unseen=unseen()), "rule") == []


def test_steps_that_lack_a_part_are_banded_from_end_to_end():
    band = rows(under_caps(power(a=1.0), SPAN, HOUR, caps={}, unseen=unseen(1)), "rect")
    assert band == [{"at": START + HOUR, "end": START + 2 * HOUR, "said": "observed 50%"}]


def test_the_smallest_parts_become_one_and_nothing_is_lost():
    parts = power(**{f"host {n}": float(n) for n in range(12)})
    folded = largest(parts, "power_watts", most=4)
    assert set(folded["series"]) == {"host 11", "host 10", "host 9", "9 others"}
    assert folded["power_watts"].sum() == pytest.approx(parts["power_watts"].sum())
    assert largest(parts, "power_watts", most=12) is parts


def test_bars_stack_the_states_in_order_and_leave_out_what_is_zero():
    (band, _), (_, bars) = drawn(energy_bars(energy(active=2.0, free=1.0), SPAN, HOUR, unseen=unseen(2)))
    assert [(row["state"], row["value"], row["top"]) for row in bars] == [("active", 2, 2), ("free", 1, 3)]
    assert band["mark"]["type"] == "rect"


def test_a_bar_of_several_hours_is_their_sum_and_as_wide():
    hours = pd.concat([energy(active=2.0, free=1.0)] * 3, ignore_index=True)
    hours["bucket_at"] = pd.to_datetime([START, START + HOUR, START + 2 * HOUR], unit="ms", utc=True)
    _, (layer, bars) = drawn(energy_bars(hours, SPAN, 2 * HOUR, unseen=unseen()))
    assert [(row["at"] - START, row["state"], row["value"]) for row in bars] == [
        (0, "active", 4), (2 * HOUR, "active", 2), (0, "free", 2), (2 * HOUR, "free", 1),
    ]  # fmt: skip
    assert f"datum.at + {0.86 * 2 * HOUR}" in str(layer["transform"])


def test_what_belongs_to_no_state_has_a_layer_and_a_colour_of_its_own():
    spec = energy_bars(energy(active=2.0, not_attributed=1.0), SPAN, HOUR, unseen=unseen()).to_dict()
    assert spec["layer"][2]["encoding"]["color"]["scale"]["domain"] == [UNATTRIBUTED]
    assert spec["resolve"]["scale"]["color"] == "independent"


@pytest.mark.parametrize(("kwh", "title", "top"), [(999.0, "energy (kWh)", 999.0), (2500.0, "energy (MWh)", 2.5)])
def test_large_energy_is_in_megawatt_hours(kwh: float, title: str, top: float):
    _, (layer, bars) = drawn(energy_bars(energy(active=kwh), SPAN, HOUR, unseen=unseen()))
    assert layer["encoding"]["y"]["title"] == title
    assert any(row["top"] == pytest.approx(top) for row in bars)
