"""What is said of a cost: its figures, why one is unknown, and the inputs that its explanation shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analytics.formulas.cost import UnitPrices, usd_per_million, usd_per_request, weighted_usd_per_million
from analytics.formulas.energy import Quality
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import total
from analytics.prices import EnergyPrice, HourlyPrice, SiteFound, energy_price
from core.language import _
from core.settings import Settings
from core.texts import Text, text

NO_PRICE = _("no hardware price in the settings: add a [[cost.hardware]] entry")
NO_TARIFF = _("no electricity price in the settings: set site.usd_per_kwh")
NO_ENERGY = _("no energy reading for what it runs on: see ops/health")
NO_TOKENS = _("no tokens")
NOT_JOINED = _("not known what it runs on: set serving.server.accelerators")
NOT_YET = _("its first whole hour is not over")
SPARSE = _("observed less than half of the time: no figure per token")
UNKNOWN = text(_("unknown"))
_JOINED = {
    "settings": text(_("joined by settings")),
    "labels": text(_("joined by labels")),
    "processes": text(_("joined by processes")),
    "unjoined": text(_("not joined")),
}


@dataclass(frozen=True, slots=True)
class Term:
    """One input of a figure, as its explanation shows it; ``str`` of each says it."""

    name: str | Text
    value: str | Text
    source: str | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class CostFigures:
    """Cost, energy and what they make per token over a window. ``None``: unknown, and ``reason`` says why.

    ``lines`` (USD) make the cost: those of a bill by accounts; hardware and electricity by samples. It is divided by
    the charged tokens and requests, which are unknown where too little was seen to say. Energy is that of the devices,
    without what their cooling takes.
    """

    output_tokens: float | None
    prompt_tokens: float | None
    charged_output_tokens: float | None
    charged_prompt_tokens: float | None
    charged_requests: float | None
    lines: Mapping[str, float | None]
    energy_joules: float | None
    joules_per_output_token: float | None
    energy_quality: Quality
    coverage_ratio: float
    label: Quality
    reason: str

    @property
    def total_usd(self) -> float | None:
        """The lines together."""
        return total(*self.lines.values())

    @property
    def hardware_usd(self) -> float | None:
        """Hardware by the hour."""
        return self.lines.get("hardware_usd")

    @property
    def electricity_usd(self) -> float | None:
        """What was paid for energy on top of the hardware."""
        return total(*(usd for line, usd in self.lines.items() if line.startswith("electricity")))

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """Output tokens carry the whole cost."""
        return usd_per_million(self.total_usd, self.charged_output_tokens)

    @property
    def usd_per_million_tokens_blended(self) -> float | None:
        """Prompt and output tokens alike."""
        return usd_per_million(self.total_usd, total(self.charged_output_tokens, self.charged_prompt_tokens))

    @property
    def usd_per_request(self) -> float | None:
        """Of a completed request."""
        return usd_per_request(self.total_usd, self.charged_requests)

    def unit_prices(self, output_weight_ratio: float) -> UnitPrices | None:
        """The pair for prompt and output tokens that sums back to the cost."""
        return weighted_usd_per_million(
            self.total_usd, self.charged_prompt_tokens, self.charged_output_tokens, output_weight_ratio
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentCost(CostFigures):
    """The figures of one deployment, what it ran on, and the terms they were made from."""

    deployment_id: int
    key: str
    model: str
    server: str
    engine_name: str
    targets: tuple[str, ...]
    origin: str
    energy_label: str
    scope: str
    terms: tuple[Term, ...]


def dearest_first(costs: list[DeploymentCost]) -> list[DeploymentCost]:
    """In the order in which people look at them; unknown ones last."""
    return sorted(costs, key=lambda cost: (cost.total_usd is None, -(cost.total_usd or 0.0), cost.key))


def joined_by(origin: str) -> Text:
    """How it is known what a deployment runs on."""
    return _JOINED[origin]


def hardware_terms(device: HourlyPrice | None, host: HourlyPrice | None, host_part: float) -> list[Term]:
    """Prices of hardware by the hour, those that were given, and where they are from."""
    priced = [
        (device, text(_("hardware price, accelerator"))),
        (host, text(_("hardware price, host x {part}"), part=host_part)),
    ]
    return [
        Term(
            name,
            UNKNOWN if price.usd_per_hour is None else text(_("{usd} USD/h"), usd=price.usd_per_hour),
            price.source,
        )
        for price, name in priced
        if price is not None
    ]


def changes_term(changes: int, meaning: Text) -> Term:
    """That prices changed, and what that means."""
    return Term(text(_("changes of prices")), text(_("{number} in the window"), number=changes), meaning)


def electricity_terms(settings: Settings, site: SiteFound, span: Span) -> tuple[EnergyPrice, tuple[Term, Term]]:
    """What electricity cost at a site over a window, and that price and the site's PUE as terms."""
    tariff = energy_price(settings, site, span)
    pue_ratio = site.place.pue_ratio
    pue = text(_("not given: cooling left out")) if pue_ratio is None else text("{pue}", pue=pue_ratio)
    return tariff, (
        Term(text(_("electricity price")), usd_per_kwh(tariff.usd_per_kwh), tariff.source),
        Term("PUE", pue, f"settings: {site.key}.pue_ratio"),
    )


def usd_per_kwh(usd: float | None) -> Text:
    """A price of electricity as a term shows it."""
    return UNKNOWN if usd is None else text(_("{usd} USD/kWh"), usd=usd)


INSIDE = Term(text(_("electricity")), text(_("0 USD on top")), text(_("inside the hardware price")))
