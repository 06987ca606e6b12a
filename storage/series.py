"""Samples as flat arrays: what is sealed in blocks and what is still rows, read as one series.

Nothing here needs pandas: the daemon seals and accounts with it. A block that does not hold what was
written is left out (a metric of it becomes unknown) and said once in the log; ``python -m storage check`` names it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, pairwise
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, LargeBinary, Select, Table, func, literal, select

from storage import schema
from storage.codec import Corrupt, Floats, Integers, unpack_into, unpack_times
from storage.schema import SPAN_MS

log = logging.getLogger(__name__)

FOREVER_MS = 1 << 53


@dataclass(slots=True, eq=False)  # as ``Block``
class Run:
    """Samples of one entity that follow each other in time.

    ``at_ms`` is one object for all entities that were sampled at the same instants.
    """

    entity_id: int
    at_ms: Integers
    begin: int  # position of its first value in the flat arrays


@dataclass(frozen=True, slots=True)
class Series:
    """Runs ordered by entity and time, and per metric one value for each of their instants (NaN: unknown)."""

    runs: tuple[Run, ...]
    values: Mapping[str, Floats]

    @property
    def entity_ids(self) -> Integers:
        """The entity of every instant."""
        ids = np.array([run.entity_id for run in self.runs], dtype="int64")
        return np.repeat(ids, [len(run.at_ms) for run in self.runs])

    @property
    def at_ms(self) -> Integers:
        """Every instant (Unix ms)."""
        return np.concatenate([run.at_ms for run in self.runs] or [np.empty(0, "int64")])

    def by_entity(self) -> Iterator[Rows]:
        """The same, one entity after the other."""
        for entity_id, runs in groupby(self.runs, key=lambda run: run.entity_id):
            every = list(runs)
            at_ms = every[0].at_ms if len(every) == 1 else np.concatenate([run.at_ms for run in every])
            place = slice(every[0].begin, every[0].begin + len(at_ms))
            yield Rows(entity_id, at_ms, {name: column[place] for name, column in self.values.items()})


def within(column: ColumnElement[int], entity_ids: Sequence[int] | None) -> ColumnElement[bool]:
    """The condition that an entity is one of those asked for; ``None`` asks for all."""
    return literal(True) if entity_ids is None else column.in_([int(i) for i in entity_ids])


def read(
    connection: Connection,
    family: str,
    metrics: Sequence[str],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    *,
    spans: frozenset[tuple[int, int]] | None = None,
    only_sealed: bool = False,
) -> Series:
    """Every sample of ``[start_ms, end_ms)``, those in blocks first where an instant is in both.

    Args:
        connection: within one transaction, so that nothing is sealed in between.
        family: one of ``schema.samples``.
        metrics: names; only their columns are read and decoded.
        entity_ids: ``None`` means all.
        start_ms: window start.
        end_ms: window end.
        spans: read only these (entity, span) of what is sealed.
        only_sealed: leave out what is still rows.
    """
    names = list(dict.fromkeys(metrics))
    sealed = _sealed(connection, family, names, entity_ids, start_ms, end_ms, spans) if family in schema.blocks else {}
    hot = {} if only_sealed else rows(connection, family, names, entity_ids, start_ms, end_ms)
    pieces = [piece for key in sorted({*sealed, *hot}) for piece in _of_entity(sealed.get(key, []), hot.get(key))]
    values = {name: np.empty(sum(piece.instants for piece in pieces)) for name in names}
    columns, runs, begin = list(values.items()), [], 0
    for piece in pieces:
        end = begin + piece.instants
        for name, column in columns:
            piece.fill(name, column[begin:end])
        runs.append(Run(piece.entity_id, piece.at_ms, begin))
        begin = end
    return Series(tuple(runs), values)


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one entity in memory."""

    entity_id: int
    at_ms: Integers
    values: Mapping[str, Floats]

    @property
    def instants(self) -> int:
        """How many."""
        return len(self.at_ms)

    def fill(self, name: str, out: Floats) -> None:
        """Copy a metric."""
        out[:] = self.values[name]


