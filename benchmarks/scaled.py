"""The demo's company many times over, with eight weeks behind it and ticks that go on: what pages are measured on.

One company is laid down as the demo does it, with its last minutes as rows, as a daemon that has run for long would
leave it. The others are copies of every row under names of their own. ``ticking`` then lets all of them go on, each
with the demo's own daemon, into the same database; they know the same world, so there is no seam but the time between.

    python -m benchmarks.scaled CONFIG    # go on until it is ended
"""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Table

from benchmarks.processes import running
from collectors.past import lay_down, missing
from collectors.runner import Daemon
from collectors.sources.simulated.source import SimulatedSource
from core.readings import Assignment, Entity
from core.settings import Settings, load
from storage import queries, schema
from storage.batch import Batch
from storage.engine import database_bytes, reader_engine
from storage.schema import HOUR_MS
from storage.session import writing
from storage.upkeep import SETTLE_MS, Upkeep
from storage.writer import Writer

ROOT = Path(__file__).parent.parent
COMPANY = "simulated"  # as the demo names it
ACCELERATORS = 1_000  # at least
STEP_MS = 10_000
FIRST_TICK_SECONDS = 60
LASTS_SECONDS = 3_600  # later, the hour that most pages show would not be there


@dataclass(frozen=True, slots=True)
class Scaled:
    """The settings of a scaled database, and what it took to make it."""

    config: Path
    accelerators: int
    gigabytes: float
    laid_down_seconds: float
    copied_seconds: float
    weeks_seconds: float

    @property
    def words(self) -> str:
        """All of that on one line."""
        return (
            f"{self.accelerators:,} accelerators, 8 weeks, {self.gigabytes:.1f} GB: one company laid down in "
            f"{self.laid_down_seconds:.0f} s, copied in {self.copied_seconds:.0f} s, "
            f"weeks summed up in {self.weeks_seconds:.0f} s"
        )


def made(folder: Path) -> Scaled:
    """A database with weekly summaries kept; one that was made in this folder within the hour is taken as it is."""
    config, told = folder / "vatio.toml", folder / "made.json"
    if not told.exists() or time.time() - told.stat().st_mtime > LASTS_SECONDS:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("scaled.db*"):
            old.unlink()
        config.write_text(_settings_text(folder / "scaled.db"))
        settings, began = load(config), time.monotonic()
        with writing(settings.storage.address, host=COMPANY) as writer:
            _lay_down(settings, writer)
        copied = time.monotonic()
        _copy(folder / "scaled.db")
        summed_up = time.monotonic()
        subprocess.run([sys.executable, "-m", "reports", "due", "--config", str(config)], cwd=ROOT, check=True)
        seconds = (copied - began, summed_up - copied, time.monotonic() - summed_up)
        told.write_text(json.dumps(seconds))
    reader = reader_engine(folder / "scaled.db")
    try:
        with reader.connect() as connection:
            gigabytes = database_bytes(connection) / 1e9
        return Scaled(config, len(queries.entities(reader, "accelerator")), gigabytes, *json.loads(told.read_text()))
    finally:
        reader.dispose()


@contextmanager
def ticking(scaled: Scaled) -> Iterator[None]:
    """All companies go on for as long as the block lasts; it begins when each has ticked."""
    with running([sys.executable, "-m", "benchmarks.scaled", str(scaled.config)], cwd=ROOT):
        reader, began = reader_engine(load(scaled.config).storage.address), time.time()
        while len(queries.health(reader, int(began * 1000) - STEP_MS)) < len(_companies(scaled.accelerators)):
            if time.time() - began > FIRST_TICK_SECONDS:
                raise RuntimeError("the scaled fleet does not tick")
            time.sleep(1)
        reader.dispose()
        yield


def _settings_text(database: Path) -> str:
    """The demo's settings for all companies: sites and prices by the part of a host's name that they share."""
    text = (ROOT / "demo.toml").read_text()
    for old, new in (
        ("sqlite:///var/demo-fleet.db", f"sqlite:///{database}"),
        (f'hosts = ["{COMPANY}-', 'hosts = ["*-'),
        (f'match = "{COMPANY}-', 'match = "-'),
    ):
        if old not in text:
            raise RuntimeError(f"demo.toml says nothing of {old}")
        text = text.replace(old, new)
    return text


