"""The weekly summary as data: keys and numbers, without a word of any language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from analytics.formulas import change
from analytics.formulas.energy import Quality
from analytics.formulas.local_time import Span
from analytics.formulas.objectives import Between
from analytics.ledger import Bill
from analytics.wastes.waste import Kind, Waste
from analytics.weekly.figure import Figure, Headline
from analytics.weekly.reasons import Why
from core.texts import Text


class Day(NamedTuple):
    """A local day of the week so far; no bill where no device was there."""

    span: Span
    bill: Bill | None


class CostRow(NamedTuple):
    """What a deployment cost at a site, by the hours it held devices there; ``IDLE_ID`` has what nobody held."""

    site: str
    deployment_id: int
    model: str
    server: str
    device_hours: float
    bill: Bill


class ModelCost(NamedTuple):
    """What a model cost at all its servers; one that the servers do not name, or that nobody held, has no name."""

    model: str
    usd: float | None
    kwh: float | None
    output_tokens: float | None
    usd_per_million_output_tokens: float | None


class ContractUse(NamedTuple):
    """A contract over the part of its term that lies in the week."""

    name: str
    last_day: date
    ends_in_week: bool
    used_ratio: float | None
    usd: float | None
    unused_usd: float | None
    quality: Quality
    why: Why | None


class Promise(NamedTuple):
    """How a model's objective was kept; ``is_kept`` is ``None`` where that cannot be told."""

    model: str
    target_ratio: float
    low: float | None
    high: float | None
    requests: float
    is_kept: bool | None


class Effort(NamedTuple):
    """What an action takes: its size and the hours of one person, by rule of thumb; and what it does to latency."""

    size: str
    low_hours: float
    high_hours: float
    latency_risk: str


class Action(NamedTuple):
    """What could be done about a waste, and what that could be worth in a week."""

    waste: Waste
    saving_usd: tuple[float, float]
    freed_gpu_hours: float
    effort: Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class WasteRecord:
    """How a waste stands, whatever its rank: found in ``weeks`` weeks on end, the first of them ``since``.

    cost_usd: as in the list; ``None``: unknown.
    owner: who answers for it; empty where nobody is named.
    muted: why it is left out of the list, and ``muted_until`` up to which day; empty where it is not.
    """

    kind: Kind
    what: str
    sites: tuple[str, ...]
    since: str
    weeks: int
    cost_usd: float | None
    owner: str
    muted: str
    muted_until: date | None


class Followed(NamedTuple):
    """An action of the week before: whether its waste is gone, and by what it costs less now (USD; below 0: more)."""

    kind: Kind
    what: str
    is_done: bool | None
    effect_usd: float | None


class Exchange(NamedTuple):
    """The currency that people read amounts in, and what a US dollar costs in it; ``None``: no rate is known."""

    currency: str
    per_usd: float | None
    rate_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQuality:
    """What the figures stand on.

    energy_scope: "meter" where every site has a PUE, "device" where none has, else "mixed".
    accounted_until_ms: how far accounts reach; ``None`` where there are none.
    missing: what is unknown of which device.
    tariff_changes_ms: new versions of a tariff in this week or the one before; amounts are not compared across them.
    """

    covered_ratio: float | None
    is_lower_bound: bool
    devices: int
    energy_scope: str
    accounted_until_ms: int | None
    batches_dropped: int
    missing: tuple[Why, ...]
    tariff_changes_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the amounts assume, and where prices and factors are from."""

    price_sources: tuple[Text, ...]
    grid_sources: tuple[Text, ...]
    pue_by_site: tuple[tuple[str, float | None], ...]
    output_weight_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """How one model's promise was kept over a week; ``attained`` is a share of ``requests``."""

    model: str
    target_ratio: float
    attained: Between | None
    requests: float


class Percentile(NamedTuple):
    """A p95, on a straight line between two bounds of a histogram.

    lower_observations: how many took no longer than ``lower_seconds``, as ``upper_observations`` of ``upper_seconds``.
    upper_seconds: ``None`` where it lies beyond the highest bound, and ``seconds`` is that bound.
    left_out_observations: of servers with other bounds, which cannot be added up.
    """

    seconds: float
    observations: float
    left_out_observations: float
    lower_seconds: float
    lower_observations: float
    upper_seconds: float | None
    upper_observations: float


class Emission(NamedTuple):
    """Energy of a site (kWh, as in its bill), and what a kWh of it emits; ``None``: unknown."""

    site: str
    kwh: float | None
    grams_per_kwh: float | None
    source: Text | None


class ContractAmounts(NamedTuple):
    """What was used of what was there, in the unit of the contract: MWh, GPU-hours, tokens or its currency."""

    name: str
    unit: str
    used: float | None
    delivered: float


class Month(NamedTuple):
    """Days of the month in which the week ends, and those that days to come are taken for.

    spent_usd: of ``spent_days``, those of the month whose cost is known.
    days_left: until its end, with those whose cost is unknown.
    mean_usd: of ``days`` recent ones, and their standard deviation; ``None``: too few for a forecast.
    """

    spent_usd: float
    spent_days: int
    days_left: float
    days: int
    mean_usd: float | None
    deviation_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What headlines were computed from, where that stands nowhere else in the summary. ``None``: unknown."""

    cached_prompt_tokens: float | None
    attainments: tuple[Attainment, ...]
    ttft: Percentile | None
    tpot: Percentile | None
    idle_hardware_usd: float | None
    idle_electricity_usd: float | None
    emissions: tuple[Emission, ...]
    contracts: tuple[ContractAmounts, ...]
    month: Month


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklySummary:
    """A week. Amounts are USD; ``exchange`` says what people read them in.

    wastes: the dearest that are not muted.
    records: how all wastes stand, dearest first.
    followed: what became of the actions of the week before, where that week is kept.
    inputs: ``None`` in weeks that were kept before inputs were.
    """

    name: str
    span: Span
    zone: str
    elapsed_hours: float
    whole_hours: float
    is_simulated: bool
    exchange: Exchange
    headlines: tuple[Headline, ...]
    cost_effects: change.CostEffects | None
    unit_price_effects: change.UnitPriceEffects | None
    promises: tuple[Promise, ...]
    wastes: tuple[Waste, ...]
    records: tuple[WasteRecord, ...]
    actions: tuple[Action, ...]
    followed: tuple[Followed, ...]
    contracts: tuple[ContractUse, ...]
    days: tuple[Day, ...]
    models: tuple[ModelCost, ...]
    sites: tuple[tuple[str, Bill], ...]
    rows: tuple[CostRow, ...]
    quality: DataQuality
    assumptions: Assumptions
    inputs: Inputs | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the week is over."""
        return self.elapsed_hours == self.whole_hours

    def record(self, waste: Waste) -> WasteRecord:
        """How a waste of the list stands."""
        return next(one for one in self.records if (one.kind, one.what, one.sites) == waste.key)

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures of the headlines by their key."""
        return {figure.key: figure for headline in self.headlines for figure in headline.figures}
