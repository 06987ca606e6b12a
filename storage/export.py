"""Everything that is stored, as flat tables for other programs: one entity and a few days at a time.

Samples, sealed or not, come as they were taken or by step; histograms, events, ticks and accounts as they are
stored. Memory does not grow with the range.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Column as TableColumn
from sqlalchemy import Connection, Engine, Select, Table, func, select, tuple_

from core import VERSION
from core.catalog import FAMILIES
from core.errors import ConfigError
from core.metric import Kind, Metric
from storage import histograms, schema, series, steps
from storage.accounts import FAMILIES_ACCOUNTED
from storage.aggregates import Aggregates
from storage.export_columns import ACCOUNTED, DAY_SECONDS, HISTOGRAM, SAMPLED, TICKS, Wanted, columns_of, metrics_of
from storage.schema import SPAN_MS
from storage.soundness import iso
from storage.tabular import Column, Values, sink
from storage.writer import read_fact

ROWS_AT_ONCE = 10_000
FEW, MANY = 8_000, 30_000  # samples at once, below and above which the next stretch is longer or shorter
SHORTEST_MS, LONGEST_MS = SPAN_MS, 12 * SPAN_MS

Part = tuple[int, Mapping[str, Values]]
"""How many rows, and the values of every column."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """An entity and what is said of it in every row."""

    entity_id: int
    said: Mapping[str, str | None]


def export(
    reader: Engine,
    wanted: Wanted,
    output: str,
    file_format: str,
    *,
    taken: Sequence[Path] = (),
    told: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> int:
    """Write a table; how many rows it has.

    Args:
        reader: of the store.
        wanted: what to write.
        output: a file, which gets its name when it is complete, or ``-``.
        file_format: ``parquet`` or ``csv``.
        taken: files that must not be written over.
        told: how far it is, in seconds of the window times entities.

    Raises:
        ConfigError: what is wanted does not exist or makes no sense, or the output cannot be that.
    """
    columns = columns_of(wanted)
    with reader.connect() as connection:
        things = _things(connection, wanted)
        simulated = read_fact(connection, "simulated") == "true"
    facts = {
        "family": wanted.family,
        "window_start": iso(wanted.start_ms),
        "window_end": iso(wanted.end_ms),
        "simulated": str(simulated).lower(),
        "version": VERSION,
    }
    if wanted.step_seconds is not None:
        facts["step_seconds"] = f"{wanted.step_seconds:g}"
    mark: dict[str, Values] = {}
    if simulated and file_format == "csv":
        columns = (*columns, Column("simulated", "flag", "Nothing of this was measured: it is a demonstration."))
        mark = {"simulated": True}
    total = 0
    with sink(output, file_format, columns, facts, taken) as out:
        for rows, values in _parts(reader, wanted, things, _by_second(told, wanted, len(things))):
            out.write(rows, {**values, **mark})
            total += rows
    return total


_Told = Callable[[int, int], None]
"""Is told the number of the entity under way and the time (Unix ms) it has come to."""


def _by_second(told: Callable[[str, int, int], None], wanted: Wanted, things: int) -> _Told:
    whole = max((wanted.end_ms - wanted.start_ms) // 1000, 1)

    def tell(number: int, at_ms: int) -> None:
        told("exporting", number * whole + min((at_ms - wanted.start_ms) // 1000, whole), max(things, 1) * whole)

    return tell


def _things(connection: Connection, wanted: Wanted) -> list[_Thing]:
    """The entities that are wanted; of events all that are named, of ticks none.

    Raises:
        ConfigError: one that was named is not there.
    """
    table = schema.entity.c
    families: Sequence[str] = {"latency": ("deployment",), "accounts": FAMILIES_ACCOUNTED}.get(
        wanted.family, (wanted.family,) if wanted.family in SAMPLED else tuple(FAMILIES)
    )
    found = connection.execute(
        select(table.entity_id, table.family, table.key, table.host, table.labels)
        .where(table.family.in_(families))
        .order_by(table.family, table.entity_id)
    ).all()
    there = {row.key for row in found}
    for key in wanted.keys:
        if key not in there:
            known = ", ".join(sorted(there)[:10]) or "nothing"
            raise ConfigError(f"--entity: no {key!r} among {' and '.join(families)}, but {known}")
    things = []
    for row in found:
        if not wanted.keys or row.key in wanted.keys:
            labels = json.loads(row.labels)
            said = {"family": row.family, "entity": row.key, "host": row.host}
            said |= {label: labels.get(label) for label in ("vendor", "model")}
            things.append(_Thing(row.entity_id, said))
    return things


def _parts(reader: Engine, wanted: Wanted, things: Sequence[_Thing], tell: _Told) -> Iterator[Part]:
    if wanted.family == "events":
        yield from _events(reader, wanted, things, tell)
        return
    if wanted.family == "ticks":
        yield from _ticks(reader, wanted, tell)
        return
    read = _reader_of(wanted)
    for number, thing in enumerate(things):
        tell(number, wanted.start_ms)
        for at_ms, part in read(reader, wanted, thing):
            yield len(part["time"]), {**thing.said, **part}
            tell(number, at_ms)
    tell(max(len(things) - 1, 0), wanted.end_ms)


_Read = Callable[[Engine, Wanted, _Thing], Iterator[tuple[int, dict[str, Any]]]]
"""Yields the time (Unix ms) it has come to and the values up to there."""


def _reader_of(wanted: Wanted) -> _Read:
    if wanted.family == "accounts":
        return _accounts
    if wanted.family == "latency":
        return _histograms
    if wanted.step_seconds is not None:
        return _by_step
    return _probes if wanted.family == "probe" else _samples


class _Stretch:
    """How long a time to read at once: longer where little is found, shorter where much is."""

    def __init__(self) -> None:
        self.ms = SHORTEST_MS

    def found(self, samples: int) -> None:
        if samples < FEW:
            self.ms = min(self.ms * 2, LONGEST_MS)
        elif samples > MANY:
            self.ms = max(self.ms // 2, SHORTEST_MS)


def _next_ms(
    connection: Connection, at: TableColumn[int], blocks: Table | None, entity_id: int, from_ms: int
) -> int | None:
    """When an entity was observed at or after an instant, or a little before that; ``None`` if never."""
    rows = at.table.c.entity_id == entity_id
    candidates: list[int | None] = [connection.execute(select(func.min(at)).where(rows, at >= from_ms)).scalar_one()]
    if blocks is not None:
        of = blocks.c
        first = connection.execute(
            select(of.first_at_ms)
            .where(of.entity_id == entity_id, of.span_ms > from_ms - SPAN_MS, of.last_at_ms >= from_ms)
            .order_by(of.span_ms)
            .limit(1)
        ).scalar_one_or_none()
        candidates.append(None if first is None else max(first, from_ms))
    return min((at_ms for at_ms in candidates if at_ms is not None), default=None)


def _samples(reader: Engine, wanted: Wanted, thing: _Thing) -> Iterator[tuple[int, dict[str, Any]]]:
    family, names = wanted.family, [metric.name for metric in metrics_of(wanted)]
    at, blocks = schema.samples[family].c.observed_at_ms, schema.blocks[family]
    stretch, to_ms = _Stretch(), wanted.start_ms
    while to_ms < wanted.end_ms:
        with reader.connect() as connection:
            begin_ms = _next_ms(connection, at, blocks, thing.entity_id, to_ms)
            if begin_ms is None or begin_ms >= wanted.end_ms:
                return
            to_ms = min(begin_ms - begin_ms % SPAN_MS + stretch.ms, wanted.end_ms)
            read = series.read(connection, family, names, [thing.entity_id], begin_ms, to_ms)
        at_ms = read.at_ms
        stretch.found(len(at_ms))
        yield to_ms, {"time": at_ms, **read.values}


def _probes(reader: Engine, wanted: Wanted, thing: _Thing) -> Iterator[tuple[int, dict[str, Any]]]:
    table, names = schema.samples["probe"], [metric.name for metric in metrics_of(wanted)]
    statement = select(table).where(table.c.entity_id == thing.entity_id).order_by(table.c.observed_at_ms)
    for rows in _pages(reader, statement, (table.c.observed_at_ms,), wanted):
        columns = {name: [getattr(row, name) for row in rows] for name in (*names, "outcome", "error")}
        columns |= {name: _numbers(columns[name]) for name in names}
        estimated = [bool(row.token_count_estimated) for row in rows]
        times = [row.observed_at_ms for row in rows]
        yield times[-1], {"time": times, **columns, "token_count_estimated": estimated}


def _by_step(reader: Engine, wanted: Wanted, thing: _Thing) -> Iterator[tuple[int, dict[str, Any]]]:
    """Steps, a whole number of them at once. What counters grew since the stretch before counts as in one stretch."""
    family, metrics, step_ms = wanted.family, metrics_of(wanted), _step_ms(wanted)
    at, blocks = schema.samples[family].c.observed_at_ms, schema.blocks.get(family)
    stretch, to_ms = _Stretch(), wanted.start_ms
    while to_ms < wanted.end_ms:
        with reader.connect() as connection:
            next_ms = _next_ms(connection, at, blocks, thing.entity_id, to_ms)
            if next_ms is None or next_ms >= wanted.end_ms:
                return
            begin_ms = _step_of(next_ms, wanted, step_ms)
            to_ms = min(begin_ms + max(stretch.ms // step_ms, 1) * step_ms, wanted.end_ms)
            origin_ms = begin_ms
            if blocks is not None and begin_ms > wanted.start_ms:
                before_ms = series.last_before(connection, family, thing.entity_id, begin_ms)
                if before_ms is not None and before_ms >= wanted.start_ms:
                    origin_ms = _step_of(before_ms, wanted, step_ms)
            found = steps.of_entities(connection, family, metrics, [thing.entity_id], origin_ms, to_ms, step_ms)
        times = origin_ms + found.numbers * step_ms
        kept = times >= begin_ms
        stretch.found(int(found.instants.sum()))
        columns: dict[str, Any] = {
            "time": times,
            "samples": found.instants,
            "coverage_ratio": np.minimum(found.observed_ms / step_ms, 1.0),
        }
        for metric in metrics:
            columns |= _combined(metric, found.metrics[metric.name])
        yield to_ms, {name: column[kept] for name, column in columns.items()}


def _step_ms(wanted: Wanted) -> int:
    return round((wanted.step_seconds or 0) * 1000)


def _step_of(at_ms: int, wanted: Wanted, step_ms: int) -> int:
    """Start of the step in which an instant lies."""
    return wanted.start_ms + (at_ms - wanted.start_ms) // step_ms * step_ms


def _combined(metric: Metric, found: Aggregates) -> dict[str, Any]:
    if metric.kind is Kind.COUNTER:
        return {metric.name: found.increase}
    mean = found.sum / np.where(found.count > 0, found.count, np.nan)
    return {metric.name: mean, f"{metric.name}_min": found.min, f"{metric.name}_max": found.max}


def _histograms(reader: Engine, wanted: Wanted, thing: _Thing) -> Iterator[tuple[int, dict[str, Any]]]:
    kinds, step_ms = wanted.metrics or None, _step_ms(wanted)
    at, bounds = schema.latency_sample.c.observed_at_ms, schema.histogram_bounds.c
    stretch, to_ms = _Stretch(), wanted.start_ms
    while to_ms < wanted.end_ms:
        with reader.connect() as connection:
            texts = connection.execute(select(bounds.bounds_id, bounds.upper_bounds_seconds))
            upper = {number: [float(bound) for bound in json.loads(content)] for number, content in texts}
            begin_ms = _next_ms(connection, at, schema.latency_block, thing.entity_id, to_ms)
            if begin_ms is None or begin_ms >= wanted.end_ms:
                return
            if step_ms:
                begin_ms = _step_of(begin_ms, wanted, step_ms)
                to_ms = min(begin_ms + max(stretch.ms // step_ms, 1) * step_ms, wanted.end_ms)
            else:
                to_ms = min(begin_ms - begin_ms % SPAN_MS + stretch.ms, wanted.end_ms)
            found = histograms.read(connection, [thing.entity_id], kinds, begin_ms, to_ms)
        stretch.found(sum(len(one.at_ms) for one in found))
        summed = [_summed(one, begin_ms, step_ms) for one in found]
        rows = sorted(
            (
                (at_ms, one.kind, sum(counts), seconds, upper[one.bounds_id], counts)
                for one in summed
                for at_ms, seconds, counts in zip(
                    one.at_ms.tolist(), one.sum_seconds.tolist(), one.increments.T.tolist(), strict=True
                )
            ),
            key=lambda row: row[:2],
        )
        names = ("time", *(column.name for column in HISTOGRAM))
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        yield to_ms, {name: list(column) for name, column in zip(names, columns, strict=True)}


def _summed(one: histograms.Histograms, begin_ms: int, step_ms: int) -> histograms.Histograms:
    """Histograms added up by step; as they are where there is none."""
    if not step_ms:
        return one
    numbers = (one.at_ms - begin_ms) // step_ms
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return histograms.Histograms(
        one.entity_id,
        one.kind,
        one.bounds_id,
        begin_ms + numbers[starts] * step_ms,
        np.add.reduceat(one.sum_seconds, starts),
        np.add.reduceat(one.increments, starts, axis=1),
    )


def _accounts(reader: Engine, wanted: Wanted, thing: _Thing) -> Iterator[tuple[int, dict[str, Any]]]:
    table, names = schema.account, [column.name for column in ACCOUNTED]
    hours = 24 if wanted.step_seconds == DAY_SECONDS else 1
    statement = (
        select(table).where(table.c.hours == hours, table.c.entity_id == thing.entity_id).order_by(table.c.start_ms)
    )
    for rows in _pages(reader, statement, (table.c.start_ms,), wanted):
        columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in names}
        columns |= {name: _numbers(values) for name, values in columns.items() if name != "energy_source"}
        times = [row.start_ms for row in rows]
        yield times[-1], {"time": times, **columns}


def _events(reader: Engine, wanted: Wanted, things: Sequence[_Thing], tell: _Told) -> Iterator[Part]:
    table, known = schema.event, {thing.entity_id: thing for thing in things}
    statement = select(table).order_by(table.c.observed_at_ms, table.c.event_id)
    if wanted.keys:
        statement = statement.where(table.c.entity_id.in_(list(known)))
    for rows in _pages(reader, statement, (table.c.observed_at_ms, table.c.event_id), wanted):
        of = [known.get(row.entity_id) for row in rows]
        columns: dict[str, Any] = {
            name: [None if thing is None else thing.said[name] for thing in of] for name in ("family", "entity", "host")
        }
        columns |= {name: [getattr(row, name) for row in rows] for name in ("kind", "severity", "message")}
        columns["code"] = _numbers([row.code for row in rows])
        columns["time"] = [row.observed_at_ms for row in rows]
        yield len(rows), columns
        tell(0, rows[-1].observed_at_ms)


def _ticks(reader: Engine, wanted: Wanted, tell: _Told) -> Iterator[Part]:
    table = schema.collector_tick
    key = (table.c.scheduled_at_ms, table.c.host, table.c.source, table.c.target)
    for rows in _pages(reader, select(table).order_by(*key), key, wanted):
        columns: dict[str, Any] = {c.name: [getattr(row, c.name) for row in rows] for c in TICKS if c.type == "text"}
        columns |= {c.name: _numbers([getattr(row, c.name) for row in rows]) for c in TICKS[5:8]}
        columns["time"] = [row.scheduled_at_ms for row in rows]
        yield len(rows), columns
        tell(0, rows[-1].scheduled_at_ms)


def _pages(
    reader: Engine, statement: Select[Any], key: tuple[TableColumn[Any], ...], wanted: Wanted
) -> Iterator[Sequence[Any]]:
    """Rows within the window, so many at once; ``key`` is what they are ordered by, the time (Unix ms) first."""
    at = key[0]
    page = statement.where(at >= wanted.start_ms, at < wanted.end_ms).limit(ROWS_AT_ONCE)
    more = page
    while True:
        with reader.connect() as connection:
            rows = connection.execute(more).all()
        if rows:
            yield rows
        if len(rows) < ROWS_AT_ONCE:
            return
        last = [getattr(rows[-1], column.name) for column in key]
        more = page.where(at >= last[0], tuple_(*key) > tuple_(*last))


def _numbers(values: Sequence[float | None]) -> Any:  # noqa: ANN401  an array; what is unknown is NaN
    return np.array(values, dtype="float64")
