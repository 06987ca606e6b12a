"""Output that deployments were seen to give while they worked; the only part that reads the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas.energy import ENOUGH_COVERAGE
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.formulas.states import LOOKBACK_MS
from analytics.serving import are_gateways
from core.hardware.catalogue import match_accelerator
from core.hardware.planning import match_model
from core.language import _
from core.texts import Text, text
from storage import queries
from storage.engine import Store

DAYS = 7
"""Of a model on a type the newest days at work count, at most so many: a machine does the same in any window."""
_DAY_MS = 24 * MS_PER_HOUR
_READ_MS = DAYS * _DAY_MS  # at a time; one such read is enough for what works every day
_Pair: TypeAlias = tuple[str, str]  # model, and type of accelerator
_Flags: TypeAlias = NDArray[np.bool_]
_Floats: TypeAlias = NDArray[np.float64]
_Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Measured:
    """Output tokens per second and accelerator that were seen; ``str`` of the basis says under which conditions."""

    model: str
    accelerator: str
    tokens_per_second_per_accelerator: float
    basis: Text


def measured(engine: Store, start_ms: int, end_ms: int) -> list[Measured]:
    """Output per accelerator while its deployment worked, over a window, by model and type of accelerator.

    Steps of five minutes count in which a server had requests or wrote tokens; both they and the step before must
    have been watched, so that no growth of an unwatched time is taken for that of a short one. What cannot be told
    apart is left out: deployments that shared an accelerator, ran on slices or on several types.

    Of a longer window, the newest ``DAYS`` count in which the model so worked on the type: days of 24 hours, back from
    the end. Older samples are read only of what worked on fewer days.
    """
    joined = _joined(engine, start_ms, end_ms)
    days: defaultdict[_Pair, list[tuple[float, ...]]] = defaultdict(list)
    for until_ms in range(end_ms, start_ms, -_READ_MS):
        begin_ms = max(until_ms - _READ_MS, start_ms)
        joined = _still_asked(joined, {pair for pair, found in days.items() if len(found) >= DAYS})
        there = joined[(joined["from_ms"] < until_ms) & (joined["to_ms"] > begin_ms)]
        if len(there):
            for model, kind, _age, *sums in _days(engine, there, begin_ms, until_ms).itertuples(index=False):
                days[model, kind].append(tuple(sums))
    answer = []
    for (model, kind), found in sorted(days.items()):
        tokens, device_seconds, requests, known = np.sum(found[:DAYS], axis=0).tolist()
        if tokens > 0 and device_seconds > 0:
            basis = _basis(tokens, device_seconds, requests / known if known else None)
            if len(found) >= DAYS and end_ms - start_ms > _READ_MS:
                basis = text(_("{basis}, on the newest {days} days at work"), basis=basis, days=DAYS)
            answer.append(Measured(model, kind, tokens / device_seconds, basis))
    return answer


def _basis(tokens: float, device_seconds: float, running: float | None) -> Text:
    whole = {"tokens": round(tokens), "seconds": round(device_seconds)}
    if running is None:
        return text(_("{tokens} output tokens / {seconds} s of accelerators at work"), **whole)
    said = _("{tokens} output tokens / {seconds} s of accelerators at work, {requests} requests at once in a copy")
    return text(said, **whole, requests=round(running, 1))


def _joined(engine: Store, start_ms: int, end_ms: int) -> pd.DataFrame:
    """What deployments ran on during a window, without gateways, which compute nothing.

    Returns:
        deployment_id, target_id; from_ms and to_ms (Unix ms); model and type (categories, NaN: not in the catalogue, or
        a slice).
    """
    entities = queries.entities(engine)
    joined = queries.assignments(engine, start_ms, end_ms)
    joined = joined[~joined["deployment_id"].isin(entities.loc[are_gateways(entities), "entity_id"])]
    served, devices = (
        of.set_index("entity_id")["model"].dropna()
        for of in (entities[entities["family"] == "deployment"], whole_devices(entities))
    )
    models = {name: shape.model for name in served.unique() if (shape := match_model(name)) is not None}
    types = {name: found.model for name in devices.unique() if (found := match_accelerator(name)) is not None}
    still = pd.Timestamp(end_ms + LOOKBACK_MS, unit="ms", tz="UTC")  # beyond the last step
    return pd.DataFrame(
        {
            "deployment_id": joined["deployment_id"],
            "target_id": joined["target_id"],
            "from_ms": queries.epoch_ms(joined["valid_from_at"]),
            "to_ms": queries.epoch_ms(joined["valid_to_at"].fillna(still)),
            "model": joined["deployment_id"].map(served.map(models)).astype("category"),
            "type": joined["target_id"].map(devices.map(types)).astype("category"),
        }
    )


def _still_asked(joined: pd.DataFrame, enough: Collection[_Pair]) -> pd.DataFrame:
    """Less the deployments of which enough is known, unless one still asked for may share an accelerator with them."""
    known = joined.dropna(subset=["model", "type"])
    asked = known.loc[[pair not in enough for pair in zip(known["model"], known["type"], strict=True)]]
    targets = joined.loc[joined["deployment_id"].isin(asked["deployment_id"]), "target_id"]
    sharing = joined.loc[joined["target_id"].isin(targets), "deployment_id"]
    return joined[joined["deployment_id"].isin(sharing)]


def _days(engine: Store, joined: pd.DataFrame, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Sums over the steps that count, by day.

    Returns:
        model, type, age (days before the end, ascending), tokens, device_seconds, requests (sum of the steps' means)
        and known (steps of which there is one).
    """
    ids = np.unique(joined["deployment_id"])
    first_ms = start_ms - LOOKBACK_MS  # with the step before, which does not count itself
    metrics = ["generation_tokens_total", "running_requests"]
    steps = queries.read(engine, "deployment", metrics, ids.tolist(), first_ms, end_ms, LOOKBACK_MS)
    place = np.searchsorted(ids, steps["entity_id"]), (queries.epoch_ms(steps["bucket_at"]) - first_ms) // LOOKBACK_MS
    shape = len(ids), -(-(end_ms - first_ms) // LOOKBACK_MS)

    def laid(name: str) -> _Floats:
        """A row for each deployment, a column for each step."""
        out = np.full(shape, np.nan)
        out[place] = steps[name]
        return out

    coverage, tokens, requests, most = map(laid, ("coverage_ratio", *metrics, "running_requests_max"))
    works = (tokens > 0) | (most > 0)
    devices, kinds = _held(joined, works, first_ms)
    whole = coverage >= ENOUGH_COVERAGE
    counts = works & whole & (devices > 0)
    counts[:, 1:] &= whole[:, :-1]
    counts[:, 0] = False  # the step before
    models = joined.drop_duplicates("deployment_id").sort_values("deployment_id")["model"].array
    row, column = np.nonzero(counts)
    sums = pd.DataFrame(
        {
            "model": models[row],
            "type": pd.Categorical.from_codes(kinds[counts], joined["type"].cat.categories),
            "age": (end_ms - 1 - first_ms - column * LOOKBACK_MS) // _DAY_MS,
            "tokens": tokens[counts],
            "device_seconds": coverage[counts] * devices[counts] * LOOKBACK_MS / 1000,
            "requests": requests[counts],
            "known": ~np.isnan(requests[counts]),
        }
    )
    return sums.groupby(["model", "type", "age"], observed=True).sum().reset_index()


def _held(joined: pd.DataFrame, works: _Flags, first_ms: int) -> tuple[_Integers, _Integers]:
    """How many accelerators each deployment had all through each step to itself, and the code of their type.

    0 where that cannot be told: some began or ended within the step, another deployment worked on one as well, or they
    are of several types or of one that is unknown.

    Args:
        joined: what deployments ran on.
        works: whether they did, a row for each, by id, and a column for each step.
        first_ms: where the first step begins (Unix ms).
    """
    row, target = (np.unique(joined[name], return_inverse=True)[1] for name in ("deployment_id", "target_id"))
    begins, ends = (joined[name].to_numpy() - first_ms for name in ("from_ms", "to_ms"))
    touched = begins // LOOKBACK_MS, -(-ends // LOOKBACK_MS)
    filled = -(-begins // LOOKBACK_MS), ends // LOOKBACK_MS
    first, last, begin, end = (np.clip(edge, 0, works.shape[1]).tolist() for edge in (*touched, *filled))
    types = joined["type"].cat
    workers = np.zeros((target.max() + 1, works.shape[1]), "int32")
    for on, of, a, b in zip(target, row, first, last, strict=True):
        workers[on, a:b] += works[of, a:b]
    by_type = np.zeros((len(types.categories) + 1, *works.shape), "int32")  # the last: unknown, of which the code is -1
    clear = works.copy()
    for on, of, kind, a, b, c, d in zip(target, row, types.codes, first, last, begin, end, strict=True):
        by_type[kind, of, a:b] += 1
        clear[of, a:b] &= workers[on, a:b] == 1
        clear[of, a:c] = clear[of, d:b] = False
    devices, kinds = by_type.sum(axis=0), by_type.argmax(axis=0)
    clear &= (by_type.max(axis=0) == devices) & (kinds < len(types.categories))
    return np.where(clear, devices, 0), kinds


def whole_devices(entities: pd.DataFrame) -> pd.DataFrame:
    """Accelerators without the slices of others."""
    devices = entities[entities["family"] == "accelerator"]
    return devices[~devices["parent_key"].isin(devices["key"])]
