"""What one week was, in figures: the headline numbers of the weekly summary, before anything is said about them.

A week runs from Monday 00:00 to Monday 00:00 in the zone of the main site, so it has 167, 168 or 169 hours. One that
is not over, or not accounted for to its end, has the hours so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from analytics import prices
from analytics.device_hours import IDLE_ID, DeviceHours, whole_hours
from analytics.formulas import change
from analytics.formulas.carbon import operational_grams
from analytics.formulas.cost import usd_per_million
from analytics.formulas.energy import ENOUGH_COVERAGE, LEAST_COVERAGE
from analytics.formulas.local_time import MS_PER_HOUR, Span, iso_week, local
from analytics.formulas.unknown import per, total
from analytics.ledger import ENERGIES, Bill, Ledger, bill, flat_edges, read_ledger
from analytics.serving import are_gateways
from analytics.weekly.latency import p95
from analytics.weekly.promises import attainments
from analytics.weekly.summary import Attainment, Emission, Percentile
from core.readings import Latency
from core.settings import Settings
from core.texts import Text
from storage import queries
from storage.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """The figures of a week. ``None``: unknown, and ``bill.missing`` or the field's own rule says why."""

    name: str
    span: Span
    hours: float
    is_whole: bool
    bill: Bill
    output_tokens: float | None
    prompt_tokens: float | None
    cached_prompt_tokens: float | None
    requests: float | None
    ttft: Percentile | None
    tpot: Percentile | None
    available_gpu_hours: float
    allocated_gpu_hours: float
    used_gpu_hours: float | None
    emissions: tuple[Emission, ...]
    attainments: tuple[Attainment, ...]

    @property
    def is_observed(self) -> bool:
        """Whether enough was seen for a figure per token."""
        return self.bill.covered_ratio >= LEAST_COVERAGE

    @property
    def is_lower_bound(self) -> bool:
        """Whether totals are of less than the whole, since a part was not seen."""
        return self.bill.covered_ratio < ENOUGH_COVERAGE

    @property
    def kwh(self) -> float | None:
        """Energy at the meter, or of devices where no PUE is given."""
        return total(self.bill.active_kwh, self.bill.idle_kwh)

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """The whole bill over all output tokens."""
        return usd_per_million(self.bill.total_usd, self.output_tokens) if self.is_observed else None

    @property
    def usd_per_million_tokens(self) -> float | None:
        """The whole bill over prompt and output tokens together."""
        tokens = total(self.output_tokens, self.prompt_tokens)
        return usd_per_million(self.bill.total_usd, tokens) if self.is_observed else None

    @property
    def kwh_per_million_output_tokens(self) -> float | None:
        """Energy as in ``kwh``."""
        return per(self.kwh, None if not self.output_tokens else self.output_tokens / 1e6) if self.is_observed else None

    @property
    def operational_grams(self) -> float | None:
        """Operational emissions of all sites (g CO2e); unknown where one has no grid factor."""
        return total(*(operational_grams(one.kwh, one.grams_per_kwh) for one in self.emissions))

    @property
    def grid_sources(self) -> tuple[Text, ...]:
        """Where grid factors are from, each once."""
        return tuple(dict.fromkeys(one.source for one in self.emissions if one.source is not None))

    @property
    def window(self) -> change.Window:
        """What the change between two weeks is made of."""
        return change.Window(
            cost_usd=self.bill.total_usd,
            gpu_hours=self.available_gpu_hours,
            used_gpu_hours=self.used_gpu_hours,
            tokens=self.output_tokens,
        )


def week_span(year: int, week: int, settings: Settings) -> Span:
    """A week of ISO 8601 in the zone of reports.

    Raises:
        ValueError: the year has no such week.
    """
    return iso_week(year, week, settings.site.zone)


def hours_so_far(week: Span, until_ms: int) -> Span:
    """The whole hours of a week up to an instant."""
    return Span(*whole_hours(week.start_ms, min(week.end_ms, max(until_ms, week.start_ms))))


def hourly(engine: Store, settings: Settings, hours: Span, accounted: Mapping[int, int]) -> Ledger:
    """The ledger of whole hours; ``accounted`` is ``queries.accounted_until``."""
    return read_ledger(engine, settings, range(hours.start_ms, hours.end_ms + 1, MS_PER_HOUR), accounted)


def totals(
    engine: Store, settings: Settings, hours: Span, accounted: Mapping[int, int], cuts_ms: Iterable[int] = ()
) -> Ledger:
    """The same where only totals are wanted, between cuts as well: several hours as one, and soon read."""
    return read_ledger(engine, settings, sorted({*flat_edges(settings, *hours), *cuts_ms}), accounted)


def week_of(engine: Store, settings: Settings, span: Span, priced: Ledger) -> Week:
    """The figures of a week, or of its first hours, whose ledger this is."""
    of = priced.of
    cards = of.devices.index[of.devices["family"] == "accelerator"]
    hours, shares = (frame[frame["device_id"].isin(cards)] for frame in (of.hours, of.shares))
    held = shares[shares["deployment_id"] != IDLE_ID].merge(hours, on=["device_id", "hour_ms"])
    seen = hours["active_ratio"].notna()
    ids = _servers(engine)
    return Week(
        name=f"{local(span.start_ms, settings.site.zone):%G-W%V}",
        span=span,
        hours=Span(of.start_ms, of.end_ms).hours,
        is_whole=of.end_ms == whole_hours(*span)[1],
        bill=bill(priced),
        output_tokens=_sum(of, "generation_tokens", ids),
        prompt_tokens=_sum(of, "prompt_tokens", ids),
        cached_prompt_tokens=_sum(of, "cached_prompt_tokens", ids),
        requests=_sum(of, "succeeded_requests", ids),
        ttft=p95(engine, ids, Latency.TTFT, of.start_ms, of.end_ms),
        tpot=p95(engine, ids, Latency.TPOT, of.start_ms, of.end_ms),
        available_gpu_hours=float(hours["there_ratio"].sum()),
        allocated_gpu_hours=float((held["share"] * held["there_ratio"]).sum()),
        used_gpu_hours=float((hours["active_ratio"] * hours["there_ratio"])[seen].sum()) if seen.any() else None,
        emissions=tuple(_emissions(priced, settings)),
        attainments=tuple(attainments(engine, settings, of.start_ms, of.end_ms)),
    )


def _servers(engine: Store) -> list[int]:
    entities = queries.entities(engine, "deployment")
    return [int(i) for i in entities.loc[~are_gateways(entities), "entity_id"]]


def _sum(of: DeviceHours, column: str, ids: list[int]) -> float | None:
    """Of all servers that tell; ``None`` where none does."""
    known = of.work.loc[of.work["deployment_id"].isin(ids), column].dropna()
    return float(known.sum()) if len(known) else None


def _emissions(priced: Ledger, settings: Settings) -> Iterator[Emission]:
    """Energy of each site that has devices, with the grid factor of the site."""
    hosts = priced.devices["host"].reindex(priced.rows["device_id"]).to_numpy()
    used = priced.rows[list(ENERGIES)].sum(axis=1, min_count=1).groupby(hosts).sum(min_count=1)
    by_site: dict[prices.SiteFound, list[float | None]] = {}
    for host, kwh in used.items():
        site = prices.site_of(settings, str(host))
        by_site.setdefault(site, []).append(None if np.isnan(kwh) else float(kwh))
    for site, parts in by_site.items():
        factor = prices.grid_factor(site)
        grams_per_kwh, source = (factor.grams_per_kwh, factor.source) if factor else (None, None)
        yield Emission(site.place.name, total(*parts), grams_per_kwh, source)
