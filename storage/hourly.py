"""Histograms of a whole window: whole days and hours from their accounts, the rest from rows and blocks.

The answer is the same to the request; a week of blocks holds hundreds of times the numbers of its 168 hours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection, func, select

from storage import histograms, schema
from storage.histograms import Histograms, Key, Seen
from storage.schema import HOUR_MS
from storage.series import within

_DAY = 24  # hours
_DAY_MS = _DAY * HOUR_MS


def whole(
    connection: Connection, entity_ids: Sequence[int] | None, kinds: Sequence[str], start_ms: int, end_ms: int
) -> list[Histograms]:
    """All of ``[start_ms, end_ms)`` as one instant per deployment, kind and set of bounds."""
    parts: list[Histograms] = []
    rest: dict[tuple[int, int], list[int]] = defaultdict(list)  # pieces of time (Unix ms), half-open
    seen: dict[Key, Seen] = {}
    for until_ms, ids in _accounted(connection, entity_ids).items():
        # The instant at the end of the last hour must lie within the window.
        last_ms = min((end_ms - 1) // HOUR_MS * HOUR_MS, until_ms)
        first_ms = _first_hours(connection, ids, -(-start_ms // HOUR_MS) * HOUR_MS, last_ms)
        if first_ms:
            parts += _accounts(connection, list(first_ms), kinds, min(first_ms.values()), last_ms)
            cut_ms = (start_ms - 1) // HOUR_MS * HOUR_MS  # the hour that the window begins in, if it has an account
            whole_hour = _accounts(connection, list(first_ms), kinds, cut_ms, cut_ms + HOUR_MS)
            seen |= {one.key: _known(one, cut_ms, cut_ms + HOUR_MS) for one in whole_hour}
        for entity_id in ids:
            # An account holds what ended after its hour began and up to its end, the end included.
            pieces = (
                [(start_ms, first_ms[entity_id] + 1), (last_ms + 1, end_ms)]
                if entity_id in first_ms
                else [(start_ms, end_ms)]
            )
            for piece in pieces:
                rest[piece].append(entity_id)
    for (begin_ms, before_ms), ids in rest.items():
        if begin_ms < before_ms:
            parts += histograms.sums(connection, ids, kinds, begin_ms, before_ms, before_ms - begin_ms, seen)
    return _together(parts, start_ms)


def by_step(
    connection: Connection,
    entity_ids: Sequence[int] | None,
    kinds: Sequence[str],
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> list[Histograms]:
    """``histograms.sums`` of ``[start_ms, end_ms)``; accounts of its hours tell which bounds need not be decoded."""
    seen: dict[Key, Seen] = {}
    for until_ms, ids in _accounted(connection, entity_ids).items():
        begin_ms, last_ms = (start_ms - 1) // HOUR_MS * HOUR_MS, min(-(-end_ms // HOUR_MS) * HOUR_MS, until_ms)
        if first_ms := _first_hours(connection, ids, begin_ms, last_ms):
            every = _together(_accounts(connection, list(first_ms), kinds, begin_ms, last_ms), begin_ms)
            seen |= {one.key: _known(one, first_ms[one.entity_id], last_ms) for one in every}
    return histograms.sums(connection, entity_ids, kinds, start_ms, end_ms, step_ms, seen)


def _known(accounts: Histograms, after_ms: int, until_ms: int) -> Seen:
    """Which bounds something was observed in, as accounts of ``(after_ms, until_ms]`` tell."""
    used = np.flatnonzero(accounts.increments).max(initial=-1) + 1
    return Seen(after_ms, until_ms, int(used), len(accounts.increments))


def _accounted(connection: Connection, entity_ids: Sequence[int] | None) -> dict[int, list[int]]:
    """Deployments by the end of what is finally accounted of them (Unix ms)."""
    entity = schema.entity.c
    known = select(entity.entity_id, func.coalesce(entity.accounted_until_ms, 0)).where(
        entity.family == "deployment", within(entity.entity_id, entity_ids)
    )
    answer: dict[int, list[int]] = defaultdict(list)
    for entity_id, until_ms in connection.execute(known):
        answer[until_ms].append(entity_id)
    return answer


def _first_hours(connection: Connection, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> dict[int, int]:
    """The first hour (Unix ms) that each deployment has an account of, where it has one."""
    table, entity_id = schema.latency_account.c, schema.entity.c.entity_id
    first = (
        select(func.min(table.start_ms))
        .where(table.hours == 1, table.entity_id == entity_id, table.start_ms >= start_ms, table.start_ms < end_ms)
        .scalar_subquery()
    )
    found = connection.execute(select(entity_id, first).where(within(entity_id, entity_ids)))
    return {entity_id: first_ms for entity_id, first_ms in found if first_ms is not None}


def _accounts(
    connection: Connection, entity_ids: Sequence[int], kinds: Sequence[str], start_ms: int, end_ms: int
) -> list[Histograms]:
    """Accounts of whole hours, of whole UTC days by their sums."""
    table = schema.latency_account
    return [
        one
        for width, begin_ms, before_ms in _widths(start_ms, end_ms)
        for one in histograms.added_up(
            connection, table, table.c.start_ms, entity_ids, kinds, begin_ms, before_ms, table.c.hours == width
        )
    ]


def _widths(start_ms: int, end_ms: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of time that accounts of a width (hours) fill: days within hours."""
    first_ms, last_ms = -(-start_ms // _DAY_MS) * _DAY_MS, end_ms // _DAY_MS * _DAY_MS
    if first_ms < last_ms:
        stretches = [(1, start_ms, first_ms), (_DAY, first_ms, last_ms), (1, last_ms, end_ms)]
    else:
        stretches = [(1, start_ms, end_ms)]
    return (stretch for stretch in stretches if stretch[1] < stretch[2])


def _together(parts: Sequence[Histograms], at_ms: int) -> list[Histograms]:
    every: dict[Key, list[Histograms]] = defaultdict(list)
    for one in parts:
        every[one.key].append(one)
    return [
        Histograms(
            *key,
            np.array([at_ms]),
            np.sum([one.sum_seconds for one in every[key]], axis=0),
            np.sum([one.increments for one in every[key]], axis=0),
        )
        for key in sorted(every)
    ]
