"""The highest demand of sites in calendar months, for tariffs that charge for it.

Utilities read quarters of an hour, of all that is behind their meter; accounts know whole hours, of devices. So a peak
made of them is an estimate and a lower bound. It is that of the whole month whatever window is asked for, and of a
month that runs that of the part so far: so bills of windows add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from analytics import prices
from analytics.formulas.energy import facility_kwh
from analytics.formulas.local_time import MIDNIGHT, MS_PER_HOUR, Span, instant_ms, local
from analytics.formulas.tariff import demand_usd
from analytics.formulas.unknown import per, product
from analytics.serving import are_gateways
from core.settings import Settings
from core.sites import Place
from storage import queries
from storage.engine import Store
from storage.hourly_energy import energy_by_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyPeak:
    """What the devices of a site drew in a calendar month, at the meter: cooling included where it has a PUE.

    name: of the month, such as ``2025-10``.
    hours: those that begin in it, in the site's zone.
    known_ratio: part of the month from the first sight of a device to the store's last account.
    peak_kw: highest mean power of an hour; ``None``: no energy was seen.
    kwh: energy as it was seen.
    """

    name: str
    hours: Span
    known_ratio: float
    peak_kw: float | None
    kwh: float

    def usd_per_kwh(self, usd_per_kw_month: float) -> float | None:
        """The month's charge, or the part of it that is known, spread over its energy; ``None`` without any."""
        return per(product(demand_usd(self.peak_kw, usd_per_kw_month), self.known_ratio), self.kwh)


Peaks = Mapping[str, tuple[MonthlyPeak, ...]]
"""Months of sites, by the key of the site in the settings."""


def month_cuts(settings: Settings, start_ms: int, end_ms: int) -> list[int]:
    """Instants (Unix ms) inside a window at which a month begins at a site whose tariff charges for demand."""
    cuts = {
        month.start_ms
        for place in (settings.site, *settings.site.other)
        if _charges(place)
        for month in _months(place, start_ms, end_ms)
    }
    return sorted(cut for cut in cuts if start_ms < cut < end_ms)


def monthly_peaks(engine: Store, settings: Settings, start_ms: int, end_ms: int) -> Peaks:
    """The months that a window touches, of sites that have hosts and a tariff that charges for demand.

    Nothing is read where no tariff does.

    Args:
        engine: the reader.
        settings: with the sites.
        start_ms: window start.
        end_ms: window end.
    """
    if not any(map(_charges, (settings.site, *settings.site.other))):
        return {}
    entities = queries.entities(engine).set_index("entity_id")
    gateways = entities.index[are_gateways(entities)]
    machines = entities[entities["family"].isin(["accelerator", "cpu", "host"])]
    sites = {host: prices.site_of(settings, str(host)) for host in machines["host"].unique()}
    until_ms = max(queries.accounted_until(engine).values(), default=0)
    found = {}
    for site in dict.fromkeys(sites.values()):
        if _charges(site.place):
            there = machines[[sites[host] == site for host in machines["host"]]]
            peaks = []
            for month in _months(site.place, start_ms, end_ms):
                joined = queries.assignments(engine, *month)
                metered = _metered(there, joined[~joined["deployment_id"].isin(gateways)])
                peaks.append(_peak(engine, site.place, month, metered, until_ms))
            found[site.key] = tuple(peaks)
    return found


def _charges(place: Place) -> bool:
    return any(version.demand_per_kw_month for version in place.tariff)


def _months(place: Place, start_ms: int, end_ms: int) -> list[Span]:
    """Calendar months of a site that a window touches, whole."""
    first = local(start_ms, place.zone).date().replace(day=1)
    starts = [instant_ms(first, MIDNIGHT, place.zone)]
    while starts[-1] < end_ms:
        first = (first + timedelta(days=31)).replace(day=1)
        starts.append(instant_ms(first, MIDNIGHT, place.zone))
    return [Span(*pair) for pair in pairwise(starts)]


def _metered(there: pd.DataFrame, joined: pd.DataFrame) -> pd.DataFrame:
    """Whose energy makes up that of a bill: cards, and CPU packages of hosts with cards or on which deployments ran."""
    cards = there[(there["family"] == "accelerator") & there["parent_key"].isna()]
    hosts = {*cards["host"], *there.loc[there.index.isin(joined["target_id"]) & (there["family"] == "host"), "key"]}
    return pd.concat([cards, there[(there["family"] == "cpu") & there["host"].isin(hosts)]])


def _peak(engine: Store, place: Place, month: Span, metered: pd.DataFrame, until_ms: int) -> MonthlyPeak:
    hours = Span(*(-(-at_ms // MS_PER_HOUR) * MS_PER_HOUR for at_ms in month))
    joules = energy_by_hour(engine, metered.index.tolist(), *hours)[0]
    joules = joules[np.isfinite(joules)]
    first_ms = queries.epoch_ms(metered["first_seen_at"]).min()
    known = Span(int(max(month.start_ms, first_ms)), min(month.end_ms, until_ms)) if len(joules) else Span(0, 0)
    return MonthlyPeak(
        name=f"{local(month.start_ms, place.zone):%Y-%m}",
        hours=hours,
        known_ratio=known.hours / month.hours,
        peak_kw=facility_kwh(float(joules.max()), place.pue_ratio) if len(joules) else None,
        kwh=facility_kwh(float(joules.sum()), place.pue_ratio),
    )
