"""Tables. Three tiers, derived from the catalog: rows while hot, column blocks when sealed, accounts for ever.

``*_sample``: one wide row per entity and instant. ``*_block``: one row per entity and span, a compressed
payload per metric (``storage.codec``), and ``block_aggregate`` beside it. ``account``: one row per entity
and hour, summed up again per UTC day.

SQLite tables are STRICT. Small fact tables are WITHOUT ROWID in key order, so that one entity's rows lie
together; blocks are not, because SQLite packs long rows tighter into tables with a rowid. Times are integer
milliseconds, UTC. On PostgreSQL the same tables have 64-bit types, and those that grow for ever are
partitioned by time.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from core.catalog import FAMILIES, Family
from core.metric import Kind

Integer = sa.Integer().with_variant(BigInteger(), "postgresql")
Real: sa.types.TypeEngine[float] = REAL().with_variant(Double(), "postgresql")

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SPAN_MS = 8 * HOUR_MS
"""What one block covers: a third of a UTC day, 2,880 instants at 10 s."""
QUARTER_MS = HOUR_MS // 4
"""What is sealed of samples at once: pages wait longest for rows, so that there shall be few."""

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
    Column("accounted_until_ms", Integer),  # its accounts are complete before this; NULL: none yet
    UniqueConstraint("family", "key"),
    sqlite_strict=True,
)


def _entity_id() -> Column[int]:
    return Column("entity_id", Integer, ForeignKey("entity.entity_id"), primary_key=True)


def _sample_table(family: Family, *extra: Column[str] | Column[int]) -> Table:
    columns = [Column(m.name, Integer if m.integer else Real) for m in family.metrics]
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

SEALED = tuple(name for name in samples if name != "probe")
"""Families whose samples go into blocks. Probe requests are few and partly text: they stay rows."""


def _block_table(family: Family) -> Table:
    return Table(
        f"{family.name}_block",
        metadata,
        _entity_id(),
        Column("span_ms", Integer, primary_key=True),
        Column("instants", Integer, nullable=False),
        Column("first_at_ms", Integer, nullable=False),
        Column("last_at_ms", Integer, nullable=False),
        Column("times", LargeBinary, nullable=False),
        *(Column(m.name, LargeBinary) for m in family.metrics),  # NULL: unknown throughout
        sqlite_strict=True,
        postgresql_partition_by="RANGE (span_ms)",
    )


blocks: dict[str, Table] = {name: _block_table(FAMILIES[name]) for name in SEALED}

metric = Table(
    "metric",
    metadata,
    Column("metric_id", Integer, primary_key=True),
    Column("family", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("family", "name"),
    sqlite_strict=True,
)

block_aggregate = Table(
    "block_aggregate",
    metadata,
    Column("metric_id", Integer, ForeignKey("metric.metric_id"), primary_key=True),
    _entity_id(),
    Column("span_ms", Integer, primary_key=True),
    Column("count", Integer, nullable=False),  # known values
    Column("min", Real, nullable=False),
    Column("max", Real, nullable=False),
    Column("sum", Real, nullable=False),
    Column("first", Real, nullable=False),
    Column("last", Real, nullable=False),
    Column("increase", Real),  # of a counter, restarts counted from zero
    sqlite_strict=True,
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (span_ms)",
)

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
    Column("sum_seconds", Real),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

latency_block = Table(
    "latency_block",
    metadata,
    _entity_id(),
    Column("kind", Text, primary_key=True),
    Column("bounds_id", Integer, ForeignKey("histogram_bounds.bounds_id"), primary_key=True),
    Column("span_ms", Integer, primary_key=True),
    Column("instants", Integer, nullable=False),
    Column("first_at_ms", Integer, nullable=False),
    Column("last_at_ms", Integer, nullable=False),
    Column("times", LargeBinary, nullable=False),
    Column("sum_seconds", LargeBinary, nullable=False),
    Column("increments", LargeBinary, nullable=False),  # bound after bound, each over all instants
    sqlite_strict=True,
    postgresql_partition_by="RANGE (span_ms)",
)


def _account_key() -> tuple[Column[int], ...]:
    width = Column("hours", Integer, primary_key=True)  # 1, or 8 or 24 for sums of a UTC day's hours
    return width, _entity_id(), Column("start_ms", Integer, primary_key=True)


ACCOUNTED_COUNTERS: dict[str, str] = {
    m.name: m.name.removesuffix("_total") for m in FAMILIES["deployment"].metrics if m.kind is Kind.COUNTER
}
"""Counters of a deployment and the account column that holds their increase."""

account = Table(
    "account",
    metadata,
    *_account_key(),
    Column("observed_seconds", Real, nullable=False),
    Column("energy_joules", Real),
    Column("energy_seconds", Real),  # the time that this energy covers
    Column("energy_source", Text),  # counter, node, integrated or estimated; of a day the worst of its hours
    Column("active_joules", Real),  # of that energy; what lies in gaps is of no state
    Column("parked_joules", Real),
    Column("free_joules", Real),
    Column("active_seconds", Real),
    Column("parked_seconds", Real),
    Column("free_seconds", Real),
    Column("off_seconds", Real),
    *(Column(name, Real) for name in ACCOUNTED_COUNTERS.values()),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

latency_account = Table(
    "latency_account",
    metadata,
    *_account_key(),
    Column("kind", Text, primary_key=True),
    Column("bounds_id", Integer, ForeignKey("histogram_bounds.bounds_id"), primary_key=True),
    Column("increments", Text, nullable=False),  # JSON list, one count per bound
    Column("sum_seconds", Real),
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
    Column("duration_seconds", Real, nullable=False),
    Column("readings", Integer, nullable=False),
    Column("ticks_missed", Integer, nullable=False),
    Column("error", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (scheduled_at_ms)",
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
    Column("spent_usd", Real, nullable=False),
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

weekly_summary = Table(
    "weekly_summary",
    metadata,
    Column("week", Text, primary_key=True),  # of ISO 8601: 2026-W46
    Column("version", Integer, primary_key=True),  # from 1; a later one leaves the earlier ones as they are. 0: so far
    Column("made_at_ms", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("reason", Text, nullable=False),  # closed, settings, data or hour: what made it be made
    Column("settings_digest", Text, nullable=False),  # of the prices and promises that it was made with
    Column("accounts_digest", Text, nullable=False),  # of the accounts that it was made from
    Column("content", Text, nullable=False),  # JSON
    sqlite_strict=True,
)

summary_delivery = Table(
    "summary_delivery",
    metadata,
    Column("week", Text, primary_key=True),
    Column("recipient", Text, primary_key=True),  # its name in the settings
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),  # sending, delivered or failed
    Column("attempts", Integer, nullable=False),
    Column("tried_at_ms", Integer, nullable=False),
    Column("next_at_ms", Integer),  # of a failed one: when it is tried again
    Column("error", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
