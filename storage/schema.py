"""Tables. Sample tables are derived from the catalog: one wide row per entity and instant.

SQLite tables are STRICT, fact tables WITHOUT ROWID in key order, so that one entity's samples lie
together. Times are integer milliseconds, UTC. Only types that STRICT accepts are used.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from core.catalog import FAMILIES, Family

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

entity = Table(
    "entity",
    metadata,
    Column("entity_id", Integer, primary_key=True),
    Column("family", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("parent_key", Text),
    Column("labels", Text, nullable=False),  # JSON object of strings
    Column("first_seen_at_ms", Integer, nullable=False),
    Column("last_seen_at_ms", Integer, nullable=False),
    UniqueConstraint("family", "key"),
    sqlite_strict=True,
)


def _entity_id() -> Column[int]:
    return Column("entity_id", Integer, ForeignKey("entity.entity_id"), primary_key=True)


def _sample_table(family: Family, *extra: Column[str] | Column[int]) -> Table:
    columns = [Column(m.name, Integer if m.integer else REAL) for m in family.metrics]
    return Table(
        f"{family.name}_sample",
        metadata,
        _entity_id(),
        Column("observed_at_ms", Integer, primary_key=True),
        *columns,
        *extra,
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


_EXTRA: dict[str, tuple[Column[str] | Column[int], ...]] = {
    "probe": (
        Column("outcome", Text, nullable=False),
        Column("error", Text, nullable=False),
        Column("token_count_estimated", Integer, nullable=False),
    )
}
samples: dict[str, Table] = {name: _sample_table(f, *_EXTRA.get(name, ())) for name, f in FAMILIES.items()}

histogram_bounds = Table(
    "histogram_bounds",
    metadata,
    Column("bounds_id", Integer, primary_key=True),
    Column("upper_bounds_seconds", Text, nullable=False, unique=True),  # JSON list; +Inf as the string "inf"
    sqlite_strict=True,
)

latency_sample = Table(
    "latency_sample",
    metadata,
    _entity_id(),
    Column("kind", Text, primary_key=True),
    Column("observed_at_ms", Integer, primary_key=True),
    Column("bounds_id", Integer, ForeignKey("histogram_bounds.bounds_id"), nullable=False),
    Column("increments", Text, nullable=False),  # JSON list, one count per bound
    Column("sum_seconds", REAL),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

device_process = Table(
    "device_process",
    metadata,
    _entity_id(),
    Column("observed_at_ms", Integer, primary_key=True),
    Column("pid", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("memory_used_bytes", Integer),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

assignment = Table(
    "assignment",
    metadata,
    Column("deployment_id", Integer, ForeignKey("entity.entity_id"), primary_key=True),
    Column("target_id", Integer, ForeignKey("entity.entity_id"), primary_key=True),
    Column("valid_from_ms", Integer, primary_key=True),
    Column("valid_to_ms", Integer),  # NULL: still so
    Column("origin", Text, nullable=False),
    CheckConstraint("valid_to_ms IS NULL OR valid_to_ms >= valid_from_ms", name="ends_after_it_begins"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

event = Table(
    "event",
    metadata,
    Column("event_id", Integer, primary_key=True),
    Column("observed_at_ms", Integer, nullable=False, index=True),
    Column("entity_id", Integer, ForeignKey("entity.entity_id")),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("code", Integer),
    Column("message", Text, nullable=False),
    sqlite_strict=True,
)

collector_tick = Table(
    "collector_tick",
    metadata,
    Column("host", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("scheduled_at_ms", Integer, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("duration_seconds", REAL, nullable=False),
    Column("readings", Integer, nullable=False),
    Column("ticks_missed", Integer, nullable=False),
    Column("error", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("ix_collector_tick_scheduled_at_ms", collector_tick.c.scheduled_at_ms)

source_status = Table(
    "source_status",
    metadata,
    Column("host", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("available", Integer, nullable=False),
    Column("absent", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("checked_at_ms", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

probe_spend = Table(
    "probe_spend",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("month", Text, primary_key=True),  # 2026-11, UTC
    Column("spent_usd", REAL, nullable=False),
    CheckConstraint("spent_usd >= 0", name="not_negative"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

store_fact = Table(
    "store_fact",
    metadata,
    Column("name", Text, primary_key=True),  # "simulated", "batches_dropped"
    Column("value", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
