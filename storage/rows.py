"""Readings to rows: which table a reading belongs to, and its values in column order."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Table, bindparam, case, func, select, update

from core.catalog import FAMILIES
from core.readings import (
    Assignment,
    DeviceProcess,
    Entity,
    Event,
    LatencySample,
    ProbeSample,
    Reading,
    Sample,
    Severity,
)
from storage import schema
from storage.engine import BY_PLACE, insert
from storage.schema import HOUR_MS

KEYS_AT_ONCE = 500
WATCHED_LABELS = ("driver", "version", "partition")  # a change of one of these is worth an event
_values = {name: attrgetter("observed_at_ms", *(m.name for m in family.metrics)) for name, family in FAMILIES.items()}


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store already holds of an entity."""

    entity_id: int
    parent_key: str | None
    labels: Mapping[str, str]


class RowWriter:
    """Writes readings through one connection's transaction; remembers ids between transactions.

    Not thread-safe: it belongs to the writer thread. After a rolled-back transaction call
    ``forget``, since ids given in it are gone.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._known: dict[tuple[str, str], _Known] = {}
        self._bounds: dict[tuple[float, ...], int] = {}

    def forget(self) -> None:
        """Drop what was remembered; it is read again when needed."""
        self._known.clear()
        self._bounds.clear()

    def write(self, connection: Connection, readings: Iterable[Reading]) -> None:
        """Insert all readings; those already stored are left as they are.

        On PostgreSQL daemons that write at once come to what they have in common in the same order, so that none
        waits in a circle. Elsewhere things are numbered as they are told, which is the order people know them in.
        """
        rows: dict[Table, list[tuple[object, ...]]] = {}
        hours: dict[int, set[int]] = {}
        readings = sorted(readings, key=_order) if connection.dialect.name == "postgresql" else list(readings)
        for bounds in sorted({one.upper_bounds_seconds for one in readings if isinstance(one, LatencySample)}):
            self.bounds_id(connection, bounds)
        created = self._meet(connection, readings)
        described = [
            one for one in readings if isinstance(one, Entity) and created.get((one.family, one.key)) is not one
        ]
        self._describe(connection, described)
        for reading in readings:
            if isinstance(reading, Assignment):
                self._assign(connection, reading)
            elif (row := self._row(connection, reading)) is not None:
                rows.setdefault(row[0], []).append(row[1])
                if isinstance(reading, Sample | LatencySample):
                    entity_id = self._known[_entity_of(reading)].entity_id
                    hours.setdefault(reading.observed_at_ms // HOUR_MS * HOUR_MS, set()).add(entity_id)
        for table, values in rows.items():
            insert_rows(connection, table, values)
        for hour_ms, entity_ids in sorted(hours.items()):
            account_again(connection, entity_ids, hour_ms)

    def entity_id(self, connection: Connection, family: str, key: str, at_ms: int) -> int:
        """The number of an entity, made known if it is new."""
        if (family, key) not in self._known:
            self._introduce(connection, [Entity(observed_at_ms=at_ms, family=family, key=key, host=self._host)])
        return self._known[family, key].entity_id

    def _row(self, connection: Connection, reading: Reading) -> tuple[Table, tuple[object, ...]] | None:
        """A row's values in the order of its table's columns."""
        if isinstance(reading, Sample):
            entity_id = self.entity_id(connection, reading.family, reading.key, reading.observed_at_ms)
            row: tuple[object, ...] = (entity_id, *_storable(_values[reading.family](reading)))
            if isinstance(reading, ProbeSample):
                row = (*row, reading.outcome.value, reading.error, int(reading.token_count_estimated))
            return schema.samples[reading.family], row
        if isinstance(reading, LatencySample):
            return schema.latency_sample, (
                self.entity_id(connection, "deployment", reading.key, reading.observed_at_ms),
                reading.kind.value,
                reading.observed_at_ms,
                self.bounds_id(connection, reading.upper_bounds_seconds),
                json.dumps(reading.increments, separators=(",", ":")),
                *_storable((reading.sum_seconds,)),
            )
        if isinstance(reading, DeviceProcess):
            return schema.device_process, (
                self.entity_id(connection, "accelerator", reading.key, reading.observed_at_ms),
                reading.observed_at_ms,
                reading.pid,
                reading.name,
                reading.memory_used_bytes,
            )
        if isinstance(reading, Event):
            return schema.event, self._event(connection, reading)
        return None  # listeners and target reports are used up by the runner

    def _event(self, connection: Connection, event: Event) -> tuple[object, ...]:
        entity_id = self.entity_id(connection, event.family, event.key, event.observed_at_ms) if event.key else None
        return (event.observed_at_ms, entity_id, event.kind, event.severity.value, event.code, event.message)

    def _meet(self, connection: Connection, readings: Sequence[Reading]) -> dict[tuple[str, str], Entity]:
        """Know everything that readings are about; returns what the store had not heard of, as it was created."""
        strangers: dict[tuple[str, str], Entity] = {}
        for reading in readings:
            if isinstance(reading, Entity):
                strangers.setdefault((reading.family, reading.key), reading)
        for reading in readings:
            if isinstance(reading, Sample | LatencySample):
                family, key = _entity_of(reading)
                if (family, key) not in self._known and (family, key) not in strangers:
                    at_ms = reading.observed_at_ms
                    strangers[family, key] = Entity(observed_at_ms=at_ms, family=family, key=key, host=self._host)
        return self._introduce(connection, [one for key, one in strangers.items() if key not in self._known])

    def _introduce(self, connection: Connection, entities: Sequence[Entity]) -> dict[tuple[str, str], Entity]:
        """Look entities up and create those that are not there; returns the latter."""
        self._recall(connection, entities)
        new = {(one.family, one.key): one for one in entities if (one.family, one.key) not in self._known}
        if new:
            rows = [
                {
                    "family": one.family,
                    "key": one.key,
                    "host": one.host,
                    "parent_key": one.parent_key,
                    "labels": _labels(one.labels),
                    "first_seen_at_ms": one.observed_at_ms,
                    "last_seen_at_ms": one.observed_at_ms,
                }
                for one in new.values()
            ]
            connection.execute(insert(connection, schema.entity).on_conflict_do_nothing(), rows)
            self._recall(connection, list(new.values()))
        return new

    def _recall(self, connection: Connection, entities: Sequence[Entity]) -> None:
        """Remember those of the entities that the store holds."""
        table = schema.entity.c
        columns = (table.entity_id, table.key, table.parent_key, table.labels)
        for family in sorted({one.family for one in entities}):
            keys = [one.key for one in entities if one.family == family]
            for first in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[first : first + KEYS_AT_ONCE]
                found = connection.execute(select(*columns).where(table.family == family, table.key.in_(some)))
                for entity_id, key, parent_key, labels in found:
                    self._known[family, key] = _Known(entity_id, parent_key, json.loads(labels))

    def _describe(self, connection: Connection, entities: Sequence[Entity]) -> None:
        """Bring descriptions up to date; a change that is worth it becomes an event."""
        rows: list[dict[str, object]] = []
        changes: list[tuple[object, ...]] = []
        for entity in entities:
            known = self._known[entity.family, entity.key]
            rows.append(
                {
                    "of": known.entity_id,
                    "to_host": entity.host,
                    "to_parent_key": entity.parent_key,
                    "to_labels": _labels(entity.labels),
                    "seen_at_ms": entity.observed_at_ms,
                }
            )
            changes += [self._event(connection, change) for change in _changes(known, entity)]
            self._known[entity.family, entity.key] = _Known(known.entity_id, entity.parent_key, dict(entity.labels))
        if rows:
            connection.execute(_DESCRIBE, rows)
        if changes:
            insert_rows(connection, schema.event, changes)

    def _assign(self, connection: Connection, said: Assignment) -> None:
        table, at_ms = schema.assignment, said.observed_at_ms
        deployment_id = self.entity_id(connection, "deployment", said.deployment_key, at_ms)
        wanted = {self.entity_id(connection, said.target_family, key, at_ms) for key in said.target_keys}
        is_open = (table.c.deployment_id == deployment_id) & table.c.valid_to_ms.is_(None)
        columns = (table.c.target_id, table.c.origin, table.c.valid_from_ms)
        held = {row.target_id: row for row in connection.execute(select(*columns).where(is_open))}
        kept = {target for target in wanted if target in held and held[target].origin == said.origin}
        ended = set(held) - kept
        if ended:
            connection.execute(
                table.update()
                .where(is_open, table.c.target_id.in_(ended))
                .values(valid_to_ms=_greater(table.c.valid_from_ms, at_ms))
            )
        begins_ms = max([at_ms, *(row.valid_from_ms for row in held.values())])  # a clock may have been set back
        for target_id in wanted - kept:
            again = {"valid_to_ms": None, "origin": said.origin}  # it ended in the same millisecond
            connection.execute(
                insert(connection, table)
                .values(deployment_id=deployment_id, target_id=target_id, valid_from_ms=begins_ms, origin=said.origin)
                .on_conflict_do_update(index_elements=list(table.primary_key), set_=again)
            )

    def bounds_id(self, connection: Connection, bounds: tuple[float, ...]) -> int:
        """The number of a histogram's upper bounds (s), made known if they are new."""
        known = self._bounds.get(bounds)
        if known is None:
            text = json.dumps(["inf" if math.isinf(b) else b for b in bounds], separators=(",", ":"))
            table = schema.histogram_bounds
            connection.execute(insert(connection, table).values(upper_bounds_seconds=text).on_conflict_do_nothing())
            known = connection.execute(
                select(table.c.bounds_id).where(table.c.upper_bounds_seconds == text)
            ).scalar_one()
            self._bounds[bounds] = known
        return known


