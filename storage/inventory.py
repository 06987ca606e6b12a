"""What the store holds: facts, bytes, growth, and when the disk is full at that growth.

Bytes are those of whole pages where the database tells them, else of payloads and values alone. Growth is what
the last days really took: blocks as they were compressed, rows by the mean of their table. Rows that are going
to be sealed count as they will be. Nothing here writes, and all of it works while a daemon does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Table,
    Text,
    case,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import OperationalError

from core.settings import StorageSettings
from storage import schema
from storage.engine import database_bytes
from storage.schema import DAY_MS, SPAN_MS
from storage.spool import Spool
from storage.writer import DROPPED, read_fact

SPANS_MEASURED = 7 * DAY_MS // SPAN_MS  # of those that have data; growth is their mean
LONGEST_OUTLOOK_DAYS = 36_500.0
_NUMBER_BYTES = 8  # a number that is not unknown, where the database does not tell what its pages hold


@dataclass(frozen=True, slots=True)
class Holding:
    """One kind of fact. Bytes are on disk; ``sealed`` counts samples in blocks."""

    kind: str
    rows: int
    sealed: int
    row_bytes: int
    block_bytes: int
    aggregate_bytes: int  # figures kept beside the blocks
    first_at_ms: int | None
    last_at_ms: int | None
    bytes_per_day: float | None  # None: less than a day was seen
    keep_days: float | None  # None: for ever

    @property
    def facts(self) -> int:
        """Samples, histograms, events, ... of either form."""
        return self.rows + self.sealed

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.row_bytes + self.block_bytes + self.aggregate_bytes

    @property
    def bytes_per_fact(self) -> float | None:
        """Mean; ``None`` of nothing."""
        return self.bytes / self.facts if self.facts else None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the spool holds that is not in the database."""

    batches: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where growth leads. Days count from now; ``None``: not within a century, or not known."""

    bytes_per_day: float
    full_in_days: float | None
    settled_bytes: int | None  # when retention removes as much as comes; accounts go on growing
    settles_in_days: float | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What ``python -m storage info`` shows."""

    file_bytes: int
    free_bytes: int | None  # pages that could be given back; None: the database does this by itself
    disk_free_bytes: int | None  # None: the database is on a server
    whole_pages: bool  # whether bytes are those of pages
    holdings: tuple[Holding, ...]
    simulated: bool
    batches_dropped: int
    spool: Waiting
    outlook: Outlook | None  # None: less than a day was seen


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where a kind of fact is, and how long it is kept (days; ``None``: for ever)."""

    name: str
    at: Column[int]  # of its rows
    blocks: Table | None
    keep_days: float | None


def take(reader: Engine, settings: StorageSettings, now_ms: int) -> Inventory:
    """Look at everything once."""
    with reader.connect() as connection:
        disk_bytes = _disk_bytes(connection)
        measured = [_measured(connection, kind, disk_bytes) for kind in _kinds(settings)]
        days = _days(measured, now_ms)
        holdings = tuple(one.holding(days) for one in measured)
        file_bytes = database_bytes(connection)
        free_bytes = _free_bytes(connection)
        spool = _waiting(connection, settings)
        dropped = int(read_fact(connection, DROPPED) or 0)
        simulated = read_fact(connection, "simulated") == "true"
    address = settings.address
    disk_free = shutil.disk_usage(address.resolve().parent).free if isinstance(address, Path) else None
    room = None if disk_free is None else disk_free + (free_bytes or 0)
    return Inventory(
        file_bytes=file_bytes,
        free_bytes=free_bytes,
        disk_free_bytes=disk_free,
        whole_pages=disk_bytes is not None,
        holdings=holdings,
        simulated=simulated,
        batches_dropped=dropped,
        spool=spool,
        outlook=_outlook(holdings, file_bytes, room) if days else None,
    )


def _kinds(settings: StorageSettings) -> Iterable[_Kind]:
    for name, table in schema.samples.items():
        days = settings.keep_events_days if name == "probe" else settings.keep_samples_days
        yield _Kind(name, table.c.observed_at_ms, schema.blocks.get(name), days)
    latency = schema.latency_sample.c.observed_at_ms
    yield _Kind("latency", latency, schema.latency_block, settings.keep_samples_days)
    yield _Kind("event", schema.event.c.observed_at_ms, None, settings.keep_events_days)
    yield _Kind("collector_tick", schema.collector_tick.c.scheduled_at_ms, None, settings.keep_ticks_days)
    yield _Kind("device_process", schema.device_process.c.observed_at_ms, None, settings.keep_ticks_days)
    yield _Kind("account", schema.account.c.start_ms, None, None)
    yield _Kind("latency_account", schema.latency_account.c.start_ms, None, None)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A kind of fact as it was counted, by span."""

    kind: _Kind
    rows: Mapping[int, int]  # span -> rows
    blocks: Mapping[int, tuple[int, int]]  # span -> samples and bytes of payloads
    first_at_ms: int | None
    last_at_ms: int | None
    row_bytes: int
    block_bytes: int
    aggregate_bytes: int

    def holding(self, days: _Days | None) -> Holding:
        return Holding(
            kind=self.kind.name,
            rows=sum(self.rows.values()),
            sealed=sum(samples for samples, _ in self.blocks.values()),
            row_bytes=self.row_bytes,
            block_bytes=self.block_bytes,
            aggregate_bytes=self.aggregate_bytes,
            first_at_ms=self.first_at_ms,
            last_at_ms=self.last_at_ms,
            bytes_per_day=None if days is None else self._bytes_in(days.spans) / days.seen,
            keep_days=self.kind.keep_days,
        )

    def _bytes_in(self, spans: frozenset[int]) -> float:
        """What the facts of some spans take once they are in the form in which they stay."""
        rows = sum(count for span, count in self.rows.items() if span in spans)
        parts = [part for span, part in self.blocks.items() if span in spans]
        sealed, packed = (sum(column) for column in zip(*parts, strict=True)) if parts else (0, 0)
        if not sealed:
            return rows * self.row_bytes / max(sum(self.rows.values()), 1)
        every = sum(samples for samples, _ in self.blocks.values())
        on_pages = self.block_bytes / max(sum(size for _, size in self.blocks.values()), 1)
        return (packed * on_pages / sealed + self.aggregate_bytes / every) * (sealed + rows)


