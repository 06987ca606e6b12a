"""Latency histograms: sealed like samples, and read as one series of increments.

Beside its times a block holds one matrix: for every bound the requests that fell into its bucket in each
interval, bound after bound, so that the zeros of the outer buckets lie together. Every reader wants all bounds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, func, select

from storage import schema
from storage.blocks import Changed
from storage.codec import Corrupt, Floats, Integers, pack, pack_times, unpack, unpack_into, unpack_times
from storage.engine import insert
from storage.schema import HOUR_MS, SPAN_MS
from storage.series import overlapping, within

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Histograms:
    """Increments of one deployment, kind and set of bounds over some instants."""

    entity_id: int
    kind: str
    bounds_id: int
    at_ms: Integers
    sum_seconds: Floats  # NaN: unknown
    increments: Floats  # (bounds, instants)


@dataclass(frozen=True, slots=True)
class Due:
    """Rows of one deployment, kind and set of bounds within one span that can be sealed."""

    entity_id: int
    kind: str
    bounds_id: int
    span_ms: int
    cut_ms: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """A block ready to be stored, and what it replaces."""

    due: Due
    row: dict[str, object]
    replaces: bytes | None
    took_up: int


def read(
    connection: Connection, entity_ids: Sequence[int] | None, kinds: Sequence[str] | None, start_ms: int, end_ms: int
) -> list[Histograms]:
    """All increments of ``[start_ms, end_ms)``; ``None`` means all deployments or kinds."""
    groups: dict[tuple[int, str, int], list[Histograms]] = {}
    for found in (
        *_sealed(connection, entity_ids, kinds, start_ms, end_ms),
        *_rows(connection, entity_ids, kinds, start_ms, end_ms),
    ):
        groups.setdefault((found.entity_id, found.kind, found.bounds_id), []).append(found)
    return [_merged(groups[key]) for key in sorted(groups)]


def due(connection: Connection, until_ms: int) -> list[Due]:
    """What is oldest of each deployment, kind and set of bounds, if its hour ended by ``until_ms``."""
    table = schema.latency_sample.c
    key = (table.entity_id, table.kind, table.bounds_id)
    last_hour_ms = until_ms // HOUR_MS * HOUR_MS
    found = connection.execute(
        select(*key, func.min(table.observed_at_ms)).where(table.observed_at_ms < last_hour_ms).group_by(*key)
    )
    return [
        Due(entity_id, kind, bounds_id, span_ms := oldest_ms // SPAN_MS * SPAN_MS, min(last_hour_ms, span_ms + SPAN_MS))
        for entity_id, kind, bounds_id, oldest_ms in found
    ]


def prepare(connection: Connection, what: Due) -> Sealed | None:
    """The block of the rows that are due, merged with what is sealed there; ``None`` when they are gone."""
    hot = [
        one
        for one in _rows(connection, [what.entity_id], [what.kind], what.span_ms, what.cut_ms)
        if one.bounds_id == what.bounds_id
    ]
    if not hot:
        return None
    (rows,) = hot
    table = schema.latency_block.c
    found = connection.execute(
        select(table.instants, table.times, table.sum_seconds, table.increments).where(_at(what))
    ).one_or_none()
    every, replaces = rows, None
    if found is not None:
        replaces = found.times
        try:
            every = _merged([_decoded(what.entity_id, what.kind, what.bounds_id, what.span_ms, *found), rows])
        except Corrupt as exc:
            _damaged(what.entity_id, what.kind, what.span_ms, exc)
    row = {
        "entity_id": what.entity_id,
        "kind": what.kind,
        "bounds_id": what.bounds_id,
        "span_ms": what.span_ms,
        "instants": len(every.at_ms),
        "first_at_ms": int(every.at_ms[0]),
        "last_at_ms": int(every.at_ms[-1]),
        "times": pack_times(every.at_ms, what.span_ms),
        "sum_seconds": pack(every.sum_seconds),
        "increments": pack(every.increments.ravel()),
    }
    return Sealed(what, row, replaces, len(rows.at_ms))


def store(connection: Connection, sealed: Sealed) -> None:
    """Put a block in its place and remove the rows it took up; called within one transaction.

    Raises:
        Changed: rows or block are not what they were; roll back.
    """
    what, rows, table = sealed.due, schema.latency_sample.c, schema.latency_block
    removed = connection.execute(
        delete(schema.latency_sample).where(
            rows.entity_id == what.entity_id,
            rows.kind == what.kind,
            rows.bounds_id == what.bounds_id,
            rows.observed_at_ms >= what.span_ms,
            rows.observed_at_ms < what.cut_ms,
        )
    )
    if removed.rowcount != sealed.took_up:
        raise Changed(f"{removed.rowcount} histograms instead of {sealed.took_up}")
    if sealed.replaces is not None:
        old = delete(table).where(_at(what), table.c.times == sealed.replaces)
        if connection.execute(old).rowcount != 1:
            raise Changed("the block was written anew meanwhile")
    new = insert(connection, table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    if connection.execute(new, sealed.row).rowcount != 1:
        raise Changed("a block was written meanwhile")


def _at(what: Due) -> ColumnElement[bool]:
    table = schema.latency_block.c
    there: ColumnElement[bool] = (
        (table.entity_id == what.entity_id)
        & (table.kind == what.kind)
        & (table.bounds_id == what.bounds_id)
        & (table.span_ms == what.span_ms)
    )
    return there


def _sealed(
    connection: Connection, entity_ids: Sequence[int] | None, kinds: Sequence[str] | None, start_ms: int, end_ms: int
) -> Iterator[Histograms]:
    table = schema.latency_block.c
    statement = select(
        table.entity_id,
        table.kind,
        table.bounds_id,
        table.span_ms,
        table.instants,
        table.times,
        table.sum_seconds,
        table.increments,
    ).where(within(table.entity_id, entity_ids), overlapping(schema.latency_block, start_ms, end_ms))
    if kinds is not None:
        statement = statement.where(table.kind.in_(kinds))
    for row in connection.execute(statement):
        try:
            whole = _decoded(*row)
        except Corrupt as exc:
            _damaged(row[0], row[1], row[3], exc)
            continue
        inside = slice(*np.searchsorted(whole.at_ms, (start_ms, end_ms)))
        if inside.start < inside.stop:
            yield Histograms(
                whole.entity_id,
                whole.kind,
                whole.bounds_id,
                whole.at_ms[inside],
                whole.sum_seconds[inside],
                whole.increments[:, inside],
            )


def _decoded(
    entity_id: int, kind: str, bounds_id: int, span_ms: int, instants: int, times: bytes, sums: bytes, counts: bytes
) -> Histograms:
    at_ms = unpack_times(times, span_ms, instants)
    sum_seconds = np.empty(instants)
    unpack_into(sums, sum_seconds)
    increments = unpack(counts)
    if len(increments) % instants:
        raise Corrupt("number of values does not match")
    return Histograms(entity_id, kind, bounds_id, at_ms, sum_seconds, increments.reshape(-1, instants))


def _damaged(entity_id: int, kind: str, span_ms: int, reason: Exception) -> None:
    log.error("latency block of entity %d, %s, at %d is damaged (%s) and left out", entity_id, kind, span_ms, reason)


def _rows(
    connection: Connection, entity_ids: Sequence[int] | None, kinds: Sequence[str] | None, start_ms: int, end_ms: int
) -> Iterator[Histograms]:
    table = schema.latency_sample.c
    key = (table.entity_id, table.kind, table.bounds_id)
    statement = (
        select(*key, table.observed_at_ms, table.sum_seconds, table.increments)
        .where(within(table.entity_id, entity_ids), table.observed_at_ms >= start_ms, table.observed_at_ms < end_ms)
        .order_by(*key, table.observed_at_ms)
    )
    if kinds is not None:
        statement = statement.where(table.kind.in_(kinds))
    groups: dict[tuple[int, str, int], list[tuple[int, float | None, str]]] = {}
    for entity_id, kind, bounds_id, *rest in connection.execute(statement):
        groups.setdefault((entity_id, kind, bounds_id), []).append((rest[0], rest[1], rest[2]))
    for (entity_id, kind, bounds_id), rows in groups.items():
        at_ms, sums, counts = zip(*rows, strict=True)
        yield Histograms(
            entity_id,
            kind,
            bounds_id,
            np.array(at_ms, dtype="int64"),
            np.array(sums, dtype="float64"),
            np.array(json.loads(f"[{','.join(counts)}]"), dtype="float64").T,
        )


def _merged(parts: list[Histograms]) -> Histograms:
    """In order of time; where an instant is there twice the earlier argument's stays."""
    if len(parts) == 1:
        return parts[0]
    at_ms = np.concatenate([part.at_ms for part in parts])
    order = np.argsort(at_ms, kind="stable")
    kept = order[np.append(True, np.diff(at_ms[order]) > 0)]
    return Histograms(
        parts[0].entity_id,
        parts[0].kind,
        parts[0].bounds_id,
        at_ms[kept],
        np.concatenate([part.sum_seconds for part in parts])[kept],
        np.concatenate([part.increments for part in parts], axis=1)[:, kept],
    )
