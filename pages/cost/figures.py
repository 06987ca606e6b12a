"""Cost figures with the terms they were made from; the denominator and the scope always in words."""

from __future__ import annotations

from collections.abc import Sequence

from analytics.cost_totals import Total
from analytics.costs import CostFigures, DeploymentCost, Term
from analytics.formulas.cost import SMALL_SAMPLE_TOKENS
from analytics.formulas.energy import ENOUGH_COVERAGE, Quality, worst
from core.units import Unit, show, unit_of
from pages.cost.explained import Explained
from pages.cost.window import Window
from pages.shared import words
from pages.shared.figures import Basis, Figure
from pages.shared.reasons import cost_reason

TOKENS, JOULES = unit_of("x_tokens"), unit_of("x_joules")
ORIGINS = {
    "settings": "set in the settings",
    "labels": "found by labels of an exporter",
    "processes": "found by process ids",
    "unjoined": "not known",
}
LINE_WORDS = {
    "hardware_usd": "Hardware",
    "electricity_usd": "Electricity",
    "electricity_active_usd": "Electricity, active",
    "electricity_idle_usd": "Electricity, idle",
    "overhead_usd": "Overhead",
}
OUTPUT_FORMULA = (
    "**cost / output tokens × 1,000,000**\n\nOutput tokens carry the whole cost, the work on prompts included. "
    "Hours without work on an assigned device are part of the cost."
)
PAIR_FORMULA = (
    "**input price = cost / (prompt tokens + w × output tokens) × 1,000,000; output price = w × input price**\n\nThe "
    "only pair with that ratio that adds up to the cost. w is `cost.output_weight_ratio`; cached prompts count in full."
)
BLENDED_FORMULA = (
    "**cost / (prompt tokens + output tokens) × 1,000,000**\n\nDepends on the mix: compare only where "
    "prompts and answers have the same proportion."
)
REQUEST_FORMULA = "**cost / completed requests**\n\nFailed ones cost too, and count for nothing."
BILL_FORMULA = (
    "**hardware + electricity while active + electricity while idle + overhead**\n\nHardware: hours held × price per "
    "hour. Electricity: energy × PUE × price of the hour, 0 where the hardware price includes it. Overhead: by what "
    "devices cost directly. Each hour at the prices at its beginning."
)
SAMPLES_FORMULA = (
    "**hours assigned × hardware price per hour + energy × PUE × electricity price**\n\nElectricity is 0 where "
    "the hardware price includes it. The prices that hold at the end of the window are applied to all of it. "
    "Overhead is in the bill of whole hours alone."
)
ENERGY_FORMULA = (
    "**increase of the devices' energy counters**, or integrated power where there is none or where it contradicts "
    "the counter.\n\nNot included: host memory, network, fans, power supplies, cooling."
)
JOULES_FORMULA = (
    "**energy / output tokens**\n\nThe energy of prompts and of idle hours is included. Not included: host memory, "
    "network, fans, power supplies, cooling."
)
TOKENS_FORMULA = "**increase of the servers' token counters**, restarts counted from zero. Reasoning is output."


def sentence(total: Total, shown: Window) -> str:
    """The verdict: what a million output tokens cost, or what is missing to say so."""
    energy = "energy per token unknown"
    if total.joules_per_output_token is not None:
        energy = f"{_joules(total.joules_per_output_token)} per output token"
    if not total.output_tokens:
        return f"No tokens in the {shown.words}; cost: {_money(total.total_usd, total.reason, shown)}."
    if total.usd_per_million_output_tokens is None:
        return f"No price per token ({cost_reason(total.reason)}); {energy} in the {shown.words}."
    some = "" if total.priced == total.deployments else f", {total.priced} of {total.deployments} deployments"
    price = shown.money.show(total.usd_per_million_output_tokens)
    return f"{price} per million output tokens in the {shown.words}{some}; {energy}."


def of_total(total: Total, costs: Sequence[DeploymentCost], shown: Window, weight: float) -> list[Explained]:
    """Figures over all deployments; their terms are the deployments."""
    return _figures(total, costs, list(dict.fromkeys(term for cost in costs for term in cost.terms)), shown, weight)


def of_deployment(cost: DeploymentCost, shown: Window, weight: float) -> list[Explained]:
    """Figures of one deployment; their terms are its devices, hours and prices."""
    return _figures(cost, [cost], list(cost.terms), shown, weight)


