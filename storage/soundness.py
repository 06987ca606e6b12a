"""Whether what is stored is what was written: payloads, instants, aggregates, accounts.

Every function yields what is wrong as it is found and goes on. Each look at the database is short and sees one
moment of it, so that a daemon may write meanwhile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, RowMapping, Table, select

from storage import blocks, schema
from storage.accounts import SUMS
from storage.aggregates import NAMES
from storage.codec import Corrupt, Floats, Integers, unpack_into, unpack_times
from storage.hours import SOURCES
from storage.schema import HOUR_MS, SPAN_MS
from storage.steps import TIMES

SPANS_AT_ONCE = 20  # of one entity; bounds memory
TOLERANCE = 1e-9  # relative; additions in another order differ by less

_RESTORE = "put back a backup that has it, or leave it: nothing else is harmed"
_UNKNOWN = "it is shown as unknown"
_MISSED = "windows may miss some of it"
_DAYS = "figures of days are wrong"
_ACCOUNTS = "python -m storage rebuild-accounts, where samples are still kept"

Told = Callable[[int], None]
"""Is told how many blocks or entities were looked at since it was last told."""


@dataclass(frozen=True, slots=True)
class Entity:
    """Whose data are looked at."""

    entity_id: int
    family: str
    key: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, what it costs, and what to do. Times are Unix ms."""

    what: str
    cost: str
    remedy: str
    entity: Entity | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    metric: str = ""

    @property
    def line(self) -> str:
        """All of it on one line, without signs that would move a terminal's cursor."""
        parts = [] if self.entity is None else [self.entity.family, self.entity.key]
        if self.start_ms is not None and self.end_ms is not None:
            parts.append(f"{iso(self.start_ms)}/{iso(self.end_ms)}")
        subject = " ".join([*parts, self.metric] if self.metric else parts)
        whole = f"{subject or 'database'}: {self.what}; {self.cost}; remedy: {self.remedy}"
        return "".join(sign if sign.isprintable() else " " for sign in whole)


def iso(at_ms: int) -> str:
    """Unix ms as people and programs read it; numbers that are no time as they are."""
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
    return at.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def entities(connection: Connection) -> list[Entity]:
    """Everything that was ever seen."""
    table = schema.entity.c
    found = connection.execute(select(table.entity_id, table.family, table.key).order_by(table.entity_id))
    return [Entity(*row) for row in found]


def sample_blocks(reader: Engine, of: Entity, told: Told) -> Iterator[Finding]:
    """Every block of an entity and the aggregates beside it."""
    table, beside = schema.blocks[of.family], schema.block_aggregate.c
    with reader.connect() as connection:
        numbers = connection.execute(
            select(schema.metric.c.metric_id, schema.metric.c.name).where(schema.metric.c.family == of.family)
        )
        metrics = {int(number): str(name) for number, name in numbers}
    at, more = -1, True
    while more:
        with reader.connect() as connection:
            found = connection.execute(
                select(table)
                .where(table.c.entity_id == of.entity_id, table.c.span_ms > at)
                .order_by(table.c.span_ms)
                .limit(SPANS_AT_ONCE)
            ).all()
            more = len(found) == SPANS_AT_ONCE
            statement = select(beside.metric_id, beside.span_ms, *(beside[name] for name in NAMES)).where(
                beside.metric_id.in_(metrics), beside.entity_id == of.entity_id, beside.span_ms > at
            )
            if more:
                statement = statement.where(beside.span_ms <= found[-1].span_ms)
            aggregates: dict[int, dict[str, tuple[Any, ...]]] = {}
            for metric_id, span_ms, *figures in connection.execute(statement):
                aggregates.setdefault(span_ms, {})[metrics[metric_id]] = tuple(figures)
        for row in found:
            yield from _sample_block(of, row._mapping, aggregates.pop(row.span_ms, {}))
        for span_ms in sorted(aggregates):
            yield _of_span(
                of, span_ms, "", "figures of a block that is not there", "sums of days are too high", _RESTORE
            )
        at = found[-1].span_ms if found else at
        told(len(found))


def _of_span(of: Entity, span_ms: int, metric: str, what: str, cost: str, remedy: str) -> Finding:
    return Finding(what, cost, remedy, of, span_ms, span_ms + SPAN_MS, metric)


