"""Sealing: hot rows of complete quarters of an hour become part of a column block, with their aggregates beside it.

A block holds what one entity showed in one span (``schema.SPAN_MS``). It grows quarter by quarter until
its span is over, and late rows open it again: each time it is decoded, merged and written anew, and the rows
it took up are removed, all in one transaction per entity and span. An instant that is sealed stays as it
was first stored. The newest row of an entity is never sealed, so that "now" is always a plain row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sqlalchemy import Connection, delete, func, select

from core.catalog import FAMILIES
from core.metric import Kind
from storage import schema, series
from storage.aggregates import NAMES, Aggregates, aggregate
from storage.codec import Floats, Integers, pack, pack_times
from storage.engine import insert
from storage.schema import QUARTER_MS, SPAN_MS
from storage.series import Rows
from storage.steps import TIMES, time_aggregates


class Changed(Exception):
    """What was to be sealed is not any more what was read; look again later."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A block ready to be stored, and what it replaces."""

    family: str
    entity_id: int
    span_ms: int
    instants: int
    first_at_ms: int
    last_at_ms: int
    times: bytes
    payloads: Mapping[str, bytes]
    aggregates: Mapping[str, tuple[float | None, ...]]
    replaces: bytes | None  # times of the block it was merged with
    took_up: int  # hot rows before ``cut_ms``
    cut_ms: int


@dataclass(frozen=True, slots=True)
class Due:
    """Rows of one entity within one span that can be sealed: those before ``cut_ms``."""

    family: str
    entity_id: int
    span_ms: int
    cut_ms: int


def due(connection: Connection, family: str, until_ms: int) -> list[Due]:
    """The oldest rows of each entity, if their quarter ended by ``until_ms`` and they are not its newest."""
    table, entity = schema.samples[family], schema.entity
    oldest, newest = (
        select(of(table.c.observed_at_ms))
        .where(table.c.entity_id == entity.c.entity_id)
        .correlate(entity)
        .scalar_subquery()
        for of in (func.min, func.max)
    )
    found = connection.execute(select(entity.c.entity_id, oldest, newest).where(entity.c.family == family))
    over_ms = until_ms // QUARTER_MS * QUARTER_MS
    every = []
    for entity_id, oldest_ms, newest_ms in found:
        if oldest_ms is not None and oldest_ms < min(over_ms, newest_ms):
            span_ms = oldest_ms // SPAN_MS * SPAN_MS
            every.append(Due(family, entity_id, span_ms, min(over_ms, newest_ms, span_ms + SPAN_MS)))
    return every


def prepare(connection: Connection, what: Due) -> Sealed | None:
    """The block of the rows that are due, merged with what is sealed there; ``None`` when they are gone."""
    rows = series.rows(connection, what.family, names_of(what.family), [what.entity_id], what.span_ms, what.cut_ms).get(
        what.entity_id
    )
    if rows is None:
        return None
    return merge(connection, what.family, what.span_ms, rows, took_up=rows.instants, cut_ms=what.cut_ms)


