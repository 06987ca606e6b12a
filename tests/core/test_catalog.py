from __future__ import annotations

import math
from pathlib import Path

import pytest

from core.catalog import FAMILIES
from core.metric import Kind
from core.reference import metric_reference
from core.units import UNITS, show, show_money, unit_of

ROOT = Path(__file__).parents[2]
EVERY = [metric for family in FAMILIES.values() for metric in family.metrics]
COUNTS = {
    "load_1m",
    "processes",
    "performance_state",
    "throttle_reasons",
    "row_remap_state",
    "recovery_action",
    "chunks",
}


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: f"{metric.family}.{metric.name}")
def test_a_metric_is_fully_declared(metric):
    assert metric.help.endswith(".")
    assert metric.sources
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    suffixes = tuple(unit.suffix for unit in UNITS)
    counted = (
        metric.name in COUNTS
        or metric.name.startswith("pcie_")
        or metric.name.endswith(("_errors_total", "_rows_total"))
    )
    assert metric.name.removesuffix("_total").endswith(suffixes) or counted or metric.kind is Kind.COUNTER


def test_the_metric_reference_is_current():
    assert (ROOT / "docs/metrics.md").read_text() == metric_reference(), "run make docs"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("power_watts", 627.32, "627 W"),
        ("power_watts", 1234.5, "1.2 kW"),
        ("power_watts", 0, "0.0 W"),
        ("power_watts", None, "unknown"),
        ("power_watts", math.nan, "unknown"),
        ("utilization_ratio", 0.873, "87.3 %"),
        ("memory_used_bytes", 80 << 30, "80.0 GiB"),
        ("energy_joules_total", 3.6e6, "3.6 MJ"),
        ("ttft_seconds", 0.0415, "41.5 ms"),
        ("temperature_celsius", 64.0, "64 °C"),
        ("sm_clock_hertz", 1.98e9, "2.0 GHz"),
        ("generation_tokens_total", 1_234_567, "1.2 M tokens"),
        ("pcie_replays_total", 12, "12"),
    ],
)
def test_values_read_as_people_write_them(name: str, value: float | None, text: str):
    assert show(value, unit_of(name)) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(0.167378, "0.1674 USD"), (1757.46472, "1,757.46 USD"), (0, "0.00 USD"), (None, "set a price")]
)
def test_money_has_two_decimals_four_below_a_dollar(usd: float | None, text: str):
    assert show_money(usd) == text
