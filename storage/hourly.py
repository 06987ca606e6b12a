"""Histograms of a whole window: whole hours from their accounts, the rest from rows and blocks.

The answer is the same to the request; a week of blocks holds hundreds of times the numbers of its 168 hours.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, func, select

from storage import histograms, schema
from storage.codec import Floats
from storage.histograms import Histograms
from storage.schema import HOUR_MS
from storage.series import within

_Key = tuple[int, str, int]  # deployment, kind, bounds
_Piece = tuple[int, int]  # of time (Unix ms), half-open
_Part = tuple[_Key, Floats, float]


def whole(
    connection: Connection, entity_ids: Sequence[int] | None, kinds: Sequence[str], start_ms: int, end_ms: int
) -> list[Histograms]:
    """All of ``[start_ms, end_ms)`` as one instant per deployment, kind and set of bounds."""
    parts, accounted = _accounts(connection, entity_ids, kinds, start_ms, end_ms)
    rest: dict[tuple[_Piece, ...], list[int]] = defaultdict(list)
    for entity_id in _deployments(connection, entity_ids):
        first_ms, last_ms = accounted.get(entity_id, (end_ms, end_ms))
        # An account holds what ended after its hour began and up to its end, the end included.
        pieces = [(start_ms, min(first_ms + 1, end_ms)), (last_ms + 1, end_ms)]
        rest[tuple((begin, end) for begin, end in pieces if begin < end)].append(entity_id)
    for pieces_, ids in rest.items():
        for begin_ms, until_ms in pieces_:
            parts += [
                ((one.entity_id, one.kind, one.bounds_id), one.increments.sum(axis=1), float(one.sum_seconds.sum()))
                for one in histograms.read(connection, ids, kinds, begin_ms, until_ms)
            ]
    return _summed(parts, start_ms)


def _accounts(
    connection: Connection, entity_ids: Sequence[int] | None, kinds: Sequence[str], start_ms: int, end_ms: int
) -> tuple[list[_Part], dict[int, _Piece]]:
    """Final accounts of whole hours within the window, and from where to where each deployment has them."""
    table, entity = schema.latency_account.c, schema.entity.c
    last_ms = (end_ms - 1) // HOUR_MS * HOUR_MS  # the instant at its end must lie within the window
    found = connection.execute(
        select(
            table.entity_id,
            table.kind,
            table.bounds_id,
            table.start_ms,
            table.increments,
            table.sum_seconds,
            entity.accounted_until_ms,
        )
        .join(schema.entity, entity.entity_id == table.entity_id)
        .where(
            table.hours == 1,
            within(table.entity_id, entity_ids),
            table.start_ms >= -(-start_ms // HOUR_MS) * HOUR_MS,
            table.start_ms < last_ms,
            table.start_ms < func.coalesce(entity.accounted_until_ms, 0),
            table.kind.in_(kinds),
        )
    )
    parts: list[_Part] = []
    accounted: dict[int, _Piece] = {}
    for entity_id, kind, bounds_id, hour_ms, increments, seconds, until_ms in found:
        first_ms, _ = accounted.get(entity_id, (hour_ms, 0))
        accounted[entity_id] = (min(first_ms, hour_ms), min(until_ms, last_ms))
        total = np.nan if seconds is None else float(seconds)
        parts.append(((entity_id, kind, bounds_id), np.array(json.loads(increments), dtype="float64"), total))
    return parts, accounted


def _deployments(connection: Connection, entity_ids: Sequence[int] | None) -> Sequence[int]:
    entity = schema.entity.c
    known = select(entity.entity_id).where(entity.family == "deployment", within(entity.entity_id, entity_ids))
    return connection.execute(known).scalars().all()


def _summed(parts: Sequence[_Part], at_ms: int) -> list[Histograms]:
    sums: dict[_Key, tuple[Floats, float]] = {}
    for key, increments, seconds in parts:
        have = sums.get(key)
        sums[key] = (increments, seconds) if have is None else (have[0] + increments, have[1] + seconds)
    return [
        Histograms(*key, np.array([at_ms]), np.array([seconds]), increments[:, None])
        for key, (increments, seconds) in sorted(sums.items())
    ]