@dataclass(slots=True, eq=False)  # not frozen: thousands are made for one answer
class Block:
    """A sealed span of one entity, or the part of it that lies within a window; decoded when asked."""

    row: tuple[Any, ...]  # entity_id, span_ms, instants of the whole block, times, and a payload per metric
    names: Sequence[str]  # of these
    at_ms: Integers
    skipped: int  # instants of the block before the window

    @property
    def entity_id(self) -> int:
        """Whose it is."""
        entity_id: int = self.row[0]
        return entity_id

    @property
    def span_ms(self) -> int:
        """Its start (Unix ms)."""
        span_ms: int = self.row[1]
        return span_ms

    @property
    def instants(self) -> int:
        """How many lie within the window."""
        return len(self.at_ms)

    def fill(self, name: str, out: Floats) -> None:
        """Decode a metric; unknown where its payload is damaged."""
        payload, packed = self.row[_BEFORE_PAYLOADS + self.names.index(name)], self.row[2]
        try:
            if payload is None:
                out[:] = np.nan
            elif len(out) == packed:
                unpack_into(payload, out)
            else:
                whole = np.empty(packed)
                unpack_into(payload, whole)
                out[:] = whole[self.skipped : self.skipped + len(out)]
        except Corrupt as exc:
            out[:] = np.nan
            _damaged(self.entity_id, self.span_ms, name, exc)

    def decoded(self) -> Rows:
        """All metrics in memory."""
        values = {name: np.empty(self.instants) for name in self.names}
        for name, out in values.items():
            self.fill(name, out)
        return Rows(self.entity_id, self.at_ms, values)


_BEFORE_PAYLOADS = 4


def merged(first: Rows, *others: Rows) -> Rows:
    """Samples of one entity in order of time; where an instant is there twice the earlier argument's stays.

    A metric that one of them does not have is unknown there.
    """
    every = (first, *others)
    at_ms = np.concatenate([one.at_ms for one in every])
    order = np.argsort(at_ms, kind="stable")
    kept = order[np.append(True, np.diff(at_ms[order]) > 0)[: len(order)]]

    def column(name: str) -> Floats:
        parts = [one.values.get(name, np.full(one.instants, np.nan)) for one in every]
        values: Floats = np.concatenate(parts)[kept]
        return values

    return Rows(first.entity_id, at_ms[kept], {name: column(name) for one in every for name in one.values})


def without(one: Rows, at_ms: Integers) -> Rows:
    """Rows less those at certain instants."""
    kept = ~np.isin(one.at_ms, at_ms)
    return Rows(one.entity_id, one.at_ms[kept], {name: column[kept] for name, column in one.values.items()})


def _of_entity(blocks: list[Block], hot: Rows | None) -> Iterator[Block | Rows]:
    """Pieces that follow each other; late rows are merged into what is sealed."""
    if hot is None:
        yield from blocks
        return
    apart = [block for block in blocks if block.at_ms[-1] < hot.at_ms[0]]
    late = [block.decoded() for block in blocks[len(apart) :]]
    yield from apart
    yield merged(*late, hot) if late else hot


def rows(
    connection: Connection,
    family: str,
    names: Sequence[str],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
) -> dict[int, Rows]:
    """What is not sealed, by entity."""
    table, entity = schema.samples[family], schema.entity.c
    of_family = select(entity.entity_id).where(entity.family == family, within(entity.entity_id, entity_ids))
    statement = (
        select(table.c.entity_id, table.c.observed_at_ms, *(table.c[name] for name in names))
        # By entity, as the table is ordered, so that older rows are not read through.
        .where(table.c.entity_id.in_(of_family), table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms)
        .order_by(table.c.entity_id, table.c.observed_at_ms)
    )
    matrix = plain_rows(connection, statement).reshape(-1, 2 + len(names)).T
    shared: dict[bytes, Integers] = {}  # see ``Run``
    answer = {}
    for ids, at, *columns in _by_entity(matrix):
        at_ms = shared.setdefault(at.tobytes(), at.astype("int64"))
        answer[int(ids[0])] = Rows(int(ids[0]), at_ms, dict(zip(names, columns, strict=True)))
    return answer


def plain_rows(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, object] | None = None
) -> Floats:
    """Rows of numbers as the driver has them, one after the other (NULL: NaN); half the time would go into others."""
    return np.fromiter(chain.from_iterable(_fetched(connection, statement, parameters)), dtype="float64")


def _fetched(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, object] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Few rows at a time, so that what the driver makes of them is gone before it leaves the processor's cache."""
    cursor = connection.execute(statement, parameters).cursor
    return chain.from_iterable(() if cursor is None else iter(partial(cursor.fetchmany, 1_000), []))


def _by_entity(matrix: Floats) -> Iterator[list[Floats]]:
    rows = np.ascontiguousarray(matrix)
    cuts = [0, *(np.flatnonzero(np.diff(rows[0])) + 1).tolist(), rows.shape[1]]
    for first, last in pairwise(cuts):
        if first < last:
            yield [row[first:last] for row in rows]


