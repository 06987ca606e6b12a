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

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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


def rows_at(frame: pd.DataFrame, device_id: pd.Series[int], hour_ms: pd.Series[int]) -> Integers:
    """Positions of devices' hours in a frame with these two columns; -1: not there."""
    there, asked = (_keys(frame["device_id"], frame["hour_ms"]), _keys(device_id, hour_ms))
    if not len(there):
        return np.full(len(asked), -1)
    order = np.argsort(there, kind="stable")
    at = order[np.minimum(np.searchsorted(there, asked, sorter=order), len(there) - 1)]
    return np.where(there[at] == asked, at, -1)


def _keys(device_id: pd.Series[int], hour_ms: pd.Series[int]) -> Integers:
    """One number for each device and hour."""
    return np.asarray(device_id.to_numpy("int64") << 32 | hour_ms.to_numpy("int64") // MS_PER_HOUR)


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
    at = rows_at(hours, held["device_id"], held["hour_ms"])
    held, at = held[at >= 0], at[at >= 0]
    share = _parts(held, at, work, edges_ms, output_weight_ratio) / hours["there_ratio"].to_numpy()[at] / MS_PER_HOUR
    keys, holder = _keys(held["device_id"], held["hour_ms"]), held["deployment_id"].to_numpy()
    order = np.lexsort((holder, keys))
    keys, holder, at = keys[order], holder[order], at[order]
    first = np.flatnonzero((np.diff(keys, prepend=-1) != 0) | (np.diff(holder, prepend=-1) != 0))
    holder, at, share = holder[first], at[first], np.add.reduceat(share[order], first)
    share /= np.maximum(np.bincount(at, share, len(hours)), 1.0)[at]  # held before its first sign of life, it may be
    free = 1.0 - np.bincount(at, share, len(hours))
    unheld = np.flatnonzero(free > _NOTHING)
    rows = np.concatenate((at, unheld))
    columns = {
        **{name: hours[name].to_numpy()[rows] for name in _HOUR},
        "deployment_id": np.concatenate((holder, np.full(len(unheld), IDLE_ID))),
        "share": np.concatenate((share, free[unheld])),
        "row": rows,
    }
    return pd.DataFrame(columns, copy=False)


def _parts(
    held: pd.DataFrame, at: Integers, work: pd.DataFrame, edges_ms: Sequence[int], output_weight_ratio: float
) -> Floats:
    """Time (ms) of a device's hour that each row answers for; rows that overlap share by weight, else alike."""
    parts = ((held["end_ms"] - held["begin_ms"]) * held["part"]).to_numpy(dtype="float64", copy=True)
    for _, rows in _weighed(_at_once(held, at), work, edges_ms, output_weight_ratio).groupby(_HOUR):
        begin, end = rows["begin_ms"].to_numpy(), rows["end_ms"].to_numpy()
        weight = rows["weight"].fillna(0.0).to_numpy()
        answers = np.zeros(len(rows))
        cuts = np.unique(np.concatenate((begin, end)))
        for cut, after in pairwise(cuts):
            there = (begin <= cut) & (end >= after)
            if there.any():
                answers[there] += (after - cut) * np.asarray(shares(weight[there].tolist()))
        parts[rows["position"]] = answers
    return parts


def _at_once(held: pd.DataFrame, at: Integers) -> pd.DataFrame:
    """The rows of hours in which several held a whole device at the same time; where one follows another, none do.

    ``position`` says which rows they are.
    """
    is_whole = (held["part"] == 1.0).to_numpy()
    several = np.flatnonzero((np.bincount(at)[at] > 1) & is_whole)
    rows = held.iloc[several].assign(position=several).sort_values([*_HOUR, "begin_ms"])
    hours = [rows[name] for name in _HOUR]
    until = rows.groupby(_HOUR)["end_ms"].cummax().groupby(hours).shift()
    found: pd.DataFrame = rows[(rows["begin_ms"] < until).groupby(hours).transform("any")]
    return found


def _weighed(
    held: pd.DataFrame, work: pd.DataFrame, edges_ms: Sequence[int], output_weight_ratio: float
) -> pd.DataFrame:
    """The same rows with the weight of what each deployment did in the stretch; NaN where nothing is known of it."""
    work = work[work["deployment_id"].isin(held["deployment_id"])]
    uncached = (work["prompt_tokens"].fillna(0.0) - work["cached_prompt_tokens"].fillna(0.0)).clip(lower=0.0)
    weight = uncached + output_weight_ratio * work["generation_tokens"].fillna(0.0)  # cost.weighted_tokens
    weights = work[["deployment_id"]].assign(stretch=np.searchsorted(edges_ms, work["hour_ms"]), weight=weight)
    stretch = np.searchsorted(edges_ms, held["hour_ms"], side="right") - 1
    return held.assign(stretch=stretch).merge(weights, "left", ["deployment_id", "stretch"])
