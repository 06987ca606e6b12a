"""Open the store for writing: locked, at this release's schema, with its writer running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from core.errors import StoreError
from storage.engine import exclusive, writer_engine
from storage.migrate import upgrade
from storage.rows import end_assignments
from storage.writer import Writer


@contextmanager
def writing(path: Path, *, host: str) -> Iterator[Writer]:
    """The writer of a database for as long as the block lasts; what is queued at its end is still written.

    Raises:
        StoreError: one line that says why the file cannot be used; ``StoreLocked`` when another daemon has it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path))
            engine = writer_engine(path)
            upgrade(engine)
            with engine.begin() as connection:
                end_assignments(connection)
        except (OSError, DatabaseError) as exc:
            reason = str(getattr(exc, "orig", None) or exc).partition("\n")[0]
            message = f"{path} cannot be used as a database ({reason}): set storage.url to another file"
            raise StoreError(message) from exc
        writer = Writer(engine, host=host)
        writer.start()
        stack.callback(writer.stop)
        yield writer
