"""Readings to rows: which table a reading belongs to, and its values in column order."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects.sqlite import insert

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

WATCHED_LABELS = ("driver", "version", "partition")  # a change of one of these is worth an event
_values = {name: attrgetter("observed_at_ms", *(m.name for m in family.metrics)) for name, family in FAMILIES.items()}
_columns = {name: ("observed_at_ms", *(m.name for m in family.metrics)) for name, family in FAMILIES.items()}


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
        """Insert all readings; those already stored are left as they are."""
        rows: dict[Table, list[dict[str, object]]] = {}
        for reading in readings:
            if isinstance(reading, Entity):
                self._describe(connection, reading)
            elif isinstance(reading, Assignment):
                self._assign(connection, reading)
            elif (row := self._row(connection, reading)) is not None:
                rows.setdefault(row[0], []).append(row[1])
        for table, values in rows.items():
            connection.execute(insert(table).on_conflict_do_nothing(), values)

    def _row(self, connection: Connection, reading: Reading) -> tuple[Table, dict[str, object]] | None:
        if isinstance(reading, Sample):
            row: dict[str, object] = dict(
                zip(_columns[reading.family], map(_storable, _values[reading.family](reading)), strict=True)
            )
            row["entity_id"] = self._id(connection, reading.family, reading.key, reading.observed_at_ms)
            if isinstance(reading, ProbeSample):
                row |= {
                    "outcome": reading.outcome.value,
                    "error": reading.error,
                    "token_count_estimated": int(reading.token_count_estimated),
                }
            return schema.samples[reading.family], row
        if isinstance(reading, LatencySample):
            return schema.latency_sample, {
                "entity_id": self._id(connection, "deployment", reading.key, reading.observed_at_ms),
                "kind": reading.kind.value,
                "observed_at_ms": reading.observed_at_ms,
                "bounds_id": self._bounds_id(connection, reading.upper_bounds_seconds),
                "increments": json.dumps(reading.increments, separators=(",", ":")),
                "sum_seconds": _storable(reading.sum_seconds),
            }
        if isinstance(reading, DeviceProcess):
            return schema.device_process, {
                "entity_id": self._id(connection, "accelerator", reading.key, reading.observed_at_ms),
                "observed_at_ms": reading.observed_at_ms,
                "pid": reading.pid,
                "name": reading.name,
                "memory_used_bytes": reading.memory_used_bytes,
            }
        if isinstance(reading, Event):
            return schema.event, self._event(connection, reading)
        return None  # listeners and target reports are used up by the runner

    def _event(self, connection: Connection, event: Event) -> dict[str, object]:
        known = self._id(connection, event.family, event.key, event.observed_at_ms) if event.key else None
        return {
            "observed_at_ms": event.observed_at_ms,
            "entity_id": known,
            "kind": event.kind,
            "severity": event.severity.value,
            "code": event.code,
            "message": event.message,
        }

    def _id(self, connection: Connection, family: str, key: str, at_ms: int) -> int:
        known = self._lookup(connection, family, key)
        if known is None:
            known = self._create(connection, Entity(observed_at_ms=at_ms, family=family, key=key, host=self._host))
        return known.entity_id

    def _lookup(self, connection: Connection, family: str, key: str) -> _Known | None:
        known = self._known.get((family, key))
        if known is None:
            table = schema.entity.c
            found = connection.execute(
                select(table.entity_id, table.parent_key, table.labels).where(table.family == family, table.key == key)
            ).one_or_none()
            if found is not None:
                known = _Known(found.entity_id, found.parent_key, json.loads(found.labels))
                self._known[family, key] = known
        return known

    def _create(self, connection: Connection, entity: Entity) -> _Known:
        created = connection.execute(
            insert(schema.entity)
            .values(
                family=entity.family,
                key=entity.key,
                host=entity.host,
                parent_key=entity.parent_key,
                labels=_labels(entity.labels),
                first_seen_at_ms=entity.observed_at_ms,
                last_seen_at_ms=entity.observed_at_ms,
            )
            .returning(schema.entity.c.entity_id)
        )
        known = _Known(created.scalar_one(), entity.parent_key, dict(entity.labels))
        self._known[entity.family, entity.key] = known
        return known

    def _describe(self, connection: Connection, entity: Entity) -> None:
        known = self._lookup(connection, entity.family, entity.key)
        if known is None:
            self._create(connection, entity)
            return
        connection.execute(
            schema.entity.update()
            .where(schema.entity.c.entity_id == known.entity_id)
            .values(
                host=entity.host,
                parent_key=entity.parent_key,
                labels=_labels(entity.labels),
                last_seen_at_ms=func.max(schema.entity.c.last_seen_at_ms, entity.observed_at_ms),
            )
        )
        for label in WATCHED_LABELS:
            before, now = known.labels.get(label), entity.labels.get(label)
            if before and now and before != now:
                change = Event(
                    observed_at_ms=entity.observed_at_ms,
                    kind=f"{label} change",
                    severity=Severity.INFO,
                    message=f"{label} changed from {before} to {now}",
                    family=entity.family,
                    key=entity.key,
                )
                connection.execute(insert(schema.event), self._event(connection, change))
        self._known[entity.family, entity.key] = _Known(known.entity_id, entity.parent_key, dict(entity.labels))

    def _assign(self, connection: Connection, said: Assignment) -> None:
        at_ms = said.observed_at_ms
        table = schema.assignment
        deployment_id = self._id(connection, "deployment", said.deployment_key, at_ms)
        wanted = {self._id(connection, said.target_family, key, at_ms) for key in said.target_keys}
        is_open = (table.c.deployment_id == deployment_id) & table.c.valid_to_ms.is_(None)
        columns = (table.c.target_id, table.c.origin, table.c.valid_from_ms)
        held = {row.target_id: row for row in connection.execute(select(*columns).where(is_open))}
        at_ms = max([at_ms, *(row.valid_from_ms for row in held.values())])  # a clock may have been set back
        kept = {target for target in wanted if target in held and held[target].origin == said.origin}
        ended = set(held) - kept
        if ended:
            connection.execute(table.update().where(is_open, table.c.target_id.in_(ended)).values(valid_to_ms=at_ms))
        for target_id in wanted - kept:
            connection.execute(
                insert(table)
                .values(deployment_id=deployment_id, target_id=target_id, valid_from_ms=at_ms, origin=said.origin)
                .on_conflict_do_nothing()
            )

    def _bounds_id(self, connection: Connection, bounds: tuple[float, ...]) -> int:
        known = self._bounds.get(bounds)
        if known is None:
            text = json.dumps(["inf" if math.isinf(b) else b for b in bounds], separators=(",", ":"))
            table = schema.histogram_bounds
            connection.execute(insert(table).values(upper_bounds_seconds=text).on_conflict_do_nothing())
            known = connection.execute(
                select(table.c.bounds_id).where(table.c.upper_bounds_seconds == text)
            ).scalar_one()
            self._bounds[bounds] = known
        return known


def _labels(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False)


def _storable(value: float | None) -> float | None:
    """NaN and infinities are not values; unknown is NULL."""
    return value if value is None or math.isfinite(value) else None


def end_assignments(connection: Connection) -> None:
    """End what an earlier daemon left open when its deployment was last seen; what still holds is said again."""
    table, sample = schema.assignment, schema.samples["deployment"]
    last_seen = (
        select(func.max(sample.c.observed_at_ms)).where(sample.c.entity_id == table.c.deployment_id).scalar_subquery()
    )
    connection.execute(
        table.update()
        .where(table.c.valid_to_ms.is_(None))
        .values(valid_to_ms=func.max(table.c.valid_from_ms, func.coalesce(last_seen, table.c.valid_from_ms)))
    )
