"""A real database per test, written through the real writer; and one PostgreSQL server per session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import pytest
from sqlalchemy import Engine

from charts.layered import Layered
from core.readings import Reading
from storage.batch import Batch
from storage.engine import Address, reader_engine, writer_engine
from storage.migrate import upgrade
from storage.writer import Writer
from tests.fixtures.postgresql import CannotStart, PostgreSQL

START_MS = 1_760_000_000_000
MIGRATED = "migrated"
"""The database on the server that those of the tests are copies of."""

_numbers = itertools.count()


@dataclass
class Store:
    """A database with its writer and a reader. There is a file at ``path`` only where it is SQLite."""

    path: Path
    address: Address
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


@pytest.fixture(scope="session", autouse=True)
def checked_charts() -> Iterator[None]:
    """Every chart that a test draws is held against the schema of Vega-Lite, which takes too long for each visitor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Layered, "to_dict", alt.LayerChart.to_dict)
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server with one migrated database; without one, whoever asks for it is skipped."""
    try:
        with PostgreSQL() as server:
            server.create(MIGRATED)
            engine = writer_engine(server.url(MIGRATED))
            upgrade(engine)
            engine.dispose()
            yield server
    except CannotStart as exc:
        pytest.skip(str(exc))


@pytest.fixture
def new_database(postgresql: PostgreSQL) -> Iterator[Callable[..., str]]:
    """Makes PostgreSQL databases of this test alone, migrated unless asked otherwise; returns their URL."""
    made: list[str] = []

    def make(*, migrated: bool = True) -> str:
        made.append(f"test_{next(_numbers)}")
        postgresql.create(made[-1], MIGRATED if migrated else "template1")
        return postgresql.url(made[-1])

    yield make
    for name in made:
        postgresql.drop(name)


@pytest.fixture
def address(tmp_path: Path) -> Address:
    """Where the database of this test is; ``tests/storage`` asks for each kind in turn."""
    return tmp_path / "vatio.db"


@pytest.fixture
def open_store(tmp_path: Path, address: Address) -> Iterator[Callable[[], Store]]:
    """Opens (again) the database of this test."""
    opened: list[Store] = []

    def open_it() -> Store:
        engine = writer_engine(address)
        upgrade(engine)
        writer = Writer(engine, host="box", flush_seconds=0.01, retry_seconds=0.05)
        writer.start()
        opened.append(Store(tmp_path / "vatio.db", address, writer, reader_engine(address)))
        return opened[-1]

    yield open_it
    for store in opened:
        store.writer.stop()
        store.reader.dispose()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()
