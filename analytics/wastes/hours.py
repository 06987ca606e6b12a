"""Hours of devices as the tests look at them: priced, in which state and for how long, and at what time of day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analytics import prices
from analytics.device_hours import IDLE_ID, STATE_SECONDS, DeviceHours
from analytics.formulas.energy import LEAST_COVERAGE
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.formulas.states import State
from analytics.formulas.wastes import LONG_IDLE_HOURS
from analytics.ledger import Ledger, ledger
from analytics.wastes.waste import Integers, Stretch
from core.prices import OwnedPrice
from core.settings import Settings
from storage import queries
from storage.engine import Store


@dataclass(frozen=True, slots=True)
class Hours:
    """A window, row by row of its ledger.

    of: the ledger.
    cash: the same where what was spent on own hardware costs nothing any more.
    settings: the price book of both.
    rows: as in the ledger, and used_ratio (of the time seen; NaN where less than half of the hour was), idle_as
        (``parked`` or ``free`` where nothing worked in it, else empty) and idle_hours (how many on end, those before
        the window included), host, device_model, is_card, local_day, local_hour, and valley_usd_per_kwh (lowest price
        of the tariff that holds, and its demand charge; NaN without one).
    shares: row, device_id, deployment_id, share; who held what, without what nobody did.
    models: name of the model of each deployment.
    """

    of: Ledger
    cash: Ledger
    settings: Settings
    rows: pd.DataFrame
    shares: pd.DataFrame
    models: pd.Series[str]


def read_states(engine: Store, of: DeviceHours) -> pd.DataFrame:
    """Seconds in each state by device_id and hour_ms, from as long before a window as an idle device takes to count."""
    edges = range(of.start_ms - LONG_IDLE_HOURS * MS_PER_HOUR, of.start_ms + 1, MS_PER_HOUR)
    before = queries.accounts(engine, "accelerator", None, edges)
    before = before.assign(device_id=before["entity_id"], hour_ms=queries.epoch_ms(before["bucket_at"]))
    columns = ["device_id", "hour_ms", *STATE_SECONDS]
    return pd.concat([before[columns], of.hours[columns]], ignore_index=True)


def hours(of: Ledger, states: pd.DataFrame, models: pd.Series[str], settings: Settings) -> Hours:
    """Join what the tests need.

    Args:
        of: priced by these settings.
        states: as ``read_states`` gives them.
        models: by deployment.
        settings: with the price book.
    """
    devices = of.devices.reindex(of.rows["device_id"])
    rows = of.rows.merge(_idle(states), "left", ["device_id", "hour_ms"])
    rows["idle_as"] = rows["idle_as"].fillna("")
    rows["host"], rows["device_model"] = devices["host"].to_numpy(), devices["model"].to_numpy()
    rows["is_card"] = (devices["family"] == "accelerator").to_numpy()
    rows = _with_place(rows, of, settings)
    shares = of.of.shares[of.of.shares["deployment_id"] != IDLE_ID].reset_index(drop=True)
    cash = ledger(of.of, _without_what_is_spent(settings), of.peaks)
    return Hours(of, cash, settings, rows, shares[["row", "device_id", "deployment_id", "share"]], models)


def _idle(states: pd.DataFrame) -> pd.DataFrame:
    """What share of each hour a device worked, and how long it has not."""
    states = states.sort_values(["device_id", "hour_ms"], ignore_index=True)
    active, parked, free = (states[name].fillna(0.0) for name in STATE_SECONDS)
    seen = active + parked + free
    enough = seen >= LEAST_COVERAGE * MS_PER_HOUR / 1000
    idle_as = np.where(free > parked, State.FREE.value, State.PARKED.value)
    states["used_ratio"] = (active / seen).where(enough)
    states["idle_as"] = np.where(enough & (active == 0), idle_as, "")
    states["idle_hours"] = stretch_lengths(states, states["idle_as"])
    return states.drop(columns=list(STATE_SECONDS))


def stretch_lengths(rows: pd.DataFrame, same: pd.Series[Any] | None = None) -> Integers:
    """How many hours the stretch has that each row is part of; rows are sorted by device and hour.

    Args:
        rows: with device_id and hour_ms.
        same: what must not change within a stretch.
    """
    number = _stretch_numbers(rows, same)
    return number.map(number.value_counts()).to_numpy(dtype="int64")


def _stretch_numbers(rows: pd.DataFrame, same: pd.Series[Any] | None = None) -> pd.Series[int]:
    breaks = (rows["device_id"].diff() != 0) | (rows["hour_ms"].diff() != MS_PER_HOUR)
    if same is not None:
        breaks |= same != same.shift()
    return breaks.astype("int64").cumsum()


def stretches(rows: pd.DataFrame) -> tuple[Stretch, ...]:
    """Hours of devices as stretches of time."""
    rows = rows.sort_values(["device_id", "hour_ms"])
    device, hour_ms = rows["device_id"].to_numpy(), rows["hour_ms"].to_numpy()
    ends = (np.diff(device) != 0) | (np.diff(hour_ms) != MS_PER_HOUR)
    first, last = np.flatnonzero(np.append(True, ends)), np.flatnonzero(np.append(ends, True))
    return tuple(map(Stretch, device[first].tolist(), hour_ms[first].tolist(), (hour_ms[last] + MS_PER_HOUR).tolist()))


def _with_place(rows: pd.DataFrame, of: Ledger, settings: Settings) -> pd.DataFrame:
    """Local time at each device's site, and the lowest price that electricity has there."""
    at = pd.to_datetime(rows["hour_ms"], unit="ms", utc=True)
    local_day, local_hour, valley = (np.full(len(rows), np.nan) for _ in range(3))
    edges = [of.of.start_ms, *prices.price_cuts(settings, of.of.start_ms, of.of.end_ms)]
    stretch = np.searchsorted(edges, rows["hour_ms"], side="right") - 1
    site_of_host = {host: prices.site_of(settings, str(host)) for host in rows["host"].unique()}
    sites = {site.key: site for site in site_of_host.values()}
    keys = rows["host"].map({host: site.key for host, site in site_of_host.items()})
    for key, indices in rows.groupby(keys).indices.items():
        site = sites[str(key)]
        there = at.iloc[indices].dt.tz_convert(site.place.zone)
        local_day[indices] = there.dt.tz_localize(None).dt.floor("D").astype("int64")
        local_hour[indices] = there.dt.hour
        lowest = np.array([_lowest_usd_per_kwh(settings, site, edge) for edge in edges])
        valley[indices] = lowest[stretch[indices]]
    return rows.assign(
        local_day=local_day, local_hour=local_hour, valley_usd_per_kwh=valley + rows["demand_usd_per_kwh"]
    )


def _lowest_usd_per_kwh(settings: Settings, site: prices.SiteFound, at_ms: int) -> float:
    price = prices.tariff_at(settings, site, at_ms)
    return np.nan if price is None or price.tariff is None else min(band.usd_per_kwh for band in price.tariff.bands)


def _without_what_is_spent(settings: Settings) -> Settings:
    """The same prices, but own hardware is there already: only its electricity is paid from now on."""
    spent = dict.fromkeys(("capex", "residual", "hosting_per_kw_month"), 0.0)
    hardware = tuple(
        price.model_copy(update=spent) if isinstance(price, OwnedPrice) else price for price in settings.cost.hardware
    )
    return settings.model_copy(update={"cost": settings.cost.model_copy(update={"hardware": hardware})})
