"""What every device did in every hour, and who held it: the quantities that a bill puts prices on.

Everything comes from accounts, so it holds as long as those are kept, which is for ever. A device is an
accelerator, or the CPUs of a host on which deployments run. Slices of a card are parts of it.

Where only totals are asked for, ``device_stretches`` reads several hours as one, wherever they add up to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas.energy import ENOUGH_COVERAGE, LEAST_COVERAGE
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.holders import IDLE_ID, held_stretches, share_out
from analytics.presence import stretches_there
from analytics.serving import are_gateways
from storage import queries
from storage.engine import Store

__all__ = ["IDLE_ID", "STATE_SECONDS", "DeviceHours", "device_hours", "device_stretches", "whole_hours"]

STATE_SECONDS = ("active_seconds", "parked_seconds", "free_seconds")
_READ = ("energy_joules", "energy_seconds", "active_joules", "observed_seconds", *STATE_SECONDS)
_SECONDS = MS_PER_HOUR / 1000


@dataclass(frozen=True, slots=True)
class DeviceHours:
    """Devices, their hours, who held them, and what deployments did.

    edges_ms: ascending, whole UTC hours (Unix ms); a stretch from one to the next is an hour, or several.
    devices: index device_id; name, family, host, vendor, model, host_parts.
    hours: device_id, hour_ms (its beginning), there_ratio (hours that it existed, up to one, or as many as the
        stretch has), covered_ratio (of that time, by energy readings; 0 where there are none), active_ratio (of that
        time, in which it worked; NaN: not seen), energy_joules, active_joules, idle_joules (NaN: unknown), with its
        part of the host's CPU packages; is_filled (some of the energy stands for a gap within the hour);
        ``STATE_SECONDS`` as accounted.
    shares: device_id, hour_ms, deployment_id, share: parts of the time it existed that sum to 1, ``IDLE_ID`` for what
        nobody held.
    work: deployment_id, hour_ms, prompt_tokens, cached_prompt_tokens, generation_tokens, succeeded_requests.
    """

    edges_ms: tuple[int, ...]
    devices: pd.DataFrame
    hours: pd.DataFrame
    shares: pd.DataFrame
    work: pd.DataFrame

    @property
    def start_ms(self) -> int:
        """The first hour (Unix ms)."""
        return self.edges_ms[0]

    @property
    def end_ms(self) -> int:
        """The end of the last."""
        return self.edges_ms[-1]


def rows_at(frame: pd.DataFrame, device_id: pd.Series[int], hour_ms: pd.Series[int]) -> NDArray[np.int64]:
    """Positions of devices' hours in a frame with these two columns; -1: not there."""
    there, asked = (_keys(frame["device_id"], frame["hour_ms"]), _keys(device_id, hour_ms))
    if not len(there):
        return np.full(len(asked), -1)
    order = np.argsort(there, kind="stable")
    at = order[np.minimum(np.searchsorted(there, asked, sorter=order), len(there) - 1)]
    return np.where(there[at] == asked, at, -1)


