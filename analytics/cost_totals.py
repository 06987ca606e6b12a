"""Cost of several deployments together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analytics.cost_figures import CostFigures, DeploymentCost
from analytics.formulas import unknown
from analytics.formulas.energy import Quality, joules_per_token, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Total(CostFigures):
    """Sums over those deployments whose part is known.

    Money is divided by the tokens of the deployments it belongs to (``priced``), energy by the tokens
    of those with a known energy (``metered``); ``reason`` names what keeps the others out.
    """

    deployments: int
    priced: int
    metered: int


def total(costs: Sequence[DeploymentCost]) -> Total:
    """All deployments as one; all are by accounts, or all by samples."""
    priced = [cost for cost in costs if cost.total_usd is not None]
    metered = [cost for cost in costs if cost.energy_joules is not None]
    lines = dict.fromkeys(line for cost in priced for line in cost.lines)
    joules = unknown.total(*(cost.energy_joules for cost in metered))
    # A deployment that was seen too little has no figure per token; then the sum has none either.
    metered_output = unknown.total(*(cost.charged_output_tokens for cost in metered))
    return Total(
        deployments=len(costs),
        priced=len(priced),
        metered=len(metered),
        output_tokens=unknown.total(*(cost.output_tokens for cost in costs)),
        prompt_tokens=unknown.total(*(cost.prompt_tokens for cost in costs)),
        charged_output_tokens=unknown.total(*(cost.charged_output_tokens for cost in priced)),
        charged_prompt_tokens=unknown.total(*(cost.charged_prompt_tokens for cost in priced)),
        charged_requests=unknown.total(*(cost.charged_requests for cost in priced)),
        lines={line: unknown.total(*(cost.lines[line] for cost in priced)) for line in lines},
        energy_joules=joules,
        joules_per_output_token=joules_per_token(joules, metered_output),
        energy_quality=worst(*(cost.energy_quality for cost in metered)) if metered else Quality.MISSING,
        coverage_ratio=min((cost.coverage_ratio for cost in costs), default=0.0),
        label=worst(*(cost.label for cost in priced)) if priced else Quality.MISSING,
        reason="; ".join(dict.fromkeys(cost.reason for cost in costs if cost.reason)),
    )
