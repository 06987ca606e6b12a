"""Cost figures with the terms they were made from; the denominator and the scope always in words."""

from __future__ import annotations

from collections.abc import Sequence

from analytics.cost_totals import Total
from analytics.costs import CostFigures, DeploymentCost, Term
from analytics.formulas.cost import SMALL_SAMPLE_TOKENS
from analytics.formulas.energy import ENOUGH_COVERAGE, Quality, worst
from core.units import show, show_money, unit_of
from pages.cost.explained import Explained
from pages.shared import words
from pages.shared.figures import Basis, Figure
from pages.shared.filters import View
from pages.shared.reasons import cost_reason

TOKENS, JOULES = unit_of("x_tokens"), unit_of("x_joules")
ORIGINS = {
    "settings": "set in the settings",
    "labels": "found by labels of an exporter",
    "processes": "found by process ids",
    "unjoined": "not known",
}
OUTPUT_FORMULA = (
    "**cost / output tokens × 1,000,000**\n\nOutput tokens carry the whole cost, the work on prompts included. "
    "Hours without work on an assigned device are part of the cost."
)
BLENDED_FORMULA = (
    "**cost / (prompt tokens + output tokens) × 1,000,000**\n\nDepends on the mix: compare only where "
    "prompts and answers have the same proportion."
)
COST_FORMULA = (
    "**hours assigned × hardware price per hour + energy × PUE × electricity price**\n\nElectricity is 0 where "
    "the hardware price includes it. The prices that hold at the end of the window are applied to all of it."
)
ENERGY_FORMULA = (
    "**increase of the devices' energy counters**, or integrated power where there is none.\n\nNot included: "
    "host memory, network, fans, power supplies, cooling."
)
JOULES_FORMULA = (
    "**energy / output tokens**\n\nThe energy of prompts and of idle hours is included. Not included: host memory, "
    "network, fans, power supplies, cooling."
)
TOKENS_FORMULA = "**increase of the servers' token counters**, restarts counted from zero. Reasoning is output."


def sentence(total: Total, view: View) -> str:
    """The verdict: what a million output tokens cost, or what is missing to say so."""
    energy = "energy per token unknown"
    if total.joules_per_output_token is not None:
        energy = f"{_joules(total.joules_per_output_token)} per output token"
    if not total.output_tokens:
        return f"No tokens in the {view.words}; cost: {show_money(total.total_usd)}."
    if total.usd_per_million_output_tokens is None:
        return f"No price per token ({cost_reason(total.reason)}); {energy} in the {view.words}."
    some = "" if total.priced == total.deployments else f", {total.priced} of {total.deployments} deployments"
    price = show_money(total.usd_per_million_output_tokens)
    return f"{price} per million output tokens in the {view.words}{some}; {energy}."


def of_total(total: Total, costs: Sequence[DeploymentCost], view: View) -> list[Explained]:
    """Figures over all deployments; their terms are the deployments."""
    money = [Term(f"{cost.model}: cost", _money(cost.total_usd, cost.reason), cost.label.value) for cost in costs]
    output = [Term(f"{cost.model}: output tokens", _count(cost.output_tokens), "server's counter") for cost in costs]
    prompt = [Term(f"{cost.model}: prompt tokens", _count(cost.prompt_tokens), "server's counter") for cost in costs]
    energy = [
        Term(f"{cost.model}: energy, {cost.scope}", show(cost.energy_joules, JOULES), cost.energy_label)
        for cost in costs
    ]
    every = list(dict.fromkeys(term for cost in costs for term in cost.terms))
    return _figures(total, view, money=money, output=output, prompt=prompt, energy=energy, cost_terms=every)


def of_deployment(cost: DeploymentCost, view: View) -> list[Explained]:
    """Figures of one deployment; their terms are its devices, hours and prices."""
    money = [Term("cost", _money(cost.total_usd, cost.reason), cost.label.value)]
    output = [Term("output tokens", _count(cost.output_tokens), "server's counter")]
    prompt = [Term("prompt tokens", _count(cost.prompt_tokens), "server's counter")]
    energy = [Term(f"energy, {cost.scope}", show(cost.energy_joules, JOULES), cost.energy_label)]
    return _figures(cost, view, money=money, output=output, prompt=prompt, energy=energy, cost_terms=list(cost.terms))


def _figures(
    of: CostFigures,
    view: View,
    *,
    money: list[Term],
    output: list[Term],
    prompt: list[Term],
    energy: list[Term],
    cost_terms: list[Term],
) -> list[Explained]:
    seen = "" if of.coverage_ratio >= ENOUGH_COVERAGE else f"observed {of.coverage_ratio:.0%}"
    few = "small sample" if of.output_tokens and of.output_tokens < SMALL_SAMPLE_TOKENS else ""
    note = ", ".join(part for part in (few, seen) if part)

    def priced(label: str, usd: float | None) -> Figure:
        basis: Basis = of.label.value if usd is not None else "missing"
        return Figure(label=label, text=_money(usd, of.reason), basis=basis, window=view.words, note=note)

    def counted(label: str, tokens: float | None) -> Figure:
        return Figure(
            label=label, value=tokens, unit=TOKENS, window=view.words, reason="the server does not count them"
        )

    energy_basis: Basis = worst(Quality.DERIVED, of.energy_quality).value
    per_token = Figure(
        label="Energy per output token",
        text=cost_reason(of.reason) if of.joules_per_output_token is None else _joules(of.joules_per_output_token),
        basis="missing" if of.joules_per_output_token is None else energy_basis,
        window=view.words,
        note=note,
    )
    used = Figure(
        label="Energy",
        value=of.energy_joules,
        unit=JOULES,
        basis=energy_basis,
        window=view.words,
        reason=cost_reason(of.reason),
    )
    return [
        Explained(
            priced("USD per million output tokens", of.usd_per_million_output_tokens), OUTPUT_FORMULA, [*money, *output]
        ),
        Explained(
            priced("USD per million tokens, blended", of.usd_per_million_tokens_blended),
            BLENDED_FORMULA,
            [*money, *prompt, *output],
        ),
        Explained(priced("Cost", of.total_usd), COST_FORMULA, cost_terms),
        Explained(per_token, JOULES_FORMULA, [*energy, *output]),
        Explained(used, ENERGY_FORMULA, energy),
        Explained(counted("Output tokens", of.output_tokens), TOKENS_FORMULA, output),
    ]


def _money(usd: float | None, reason: str) -> str:
    return show_money(usd, unknown=cost_reason(reason))


def _joules(per_token: float) -> str:
    """Three significant digits, since it is often below one."""
    return f"{per_token:.3g} J"


def _count(tokens: float | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,.0f}"


def joined(cost: DeploymentCost) -> str:
    """How it is known what a deployment runs on."""
    return ORIGINS.get(cost.origin, cost.origin)


def scope_in_words(cost: DeploymentCost) -> str:
    """What the energy is that of, and what it leaves out."""
    return (
        f"{words.plain(cost.scope) or 'nothing known'}; host memory, network, fans, supplies and cooling not included"
    )
