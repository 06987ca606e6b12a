"""Open the store for writing: locked, at this release's schema, with its writer running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from core.errors import StoreLocked
from storage import postgres
from storage.engine import Address, cannot_be_used, exclusive, writer_engine
from storage.migrate import upgrade
from storage.spool import Spool
from storage.writer import Writer


@contextmanager
def writing(address: Address, *, host: str, spool: Spool | None = None) -> Iterator[Writer]:
    """The writer of a database for as long as the block lasts; what is queued at its end is still written.

    Raises:
        StoreError: one line that says why it cannot be used; ``StoreLocked`` when another daemon has it.
    """
    with ExitStack() as stack:
        try:
            if isinstance(address, Path):
                stack.enter_context(exclusive(address))
            engine = writer_engine(address)
            stack.callback(engine.dispose)
            if isinstance(address, str):
                postgres.hold_host(engine, host)
            upgrade(engine)
            with engine.begin() as connection:
                postgres.add_partitions(connection, time.time_ns() // 1_000_000)  # before the first rows of a month
        except (OSError, DatabaseError) as exc:
            if isinstance(exc, DatabaseError) and isinstance(exc.orig, StoreLocked):
                raise exc.orig from None
            raise cannot_be_used(address, exc) from exc
        writer = Writer(engine, host=host, spool=spool)
        writer.start()
        stack.callback(writer.stop)
        yield writer
