"""How each figure of the week was computed: the rule, its inputs, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from analytics.costs import Term
from analytics.formulas.forecast import STANDARD_ERRORS
from analytics.formulas.local_time import local
from analytics.formulas.unknown import product, total
from analytics.ledger import ENERGIES, LINES
from analytics.weekly import Figure, Headline, Inputs, Percentile, Unit, WeeklySummary
from core.language import _, say, spoken
from core.texts import significant
from pages.shared.money import BASE
from reports import figures, phrases
from reports.words import Words

_RULES: Mapping[str, str] = {
    "cost": _(
        "**hardware + electricity while active + electricity while idle + overhead**\n\nOf all devices, each hour at "
        "its own prices. Energy that was not observed is left out."
    ),
    "unit_price": _(
        "**total cost / output tokens × 1,000,000**\n\nOutput tokens carry the whole cost, prompts and idle hours "
        "included. The other price divides it by prompt and output tokens together."
    ),
    "tokens": _(
        "**increase of the servers' token counters**\n\nRestarts are counted from zero, gateways left out. The share "
        "from the cache is cached over all prompt tokens."
    ),
    "service": _(
        "**sum of requests × share within the objective / sum of requests**\n\nOver the models that have an objective. "
        "Where a histogram does not tell a share exactly, it is a range."
    ),
    "latency": _(
        "**the time that 95 % of the observations did not exceed**\n\nFrom the histograms of all servers added up, on "
        "a straight line between the two bounds around it."
    ),
    "gpu_hours": _(
        "**GPU-hours used / GPU-hours available**\n\nAvailable: from the first sign of life of an accelerator to its "
        "last. Allocated: held by a deployment. Used: at work, as far as it was seen."
    ),
    "idle": _(
        "**hardware while idle + electricity while idle**\n\nOf the time in which devices were parked or free, as far "
        "as it was seen. Overhead is not in it. The share is of the total cost."
    ),
    "energy": _(
        "**energy while active + energy while idle**\n\nBoth with the PUE of each site that has one. Per output token: "
        "over the output tokens."
    ),
    "carbon": _(
        "**sum of energy × grid factor over all sites / output tokens × 1,000,000**\n\nWhat making the hardware "
        "emitted is not in it."
    ),
    "commitment": _(
        "**used / delivered**\n\nOf one contract in its own unit; of several, the cost of their used parts over their "
        "cost."
    ),
    "forecast": _(
        "**cost so far + d × m ± {errors} × s × √(d + d² / n)**\n\nd: days left, m: mean cost of a day, s: its "
        "standard deviation, n: days that these are of. The lower end is not under the cost so far. Days to come are "
        "taken for like those seen: no trend, no price that changes."
    ),
    "coverage": _(
        "**device-hours observed / device-hours**\n\nA device is there from its first sign of life to its last, and "
        "observed while its energy was read."
    ),
}
_LINE_NAMES: Mapping[str, str] = dict(
    zip(
        LINES,
        (_("hardware"), _("electricity while active"), _("electricity while idle"), _("overhead")),
        strict=True,
    )
)
_ENERGY_NAMES: Mapping[str, str] = dict(
    zip(ENERGIES, (_("energy while active"), _("energy while idle")), strict=True),
)
_NAMES: Mapping[str, str] = {
    **phrases.FIGURES,  # some of which are said after a number
    "usd_per_million_tokens": _("Cost per million tokens, prompts included"),
    "prompt_tokens": _("Prompt tokens"),
    "cached_ratio": _("Prompt tokens from the cache"),
    "requests": _("Requests that succeeded"),
    "tpot_p95_seconds": _("Time per output token, p95"),
    "used_ratio": _("Share of GPU-hours used"),
    "used_gpu_hours": _("GPU-hours used"),
    "allocated_gpu_hours": _("GPU-hours allocated"),
    "available_gpu_hours": _("GPU-hours available"),
    "idle_ratio": _("Share of the total cost"),
    "joules_per_output_token": _("Energy per output token"),
}
_CONTRACT_UNITS: Mapping[str, str] = {"megawatts": "MWh", "gpu_hours": _("GPU-hours"), "tokens": _("output tokens")}


class Computed(NamedTuple):
    """How a figure was computed, in the visitor's language: the rule as Markdown of our own, the window, the terms."""

    rule: str
    window: str
    terms: tuple[Term, ...]


def computed(summary: WeeklySummary, window: str, words: Words) -> dict[str, Computed]:
    """How each headline was computed, by its key.

    Args:
        summary: the week as it was kept, or as it is so far.
        window: the week in words.
        words: of the reader.
    """
    shown = _Terms(summary, words)
    month = f"{local(summary.span.end_ms - 1, words.zone):%Y-%m}"
    errors = significant(STANDARD_ERRORS)
    return {
        one.key: Computed(
            rule=say(_RULES[one.key], errors=errors),
            window=say("the month {month}; what comes after the week does not count", month=month)
            if one.key == "forecast"
            else window,
            terms=tuple(shown.of(one)),
        )
        for one in summary.headlines
    }


