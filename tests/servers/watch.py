"""Vatio's daemon watching servers, and what it stored, asked for as a page would ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine

from core.errors import StoreError
from core.settings import FILE_VARIABLE, SOURCE_NAMES
from storage import queries
from storage.engine import reader_engine
from tests.servers.launch import Server

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 1.0
THREE_TICKS = 3 * INTERVAL_SECONDS + 0.5
EVER = (0, 1 << 50)


@dataclass(frozen=True, slots=True)
class Histogram:
    """All observations of one kind of latency."""

    observations: float
    sum_seconds: float
    least: float  # increment of a bucket within one tick


class Store:
    """The database that a daemon writes, read from outside while it does.

    It is asked about one deployment: the only one, or that of the server at ``url``.
    """

    def __init__(self, path: Path, url: str | None = None) -> None:
        self._path = path
        self._url = url

    def of(self, server: Server) -> Store:
        """The same database, asked about one of several servers."""
        return Store(self._path, server.url)

    @property
    def looked(self) -> bool:
        """Whether the daemon has looked at its port at least once."""
        try:
            with self._reader() as engine, engine.connect() as connection:
                return queries.schema_is_current(connection) and queries.newest_sample_at_ms(engine) is not None
        except StoreError:
            return False

    def latest(self, metric: str) -> float:
        """A metric as last seen."""
        with self._reader() as engine:
            newest = queries.latest(engine, "deployment")
            return float(newest.set_index("entity_id")[metric][self._id(engine)])

    def increase(self, counter: str) -> float:
        """How far a counter rose in all, restarts counted from zero."""
        with self._reader() as engine:
            (value,) = queries.increases(engine, "deployment", [counter], [self._id(engine)], *EVER)[counter]
        return float(value)

    def falls(self, counter: str) -> int:
        """How often a counter was less than before: the restarts that it shows."""
        with self._reader() as engine:
            values = queries.raw(engine, "deployment", [counter], [self._id(engine)], *EVER)[counter]
        return int((values.diff() < 0).sum())

    def highest(self, gauge: str) -> float:
        """The largest value a gauge ever had."""
        with self._reader() as engine:
            return float(queries.raw(engine, "deployment", [gauge], [self._id(engine)], *EVER)[gauge].max())

    def latency(self, kind: str) -> Histogram | None:
        """Everything observed of one kind; ``None`` where nothing of it was stored."""
        with self._reader() as engine:
            frame = queries.latency(engine, [self._id(engine)], [kind], *EVER, step_ms=1)
        if frame.empty:
            return None
        increments = np.concatenate(list(frame["increments"]))
        return Histogram(float(increments.sum()), float(frame["sum_seconds"].sum()), float(increments.min()))

    def entity(self) -> dict[Hashable, Any]:
        """What is known of the deployment."""
        with self._reader() as engine:
            return self._entity(engine)

    def events(self, kind: str) -> list[str]:
        """Messages of what happened to the deployment, newest first."""
        with self._reader() as engine:
            frame = queries.events(engine, *EVER)
            return list(frame.loc[(frame["kind"] == kind) & (frame["entity_id"] == self._id(engine)), "message"])

    def failed_ticks(self) -> float:
        """Ticks of the source as a whole that did not succeed; one late page is not among them."""
        with self._reader() as engine:
            health = queries.health(engine, 0)
        return float(health.loc[(health["source"] == "serving") & (health["target"] == ""), "failed"].sum())

    def _id(self, engine: Engine) -> int:
        return int(self._entity(engine)["entity_id"])

    def _entity(self, engine: Engine) -> dict[Hashable, Any]:
        rows = queries.entities(engine, "deployment").to_dict("records")
        (row,) = [row for row in rows if self._url is None or row["labels"]["url"] == self._url]
        return row

    @contextmanager
    def _reader(self) -> Iterator[Engine]:
        engine = reader_engine(self._path)
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def daemon(directory: Path, *ports: int) -> Iterator[Store]:
    """``python -m collectors run`` with nothing switched on but the serving source, after its first tick."""
    disabled = [name for name in SOURCE_NAMES if name != "serving"]
    config, database, log = directory / "vatio.toml", directory / "vatio.db", directory / "daemon.log"
    config.write_text(
        f"[collectors]\ninterval_seconds = {INTERVAL_SECONDS}\ndisabled = {disabled}\n"
        f"[serving]\nloopback_ports = {list(ports)}\n"
        f'[storage]\nurl = "sqlite:///{database}"\n',
        "utf-8",
    )
    command = [sys.executable, "-m", "collectors", "run"]
    environment = os.environ | {FILE_VARIABLE: str(config)}
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
    store = Store(database)

    def looked() -> bool:
        assert process.poll() is None, f"the daemon ended with {process.returncode}: {log.read_text('utf-8')}"
        return store.looked

    try:
        wait_until(looked, 30, "the daemon's first tick")
        yield store
        process.send_signal(signal.SIGTERM)
        ended = process.wait(30)
        assert ended == 0, f"the daemon ended with {ended}: {log.read_text('utf-8')}"
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look twice a second; fail by name when it does not come."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.5)
