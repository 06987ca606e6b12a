"""Energy of devices: by two readings that check each other, by hour and state, at the meter and as emissions; caps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.efficiency import LABELS
from analytics.formulas import energy as formulas
from analytics.formulas.carbon import operational_grams
from analytics.formulas.energy import Quality, worst
from analytics.formulas.local_time import MS_PER_HOUR, local
from analytics.presence import stretches_there, there_ms
from analytics.prices import GridFactor, SiteFound, grid_factor, site_of
from core.prices import Contract
from core.settings import Settings
from core.sites import matches
from storage import hourly_energy, meters, queries
from storage.accounts import HELD_STATES
from storage.engine import Store
from storage.steps import means

WATTS_PER_MEGAWATT = 1_000_000
UNATTRIBUTED = "unattributed_joules"
PORTIONS = (*(f"{state}_joules" for state in HELD_STATES), UNATTRIBUTED)
"""What the energy of an hour is divided into."""
_ACCOUNTED = ["energy_joules", "energy_seconds", *PORTIONS[:-1]]


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
    first_seen_ms = _first_seen_ms(engine, family, entity_ids)
    with engine.connect() as connection:
        found = meters.read(connection, family, first_seen_ms.index.tolist(), start_ms, end_ms)
    window_seconds = (end_ms - np.maximum(first_seen_ms.reindex(found.entity_ids).to_numpy(), start_ms)) / 1000
    counted_watts = found.counted_joules / found.counted_seconds
    sampled_watts = found.sampled_joules / found.sampled_seconds
    is_sane = formulas.counter_is_sane(counted_watts, sampled_watts)
    by_counter = np.isfinite(counted_watts) & is_sane
    observed, seconds, mean_watts = (
        np.where(by_counter, *both)
        for both in (
            (found.counted_joules, found.sampled_joules),
            (found.counted_seconds, found.sampled_seconds),
            (counted_watts, sampled_watts),
        )
    )
    joules, coverage, is_filled = formulas.stands_for(observed, seconds, found.interval_seconds, window_seconds)
    is_unknown = np.isnan(joules)
    return pd.DataFrame(
        {
            "entity_id": found.entity_ids,
            "energy_joules": joules,
            "energy_label": np.where(is_unknown, "missing", np.where(by_counter, *LABELS[family])),
            "quality": np.select(
                (is_unknown, is_filled, by_counter),
                (Quality.MISSING.value, Quality.ESTIMATED.value, Quality.MEASURED.value),
                Quality.DERIVED.value,
            ),
            "coverage_ratio": coverage,
            "mean_watts": mean_watts,
            "counter_joules": found.counted_joules,
            "sampled_joules": found.sampled_joules,
            "counter_over_samples": counted_watts / np.where(sampled_watts > 0, sampled_watts, np.nan),
            "is_doubtful": ~is_sane,
        }
    )


def hours_of(start_ms: int, end_ms: int) -> tuple[int, int]:
    """The whole UTC hours that a window touches and that are over; of a shorter one, the last that is over."""
    end = end_ms // MS_PER_HOUR * MS_PER_HOUR
    return min(start_ms // MS_PER_HOUR * MS_PER_HOUR, end - MS_PER_HOUR), end


def energy_by_hour(
    engine: Store, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Energy of all devices together by hour, from accounts; a row for every hour in which one of them was there.

    Args:
        engine: the reader.
        family: "accelerator", "cpu" or "host".
        entity_ids: ``None`` means all.
        start_ms: a whole UTC hour.
        end_ms: another, later.

    Returns:
        bucket_at, there_seconds (of all devices), energy_seconds (that readings cover), energy_joules (NaN: unknown),
        and ``PORTIONS``, which add up to it; what lies in gaps, and all where states are not known, is unattributed.
    """
    edges = range(start_ms, end_ms + 1, MS_PER_HOUR)
    first_seen_ms = _first_seen_ms(engine, family, entity_ids)
    there = there_ms(first_seen_ms, queries.accounted_until(engine, family), edges).sum(axis=0)
    hours = np.flatnonzero(there)
    figures = hourly_energy.energy_by_hour(engine, first_seen_ms.index.tolist(), start_ms, end_ms)[:, hours]
    found = _by_state(pd.DataFrame(dict(zip(_ACCOUNTED, figures, strict=True))))
    return found.assign(there_seconds=there[hours] / 1000, bucket_at=_instants(start_ms + hours * MS_PER_HOUR))


