"""Cost figures with the terms they were made from; the denominator and the scope always in words."""

from __future__ import annotations

from collections.abc import Sequence

from analytics.cost_totals import Total
from analytics.costs import CostFigures, DeploymentCost, Term
from analytics.formulas.cost import SMALL_SAMPLE_TOKENS
from analytics.formulas.energy import ENOUGH_COVERAGE, Quality, worst
from analytics.prices import NO_RATE
from core.language import _, count, say, spoken
from core.texts import significant
from core.units import Unit, show, unit_of
from pages.cost.window import MOST_EXPLAINED, Window
from pages.shared import words
from pages.shared.explained import Explained
from pages.shared.figures import Basis, Figure
from pages.shared.reasons import cost_reason

TOKENS, JOULES = unit_of("x_tokens"), unit_of("x_joules")
ORIGINS = {
    "settings": _("set in the settings"),
    "labels": _("found by labels of an exporter"),
    "processes": _("found by process ids"),
    "unjoined": _("not known"),
}
LINE_WORDS = {
    "hardware_usd": _("Hardware"),
    "electricity_usd": _("Electricity"),
    "electricity_active_usd": _("Electricity, active"),
    "electricity_idle_usd": _("Electricity, idle"),
    "overhead_usd": _("Overhead"),
}
OUTPUT_FORMULA = _(
    "**cost / output tokens × 1,000,000**\n\nOutput tokens carry the whole cost, the work on prompts included. "
    "Hours without work on an assigned device are part of the cost."
)
PAIR_FORMULA = _(
    "**input price = cost / (prompt tokens + w × output tokens) × 1,000,000; output price = w × input price**\n\nThe "
    "only pair with that ratio that adds up to the cost. w is `cost.output_weight_ratio`; cached prompts count in full."
)
BLENDED_FORMULA = _(
    "**cost / (prompt tokens + output tokens) × 1,000,000**\n\nDepends on the mix: compare only where "
    "prompts and answers have the same proportion."
)
REQUEST_FORMULA = _("**cost / completed requests**\n\nFailed ones cost too, and count for nothing.")
BILL_FORMULA = _(
    "**hardware + electricity while active + electricity while idle + overhead**\n\nHardware: hours held × price per "
    "hour. Electricity: energy × PUE × price of the hour, 0 where the hardware price includes it. Overhead: by what "
    "devices cost directly. Each hour at the prices at its beginning."
)
SAMPLES_FORMULA = _(
    "**hours assigned × hardware price per hour + energy × PUE × electricity price**\n\nElectricity is 0 where "
    "the hardware price includes it. The prices that hold at the end of the window are applied to all of it. "
    "Overhead is in the bill of whole hours alone."
)
ENERGY_FORMULA = _(
    "**increase of the devices' energy counters**, or integrated power where there is none or where it contradicts "
    "the counter.\n\nNot included: host memory, network, fans, power supplies, cooling."
)
JOULES_FORMULA = _(
    "**energy / output tokens**\n\nThe energy of prompts and of idle hours is included. Not included: host memory, "
    "network, fans, power supplies, cooling."
)
TOKENS_FORMULA = _("**increase of the servers' token counters**, restarts counted from zero. Reasoning is output.")


def sentence(total: Total, shown: Window) -> str:
    """The verdict: what a million output tokens cost, or what is missing to say so."""
    if not total.output_tokens:
        cost = _money(total.total_usd, total.reason, shown)
        return say("No tokens in the {window}; cost: {cost}.", window=shown.words, cost=cost)
    energy = say("energy per token unknown")
    if total.joules_per_output_token is not None:
        energy = say("{energy} per output token", energy=_joules(total.joules_per_output_token))
    parts = {"energy": energy, "window": shown.words}
    if total.usd_per_million_output_tokens is None:
        return say(
            "No price per token ({reason}); {energy} in the {window}.", reason=cost_reason(total.reason), **parts
        )
    parts["price"] = shown.money.show(total.usd_per_million_output_tokens)
    if total.priced == total.deployments:
        return say("{price} per million output tokens in the {window}; {energy}.", **parts)
    return say(
        "{price} per million output tokens in the {window}, {priced} of {deployments} deployments; {energy}.",
        priced=spoken().number(total.priced),
        deployments=spoken().number(total.deployments),
        **parts,
    )


def of_total(total: Total, costs: Sequence[DeploymentCost], shown: Window, weight: float) -> list[Explained]:
    """Figures over all deployments; their terms are those, the dearest ones of very many."""
    return _figures(total, costs, shown, weight)


def of_deployment(cost: DeploymentCost, shown: Window, weight: float) -> list[Explained]:
    """Figures of one deployment; their terms are its devices, hours and prices."""
    return _figures(cost, [cost], shown, weight)


