"""What PostgreSQL needs and SQLite does not: locks without a file, partitions by month, storage of payloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from core.errors import StoreLocked


@contextmanager
def exclusive(engine: Engine, host: str) -> Iterator[None]:
    """Hold the right to write as ``host``; the server gives it back when the connection ends.

    Raises:
        StoreLocked: another daemon writes under this name.
    """
    with engine.connect() as connection:
        held = connection.execute(text("SELECT pg_try_advisory_lock(hashtext(:name))"), {"name": f"vatio {host}"})
        if not held.scalar_one():
            raise StoreLocked(f"another Vatio daemon writes as host {host!r}: set collectors.host_name to another name")
        yield
