"""Everything that pages read, cached. Arguments are plain and rounded, so that keys repeat between viewers.

``NOW_TTL`` bounds the age of what is shown as current; ``WINDOW_TTL`` that of finished steps, which
only late data can change. N open tabs cost one query.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from analytics import (
    capacity,
    commitments,
    compare,
    costs,
    costs_of_hours,
    efficiency,
    power,
    what_if,
)
from analytics import latency as latencies
from analytics import ledger as ledgers
from analytics.capacity import Measured as Throughput
from analytics.commitments import Use
from analytics.compare import Point
from analytics.costs import DeploymentCost, Term
from analytics.formulas.local_time import Span
from analytics.ledger import Bill, Key, Ledger
from analytics.what_if import Measured
from core.language import say
from pages.shared.store import open_store, settings
from storage import queries, steps
from storage.spool import Spool

NOW_TTL = 5.0  # seconds
WINDOW_TTL = 300.0
PRESENT_MS = 3_600_000
STEP_TTL = 3_600.0  # of steps on the clock's grid, many of which make one answer
P = ParamSpec("P")
T = TypeVar("T")


def cached(ttl_seconds: float, most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keeps so many answers for so long; a tuple counts as its text, since number by number takes 3 ms of 1,000."""
    return st.cache_data(ttl=ttl_seconds, max_entries=most, show_spinner=False, hash_funcs={tuple: repr})