def _keys(device_id: pd.Series[int], hour_ms: pd.Series[int]) -> NDArray[np.int64]:
    """One number for each device and hour."""
    return np.asarray(device_id.to_numpy("int64") << 32 | hour_ms.to_numpy("int64") // MS_PER_HOUR)


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
    edges = range(start_ms, end_ms + 1, MS_PER_HOUR)
    return device_stretches(engine, edges, queries.accounted_until(engine), output_weight_ratio)


def device_stretches(
    engine: Store,
    edges_ms: Sequence[int],
    until_ms: Mapping[int, int],
    output_weight_ratio: float,
    *,
    by_state: bool = True,
) -> DeviceHours:
    """Read the accounts of stretches of hours. Sums over all devices are the same as of ``device_hours``.

    Hours that were all seen, or all not, add up; devices of which some were seen, and some not or in part, are read
    hour by hour in the stretches where that happened to any.

    Args:
        engine: the reader.
        edges_ms: ascending, whole UTC hours (Unix ms).
        until_ms: ``queries.accounted_until``.
        output_weight_ratio: as there; tokens of a stretch weigh where deployments share a device in it.
        by_state: whether energy while active and while idle matter each for itself. Packages of a host are divided into
            these hour by hour, so that where there are some, stretches are cut.
    """
    start_ms, end_ms = edges_ms[0], edges_ms[-1]
    entities = queries.entities(engine).set_index("entity_id")
    joined = queries.assignments(engine, start_ms, end_ms)
    joined = joined[~joined["deployment_id"].isin(entities.index[are_gateways(entities)])]
    devices = _devices(entities, joined)
    work = _work(engine, edges_ms)
    cut = range(start_ms, end_ms + 1, MS_PER_HOUR) if by_state and _has_packages(engine, start_ms, end_ms) else edges_ms
    read = _read(engine, None, devices, entities, until_ms, cut)
    held = held_stretches(joined, entities, devices, cut)
    mixed = read[_is_mixed(read, entities)]
    if len(mixed):
        ids = mixed["device_id"].unique().tolist()
        cut = _cut_into_hours(edges_ms, set(mixed["hour_ms"]))
        again = devices.loc[ids]
        read, held = (frame[~frame["device_id"].isin(ids)] for frame in (read, held))
        read = pd.concat([read, _read(engine, ids, again, entities, until_ms, cut)], ignore_index=True)
        held = pd.concat([held, held_stretches(joined, entities, again, cut)], ignore_index=True)
    hours = _with_energy(read, devices)
    shares = share_out(hours, held, work, edges_ms, output_weight_ratio)
    return DeviceHours(tuple(edges_ms), devices, hours, shares, work)


def _has_packages(engine: Store, start_ms: int, end_ms: int) -> bool:
    found = queries.accounts(engine, "cpu", None, (start_ms, end_ms), ("energy_joules",))
    return bool(found["energy_joules"].notna().any())


def _cut_into_hours(edges_ms: Sequence[int], begins_ms: set[int]) -> list[int]:
    """The same edges, and every hour within the stretches that begin at some of them."""
    cut = [
        at_ms
        for begin_ms, end_ms in pairwise(edges_ms)
        for at_ms in range(begin_ms, end_ms, MS_PER_HOUR if begin_ms in begins_ms else end_ms - begin_ms)
    ]
    return [*cut, edges_ms[-1]]


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


def _read(
    engine: Store,
    ids: Sequence[int] | None,
    devices: pd.DataFrame,
    entities: pd.DataFrame,
    until_ms: Mapping[int, int],
    edges_ms: Sequence[int],
) -> pd.DataFrame:
    """A row for every stretch in which a device existed, with what its accounts and its host's say of it.

    Returns:
        device_id, hour_ms, there_ratio, width_hours, host, ``_READ`` and package_joules.
    """
    found = stretches_there(entities, devices.index.tolist(), until_ms, edges_ms)
    edges = np.asarray(edges_ms, dtype="int64")
    widths = np.diff(edges) // MS_PER_HOUR
    there = pd.DataFrame(
        {
            "device_id": found["entity_id"],
            "hour_ms": found["start_ms"],
            "there_ratio": found["there_ms"] / MS_PER_HOUR,
            "width_hours": widths[np.searchsorted(edges, found["start_ms"])],
            "host": devices["host"].loc[found["entity_id"]].to_numpy(),
        }
    )
    cards = _accounts(engine, "accelerator", ids, edges_ms, _READ).rename(columns={"entity_id": "device_id"})
    found = there.merge(cards, "left", ["device_id", "hour_ms"])
    packages = _packages(_accounts(engine, "cpu", None, edges_ms, ("energy_joules",)), entities)
    return found.merge(packages, "left", ["host", "hour_ms"])


def _accounts(
    engine: Store, family: str, ids: Sequence[int] | None, edges_ms: Sequence[int], columns: Sequence[str]
) -> pd.DataFrame:
    """entity_id, hour_ms and the columns."""
    found = queries.accounts(engine, family, ids, edges_ms, columns)
    return found[["entity_id", *columns]].assign(hour_ms=queries.epoch_ms(found["bucket_at"]))


def _packages(cpu: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """Energy of all CPU packages of a host by stretch; known where that of each socket is."""
    hosts = entities.loc[cpu["entity_id"], "host"].to_numpy()
    sums = cpu.groupby([hosts, "hour_ms"])["energy_joules"].sum(skipna=False)
    return sums.rename("package_joules").rename_axis(["host", "hour_ms"]).reset_index()


def _is_mixed(read: pd.DataFrame, entities: pd.DataFrame) -> pd.Series[bool]:
    """Rows of several hours that may not be alike, so that what holds of each need not hold of their sum."""
    seconds = read["width_hours"] * _SECONDS
    mixed = read["there_ratio"] < read["width_hours"]
    for name in ("energy_seconds", "observed_seconds"):
        # A gap this short leaves every hour of the stretch seen as good as whole.
        mixed |= (read[name] > 0) & (seconds - read[name] > (1 - ENOUGH_COVERAGE) * _SECONDS)
    sliced = entities["parent_key"].dropna()
    in_slices = entities.index[entities["key"].isin(sliced)]
    mixed |= read["device_id"].isin(in_slices)
    return mixed & (read["width_hours"] > 1)


def _with_energy(found: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    """Energy per device and hour: as observed; over gaps within an hour that was mostly observed, at its mean power."""
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
    return found.drop(columns=["width_hours", "host", "energy_seconds", "observed_seconds", "package_joules"])


def _work(engine: Store, edges_ms: Sequence[int]) -> pd.DataFrame:
    columns = ("prompt_tokens", "cached_prompt_tokens", "generation_tokens", "succeeded_requests")
    found = _accounts(engine, "deployment", None, edges_ms, columns)
    return found.rename(columns={"entity_id": "deployment_id"})[["deployment_id", "hour_ms", *columns]]
