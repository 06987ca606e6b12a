"""What the store does for itself while the daemon runs: seal, account, forget, give space back.

Everything here runs in one thread of its own beside the writer's. It reads and computes on a connection
that cannot write, and hands each small change to the writer, so that no write waits for more than one entity.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Protocol, TypeVar, cast

from sqlalchemy import Column, ColumnElement, Connection, Engine, FromClause, Table, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from core.errors import StoreError
from core.settings import StorageSettings
from storage import accounts, blocks, histograms, postgres, schema
from storage.engine import one_line
from storage.schema import DAY_MS, HOUR_MS, SPAN_MS

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE_SECONDS = 60.0
SETTLE_MS = 300_000  # what is over is left alone for this long: ticks may still be on their way
ENTITIES_AT_ONCE, ENTITY_HOURS_AT_ONCE = 20, 400  # read together for accounts; bounds memory
VACUUM_PAGES = 500  # given back at once
LEAST_FREE_RATIO = 0.2
SLICE_MS = 600_000
GIVE_WAY_SECONDS = 6.0  # at most in a row: longer than a tick takes as a rule
WORK_SECONDS = 1.0  # then that much is done whoever else works
LOOK_SECONDS = 0.02


class _Writer(Protocol):
    turn: threading.Lock

    def call(self, work: Callable[[Connection], T], *, timeout_seconds: float = ...) -> T: ...


class Upkeep:
    """Keeps a store in order. ``start`` and ``stop``, or ``run`` once.

    Args:
        reader: an engine of the store.
        writer: through which all changes go.
        settings: how long to keep what.
        is_busy: whether something computes in this process that must not wait for an interpreter busy with this.
    """

    def __init__(
        self,
        reader: Engine,
        writer: _Writer,
        settings: StorageSettings,
        *,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._settings = settings
        self._is_busy = is_busy
        self._works_until = 0.0
        self._metric_ids: Mapping[tuple[str, str], int] = {}
        self._accounted_hour = 0  # once an hour is enough, for late data too
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vatio-upkeep", daemon=True)

    def start(self) -> None:
        """Begin; the first round comes after one pause."""
        self._thread.start()

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """End after the change that is being made."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        self._reader.dispose()

    def _keep(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                self.run(time.time_ns() // 1_000_000)
            except (SQLAlchemyError, StoreError, TimeoutError, OSError) as exc:
                log.warning("upkeep waits for the store: %s", one_line(exc))
            except Exception:
                log.exception("upkeep failed and is tried again")

    def run(self, now_ms: int) -> None:
        """One round, as if the time were ``now_ms``; on PostgreSQL only where no other daemon is at it."""
        with postgres.upkeep_lock(self._reader) as ours:
            if not ours:
                return
            self.seal(now_ms)
            if (hour := (now_ms - SETTLE_MS) // HOUR_MS) != self._accounted_hour and not self._stop.is_set():
                self.account(now_ms)
                self._accounted_hour = hour
            if not self._stop.is_set():
                self.forget(now_ms)
            while not self._stop.is_set() and self._writer.call(give_back):
                pass

    def _give_way(self) -> None:
        """Wait until what is more urgent is done, but not for ever."""
        began = time.monotonic()
        if began < self._works_until:
            return
        while self._is_busy() and not self._stop.wait(LOOK_SECONDS):
            if time.monotonic() - began > GIVE_WAY_SECONDS:
                self._works_until = time.monotonic() + WORK_SECONDS
                return

    def seal(self, now_ms: int) -> int:
        """Put rows of what is over into blocks, oldest first; how many blocks were written."""
        written = 0
        while sealed := sum(self._seal(what) for what in self._due(now_ms - SETTLE_MS) if not self._stop.is_set()):
            written += sealed
        return written

    def _due(self, until_ms: int) -> list[blocks.Due | histograms.Due]:
        with self._reader.connect() as connection:
            samples = [what for family in schema.SEALED for what in blocks.due(connection, family, until_ms)]
            return [*samples, *histograms.due(connection, until_ms)]

    def _seal(self, what: blocks.Due | histograms.Due) -> bool:
        numbers = self._numbers()
        self._give_way()
        with self._writer.turn, self._reader.connect() as connection:
            store = self._prepared(connection, what, numbers)
        try:
            if store is not None:
                self._writer.call(store)
        except blocks.Changed:
            return False  # rows came in between: the next round finds them
        return store is not None

    def _prepared(
        self, connection: Connection, what: blocks.Due | histograms.Due, numbers: Mapping[tuple[str, str], int]
    ) -> Callable[[Connection], None] | None:
        if isinstance(what, histograms.Due):
            histogram = histograms.prepare(connection, what)
            return None if histogram is None else partial(histograms.store, sealed=histogram)
        block = blocks.prepare(connection, what)
        return None if block is None else partial(blocks.store, sealed=block, metric_ids=numbers)

    def account(self, now_ms: int, progress: Callable[[int], None] = lambda hours: None) -> None:
        """Make the accounts of complete hours.

        Args:
            now_ms: the time.
            progress: is told how many entity-hours were made.
        """
        until_ms = (now_ms - SETTLE_MS) // HOUR_MS * HOUR_MS
        for family in accounts.FAMILIES_ACCOUNTED:
            while not self._stop.is_set() and self._account(family, until_ms, self._kept_from_ms(now_ms), progress):
                pass

    def _kept_from_ms(self, now_ms: int) -> int:
        """Samples from here on are kept."""
        return (now_ms - round(self._settings.keep_samples_days * DAY_MS)) // SPAN_MS * SPAN_MS

    def _account(self, family: str, until_ms: int, since_ms: int, progress: Callable[[int], None]) -> bool:
        """One stretch of hours of everything that is pending; whether there may be more."""
        with self._reader.connect() as connection:
            every = accounts.pending(connection, family, until_ms, since_ms)
        advanced = False
        for some, to_ms in _together(every, until_ms):
            if self._stop.is_set():
                return False
            self._give_way()
            with self._writer.turn, self._reader.connect() as connection:
                made = list(accounts.prepare(connection, some, to_ms, until_ms))
            for one in made:
                try:
                    self._writer.call(partial(accounts.store, made=one))
                except blocks.Changed:
                    continue  # it stays pending
                progress((one.until_ms - one.pending.from_ms) // HOUR_MS)
                advanced |= one.final_ms > one.pending.from_ms
        return advanced

    def forget(self, now_ms: int) -> None:
        """Remove what is older than the settings say, an entity at a time; accounts stay."""
        days = self._settings
        samples_ms = self._kept_from_ms(now_ms)
        events_ms = now_ms - round(days.keep_events_days * DAY_MS)
        ticks_ms = now_ms - round(days.keep_ticks_days * DAY_MS)
        self._writer.call(partial(postgres.add_partitions, now_ms=now_ms))
        for table in postgres.PARTITIONED:
            before_ms = ticks_ms if table == schema.collector_tick.name else samples_ms
            self._writer.call(partial(postgres.drop_partitions_before, at_ms=before_ms, tables=[table]))
        for family in schema.SEALED:
            self._forget_of_entities(schema.blocks[family].c.span_ms, samples_ms, self._ids_of(family))
            self._forget_of_entities(schema.samples[family].c.observed_at_ms, samples_ms)
        self._forget_of_entities(schema.latency_block.c.span_ms, samples_ms)
        self._forget_of_entities(schema.latency_sample.c.observed_at_ms, samples_ms)
        self._forget_of_entities(schema.samples["probe"].c.observed_at_ms, events_ms)
        self._forget_of_entities(schema.device_process.c.observed_at_ms, ticks_ms)
        self._forget_slices(schema.event.c.observed_at_ms, events_ms)
        self._forget_slices(schema.collector_tick.c.scheduled_at_ms, ticks_ms)

    def _ids_of(self, family: str) -> tuple[int, ...]:
        return tuple(number for (of, _), number in self._numbers().items() if of == family)

    def _numbers(self) -> Mapping[tuple[str, str], int]:
        """Under which number each metric is aggregated; once given they stay."""
        if not self._metric_ids:
            self._metric_ids = self._writer.call(blocks.name_metrics)
        return self._metric_ids

    def _forget_of_entities(self, at: Column[int], before_ms: int, metric_ids: tuple[int, ...] = ()) -> None:
        """Remove old rows of each entity that has some, and the aggregates of the blocks among them."""
        table, entity = at.table, schema.entity.c
        oldest = select(func.min(at)).where(table.c.entity_id == entity.entity_id).scalar_subquery()
        with self._reader.connect() as connection:
            found = connection.execute(select(entity.entity_id).where(oldest < before_ms)).scalars().all()
        for entity_id in found:
            conditions = [(table, (table.c.entity_id == entity_id) & (at < before_ms))]
            if metric_ids:
                of = schema.block_aggregate
                chosen = of.c.metric_id.in_(metric_ids) & (of.c.entity_id == entity_id) & (of.c.span_ms < before_ms)
                conditions.append((of, chosen))
            self._writer.call(partial(_delete, conditions=conditions))

    def _forget_slices(self, at: Column[int], before_ms: int) -> None:
        """Remove old rows a slice of time after the other."""
        while not self._stop.is_set():
            with self._reader.connect() as connection:
                oldest_ms = connection.execute(select(func.min(at))).scalar_one()
            if oldest_ms is None or oldest_ms >= before_ms:
                return
            slice_ms = min(oldest_ms + SLICE_MS, before_ms)
            self._writer.call(partial(_delete, conditions=[(at.table, at < slice_ms)]))


def _together(every: Sequence[accounts.Pending], until_ms: int) -> Iterator[tuple[list[accounts.Pending], int]]:
    """Entities that begin at the same hour, not more at once than fit into memory, and the end of their stretch."""
    for from_ms, same in groupby(sorted(every, key=lambda one: one.from_ms), key=lambda one: one.from_ms):
        waiting = list(same)
        while waiting:
            some, waiting = waiting[:ENTITIES_AT_ONCE], waiting[ENTITIES_AT_ONCE:]
            hours = max(ENTITY_HOURS_AT_ONCE // len(some), 1)
            yield some, min(until_ms, from_ms + hours * HOUR_MS)


def _delete(connection: Connection, conditions: Sequence[tuple[FromClause, ColumnElement[bool]]]) -> None:
    for table, condition in conditions:
        connection.execute(delete(cast("Table", table)).where(condition))


def give_back(connection: Connection, *, least_ratio: float = LEAST_FREE_RATIO, pages: int = VACUUM_PAGES) -> bool:
    """Give unused space of a SQLite file back to the file system, some pages at a time; whether there may be more.

    What is free up to ``least_ratio`` of the file is kept: the next rows will need it.
    """
    if connection.dialect.name != "sqlite":
        return False  # PostgreSQL does this by itself
    free, total = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in ("freelist_count", "page_count")
    )
    if free <= total * least_ratio:
        return False
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    driver.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute() ends after one page
    return free > pages