def now_ms(at_ms: float | None = None) -> int:
    """The time (Unix ms), by default that of the clock, rounded down to whole ``NOW_TTL``."""
    return int((time.time() * 1000 if at_ms is None else at_ms) // (NOW_TTL * 1000) * NOW_TTL * 1000)


@cached(NOW_TTL, 16)
def entities(family: str | None = None) -> pd.DataFrame:
    """``queries.entities``."""
    return queries.entities(open_store().engine, family)


@cached(NOW_TTL, 16)
def latest(family: str) -> pd.DataFrame:
    """``queries.latest``: the newest sample of each entity, however old."""
    return queries.latest(open_store().engine, family)


@cached(NOW_TTL, 16)
def latest_known(family: str, metrics: tuple[str, ...], since_ms: int) -> pd.DataFrame:
    """``queries.latest_known``: for metrics that are read now and then."""
    return queries.latest_known(open_store().engine, family, metrics, since_ms)


@cached(NOW_TTL, 4)
def newest_sample_at_ms() -> int | None:
    """When anything was last stored."""
    return queries.newest_sample_at_ms(open_store().engine)


def silent_ms(at_ms: int) -> float:
    """How long nothing has been stored (ms); infinite in an empty store."""
    newest = newest_sample_at_ms()
    return math.inf if newest is None else max(at_ms - newest, 0)


@cached(NOW_TTL, 4)
def facts() -> dict[str, str]:
    """What the store says of itself."""
    return queries.facts(open_store().engine)


@dataclass(frozen=True, slots=True)
class Spooled:
    """Batches that wait on disk for the database, and their size (B)."""

    waiting: int
    bytes: int


@cached(NOW_TTL, 2)
def spool() -> Spooled:
    """What lies in the daemon's spool on this machine; looking at it changes nothing."""
    storage = settings().storage
    found = Spool(storage.spool, max_bytes=storage.spool_max_bytes)
    return Spooled(found.waiting, found.bytes)


@cached(NOW_TTL, 8)
def health(since_ms: int) -> pd.DataFrame:
    """``queries.health``."""
    return queries.health(open_store().engine, since_ms)


def recent_health() -> pd.DataFrame:
    """``queries.health`` of the last hour: what sources do at present."""
    return health(now_ms() - PRESENT_MS)


@cached(NOW_TTL, 4)
def accelerator_states(at_ms: int, stale_after_ms: int) -> pd.DataFrame:
    """``efficiency.accelerator_states``."""
    return efficiency.accelerator_states(open_store().engine, at_ms, stale_after_ms=stale_after_ms)


@cached(NOW_TTL, 64)
def device_processes(entity_id: int) -> pd.DataFrame:
    """``queries.device_processes``."""
    return queries.device_processes(open_store().engine, entity_id)


@cached(NOW_TTL, 4)
def process_names() -> pd.DataFrame:
    """``queries.process_names``, of all devices."""
    return queries.process_names(open_store().engine)


@cached(NOW_TTL, 16)
def events(start_ms: int, end_ms: int) -> pd.DataFrame:
    """``queries.events``, newest first."""
    return queries.events(open_store().engine, start_ms, end_ms)


@cached(NOW_TTL, 16)
def assignments(start_ms: int, end_ms: int) -> pd.DataFrame:
    """``queries.assignments``."""
    return queries.assignments(open_store().engine, start_ms, end_ms)


@cached(WINDOW_TTL, 128)
def series(
    family: str, metrics: tuple[str, ...], entity_ids: tuple[int, ...] | None, start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """``queries.read``: means (and ``_min``, ``_max``) of gauges, increases of counters, per entity and step."""
    return queries.read(open_store().engine, family, metrics, entity_ids, start_ms, end_ms, step_ms)


def _means(
    family: str, metric: str, entity_ids: Sequence[int], start_ms: int, end_ms: int, step_ms: int
) -> NDArray[np.float64]:
    """``steps.means``."""
    return _means_of(family, (metric,), entity_ids, start_ms, end_ms, step_ms)[0]


def _means_of(
    family: str, metrics: tuple[str, ...], entity_ids: Sequence[int], start_ms: int, end_ms: int, step_ms: int
) -> list[NDArray[np.float64]]:
    """``steps.means_of``; read once for the whole family, so that a filter asks for nothing anew."""
    every, found = _means_of_all(family, metrics, start_ms, end_ms, step_ms)
    at = every.get_indexer(pd.Index(entity_ids))
    return [np.where(at[:, None] >= 0, found[metric][at], np.nan) for metric in metrics]  # what appeared since: unknown


@st.cache_resource(ttl=WINDOW_TTL, max_entries=16, show_spinner=False)  # as ``_ledger``
def _means_of_all(
    family: str, metrics: tuple[str, ...], start_ms: int, end_ms: int, step_ms: int
) -> tuple[pd.Index[int], dict[str, NDArray[np.float64]]]:
    ids = pd.Index(entities(family)["entity_id"])
    return ids, steps.means_of(open_store().engine, family, metrics, ids.tolist(), start_ms, end_ms, step_ms)


@cached(WINDOW_TTL, 32)
def spread(
    family: str, metric: str, entity_ids: tuple[int, ...], start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """Mean, ``_min`` and ``_max`` of a gauge over all entities that tell it, per step, as ``timeseries.band`` takes."""
    found = _means(family, metric, entity_ids, start_ms, end_ms, step_ms)
    some = np.flatnonzero((~np.isnan(found)).any(axis=0))
    known = found[:, some]
    return pd.DataFrame(
        {
            "bucket_at": pd.to_datetime(start_ms + some * step_ms, unit="ms", utc=True),
            metric: np.nanmean(known, axis=0),
            f"{metric}_min": np.nanmin(known, axis=0),
            f"{metric}_max": np.nanmax(known, axis=0),
        }
    )


@cached(WINDOW_TTL, 32)
def highest(
    family: str, metrics: tuple[str, ...], entity_ids: tuple[int, ...], start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """The highest mean of several gauges, read at once, over all entities: by bucket_at, a column of each."""
    found = _means_of(family, metrics, entity_ids, start_ms, end_ms, step_ms)
    columns = {metric: np.fmax.reduce(one, axis=0, initial=np.nan) for metric, one in zip(metrics, found, strict=True)}
    at = pd.to_datetime(range(start_ms, end_ms, step_ms), unit="ms", utc=True).rename("bucket_at")
    return pd.DataFrame(columns, at).dropna(how="all")


@cached(WINDOW_TTL, 32)
def seen(family: str, start_ms: int, end_ms: int) -> set[int]:
    """``queries.seen``: entities sampled in a window."""
    return queries.seen(open_store().engine, family, start_ms, end_ms)


@cached(WINDOW_TTL, 128)
def rates(
    family: str, counters: tuple[str, ...], entity_ids: tuple[int, ...] | None, start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """Counters as rates: ``x_total`` becomes ``x_per_second``, per entity and step.

    A counter that is not read in every step grew during all the time since it was last read.
    """
    frame = queries.read(open_store().engine, family, counters, entity_ids, start_ms, end_ms, step_ms)
    for name in counters:
        known = frame.dropna(subset=[name])
        elapsed = known.groupby("entity_id")["bucket_at"].diff().dt.total_seconds()
        usual = elapsed.groupby(known["entity_id"]).transform("median").fillna(step_ms / 1000)
        frame[f"{name.removesuffix('_total')}_per_second"] = known[name] / elapsed.fillna(usual)
    return frame.drop(columns=list(counters))


@cached(WINDOW_TTL, 64)
def raw(
    family: str, metrics: tuple[str, ...], entity_ids: tuple[int, ...] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """``queries.raw``: for states; keep the window short."""
    return queries.raw(open_store().engine, family, metrics, entity_ids, start_ms, end_ms)


@cached(WINDOW_TTL, 64)
def increases(
    family: str, metrics: tuple[str, ...], entity_ids: tuple[int, ...] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """``queries.increases``: of counters over the whole window."""
    return queries.increases(open_store().engine, family, metrics, entity_ids, start_ms, end_ms)


@cached(WINDOW_TTL, 16)
def checked_energy(family: str, start_ms: int, end_ms: int) -> pd.DataFrame:
    """``power.checked_energy`` of all devices of a family."""
    return power.checked_energy(open_store().engine, family, None, start_ms, end_ms)


@cached(WINDOW_TTL, 32)
def energy_by_hour(family: str, entity_ids: tuple[int, ...], start_ms: int, end_ms: int) -> pd.DataFrame:
    """``power.energy_by_hour``: of whole UTC hours."""
    return power.energy_by_hour(open_store().engine, family, entity_ids, start_ms, end_ms)


@cached(WINDOW_TTL, 32)
def energy_by_device(family: str, start_ms: int, end_ms: int) -> pd.DataFrame:
    """``power.energy_by_device`` of all devices of a family: of whole UTC hours."""
    return power.energy_by_device(open_store().engine, family, None, start_ms, end_ms)


@cached(WINDOW_TTL, 64)
def power_course(
    family: str, metric: str, groups: tuple[tuple[int, ...], ...], start_ms: int, end_ms: int, step_ms: int
) -> power.Course:
    """``power.course``: of groups of entities."""
    read = partial(_means, family, metric, step_ms=step_ms)
    return power.course(open_store().engine, family, metric, groups, start_ms, end_ms, step_ms, read)


@cached(WINDOW_TTL, 32)
def extremes(family: str, metric: str, start_ms: int, end_ms: int) -> pd.DataFrame:
    """``queries.extremes`` of all entities of a family: what tells which need a closer look."""
    return queries.extremes(open_store().engine, family, metric, None, start_ms, end_ms)


@cached(WINDOW_TTL, 16)
def histograms(entity_ids: tuple[int, ...], kinds: tuple[str, ...], start_ms: int, end_ms: int) -> pd.DataFrame:
    """``queries.latency``: bucket increments of a whole window per deployment and kind."""
    return queries.latency(open_store().engine, entity_ids, kinds, start_ms, end_ms)


@cached(WINDOW_TTL, 64)
def histogram_steps(
    entity_ids: tuple[int, ...], kinds: tuple[str, ...], start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """The same of deployments taken together, per kind and step."""
    return queries.latency(open_store().engine, entity_ids, kinds, start_ms, end_ms, step_ms, together=True)


@cached(WINDOW_TTL, 64)
def quantile_steps(
    entity_ids: tuple[int, ...], kinds: tuple[str, ...], start_ms: int, end_ms: int, step_ms: int
) -> pd.DataFrame:
    """``latency.quantiles_by`` kind and step, of deployments taken together."""
    return latencies.quantiles_by(histogram_steps(entity_ids, kinds, start_ms, end_ms, step_ms), ["kind", "bucket_at"])


@cached(NOW_TTL, 4)
def newest_events(kind: str) -> pd.DataFrame:
    """``queries.newest_events``: of each entity, however old."""
    return queries.newest_events(open_store().engine, kind)


@cached(WINDOW_TTL, 32)
def points(start_ms: int, end_ms: int) -> list[Point]:
    """``compare.points`` by the prices in the settings."""
    return compare.points(open_store().engine, settings(), deployment_costs(start_ms, end_ms), start_ms, end_ms)


@cached(WINDOW_TTL, 32)
def measured(start_ms: int, end_ms: int) -> list[Throughput]:
    """``capacity.measured``: output per accelerator at work, by model and type."""
    return capacity.measured(open_store().engine, start_ms, end_ms)


@cached(WINDOW_TTL, 32)
def probes(start_ms: int, end_ms: int) -> pd.DataFrame:
    """``queries.probes``."""
    return queries.probes(open_store().engine, start_ms, end_ms)


@cached(WINDOW_TTL, 4)
def accounted_until_ms() -> int:
    """End of the newest hour that anything has an account of (Unix ms); 0 without any."""
    return max(queries.accounted_until(open_store().engine).values(), default=0)


# Not copied on each use, since nothing changes it. Few, since a long one is large: what is made of it is kept instead.
@st.cache_resource(ttl=WINDOW_TTL, max_entries=2, show_spinner=False)
def _ledger(start_ms: int, end_ms: int) -> Ledger:
    """``ledger.hourly_ledger``, by the prices in the settings, without states."""
    with st.spinner(say("Adding up the bill"), show_time=True):
        return ledgers.hourly_ledger(open_store().engine, settings(), start_ms, end_ms, with_states=False)


@cached(WINDOW_TTL, 16)
def bill(start_ms: int, end_ms: int) -> Bill | None:
    """``ledger.bill`` of whole UTC hours; ``None`` where no device was there."""
    of = _ledger(start_ms, end_ms)
    return None if of.rows.empty else ledgers.bill(of)


@cached(WINDOW_TTL, 32)
def bills(start_ms: int, end_ms: int, key: Key) -> dict[str, Bill]:
    """``ledger.bills`` of whole UTC hours."""
    return ledgers.bills(_ledger(start_ms, end_ms), key)


@cached(WINDOW_TTL, 16)
def deployment_bills(start_ms: int, end_ms: int) -> dict[int, Bill]:
    """``ledger.deployment_bills`` of whole UTC hours."""
    return ledgers.deployment_bills(_ledger(start_ms, end_ms))


@cached(WINDOW_TTL, 16)
def contract_uses(start_ms: int, end_ms: int) -> dict[str, tuple[Use, ...]]:
    """``commitments.uses`` of one window of whole UTC hours."""
    return commitments.uses(open_store().engine, settings(), (start_ms, end_ms))


def contract_days(end_ms: int) -> dict[str, list[Use]]:
    """The same of all terms so far, day by day from the first sight on; the weeks that are over are read once."""
    contracts = settings().cost.contract
    found: dict[str, list[Use]] = {contract.name: [] for contract in contracts}
    begins_ms = min((commitments.term(contract, settings()).start_ms for contract in contracts), default=end_ms)
    first_ms = max(_first_seen_ms(), begins_ms) // PRESENT_MS * PRESENT_MS
    weeks = commitments.weeks(Span(first_ms, end_ms), settings()) if first_ms < end_ms else []
    for part in (weeks[:-1], weeks[-1:]):
        starts = [day.start_ms for week in part for day in commitments.days(week, settings())]
        if starts:
            for name, some in _uses_of_days((*starts, part[-1].end_ms)).items():
                found[name] += some
    return found


@cached(STEP_TTL, 16)
def _uses_of_days(edges_ms: tuple[int, ...]) -> dict[str, tuple[Use, ...]]:
    return commitments.uses(open_store().engine, settings(), edges_ms)


def _first_seen_ms() -> int:
    seen = queries.epoch_ms(entities()["first_seen_at"])
    return now_ms() if seen.empty else int(seen.min())


def deployment_costs(start_ms: int, end_ms: int) -> list[DeploymentCost]:
    """``costs.deployment_costs`` by the prices in the settings; those of whole hours without terms."""
    hours = costs.priced_hours(start_ms, end_ms, accounted_until_ms())
    return _costs_by_samples(start_ms, end_ms) if hours is None else hourly_costs(*hours)


@cached(WINDOW_TTL, 16)
def _costs_by_samples(start_ms: int, end_ms: int) -> list[DeploymentCost]:
    return costs.by_samples(open_store().engine, settings(), start_ms, end_ms)


@cached(WINDOW_TTL, 32)
def unjoined(start_ms: int, end_ms: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``costs.unjoined``."""
    return costs.unjoined(open_store().engine, start_ms, end_ms)


@cached(WINDOW_TTL, 16)
def hourly_costs(start_ms: int, end_ms: int) -> list[DeploymentCost]:
    """``costs_of_hours.deployment_costs`` of whole UTC hours, parts of the same bill as ``bill``; without terms."""
    return costs_of_hours.deployment_costs(open_store().engine, settings(), _ledger(start_ms, end_ms), explained=False)


@cached(WINDOW_TTL, 16)
def hourly_terms(start_ms: int, end_ms: int, deployment_ids: tuple[int, ...]) -> dict[int, tuple[Term, ...]]:
    """The terms of some of them."""
    return costs_of_hours.terms(open_store().engine, settings(), _ledger(start_ms, end_ms), deployment_ids)


@cached(WINDOW_TTL, 16)
def hourly_trend(start_ms: int, end_ms: int, step_hours: int) -> pd.DataFrame:
    """``costs_of_hours.trend`` of whole UTC hours."""
    return costs_of_hours.trend(_ledger(start_ms, end_ms), step_hours)


@cached(WINDOW_TTL, 16)
def unheld(start_ms: int, end_ms: int) -> pd.DataFrame:
    """``costs_of_hours.unheld`` of whole UTC hours."""
    return costs_of_hours.unheld(_ledger(start_ms, end_ms))


@cached(WINDOW_TTL, 16)
def what_if_base(start_ms: int, end_ms: int, deployment_ids: tuple[int, ...], with_unheld: bool) -> Measured | None:
    """``what_if.measured`` of deployments over whole UTC hours."""
    costs_ = [cost for cost in hourly_costs(start_ms, end_ms) if cost.deployment_id in deployment_ids]
    return what_if.measured(_ledger(start_ms, end_ms), costs_, settings(), with_unheld=with_unheld)


@cached(NOW_TTL, 4)
def probe_spend() -> pd.DataFrame:
    """``queries.probe_spend``."""
    return queries.probe_spend(open_store().engine)


@cached(WINDOW_TTL, 2)
def store_size() -> pd.DataFrame:
    """``queries.store_size``: counts rows, so it is asked seldom."""
    return queries.store_size(open_store().engine)
