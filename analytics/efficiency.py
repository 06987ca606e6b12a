"""Energy of devices and sockets over a window, and what accelerators are doing right now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas import energy as formulas
from analytics.formulas.energy import Floats, Observed, Quality
from analytics.formulas.sampling import usual_intervals
from analytics.formulas.states import BUSY_RATIO, LOOKBACK_MS, State
from analytics.formulas.unknown import per
from storage import queries
from storage.engine import Store

LABELS = {"accelerator": ("gpu_counter", "gpu_power"), "cpu": ("cpu_counter", "cpu_power")}
"""What energy is called by its meter: a counter, or power samples."""


@dataclass(frozen=True, slots=True, eq=False)
class EnergySamples:
    """What the meters of one device said, in time order: three arrays of one length; NaN is unknown."""

    at_ms: NDArray[np.int64]  # Unix ms
    joules_total: Floats
    watts: Floats


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """Energy (J) of one device over a window, with its source label and how much was observed."""

    joules: float | None
    label: str
    quality: Quality
    coverage_ratio: float


UNKNOWN_ENERGY = WindowEnergy(None, "missing", Quality.MISSING, 0.0)


def window_energy(samples: EnergySamples, family: str, start_ms: int, end_ms: int) -> WindowEnergy:
    """The counter unless power samples contradict it, else these; by coverage: as it is, filled, or only observed.

    The step that leads into the window counts as a whole, as token counters do, so that adjacent windows
    add up and tokens and joules are of the same stretch.

    Args:
        samples: of one device, with those of up to ``queries.LOOKBACK_MS`` before the window.
        family: "accelerator" or "cpu", for the label.
        start_ms: window start.
        end_ms: window end.
    """
    first = max(int(np.searchsorted(samples.at_ms, start_ms)) - 1, 0)
    inside = slice(first, int(np.searchsorted(samples.at_ms, end_ms)))
    at = samples.at_ms[inside] / 1000
    interval = float(np.median(np.diff(at))) if len(at) > 1 else 0.0
    observed = formulas.from_counter(at, samples.joules_total[inside])
    sampled = formulas.from_power(at, samples.watts[inside], formulas.max_gap_seconds(usual_intervals(at)))
    (label, integrated), quality = LABELS[family], Quality.MEASURED
    if observed is None or not _agree(observed, sampled):
        observed, label, quality = sampled, integrated, Quality.DERIVED
    if observed is None or observed.seconds == 0:
        return UNKNOWN_ENERGY
    window_seconds = (end_ms - start_ms) / 1000
    figures = (np.array([figure]) for figure in (observed.joules, observed.seconds, interval, window_seconds))
    joules, coverage, is_filled = formulas.stands_for(*figures)
    return WindowEnergy(float(joules[0]), label, Quality.ESTIMATED if is_filled[0] else quality, float(coverage[0]))


def _agree(counted: Observed, sampled: Observed | None) -> bool:
    """Whether power samples, where there are some, leave the counter its credit."""
    watts = (None if one is None else per(one.joules, one.seconds) for one in (counted, sampled))
    return bool(formulas.counter_is_sane(*(np.array([one], "float64") for one in watts))[0])


def energy_samples(engine: Store, family: str, start_ms: int, end_ms: int) -> dict[int, EnergySamples]:
    """What ``window_energy`` needs of each device of a family, by entity_id: the window and what leads into it."""
    metrics = ["energy_joules_total", "power_watts"]
    frame = queries.raw(engine, family, metrics, None, start_ms - queries.LOOKBACK_MS, end_ms)
    ids, starts = np.unique(frame["entity_id"], return_index=True)
    columns = queries.epoch_ms(frame["observed_at"]), *(frame[name] for name in metrics)
    # Nothing stands before the first start, so the first part is left out.
    parts = (np.split(column.to_numpy(), starts)[1:] for column in columns)
    return {int(entity_id): EnergySamples(*arrays) for entity_id, *arrays in zip(ids, *parts, strict=True)}


def accelerator_states(engine: Store, now_ms: int, *, stale_after_ms: int = 60_000) -> pd.DataFrame:
    """What each accelerator does: ``active``, ``parked`` (held, no work), ``free`` (nobody holds it), ``off``.

    A device that serves a known deployment is judged by that server's requests and tokens, any other
    by its busy time.

    Returns:
        entity_id, state, basis ("server", "busy time" or "no sample").
    """
    since = now_ms - LOOKBACK_MS
    last = queries.latest(engine, "accelerator", metrics=())
    ids = last["entity_id"]
    held = queries.latest_known(engine, "accelerator", ["processes"], since)
    busiest = queries.highest(engine, "accelerator", "utilization_ratio", since)
    processes, utilization = (
        frame.set_index("entity_id")[name].reindex(ids).to_numpy()
        for frame, name in ((held, "processes"), (busiest, "utilization_ratio"))
    )
    serving = _serving_accelerators(engine, since, now_ms)
    served, works = ids.isin(list(serving)), ids.map(serving).eq(True)
    is_old = last["observed_at"] < pd.Timestamp(now_ms - stale_after_ms, unit="ms", tz="UTC")
    of_server = np.where(works, State.ACTIVE.value, State.PARKED.value)
    of_time = np.where(utilization < BUSY_RATIO, State.PARKED.value, State.ACTIVE.value)
    states = np.select((is_old, processes == 0, served), (State.OFF.value, State.FREE.value, of_server), of_time)
    basis = np.select((is_old, processes == 0, served), ("no sample", "busy time", "server"), "busy time")
    return pd.DataFrame({"entity_id": ids, "state": states.astype(object), "basis": basis.astype(object)})


def _serving_accelerators(engine: Store, since_ms: int, now_ms: int) -> dict[int, bool]:
    """Accelerators with a deployment that reports, and whether any of theirs had work to do."""
    metrics = ["running_requests", "waiting_requests", "generation_tokens_total"]
    work = queries.read(engine, "deployment", metrics, None, since_ms, now_ms + 1, now_ms + 1 - since_ms)
    if work.empty:
        return {}
    columns = ["running_requests_max", "waiting_requests_max", "generation_tokens_total"]
    busy = dict(zip(work["entity_id"], work[columns].fillna(0).sum(axis=1) > 0, strict=True))
    joined = queries.assignments(engine, since_ms, now_ms + 1)
    joined = joined[(joined["target_family"] == "accelerator") & joined["valid_to_at"].isna()]
    answer: dict[int, bool] = {}
    for deployment_id, target_id in zip(joined["deployment_id"], joined["target_id"], strict=True):
        if deployment_id in busy:
            answer[int(target_id)] = answer.get(int(target_id), False) or bool(busy[deployment_id])
    return answer
