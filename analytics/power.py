"""Energy of devices: by two readings that check each other, by hour and state, at the meter and as emissions; caps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.efficiency import energy_samples, window_energy
from analytics.formulas import energy as formulas
from analytics.formulas.carbon import operational_grams
from analytics.formulas.energy import Quality, worst
from analytics.formulas.local_time import MS_PER_HOUR, local
from analytics.formulas.sampling import usual_intervals
from analytics.formulas.unknown import per
from analytics.presence import stretches_there
from analytics.prices import GridFactor, SiteFound, grid_factor, site_of
from core.prices import Contract
from core.settings import Settings
from core.sites import matches
from storage import queries
from storage.accounts import HELD_STATES
from storage.engine import Store

WATTS_PER_MEGAWATT = 1_000_000
UNATTRIBUTED = "unattributed_joules"
PORTIONS = (*(f"{state}_joules" for state in HELD_STATES), UNATTRIBUTED)
"""What the energy of an hour is divided into."""


def checked_energy(
    engine: Store, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Energy per device over a window, or since it was first seen: the counter's, unless power samples contradict it.

    A counter is believed while its mean power is within ``formulas.SANE`` of the samples' (Zeus' sanity test).

    Args:
        engine: the reader.
        family: "accelerator" or "cpu".
        entity_ids: ``None`` means all.
        start_ms: window start.
        end_ms: window end.

    Returns:
        entity_id; energy_joules (NaN: unknown), energy_label, quality, coverage_ratio; mean_watts over the time that is
        covered; counter_joules and sampled_joules as observed; counter_over_samples (of their mean powers; NaN where
        one is unknown) and is_doubtful (the counter is not believed).
    """
    first_seen = queries.epoch_ms(queries.entities(engine, family).set_index("entity_id")["first_seen_at"])
    samples = energy_samples(engine, family, entity_ids, start_ms, end_ms)
    rows = [
        (entity_id, *_checked(one, family, max(start_ms, int(first_seen[entity_id])), end_ms))
        for entity_id, one in samples.groupby("entity_id", sort=True)
    ]
    numbers = ("energy_joules", "coverage_ratio", "mean_watts", "counter_joules", "sampled_joules")
    kinds = {
        "entity_id": "int64",
        **dict.fromkeys((*numbers, "counter_over_samples"), "float64"),
        "is_doubtful": "bool",
    }
    columns = ["entity_id", "energy_joules", "energy_label", "quality", *numbers[1:], "counter_over_samples"]
    return pd.DataFrame(rows, columns=[*columns, "is_doubtful"]).astype(kinds)


def _checked(samples: pd.DataFrame, family: str, start_ms: int, end_ms: int) -> tuple[Any, ...]:
    at_ms = queries.epoch_ms(samples["observed_at"]).to_numpy()
    before = max(int(np.searchsorted(at_ms, start_ms)) - 1, 0)  # the step that leads into the window counts
    inside = samples.iloc[before : int(np.searchsorted(at_ms, end_ms))]
    at = at_ms[before : before + len(inside)] / 1000
    totals, watts = (inside[name].to_numpy(dtype="float64") for name in ("energy_joules_total", "power_watts"))
    counted = formulas.from_counter(at, totals)
    sampled = formulas.from_power(at, watts, formulas.max_gap_seconds(usual_intervals(at)))
    by_counter, by_samples = (None if one is None else per(one.joules, one.seconds) for one in (counted, sampled))
    is_doubtful = not formulas.counter_is_sane(*(np.array([one], "float64") for one in (by_counter, by_samples)))[0]
    if is_doubtful or by_counter is None:
        inside = inside.assign(energy_joules_total=np.nan)
    found = window_energy(inside, family, start_ms, end_ms)
    return (
        found.joules,
        found.label,
        found.quality.value,
        found.coverage_ratio,
        by_samples if is_doubtful or by_counter is None else by_counter,
        None if by_counter is None or counted is None else counted.joules,
        None if by_samples is None or sampled is None else sampled.joules,
        per(by_counter, by_samples),
        is_doubtful,
    )


