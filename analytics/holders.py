"""Who held which part of a device: the parts of its time that deployments answer for, and what nobody held."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas.cost import shares
from analytics.formulas.local_time import MS_PER_HOUR
from storage import queries

IDLE_ID = -1
"""Stands for the deployment where nobody held a device."""
_HOUR = ["device_id", "hour_ms"]
_NOTHING = 1e-9  # of an hour: what rounding leaves


def held_stretches(
    joined: pd.DataFrame, entities: pd.DataFrame, devices: pd.DataFrame, edges_ms: Sequence[int]
) -> pd.DataFrame:
    """What deployments held of devices, cut at edges.

    Args:
        joined: which deployment ran on what.
        entities: all, by entity_id.
        devices: those to be told of, by device_id.
        edges_ms: ascending, whole UTC hours (Unix ms).

    Returns:
        device_id, hour_ms (where the stretch begins), deployment_id, part of the device, begin_ms and end_ms.
    """
    edges = np.asarray(edges_ms, dtype="int64")
    parents = entities.loc[entities["family"] == "accelerator", ["key", "parent_key"]]
    cards = pd.Series(parents.index, index=parents["key"])
    itself = pd.Series(devices.index, index=devices.index)
    target = joined["target_id"].map(parents["parent_key"].map(cards)).fillna(joined["target_id"].map(itself))
    slices = parents["parent_key"].value_counts()
    part = joined["target_id"].map(parents["parent_key"].map(1.0 / slices)).fillna(1.0)
    still = pd.Timestamp(edges[-1], unit="ms", tz="UTC")
    begins = queries.epoch_ms(joined["valid_from_at"]).clip(lower=edges[0])
    ends = queries.epoch_ms(joined["valid_to_at"].fillna(still)).clip(upper=edges[-1])
    known = (target.isin(devices.index) & (ends > begins)).to_numpy()
    begin, end = begins.to_numpy()[known], ends.to_numpy()[known]
    first = np.searchsorted(edges, begin, side="right") - 1
    count = np.searchsorted(edges, end) - first
    row = np.repeat(np.arange(len(count)), count)
    stretch = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return pd.DataFrame(
        {
            "device_id": target.to_numpy()[known][row].astype("int64"),
            "hour_ms": edges[stretch],
            "deployment_id": joined["deployment_id"].to_numpy()[known][row],
            "part": part.to_numpy()[known][row],
            "begin_ms": np.maximum(begin[row], edges[stretch]),
            "end_ms": np.minimum(end[row], edges[stretch + 1]),
        }
    )


def share_out(
    hours: pd.DataFrame, held: pd.DataFrame, work: pd.DataFrame, edges_ms: Sequence[int], output_weight_ratio: float
) -> pd.DataFrame:
    """Who answers for which part of a device's hour: who held it, by weighted tokens where several did at once.

    Args:
        hours: of ``DeviceHours``, as are all columns here.
        held: as ``held_stretches`` gives it.
        work: of ``DeviceHours``, by the stretches of the edges.
        edges_ms: ascending, whole UTC hours (Unix ms).
        output_weight_ratio: what an output token weighs against one of input.
    """
    held = held.merge(hours[["device_id", "hour_ms", "there_ratio"]], on=["device_id", "hour_ms"])
    uncached = (work["prompt_tokens"].fillna(0.0) - work["cached_prompt_tokens"].fillna(0.0)).clip(lower=0.0)
    weight = uncached + output_weight_ratio * work["generation_tokens"].fillna(0.0)  # cost.weighted_tokens
    stretch = np.searchsorted(edges_ms, held["hour_ms"], side="right") - 1
    weights = work[["deployment_id"]].assign(stretch=np.searchsorted(edges_ms, work["hour_ms"]), weight=weight)
    held = held.assign(stretch=stretch).merge(weights, "left", ["deployment_id", "stretch"])
    held["share"] = _parts(held) / held["there_ratio"].to_numpy() / MS_PER_HOUR
    owned = held.groupby(["device_id", "hour_ms", "deployment_id"])["share"].sum().reset_index()
    total = owned.groupby(["device_id", "hour_ms"])["share"].transform("sum")
    owned["share"] = owned["share"] / total.clip(lower=1.0)  # it may have been held before its first sign of life
    free = hours[["device_id", "hour_ms"]].merge(
        owned.groupby(["device_id", "hour_ms"])["share"].sum().reset_index(), "left", ["device_id", "hour_ms"]
    )
    free["share"] = 1.0 - free["share"].fillna(0.0)
    free["deployment_id"] = IDLE_ID
    return pd.concat([owned, free[free["share"] > _NOTHING]], ignore_index=True)


def _at_once(held: pd.DataFrame) -> pd.DataFrame:
    """The rows of hours in which several held a whole device at the same time; where one follows another, none do."""
    several = held[held.duplicated(_HOUR, keep=False) & (held["part"] == 1.0)].sort_values([*_HOUR, "begin_ms"])
    hours = [several[name] for name in _HOUR]
    until = several.groupby(_HOUR)["end_ms"].cummax().groupby(hours).shift()
    found: pd.DataFrame = several[(several["begin_ms"] < until).groupby(hours).transform("any")]
    return found


def _parts(held: pd.DataFrame) -> NDArray[np.float64]:
    """Time (ms) of a device's hour that each row answers for; rows that overlap share by weight, else alike."""
    parts = ((held["end_ms"] - held["begin_ms"]) * held["part"]).to_numpy(dtype="float64", copy=True)
    for _, rows in _at_once(held).groupby(_HOUR):
        begin, end = rows["begin_ms"].to_numpy(), rows["end_ms"].to_numpy()
        weight = rows["weight"].fillna(0.0).to_numpy()
        answers = np.zeros(len(rows))
        cuts = np.unique(np.concatenate((begin, end)))
        for cut, after in pairwise(cuts):
            there = (begin <= cut) & (end >= after)
            if there.any():
                answers[there] += (after - cut) * np.asarray(shares(weight[there].tolist()))
        parts[held.index.get_indexer(rows.index)] = answers
    return parts