def _measured(connection: Connection, kind: _Kind, disk_bytes: Mapping[str, int] | None) -> _Measured:
    at, table = kind.at, kind.at.table
    span = (at - at % literal_column(str(SPAN_MS))).label("span_ms")
    counts = connection.execute(select(span, func.count(), func.min(at), func.max(at)).group_by(span)).all()
    rows = {int(span_ms): int(count) for span_ms, count, _, _ in counts}
    seen = [(first, last) for *_, first, last in counts]
    blocks: dict[int, tuple[int, int]] = {}
    if kind.blocks is not None:
        of = kind.blocks.c
        statement = select(
            of.span_ms, func.sum(of.instants), func.sum(_length(of)), func.min(of.first_at_ms), func.max(of.last_at_ms)
        )
        for span_ms, samples, size, first, last in connection.execute(statement.group_by(of.span_ms)):
            blocks[int(span_ms)] = int(samples), int(size)
            seen.append((first, last))
    of_blocks = 0
    if kind.blocks is not None:
        of_blocks = sum(size for _, size in blocks.values()) if disk_bytes is None else disk_bytes[kind.blocks.name]
    return _Measured(
        kind=kind,
        rows=rows,
        blocks=blocks,
        first_at_ms=min((first for first, _ in seen), default=None),
        last_at_ms=max((last for _, last in seen), default=None),
        row_bytes=_row_bytes(connection, table) if disk_bytes is None else disk_bytes[table.name],
        block_bytes=of_blocks,
        aggregate_bytes=_aggregate_bytes(connection, kind.name, disk_bytes),
    )


def _row_bytes(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(_length(table.c)), 0))).scalar_one())


def _length(columns: Iterable[Column[Any]]) -> ColumnElement[int]:
    """Bytes of the values of a row: payloads and texts by their length, numbers by eight each."""
    total: ColumnElement[int] = literal(0)
    for column in columns:
        if isinstance(column.type, LargeBinary | Text):
            total = total + func.coalesce(func.length(column), 0)
        else:
            total = total + case((column.is_not(None), _NUMBER_BYTES), else_=0)
    return total


def _aggregate_bytes(connection: Connection, family: str, disk_bytes: Mapping[str, int] | None) -> int:
    """The share of a family in the table of aggregates, whose rows are all of a size."""
    table, metric = schema.block_aggregate, schema.metric.c
    every = select(table.c.metric_id, func.count().label("rows")).group_by(table.c.metric_id).subquery()
    counts = connection.execute(
        select(metric.family, func.sum(every.c.rows))
        .join(every, every.c.metric_id == metric.metric_id)
        .group_by(metric.family)
    )
    rows = {name: int(count) for name, count in counts}
    if family not in rows:
        return 0
    whole = sum(rows.values()) * len(table.c) * _NUMBER_BYTES if disk_bytes is None else disk_bytes[table.name]
    return round(whole * rows[family] / sum(rows.values()))