def energy_by_device(
    engine: Store, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """The same of all hours together by device; a row for each that was there.

    Returns:
        entity_id and all columns of ``energy_by_hour`` but its first.
    """
    edges = (start_ms, end_ms)
    first_seen_ms = _first_seen_ms(engine, family, entity_ids)
    stretches = stretches_there(first_seen_ms, queries.accounted_until(engine, family), edges)
    there = stretches.set_index("entity_id")["there_ms"] / 1000
    sums = queries.accounts(engine, family, entity_ids, edges, _ACCOUNTED).set_index("entity_id")
    return _by_state(sums.reindex(there.index, columns=_ACCOUNTED)).assign(there_seconds=there).reset_index()


def _by_state(sums: pd.DataFrame) -> pd.DataFrame:
    """Sums of accounts with what is of no state; a state of which they say nothing has no part of what is known."""
    known, states = sums["energy_joules"].notna(), list(PORTIONS[:-1])
    parts = {name: sums[name].astype("float64").fillna(0.0).where(known) for name in states}
    found = sums.assign(energy_seconds=sums["energy_seconds"].fillna(0.0), **parts)
    found[UNATTRIBUTED] = (found["energy_joules"] - found[states].sum(axis=1)).clip(lower=0.0)
    return found


def _first_seen_ms(engine: Store, family: str, entity_ids: Sequence[int] | None) -> pd.Series[int]:
    """``queries.first_seen_ms`` of the entities that are asked for."""
    every = queries.first_seen_ms(engine, family)
    return every if entity_ids is None else every[every.index.isin(entity_ids)]


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


@dataclass(frozen=True, slots=True)
class Course:
    """Power of groups over time (W), a row per group and a column per step; NaN where nobody reported.

    ``reporting``: how many devices of each group did; ``devices``: those that reported in any step.
    """

    steps: pd.DatetimeIndex
    watts: NDArray[np.float64]
    reporting: NDArray[np.int64]
    devices: frozenset[int]

    def parts(self, names: Sequence[str], column: str) -> pd.DataFrame:
        """What is known, as rows: ``bucket_at``, ``series`` (the group's name) and the power, in ``column``."""
        step, group = np.nonzero(np.isfinite(self.watts.T))
        series = pd.Series(np.asarray(names, dtype="object")[group], dtype="str")
        return pd.DataFrame({"bucket_at": self.steps[step], "series": series, column: self.watts[group, step]})


def course(
    engine: Store,
    family: str,
    metric: str,
    groups: Sequence[Sequence[int]],
    start_ms: int,
    end_ms: int,
    step_ms: int,
    read: Callable[[Sequence[int], int, int], NDArray[np.float64]] | None = None,
) -> Course:
    """Mean power of each step, summed over the devices of each group.

    Of steps of whole UTC hours it is their energy by the accounts over the time that this covers; of shorter steps, and
    where no account is made yet, the mean of the samples.

    Args:
        engine: the reader.
        family: "accelerator", "cpu" or "host".
        metric: of its power.
        groups: entity ids; an entity is in one of them.
        start_ms: window start.
        end_ms: window end.
        step_ms: of each step.
        read: gives ``steps.means`` of entities from one instant to another, where it is kept.
    """
    of_samples = read or partial(means, engine, family, metric, step_ms=step_ms)
    if not in_hours(start_ms, step_ms):
        return _sampled(of_samples, groups, start_ms, end_ms, step_ms)
    ids = [entity_id for group in groups for entity_id in group]
    until = queries.accounted_until(engine, family)
    until_ms = min(max((until.get(entity_id, start_ms) for entity_id in ids), default=start_ms), end_ms)
    accounted_ms = start_ms + max(until_ms - start_ms, 0) // step_ms * step_ms
    watts, reporting = hourly_energy.mean_power(engine, groups, start_ms, accounted_ms, step_ms)
    rest = _sampled(of_samples, groups, accounted_ms, end_ms, step_ms)
    return Course(
        _steps(start_ms, end_ms, step_ms),
        np.concatenate((watts, rest.watts), axis=1),
        np.concatenate((reporting, rest.reporting), axis=1),
        rest.devices | hourly_energy.metered(engine, ids, start_ms, accounted_ms),
    )


def in_hours(start_ms: int, step_ms: int) -> bool:
    """Whether steps from an instant on are made of whole UTC hours, and thus of accounts."""
    return start_ms % MS_PER_HOUR == step_ms % MS_PER_HOUR == 0


def _sampled(
    read: Callable[[Sequence[int], int, int], NDArray[np.float64]],
    groups: Sequence[Sequence[int]],
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> Course:
    ids = np.array([entity_id for group in groups for entity_id in group], dtype="int64")
    found = read(ids.tolist(), start_ms, end_ms)
    known = np.isfinite(found)
    ends = np.cumsum([len(group) for group in groups])
    rows = [slice(end - len(group), end) for group, end in zip(groups, ends, strict=True)]
    reporting = np.array([known[group].sum(axis=0) for group in rows], "int64").reshape(len(groups), found.shape[1])
    sums = np.array([np.nansum(found[group], axis=0) for group in rows]).reshape(reporting.shape)
    devices = frozenset(ids[known.any(axis=1)].tolist())
    steps = _steps(start_ms, end_ms, step_ms)
    return Course(steps, np.where(reporting > 0, sums, np.nan), reporting, devices)


def incomplete_steps(found: Course, first_seen_at: pd.Series[Any]) -> pd.DataFrame:
    """Steps in which fewer devices reported than were there, so that their sum is too low.

    Args:
        found: of a window.
        first_seen_at: by entity_id; those without any value in the window are not waited for.

    Returns:
        Indexed by ``bucket_at``: reporting and expected, numbers of devices.
    """
    begun = np.sort(queries.epoch_ms(first_seen_at.loc[list(found.devices)]).to_numpy())
    expected = np.searchsorted(begun, queries.epoch_ms(found.steps.to_series()).to_numpy(), side="right")
    frame = pd.DataFrame({"reporting": found.reporting.sum(axis=0), "expected": expected}, index=found.steps)
    return frame[frame["reporting"] < frame["expected"]]


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
    hosts = {host: site_of(settings, host) for host in devices["host"].unique()}
    sites: Mapping[str, SiteFound] = {site.key: site for site in hosts.values()}
    keys = devices["host"].map({host: site.key for host, site in hosts.items()})
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
