"""Connections: one engine that writes, one that cannot, and the lock that keeps writers apart."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event

from core.errors import StoreError, StoreLocked

BUSY_TIMEOUT_MS = 5_000

Store = Engine
"""What ``storage.queries`` reads from; those who ask the questions need not know what it is made of."""


def _sqlite_engine(path: Path, mode: str, pragmas: tuple[str, ...]) -> Engine:
    address = f"file:{quote(str(path.resolve()))}?mode={mode}"
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite3.connect(address, uri=True, check_same_thread=False),
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401  a DB-API connection
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not sqlite3's
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    return engine


def writer_engine(path: Path) -> Engine:
    """The engine of the collector daemon. WAL, so that readers never wait; ``BEGIN IMMEDIATE``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = _sqlite_engine(
        path,
        "rwc",
        ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"),
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # noqa: ANN401
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(path: Path) -> Engine:
    """The engine of everything that shows data: it cannot change a byte.

    Raises:
        StoreError: there is no database yet.
    """
    if not path.exists():
        raise StoreError(f"no database at {path}: start the collector daemon (make run) and wait for its first tick")
    return _sqlite_engine(path, "rw", ("query_only=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"))


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the right to write the database at ``path``; the kernel gives it back if the process dies.

    Raises:
        StoreLocked: another daemon holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise StoreLocked(
                f"another Vatio daemon (process {holder}) writes {path}: stop it, or set storage.url to another file"
            ) from exc
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)
