"""Connections: one engine that writes, one that cannot, and the lock that keeps writers apart.

A store is a SQLite file (``Path``) or a PostgreSQL database (its URL). All else is the same code.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, Engine, ExceptionContext, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import ArgumentError

from core.errors import StoreError, StoreLocked

BUSY_TIMEOUT_MS = 5_000
MMAP_BYTES = 1 << 40  # as far as the file goes: a reader looks at pages where the kernel has them
WAL_LIMIT_BYTES = 64 << 20
PAGE_BYTES = 4_096

Store = Engine
"""What ``storage.queries`` reads from; those who ask the questions need not know what it is made of."""

Address = Path | str
"""Where a store is: a SQLite file, or the URL of a PostgreSQL database."""

_WRITING = (
    f"page_size={PAGE_BYTES}",
    "auto_vacuum=INCREMENTAL",  # this one and the page size only take hold in a new file
    "journal_mode=WAL",
    f"journal_size_limit={WAL_LIMIT_BYTES}",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    f"busy_timeout={BUSY_TIMEOUT_MS}",
)
_READING = ("query_only=ON", f"busy_timeout={BUSY_TIMEOUT_MS}")
_MAPPED = (*_READING, f"mmap_size={MMAP_BYTES}")

_CONNECTING = {
    "application_name": "vatio",
    "connect_timeout": 5,
    # A server that has vanished without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
}

BY_PLACE: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}
"""To compile statements whose rows go to the driver as tuples. PostgreSQL's own parameters have names: one that
stands in a statement twice must be the same in both places, or it does not group by what it selects."""


def _sqlite_engine(path: Path, mode: str, pragmas: tuple[str, ...], begin: str) -> Engine:
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

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # noqa: ANN401
        connection.exec_driver_sql(begin)

    return engine


def _postgresql_engine(url: str, **options: Any) -> Engine:  # noqa: ANN401  what create_engine takes
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            connect_args=_CONNECTING,
            **options,
        )
    except (ArgumentError, ValueError) as exc:  # its text may repeat the URL
        raise StoreError("storage.url cannot be read: expected postgresql+psycopg://user@host:port/database") from exc


def writer_engine(address: Address) -> Engine:
    """The engine of the collector daemon. SQLite: WAL, so that readers never wait; ``BEGIN IMMEDIATE``."""
    if isinstance(address, str):
        # One connection, as with SQLite; what waits for another daemon's lock waits as long as with SQLite.
        engine = _postgresql_engine(address, isolation_level="READ COMMITTED", pool_size=1, max_overflow=0)
        event.listen(engine, "connect", _limit_waiting)
        return engine
    address.parent.mkdir(parents=True, exist_ok=True)
    return _sqlite_engine(address, "rwc", _WRITING, "BEGIN IMMEDIATE")


def _limit_waiting(connection: Any, _record: object) -> None:  # noqa: ANN401  a DB-API connection
    with connection.transaction():
        connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")


def reader_engine(address: Address, *, mapped: bool = True) -> Engine:
    """The engine of everything that shows data: it cannot change a byte.

    Each connection sees the store as it was at its first question, so that one answer never
    holds the same sample as a row and in a block, or in neither.

    Args:
        address: of the store.
        mapped: whether a SQLite file is mapped into memory: what stays and asks often gains by it, a command that reads
            much once only grows.

    Raises:
        StoreError: there is no database yet. Of PostgreSQL that is known when the engine is used, and raised then.
    """
    if isinstance(address, str):
        engine = _postgresql_engine(address, isolation_level="REPEATABLE READ")

        @event.listens_for(engine, "handle_error")
        def _unreachable(context: ExceptionContext) -> None:
            if context.is_disconnect or context.connection is None:
                raise cannot_be_used(address, context.original_exception)

        return engine.execution_options(postgresql_readonly=True)
    if not address.exists():
        raise StoreError(f"no database at {address}: start the collector daemon (make run) and wait for its first tick")
    return _sqlite_engine(address, "rw", _MAPPED if mapped else _READING, "BEGIN")


def cannot_be_used(address: Address, reason: BaseException) -> StoreError:
    """What to say of a store that does not answer or is none: one line with the address, the reason and the remedy."""
    line = one_line(reason)
    if isinstance(address, str):
        shown = make_url(address).difference_update_query(["password"]).render_as_string()
        return StoreError(f"{shown} cannot be used ({line}): start the server, create the database, or set storage.url")
    return StoreError(f"{address} cannot be used as a database ({line}): set storage.url to another")


def one_line(reason: BaseException) -> str:
    """What the database itself said, without SQLAlchemy's frame around it and without its second thoughts."""
    return str(getattr(reason, "orig", None) or reason).strip().partition("\n")[0]


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ``on_conflict``, in the words of the database at hand."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def database_bytes(connection: Connection) -> int:
    """Size of the whole database on disk; of a SQLite file with what its log adds to it."""
    if connection.dialect.name == "postgresql":
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
    (_, _, name) = connection.exec_driver_sql("PRAGMA database_list").first() or (0, "", "")
    files = (Path(name), Path(f"{name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


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