class _Terms:
    """Inputs and results of one week."""

    def __init__(self, summary: WeeklySummary, words: Words) -> None:
        self._summary, self._words, self._figures = summary, words, summary.figures
        self._of: Mapping[str, Callable[[], Iterator[Term]]] = {
            "cost": self._cost,
            "unit_price": lambda: self._known("total_usd", "output_tokens", "prompt_tokens"),
            "tokens": lambda: self._known("prompt_tokens"),
            "service": self._service,
            "gpu_hours": lambda: self._known("available_gpu_hours", "allocated_gpu_hours", "used_gpu_hours"),
            "idle": lambda: self._known("total_usd"),
            "energy": self._energy,
            "carbon": lambda: self._known("output_tokens"),
            "commitment": self._contracts,
            "coverage": self._coverage,
        }
        self._of_inputs: Mapping[str, Callable[[Inputs], Iterator[Term]]] = {
            "tokens": self._cached,
            "service": self._attained,
            "latency": self._latency,
            "idle": self._idle,
            "carbon": self._emissions,
            "commitment": self._amounts,
            "forecast": self._month,
        }

    def of(self, headline: Headline) -> Iterator[Term]:
        """What went into it, then what came out; each once."""
        return iter(dict.fromkeys([*self._inputs(headline.key), *map(self._result, headline.figures)]))

    def _inputs(self, key: str) -> Iterator[Term]:
        inputs = self._summary.inputs
        if key in self._of_inputs:
            if inputs is None:
                yield Term(say("further inputs"), say("unknown"), say("the week was kept before its inputs were"))
            else:
                yield from self._of_inputs[key](inputs)
        if key in self._of:
            yield from self._of[key]()

    def _known(self, *keys: str) -> Iterator[Term]:
        return (self._result(self._figures[key]) for key in keys)

    def _result(self, of: Figure) -> Term:
        """A figure of the first page with its label, and how much of the time it is of."""
        label = say(phrases.QUALITIES[of.quality])
        if of.covered_ratio is not None and of.key != "covered_ratio":
            label = f"{label}, {say('observed {share}', share=self._words.percent(of.covered_ratio))}"
        return Term(say(_NAMES[of.key]), self._exact(of), label)

    def _exact(self, of: Figure) -> str:
        """With all digits that a reader needs to follow the sum; why it is unknown where it is."""
        if of.low is not None and of.high is not None:
            return self._range(*(self._amount(end, of.unit) for end in (of.low, of.high)))
        return figures.value(of, self._words) if of.value is None else self._amount(of.value, of.unit)

    def _amount(self, value: float, unit: Unit) -> str:
        match unit:
            case Unit.TOKENS | Unit.REQUESTS:
                return self._count(value)
            case Unit.GPU_HOURS:
                return self._hours(value)
            case Unit.KWH:
                return self._kwh(value)
            case Unit.SECONDS:
                return self._seconds(value)
            case Unit.RATIO:
                return self._share(value)
            case _:
                return figures.amount(value, unit, self._words)

    def _range(self, low: str, high: str) -> str:
        return low if low == high else say("{low} to {high}", low=low, high=high)

    def _cost(self) -> Iterator[Term]:
        source = say("line of the bill, all sites; prices below")
        for line in LINES:
            usd = total(*(getattr(bill, line) for _, bill in self._summary.sites))
            yield Term(say(_LINE_NAMES[line]), self._money(usd), source)
        of = self._summary.exchange
        if of.per_usd is not None and of.rate_on is not None and of.currency != BASE:
            rate = say("{rate} {currency} per {base}", rate=significant(of.per_usd), currency=of.currency, base=BASE)
            yield Term(
                say("exchange rate"), rate, say("settings: {key} of {date}", key="cost.rate", date=str(of.rate_on))
            )

    def _cached(self, inputs: Inputs) -> Iterator[Term]:
        yield Term(say("cached prompt tokens"), self._count(inputs.cached_prompt_tokens), say("servers' counters"))

    def _service(self) -> Iterator[Term]:
        if self._summary.inputs is None:
            for one in self._summary.promises:
                yield from self._shares(one.model, one.requests, one.low, one.high)

    def _attained(self, inputs: Inputs) -> Iterator[Term]:
        for one in inputs.attainments:
            share = one.attained
            ends = (None, None) if share is None else (share.lower, share.upper)
            yield from self._shares(one.model, one.requests, *ends)

    def _shares(self, model: str, requests: float, low: float | None, high: float | None) -> Iterator[Term]:
        told = say("unknown") if low is None or high is None else self._range(self._share(low), self._share(high))
        yield Term(say("{model}: requests", model=model), self._count(requests), say("the servers' histograms"))
        yield Term(say("{model}: within the objective", model=model), told, say("histograms against the settings"))

    def _latency(self, inputs: Inputs) -> Iterator[Term]:
        for name, of in (("TTFT", inputs.ttft), ("TPOT", inputs.tpot)):
            if of is None:
                yield Term(say("{kind}: observations", kind=name), say("unknown"), "")
            else:
                yield from self._percentile(name, of)

    def _percentile(self, name: str, of: Percentile) -> Iterator[Term]:
        source = say("the servers' histograms")
        yield Term(say("{kind}: observations", kind=name), self._count(of.observations), source)
        for seconds, count in (
            (of.lower_seconds, of.lower_observations),
            (of.upper_seconds, of.upper_observations),
        ):
            if seconds is None:
                beyond = say("it lies beyond the highest bound, which is shown")
                yield Term(say("{kind}: all others", kind=name), self._count(count - of.lower_observations), beyond)
            else:
                yield Term(
                    say("{kind}: up to {time}", kind=name, time=self._seconds(seconds)), self._count(count), source
                )
        if of.left_out_observations:
            why = say("servers with other bounds, which cannot be added up")
            yield Term(say("{kind}: left out", kind=name), self._count(of.left_out_observations), why)

    def _idle(self, inputs: Inputs) -> Iterator[Term]:
        source = say("accounts of the hours that were seen")
        yield Term(say("hardware while idle"), self._money(inputs.idle_hardware_usd), source)
        yield Term(say("electricity while idle"), self._money(inputs.idle_electricity_usd), source)

    def _energy(self) -> Iterator[Term]:
        source = say(phrases.SCOPES[self._summary.quality.energy_scope])
        for name in ENERGIES:
            kwh = total(*(getattr(bill, name) for _, bill in self._summary.sites))
            yield Term(say(_ENERGY_NAMES[name]), self._kwh(kwh), source)
        places = dict(self._summary.sites)
        for site, pue_ratio in self._summary.assumptions.pue_by_site:
            if site in places:
                told = say("not given") if pue_ratio is None else significant(pue_ratio)
                yield Term(say("PUE of {site}", site=site), told, say("settings, a mean over a year"))
        yield from self._known("output_tokens")

    def _emissions(self, inputs: Inputs) -> Iterator[Term]:
        for one in inputs.emissions:
            grid = say("unknown") if one.grams_per_kwh is None else f"{significant(one.grams_per_kwh)} g CO2e/kWh"
            yield Term(say("energy, {part}", part=one.site), self._kwh(one.kwh), say("as in the bill"))
            yield Term(say("grid factor, {site}", site=one.site), grid, str(one.source or say("settings")))

    def _amounts(self, inputs: Inputs) -> Iterator[Term]:
        for one in inputs.contracts:
            unit = say(_CONTRACT_UNITS.get(one.unit, one.unit))
            for name, amount in ((_("{contract}: used"), one.used), (_("{contract}: delivered"), one.delivered)):
                told = say("unknown") if amount is None else f"{significant(amount)} {unit}"
                yield Term(say(name, contract=one.name), told, say("accounts, over its days in the week"))

    def _contracts(self) -> Iterator[Term]:
        for one in self._summary.contracts:
            spread = say("price x hours here / hours of the term")
            yield Term(say("{contract}: cost", contract=one.name), self._money(one.usd), spread)
            part = say("what was delivered and not used")
            yield Term(say("{contract}: cost of the unused part", contract=one.name), self._money(one.unused_usd), part)

    def _month(self, inputs: Inputs) -> Iterator[Term]:
        of = inputs.month
        spent = say("days with a known cost: {number}", number=spoken().number(of.spent_days))
        seen = say("whole days of this month and the week before")
        yield Term(say("cost so far"), self._money(of.spent_usd), spent)
        yield Term(say("d, days left"), significant(of.days_left), say("with those whose cost is unknown"))
        yield Term(say("m, mean cost of a day"), self._money(of.mean_usd), seen)
        yield Term(say("s, standard deviation"), self._money(of.deviation_usd), seen)
        yield Term(say("n, days"), spoken().number(of.days), say("with a known cost"))

    def _coverage(self) -> Iterator[Term]:
        rows = self._summary.rows
        there = total(*(row.device_hours for row in rows))
        seen = total(*(product(row.device_hours, row.bill.covered_ratio) for row in rows))
        devices = say("devices: {number}", number=spoken().number(self._summary.quality.devices))
        yield Term(say("device-hours observed"), self._hours(seen), say("accounts of whole hours"))
        yield Term(say("device-hours"), self._hours(there), devices)

    def _money(self, usd: float | None) -> str:
        return say("unknown") if usd is None else self._words.money(usd)

    def _count(self, number: float | None) -> str:
        return say("unknown") if number is None else spoken().number(number)

    def _hours(self, hours: float | None) -> str:
        return say("unknown") if hours is None else f"{significant(hours)} h"

    def _kwh(self, kwh: float | None) -> str:
        return say("unknown") if kwh is None else f"{significant(kwh)} kWh"

    def _seconds(self, seconds: float) -> str:
        return f"{significant(seconds, 4)} s"

    def _share(self, ratio: float) -> str:
        return f"{self._words.number(ratio * 100, 2)} %"
