"""What every device did in every hour, and who held it: the quantities that a bill puts prices on.

Everything comes from accounts, so it holds as long as those are kept, which is for ever. A device is an
accelerator, or the CPUs of a host on which deployments run. Slices of a card are parts of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas.cost import shares
from analytics.formulas.energy import ENOUGH_COVERAGE, LEAST_COVERAGE
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.serving import are_gateways
from storage import queries
from storage.engine import Store

IDLE_ID = -1
"""Stands for the deployment where nobody held a device."""
_SECONDS = MS_PER_HOUR / 1000
_NOTHING = 1e-9  # of an hour: what rounding leaves


@dataclass(frozen=True, slots=True)
class DeviceHours:
    """Devices, their hours, who held them, and what deployments did.

    devices: index device_id; name, family, host, vendor, model, host_parts.
    hours: device_id, hour_ms, there_ratio (part of the hour it existed), covered_ratio (of that time, by energy
        readings; 0 where there are none), active_ratio (of that time, in which it worked; NaN: not seen),
        energy_joules, active_joules, idle_joules (NaN: unknown), with its part of the host's CPU packages; is_filled
        (some of the energy stands for a gap within the hour).
    shares: device_id, hour_ms, deployment_id, share: parts of the time it existed that sum to 1, ``IDLE_ID`` for what
        nobody held.
    work: deployment_id, hour_ms, prompt_tokens, cached_prompt_tokens, generation_tokens, succeeded_requests.
    """

    start_ms: int
    end_ms: int
    devices: pd.DataFrame
    hours: pd.DataFrame
    shares: pd.DataFrame
    work: pd.DataFrame


def whole_hours(start_ms: int, end_ms: int) -> tuple[int, int]:
    """The whole UTC hours inside a window; accounts know no smaller ones."""
    first = -(-start_ms // MS_PER_HOUR) * MS_PER_HOUR
    return first, max(end_ms // MS_PER_HOUR * MS_PER_HOUR, first)


def device_hours(engine: Store, start_ms: int, end_ms: int, output_weight_ratio: float) -> DeviceHours:
    """Read the accounts of a window.

    Args:
        engine: the reader.
        start_ms: a whole UTC hour.
        end_ms: another.
        output_weight_ratio: what an output token weighs against one of input, where deployments share a device.
    """
    edges = list(range(start_ms, end_ms + 1, MS_PER_HOUR))
    entities = queries.entities(engine).set_index("entity_id")
    joined = queries.assignments(engine, start_ms, end_ms)
    joined = joined[~joined["deployment_id"].isin(entities.index[are_gateways(entities)])]
    devices = _devices(entities, joined)
    accounts = {
        family: queries.accounts(engine, family, None, edges) if len(edges) > 1 else pd.DataFrame()
        for family in ("accelerator", "cpu", "deployment")
    }
    work = _work(accounts["deployment"])
    hours = _there(devices, entities, queries.accounted_until(engine), start_ms, end_ms)
    hours = _with_energy(hours, devices, accounts["accelerator"], _packages(accounts["cpu"], entities))
    shares = _shares(hours, _held(joined, entities, devices, start_ms, end_ms), work, output_weight_ratio)
    return DeviceHours(start_ms, end_ms, devices, hours, shares, work)


def _devices(entities: pd.DataFrame, joined: pd.DataFrame) -> pd.DataFrame:
    cards = entities[(entities["family"] == "accelerator") & entities["parent_key"].isna()]
    on_cpus = entities.loc[joined.loc[joined["target_family"] == "host", "target_id"].unique()]
    devices = pd.concat([cards, on_cpus])
    index = [labels.get("index", "") for labels in devices["labels"]]
    named = devices["model"].where(devices["family"] == "accelerator", "CPUs").fillna("accelerator")
    return pd.DataFrame(
        {
            "name": [f"{name} {number}".strip() for name, number in zip(named, index, strict=True)],
            "family": devices["family"],
            "host": devices["host"].where(devices["family"] == "accelerator", devices["key"]),
            "vendor": devices["vendor"].fillna("unknown vendor").where(devices["family"] == "accelerator", "CPU"),
            "model": named,
            "host_parts": devices.groupby("host")["host"].transform("size").clip(lower=1),
        }
    )


def _there(
    devices: pd.DataFrame, entities: pd.DataFrame, until_ms: Mapping[int, int], start_ms: int, end_ms: int
) -> pd.DataFrame:
    """A row for every hour from a device's first sign of life to its last; silent hours between them count."""
    first = queries.epoch_ms(entities.loc[devices.index, "first_seen_at"]).to_numpy()
    last = np.array([until_ms.get(int(i), 0) for i in devices.index], dtype="int64")
    hours = np.arange(start_ms, end_ms, MS_PER_HOUR)
    begins = np.maximum(first[:, None], hours[None, :])
    ends = np.minimum(last[:, None], hours[None, :] + MS_PER_HOUR)
    there = np.clip(ends - begins, 0, None) / MS_PER_HOUR
    device, hour = np.nonzero(there)
    return pd.DataFrame(
        {
            "device_id": devices.index.to_numpy()[device],
            "hour_ms": hours[hour],
            "there_ratio": there[device, hour],
        }
    )


