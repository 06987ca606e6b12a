"""Latency histograms: sealed like samples, and read as one series of increments.

Beside its times a block holds one matrix: for every bound the requests that fell into its bucket in each
interval, bound after bound, so that the zeros of the outer buckets lie together. Every reader wants all bounds, but
those above which nothing was observed, as accounts tell, need not be decoded.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from storage import schema
from storage.blocks import Changed
from storage.codec import Corrupt, Floats, Integers, pack, pack_times, unpack, unpack_first, unpack_into, unpack_times
from storage.engine import insert
from storage.schema import HOUR_MS, SPAN_MS
from storage.series import overlapping, within

log = logging.getLogger(__name__)

_AT_ONCE = 64  # groups that are added up: of all of them at once the values would fill new memory, which takes longer

Key = tuple[int, str, int]  # deployment, kind, bounds


@dataclass(frozen=True, slots=True)
class Histograms:
    """Increments of one deployment, kind and set of bounds over some instants."""

    entity_id: int
    kind: str
    bounds_id: int
    at_ms: Integers
    sum_seconds: Floats  # NaN: unknown
    increments: Floats  # (bounds, instants)

    @property
    def key(self) -> Key:
        """Whose they are."""
        return self.entity_id, self.kind, self.bounds_id


@dataclass(frozen=True, slots=True)
class Seen:
    """Of instants in ``(after_ms, until_ms]``: above the first ``used`` of so many ``bounds`` nothing was observed."""

    after_ms: int
    until_ms: int
    used: int
    bounds: int

    def covers(self, at_ms: Integers) -> bool:
        """Whether that is true of all of some ascending instants."""
        return bool(self.after_ms < at_ms[0] and at_ms[-1] <= self.until_ms)


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
    groups: dict[Key, list[Histograms]] = {}
    for found in (
        *_sealed(connection, entity_ids, kinds, start_ms, end_ms),
        *_rows(connection, entity_ids, kinds, start_ms, end_ms),
    ):
        groups.setdefault(found.key, []).append(found)
    return [_merged(groups[key]) for key in sorted(groups)]


def sums(
    connection: Connection,
    entity_ids: Sequence[int] | None,
    kinds: Sequence[str],
    start_ms: int,
    end_ms: int,
    step_ms: int,
    seen: Mapping[Key, Seen],
) -> list[Histograms]:
    """What ``read`` gives, added up by steps from the start on; a step's first instant stands for all of it.

    Of a step there may be several parts, which are to be added. What is known to be ``seen`` saves decoding.
    """
    table = schema.latency_sample
    at_ms = table.c.observed_at_ms
    steps = () if end_ms - start_ms <= step_ms else ((at_ms - start_ms - (at_ms - start_ms) % step_ms),)
    rows = added_up(connection, table, at_ms, entity_ids, kinds, start_ms, end_ms, by=steps)
    sealed: list[Histograms] = []
    sealed_ms: dict[Key, int] = {}
    cuts: dict[int, tuple[Integers, Integers]] = {}  # the same for all with the same instants
    for found in _sealed(connection, entity_ids, kinds, start_ms, end_ms, seen):
        if id(found.at_ms) not in cuts:
            cuts[id(found.at_ms)] = found.at_ms, _cuts(found.at_ms, start_ms, step_ms)
        key = found.key
        bounds = seen[key].bounds if key in seen else len(found.increments)
        sealed.append(_added_up(found, cuts[id(found.at_ms)][1], bounds))
        sealed_ms[key] = max(int(found.at_ms[-1]), sealed_ms.get(key, 0))
    late = {one.entity_id for one in rows if one.at_ms[0] <= sealed_ms.get(one.key, -1)}
    if not late:
        return [*rows, *sealed]
    every = read(connection, sorted(late), kinds, start_ms, end_ms)  # an instant may be there twice
    return [
        *(one for one in (*rows, *sealed) if one.entity_id not in late),
        *(_added_up(found, _cuts(found.at_ms, start_ms, step_ms), len(found.increments)) for found in every),
    ]


def _cuts(at_ms: Integers, start_ms: int, step_ms: int) -> Integers:
    """Where steps begin among ascending instants."""
    return np.flatnonzero(np.diff((at_ms - start_ms) // step_ms, prepend=-1))


def _added_up(found: Histograms, starts: Integers, bounds: int) -> Histograms:
    """Sums from each start to the next, of so many bounds: above those that were decoded nothing was observed."""
    increments = np.zeros((bounds, len(starts)))
    np.add.reduceat(found.increments, starts, axis=1, out=increments[: len(found.increments)])
    return Histograms(*found.key, found.at_ms[starts], np.add.reduceat(found.sum_seconds, starts), increments)


def added_up(
    connection: Connection,
    table: Table,
    at_ms: ColumnElement[int],
    entity_ids: Sequence[int] | None,
    kinds: Sequence[str],
    start_ms: int,
    end_ms: int,
    *conditions: ColumnElement[bool],
    by: Sequence[ColumnElement[int]] = (),
) -> list[Histograms]:
    """Rows of a table of increments added up by deployment, kind, bounds and more; the first stands for all of them."""
    row = table.c
    statement = (
        select(
            row.entity_id,
            row.kind,
            func.min(row.bounds_id),
            func.max(row.bounds_id),
            func.min(at_ms),
            func.count() - func.count(row.sum_seconds),
            func.sum(row.sum_seconds),
            func.aggregate_strings(row.increments, ","),
        )
        .where(
            *conditions,
            within(row.entity_id, entity_ids),
            row.kind.in_(kinds),
            at_ms >= start_ms,
            at_ms < end_ms,
        )
        .group_by(row.entity_id, row.kind, *by)  # an order that the rows have already, unlike one with their bounds
    )
    found = list(map(tuple, connection.execute(statement)))
    several = {entity_id for entity_id, _, least, most, *_ in found if least != most}
    if several:
        apart = connection.execute(statement.where(within(row.entity_id, list(several))).group_by(row.bounds_id))
        found = [*(one for one in found if one[0] not in several), *map(tuple, apart)]
    by_bounds: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for one in found:
        by_bounds[one[2]].append(one)
    return [
        Histograms(
            entity_id, kind, bounds_id, np.array([first_ms]), np.array([np.nan if unknown else seconds]), sums_[:, None]
        )
        for bounds_id, groups in by_bounds.items()
        for (entity_id, kind, _, _, first_ms, unknown, seconds, _), sums_ in zip(
            groups, _numbers([texts for *_, texts in groups]), strict=True
        )
    ]


def _numbers(groups: Sequence[str]) -> Floats:
    """Sums of groups of JSON lists, all of one length. Most instants of calm servers read the same: once is enough."""
    lists = pc.split_pattern(pa.array(groups, pa.large_string()), "],[")
    texts = lists.flatten().dictionary_encode()
    numbers = ",".join(text.strip("[]") for text in texts.dictionary.to_pylist())
    values = np.fromstring(numbers, sep=",").reshape(len(texts.dictionary), -1)
    read, starts = texts.indices.to_numpy(), lists.offsets.to_numpy()
    pieces = [starts[first : first + _AT_ONCE + 1] for first in range(0, len(groups), _AT_ONCE)]
    sums = [np.add.reduceat(values[read[piece[0] : piece[-1]]], piece[:-1] - piece[0], axis=0) for piece in pieces]
    return np.concatenate(sums)


def due(connection: Connection, until_ms: int) -> list[Due]:
    """What is oldest of each deployment, kind and set of bounds, if its hour ended by ``until_ms``.

    Not earlier, since whole hours are read from their accounts: then of the hour that runs no block is decoded.
    """
    table = schema.latency_sample.c
    key = (table.entity_id, table.kind, table.bounds_id)
    over_ms = until_ms // HOUR_MS * HOUR_MS
    found = connection.execute(
        select(*key, func.min(table.observed_at_ms)).where(table.observed_at_ms < over_ms).group_by(*key)
    )
    return [
        Due(entity_id, kind, bounds_id, span_ms := oldest_ms // SPAN_MS * SPAN_MS, min(over_ms, span_ms + SPAN_MS))
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
            sealed = Histograms(
                what.entity_id,
                what.kind,
                what.bounds_id,
                unpack_times(found.times, what.span_ms, found.instants),
                *_decoded(found.instants, found.sum_seconds, found.increments),
            )
            every = _merged([sealed, rows])
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
    connection: Connection,
    entity_ids: Sequence[int] | None,
    kinds: Sequence[str] | None,
    start_ms: int,
    end_ms: int,
    seen: Mapping[Key, Seen] = MappingProxyType({}),
) -> Iterator[Histograms]:
    """What lies in blocks; bounds that are known to have seen nothing are left out."""
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
    ).where(
        within(table.entity_id, entity_ids),
        table.bounds_id.in_(select(schema.histogram_bounds.c.bounds_id)),  # so that the key leads to the spans
        overlapping(schema.latency_block, start_ms, end_ms),
        table.first_at_ms < end_ms,
        table.last_at_ms >= start_ms,
    )
    if kinds is not None:
        statement = statement.where(table.kind.in_(kinds))
    windows: dict[tuple[bytes, int, int], tuple[Integers, slice]] = {}  # servers on one grid share their times
    for entity_id, kind, bounds_id, span_ms, instants, times, seconds, counts in connection.execute(statement):
        try:
            key = (times, span_ms, instants)
            if key not in windows:
                at_ms = unpack_times(times, span_ms, instants)
                inside = slice(*np.searchsorted(at_ms, (start_ms, end_ms)).tolist())
                windows[key] = at_ms[inside], inside
            at_ms, inside = windows[key]
            if len(at_ms):
                known = seen.get((entity_id, kind, bounds_id))
                used = known.used if known and known.covers(at_ms) else None
                sum_seconds, increments = _decoded(instants, seconds, counts, used)
                yield Histograms(entity_id, kind, bounds_id, at_ms, sum_seconds[inside], increments[:, inside])
        except Corrupt as exc:
            _damaged(entity_id, kind, span_ms, exc)


def _decoded(instants: int, seconds: bytes, counts: bytes, used: int | None = None) -> tuple[Floats, Floats]:
    """What is observed (s) in each instant of a block, and its increments per bound, by default of all bounds."""
    sum_seconds = np.empty(instants)
    unpack_into(seconds, sum_seconds)
    increments = unpack(counts) if used is None else unpack_first(counts, used * instants)
    if len(increments) % instants:
        raise Corrupt("number of values does not match")
    return sum_seconds, increments.reshape(-1, instants)


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
    groups: dict[Key, list[tuple[int, float | None, str]]] = {}
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
