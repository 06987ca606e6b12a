"""A real SQLite database per test, written through the real writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from core.readings import Reading
from storage.batch import Batch
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.writer import Writer

START_MS = 1_760_000_000_000


@dataclass
class Store:
    """A database with its writer and a reader."""

    path: Path
    writer: Writer
    reader: Engine

    def write(self, *readings: Reading) -> None:
        """Store readings and wait until they are there."""
        self.submit(Batch(readings))

    def submit(self, batch: Batch) -> None:
        self.writer.submit(batch)
        self.settle()

    def settle(self) -> None:
        self.writer.call(lambda _: None)
        self.writer.wait_below(1)
        self.writer.call(lambda _: None)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens (again) the database of this test."""
    opened: list[Store] = []

    def open_it() -> Store:
        path = tmp_path / "vatio.db"
        engine = writer_engine(path)
        upgrade(engine)
        writer = Writer(engine, host="box", flush_seconds=0.01, retry_seconds=0.05)
        writer.start()
        opened.append(Store(path, writer, reader_engine(path)))
        return opened[-1]

    yield open_it
    for store in opened:
        store.writer.stop()
        store.reader.dispose()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()
