"""The one thread that writes. Collectors hand over batches and never wait.

Batches gather for ``flush_seconds`` and go in transactions of at most ``TRANSACTION_READINGS`` readings, so
that a killed daemon loses at most one flush and no reader of the lock waits long. When the database cannot be
written, batches go to the spool on disk and from there into the database once it can, in order and once
each. When the spool cannot take them either they stay in memory; over the bound the oldest is dropped and
counted. All that is shown on ops/health.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, astuple
from functools import partial
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from storage import blocks, postgres, schema, series
from storage.batch import Batch
from storage.codec import Floats, Integers
from storage.engine import insert, one_line
from storage.rows import RowWriter, account_again, insert_rows
from storage.schema import HOUR_MS
from storage.series import Rows
from storage.spool import Record, Spool

log = logging.getLogger(__name__)
T = TypeVar("T")

TRANSACTION_READINGS = 2_000
REPLAYED_AT_ONCE = 200  # batches
DROPPED = "batches_dropped"
_DEFECTS = (IntegrityError, DataError, ProgrammingError)  # all else the database says is its own trouble


class Writer:
    """Owns the writing connection. ``start``, ``submit`` from any thread, ``stop``."""

    def __init__(
        self,
        engine: Engine,
        *,
        host: str,
        spool: Spool | None = None,
        flush_seconds: float = 1.0,
        retry_seconds: float = 2.0,
        max_queued: int = 5_000,
    ) -> None:
        self.engine = engine
        self.rows = RowWriter(host)
        self._spool = spool
        self._flush_seconds = flush_seconds
        self._retry_seconds = retry_seconds
        self._max_queued = max_queued
        self._queue: deque[Batch] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()  # a call or the end: do not wait for more batches
        self._stopping = False
        self._failing = False
        self._synchronised = False  # the spool has been told what the database holds of it
        self.turn = threading.Lock()
        """Held while a transaction is under way. What computes for long in Python takes it meanwhile, a little at a
        time: two threads that want the interpreter would keep the write lock several times longer."""
        self.batches_dropped = 0  # by this process
        self._dropped_stored = 0
        self._metric_ids: Mapping[tuple[str, str], int] = {}
        self._thread = threading.Thread(target=self._run, name="vatio-writer", daemon=True)

    def start(self) -> None:
        """Begin to write; what an earlier daemon left in the spool comes first."""
        self._thread.start()
        self._wake.set()

    def submit(self, batch: Batch) -> None:
        """Queue a batch. Never blocks; over the bound the oldest batch is dropped and counted."""
        with self._lock:
            self._queue.append(batch)
            self._drop_surplus()
        self._wake.set()

    def load(self, family: str, key: str, at_ms: Integers, values: Mapping[str, Floats]) -> None:
        """Store the past of one entity, sealed straight from memory; for histories, imports and long replays.

        Args:
            family: one of ``schema.SEALED``.
            key: of the entity.
            at_ms: instants, ascending (Unix ms). One that is stored already stays as it is.
            values: metric -> one value per instant; NaN and infinities are unknown. What is left out is unknown.

        Raises:
            TimeoutError: the database could not be written in time.
            sqlalchemy.exc.DBAPIError: it could not be written at all; what was loaded before stays.
        """
        if not len(at_ms):
            return
        columns = {name: np.where(np.isfinite(column), column, np.nan) for name, column in values.items()}
        entity_id = self.call(lambda connection: self.rows.entity_id(connection, family, key, int(at_ms[0])))
        if not self._metric_ids:
            self._metric_ids = self.call(blocks.name_metrics)
        for span_ms, rows in blocks.by_span(Rows(entity_id, np.asarray(at_ms, "int64"), columns)):
            sealed = blocks.seal(family, span_ms, rows)
            self.call(partial(self._load, sealed=sealed, rows=rows))

    def _load(self, connection: Connection, sealed: blocks.Sealed, rows: Rows) -> None:
        family, span_ms, entity_id = sealed.family, sealed.span_ms, rows.entity_id
        hot = series.rows(connection, family, (), [entity_id], sealed.first_at_ms, sealed.last_at_ms + 1)
        if hot:
            rows = series.without(rows, hot[entity_id].at_ms)
            if not rows.instants:
                return
            sealed = blocks.seal(family, span_ms, rows)
        try:
            blocks.store(connection, sealed, self._metric_ids)
        except blocks.Changed:  # part of the span is sealed already
            blocks.store(connection, blocks.merge(connection, family, span_ms, rows), self._metric_ids)
        account_again(connection, [entity_id], sealed.first_at_ms // HOUR_MS * HOUR_MS)

    def call(self, work: Callable[[Connection], T], *, timeout_seconds: float = 10.0) -> T:
        """Run ``work`` in a transaction of its own on the writer thread and wait for its result.

        Raises:
            TimeoutError: the database could not be written in time.
        """
        done: Future[T] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return  # the caller gave up waiting: it must not happen behind its back
            try:
                with self.turn, self.engine.begin() as connection:
                    result = work(connection)
                done.set_result(result)
            except Exception as exc:  # noqa: BLE001  handed to the caller
                self.rows.forget()  # ids given in this transaction are gone
                done.set_exception(exc)

        self._calls.append(run)
        self._urgent.set()
        self._wake.set()
        try:
            return done.result(timeout_seconds)
        except TimeoutError:
            if done.cancel():
                raise
            return done.result()  # it has begun meanwhile; its own busy timeout bounds it

    def wait_below(self, batches: int) -> None:
        """Wait until fewer batches are queued; for bulk loads, which would outrun the queue."""
        while len(self._queue) >= batches and self._thread.is_alive():
            self._urgent.set()
            time.sleep(0.005)

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Write what is queued, or spool it, and end. Safe to call twice."""
        self._stopping = True
        self._urgent.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        self.engine.dispose()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            # Let the other sources of this tick arrive: fewer transactions.
            self._urgent.wait(self._flush_seconds)
            self._wake.clear()
            if not self._stopping:
                self._urgent.clear()
            while self._calls:
                self._calls.popleft()()
            written = self._flush()
            if self._stopping and (not self._queue or not written):
                self._keep(self._taken())
                return
            if not written:
                self._urgent.wait(self._retry_seconds)
                self._wake.set()

    def _flush(self) -> bool:
        """Write the spool, then everything queued; ``False`` when the database is not there."""
        batches = self._taken()
        try:
            self._replay()
            while batches:
                count = _within(batches, TRANSACTION_READINGS)
                self._write_all([Record(0, batch) for batch in batches[:count]])
                del batches[:count]
        except (DBAPIError, OSError) as exc:
            self._keep(batches)
            if not self._failing:
                log.error("store cannot be written, batches wait: %s", one_line(exc))
            self._failing = True
            return False
        if self._failing:
            log.warning("store can be written again: all caught up, %d batches dropped", self.batches_dropped)
        self._failing = False
        return True

    def _taken(self) -> list[Batch]:
        """Everything queued, which is the caller's now."""
        with self._lock:
            batches = list(self._queue)
            self._queue.clear()
        return batches

    def _keep(self, batches: list[Batch]) -> None:
        """Put what could not be written into the spool, or back into the queue where that is full as well."""
        while batches and self._spool is not None:
            before = self._spool.dropped
            try:
                self._spool.append(batches[0])
            except TypeError:
                log.exception("one batch cannot be spooled and is dropped")
                self.batches_dropped += 1
            except OSError as exc:
                if not self._failing:
                    log.error("the spool cannot be written either, batches stay in memory: %s", exc)
                break
            finally:
                self.batches_dropped += self._spool.dropped - before
            del batches[0]
        with self._lock:
            self._queue.extendleft(reversed(batches))
            self._drop_surplus()

    @property
    def waiting(self) -> int:
        """Batches that are not in the database yet."""
        return len(self._queue) + (0 if self._spool is None else self._spool.waiting)

    def _drop_surplus(self) -> None:
        while len(self._queue) > self._max_queued:
            self._queue.popleft()
            self.batches_dropped += 1

    def _replay(self) -> None:
        """Batches of the spool in order; the database remembers how far it got, so that none comes twice."""
        if self._spool is None or (self._synchronised and not self._spool.waiting):
            return
        with self.engine.begin() as connection:
            done = int(read_fact(connection, self._mark) or 0)
        self._spool.discard_through(done)  # an earlier daemon may have ended between storing and discarding
        self._synchronised = True
        while records := self._spool.read(done, REPLAYED_AT_ONCE):
            self._write_all(records)
            done = records[-1].sequence
            self._spool.discard_through(done)

    @property
    def _mark(self) -> str:
        return f"spool_replayed:{'' if self._spool is None else self._spool.identity}"

    def _write_all(self, records: Sequence[Record]) -> None:
        try:
            self._transact(records)
        except Exception as exc:
            if isinstance(exc, DBAPIError) and not _is_of_the_batch(exc):
                raise
            if len(records) == 1:  # a defect of ours must not stop all that comes after it
                log.exception("one batch could not be stored and is dropped")
                self.batches_dropped += 1
                self._transact([Record(records[0].sequence, Batch())])
                return
            for record in records:
                self._write_all([record])

    def _transact(self, records: Sequence[Record]) -> None:
        dropped = self.batches_dropped
        try:
            with self.turn, self.engine.begin() as connection:
                self._write(connection, [record.batch for record in records])
                if records and records[-1].sequence:
                    write_fact(connection, self._mark, str(records[-1].sequence))
                if dropped > self._dropped_stored:
                    postgres.take_turns(connection, DROPPED)  # other daemons add to the same number
                    ever = int(read_fact(connection, DROPPED) or 0) + dropped - self._dropped_stored
                    write_fact(connection, DROPPED, str(ever))
        except Exception:
            self.rows.forget()  # ids given in this transaction are gone
            raise
        self._dropped_stored = dropped

    def _write(self, connection: Connection, batches: list[Batch]) -> None:
        self.rows.write(connection, (reading for batch in batches for reading in batch.readings))
        if ticks := [astuple(tick) for batch in batches for tick in batch.ticks]:
            insert_rows(connection, schema.collector_tick, ticks)
        for status in (status for batch in batches for status in batch.statuses):
            values = asdict(status) | {"available": int(status.available), "absent": int(status.absent)}
            connection.execute(
                insert(connection, schema.source_status)
                .values(values)
                .on_conflict_do_update(index_elements=["host", "source"], set_=values)
            )


def write_fact(connection: Connection, name: str, value: str) -> None:
    """Store one fact about the database itself."""
    row = {"name": name, "value": value}
    statement = insert(connection, schema.store_fact).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))


def read_fact(connection: Connection, name: str) -> str | None:
    """One fact about the database itself; ``None`` where it was never stored."""
    table = schema.store_fact.c
    value: str | None = connection.execute(select(table.value).where(table.name == name)).scalar_one_or_none()
    return value


def _is_of_the_batch(exc: DBAPIError) -> bool:
    """Whether writing it once more cannot help; rights and tables that a server misses can be mended there."""
    return isinstance(exc, _DEFECTS) and not (isinstance(exc, ProgrammingError) and getattr(exc.orig, "sqlstate", None))


def _within(batches: Sequence[Batch], readings: int) -> int:
    """How many batches hold at most so many readings; one at least."""
    total = 0
    for count, batch in enumerate(batches):
        total += len(batch.readings)
        if total > readings:
            return max(count, 1)
    return len(batches)
