"""Energy and mean power of many entities together by the hour, from their accounts: summed where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Engine, bindparam, func, literal, select

from storage import schema, series
from storage.accounts import HELD_STATES
from storage.codec import Floats
from storage.schema import HOUR_MS
from storage.steps import shared


def mean_power(
    engine: Engine, groups: Sequence[Sequence[int]], start_ms: int, end_ms: int, step_ms: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Mean power by the accounts of whole hours, a row per group of entities and a column per step of such hours.

    Returns:
        The sum over a group of the energy of each entity over the time that this covers (W): the mean of the hours in
        which it is known, NaN where it is not; and of how many entities that is, on average.
    """
    steps = (end_ms - start_ms) // step_ms
    watts, reporting = np.full((len(groups), steps), np.nan), np.zeros((len(groups), steps), "int64")
    account = schema.account.c
    step = ((account.start_ms - start_ms) // step_ms).label("step")
    power = func.sum(account.energy_joules / account.energy_seconds)
    statement = (
        select(step, power, func.count(), func.count(account.start_ms.distinct()))
        .where(account.entity_id.in_(bindparam("ids", expanding=True)), *_known(start_ms, end_ms))
        .group_by(step)
    )

    def work(rows: Sequence[int]) -> None:
        with engine.connect() as connection:
            for row in rows:
                ids = [int(entity_id) for entity_id in groups[row]]
                found = series.plain_rows(connection, statement, {"ids": ids}).reshape(-1, 4).T
                number = found[0].astype("int64")
                watts[row, number] = found[1] / found[3]
                reporting[row, number] = np.ceil(found[2] / found[3])

    shared(work, range(len(groups)), (end_ms - start_ms) // HOUR_MS)
    return watts, reporting


def energy_by_hour(engine: Engine, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> Floats:
    """Energy of entities together in each whole hour by their accounts; NaN where nothing is accounted.

    Returns:
        A column per hour. Rows: energy (J), the time that it covers (s), and what is of each held state (J).
    """
    account = schema.account.c
    names = ("energy_joules", "energy_seconds", *(f"{state}_joules" for state in HELD_STATES))
    hours = (end_ms - start_ms) // HOUR_MS

    def work(ids: Sequence[int]) -> Floats:
        sums = np.full((hours, len(names)), np.nan)
        with engine.connect() as connection:
            for hour_ms, *figures in connection.execute(
                select(account.start_ms, *(func.sum(account[name]) for name in names))
                .where(series.within(account.entity_id, ids), *_known(start_ms, end_ms))
                .group_by(account.start_ms)
            ):
                sums[(hour_ms - start_ms) // HOUR_MS] = figures
        return sums

    every = np.array(shared(work, entity_ids, hours))
    return np.where(np.isfinite(every).any(axis=0), np.nansum(every, axis=0), np.nan).T


def metered(engine: Engine, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> set[int]:
    """Those entities whose energy is accounted for in any hour of a window."""
    entity = schema.entity.c.entity_id
    told = select(literal(1)).where(schema.account.c.entity_id == entity, *_known(start_ms, end_ms)).exists()
    with engine.connect() as connection:
        return set(connection.execute(select(entity).where(series.within(entity, entity_ids), told)).scalars())


def _known(start_ms: int, end_ms: int) -> tuple[ColumnElement[bool], ...]:
    """The condition that an account is of an hour of a window and tells of energy."""
    account = schema.account.c
    return account.hours == 1, account.start_ms >= start_ms, account.start_ms < end_ms, account.energy_seconds > 0
