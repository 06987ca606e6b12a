"""What active probes have spent, so that a monthly cap holds across restarts and crashes.

A probe reserves its worst case before it sends anything and settles the difference afterwards; a
crash in between leaves the reservation standing, which errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from core.errors import StoreError
from storage import postgres, schema
from storage.engine import insert
from storage.writer import Writer

T = TypeVar("T")


class StoredSpend:
    """A spend ledger kept in the database, through its one writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        """Book the worst case if the month's total stays within the cap; ``False`` changes nothing.

        Raises:
            StoreError: the ledger cannot be written, so nothing may be spent.
        """

        def book(connection: Connection) -> bool:
            if _spent(connection, endpoint, month) + worst_case_usd > cap_usd:
                return False
            _add(connection, endpoint, month, worst_case_usd)
            return True

        return self._call(book)

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        """Replace a reservation by what the request really cost."""
        self._call(lambda connection: _add(connection, endpoint, month, actual_usd - reserved_usd))

    def _call(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._writer.call(work)
        except (SQLAlchemyError, TimeoutError) as exc:
            raise StoreError("the spend ledger cannot be written, so no probe is sent") from exc


def _spent(connection: Connection, endpoint: str, month: str) -> float:
    postgres.take_turns(connection, "probe_spend")  # nobody books between this look and what is booked on it
    table = schema.probe_spend.c
    spent = connection.execute(
        select(table.spent_usd).where(table.endpoint == endpoint, table.month == month)
    ).scalar_one_or_none()
    return spent or 0.0


def _add(connection: Connection, endpoint: str, month: str, usd: float) -> None:
    total = max(_spent(connection, endpoint, month) + usd, 0.0)
    row = {"endpoint": endpoint, "month": month, "spent_usd": total}
    connection.execute(
        insert(connection, schema.probe_spend)
        .values(row)
        .on_conflict_do_update(index_elements=["endpoint", "month"], set_=row)
    )
