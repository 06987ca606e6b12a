"""Open the store for writing: locked, at this release's schema, with its writer running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from core.errors import StoreError
from storage import postgres
from storage.engine import Address, exclusive, writer_engine
from storage.migrate import upgrade
from storage.rows import end_assignments
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
            upgrade(engine)
            if isinstance(address, str):
                stack.enter_context(postgres.exclusive(engine, host))
            with engine.begin() as connection:
                end_assignments(connection, host)
        except (OSError, DatabaseError) as exc:
            reason = str(getattr(exc, "orig", None) or exc).partition("\n")[0]
            message = f"{address} cannot be used as a database ({reason}): set storage.url to another"
            raise StoreError(message) from exc
        writer = Writer(engine, host=host, spool=spool)
        writer.start()
        stack.callback(writer.stop)
        yield writer
