"""Tests that look at hours alone: what devices did in them, and when. Each is told which rows no test owns yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.formulas.states import State
from analytics.formulas.wastes import (
    BLOCK_HOURS,
    IDLE_ENERGY_RATIO,
    LONG_IDLE_HOURS,
    LOW_USE_RATIO,
    RECURRING_DAYS,
)
from analytics.wastes.hours import Hours, stretch_lengths
from analytics.wastes.waste import Claim, Figure, Integers, Kind
from core.sites import matches

Rows = NDArray[np.bool_]


def parked(of: Hours, open_rows: Rows) -> Iterator[Claim]:
    """Models that were loaded, and had no request for a day or more. Needs accounts of accelerators."""
    long = of.rows["idle_hours"] >= LONG_IDLE_HOURS
    for ids, what, rows in _by_holders(of, open_rows & long & (of.rows["idle_as"] == State.PARKED)):
        yield _whole(Kind.PARKED, what, rows, ids)


def free(of: Hours, open_rows: Rows) -> Iterator[Claim]:
    """Accelerators without a process for a day or more. Needs a driver that tells processes."""
    long = of.rows["idle_hours"] >= LONG_IDLE_HOURS
    for what, rows in _by_model(of.rows, np.flatnonzero(open_rows & long & (of.rows["idle_as"] == State.FREE))):
        yield _whole(Kind.FREE, what, rows)


def trough(of: Hours, open_rows: Rows) -> Iterator[Claim]:
    """Blocks of hours that devices hardly worked in, at the same local hours of three days. Needs accounts."""
    rows = of.rows.assign(row=np.arange(len(of.rows)))[open_rows & (of.rows["used_ratio"] < LOW_USE_RATIO)]
    rows = rows.sort_values(["device_id", "hour_ms"])
    # The edge of the window cuts blocks, so their hours are found by those of the whole ones.
    day = rows["local_day"].where(stretch_lengths(rows) >= BLOCK_HOURS)
    days = day.groupby([rows["device_id"], rows["local_hour"]]).transform("nunique")
    found = np.zeros(len(of.rows), "bool")
    found[rows.loc[days >= RECURRING_DAYS, "row"]] = True
    for ids, what, these in _by_holders(of, found):
        there = of.rows.iloc[these]
        figures = (
            Figure("days", float(there["local_day"].nunique())),
            Figure("used_ratio", float(there["used_ratio"].mean())),
        )
        yield _whole(Kind.TROUGH, what, these, ids, figures)


def idle_power(of: Hours, open_rows: Rows) -> Iterator[Claim]:
    """Hosts of whose energy too much was drawn while idle. Needs energy readings and a tariff on top of the rent."""
    idle, active = of.rows["idle_kwh"].to_numpy(), of.rows["active_kwh"].to_numpy()
    by_host: Any = of.rows.groupby("host").indices
    for host, found in by_host.items():
        rows = found[open_rows[found]]
        idle_kwh, active_kwh = np.nansum(idle[rows]), np.nansum(active[rows])
        if idle_kwh > IDLE_ENERGY_RATIO * (idle_kwh + active_kwh):
            these = rows[idle[rows] > 0]
            yield Claim(
                kind=Kind.IDLE_POWER,
                what=str(host),
                rows=these,
                parts=np.ones(len(these)),
                lines=("electricity_idle_usd",),
                evidence=(
                    Figure("idle_energy_ratio", float(idle_kwh / (idle_kwh + active_kwh))),
                    Figure("idle_kwh", float(idle_kwh)),
                ),
            )


def dear_hours(of: Hours, open_rows: Rows) -> Iterator[Claim]:
    """Work that can wait and did not, at more than the tariff's lowest price. Needs ``cost.flexible_models``."""
    flexible = [
        deployment_id
        for deployment_id, model in of.models.items()
        if any(matches(pattern, model) for pattern in of.settings.cost.flexible_models)
    ]
    rows = of.rows
    usd_per_kwh = rows["electricity_active_usd"] / rows["active_kwh"].where(rows["active_kwh"] > 0)
    dear = (1 - rows["valley_usd_per_kwh"] / usd_per_kwh.where(usd_per_kwh > 0)).fillna(0.0)
    held = of.shares[of.shares["deployment_id"].isin(flexible)]
    parts = held.groupby("row")["share"].sum().reindex(np.arange(len(rows)), fill_value=0.0) * dear.to_numpy()
    for ids, what, these in _by_holders(of, open_rows & (parts > 0).to_numpy(), held):
        kwh = rows["active_kwh"].iloc[these]
        yield Claim(
            kind=Kind.DEAR_HOURS,
            what=what,
            rows=these,
            parts=parts.iloc[these].to_numpy(),
            lines=("electricity_active_usd",),
            deployment_ids=ids,
            evidence=(
                Figure("kwh", float(kwh.sum())),
                Figure("usd_per_kwh", float(rows["electricity_active_usd"].iloc[these].sum() / kwh.sum())),
                Figure("valley_usd_per_kwh", float(rows["valley_usd_per_kwh"].iloc[these].min())),
            ),
        )


def _whole(kind: Kind, what: str, rows: Integers, ids: tuple[int, ...] = (), more: Iterable[Figure] = ()) -> Claim:
    """All that the hours of some rows cost."""
    return Claim(kind=kind, what=what, rows=rows, parts=np.ones(len(rows)), deployment_ids=ids, evidence=tuple(more))


def _by_holders(
    of: Hours, chosen: Rows | pd.Series[bool], shares: pd.DataFrame | None = None
) -> Iterator[tuple[tuple[int, ...], str, Integers]]:
    """Rows by the deployments that held their devices, with their names; by host and model where none is known."""
    shares = of.shares if shares is None else shares
    rows = np.flatnonzero(chosen)
    held = shares.loc[shares["row"].isin(rows), ["device_id", "deployment_id"]].drop_duplicates()
    holders: dict[int, tuple[int, ...]] = {}
    for device_id, deployment_id in held.sort_values("deployment_id").to_numpy().tolist():
        holders[device_id] = (*holders.get(device_id, ()), deployment_id)
    by_holders: dict[tuple[int, ...], list[int]] = {}
    for row, device_id in zip(rows.tolist(), of.rows["device_id"].iloc[rows], strict=True):
        by_holders.setdefault(holders.get(device_id, ()), []).append(row)
    for ids, these in by_holders.items():
        if ids:
            yield ids, ", ".join(dict.fromkeys(of.models[list(ids)])), np.array(these)
        else:
            yield from (((), what, some) for what, some in _by_model(of.rows, np.array(these)))


def _by_model(rows: pd.DataFrame, chosen: Integers) -> Iterator[tuple[str, Integers]]:
    """Rows by host and model of their devices, with what people call them."""
    there = rows.iloc[chosen]
    for indices in there.groupby(["host", "device_model"]).indices.values():
        some = there.iloc[indices]
        yield f"{some['device_id'].nunique()} x {some['device_model'].iloc[0]}", chosen[indices]
