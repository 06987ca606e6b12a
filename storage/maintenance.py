"""One-off work on a store: look whether it is sound, copy it, tidy it up, make its accounts again.

``check`` and ``backup`` read, also while a daemon writes. ``compact`` and ``rebuild_accounts`` open the store for
writing, so they are refused while a daemon has it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.exc import DBAPIError

from core.errors import ConfigError, StoreError, StoreLocked
from core.settings import StorageSettings
from storage import accounts, postgres, schema, soundness
from storage.engine import BUSY_TIMEOUT_MS, Address, cannot_be_used, database_bytes, reader_engine
from storage.migrate import SCRIPTS
from storage.schema import HOUR_MS, SPAN_MS
from storage.session import writing
from storage.soundness import Finding
from storage.upkeep import SETTLE_MS, Upkeep, give_back
from storage.writer import Writer

T = TypeVar("T")

Told = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is (0: not known)."""

PG_DUMP = "backup copies SQLite files: of a PostgreSQL database make one with pg_dump --format=custom"
BACKUP_PAGES = 2_000  # copied at once
GIVEN_BACK_PAGES = 2_000
INCREMENTAL = 2  # what PRAGMA auto_vacuum answers in that mode


def _untold(what: str, done: int, total: int) -> None:
    """Nobody listens."""


@contextmanager
def reading(address: Address, place: str, *, any_revision: bool = False) -> Iterator[Engine]:
    """A reader of a store that has this release's tables.

    Args:
        address: of the store.
        place: the same as people look for it.
        any_revision: whether tables of another release will do.

    Raises:
        StoreError: one line that says why it cannot be read.
    """
    engine = reader_engine(address, mapped=False)
    try:
        with engine.connect() as connection:
            trouble = revision_trouble(connection)
            if trouble is not None and not (any_revision and revision(connection)):
                raise StoreError(f"{place}: {trouble[0]}: {trouble[1]}")
        yield engine
    except (DBAPIError, sqlite3.Error) as exc:
        raise cannot_be_used(address, exc) from exc
    finally:
        engine.dispose()


