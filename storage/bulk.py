"""The past of many things, sealed straight from memory, many spans in a transaction.

``Writer.load`` does the same for samples a span at a time and looks at what is there already. That is what this falls
back on; where nothing is there, a few statements store days of a thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from sqlalchemy import Connection, select

from core.catalog import FAMILIES
from storage import blocks, histograms, schema
from storage.blocks import Sealed
from storage.codec import Floats, Integers, pack, pack_times
from storage.histograms import Histograms
from storage.rows import account_again, insert_rows
from storage.schema import HOUR_MS, SPAN_MS
from storage.series import Rows
from storage.writer import Writer


class Bulk:
    """Loads the past through a writer. What is stored already stays as it is.

    Both methods raise ``TimeoutError`` when the database could not be written in time, and
    ``sqlalchemy.exc.DBAPIError`` when it could not be at all; what was loaded before stays.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._metric_ids = writer.call(blocks.name_metrics)

    def load(self, family: str, key: str, at_ms: Integers, values: Mapping[str, Floats]) -> None:
        """Store samples of one thing.

        Args:
            family: one of ``schema.SEALED``.
            key: of the entity.
            at_ms: instants, ascending (Unix ms).
            values: metric -> one value per instant; NaN is unknown. What is left out is unknown.
        """
        if not len(at_ms):
            return
        entity_id = self._writer.call(
            lambda connection: self._writer.rows.entity_id(connection, family, key, int(at_ms[0]))
        )
        parts = dict(blocks.by_span(Rows(entity_id, at_ms, values)))
        sealed = [blocks.seal(family, span_ms, rows) for span_ms, rows in parts.items()]
        for span_ms in self._writer.call(partial(self._store, sealed=sealed)):
            self._writer.load(family, key, parts[span_ms].at_ms, parts[span_ms].values)

    def _store(self, connection: Connection, sealed: Sequence[Sealed]) -> list[int]:
        """Store blocks of one entity; the spans of those that were not, since something is there."""
        first = sealed[0]
        table = schema.blocks[first.family]
        taken = _taken(connection, first.family, first.entity_id, first.first_at_ms, sealed[-1].last_at_ms)
        fresh = [block for block in sealed if block.span_ms not in taken]
        names = [metric.name for metric in FAMILIES[first.family].metrics]
        rows: list[tuple[object, ...]] = [
            (
                block.entity_id,
                block.span_ms,
                block.instants,
                block.first_at_ms,
                block.last_at_ms,
                block.times,
                *(block.payloads.get(name) for name in names),
            )
            for block in fresh
        ]
        beside: list[tuple[object, ...]] = [
            (self._metric_ids[block.family, name], block.entity_id, block.span_ms, *figures)
            for block in fresh
            for name, figures in block.aggregates.items()
        ]
        if fresh:
            insert_rows(connection, table, rows)
            insert_rows(connection, schema.block_aggregate, beside)
            account_again(connection, [first.entity_id], first.first_at_ms // HOUR_MS * HOUR_MS)
        return sorted(taken & {block.span_ms for block in sealed})

    def load_latency(
        self,
        key: str,
        kind: str,
        upper_bounds_seconds: tuple[float, ...],
        at_ms: Integers,
        increments: Floats,
        sum_seconds: Floats,
    ) -> None:
        """Store what one histogram of a deployment grew by.

        Args:
            key: of the deployment.
            kind: of ``core.readings.Latency``.
            upper_bounds_seconds: ascending, the last is infinite.
            at_ms: instants, ascending (Unix ms).
            increments: a row of counts for each bound, a column for each instant.
            sum_seconds: of each instant; NaN: unknown.
        """
        if not len(at_ms):
            return

        def numbers(connection: Connection) -> tuple[int, int]:
            rows = self._writer.rows
            deployment_id = rows.entity_id(connection, "deployment", key, int(at_ms[0]))
            return deployment_id, rows.bounds_id(connection, upper_bounds_seconds)

        entity_id, bounds_id = self._writer.call(numbers)
        past = Histograms(entity_id, kind, bounds_id, at_ms, sum_seconds, increments)
        self._writer.call(partial(_store_latency, sealed=[(_sealed(part), part) for part in _by_span(past)]))


def _taken(connection: Connection, family: str, entity_id: int, first_ms: int, last_ms: int) -> set[int]:
    """Spans of an entity in which something is stored."""
    sealed, rows = schema.blocks[family].c, schema.samples[family].c
    spans = select(sealed.span_ms).where(
        sealed.entity_id == entity_id, sealed.span_ms >= first_ms // SPAN_MS * SPAN_MS, sealed.span_ms <= last_ms
    )
    hot = select(rows.observed_at_ms - rows.observed_at_ms % SPAN_MS).where(
        rows.entity_id == entity_id, rows.observed_at_ms >= first_ms, rows.observed_at_ms <= last_ms
    )
    return {*connection.execute(spans).scalars(), *connection.execute(hot.distinct()).scalars()}


def _by_span(past: Histograms) -> Iterator[Histograms]:
    spans = past.at_ms // SPAN_MS
    starts = np.flatnonzero(np.diff(spans, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(spans)], strict=True):
        yield Histograms(
            past.entity_id,
            past.kind,
            past.bounds_id,
            past.at_ms[first:last],
            past.sum_seconds[first:last],
            past.increments[:, first:last],
        )


def _sealed(part: Histograms) -> histograms.Sealed:
    span_ms = int(part.at_ms[0]) // SPAN_MS * SPAN_MS
    row: dict[str, object] = {
        "entity_id": part.entity_id,
        "kind": part.kind,
        "bounds_id": part.bounds_id,
        "span_ms": span_ms,
        "instants": len(part.at_ms),
        "first_at_ms": int(part.at_ms[0]),
        "last_at_ms": int(part.at_ms[-1]),
        "times": pack_times(part.at_ms, span_ms),
        "sum_seconds": pack(part.sum_seconds),
        "increments": pack(part.increments.ravel()),
    }
    no_rows = histograms.Due(part.entity_id, part.kind, part.bounds_id, span_ms, cut_ms=span_ms)
    return histograms.Sealed(no_rows, row, replaces=None, took_up=0)


def _store_latency(connection: Connection, sealed: Sequence[tuple[histograms.Sealed, Histograms]]) -> None:
    """Blocks where a span has none yet; else rows, which the upkeep merges with what is sealed."""
    first = sealed[0][1]
    there = schema.latency_block.c
    of = (there.entity_id == first.entity_id) & (there.kind == first.kind) & (there.bounds_id == first.bounds_id)
    spans = [block.due.span_ms for block, _ in sealed]
    taken = set(connection.execute(select(there.span_ms).where(of, there.span_ms.in_(spans))).scalars())
    for block, part in sealed:
        if block.due.span_ms in taken:
            insert_rows(connection, schema.latency_sample, list(_rows(part)))
        else:
            histograms.store(connection, block)
    account_again(connection, [first.entity_id], int(first.at_ms[0]) // HOUR_MS * HOUR_MS)


def _rows(part: Histograms) -> Iterator[tuple[object, ...]]:
    """In the order of ``schema.latency_sample``."""
    columns = (part.at_ms.tolist(), part.increments.T.tolist(), part.sum_seconds.tolist())
    for at_ms, counts, seconds in zip(*columns, strict=True):
        known = None if seconds != seconds else seconds
        yield part.entity_id, part.kind, at_ms, part.bounds_id, json.dumps(counts, separators=(",", ":")), known
