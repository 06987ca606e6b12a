"""Weekly summaries as they were made, and whom they were sent to.

Whoever makes them writes them here, beside the daemon, in transactions of a row each. A summary that is there is
never changed: prices or data that come later make another version of the week. Only the running week, as far as it has
come, has one that each later one replaces.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Engine, and_, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from storage import schema
from storage.engine import Address, cannot_be_used, insert, writer_engine
from storage.maintenance import reading
from storage.schema import DAY_MS

_SUMMARY, _DELIVERY = schema.weekly_summary.c, schema.summary_delivery.c
_DAY_HOURS = 24
SO_FAR = 0
"""The version of a week that is not over."""


class Made(StrEnum):
    """What made a version be made."""

    CLOSED = "closed"
    SETTINGS = "settings"
    DATA = "data"
    HOUR = "hour"


class State(StrEnum):
    """How far a delivery got. One that stays ``SENDING`` was cut off: it may have arrived."""

    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A summary that is kept, without its content."""

    week: str
    version: int
    made_at_ms: int
    host: str
    reason: Made
    settings_digest: str
    accounts_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How sending a week to somebody went; ``next_at_ms`` is when it is tried again, if it is."""

    week: str
    recipient: str
    version: int
    state: State
    attempts: int
    tried_at_ms: int
    next_at_ms: int | None
    error: str


@contextmanager
def writing(address: Address, place: str) -> Iterator[Engine]:
    """An engine for ``keep``, ``claim`` and ``settle``, of a store that has this release's tables.

    Raises:
        StoreError: one line that says why it cannot be used.
    """
    with reading(address, place):
        pass  # neither makes a database nor writes into one of another release
    engine = writer_engine(address)
    try:
        yield engine
    except (DBAPIError, sqlite3.Error) as exc:
        raise cannot_be_used(address, exc) from exc
    finally:
        engine.dispose()


def kept(engine: Engine, week: str | None = None) -> list[Kept]:
    """All versions of a week or of all weeks that are over, newest week first and its newest version first."""
    of_week = _SUMMARY.version != SO_FAR
    return _kept(engine, of_week if week is None else of_week & (_SUMMARY.week == week))


def kept_so_far(engine: Engine) -> Kept | None:
    """The running week as far as it had come when that was last looked at."""
    return next(iter(_kept(engine, _SUMMARY.version == SO_FAR)), None)


def _kept(engine: Engine, which: ColumnElement[bool]) -> list[Kept]:
    columns = [column for column in schema.weekly_summary.c if column.name != "content"]
    asked = select(*columns).where(which).order_by(_SUMMARY.week.desc(), _SUMMARY.version.desc())
    with engine.connect() as connection:
        rows = connection.execute(asked).all()
    return [Kept(**row._asdict() | {"reason": Made(row.reason)}) for row in rows]


def content(engine: Engine, week: str, version: int) -> str | None:
    """What was kept (JSON); ``None``: there is no such version."""
    asked = select(_SUMMARY.content).where(_SUMMARY.week == week, _SUMMARY.version == version)
    with engine.connect() as connection:
        return connection.execute(asked).scalar_one_or_none()


def keep(engine: Engine, one: Kept, text: str) -> bool:
    """Add a version; ``False`` where somebody else has added it meanwhile."""
    with engine.begin() as connection:
        added = insert(connection, schema.weekly_summary).values(_row(one, text)).on_conflict_do_nothing()
        return connection.execute(added.returning(_SUMMARY.version)).first() is not None


def keep_so_far(engine: Engine, one: Kept, text: str) -> None:
    """Put the running week, as far as it has come, in the place of what was there."""
    with engine.begin() as connection:
        connection.execute(delete(schema.weekly_summary).where(_SUMMARY.version == SO_FAR))
        connection.execute(insert(connection, schema.weekly_summary).values(_row(one, text)).on_conflict_do_nothing())


def _row(one: Kept, text: str) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__slots__} | {"content": text}


def confirm(engine: Engine, one: Kept, settings_digest: str, accounts_digest: str) -> None:
    """Note that other settings or accounts make the same summary."""
    found = (_SUMMARY.week == one.week) & (_SUMMARY.version == one.version)
    digests = {"settings_digest": settings_digest, "accounts_digest": accounts_digest}
    with engine.begin() as connection:
        connection.execute(update(schema.weekly_summary).where(found).values(digests))


def accounts_digest(engine: Engine, start_ms: int, end_ms: int) -> str:
    """What tells whether accounts of a time have changed: how many days of them there are, and their sums."""
    of = schema.account.c
    sums = [func.sum(column) for column in (of.observed_seconds, of.energy_joules, of.generation_tokens)]
    asked = (
        select(func.count(), *sums)
        .select_from(schema.entity.join(schema.account))
        .where(of.hours == _DAY_HOURS, of.start_ms > start_ms - DAY_MS, of.start_ms < end_ms)
    )
    with engine.connect() as connection:
        return " ".join(f"{number or 0:.0f}" for number in connection.execute(asked).one())


def deliveries(engine: Engine) -> list[Delivery]:
    """All of them, newest week first."""
    asked = select(schema.summary_delivery).order_by(_DELIVERY.week.desc(), _DELIVERY.recipient)
    with engine.connect() as connection:
        rows = connection.execute(asked).all()
    return [Delivery(**row._asdict() | {"state": State(row.state)}) for row in rows]


def claim(engine: Engine, week: str, recipient: str, version: int, now_ms: int, *, again: bool = False) -> bool:
    """Take it on oneself to send a week to somebody; ``False`` where that was done, or is not to be tried yet.

    Args:
        engine: that writes.
        week: whose summary.
        recipient: its name in the settings.
        version: of the summary.
        now_ms: the time.
        again: send it whatever became of it before, since a person asked for it.
    """
    row = {"version": version, "state": State.SENDING, "tried_at_ms": now_ms, "next_at_ms": None, "error": ""}
    table = schema.summary_delivery
    due = and_(_DELIVERY.state == State.FAILED, _DELIVERY.next_at_ms <= now_ms)
    with engine.begin() as connection:
        added = insert(connection, table).values(row | {"week": week, "recipient": recipient, "attempts": 1})
        added = added.on_conflict_do_update(
            index_elements=["week", "recipient"],
            set_=row | {"attempts": _DELIVERY.attempts + 1},
            where=None if again else due,
        )
        return connection.execute(added.returning(_DELIVERY.attempts)).first() is not None


def settle(engine: Engine, week: str, recipient: str, error: str, next_at_ms: int | None) -> None:
    """Say how a delivery that was claimed went; no error: it is delivered."""
    found = (_DELIVERY.week == week) & (_DELIVERY.recipient == recipient)
    values = {"state": State.FAILED if error else State.DELIVERED, "error": error, "next_at_ms": next_at_ms}
    with engine.begin() as connection:
        connection.execute(update(schema.summary_delivery).where(found).values(values))