def _figures(
    of: CostFigures, costs: Sequence[DeploymentCost], cost_terms: list[Term], shown: Window, weight: float
) -> list[Explained]:
    money = [
        Term(f"{cost.model}: cost", _money(cost.total_usd, cost.reason, shown), cost.label.value) for cost in costs
    ]
    output, prompt, requests = (
        [
            Term(f"{cost.model}: {name}", _count(count), "server's counter")
            for cost, count in zip(costs, every, strict=True)
        ]
        for name, every in (
            ("output tokens", [cost.output_tokens for cost in costs]),
            ("prompt tokens", [cost.prompt_tokens for cost in costs]),
            ("completed requests", [cost.charged_requests for cost in costs]),
        )
    )
    energy = [
        Term(f"{cost.model}: energy, {cost.scope}", show(cost.energy_joules, JOULES), cost.energy_label)
        for cost in costs
    ]
    currency, pair = shown.money.currency, of.unit_prices(weight)
    weighed = Term("w, output over input", f"{weight:g}", "settings: cost.output_weight_ratio")
    pair_text = cost_reason(of.reason)
    if pair is not None:
        pair_text = f"{shown.money.show(pair.input_usd_per_million)} · {shown.money.show(pair.output_usd_per_million)}"
    energy_basis: Basis = worst(Quality.DERIVED, of.energy_quality).value
    per_token = of.joules_per_output_token
    figure = _Figures(of, shown)
    return [
        Explained(
            figure.priced(f"{currency} per million output tokens", of.usd_per_million_output_tokens),
            OUTPUT_FORMULA,
            [*money, *output],
        ),
        Explained(
            figure.text("Input · output, per million", pair_text, known=pair is not None),
            PAIR_FORMULA,
            [*money, *prompt, *output, weighed],
        ),
        Explained(
            figure.priced(f"{currency} per million tokens, blended", of.usd_per_million_tokens_blended),
            BLENDED_FORMULA,
            [*money, *prompt, *output],
        ),
        Explained(
            figure.priced("Cost", of.total_usd),
            SAMPLES_FORMULA if shown.hours is None else BILL_FORMULA,
            [*_lines(of, shown), *cost_terms],
        ),
        Explained(
            figure.priced(f"{currency} per completed request", of.usd_per_request), REQUEST_FORMULA, [*money, *requests]
        ),
        Explained(
            figure.text(
                "Energy per output token",
                cost_reason(of.reason) if per_token is None else _joules(per_token),
                known=per_token is not None,
                basis=energy_basis,
            ),
            JOULES_FORMULA,
            [*energy, *output],
        ),
        Explained(figure.counted("Energy", of.energy_joules, JOULES, energy_basis), ENERGY_FORMULA, energy),
        Explained(figure.counted("Output tokens", of.output_tokens), TOKENS_FORMULA, output),
        Explained(figure.counted("Prompt tokens", of.prompt_tokens), TOKENS_FORMULA, prompt),
    ]


class _Figures:
    """Figures of one cost: what all of them say alike."""

    def __init__(self, of: CostFigures, shown: Window) -> None:
        seen = "" if of.coverage_ratio >= ENOUGH_COVERAGE else f"observed {of.coverage_ratio:.0%}"
        few = "small sample" if of.output_tokens and of.output_tokens < SMALL_SAMPLE_TOKENS else ""
        self._of, self._shown = of, shown
        self._note = ", ".join(part for part in (few, seen) if part)

    def priced(self, label: str, usd: float | None) -> Figure:
        """An amount of money."""
        return self.text(label, _money(usd, self._of.reason, self._shown), known=usd is not None)

    def text(self, label: str, text: str, *, known: bool, basis: Basis | None = None) -> Figure:
        """A figure that is worded already; ``basis`` is that of money, if no other."""
        named: Basis = (basis or self._of.label.value) if known else "missing"
        return Figure(label=label, text=text, basis=named, window=self._shown.words, note=self._note)

    def counted(self, label: str, value: float | None, unit: Unit = TOKENS, basis: Basis = "measured") -> Figure:
        """What servers or devices count."""
        reason = "the server does not count them" if unit is TOKENS else cost_reason(self._of.reason)
        return Figure(label=label, value=value, unit=unit, basis=basis, window=self._shown.words, reason=reason)


def _lines(of: CostFigures, shown: Window) -> list[Term]:
    return [
        Term(LINE_WORDS[line], shown.money.show(usd), "samples" if shown.hours is None else "line of the bill")
        for line, usd in of.lines.items()
    ]


def _money(usd: float | None, reason: str, shown: Window) -> str:
    return shown.money.show(usd, cost_reason(reason))


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
