"""The bill of a window, device by device and hour by hour, and who answers for it.

Quantities come from ``analytics.device_hours``, prices from the price book as it was at the beginning of each hour;
an hour's energy is taken for evenly spread where a tariff changes within it. Four lines make the bill: hardware,
electricity while active, electricity while idle, and overhead. A charge for the highest demand of a month is spread
over the energy of that month, and so a part of the price of electricity.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics import prices
from analytics.demand import Peaks, month_cuts, monthly_peaks
from analytics.device_hours import DeviceHours, device_hours, device_stretches
from analytics.formulas.commitment import HOURS_PER_MONTH
from analytics.formulas.energy import Quality
from analytics.formulas.local_time import MS_PER_HOUR, Span, local
from analytics.formulas.tariff import Tariff, pieces
from core.language import _
from core.settings import Settings
from core.texts import Text, text
from core.units import JOULES_PER_KWH
from storage.engine import Store

LINES = ("hardware_usd", "electricity_active_usd", "electricity_idle_usd", "overhead_usd")
ENERGIES = ("active_kwh", "idle_kwh")
NO_PRICE, NO_TARIFF, NO_ENERGY = _("no hardware price"), _("no electricity price"), _("no energy reading")

_SAID = (
    "device_id",
    "hour_ms",
    "there_ratio",
    "covered_ratio",
    "energy_joules",
    "active_joules",
    "idle_joules",
    "is_filled",
)

_BILLED = ("device_id", "there_ratio", "covered_ratio", *ENERGIES, *LINES, "reason", "is_estimated")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Key = Literal["site", "host", "vendor", "model", "name"]


@dataclass(frozen=True, slots=True)
class Ledger:
    """A priced window.

    rows: those of ``of.hours``, one for one: device_id, hour_ms, there_ratio, covered_ratio, active_kwh and idle_kwh at
        the meter (cooling included where the site has a PUE), demand_usd_per_kwh (what a demand charge adds to the
        price of electricity; 0 without one), the four ``LINES`` (USD; NaN: unknown), ``reason`` for an unknown one, and
        is_estimated.
    devices: those of ``of`` and the site of each.
    peaks: what demand charges are made from.
    sources: where prices and energy factors are from, in the order in which they were first used.
    """

    of: DeviceHours
    rows: pd.DataFrame
    devices: pd.DataFrame
    peaks: Peaks
    sources: tuple[Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What devices cost (USD) and used over a window. ``None``: unknown, and ``missing`` says of what and why."""

    hardware_usd: float | None
    electricity_active_usd: float | None
    electricity_idle_usd: float | None
    overhead_usd: float | None
    active_kwh: float | None
    idle_kwh: float | None
    covered_ratio: float
    quality: Quality
    missing: tuple[tuple[str, str], ...]

    @property
    def total_usd(self) -> float | None:
        """The four lines together."""
        lines = [getattr(self, line) for line in LINES]
        return None if None in lines else sum(lines)


class _Priced(NamedTuple):
    """What holds for a device from one change of prices to the next."""

    usd_per_hour: float
    electricity_on_top: bool
    reason: str
    is_estimated: bool
    sources: tuple[Text, ...]


class _Electricity(NamedTuple):
    """What holds at a site from one change of prices to the next, and the mean price of each of its hours."""

    price: prices.ElectricityPrice | None
    begin_ms: int
    usd_per_kwh: Floats  # NaN: unknown
    demand_usd_per_kwh: Floats  # on top of it
    sources: tuple[Text, ...]


