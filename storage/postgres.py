"""What PostgreSQL needs and SQLite does not: locks without a file, partitions by month, Citus."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from core.errors import StoreLocked
from storage import schema
from storage.engine import one_line

log = logging.getLogger(__name__)

WAIT_FOR_HOST_MS = 1_000  # a daemon that has just ended may still be in the server's books
GIVE_WAY_MS = 500  # less than the second after which PostgreSQL looks for a circle of waiting
PARTITIONED: dict[str, str] = {
    **{table.name: "span_ms" for table in (*schema.blocks.values(), schema.block_aggregate, schema.latency_block)},
    schema.collector_tick.name: "scheduled_at_ms",
}
"""Tables that grow for ever and the column (Unix ms) by which they are cut into months, UTC."""

_MONTH = re.compile(r"_(\d{4})_(\d{2})$")


def is_postgresql(connection: Connection | Engine) -> bool:
    """Whether this is PostgreSQL; the functions below do nothing on SQLite unless they say so."""
    return connection.dialect.name == "postgresql"


def hold_host(engine: Engine, host: str) -> None:
    """Let only one daemon write as ``host``: whatever connection the engine opens holds the right to.

    The server takes it back when the connection ends, and a new connection asks for it again, so that it
    outlives a restart of the server.

    Raises (when a connection is opened):
        sqlalchemy.exc.OperationalError: another daemon writes under this name; ``orig`` is ``StoreLocked``.
    """

    @event.listens_for(engine, "connect")
    def _hold(connection: Any, _record: object) -> None:  # noqa: ANN401  a DB-API connection
        import psycopg

        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {WAIT_FOR_HOST_MS}")
                connection.execute("SELECT pg_advisory_lock(%s)", (_key(f"host {host}"),))
        except psycopg.errors.LockNotAvailable as exc:
            connection.close()
            refused = StoreLocked(
                f"another Vatio daemon writes as host {host!r}: stop it, or set collectors.host_name to another name"
            )
            raise OperationalError("pg_advisory_lock", None, refused) from exc


def take_turns(connection: Connection, what: str, *, patient: bool = False) -> None:
    """Wait until no other daemon is at ``what``, and keep them off until the transaction ends.

    ``patient``: however long it takes; else as long as for any lock.
    """
    if is_postgresql(connection):
        if patient:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(what)})


@contextmanager
def upkeep_lock(engine: Engine) -> Iterator[bool]:
    """Hold the right to seal, account and remove; ``False`` where another daemon is at it. On SQLite: ``True``."""
    if not is_postgresql(engine):
        yield True
        return
    key = {"key": _key("upkeep")}
    # Not within a transaction: an open one would keep the server from tidying up for as long as a round lasts.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        ours = bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one())
        try:
            yield ours
        finally:
            if ours:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


def _key(name: str) -> int:
    """The number of an advisory lock: such locks know 64 bits instead of names."""
    return int.from_bytes(hashlib.blake2b(f"vatio {name}".encode(), digest_size=8).digest(), signed=True)


def add_partitions(connection: Connection, now_ms: int) -> None:
    """Give this month and the next a partition of their own in every partitioned table; in a transaction of its own.

    A month with rows in the default partition stays there: they cannot be moved while others read and write.
    """
    if not is_postgresql(connection):
        return
    take_turns(connection, "partitions")
    there, this = _partitions(connection, PARTITIONED), _month_of(now_ms)
    months = [_Month(table, *month) for table in PARTITIONED for month in (this, _following(*this))]
    missing = [month for month in months if month.name not in there and not _in_default(connection, month)]
    if not missing:
        return
    try:
        with connection.begin_nested():
            _give_way(connection)
            # In the order in which writers come to them.
            connection.exec_driver_sql("LOCK TABLE histogram_bounds, metric, entity IN SHARE ROW EXCLUSIVE MODE")
            for month in missing:
                connection.exec_driver_sql(f"LOCK TABLE {month.table} IN SHARE ROW EXCLUSIVE MODE")
                if not _in_default(connection, month):
                    limits = f"FROM ({month.start_ms}) TO ({month.end_ms})"
                    create = f"CREATE TABLE {month.name} PARTITION OF {month.table} FOR VALUES {limits}"
                    connection.exec_driver_sql(create)
    except OperationalError as exc:
        log.warning("no partitions were made, rows go to the default ones: %s", one_line(exc))


def drop_partitions_before(connection: Connection, at_ms: int, tables: Iterable[str] = PARTITIONED) -> list[str]:
    """Remove whole months that ended by ``at_ms`` from partitioned tables, at once and with their space.

    Returns:
        The partitions that are gone. Rows of the default partition and of the month under way stay.

    Raises:
        sqlalchemy.exc.OperationalError: somebody reads there; nothing is removed, try again later.
    """
    if not is_postgresql(connection):
        return []
    over = [month.name for month in _partitions(connection, tables).values() if month.end_ms <= at_ms]
    _give_way(connection)
    for name in over:
        connection.exec_driver_sql(f"DROP TABLE {name}")
    return over


def _give_way(connection: Connection) -> None:
    """Have this transaction give up before the server looks for a circle of waiting and ends a reader in it."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {GIVE_WAY_MS}")