def _labels(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False)


def _changes(known: _Known, entity: Entity) -> Iterator[Event]:
    """What is different about an entity and worth an event."""
    for label in WATCHED_LABELS:
        before, now = known.labels.get(label), entity.labels.get(label)
        if before and now and before != now:
            yield Event(
                observed_at_ms=entity.observed_at_ms,
                kind=f"{label} change",
                severity=Severity.INFO,
                message=f"{label} changed from {before} to {now}",
                family=entity.family,
                key=entity.key,
            )


def _storable(values: Iterable[float | None]) -> list[float | None]:
    """NaN and infinities are not values; unknown is NULL."""
    return [value if value is None or math.isfinite(value) else None for value in values]


def _order(reading: Reading) -> tuple[int, str, str]:
    """What is described comes first, by its key; what refers to several entities last."""
    if isinstance(reading, Entity):
        return 0, reading.family, reading.key
    if isinstance(reading, Sample | LatencySample):
        return 1, *_entity_of(reading)
    return 2, "", ""


def _entity_of(reading: Sample | LatencySample) -> tuple[str, str]:
    return ("deployment" if isinstance(reading, LatencySample) else reading.family, reading.key)


def _greater(one: ColumnElement[int], other: ColumnElement[int] | int) -> ColumnElement[int]:
    return case((one > other, one), else_=other)


