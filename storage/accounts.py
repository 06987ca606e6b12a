"""Accounts: what each entity used and did in each hour, kept for ever, and the same per UTC day.

An account is made of raw samples alone, so it can be made again for any range as long as those are kept,
with the same result. A step between two samples belongs to the hour it ends in. Where a counter was not
read for a while, what it grew by is spread evenly over that time, and the hours are called ``estimated``.

``entity.accounted_until_ms`` says up to where the accounts of an entity are final; late data sets it back
(``storage.rows.account_again``), and the next pass begins there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, case, delete, func, insert, literal, select, update

from analytics.formulas import energy as formulas
from analytics.formulas.sampling import usual_intervals
from analytics.formulas.states import LOOKBACK_MS, State, accelerator_states, recently
from storage import histograms, schema, series
from storage.blocks import Changed
from storage.codec import Floats, Integers
from storage.hours import SOURCES, Hours
from storage.rows import insert_rows
from storage.schema import DAY_MS, HOUR_MS
from storage.series import FOREVER_MS, Rows
from storage.steps import grown_ms

SUMS = (24, 8)
"""Hours over which hours are summed up. Thirds of a day are for weeks of time zones, which cut UTC days."""
FAMILIES_ACCOUNTED = ("deployment", "accelerator", "cpu", "host")
_READ = {
    "accelerator": ("energy_joules_total", "power_watts", "processes", "utilization_ratio"),
    "cpu": ("energy_joules_total", "power_watts"),
    "host": ("node_power_watts",),
    "deployment": (*schema.ACCOUNTED_COUNTERS, "running_requests", "waiting_requests"),
}
_POWER = {"accelerator": "power_watts", "cpu": "power_watts", "host": "node_power_watts"}


HELD_STATES = (State.ACTIVE.value, State.PARKED.value, State.FREE.value)
_ENERGY = ("observed_seconds", "energy_joules", "energy_seconds", "energy_source")
COLUMNS: dict[str, tuple[str, ...]] = {
    "accelerator": (
        *_ENERGY,
        *(f"{state}_joules" for state in HELD_STATES),
        *(f"{state}_seconds" for state in HELD_STATES),
        "off_seconds",
    ),
    "cpu": _ENERGY,
    "host": _ENERGY,
    "deployment": ("observed_seconds", *schema.ACCOUNTED_COUNTERS.values()),
}
"""What the accounts of a family hold."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An entity whose accounts are not final from ``from_ms`` (a whole hour) on."""

    entity_id: int
    family: str
    from_ms: int


@dataclass(frozen=True, slots=True)
class Accounts:
    """What one entity used and did from ``pending.from_ms`` to ``until_ms``."""

    pending: Pending
    until_ms: int
    final_ms: int  # hours before this cannot change any more unless data come late
    rows: list[tuple[object, ...]]  # of schema.account
    latency: list[tuple[object, ...]]  # of schema.latency_account
    samples: int  # hot rows of these hours when they were read


@dataclass(frozen=True, slots=True)
class _Work:
    """When a deployment reported and when it had requests or tokens, while it ran on a device."""

    valid_from_ms: int
    valid_to_ms: int
    reported_ms: Integers
    worked_ms: Integers


def pending(connection: Connection, family: str, until_ms: int, since_ms: int = 0) -> list[Pending]:
    """Entities of a family that have samples and no final accounts up to ``until_ms``, looking back to ``since_ms``.

    Both are whole hours. Before ``since_ms`` raw samples may have been removed, so accounts there are left as they are.
    """
    every = []
    for one in _standings(connection, family):
        from_ms = max(one.accounted_ms or 0, one.again_ms)
        if from_ms < since_ms and one.last_ms is not None and one.last_ms > from_ms:
            from_ms = since_ms + HOUR_MS  # late data of a time that is accounted for and mostly removed
        if from_ms < until_ms:
            every.append(Pending(one.entity_id, family, from_ms))
    return every


@dataclass(frozen=True, slots=True)
class _Standing:
    """An entity that has samples, and how its accounts stand (Unix ms)."""

    entity_id: int
    accounted_ms: int | None
    last_ms: int | None  # the newest hour that has an account
    again_ms: int  # from here on accounts can be made, or made again, from what is kept