def distribute(connection: Connection) -> bool:
    """Spread facts over the nodes of a Citus cluster by entity; ``False`` where the database lacks that extension.

    Nobody has run this yet: there was no Citus to test it on. It follows Citus' documentation, and by that some
    questions (``queries.latest``, ``blocks.due``) may be refused there, since they look up facts for each row of
    a reference table.
    """
    if connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'citus'")).first() is None:
        return False
    done = set(connection.execute(text("SELECT logicalrelid::regclass::text FROM pg_dist_partition")).scalars())
    for table in (schema.entity, schema.metric, schema.histogram_bounds):
        if table.name not in done:
            connection.execute(text("SELECT create_reference_table(:name)"), {"name": table.name})
    for table in schema.metadata.sorted_tables:
        if table.name not in done and table is not schema.entity and "entity_id" in table.primary_key.columns:
            connection.execute(text("SELECT create_distributed_table(:name, 'entity_id')"), {"name": table.name})
    return True


def is_partition(name: str) -> bool:
    """Whether a table is a part of another one."""
    table = name.removesuffix("_default") if name.endswith("_default") else _MONTH.sub("", name)
    return name != table and table in PARTITIONED


@dataclass(frozen=True, slots=True)
class _Month:
    """A partition: one month of one table."""

    table: str
    year: int
    month: int

    @property
    def name(self) -> str:
        return f"{self.table}_{self.year:04d}_{self.month:02d}"

    @property
    def start_ms(self) -> int:
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        return _Month(self.table, *_following(self.year, self.month)).start_ms


def _month_of(at_ms: int) -> tuple[int, int]:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.year, at.month


def _following(year: int, month: int) -> tuple[int, int]:
    return (year, month + 1) if month < 12 else (year + 1, 1)


def _partitions(connection: Connection, tables: Iterable[str]) -> dict[str, _Month]:
    """The months of some tables that have a partition, by its name."""
    found = connection.execute(
        text(
            "SELECT whole.relname, part.relname FROM pg_inherits "
            "JOIN pg_class part ON part.oid = inhrelid JOIN pg_class whole ON whole.oid = inhparent "
            "WHERE inhparent = ANY(CAST(CAST(:tables AS text[]) AS regclass[])) ORDER BY part.relname"
        ),
        {"tables": list(tables)},
    )
    matched = [(table, name, _MONTH.search(name)) for table, name in found]
    return {name: _Month(table, int(match[1]), int(match[2])) for table, name, match in matched if match}


def _in_default(connection: Connection, month: _Month) -> bool:
    """Whether the default partition has rows of a month."""
    default, column = f"{month.table}_default", PARTITIONED[month.table]
    found = connection.exec_driver_sql(
        f"SELECT 1 FROM {default} WHERE {column} >= {month.start_ms} AND {column} < {month.end_ms} LIMIT 1"  # noqa: S608
    )
    return found.first() is not None
