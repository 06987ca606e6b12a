"""Sums over deployments: money over the tokens that were paid for, and nothing invented where a part is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import cost_totals
from analytics.costs import NO_PRICE, NO_TOKENS, DeploymentCost
from analytics.formulas.energy import Quality


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
        "charged_output_tokens": 1e6,
        "charged_prompt_tokens": 3e6,
        "charged_requests": 1000.0,
        "lines": {"hardware_usd": 3.0, "electricity_usd": 1.0},
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
    "lines": {"hardware_usd": None, "electricity_usd": None},
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
    total = cost_totals.total([cost(), cost(output_tokens=3e6, charged_output_tokens=3e6)])
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
    silent = cost(output_tokens=0.0, charged_output_tokens=0.0, joules_per_output_token=None, reason=NO_TOKENS)
    total = cost_totals.total([cost(), silent])
    assert total.usd_per_million_output_tokens == 8.0
    alone = cost_totals.total([silent])
    assert alone.total_usd == 4.0
    assert alone.usd_per_million_output_tokens is None


def test_one_that_was_seen_too_little_leaves_no_figure_per_token():
    sparse = cost(charged_output_tokens=None, joules_per_output_token=None, coverage_ratio=0.2, reason="sparse")
    total = cost_totals.total([cost(), sparse])
    assert total.usd_per_million_output_tokens is None
    assert total.joules_per_output_token is None
    assert total.coverage_ratio == 0.2


def test_the_worst_label_wins():
    assert cost_totals.total([cost(), cost(label=Quality.ESTIMATED)]).label is Quality.ESTIMATED


def test_lines_add_up_line_by_line_and_unknown_ones_are_left_out():
    total = cost_totals.total([cost(), cost(), cost(**UNPRICED)])
    assert total.lines == {"hardware_usd": 6.0, "electricity_usd": 2.0}
    assert (total.hardware_usd, total.electricity_usd, total.total_usd) == (6.0, 2.0, 8.0)
    assert cost_totals.total([cost(**UNPRICED)]).total_usd is None
    assert cost_totals.total([]).total_usd is None


@given(
    st.floats(1e-3, 1e6),
    st.floats(0, 1e9),
    st.floats(1, 1e9),
    st.floats(1, 1e6),
    st.floats(0.1, 20),
    st.floats(0.1, 10),
)
def test_the_pair_of_prices_sums_back_to_the_cost_and_every_price_is_linear_in_it(
    usd: float, prompt: float, output: float, requests: float, weight: float, factor: float
):
    tokens = {"charged_prompt_tokens": prompt, "charged_output_tokens": output, "charged_requests": requests}
    one, more = (cost(lines={"hardware_usd": amount}, **tokens) for amount in (usd, usd * factor))
    pair = one.unit_prices(weight)
    assert pair is not None
    back = pair.input_usd_per_million * prompt + pair.output_usd_per_million * output
    assert back / 1e6 == pytest.approx(usd)
    for name in ("usd_per_million_output_tokens", "usd_per_million_tokens_blended", "usd_per_request"):
        assert getattr(more, name) == pytest.approx(factor * getattr(one, name))