def _standings(connection: Connection, family: str) -> Iterator[_Standing]:
    entity, rows, blocks = schema.entity.c, schema.samples[family].c, schema.blocks[family].c
    account = schema.account.c
    first_row = select(func.min(rows.observed_at_ms)).where(rows.entity_id == entity.entity_id).scalar_subquery()
    first_block = (
        select(blocks.first_at_ms)
        .where(blocks.entity_id == entity.entity_id)
        .order_by(blocks.span_ms)
        .limit(1)
        .scalar_subquery()
    )
    oldest, newest = (
        select(of(account.start_ms)).where(account.hours == 1, account.entity_id == entity.entity_id).scalar_subquery()
        for of in (func.min, func.max)
    )
    found = connection.execute(
        select(entity.entity_id, entity.accounted_until_ms, oldest, newest, first_row, first_block)
        .where(entity.family == family)
        .order_by(entity.entity_id)
    ).all()
    for entity_id, accounted_ms, oldest_ms, last_ms, *firsts in found:
        first_ms = min((at_ms for at_ms in firsts if at_ms is not None), default=None)
        if first_ms is None:
            continue
        again_ms = first_ms // HOUR_MS * HOUR_MS
        if oldest_ms is not None and oldest_ms < again_ms <= last_ms:
            again_ms += HOUR_MS  # what the first step of that hour began with was removed
        yield _Standing(entity_id, accounted_ms, last_ms, again_ms)