def by_span(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Rows of one entity, cut at the spans."""
    spans = rows.at_ms // SPAN_MS
    cuts = [0, *(np.flatnonzero(np.diff(spans)) + 1).tolist(), len(spans)]
    for first, last in pairwise(cuts):
        if first < last:
            values = {name: column[first:last] for name, column in rows.values.items()}
            yield int(spans[first]) * SPAN_MS, Rows(rows.entity_id, rows.at_ms[first:last], values)


def merge(
    connection: Connection, family: str, span_ms: int, rows: Rows, *, took_up: int = 0, cut_ms: int = 0
) -> Sealed:
    """The block of a span with ``rows`` in it, beside what was sealed there before and can still be read."""
    found = series.block(connection, family, rows.entity_id, span_ms)
    if found is None:
        return seal(family, span_ms, rows, took_up=took_up, cut_ms=cut_ms)
    times, block = found
    every = series.merged(block.decoded(), rows)
    return seal(family, span_ms, every, replaces=times, took_up=took_up, cut_ms=cut_ms)


def seal(
    family: str, span_ms: int, rows: Rows, *, replaces: bytes | None = None, took_up: int = 0, cut_ms: int = 0
) -> Sealed:
    """Compress rows of one span; no database is asked."""
    known = {name: column for name, column in rows.values.items() if not np.isnan(column).all()}
    return Sealed(
        family=family,
        entity_id=rows.entity_id,
        span_ms=span_ms,
        instants=rows.instants,
        first_at_ms=int(rows.at_ms[0]),
        last_at_ms=int(rows.at_ms[-1]),
        times=pack_times(rows.at_ms, span_ms),
        payloads={name: pack(column) for name, column in known.items()},
        aggregates=aggregates_of(family, rows.at_ms, known),
        replaces=replaces,
        took_up=took_up,
        cut_ms=cut_ms,
    )


def aggregates_of(family: str, at_ms: Integers, columns: Mapping[str, Floats]) -> dict[str, tuple[float | None, ...]]:
    """What stands beside a block, in the order of ``aggregates.NAMES``; all metrics are one flat array meanwhile."""
    every = {TIMES: _figures(time_aggregates(at_ms))[0]}
    if columns:
        starts = np.arange(len(columns)) * len(at_ms)
        of = aggregate(np.concatenate(list(columns.values())), starts)
        grows = np.array([FAMILIES[family].metric(name).kind is Kind.COUNTER for name in columns])
        of.increase[~grows] = np.nan
        every |= zip(columns, _figures(of), strict=True)
    return every


def _figures(of: Aggregates) -> list[tuple[float | None, ...]]:
    """One row per stretch; NaN is unknown."""
    rows = zip(*(getattr(of, name).tolist() for name in NAMES), strict=True)
    return [tuple(None if figure != figure else figure for figure in row) for row in rows]


def store(connection: Connection, sealed: Sealed, metric_ids: Mapping[tuple[str, str], int]) -> None:
    """Put a block in its place and remove the rows it took up; called within one transaction.

    Raises:
        Changed: rows or block are not what they were when the block was made; roll back.
    """
    entity_id, span_ms = sealed.entity_id, sealed.span_ms
    rows, table = schema.samples[sealed.family], schema.blocks[sealed.family]
    if sealed.took_up:
        removed = connection.execute(
            delete(rows).where(
                rows.c.entity_id == entity_id, rows.c.observed_at_ms >= span_ms, rows.c.observed_at_ms < sealed.cut_ms
            )
        )
        if removed.rowcount != sealed.took_up:
            raise Changed(f"{removed.rowcount} rows instead of {sealed.took_up}")
    if sealed.replaces is not None:
        there = (table.c.entity_id == entity_id) & (table.c.span_ms == span_ms)
        if connection.execute(delete(table).where(there, table.c.times == sealed.replaces)).rowcount != 1:
            raise Changed("the block was written anew meanwhile")
    written = connection.execute(
        insert(connection, table).on_conflict_do_nothing().execution_options(preserve_rowcount=True),
        {
            "entity_id": entity_id,
            "span_ms": span_ms,
            "instants": sealed.instants,
            "first_at_ms": sealed.first_at_ms,
            "last_at_ms": sealed.last_at_ms,
            "times": sealed.times,
            **sealed.payloads,
        },
    )
    if written.rowcount != 1:
        raise Changed("a block was written meanwhile")
    beside = schema.block_aggregate
    of_family = [number for (family, _), number in metric_ids.items() if family == sealed.family]
    old = (beside.c.metric_id.in_(of_family)) & (beside.c.entity_id == entity_id) & (beside.c.span_ms == span_ms)
    connection.execute(delete(beside).where(old))
    connection.execute(
        insert(connection, beside),
        [
            {
                "metric_id": metric_ids[sealed.family, name],
                "entity_id": entity_id,
                "span_ms": span_ms,
                **dict(zip(NAMES, row, strict=True)),
            }
            for name, row in sealed.aggregates.items()
        ],
    )


def name_metrics(connection: Connection) -> dict[tuple[str, str], int]:
    """The numbers under which metrics are aggregated, given on first use: (family, name) -> metric_id."""
    table = schema.metric
    wanted = [(family, name) for family in schema.SEALED for name in (TIMES, *names_of(family))]
    known = {(row.family, row.name): row.metric_id for row in connection.execute(select(*table.c))}
    if missing := [{"family": family, "name": name} for family, name in wanted if (family, name) not in known]:
        connection.execute(insert(connection, table).on_conflict_do_nothing(), missing)
        known = {(row.family, row.name): row.metric_id for row in connection.execute(select(*table.c))}
    return known


def names_of(family: str) -> Sequence[str]:
    """The metrics of a family, in the order of the catalog."""
    return [metric.name for metric in FAMILIES[family].metrics]
