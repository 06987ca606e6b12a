"""Sums over deployments: money over the tokens that were paid for, and nothing invented where a part is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from analytics import cost_totals
from analytics.costs import NO_PRICE, NO_TOKENS, DeploymentCost
from analytics.formulas.energy import Quality
from collectors.sources.simulated.source import SimulatedSource
from core.readings import AcceleratorSample
from core.settings import Settings
from tests.conftest import START_MS, Store

HOUR_MS = 3_600_000


def cost(**changes: Any) -> DeploymentCost:
    given: dict[str, Any] = {
        "deployment_id": 1,
        "key": "k",
        "model": "m",
        "server": "s",
        "engine_name": "vLLM",
        "targets": ("gpu 0",),
        "origin": "settings",
        "output_tokens": 1e6,
        "prompt_tokens": 3e6,
        "hardware_usd": 3.0,
        "electricity_usd": 1.0,
        "total_usd": 4.0,
        "usd_per_million_output_tokens": 4.0,
        "usd_per_million_tokens_blended": 1.0,
        "energy_joules": 2e6,
        "joules_per_output_token": 2.0,
        "energy_label": "gpu_counter",
        "energy_quality": Quality.MEASURED,
        "scope": "accelerator",
        "coverage_ratio": 1.0,
        "label": Quality.DERIVED,
        "reason": "",
        "terms": (),
    }
    return DeploymentCost(**given | changes)


UNPRICED = {
    "hardware_usd": None,
    "electricity_usd": None,
    "total_usd": None,
    "usd_per_million_output_tokens": None,
    "usd_per_million_tokens_blended": None,
    "label": Quality.MISSING,
    "reason": NO_PRICE,
}


def test_one_deployment_is_its_own_total():
    total, one = cost_totals.total([cost()]), cost()
    for name in ("total_usd", "usd_per_million_output_tokens", "usd_per_million_tokens_blended", "energy_joules"):
        assert getattr(total, name) == getattr(one, name)
    assert total.joules_per_output_token == 2.0
    assert total.label is Quality.DERIVED


def test_unit_figures_are_sums_over_sums_not_means():
    total = cost_totals.total([cost(), cost(output_tokens=3e6, usd_per_million_output_tokens=4 / 3)])
    assert total.usd_per_million_output_tokens == pytest.approx(8.0 / 4.0)
    assert total.joules_per_output_token == pytest.approx(4e6 / 4e6)


def test_money_is_divided_by_the_tokens_it_paid_for():
    total = cost_totals.total([cost(), cost(**UNPRICED, output_tokens=9e6)])
    assert (total.priced, total.deployments) == (1, 2)
    assert total.usd_per_million_output_tokens == 4.0
    assert total.output_tokens == 1e7
    assert total.reason == NO_PRICE


def test_without_any_price_there_is_no_money_but_energy():
    total = cost_totals.total([cost(**UNPRICED)])
    assert (total.total_usd, total.hardware_usd, total.usd_per_million_output_tokens) == (None, None, None)
    assert total.joules_per_output_token == 2.0
    assert total.label is Quality.MISSING


def test_a_deployment_without_tokens_costs_and_adds_none():
    silent = cost(output_tokens=0.0, usd_per_million_output_tokens=None, joules_per_output_token=None, reason=NO_TOKENS)
    total = cost_totals.total([cost(), silent])
    assert total.usd_per_million_output_tokens == 8.0
    alone = cost_totals.total([silent])
    assert alone.total_usd == 4.0
    assert alone.usd_per_million_output_tokens is None


def test_one_that_was_seen_too_little_leaves_no_figure_per_token():
    sparse = cost(usd_per_million_output_tokens=None, joules_per_output_token=None, coverage_ratio=0.2, reason="sparse")
    total = cost_totals.total([cost(), sparse])
    assert total.usd_per_million_output_tokens is None
    assert total.joules_per_output_token is None
    assert total.coverage_ratio == 0.2


def test_the_worst_label_wins():
    assert cost_totals.total([cost(), cost(label=Quality.ESTIMATED)]).label is Quality.ESTIMATED


def test_lines_add_up():
    lines = cost_totals.lines(cost_totals.total([cost(), cost()]))
    assert lines == [("hardware", 6.0, 0.75), ("electricity", 2.0, 0.25), ("total", 8.0, 1.0)]
    assert cost_totals.lines(cost_totals.total([cost(**UNPRICED)])) == []


def test_the_trend_keeps_unknown_apart_from_zero():
    frame = cost_totals.trend([(START_MS, [cost()]), (START_MS + HOUR_MS, [cost(**UNPRICED)])])
    assert frame["usd_per_million_output_tokens"].tolist()[0] == 4.0
    assert frame["usd_per_million_output_tokens"].isna().tolist() == [False, True]
    assert frame["bucket_at"].dt.tz is not None
    assert cost_totals.trend([])["bucket_at"].dt.tz is not None


def _half_an_hour(store: Store) -> list[AcceleratorSample]:
    source = SimulatedSource("demo-host", 10.0)
    seen: list[AcceleratorSample] = []
    for _, readings in source.history(START_MS, START_MS + HOUR_MS // 2, 10_000):
        store.write(*readings)
        seen += [r for r in readings if isinstance(r, AcceleratorSample) and r.processes == 0]
    return seen


def test_the_idle_accelerator_of_the_simulated_host_has_its_price(store: Store):
    seen = _half_an_hour(store)
    hardware = [{"kind": "owned", "applies_to": "accelerator", "match": "H100", "capex": 35_040, "life_years": 4}]
    priced = Settings(cost={"hardware": hardware}, site={"usd_per_kwh": 0.36})  # type: ignore[arg-type]
    (idle,) = cost_totals.idle(store.reader, priced, seen[0].observed_at_ms, seen[-1].observed_at_ms + 10_000)
    assert idle.key == seen[0].key
    assert idle.hours == pytest.approx(0.5)
    assert idle.hardware_usd == pytest.approx(0.5)
    assert idle.energy_joules == pytest.approx(70 * 1800, rel=0.03)
    assert idle.electricity_usd == pytest.approx(idle.energy_joules / 3.6e6 * 0.36)
    assert cost_totals.idle_usd([idle]) == idle.total_usd


def test_idle_without_a_price_is_listed_with_unknown_cost(store: Store):
    seen = _half_an_hour(store)
    (idle,) = cost_totals.idle(store.reader, Settings(), seen[0].observed_at_ms, seen[-1].observed_at_ms + 10_000)
    assert (idle.hardware_usd, idle.total_usd) == (None, None)
    assert cost_totals.idle_usd([idle]) is None