def prepare(
    connection: Connection, every: Sequence[Pending], until_ms: int, limit_ms: int | None = None
) -> Iterator[Accounts]:
    """Accounts up to ``until_ms`` of entities of one family that are pending from the same hour on.

    Where samples pause beyond that, an entity's accounts go on to the hour in which they begin again,
    but not over ``limit_ms``.
    """
    family, from_ms = every[0].family, every[0].from_ms
    ids = [one.entity_id for one in every]
    samples = _read(connection, family, ids, from_ms, until_ms)
    served = _served(connection, ids, from_ms, until_ms) if family == "accelerator" else {}
    latency = _latency(connection, ids, from_ms, until_ms) if family == "deployment" else {}
    there = _hot(connection, family, ids, from_ms, until_ms)
    for one in every:
        rows = samples.get(one.entity_id)
        if limit_ms is not None and until_ms < limit_ms and (rows is None or rows.at_ms[-1] < until_ms):
            again_ms = series.first_after(connection, family, one.entity_id, until_ms)
            if again_ms is not None:
                yield from prepare(connection, [one], min(again_ms // HOUR_MS * HOUR_MS + HOUR_MS, limit_ms))
                continue
        if rows is None or rows.at_ms[-1] < from_ms:
            continue  # it fell silent, and what it did is accounted for
        if rows.at_ms[0] >= from_ms:
            rows = _with_the_one_before(connection, family, rows, from_ms)
        final_ms = min(max(int(rows.at_ms[-1]) // HOUR_MS * HOUR_MS, from_ms), until_ms)
        hours = _accounted(family, rows, served.get(one.entity_id, []), from_ms, until_ms)
        seen = there.get(one.entity_id, 0)
        yield Accounts(one, until_ms, final_ms, hours, latency.get(one.entity_id, []), seen)


def _read(connection: Connection, family: str, ids: Sequence[int], from_ms: int, until_ms: int) -> dict[int, Rows]:
    window = (from_ms - LOOKBACK_MS, until_ms + LOOKBACK_MS)
    read = series.read(connection, family, _READ[family], ids, *window)
    return {rows.entity_id: rows for rows in read.by_entity()}


def store(connection: Connection, made: Accounts) -> None:
    """Replace the accounts of an entity over the hours that were made, and the sums of their days.

    Raises:
        Changed: samples of these hours came since they were read; roll back.
    """
    entity_id, from_ms, until_ms = made.pending.entity_id, made.pending.from_ms, made.until_ms
    now_there = _hot(connection, made.pending.family, [entity_id], from_ms, until_ms)
    if now_there.get(entity_id, 0) != made.samples:
        raise Changed("samples came late")
    for table, rows in ((schema.account, made.rows), (schema.latency_account, made.latency)):
        there = (table.c.hours == 1) & (table.c.entity_id == entity_id)
        connection.execute(delete(table).where(there, table.c.start_ms >= from_ms, table.c.start_ms < until_ms))
        if rows:
            insert_rows(connection, table, rows)
    if made.rows or made.latency:
        _sum_up(connection, entity_id, from_ms // DAY_MS * DAY_MS, -(-until_ms // DAY_MS) * DAY_MS)
    statement = update(schema.entity).values(accounted_until_ms=made.final_ms)
    connection.execute(statement.where(schema.entity.c.entity_id == entity_id))


def _hot(connection: Connection, family: str, ids: Sequence[int], from_ms: int, until_ms: int) -> dict[int, int]:
    """How many rows of some hours are not sealed, by entity."""
    table = schema.samples[family].c
    within = (table.observed_at_ms >= from_ms) & (table.observed_at_ms < until_ms)
    found = select(table.entity_id, func.count()).where(series.within(table.entity_id, ids), within)
    return {row[0]: row[1] for row in connection.execute(found.group_by(table.entity_id))}


def _with_the_one_before(connection: Connection, family: str, rows: Rows, from_ms: int) -> Rows:
    """Samples with the last one before them, however long ago, which tells what counters grew from."""
    before_ms = series.last_before(connection, family, rows.entity_id, from_ms)
    if before_ms is None:
        return rows
    window = (before_ms - LOOKBACK_MS, before_ms + 1)
    (before,) = series.read(connection, family, _READ[family], [rows.entity_id], *window).by_entity()
    return series.merged(before, rows)


def _accounted(family: str, rows: Rows, served: list[_Work], from_ms: int, until_ms: int) -> list[tuple[object, ...]]:
    """Rows of ``schema.account`` for every hour in which something was seen or a counter grew."""
    hours = Hours(from_ms, until_ms)
    grown, _ = grown_ms(rows.at_ms)
    began_ms = rows.at_ms - grown  # a sample stands for the time up to it; over a gap for none
    hours.cut("observed_seconds", began_ms, rows.at_ms)
    states = _states(rows, served) if family == "accelerator" else None
    if family in _POWER:
        _energy(family, rows, hours, states)
    if states is not None:
        for state in HELD_STATES:
            chosen = states == state
            hours.cut(f"{state}_seconds", began_ms[chosen], rows.at_ms[chosen])
        hours.off_seconds(int(rows.at_ms[0]))
    if family == "deployment":
        for metric, column in schema.ACCOUNTED_COUNTERS.items():
            hours.add(column, *_growth(rows.at_ms, rows.values[metric]))
    return hours.rows(rows.entity_id)


def _growth(at_ms: Integers, totals: Floats) -> tuple[Integers, Integers, Floats]:
    """Steps of a counter: begin, end, growth; after a restart the new value is the growth."""
    known = np.isfinite(totals)
    at, total = at_ms[known], totals[known]
    rise = np.diff(total)
    return at[:-1], at[1:], np.where(rise < 0, total[1:], rise)


def _energy(family: str, rows: Rows, hours: Hours, states: NDArray[np.str_] | None) -> None:
    """Energy of each hour by the counter where it works, else by power samples; a step is of the state it ends in."""
    at = rows.at_ms / 1000
    power = rows.values[_POWER[family]]
    longest = formulas.max_gap_seconds(usual_intervals(at))
    found = {"node" if family == "host" else "integrated": formulas.power_portions(at, power, longest)}
    if "energy_joules_total" in rows.values:
        found["counter"] = formulas.counter_portions(at, rows.values["energy_joules_total"])
    for source, portions in found.items():
        ended = None if states is None else states[np.searchsorted(at, portions.end)]
        hours.add_energy(source, portions, ended)


def _states(rows: Rows, served: list[_Work]) -> NDArray[np.str_]:
    serving, working = np.zeros(rows.instants, "bool"), np.zeros(rows.instants, "bool")
    for work in served:
        valid = (rows.at_ms >= work.valid_from_ms) & (rows.at_ms < work.valid_to_ms)
        serving |= valid & recently(rows.at_ms, work.reported_ms)
        working |= valid & recently(rows.at_ms, work.worked_ms)
    return accelerator_states(rows.at_ms, rows.values["processes"], rows.values["utilization_ratio"], serving, working)


def _served(connection: Connection, ids: Sequence[int], start_ms: int, end_ms: int) -> dict[int, list[_Work]]:
    """By accelerator: the deployments that ran on it, and when they worked."""
    table = schema.assignment.c
    joined = connection.execute(
        select(table.target_id, table.deployment_id, table.valid_from_ms, func.coalesce(table.valid_to_ms, FOREVER_MS))
        .where(
            series.within(table.target_id, ids),
            table.valid_from_ms < end_ms,
            func.coalesce(table.valid_to_ms, FOREVER_MS) > start_ms,
        )
        .order_by(table.target_id, table.valid_from_ms)
    ).all()
    deployments = sorted({row.deployment_id for row in joined})
    start_ms, end_ms = start_ms - LOOKBACK_MS, end_ms + LOOKBACK_MS
    metrics = ("running_requests", "waiting_requests", "generation_tokens_total")
    read = series.read(connection, "deployment", metrics, deployments, start_ms, end_ms)
    worked = {rows.entity_id: (rows.at_ms, _worked(rows)) for rows in read.by_entity()}
    answer: dict[int, list[_Work]] = {}
    for target_id, deployment_id, valid_from_ms, valid_to_ms in joined:
        if deployment_id in worked:
            answer.setdefault(target_id, []).append(_Work(valid_from_ms, valid_to_ms, *worked[deployment_id]))
    return answer


def _worked(rows: Rows) -> Integers:
    """When a deployment had requests, or tokens since the sample before."""
    requests = np.nan_to_num(rows.values["running_requests"]) + np.nan_to_num(rows.values["waiting_requests"])
    _, at_ms, growth = _growth(rows.at_ms, rows.values["generation_tokens_total"])
    return np.union1d(rows.at_ms[requests > 0], at_ms[growth > 0])


def _latency(
    connection: Connection, ids: Sequence[int], from_ms: int, until_ms: int
) -> dict[int, list[tuple[object, ...]]]:
    """Rows of ``schema.latency_account``: increments of every hour; one ends with the hour it was counted in."""
    answer: dict[int, list[tuple[object, ...]]] = {}
    for found in histograms.read(connection, ids, None, from_ms + 1, until_ms + 1):
        hour = (found.at_ms - 1) // HOUR_MS * HOUR_MS
        starts = np.flatnonzero(np.diff(hour, prepend=hour[0] - 1))
        increments = np.add.reduceat(found.increments, starts, axis=1).T
        seconds = np.add.reduceat(found.sum_seconds, starts)
        answer.setdefault(found.entity_id, []).extend(
            (
                1,
                found.entity_id,
                int(start_ms),
                found.kind,
                found.bounds_id,
                _json(counts),
                None if np.isnan(total) else float(total),
            )
            for start_ms, counts, total in zip(hour[starts], increments, seconds, strict=True)
        )
    return answer


def _sum_up(connection: Connection, entity_id: int, start_ms: int, end_ms: int) -> None:
    """Sum hours to thirds of UTC days and to UTC days again; histograms to days."""
    for table in (schema.account, schema.latency_account):
        there = (table.c.entity_id == entity_id) & (table.c.start_ms >= start_ms) & (table.c.start_ms < end_ms)
        connection.execute(delete(table).where(there, table.c.hours.in_(SUMS)))
    table = schema.account
    worst = func.max(case({name: number for number, name in enumerate(SOURCES)}, value=table.c.energy_source))
    figures = [
        case(dict(enumerate(SOURCES)), value=worst) if column.name == "energy_source" else func.sum(column)
        for column in list(table.c)[3:]
    ]
    hours = (
        table.c.hours == 1,
        table.c.entity_id == entity_id,
        table.c.start_ms >= start_ms,
        table.c.start_ms < end_ms,
    )
    for width in SUMS:
        begin = (table.c.start_ms - table.c.start_ms % (width * HOUR_MS)).label("begin_ms")
        sums = select(literal(width), table.c.entity_id, begin, *figures).where(*hours)
        rows = sums.group_by(table.c.entity_id, begin)
        connection.execute(insert(table).from_select(list(table.c), rows))
    _sum_latency_days(connection, entity_id, start_ms, end_ms)


def _sum_latency_days(connection: Connection, entity_id: int, start_ms: int, end_ms: int) -> None:
    table = schema.latency_account.c
    found = connection.execute(
        select(table.start_ms, table.kind, table.bounds_id, table.increments, table.sum_seconds).where(
            table.hours == 1, table.entity_id == entity_id, table.start_ms >= start_ms, table.start_ms < end_ms
        )
    )
    days: dict[tuple[int, str, int], tuple[Floats, float]] = {}
    for hour_ms, kind, bounds_id, increments, seconds in found:
        key = (hour_ms // DAY_MS * DAY_MS, kind, bounds_id)
        counts, total = days.get(key, (0.0, 0.0))
        known = np.nan if seconds is None else seconds
        days[key] = (counts + np.array(json.loads(increments), dtype="float64"), total + known)
    rows: list[tuple[object, ...]] = [
        (24, entity_id, day_ms, kind, bounds_id, _json(counts), None if total != total else total)
        for (day_ms, kind, bounds_id), (counts, total) in days.items()
    ]
    if rows:
        insert_rows(connection, schema.latency_account, rows)


def _json(counts: Floats) -> str:
    return json.dumps(counts.tolist(), separators=(",", ":"))


def forget(connection: Connection, start_ms: int) -> None:
    """Have the accounts from ``start_ms`` on made again, as far back as raw samples are kept; older ones stay."""
    entity = schema.entity
    for family in FAMILIES_ACCOUNTED:
        for one in _standings(connection, family):
            hour_ms = max(start_ms // HOUR_MS * HOUR_MS, one.again_ms)
            there = (entity.c.entity_id == one.entity_id) & (entity.c.accounted_until_ms > hour_ms)
            connection.execute(update(entity).where(there).values(accounted_until_ms=hour_ms))
