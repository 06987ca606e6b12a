"""Output that deployments were seen to give while they worked; the only part that reads the store."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analytics.formulas.energy import ENOUGH_COVERAGE
from analytics.formulas.states import LOOKBACK_MS
from analytics.serving import are_gateways
from core.hardware.catalogue import match_accelerator
from core.hardware.planning import match_model
from core.language import _
from core.texts import Text, text
from storage import queries
from storage.engine import Store


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
    """
    entities = queries.entities(engine)
    work = _work(engine, entities, start_ms, end_ms)
    held = _held(work, queries.assignments(engine, start_ms, end_ms), entities)
    rows = work.merge(held, on=["entity_id", "bucket_at"])
    rows = rows[rows["watched"]]
    answer = []
    for (model, kind), of in rows.groupby(["model", "type"]):
        device_seconds = float((of["seconds"] * of["devices"]).sum())
        tokens, running = float(of["generation_tokens_total"].sum()), of["running_requests"].mean()
        if tokens > 0 and device_seconds > 0:
            basis = _basis(tokens, device_seconds, None if pd.isna(running) else running)
            answer.append(Measured(str(model), str(kind), tokens / device_seconds, basis))
    return answer


def _basis(tokens: float, device_seconds: float, running: float | None) -> Text:
    whole = {"tokens": round(tokens), "seconds": round(device_seconds)}
    if running is None:
        return text(_("{tokens} output tokens / {seconds} s of accelerators at work"), **whole)
    said = _("{tokens} output tokens / {seconds} s of accelerators at work, {requests} requests at once in a copy")
    return text(said, **whole, requests=round(running, 1))


def _work(engine: Store, entities: pd.DataFrame, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Steps in which deployments of known models worked, and whether each was ``watched``; gateways compute nothing."""
    deployments = entities[(entities["family"] == "deployment") & ~are_gateways(entities)].set_index("entity_id")
    models = {i: match_model(name) for i, name in deployments["model"].dropna().items()}
    known = {i: shape.model for i, shape in models.items() if shape is not None}
    metrics = ["generation_tokens_total", "running_requests"]
    ids = [int(i) for i in deployments.index]
    steps = queries.read(engine, "deployment", metrics, ids, start_ms - LOOKBACK_MS, end_ms, LOOKBACK_MS)
    whole = steps["coverage_ratio"] >= ENOUGH_COVERAGE
    before = steps["bucket_at"].diff() == pd.Timedelta(milliseconds=LOOKBACK_MS)
    same = steps["entity_id"] == steps["entity_id"].shift()
    steps["watched"] = whole & whole.shift(fill_value=False) & before & same
    steps["seconds"] = steps["coverage_ratio"] * LOOKBACK_MS / 1000
    steps["model"] = steps["entity_id"].map(known)
    return steps[(steps["generation_tokens_total"] > 0) | (steps["running_requests_max"] > 0)]


def _held(work: pd.DataFrame, joined: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """The accelerators that a deployment had all through a step to itself, all of one type: how many and which."""
    names = whole_devices(entities).set_index("entity_id")["model"].dropna()
    types = {i: found.model for i, name in names.items() if (found := match_accelerator(name)) is not None}
    pairs = work[["entity_id", "bucket_at"]].merge(joined, left_on="entity_id", right_on="deployment_id")
    pairs["ends_at"] = pairs["bucket_at"] + pd.Timedelta(milliseconds=LOOKBACK_MS)
    pairs = pairs[(pairs["valid_from_at"] < pairs["ends_at"]) & ~(pairs["valid_to_at"] <= pairs["bucket_at"])]
    through = (pairs["valid_from_at"] <= pairs["bucket_at"]) & ~(pairs["valid_to_at"] < pairs["ends_at"])
    pairs = pairs.assign(
        type=pairs["target_id"].map(types),
        clear=through & ~pairs.duplicated(["bucket_at", "target_id"], keep=False),
    )
    steps = pairs.groupby(["entity_id", "bucket_at"])["type"].agg(["size", "count", "nunique", "first"])
    steps["clear"] = pairs.groupby(["entity_id", "bucket_at"])["clear"].all()
    steps = steps[steps["clear"] & (steps["size"] == steps["count"]) & (steps["nunique"] == 1)]
    return steps.rename(columns={"size": "devices", "first": "type"})[["devices", "type"]].reset_index()


def whole_devices(entities: pd.DataFrame) -> pd.DataFrame:
    """Accelerators without the slices of others."""
    devices = entities[entities["family"] == "accelerator"]
    return devices[~devices["parent_key"].isin(devices["key"])]