def _sealed(
    connection: Connection,
    family: str,
    names: Sequence[str],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    spans: frozenset[tuple[int, int]] | None,
) -> dict[int, list[Block]]:
    table = schema.blocks[family]
    found = _fetched(
        connection,
        select(table.c.entity_id, table.c.span_ms, table.c.instants, table.c.times, *(table.c[name] for name in names))
        .where(within(table.c.entity_id, entity_ids), overlapping(table, start_ms, end_ms))
        .order_by(table.c.entity_id, table.c.span_ms),
    )
    windows: dict[tuple[Any, ...], tuple[Integers, int]] = {}  # entities on one grid share their times
    blocks: dict[int, list[Block]] = defaultdict(list)
    for row in found:
        if spans is not None and row[:2] not in spans:
            continue
        window = windows.get(row[1:_BEFORE_PAYLOADS])
        if window is None:
            window = windows[row[1:_BEFORE_PAYLOADS]] = _window(row, start_ms, end_ms)
        at_ms, skipped = window
        if len(at_ms):
            blocks[row[0]].append(Block(row, names, at_ms, skipped))
    return blocks


def block(connection: Connection, family: str, entity_id: int, span_ms: int) -> tuple[bytes, Block] | None:
    """One whole block with all its metrics, and its times as they are stored; ``None`` where nothing is sealed.

    Of a damaged block that is what can still be read.
    """
    table = schema.blocks[family].c
    payloads = [column for column in table if isinstance(column.type, LargeBinary) and column is not table.times]
    found = connection.execute(
        select(table.entity_id, table.span_ms, table.instants, table.times, *payloads).where(
            table.entity_id == entity_id, table.span_ms == span_ms
        )
    ).one_or_none()
    if found is None:
        return None
    row = tuple(found)
    at_ms, _ = _window(row, 0, span_ms + SPAN_MS)
    return found.times, Block(row, [column.name for column in payloads], at_ms, 0)


def last_before(connection: Connection, family: str, entity_id: int, before_ms: int) -> int | None:
    """When an entity was last sampled before an instant; ``None`` if never."""
    rows, blocks = schema.samples[family].c, schema.blocks[family].c
    newest = connection.execute(
        select(func.max(rows.observed_at_ms)).where(rows.entity_id == entity_id, rows.observed_at_ms < before_ms)
    ).scalar_one()
    candidates = [newest]
    sealed = connection.execute(
        select(blocks.span_ms, blocks.instants, blocks.times)
        .where(blocks.entity_id == entity_id, blocks.span_ms < before_ms)
        .order_by(blocks.span_ms.desc())
    )
    for row in sealed:
        at_ms, _ = _window((entity_id, *row), 0, before_ms)
        if len(at_ms):  # else it begins after the instant, or is damaged
            candidates.append(int(at_ms[-1]))
            break
    return max((at_ms for at_ms in candidates if at_ms is not None), default=None)


def first_after(connection: Connection, family: str, entity_id: int, from_ms: int) -> int | None:
    """When an entity was first sampled at or after an instant; ``None`` if never."""
    rows, blocks = schema.samples[family].c, schema.blocks[family].c
    oldest = connection.execute(
        select(func.min(rows.observed_at_ms)).where(rows.entity_id == entity_id, rows.observed_at_ms >= from_ms)
    ).scalar_one()
    candidates = [oldest]
    sealed = connection.execute(
        select(blocks.span_ms, blocks.instants, blocks.times)
        .where(blocks.entity_id == entity_id, blocks.span_ms > from_ms - SPAN_MS)
        .order_by(blocks.span_ms)
    )
    for row in sealed:
        at_ms, _ = _window((entity_id, *row), from_ms, FOREVER_MS)
        if len(at_ms):  # else it ends before the instant, or is damaged
            candidates.append(int(at_ms[0]))
            break
    return min((at_ms for at_ms in candidates if at_ms is not None), default=None)


def overlapping(table: Table, start_ms: int, end_ms: int) -> ColumnElement[bool]:
    """The condition that a block's span touches ``[start_ms, end_ms)``."""
    in_time: ColumnElement[bool] = (table.c.span_ms > start_ms - SPAN_MS) & (table.c.span_ms < end_ms)
    return in_time


def _window(row: tuple[Any, ...], start_ms: int, end_ms: int) -> tuple[Integers, int]:
    """The instants of a block within a window, and how many lie before it."""
    entity_id, span_ms, instants, times = row[:_BEFORE_PAYLOADS]
    try:
        at_ms = unpack_times(times, span_ms, instants)
    except Corrupt as exc:
        _damaged(entity_id, span_ms, "times", exc)
        return np.empty(0, "int64"), 0
    first, last = np.searchsorted(at_ms, (start_ms, end_ms))
    return at_ms[first:last], int(first)


def _damaged(entity_id: int, span_ms: int, what: str, reason: Exception) -> None:
    key: tuple[Any, ...] = (entity_id, span_ms, what)
    if key not in _said and len(_said) < _MOST_SAID:
        _said.add(key)
        log.error("block of entity %d at %d: %s is damaged (%s) and taken as unknown", *key, reason)


_said: set[tuple[Any, ...]] = set()  # a damaged block is read many times and named once
_MOST_SAID = 1_000