_DESCRIBE = (
    update(schema.entity)
    .where(schema.entity.c.entity_id == bindparam("of"))
    .values(
        host=bindparam("to_host"),
        parent_key=bindparam("to_parent_key"),
        labels=bindparam("to_labels"),
        last_seen_at_ms=_greater(schema.entity.c.last_seen_at_ms, bindparam("seen_at_ms", type_=schema.Integer)),
    )
)


def insert_rows(connection: Connection, table: Table, rows: list[tuple[object, ...]]) -> None:
    """Insert rows whose values stand in the order of the table's columns; those already there stay as they are.

    The statement goes to the driver as text: for wide rows SQLAlchemy's own parameters cost more than the insert.
    """
    statement = _statements.get((connection.dialect.name, table))
    if statement is None:
        names = [column.name for column in table.c if column.name != "event_id"]
        dialect = BY_PLACE[connection.dialect.name]
        compiled = insert(connection, table).on_conflict_do_nothing().compile(dialect=dialect, column_keys=names)
        statement = _statements[connection.dialect.name, table] = str(compiled)
    connection.exec_driver_sql(statement, rows)


_statements: dict[tuple[str, Table], str] = {}


def account_again(connection: Connection, entity_ids: Iterable[int], hour_ms: int) -> None:
    """Late data: accounts from this hour on are not complete any more."""
    table = schema.entity
    statement = update(table).values(accounted_until_ms=hour_ms).where(table.c.accounted_until_ms > hour_ms)
    connection.execute(statement.where(table.c.entity_id.in_(sorted(entity_ids))))


def open_assignments(connection: Connection, host: str) -> list[Assignment]:
    """What the store holds open, each with the instant when its deployment was last seen.

    Where several daemons write it is of the deployments of one host alone.
    """
    table, entity = schema.assignment, schema.entity
    deployment, target = entity.alias(), entity.alias()
    columns = (deployment.c.key, target.c.family, table.c.origin, target.c.key)
    statement = (
        select(*columns, table.c.valid_from_ms, *(_last_seen(*where) for where in _SEEN_IN))
        .join(deployment, deployment.c.entity_id == table.c.deployment_id)
        .join(target, target.c.entity_id == table.c.target_id)
        .where(table.c.valid_to_ms.is_(None))
        .order_by(*columns)
    )
    if connection.dialect.name == "postgresql":
        statement = statement.where(deployment.c.host == host)
    rows = connection.execute(statement).all()
    return [
        Assignment(
            deployment_key=deployment_key,
            target_family=family,
            target_keys=tuple(row[3] for row in several),
            origin=origin,
            observed_at_ms=max(at_ms for row in several for at_ms in row[4:] if at_ms is not None),
        )
        for (deployment_key, family, origin), group in itertools.groupby(rows, key=lambda row: tuple(row[:3]))
        if (several := list(group))
    ]


_SEEN_IN = (
    (schema.samples["deployment"], "observed_at_ms"),
    (schema.blocks["deployment"], "last_at_ms"),
)


def _last_seen(table: Table, column: str) -> ScalarSelect[int]:
    """When a deployment with an assignment was last seen, as far as one table tells."""
    newest = select(func.max(table.c[column])).where(table.c.entity_id == schema.assignment.c.deployment_id)
    return newest.correlate(schema.assignment).scalar_subquery()