def _lay_down(settings: Settings, writer: Writer) -> None:
    source = SimulatedSource(COMPANY, STEP_MS / 1000)
    end_ms = (int(time.time() * 1000) - SETTLE_MS) // HOUR_MS * HOUR_MS
    for stretch in missing(None, end_ms, STEP_MS):
        lay_down(writer, source, stretch)
    upkeep = Upkeep(reader_engine(settings.storage.address), writer, settings.storage)
    upkeep.account(end_ms + SETTLE_MS)
    for at_ms in range(end_ms + STEP_MS, int(time.time() * 1000), STEP_MS):
        writer.submit(Batch(tuple(source.at(at_ms))))
        writer.wait_below(100)
    upkeep.seal(int(time.time() * 1000))
    upkeep.stop()


def _companies(accelerators: int) -> list[str]:
    each = sum(thing.family == "accelerator" for thing in _things(COMPANY))
    return [COMPANY, *(f"{COMPANY}-{number:02}" for number in range(2, -(-accelerators // each) + 1))]


def _things(company: str) -> list[Entity]:
    """Everything a company has, in the same order for each; hosted endpoints are probed once and not copied."""
    source = SimulatedSource(company, STEP_MS / 1000)
    described = [one for one in source.description(0) if not isinstance(one, Assignment)]
    return [one for one in described if isinstance(one, Entity) and one.family != "probe"]


def _copy(database: Path) -> None:
    """Copy the only company that is there under the names of the others."""
    companies = _companies(ACCELERATORS)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-1000000; PRAGMA foreign_keys=OFF;")
        ids = {
            (family, key): entity_id
            for entity_id, family, key in connection.execute("SELECT entity_id, family, key FROM entity")
        }
        apart = max(ids.values())
        for number, company in enumerate(companies[1:], 1):
            for old, new in zip(_things(COMPANY), _things(company), strict=True):
                connection.execute(
                    "INSERT INTO entity SELECT entity_id + ?, family, ?, ?, parent_key, ?, first_seen_at_ms,"
                    " last_seen_at_ms, accounted_until_ms FROM entity WHERE entity_id = ?",
                    (number * apart, new.key, new.host, json.dumps(new.labels), ids[old.family, old.key]),
                )
        connection.execute("CREATE TEMP TABLE copy (offset INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO copy VALUES (?)", [(n * apart,) for n in range(1, len(companies))])
        connection.execute(f"CREATE TEMP TABLE old AS SELECT * FROM entity WHERE entity_id <= {apart}")
        for table in schema.metadata.sorted_tables:
            if owners := [column.name for column in table.c if _is_of_an_entity(column)]:
                connection.execute(_copying(table, owners))
        connection.commit()
        connection.executescript("PRAGMA wal_checkpoint(TRUNCATE)")


def _is_of_an_entity(column: Column[object]) -> bool:
    return any(key.column is schema.entity.c.entity_id for key in column.foreign_keys)


def _copying(table: Table, owners: list[str]) -> str:
    """SQL that copies the rows of a table; a number that the database gives by itself is given anew."""
    kept = [column for column in table.c if column.name in owners or column.name != f"{table.name}_id"]
    values = [f"o.{column.name} + offset" if column.name in owners else f"o.{column.name}" for column in kept]
    copied = " AND ".join(f"o.{name} IN (SELECT entity_id FROM old WHERE family <> 'probe')" for name in owners)
    return (
        f"INSERT INTO {table.name} ({', '.join(column.name for column in kept)})"
        f" SELECT {', '.join(values)} FROM copy CROSS JOIN {table.name} AS o WHERE {copied}"
    )


def main() -> None:
    """Tick until the process is ended."""
    logging.basicConfig(level=logging.WARNING)
    settings = load(Path(sys.argv[1]))
    reader = reader_engine(settings.storage.address)
    with writing(settings.storage.address, host=COMPANY) as writer:
        daemons = [
            Daemon(
                [SimulatedSource(company, STEP_MS / 1000)], host=company, interval_seconds=STEP_MS / 1000, writer=writer
            )
            for company in _companies(len(queries.entities(reader, "accelerator")))
        ]
        upkeep = Upkeep(reader, writer, settings.storage, is_busy=lambda: any(one.is_ticking() for one in daemons))
        for daemon in daemons:
            daemon.start()
        upkeep.start()
        threading.Event().wait()


if __name__ == "__main__":
    main()
