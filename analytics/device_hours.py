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

from analytics.formulas.energy import ENOUGH_COVERAGE, LEAST_COVERAGE
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.holders import IDLE_ID, Floats, Integers, held_stretches, rows_at, share_out
from analytics.presence import stretches_there
from analytics.serving import are_gateways
from storage import account_sums, queries
from storage.engine import Store

__all__ = ["IDLE_ID", "STATE_SECONDS", "DeviceHours", "device_hours", "device_stretches", "whole_hours"]

STATE_SECONDS = ("active_seconds", "parked_seconds", "free_seconds")
_READ = ("energy_joules", "energy_seconds", "active_joules", "observed_seconds", "active_seconds")
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
        ``STATE_SECONDS`` as accounted, where they are asked for.
    shares: device_id, hour_ms, deployment_id, share: parts of the time it existed that sum to 1, ``IDLE_ID`` for what
        nobody held; row: its position in ``hours``.
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


def whole_hours(start_ms: int, end_ms: int) -> tuple[int, int]:
    """The whole UTC hours inside a window; accounts know no smaller ones."""
    first = -(-start_ms // MS_PER_HOUR) * MS_PER_HOUR
    return first, max(end_ms // MS_PER_HOUR * MS_PER_HOUR, first)


def device_hours(
    engine: Store, start_ms: int, end_ms: int, output_weight_ratio: float, *, with_states: bool = True
) -> DeviceHours:
    """Read the accounts of a window.

    Args:
        engine: the reader.
        start_ms: a whole UTC hour.
        end_ms: another.
        output_weight_ratio: what an output token weighs against one of input, where deployments share a device.
        with_states: whether ``STATE_SECONDS`` are read.
    """
    edges = range(start_ms, end_ms + 1, MS_PER_HOUR)
    until_ms = queries.accounted_until(engine)
    return device_stretches(engine, edges, until_ms, output_weight_ratio, with_states=with_states)


def device_stretches(
    engine: Store,
    edges_ms: Sequence[int],
    until_ms: Mapping[int, int],
    output_weight_ratio: float,
    *,
    by_state: bool = True,
    with_states: bool = True,
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
        with_states: as there.
    """
    start_ms, end_ms = edges_ms[0], edges_ms[-1]
    entities = queries.entities(engine).set_index("entity_id")
    joined = queries.assignments(engine, start_ms, end_ms)
    joined = joined[~joined["deployment_id"].isin(entities.index[are_gateways(entities)])]
    devices = _devices(entities, joined)
    work = _work(engine, edges_ms)
    cut = range(start_ms, end_ms + 1, MS_PER_HOUR) if by_state and _has_packages(engine, start_ms, end_ms) else edges_ms
    columns = tuple(dict.fromkeys((*_READ, *STATE_SECONDS))) if with_states else _READ
    read = _read(engine, None, devices, entities, until_ms, cut, columns)
    held = held_stretches(joined, entities, devices, cut)
    several = read[read["width_hours"] > 1]
    mixed = several[_is_mixed(several, entities)]
    if len(mixed):
        ids = mixed["device_id"].unique().tolist()
        cut = _cut_into_hours(edges_ms, set(mixed["hour_ms"]))
        again = devices.loc[ids]
        read, held = (frame[~frame["device_id"].isin(ids)] for frame in (read, held))
        read = pd.concat([read, _read(engine, ids, again, entities, until_ms, cut, columns)], ignore_index=True)
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
    columns: Sequence[str],
) -> pd.DataFrame:
    """A row for every stretch in which a device existed, with what its accounts and its host's say of it.

    Returns:
        device_id, hour_ms, there_ratio, width_hours, the columns and package_joules.
    """
    there = stretches_there(queries.epoch_ms(entities.loc[devices.index, "first_seen_at"]), until_ms, edges_ms)
    device_id, hour_ms = there["entity_id"], there["start_ms"]
    edges = np.asarray(edges_ms, dtype="int64")
    stretch = np.searchsorted(edges, hour_ms)
    cards = _accounts(engine, "accelerator", ids, edges_ms, columns).rename(columns={"entity_id": "device_id"})
    at = rows_at(cards, device_id, hour_ms)
    hosts = pd.Index(devices["host"].unique())
    packages = _packages(_accounts(engine, "cpu", None, edges_ms, ("energy_joules",)), entities, hosts, edges)
    host = hosts.get_indexer(pd.Index(devices["host"]))[devices.index.get_indexer(pd.Index(device_id))]
    answer = {
        "device_id": device_id.to_numpy(),
        "hour_ms": hour_ms.to_numpy(),
        "there_ratio": there["there_ms"].to_numpy() / MS_PER_HOUR,
        "width_hours": (np.diff(edges) // MS_PER_HOUR)[stretch],
        **{name: np.append(cards[name].to_numpy(), np.nan)[at] for name in columns},  # the last stands for no account
        "package_joules": packages[host, stretch],
    }
    return pd.DataFrame(answer, copy=False)


def _accounts(
    engine: Store, family: str, ids: Sequence[int] | None, edges_ms: Sequence[int], columns: Sequence[str]
) -> pd.DataFrame:
    """entity_id, hour_ms and the columns."""
    sums = account_sums.read(engine, family, ids, edges_ms, columns)
    hour_ms = np.asarray(edges_ms, dtype="int64")[sums.buckets]
    return pd.DataFrame({"entity_id": sums.entity_ids, "hour_ms": hour_ms, **sums.figures}, copy=False)


def _packages(cpu: pd.DataFrame, entities: pd.DataFrame, hosts: pd.Index[str], edges_ms: Integers) -> Floats:
    """Energy of all CPU packages, a row per host and a column per stretch; known where that of each socket is."""
    size = (len(hosts), len(edges_ms) - 1)
    host = hosts.get_indexer(pd.Index(entities["host"].loc[cpu["entity_id"]]))
    place = (host * size[1] + np.searchsorted(edges_ms, cpu["hour_ms"]))[host >= 0]
    sums = np.bincount(place, cpu["energy_joules"].to_numpy()[host >= 0], size[0] * size[1])
    return np.where(np.bincount(place, minlength=len(sums)) > 0, sums, np.nan).reshape(size)


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
    return mixed


def _with_energy(read: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    """Energy per device and hour: as observed; over gaps within an hour that was mostly observed, at its mean power."""
    said = {name: read[name].to_numpy() for name in read.columns}
    device = devices.index.get_indexer(pd.Index(read["device_id"]))
    is_card = (devices["family"] == "accelerator").to_numpy()[device]
    seconds, observed, active_seconds = said["there_ratio"] * _SECONDS, said["observed_seconds"], said["active_seconds"]
    covered = np.minimum(_or_zero(said["energy_seconds"]) / seconds, 1.0)
    filled = (covered >= LEAST_COVERAGE) & (covered < ENOUGH_COVERAGE)
    factor = 1 / np.where(filled, covered, 1.0)
    part = said["package_joules"] / devices["host_parts"].to_numpy()[device]
    card = said["energy_joules"] * factor
    # What the counter of the host adds is taken for the device's as it worked; unknown packages add nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        busy = _or_zero(np.minimum(_or_zero(active_seconds) / observed, 1.0))
    active = _or_zero(said["active_joules"]) * factor + _or_zero(part) * busy
    total = np.where(is_card, card + _or_zero(part), part)
    active = np.where(is_card, np.where(np.isnan(card), np.nan, active), part)
    columns = {
        **{name: said[name] for name in ("device_id", "hour_ms", "there_ratio")},
        "energy_joules": total,
        "active_joules": active,
        **{name: said[name] for name in STATE_SECONDS if name in said},
        "idle_joules": total - active,
        "covered_ratio": np.where(is_card, covered, ~np.isnan(part)),
        "is_filled": filled & is_card,
        "active_ratio": np.where(observed > 0, np.minimum(_or_zero(active_seconds) / seconds, 1.0), np.nan),
    }
    return pd.DataFrame(columns, copy=False)


def _or_zero(amounts: Floats) -> Floats:
    """The same, where nothing is known nothing."""
    return np.where(np.isnan(amounts), 0.0, amounts)


def _work(engine: Store, edges_ms: Sequence[int]) -> pd.DataFrame:
    columns = ("prompt_tokens", "cached_prompt_tokens", "generation_tokens", "succeeded_requests")
    found = _accounts(engine, "deployment", None, edges_ms, columns)
    return found.rename(columns={"entity_id": "deployment_id"})[["deployment_id", "hour_ms", *columns]]