def _sample_block(of: Entity, row: RowMapping, aggregates: Mapping[str, tuple[Any, ...]]) -> Iterator[Finding]:
    span_ms, instants = row["span_ms"], row["instants"]
    if not 0 < instants <= SPAN_MS:
        yield _of_span(of, span_ms, "", f"it says it holds {instants} instants", f"all of {_UNKNOWN}", _RESTORE)
        return
    at_ms = yield from _times(of, row)
    known: dict[str, Floats] = {}
    damaged = set()
    for name in blocks.names_of(of.family):
        payload = row[name]
        if payload is not None:
            column = np.empty(instants)
            try:
                unpack_into(payload, column)
                known[name] = column
            except Corrupt as exc:
                damaged.add(name)
                yield _of_span(of, span_ms, name, str(exc), _UNKNOWN, _RESTORE)
    yield from _aggregates(of, span_ms, at_ms, known, {n: f for n, f in aggregates.items() if n not in damaged})


def _times(of: Entity, row: RowMapping, metric: str = "") -> Generator[Finding, None, Integers | None]:
    """Look at the instants of a block, which are the result if they can be read."""
    span_ms, instants = row["span_ms"], row["instants"]
    try:
        at_ms = unpack_times(row["times"], span_ms, instants)
    except Corrupt as exc:
        yield _of_span(of, span_ms, metric, f"its times: {exc}", f"all of {_UNKNOWN}", _RESTORE)
        return None
    said = f"{iso(row['first_at_ms'])} to {iso(row['last_at_ms'])}"
    found = f"{iso(int(at_ms[0]))} to {iso(int(at_ms[-1]))}"
    if not (np.diff(at_ms) > 0).all():
        yield _of_span(of, span_ms, metric, "its times do not ascend", "sums over time are wrong", _RESTORE)
    elif at_ms[0] < span_ms or at_ms[-1] >= span_ms + SPAN_MS:
        yield _of_span(of, span_ms, metric, f"its times are not within it: {found}", "windows miss them", _RESTORE)
    elif said != found:
        yield _of_span(of, span_ms, metric, f"it says it runs from {said} but runs from {found}", _MISSED, _RESTORE)
    return at_ms


def _aggregates(
    of: Entity,
    span_ms: int,
    at_ms: Integers | None,
    known: Mapping[str, Floats],
    beside: Mapping[str, tuple[Any, ...]],
) -> Iterator[Finding]:
    """Compare the figures beside a block with those of its values."""
    instants = np.arange(len(next(iter(known.values()), ()))) if at_ms is None else at_ms
    wanted = blocks.aggregates_of(of.family, instants, known) if len(instants) else {}
    if at_ms is None:
        wanted.pop(TIMES, None)
        beside = {name: figures for name, figures in beside.items() if name != TIMES}
    for name in dict.fromkeys((*wanted, *beside)):
        metric = "instants" if name == TIMES else name
        if name not in beside:
            yield _of_span(of, span_ms, metric, "no figures beside the block", "days do not show it", _RESTORE)
        elif name not in wanted:
            yield _of_span(of, span_ms, metric, "figures without values", "only days show it", _RESTORE)
        elif wrong := _differences(
            dict(zip(NAMES, wanted[name], strict=True)), dict(zip(NAMES, beside[name], strict=True))
        ):
            yield _of_span(of, span_ms, metric, f"figures beside the block differ: {wrong}", _DAYS, _RESTORE)


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any] | RowMapping) -> str:
    """In words, which figures are not what they should be."""
    # A sum may be small because its parts cancel; what its parts lose counts.
    largest = max((abs(wanted[n]) for n in ("min", "max") if wanted.get(n) is not None), default=0.0)
    scale = {"sum": largest * (wanted.get("count") or 0)}
    return ", ".join(
        f"{name} is {found[name]} instead of {wanted[name]}"
        for name in wanted
        if not _same(wanted[name], found[name], scale.get(name, 0.0))
    )


def _same(wanted: object, found: object, scale: float = 0.0) -> bool:
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return math.isclose(wanted, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE * scale)
    return wanted == found


def latency_blocks(reader: Engine, of: Entity, told: Told) -> Iterator[Finding]:
    """Every block of histograms of a deployment."""
    table, bounds = schema.latency_block, schema.histogram_bounds.c
    with reader.connect() as connection:
        texts = connection.execute(select(bounds.bounds_id, bounds.upper_bounds_seconds))
        sizes = {int(number): len(json.loads(content)) for number, content in texts}
        mine = table.c.entity_id == of.entity_id
        groups = connection.execute(select(table.c.kind, table.c.bounds_id).where(mine).distinct()).all()
    for kind, bounds_id in groups:
        at, more = -1, True
        while more:
            with reader.connect() as connection:
                found = connection.execute(
                    select(table)
                    .where(mine, table.c.kind == kind, table.c.bounds_id == bounds_id, table.c.span_ms > at)
                    .order_by(table.c.span_ms)
                    .limit(SPANS_AT_ONCE)
                ).all()
            for row in found:
                yield from _latency_block(of, row._mapping, sizes.get(bounds_id))
            more = len(found) == SPANS_AT_ONCE
            at = found[-1].span_ms if found else at
            told(len(found))


