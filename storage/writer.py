"""The one thread that writes. Collectors hand over batches and never wait.

Batches gather for ``flush_seconds`` and go in one transaction, so a killed daemon loses at most one
flush. When the database cannot be written the batches stay in the queue; when the queue is full the
oldest is dropped and counted, and the count is stored (``store_fact``) and shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import OperationalError

from core.health import SourceStatus, TickReport
from core.readings import Reading
from storage import schema
from storage.rows import RowWriter

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one tick of one source brought."""

    readings: tuple[Reading, ...] = ()
    ticks: tuple[TickReport, ...] = ()
    statuses: tuple[SourceStatus, ...] = ()


class Writer:
    """Owns the writing connection. ``start``, ``submit`` from any thread, ``stop``."""

    def __init__(
        self,
        engine: Engine,
        *,
        host: str,
        flush_seconds: float = 1.0,
        retry_seconds: float = 2.0,
        max_queued: int = 5_000,
    ) -> None:
        self._engine = engine
        self._rows = RowWriter(host)
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
        self.batches_dropped = 0
        self._thread = threading.Thread(target=self._run, name="vatio-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Queue a batch. Never blocks; over the bound the oldest batch is dropped and counted."""
        with self._lock:
            if len(self._queue) >= self._max_queued:
                self._queue.popleft()
                self.batches_dropped += 1
            self._queue.append(batch)
        self._wake.set()

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
                with self._engine.begin() as connection:
                    result = work(connection)
                done.set_result(result)
            except Exception as exc:  # noqa: BLE001  handed to the caller
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
        """Write what is queued and end. Safe to call twice."""
        self._stopping = True
        self._urgent.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        self._engine.dispose()

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
                return
            if not written:
                self._urgent.wait(self._retry_seconds)
                self._wake.set()

    def _flush(self) -> bool:
        """Write everything queued in one transaction; ``False`` when the database is not there."""
        with self._lock:
            batches = list(self._queue)
            self._queue.clear()
        if not batches:
            return True
        try:
            self._write_all(batches)
        except OperationalError as exc:  # locked, full, gone: keep the batches and say so once
            with self._lock:
                self._queue.extendleft(reversed(batches))
                while len(self._queue) > self._max_queued:
                    self._queue.popleft()
                    self.batches_dropped += 1
            if not self._failing:
                log.error("store cannot be written, %d batches wait: %s", len(batches), exc.orig)
            self._failing = True
            return False
        if self._failing:
            log.warning(
                "store can be written again: %d batches caught up, %d dropped", len(batches), self.batches_dropped
            )
        self._failing = False
        return True

    def _write_all(self, batches: list[Batch]) -> None:
        try:
            self._transact(batches)
        except OperationalError:
            raise
        except Exception:
            if len(batches) == 1:  # a defect of ours must not stop all that comes after it
                log.exception("one batch could not be stored and is dropped")
                self.batches_dropped += 1
                return
            for batch in batches:
                self._write_all([batch])

    def _transact(self, batches: list[Batch]) -> None:
        try:
            with self._engine.begin() as connection:
                self._write(connection, batches)
        except Exception:
            self._rows.forget()  # ids given in this transaction are gone
            raise

    def _write(self, connection: Connection, batches: list[Batch]) -> None:
        self._rows.write(connection, (reading for batch in batches for reading in batch.readings))
        ticks = [asdict(tick) for batch in batches for tick in batch.ticks]
        if ticks:
            connection.execute(insert(schema.collector_tick).on_conflict_do_nothing(), ticks)
        for status in (status for batch in batches for status in batch.statuses):
            values = asdict(status) | {"available": int(status.available), "absent": int(status.absent)}
            connection.execute(
                insert(schema.source_status)
                .values(values)
                .on_conflict_do_update(index_elements=["host", "source"], set_=values)
            )
        if self.batches_dropped:
            write_fact(connection, "batches_dropped", str(self.batches_dropped))


def write_fact(connection: Connection, name: str, value: str) -> None:
    """Store one fact about the database itself."""
    row = {"name": name, "value": value}
    connection.execute(insert(schema.store_fact).values(row).on_conflict_do_update(index_elements=["name"], set_=row))