def _disk_bytes(connection: Connection) -> dict[str, int] | None:
    """Bytes on disk of every table with its indices; ``None`` where the database does not tell."""
    names = list(schema.metadata.tables)
    if connection.dialect.name == "postgresql":
        return {name: int(connection.execute(_PARTITIONS, {"name": name}).scalar_one()) for name in names}
    try:
        pages = connection.execute(_PAGES).all()
    except OperationalError:  # this SQLite was built without dbstat
        return None
    return dict.fromkeys(names, 0) | {name: int(size) for name, size in pages}


_PAGES = text(
    "SELECT coalesce(s.tbl_name, d.name), sum(d.pgsize) FROM dbstat d LEFT JOIN sqlite_schema s ON s.name = d.name "
    "WHERE d.aggregate = TRUE GROUP BY 1"
)
_PARTITIONS = text(
    "SELECT sum(pg_total_relation_size(relid)) FROM "
    "(SELECT CAST(:name AS regclass) AS relid UNION SELECT relid FROM pg_partition_tree(CAST(:name AS regclass))) t"
)


def _free_bytes(connection: Connection) -> int | None:
    if connection.dialect.name == "postgresql":
        return None
    free, size = (int(connection.exec_driver_sql(f"PRAGMA {n}").scalar_one()) for n in ("freelist_count", "page_size"))
    return free * size


def _waiting(connection: Connection, settings: StorageSettings) -> Waiting:
    """What the spool holds beyond the number that the database remembers; the folder is only read."""
    spool = Spool(settings.spool, max_bytes=settings.spool_max_bytes)
    if not spool.bytes:
        return Waiting(0, 0)
    stored = int(read_fact(connection, f"spool_replayed:{spool.identity}") or 0)
    firsts = [int(path.name.partition("-")[0]) for path in settings.spool.glob(f"*-{spool.identity}.jsonl")]
    before = min(firsts, default=1) - 1
    return Waiting(max(before + spool.waiting - max(stored, before), 0), spool.bytes)


@dataclass(frozen=True, slots=True)
class _Days:
    """The spans over which growth is measured, and how many days of them were seen."""

    spans: frozenset[int]
    seen: float


def _days(measured: Iterable[_Measured], now_ms: int) -> _Days | None:
    """The newest spans with data up to now; ``None`` when they are less than a day."""
    every = [one for one in measured if one.kind.keep_days is not None]  # accounts are made of the others
    first = min((one.first_at_ms for one in every if one.first_at_ms is not None), default=now_ms)
    last = min(max((one.last_at_ms for one in every if one.last_at_ms is not None), default=now_ms), now_ms)
    there = {span for one in every for span in (*one.rows, *one.blocks) if span <= now_ms}
    newest = sorted(there)[-SPANS_MEASURED:]
    seen_ms = sum(max(min(span + SPAN_MS, last) - max(span, first), 0) for span in newest)
    return _Days(frozenset(newest), seen_ms / DAY_MS) if seen_ms >= DAY_MS else None


def _outlook(holdings: Sequence[Holding], file_bytes: int, room: int | None) -> Outlook:
    def added(days: float) -> float:
        return sum(_added(holding, days) for holding in holdings)

    full = None
    if room is not None and added(LONGEST_OUTLOOK_DAYS) > room:
        early, late = 0.0, LONGEST_OUTLOOK_DAYS
        while late - early > 0.01:
            middle = (early + late) / 2
            early, late = (middle, late) if added(middle) <= room else (early, middle)
        full = late
    settles = max((_settles_in(holding) for holding in holdings), default=0.0)
    before_full = full is None or settles < full
    return Outlook(
        bytes_per_day=sum(holding.bytes_per_day or 0.0 for holding in holdings),
        full_in_days=full,
        settled_bytes=round(file_bytes + added(settles)) if before_full else None,
        settles_in_days=settles if before_full else None,
    )


def _added(holding: Holding, days: float) -> float:
    """What a kind of fact grows by in so many days, retention included."""
    grown = (holding.bytes_per_day or 0.0) * days
    if holding.keep_days is None:
        return grown
    return min(grown, max((holding.bytes_per_day or 0.0) * holding.keep_days - holding.bytes, 0.0))


def _settles_in(holding: Holding) -> float:
    """Days until retention removes as much of a kind of fact as comes."""
    if holding.keep_days is None or not holding.bytes_per_day:
        return 0.0
    return max(holding.keep_days - holding.bytes / holding.bytes_per_day, 0.0)