def _latency_block(of: Entity, row: RowMapping, bounds: int | None) -> Iterator[Finding]:
    span_ms, instants, metric = row["span_ms"], row["instants"], f"latency {row['kind']}"
    if not 0 < instants <= SPAN_MS:
        yield _of_span(of, span_ms, metric, f"it says it holds {instants} instants", f"all of {_UNKNOWN}", _RESTORE)
        return
    yield from _times(of, row, metric)
    if bounds is None:
        yield _of_span(of, span_ms, metric, f"bounds {row['bounds_id']} are not there", f"all of {_UNKNOWN}", _RESTORE)
        return
    for name, values in (("sum_seconds", instants), ("increments", instants * bounds)):
        try:
            unpack_into(row[name], np.empty(values))
        except Corrupt as exc:
            yield _of_span(of, span_ms, metric, f"its {name}: {exc}", "the histograms are left out", _RESTORE)


def accounts(reader: Engine, of: Entity) -> Iterator[Finding]:
    """Days that are not the sum of their hours."""
    for width in SUMS:
        yield from _wrong_sums(reader, of, schema.account, (), _sum, width)
    yield from _wrong_sums(reader, of, schema.latency_account, ("kind", "bounds_id"), _latency_sum, 24)


def _wrong_sums(
    reader: Engine,
    of: Entity,
    table: Table,
    key: tuple[str, ...],
    total: Callable[[Sequence[RowMapping]], dict[str, Any]],
    width: int,
) -> Iterator[Finding]:
    width_ms = width * HOUR_MS

    def sum_of(row: RowMapping) -> tuple[Any, ...]:
        return (row["start_ms"] // width_ms * width_ms, *(row[name] for name in key))

    findings = []
    order = [*(table.c[name] for name in key), table.c.start_ms]
    with reader.connect() as connection:
        found = connection.execute(
            select(table).where(table.c.entity_id == of.entity_id, table.c.hours.in_((1, width))).order_by(*order)
        )
        for start, rows in groupby(found.mappings(), key=sum_of):
            every = list(rows)
            hours, sums = ([row for row in every if row["hours"] == of_width] for of_width in (1, width))
            try:
                wrong = _wrong_sum(total(hours) if hours else None, sums[0] if sums else None, width)
            except ValueError as exc:  # a list of counts that is none, or lists that do not fit together
                wrong = f"it cannot be read: {exc}"
            if wrong:
                metric = " ".join(("account", *map(str, start[1:2])))
                findings.append(Finding(wrong, _DAYS, _ACCOUNTS, of, start[0], start[0] + width_ms, metric))
    yield from findings


def _wrong_sum(wanted: dict[str, Any] | None, found: RowMapping | None, width: int) -> str:
    """What is wrong with a sum, in words; nothing where it is that of its hours."""
    name = "day" if width == 24 else f"sum of {width} h"
    if wanted is None or found is None:
        return f"a {name} without hours" if wanted is None else f"hours without their {name}"
    if counts := wanted.pop("increments", None):
        different = not np.allclose(counts, json.loads(found["increments"]), rtol=TOLERANCE, atol=0.0)
        wanted |= {"increments": "the sum of its hours"} if different else {}
    differences = _differences(wanted, found)
    return f"the {name} is not the sum of its hours: {differences}" if differences else ""


def _sum(hours: Sequence[RowMapping]) -> dict[str, Any]:
    """Hours of one day as one: unknown counts for nothing; of energy sources the worst."""
    answer: dict[str, Any] = {}
    for column in list(schema.account.c)[3:]:
        known = [row[column.name] for row in hours if row[column.name] is not None]
        if column.name == "energy_source":
            answer[column.name] = max(known, key=SOURCES.index, default=None)
        else:
            answer[column.name] = math.fsum(known) if known else None
    return answer


def _latency_sum(hours: Sequence[RowMapping]) -> dict[str, Any]:
    """Histograms of one day as one; their sum is known where that of each is."""
    seconds = [row["sum_seconds"] for row in hours]
    return {
        "increments": np.sum([json.loads(row["increments"]) for row in hours], axis=0).tolist(),
        "sum_seconds": None if None in seconds else math.fsum(seconds),
    }