def hours_of(start_ms: int, end_ms: int) -> tuple[int, int]:
    """The whole UTC hours that a window touches and that are over; of a shorter one, the last that is over."""
    end = end_ms // MS_PER_HOUR * MS_PER_HOUR
    return min(start_ms // MS_PER_HOUR * MS_PER_HOUR, end - MS_PER_HOUR), end


def energy_by_hour(
    engine: Store, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Energy per device and hour, from accounts; a row for every hour from its first sign of life to its last.

    Args:
        engine: the reader.
        family: "accelerator", "cpu" or "host".
        entity_ids: ``None`` means all.
        start_ms: a whole UTC hour.
        end_ms: another, later.

    Returns:
        entity_id, bucket_at, there_seconds, energy_seconds (that readings cover), energy_joules (NaN: unknown),
        energy_source, and ``PORTIONS``, which add up to it; what lies in gaps, and all where states are not known,
        is unattributed.
    """
    edges = list(range(start_ms, end_ms + 1, MS_PER_HOUR))
    hours = queries.accounts(engine, family, entity_ids, edges)
    every = _there(engine, family, entity_ids, edges)
    kept = ["entity_id", "bucket_at", "energy_joules", "energy_seconds", "energy_source"]
    states = [name for name in PORTIONS if name in hours]
    found = every.merge(hours[[*kept, *states]], "left", ["entity_id", "bucket_at"])
    known = found["energy_joules"].notna()
    for name in PORTIONS[:-1]:
        found[name] = (found[name].fillna(0.0) if name in states else 0.0 * found["energy_joules"]).where(known)
    found[UNATTRIBUTED] = (found["energy_joules"] - found[list(PORTIONS[:-1])].sum(axis=1)).clip(lower=0.0)
    return found.assign(energy_seconds=found["energy_seconds"].fillna(0.0))


def _there(engine: Store, family: str, entity_ids: Sequence[int] | None, edges_ms: Sequence[int]) -> pd.DataFrame:
    """entity_id, bucket_at, there_seconds: the hours in which a device existed."""
    entities = queries.entities(engine, family).set_index("entity_id")
    ids = entities.index if entity_ids is None else entities.index[entities.index.isin(entity_ids)]
    found = stretches_there(entities, ids.tolist(), queries.accounted_until(engine), edges_ms)
    at, seconds = _instants(found["start_ms"].to_numpy()), found["there_ms"] / 1000
    return pd.DataFrame({"entity_id": found["entity_id"], "bucket_at": at, "there_seconds": seconds})


def incomplete_hours(hours: pd.DataFrame, end_ms: int) -> pd.Series[float]:
    """Share of device time (0 to 1) whose energy is known, of each hour in which that is not enough.

    Args:
        hours: as ``energy_by_hour`` gives them.
        end_ms: end of the last hour that is asked for.

    Returns:
        Indexed by ``bucket_at``, from the first hour in which a device was there; at 0 where none is any more.
    """
    sums = hours.groupby("bucket_at")[["energy_seconds", "there_seconds"]].sum()
    first_ms = int(queries.epoch_ms(hours["bucket_at"]).min()) if len(hours) else end_ms
    sums = sums.reindex(_steps(first_ms, end_ms, MS_PER_HOUR), fill_value=0.0)
    covered = (sums["energy_seconds"] / sums["there_seconds"]).fillna(0.0).clip(upper=1.0)
    return covered[covered < formulas.ENOUGH_COVERAGE]


def incomplete_steps(
    power: pd.DataFrame, column: str, first_seen_at: pd.Series[Any], start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """Steps in which fewer devices reported than were there, so that their sum is too low.

    Args:
        power: entity_id, bucket_at and the column.
        column: NaN where a device did not report.
        first_seen_at: by entity_id; those without any value in the window are not waited for.
        start_ms: window start.
        end_ms: window end.
        step_ms: from one ``bucket_at`` to the next.

    Returns:
        Indexed by ``bucket_at``: reporting and expected, numbers of devices.
    """
    known = power.dropna(subset=[column])
    steps = _steps(start_ms, end_ms, step_ms)
    begun = np.sort(queries.epoch_ms(first_seen_at[known["entity_id"].unique()]).to_numpy())
    found = pd.DataFrame(
        {
            "reporting": known.groupby("bucket_at")["entity_id"].nunique().reindex(steps, fill_value=0),
            "expected": np.searchsorted(begun, np.arange(start_ms, end_ms, step_ms), side="right"),
        },
        index=steps,
    )
    return found[found["reporting"] < found["expected"]]


def _steps(start_ms: int, end_ms: int, step_ms: int) -> pd.DatetimeIndex:
    return _instants(np.arange(start_ms, end_ms, step_ms))


def _instants(at_ms: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex((at_ms * 1000).view("M8[us]"), name="bucket_at").tz_localize("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEnergy:
    """What the devices of a site used. ``None``: unknown, or the settings do not say.

    kwh: at the devices; meter_kwh: with the site's PUE, and only where it has one.
    grams: operational emissions (CO2e) of the energy at the meter, without a PUE of that at the devices.
    quality, meter_quality, grams_quality: labels of the three. A PUE is of a year, so for a window it is an estimate.
    """

    name: str
    kwh: float | None
    quality: Quality
    pue_ratio: float | None
    meter_kwh: float | None
    meter_quality: Quality
    factor: GridFactor | None
    grams: float | None
    grams_quality: Quality


def energy_by_site(settings: Settings, devices: pd.DataFrame) -> list[SiteEnergy]:
    """Energy of each site, in the order in which sites first appear.

    Args:
        settings: with the sites.
        devices: host, energy_joules (NaN: unknown), quality; unknown ones are left out of the sum.
    """
    found = [site_of(settings, host) for host in devices["host"]]
    sites: Mapping[str, SiteFound] = {site.key: site for site in found}
    keys = np.array([site.key for site in found], dtype=object)
    return [_of_site(site, devices[keys == key]) for key, site in sites.items()]


def _of_site(site: SiteFound, devices: pd.DataFrame) -> SiteEnergy:
    known = devices.dropna(subset=["energy_joules"])
    joules = float(known["energy_joules"].sum()) if len(known) else None
    quality = worst(*map(Quality, known["quality"])) if len(known) else Quality.MISSING
    pue, factor = site.place.pue_ratio, grid_factor(site)
    kwh = None if joules is None else formulas.facility_kwh(joules, None)
    meter_kwh = None if joules is None or pue is None else formulas.facility_kwh(joules, pue)
    grams = operational_grams(kwh if pue is None else meter_kwh, None if factor is None else factor.grams_per_kwh)
    by_pue = quality if pue is None else worst(quality, Quality.ESTIMATED)
    return SiteEnergy(
        name=site.place.name,
        kwh=kwh,
        quality=quality,
        pue_ratio=pue,
        meter_kwh=meter_kwh,
        meter_quality=Quality.MISSING if meter_kwh is None else by_pue,
        factor=factor,
        grams=grams,
        grams_quality=(
            Quality.MISSING if factor is None or grams is None else worst(Quality.DERIVED, by_pue, factor.quality)
        ),
    )


def contracted_watts(settings: Settings, hosts: Sequence[str], at_ms: int) -> dict[str, float]:
    """Power (W) that contracts promise at an instant, by their names: those that cover every one of the hosts.

    A contract of megawatts is of all that stands behind the meter, so power of parts of it may only be held against it
    as the least that is drawn.
    """
    day = local(at_ms, settings.site.zone).date()
    return {
        one.name: _megawatts(one, day) * WATTS_PER_MEGAWATT
        for one in settings.cost.contract
        if one.unit == "megawatts" and one.begins <= day < one.ends and _covers(one, hosts)
    }


def _megawatts(contract: Contract, day: date) -> float:
    """What is there of it on a day: all, or the tranches that have begun."""
    begun = [one.amount for one in contract.tranche if one.begins <= day]
    return sum(begun) if contract.tranche else contract.amount


def _covers(contract: Contract, hosts: Sequence[str]) -> bool:
    return not contract.hosts or all(any(matches(pattern, host) for pattern in contract.hosts) for host in hosts)