def _packages(cpu: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """Energy of all CPU packages of a host by hour; known where that of each socket is."""
    if cpu.empty:
        return pd.DataFrame(columns=["host", "hour_ms", "package_joules"])
    by_hour = cpu.assign(host=entities.loc[cpu["entity_id"], "host"].to_numpy(), hour_ms=_hour_ms(cpu))
    sums = by_hour.groupby(["host", "hour_ms"])["energy_joules"].agg(lambda joules: joules.sum(skipna=False))
    return sums.rename("package_joules").reset_index()


def _hour_ms(frame: pd.DataFrame) -> pd.Series[Any]:
    return queries.epoch_ms(frame["bucket_at"])


def _with_energy(
    hours: pd.DataFrame, devices: pd.DataFrame, accelerator: pd.DataFrame, packages: pd.DataFrame
) -> pd.DataFrame:
    """Energy per device and hour: as observed; over gaps within an hour that was mostly observed, at its mean power."""
    columns = ["energy_joules", "energy_seconds", "active_joules", "active_seconds", "observed_seconds"]
    if accelerator.empty:
        read = pd.DataFrame(columns=["device_id", "hour_ms", *columns]).astype(dict.fromkeys(columns, "float64"))
    else:
        read = accelerator.assign(device_id=accelerator["entity_id"], hour_ms=_hour_ms(accelerator))
        read = read[["device_id", "hour_ms", *columns]]
    found = hours.merge(read, "left", ["device_id", "hour_ms"])
    found["host"] = devices.loc[found["device_id"], "host"].to_numpy()
    found = found.merge(packages, "left", ["host", "hour_ms"])
    is_card = (devices["family"] == "accelerator").loc[found["device_id"]].to_numpy()
    seconds = found["there_ratio"] * _SECONDS
    covered = (found["energy_seconds"].fillna(0.0) / seconds).clip(upper=1.0)
    filled = (covered >= LEAST_COVERAGE) & (covered < ENOUGH_COVERAGE)
    factor = np.where(filled, 1 / covered.where(filled, 1.0), 1.0)
    part = found["package_joules"] / devices.loc[found["device_id"], "host_parts"].to_numpy()
    card = found["energy_joules"] * factor
    # What the counter of the host adds is taken for the device's as it worked; unknown packages add nothing.
    busy = (found["active_seconds"].fillna(0.0) / found["observed_seconds"]).clip(upper=1.0).fillna(0.0)
    active = found["active_joules"].fillna(0.0) * factor + part.fillna(0.0) * busy
    total = np.where(is_card, card + part.fillna(0.0), part)
    found["energy_joules"] = total
    found["active_joules"] = np.where(is_card, active.where(card.notna()), part)
    found["idle_joules"] = found["energy_joules"] - found["active_joules"]
    found["covered_ratio"] = np.where(is_card, covered, np.where(part.notna(), 1.0, 0.0))
    found["is_filled"] = filled & is_card
    found["active_ratio"] = (
        (found["active_seconds"].fillna(0.0) / seconds).clip(upper=1.0).where(found["observed_seconds"] > 0)
    )
    return found[
        [
            "device_id",
            "hour_ms",
            "there_ratio",
            "covered_ratio",
            "active_ratio",
            "energy_joules",
            "active_joules",
            "idle_joules",
            "is_filled",
        ]
    ]


def _work(deployment: pd.DataFrame) -> pd.DataFrame:
    columns = ["prompt_tokens", "cached_prompt_tokens", "generation_tokens", "succeeded_requests"]
    if deployment.empty:
        keys = {"deployment_id": "int64", "hour_ms": "int64"}
        return pd.DataFrame(columns=[*keys, *columns]).astype(keys | dict.fromkeys(columns, "float64"))
    return deployment.assign(deployment_id=deployment["entity_id"], hour_ms=_hour_ms(deployment))[
        ["deployment_id", "hour_ms", *columns]
    ]


def _held(
    joined: pd.DataFrame, entities: pd.DataFrame, devices: pd.DataFrame, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """A row for every stretch within one hour in which a deployment held a device, and the part of it that it held."""
    parents = entities.loc[entities["family"] == "accelerator", ["key", "parent_key"]]
    cards = pd.Series(parents.index, index=parents["key"])
    itself = pd.Series(devices.index, index=devices.index)
    target = joined["target_id"].map(parents["parent_key"].map(cards)).fillna(joined["target_id"].map(itself))
    slices = parents["parent_key"].value_counts()
    part = joined["target_id"].map(parents["parent_key"].map(1.0 / slices)).fillna(1.0)
    begins = queries.epoch_ms(joined["valid_from_at"]).clip(lower=start_ms)
    ends = queries.epoch_ms(joined["valid_to_at"].fillna(pd.Timestamp(end_ms, unit="ms", tz="UTC"))).clip(upper=end_ms)
    known = (target.notna() & (ends > begins)).to_numpy()
    begin, end = begins.to_numpy()[known], ends.to_numpy()[known]
    first = begin // MS_PER_HOUR
    count = -(-end // MS_PER_HOUR) - first
    row = np.repeat(np.arange(len(count)), count)
    hour_ms = (first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)) * MS_PER_HOUR
    return pd.DataFrame(
        {
            "device_id": target.to_numpy()[known][row].astype("int64"),
            "hour_ms": hour_ms,
            "deployment_id": joined["deployment_id"].to_numpy()[known][row],
            "part": part.to_numpy()[known][row],
            "begin_ms": np.maximum(begin[row], hour_ms),
            "end_ms": np.minimum(end[row], hour_ms + MS_PER_HOUR),
        }
    )


def _shares(hours: pd.DataFrame, held: pd.DataFrame, work: pd.DataFrame, output_weight_ratio: float) -> pd.DataFrame:
    """Who answers for which part of a device's hour: who held it, by weighted tokens where several did at once."""
    held = held.merge(hours[["device_id", "hour_ms", "there_ratio"]], on=["device_id", "hour_ms"])
    uncached = (work["prompt_tokens"].fillna(0.0) - work["cached_prompt_tokens"].fillna(0.0)).clip(lower=0.0)
    weight = uncached + output_weight_ratio * work["generation_tokens"].fillna(0.0)  # cost.weighted_tokens
    held = held.merge(work[["deployment_id", "hour_ms"]].assign(weight=weight), "left", ["deployment_id", "hour_ms"])
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


def _parts(held: pd.DataFrame) -> NDArray[np.float64]:
    """Time (ms) of a device's hour that each row answers for; rows that overlap share by weight, else alike."""
    parts = ((held["end_ms"] - held["begin_ms"]) * held["part"]).to_numpy(dtype="float64", copy=True)
    shared = held[held.duplicated(["device_id", "hour_ms"], keep=False) & (held["part"] == 1.0)]
    for _, rows in shared.groupby(["device_id", "hour_ms"]):
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