def _figures(of: CostFigures, every: Sequence[DeploymentCost], shown: Window, weight: float) -> list[Explained]:
    costs, others = every[:MOST_EXPLAINED], _others(len(every) - MOST_EXPLAINED)
    money = [
        Term(
            say("{model}: cost", model=cost.model),
            _money(cost.total_usd, cost.reason, shown),
            say(cost.label.value),
        )
        for cost in costs
    ] + others
    output, prompt, requests = (
        [
            *(
                Term(say(name, model=cost.model), _count(counted), say("server's counter"))
                for cost, counted in zip(costs, counts, strict=True)
            ),
            *others,
        ]
        for name, counts in (
            (_("{model}: output tokens"), [cost.output_tokens for cost in costs]),
            (_("{model}: prompt tokens"), [cost.prompt_tokens for cost in costs]),
            (_("{model}: completed requests"), [cost.charged_requests for cost in costs]),
        )
    )
    energy = [
        Term(
            say("{model}: energy, {scope}", model=cost.model, scope=scope(cost)),
            show(cost.energy_joules, JOULES),
            say(cost.energy_label),
        )
        for cost in costs
    ] + others
    priced, pair = {"currency": shown.money.currency}, of.unit_prices(weight)
    weighed = Term(say("w, output over input"), significant(weight), "settings: cost.output_weight_ratio")
    pair_text = cost_reason(of.reason)
    if pair is not None:
        pair_text = shown.money.pair(pair.input_usd_per_million, pair.output_usd_per_million)
    energy_basis: Basis = worst(Quality.DERIVED, of.energy_quality).value
    per_token = of.joules_per_output_token
    figure = _Figures(of, shown)
    return [
        Explained(
            figure.priced(say("{currency} per million output tokens", **priced), of.usd_per_million_output_tokens),
            OUTPUT_FORMULA,
            [*money, *output],
        ),
        Explained(
            figure.text(say("Input · output, per million"), pair_text, known=pair is not None),
            PAIR_FORMULA,
            [*money, *prompt, *output, weighed],
        ),
        Explained(
            figure.priced(say("{currency} per million tokens, blended", **priced), of.usd_per_million_tokens_blended),
            BLENDED_FORMULA,
            [*money, *prompt, *output],
        ),
        Explained(
            figure.priced(say("Cost"), of.total_usd),
            SAMPLES_FORMULA if shown.hours is None else BILL_FORMULA,
            [*_lines(of, shown), *shown.terms(costs), *others],
        ),
        Explained(
            figure.priced(say("{currency} per completed request", **priced), of.usd_per_request),
            REQUEST_FORMULA,
            [*money, *requests],
        ),
        Explained(
            figure.text(
                say("Energy per output token"),
                cost_reason(of.reason) if per_token is None else _joules(per_token),
                known=per_token is not None,
                basis=energy_basis,
            ),
            JOULES_FORMULA,
            [*energy, *output],
        ),
        Explained(figure.counted(say("Energy"), of.energy_joules, JOULES, energy_basis), ENERGY_FORMULA, energy),
        Explained(figure.counted(say("Output tokens"), of.output_tokens), TOKENS_FORMULA, output),
        Explained(figure.counted(say("Prompt tokens"), of.prompt_tokens), TOKENS_FORMULA, prompt),
    ]


def _others(left: int) -> list[Term]:
    """Stands for deployments whose terms are not listed."""
    if left <= 0:
        return []
    what = count("{number} more deployment", "{number} more deployments", left)
    return [Term(what, "", say("to be picked in the table of deployments"))]


class _Figures:
    """Figures of one cost: what all of them say alike."""

    def __init__(self, of: CostFigures, shown: Window) -> None:
        seen = (
            ""
            if of.coverage_ratio >= ENOUGH_COVERAGE
            else say("observed {share}", share=words.percent(of.coverage_ratio))
        )
        few = say("small sample") if of.output_tokens and of.output_tokens < SMALL_SAMPLE_TOKENS else ""
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
        reason = say("the server does not count them") if unit is TOKENS else cost_reason(self._of.reason)
        return Figure(label=label, value=value, unit=unit, basis=basis, window=self._shown.words, reason=reason)


def _lines(of: CostFigures, shown: Window) -> list[Term]:
    source = say("samples") if shown.hours is None else say("line of the bill")
    return [Term(say(LINE_WORDS[line]), shown.money.show(usd), source) for line, usd in of.lines.items()]


def _money(usd: float | None, reason: str, shown: Window) -> str:
    return shown.money.show(usd, cost_reason(reason))


def _joules(per_token: float) -> str:
    """Three significant digits, since it is often below one."""
    return f"{significant(per_token, 3)} J"


def _count(tokens: float | None) -> str:
    return say("unknown") if tokens is None else spoken().number(tokens)


def scope(cost: DeploymentCost) -> str:
    """What the energy is that of; empty where nothing is known."""
    return ", ".join(say(part) for part in cost.scope.split(", "))


def in_full(reason: str) -> str:
    """Why something is missing, with what to do about it."""
    return "; ".join(cost_reason(part) if part.startswith(NO_RATE) else say(part) for part in reason.split("; "))