def revision(connection: Connection) -> str | None:
    """The schema revision of a database; ``None`` where it has no tables of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def revision_trouble(connection: Connection) -> tuple[str, str] | None:
    """Why this release cannot read a database, and what to do; ``None`` where it can."""
    scripts = ScriptDirectory(str(SCRIPTS))
    found, head = revision(connection), scripts.get_current_head()
    if found == head:
        return None
    if found is None:
        return "holds no tables of Vatio", "start the collector daemon (make run), or set storage.url to another"
    if found in {script.revision for script in scripts.walk_revisions()}:
        return (
            f"schema revision {found} is older than {head}",
            "start the collector daemon (make run), which upgrades it",
        )
    return f"schema revision {found} is unknown to this Vatio", "install the release that wrote it"


# ---- check


def check(reader: Engine, told: Told = _untold) -> Iterator[Finding]:
    """Everything that is wrong with a store, as it is found."""
    with reader.connect() as connection:
        trouble = revision_trouble(connection)
    if trouble is not None:
        yield Finding(trouble[0], "it cannot be read, so nothing else was checked", trouble[1])
        return
    yield from _of_the_file(reader, told)
    with reader.connect() as connection:
        every = soundness.entities(connection)
        total = len(every) + sum(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (*schema.blocks.values(), schema.latency_block)
        )
    done = 0

    def looked(more: int) -> None:
        nonlocal done
        done += more
        told("blocks and accounts", done, max(done, total))

    for entity in every:
        parts = [soundness.accounts(reader, entity)]
        if entity.family in schema.blocks:
            parts.append(soundness.sample_blocks(reader, entity, looked))
        if entity.family == "deployment":
            parts.append(soundness.latency_blocks(reader, entity, looked))
        for part in parts:
            try:
                yield from part
            except DBAPIError as exc:
                yield Finding(f"cannot be read on: {_reason(exc)}", "the rest of it was not checked", _MEND, entity)
        looked(1)


_MEND = "stop the daemon, keep a copy of the file, and put back a backup"


def _of_the_file(reader: Engine, told: Told) -> Iterator[Finding]:
    """What the database finds wrong with itself; PostgreSQL looks after that at every read."""
    if reader.dialect.name != "sqlite":
        return
    for number, pragma in enumerate(("integrity_check", "foreign_key_check")):
        told(pragma.replace("_", " "), number, 2)
        try:
            with reader.connect() as connection:
                answers = connection.exec_driver_sql(f"PRAGMA {pragma}").all()
        except DBAPIError as exc:
            yield Finding(f"{pragma}: {_reason(exc)}", "some of it cannot be read", _MEND)
            continue
        if pragma == "integrity_check":
            lines = [line for (text,) in answers for line in text.splitlines() if line != "ok"]
            yield from (Finding(line, "some of it may be lost or read wrong", _MEND) for line in lines)
        else:
            for table, _, parent, _ in answers:
                yield Finding(f"a row of {table} names a row of {parent} that is not there", "it is not shown", _MEND)
    told("foreign key check", 2, 2)


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "orig", None) or exc).strip().partition("\n")[0]


# ---- backup


def backup(reader: Engine, target: Path, *, force: bool = False, told: Told = _untold) -> int:
    """Copy a SQLite store as it is at this moment into one file, while others write.

    The copy is checked before it gets its name, so under that name there is never half of one.

    Args:
        reader: of the store.
        target: the file to write; mode 0600.
        force: replace a file that is there.
        told: how far it is, in pages.

    Returns:
        Bytes of the copy.

    Raises:
        ConfigError: the target cannot be that, or the store is not SQLite.
        StoreError: not enough space, or the copy is not sound.
    """
    if reader.dialect.name != "sqlite":
        raise ConfigError(PG_DUMP)
    with reader.connect() as connection:
        (_, _, source) = connection.exec_driver_sql("PRAGMA database_list").one()
        pages, size = (int(connection.exec_driver_sql(f"PRAGMA {n}").scalar_one()) for n in ("page_count", "page_size"))
    target = target.resolve()  # what a link points to is replaced, not the link
    _fit_to_be_written(target, Path(source), force=force)
    _enough_space(target.parent, pages * size, f"the backup {target}")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(descriptor)
    partial_file = Path(name)
    try:
        _copy(reader, partial_file, told)
        _forced_to_disk(partial_file)
        _fit_to_be_written(target, Path(source), force=force)
        partial_file.replace(target)
        _forced_to_disk(target.parent)
    except sqlite3.Error as exc:
        raise StoreError(f"the backup {target} could not be made ({exc}): make room, or name another file") from exc
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(name + suffix).unlink(missing_ok=True)
    return target.stat().st_size


def _copy(reader: Engine, target: Path, told: Told) -> None:
    with reader.connect() as connection, contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # A question opens the transaction: what others write from here on neither gets in nor begins the copy anew.
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
        source = cast("sqlite3.Connection", connection.connection.driver_connection)
        copy.execute("PRAGMA synchronous=OFF")  # it is forced to disk once, at its end
        source.backup(
            copy, pages=BACKUP_PAGES, progress=lambda _, left, total: told("copying pages", total - left, total)
        )
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, with no log beside it
        told("checking the copy", 0, 0)
        answers = [str(text) for (text,) in copy.execute("PRAGMA quick_check(1)")]
    if answers != ["ok"]:
        reason = answers[0].replace("\n", " ") if answers else "no answer"
        raise StoreError(f"the copy is not sound ({reason}): look at the store with python -m storage check")


def _fit_to_be_written(target: Path, source: Path, *, force: bool) -> None:
    own = {source.resolve().with_name(source.name + suffix) for suffix in ("", "-wal", "-shm", "-journal", ".lock")}
    if target in own:
        raise ConfigError(f"{target} belongs to the store itself: name another file")
    if not target.parent.is_dir():
        raise ConfigError(f"no folder {target.parent}: create it, or name another file")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder: name a file in it")
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target} is a device or a pipe: name a file")
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already: name another file, or replace it with --force")
    logs = [log for suffix in ("-wal", "-journal") if (log := target.with_name(target.name + suffix)).exists()]
    if logs:
        raise ConfigError(f"{logs[0]} is there, so {target} is a database in use: name another file")


def _enough_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{what} needs {needed / 1e6:,.0f} MB in {folder.resolve()}, where {free / 1e6:,.0f} MB are free: make room"
        )


def _forced_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- compact


def compact(settings: StorageSettings, host: str, now_ms: int, told: Told = _untold) -> tuple[int, int]:
    """Do all upkeep at once: seal, account, remove what is too old, give all free space back.

    A SQLite file that cannot give space back bit by bit is written anew once, so that it can from then on.

    Returns:
        Bytes before and after.

    Raises:
        StoreError: it cannot be used, or there is no space to write it anew; ``StoreLocked`` while a daemon runs.
    """
    with _upkeep(settings, host) as (reader, writer):
        with reader.connect() as connection:
            before = database_bytes(connection)
            total = _to_be_sealed(connection)
        counting = _Counting(writer, lambda done: told("sealing", done, max(done, total)))
        Upkeep(reader, counting, settings).seal(now_ms)
        upkeep = _accounted(reader, writer, settings, now_ms, told)
        told("removing what is too old", 0, 0)
        upkeep.seal(now_ms)  # nothing is left to seal: it learns the numbers of the metrics, by which figures go
        upkeep.forget(now_ms)
        if isinstance(settings.address, Path):
            _shrink(reader, writer, settings.address, told)
        with reader.connect() as connection:
            return before, database_bytes(connection)


class _Counting:
    """Passes changes on to the writer and says how many there were."""

    def __init__(self, writer: Writer, told: Callable[[int], None]) -> None:
        self.turn = writer.turn
        self._writer = writer
        self._told = told
        self._done = 0

    def call(self, work: Callable[[Connection], T], *, timeout_seconds: float = 10.0) -> T:
        result = self._writer.call(work, timeout_seconds=timeout_seconds)
        self._done += 1
        self._told(self._done)
        return result


@contextmanager
def _upkeep(settings: StorageSettings, host: str) -> Iterator[tuple[Engine, Writer]]:
    """A store that is there, opened for writing by us alone."""
    reader = reader_engine(settings.address)  # which creates none
    try:
        with writing(settings.address, host=host) as writer, postgres.upkeep_lock(reader) as ours:
            if not ours:
                raise StoreLocked(f"a Vatio daemon tidies {settings.place} up right now: try again in a minute")
            yield reader, writer
    except StoreLocked as exc:
        raise StoreLocked(f"{exc} (while it runs, a daemon does all upkeep by itself)") from exc
    except TimeoutError as exc:
        raise StoreError(
            f"{settings.place} could not be written in time: end what else uses it, and try again"
        ) from exc
    except (DBAPIError, sqlite3.Error) as exc:
        raise cannot_be_used(settings.address, exc) from exc
    finally:
        reader.dispose()


def _to_be_sealed(connection: Connection) -> int:
    """About how many blocks rows will go into."""
    blocks = 0
    for name in (*schema.SEALED, "latency"):
        table = schema.latency_sample if name == "latency" else schema.samples[name]
        at = table.c.observed_at_ms
        key = [table.c.kind, table.c.bounds_id] if name == "latency" else []
        spans = select(table.c.entity_id, (at - at % SPAN_MS).label("span_ms"), *key).distinct().subquery()
        blocks += connection.execute(select(func.count()).select_from(spans)).scalar_one()
    return blocks


def _accounted(reader: Engine, writer: Writer, settings: StorageSettings, now_ms: int, told: Told) -> Upkeep:
    """Make the accounts that are pending."""
    upkeep = Upkeep(reader, writer, settings)
    until_ms = (now_ms - SETTLE_MS) // HOUR_MS * HOUR_MS
    with reader.connect() as connection:
        pending = [
            one for family in accounts.FAMILIES_ACCOUNTED for one in accounts.pending(connection, family, until_ms)
        ]
    total = sum((until_ms - one.from_ms) // HOUR_MS for one in pending)
    done = 0

    def made(hours: int) -> None:
        nonlocal done
        done += hours
        told("entity-hours", min(done, total), total)

    upkeep.account(now_ms, made)
    return upkeep


def _shrink(reader: Engine, writer: Writer, path: Path, told: Told) -> None:
    """Give free pages of a SQLite file back, bit by bit where the file can, else by writing it anew."""
    with reader.connect() as connection:
        names = ("auto_vacuum", "freelist_count", "page_count", "page_size")
        mode, free, pages, size = (int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in names)
    if mode == INCREMENTAL:
        done = 0
        told("giving back pages", done, free)
        while writer.call(partial(give_back, least_ratio=0.0, pages=GIVEN_BACK_PAGES)):
            done += GIVEN_BACK_PAGES
            told("giving back pages", min(done, free), free)
    else:
        told("writing the file anew", 0, 0)
        _write_anew(path, (pages - free) * size)
    with contextlib.closing(_alone(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _write_anew(path: Path, content_bytes: int) -> None:
    """Let SQLite write a file again, in the mode in which it can give space back bit by bit.

    Raises:
        StoreError: there is no room for a second copy, or for the log that brings it into the file.
    """
    scratch = next((Path(name) for name in _scratch_folders() if os.access(name, os.W_OK)), Path())
    shared = scratch.stat().st_dev == path.resolve().parent.stat().st_dev
    _enough_space(path.parent, content_bytes * (2 if shared else 1), f"writing {path} anew")
    if not shared:
        _enough_space(scratch, content_bytes, f"writing {path} anew")
    with contextlib.closing(_alone(path)) as connection:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("VACUUM")


def _scratch_folders() -> Iterator[str]:
    """Where SQLite puts the second copy: the first of these that it may write to."""
    yield from (os.environ[name] for name in ("SQLITE_TMPDIR", "TMPDIR") if name in os.environ)
    yield from ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108  said, not used


def _alone(path: Path) -> sqlite3.Connection:
    """A connection outside any transaction, of which there is none else that writes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return connection