def flat_edges(settings: Settings, start_ms: int, end_ms: int) -> list[int]:
    """Whole hours (Unix ms) from one to the next of which no price of any site changes, both ends among them."""
    changes = {*prices.price_cuts(settings, start_ms, end_ms), *month_cuts(settings, start_ms, end_ms)}
    cuts = [start_ms, *sorted(changes), end_ms]
    for span in map(Span, cuts, cuts[1:]):
        for place in (settings.site, *settings.site.other):
            price = prices.tariff_at(settings, prices.SiteFound("", place), span.start_ms)
            if price is not None and price.tariff is not None and len(price.tariff.bands) > 1:
                cuts = [*cuts, *(piece.span.start_ms for piece in pieces(price.tariff, span))]
    # An hour in which a price changes stands alone: it has the mean.
    hours = {edge for at_ms in cuts for edge in (at_ms // MS_PER_HOUR, -(-at_ms // MS_PER_HOUR))}
    return [hour * MS_PER_HOUR for hour in sorted(hours)]


def read_ledger(
    engine: Store,
    settings: Settings,
    edges_ms: Sequence[int],
    accounted: Mapping[int, int],
    *,
    by_state: bool = True,
) -> Ledger:
    """What devices did from one edge to the next (whole UTC hours, Unix ms), priced.

    Args:
        engine: the reader.
        settings: with prices.
        edges_ms: ascending; of several hours between two, sums are read (``flat_edges``).
        accounted: ``queries.accounted_until``.
        by_state: as for ``device_stretches``.
    """
    weight = settings.cost.output_weight_ratio
    return _read(engine, settings, device_stretches(engine, edges_ms, accounted, weight, by_state=by_state))


def hourly_ledger(engine: Store, settings: Settings, start_ms: int, end_ms: int, *, with_states: bool = True) -> Ledger:
    """The same hour by hour; ``with_states`` as for ``device_hours``."""
    weight = settings.cost.output_weight_ratio
    return _read(engine, settings, device_hours(engine, start_ms, end_ms, weight, with_states=with_states))


def _read(engine: Store, settings: Settings, of: DeviceHours) -> Ledger:
    return ledger(of, settings, monthly_peaks(engine, settings, of.start_ms, of.end_ms))


def ledger(of: DeviceHours, settings: Settings, peaks: Peaks) -> Ledger:
    """Put the prices of the settings on what devices did; ``peaks`` are ``demand.monthly_peaks`` of the window."""
    hours = of.hours
    said = {name: hours[name].to_numpy() for name in _SAID}
    edges = [of.start_ms, *prices.price_cuts(settings, of.start_ms, of.end_ms), of.end_ms]
    kinds, kind_of = _kinds(of.devices)
    sites = [prices.site_of(settings, str(kind["host"])) for kind in kinds]
    electricity = {
        (site.key, number): _electricity(settings, site, Span(*span), peaks)
        for site in dict.fromkeys(sites)
        for number, span in enumerate(pairwise(edges))
    }
    # Rows of one kind from one change of prices to the next are priced at once.
    of_kind = kind_of.to_numpy()[kind_of.index.get_indexer(pd.Index(hours["device_id"]))]
    pair = of_kind * len(edges) + np.searchsorted(edges, said["hour_ms"], side="right") - 1
    is_there = np.bincount(pair) > 0
    which = (np.cumsum(is_there) - 1)[pair]
    those = [divmod(one, len(edges)) for one in np.flatnonzero(is_there).tolist()]
    powers = [electricity[sites[kind].key, stretch] for kind, stretch in those]
    priced = [
        _price(settings, kinds[kind], edges[stretch], power)
        for (kind, stretch), power in zip(those, powers, strict=True)
    ]
    sources = dict.fromkeys(source for one in priced for source in one.sources)
    per_hour = np.array([one.usd_per_hour for one in priced], "float64")[which]
    pue = np.array([sites[kind].place.pue_ratio or 1.0 for kind, _ in those], "float64")[which]
    on_top = np.array([one.electricity_on_top for one in priced], "bool")[which]
    is_estimated = np.array([one.is_estimated for one in priced], "bool")[which]
    reasons = np.array([one.reason for one in priced], dtype=object)[which]
    tariff, demand = _by_hour(powers, which, said["hour_ms"])
    kwh = {name: said[f"{name}_joules"] / JOULES_PER_KWH * pue for name in ("active", "idle")}
    columns = {
        **{name: said[name] for name in ("device_id", "hour_ms", "there_ratio", "covered_ratio")},
        **{f"{name}_kwh": used for name, used in kwh.items()},
        "demand_usd_per_kwh": demand,
        "hardware_usd": per_hour * said["there_ratio"],
        **{f"electricity_{name}_usd": np.where(on_top, used * (tariff + demand), 0.0) for name, used in kwh.items()},
        "reason": pd.Series(_reasons(reasons, on_top, tariff, said["energy_joules"]), hours.index, dtype=object),
        "is_estimated": is_estimated | said["is_filled"] | (on_top & (demand > 0)),
    }
    rows = pd.DataFrame(columns, hours.index, copy=False)
    rows["overhead_usd"] = _shared_out(rows, of, settings) if settings.cost.overhead else 0.0
    for number in range(len(settings.cost.overhead)):
        sources[text(_("settings: {key}"), key=f"cost.overhead.{number}")] = None
    names = np.array([site.place.name for site in sites], dtype=object)
    return Ledger(of, rows, of.devices.assign(site=names[kind_of.loc[of.devices.index]]), peaks, tuple(sources))


def _by_hour(powers: Sequence[_Electricity], which: Integers, hour_ms: Integers) -> Iterator[Floats]:
    """Price of electricity and demand charge of hours (USD/kWh), each by the one of some that it is told to have."""
    begins = np.cumsum([0, *(len(power.usd_per_kwh) for power in powers)])[:-1]
    first = begins - np.array([power.begin_ms // MS_PER_HOUR for power in powers], "int64")
    at = first[which] + hour_ms // MS_PER_HOUR
    for name in ("usd_per_kwh", "demand_usd_per_kwh"):
        yield np.concatenate([np.empty(0), *(getattr(power, name) for power in powers)])[at]


def _kinds(devices: pd.DataFrame) -> tuple[list[dict[Hashable, Any]], pd.Series[int]]:
    """Devices that have the same price at any time, one for all of them; and the number of that one by device_id."""
    what, ordered = ["family", "host", "model", "host_parts"], devices.sort_index()
    return ordered.drop_duplicates(what)[what].to_dict("records"), ordered.groupby(what, sort=False).ngroup()


def _electricity(settings: Settings, site: prices.SiteFound, span: Span, peaks: Peaks) -> _Electricity:
    begin, end = span.start_ms // MS_PER_HOUR, -(-span.end_ms // MS_PER_HOUR)
    price = prices.tariff_at(settings, site, span.start_ms)
    by_hour, demand = np.full(end - begin, np.nan), np.zeros(end - begin)
    sources = [] if price is None else [price.source]
    if price is not None and price.tariff is not None:
        by_hour = _usd_per_kwh(price.tariff, begin * MS_PER_HOUR, end - begin)
    if price is not None and price.demand_usd_per_kw_month:
        for month in peaks[site.key]:
            usd_per_kwh = month.usd_per_kwh(price.demand_usd_per_kw_month)
            first, last = (max(at_ms // MS_PER_HOUR - begin, 0) for at_ms in month.hours)
            if usd_per_kwh is not None and len(demand[first:last]):
                demand[first:last] = usd_per_kwh
                said = _("{source}, demand charge: {peak} kW in the highest hour seen of {month}")
                sources.append(text(said, source=price.source, peak=month.peak_kw or 0.0, month=month.name))
    return _Electricity(price, begin * MS_PER_HOUR, by_hour, demand, tuple(sources))


def _price(settings: Settings, device: Mapping[Hashable, Any], at_ms: int, electricity: _Electricity) -> _Priced:
    """The device's own price with its part of the host's, and its electricity."""
    host, is_card = str(device["host"]), device["family"] == "accelerator"
    own = prices.hourly_price(settings, "accelerator", str(device["model"]), host, at_ms) if is_card else None
    around = prices.hourly_price(settings, "host", host, host, at_ms)
    known = [(price, part) for price, part in ((own, 1.0), (around, 1 / int(device["host_parts"]))) if price]
    usd = [np.nan if price.usd_per_hour is None else price.usd_per_hour * part for price, part in known]
    on_top = known[0][0].electricity_on_top if known else True
    reason = next((price.reason for price, _ in known if price.reason), "") if known else NO_PRICE
    tariff = electricity.price if on_top else None
    if not reason and tariff is not None:
        reason = tariff.reason
    return _Priced(
        usd_per_hour=sum(usd) if usd else np.nan,
        electricity_on_top=on_top,
        reason=reason,
        is_estimated=tariff is not None and tariff.quality is Quality.ESTIMATED,
        sources=(*(price.source for price, _ in known), *(electricity.sources if on_top else ())),
    )


def _usd_per_kwh(tariff: Tariff, begin_ms: int, hours: int) -> Floats:
    """Mean price of each hour from one on, weighted by the seconds that its bands hold."""
    mean = np.zeros(hours)
    for span, band in pieces(tariff, Span(begin_ms, begin_ms + hours * MS_PER_HOUR)):
        for number in range((span.start_ms - begin_ms) // MS_PER_HOUR, -(-(span.end_ms - begin_ms) // MS_PER_HOUR)):
            at_ms = begin_ms + number * MS_PER_HOUR
            inside = min(span.end_ms, at_ms + MS_PER_HOUR) - max(span.start_ms, at_ms)
            mean[number] += band.usd_per_kwh * inside / MS_PER_HOUR
    return mean


def _reasons(
    reasons: NDArray[np.object_], on_top: NDArray[np.bool_], tariff: Floats, joules: Floats
) -> NDArray[np.object_]:
    """Why a line is unknown: what the price book lacks first, then what the driver does."""
    for missing, reason in ((np.isnan(tariff), NO_TARIFF), (np.isnan(joules), NO_ENERGY)):
        lacking = np.flatnonzero(on_top & missing)
        reasons[lacking] = np.where(reasons[lacking] == "", reason, reasons[lacking])
    return reasons


def _overhead(settings: Settings, start_ms: int, end_ms: int) -> Floats:
    """Overhead (USD) of every hour of a window; NaN where a currency has no exchange rate."""
    edges = [start_ms, *prices.price_cuts(settings, start_ms, end_ms), end_ms]
    stretch = np.searchsorted(edges, np.arange(start_ms, end_ms, MS_PER_HOUR), side="right") - 1
    per_hour = np.zeros(len(edges) - 1)
    for number, at_ms in enumerate(edges[:-1]):
        day = local(at_ms, settings.site.zone).date()
        for one in settings.cost.overhead:
            if one.holds_on(day):
                usd = prices.to_currency(settings, one.per_month / HOURS_PER_MONTH, one.currency, "USD", at_ms).amount
                per_hour[number] += np.nan if usd is None else usd
    return per_hour[stretch]


def _shared_out(rows: pd.DataFrame, of: DeviceHours, settings: Settings) -> Floats:
    """Overhead of each stretch by what devices cost directly in it; alike where that is not known.

    An hour in which no device was there has nobody to carry it and is in no bill.
    """
    there, stretches = rows["there_ratio"].to_numpy(), len(of.edges_ms) - 1
    active, idle = (rows[name].fillna(0.0).to_numpy() for name in ("electricity_active_usd", "electricity_idle_usd"))
    direct = rows["hardware_usd"].to_numpy() + active + idle
    hours = (np.array(of.edges_ms, "int64") - of.start_ms) // MS_PER_HOUR
    begins = (rows["hour_ms"].to_numpy() - of.start_ms) // MS_PER_HOUR
    by = np.repeat(np.arange(stretches), np.diff(hours))[begins]
    weight = np.where((np.bincount(by, direct, stretches) > 0)[by], direct, there)
    ends = begins + np.ceil(there).astype("int64")
    by_hour = _overhead(settings, of.start_ms, of.end_ms)
    come = np.bincount(begins, minlength=len(by_hour) + 1) - np.bincount(ends, minlength=len(by_hour) + 1)
    carried = np.where(np.cumsum(come)[:-1] > 0, by_hour, 0.0)
    by_stretch = np.add.reduceat(carried, hours[:-1])
    return np.asarray(weight / np.bincount(by, weight, stretches)[by] * by_stretch[by])


def bill(of: Ledger) -> Bill:
    """The whole window."""
    return _bills(of.rows, np.ones(len(of.rows)), np.zeros(len(of.rows), "int64"), 1, of.devices)[0]


def bills(of: Ledger, key: Key) -> dict[str, Bill]:
    """A bill for each site, host, vendor, model or device."""
    group, names = pd.factorize(of.devices[key].reindex(of.rows["device_id"]).to_numpy(), sort=True)
    found = _bills(of.rows, np.ones(len(of.rows)), group, len(names), of.devices)
    return dict(zip(map(str, names), found, strict=True))


def deployment_bills(of: Ledger, rows: NDArray[np.bool_] | None = None) -> dict[int, Bill]:
    """A bill for each deployment, by the hours it held devices; ``IDLE_ID`` has what nobody held.

    ``rows`` tells which count, such as those of one site; ``None``: all.
    """
    held = of.of.shares if rows is None else of.of.shares[rows[of.of.shares["row"].to_numpy()]]
    group, numbers = pd.factorize(held["deployment_id"].to_numpy(), sort=True)
    found = _bills(of.rows, held["share"].to_numpy(), group, len(numbers), of.devices, held["row"].to_numpy())
    return dict(zip(map(int, numbers), found, strict=True))


def never_read(unread: NDArray[np.bool_], what: Integers) -> NDArray[np.bool_]:
    """Which rows are of something that is unread in all of its rows."""
    if not unread.any():
        return unread
    number, distinct = pd.factorize(what)
    return np.asarray(unread & (np.bincount(number, ~unread, len(distinct)) == 0)[number])


def claimed_bill(of: Ledger, rows: NDArray[np.integer[Any]], parts: Floats, lines: Collection[str]) -> Bill:
    """Parts (0 to 1) of some rows, of which other lines than those named cost nothing."""
    these = of.rows.iloc[rows].assign(**dict.fromkeys(set(LINES).difference(lines), 0.0))
    return _bills(these, parts, np.zeros(len(these), "int64"), 1, of.devices)[0]


def _bills(
    rows: pd.DataFrame,
    part: Floats,
    group: Integers,
    groups: int,
    devices: pd.DataFrame,
    at: Integers | slice = slice(None),
) -> list[Bill]:
    """Sum rows, or those at some positions, by their group, each counted by its part.

    Energy that was not seen is left out, and ``covered_ratio`` tells; of a device that was never read it is unknown.
    """

    def summed(amounts: Floats) -> list[float]:
        sums: list[float] = np.bincount(group, amounts, groups).tolist()
        return sums

    said = {name: rows[name].to_numpy()[at] for name in _BILLED}
    unread = np.isnan(said["active_kwh"])
    never = never_read(unread, group << 32 | said["device_id"])
    lines: dict[str, list[float | None]] = {}
    for name in (*ENERGIES, *LINES):
        amounts = said[name]
        if name not in ("hardware_usd", "overhead_usd"):
            amounts = np.where(unread & ~never, 0.0, amounts)
        lines[name] = [None if total != total else total for total in summed(part * amounts)]
    there = part * said["there_ratio"]
    covered, whole = summed(there * said["covered_ratio"]), summed(there)
    estimated = summed(said["is_estimated"].astype("float64"))
    missing: list[set[tuple[str, str]]] = [set() for _ in range(groups)]
    lacking = np.flatnonzero((said["reason"] != "") & ((said["reason"] != NO_ENERGY) | never))
    for one, device_id, reason in set(
        zip(*(of[lacking].tolist() for of in (group, said["device_id"], said["reason"])), strict=True)
    ):
        missing[one].add((_called(devices.loc[device_id]), str(reason)))
    return [
        Bill(
            **{name: every[one] for name, every in lines.items()},
            covered_ratio=covered[one] / whole[one] if whole[one] else 0.0,
            quality=Quality.MISSING if missing[one] else Quality.ESTIMATED if estimated[one] else Quality.DERIVED,
            missing=tuple(sorted(missing[one])),
        )
        for one in range(groups)
    ]


def _called(device: pd.Series[Any]) -> str:
    return f"{device['name']} on {device['host']}"