# ---- accounts


def rebuild_accounts(
    settings: StorageSettings,
    host: str,
    now_ms: int,
    start_ms: int = 0,
    end_ms: int | None = None,
    told: Told = _untold,
) -> int:
    """Make the accounts of ``[start_ms, end_ms)`` again where raw samples are kept; older ones stay as they are.

    Returns:
        How many entity-hours were made.

    Raises:
        StoreError: the store cannot be used; ``StoreLocked`` while a daemon runs.
    """
    table = schema.entity.c
    until_ms = now_ms if end_ms is None else min(now_ms, -(-end_ms // HOUR_MS) * HOUR_MS + SETTLE_MS)
    made = 0

    def counted(what: str, done: int, total: int) -> None:
        nonlocal made
        made = done
        told(what, done, total)

    with _upkeep(settings, host) as (reader, writer):
        with reader.connect() as connection:
            marks = {row.entity_id: row.accounted_until_ms for row in connection.execute(select(*table))}
        writer.call(partial(accounts.forget, start_ms=start_ms))
        _accounted(reader, writer, settings, until_ms, counted)
        writer.call(partial(_final_again, marks=marks))
    return made


def _final_again(connection: Connection, marks: Mapping[int, int | None]) -> None:
    """What was final beyond the hours that were made still is."""
    table = schema.entity
    for entity_id, until_ms in marks.items():
        if until_ms is not None:
            statement = update(table).where(table.c.entity_id == entity_id, table.c.accounted_until_ms < until_ms)
            connection.execute(statement.values(accounted_until_ms=until_ms))
