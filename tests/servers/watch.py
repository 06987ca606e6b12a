"""Vatio's daemon watching one server, and what it stored, asked for as a page would ask."""

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

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 1.0
THREE_TICKS = 3 * INTERVAL_SECONDS + 0.5
EVER = (0, 1 << 50)


@dataclass(frozen=True, slots=True)
class Histogram:
    """All observations of one kind of latency."""

    observations: float
    sum_seconds: float


class Store:
    """The database that a daemon writes, read from outside while it does; it knows one deployment."""

    def __init__(self, path: Path) -> None:
        self._path = path

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
            (value,) = queries.latest(engine, "deployment")[metric]
        return float(value)

    def increase(self, counter: str) -> float:
        """How far a counter rose in all, restarts counted from zero."""
        with self._reader() as engine:
            (value,) = queries.increases(engine, "deployment", [counter], None, *EVER)[counter]
        return float(value)

    def highest(self, gauge: str) -> float:
        """The largest value a gauge ever had."""
        with self._reader() as engine:
            return float(queries.raw(engine, "deployment", [gauge], None, *EVER)[gauge].max())

    def latency(self, kind: str) -> Histogram | None:
        """Everything observed of one kind; ``None`` where nothing of it was stored."""
        with self._reader() as engine:
            frame = queries.latency(engine, None, [kind], *EVER)
        if frame.empty:
            return None
        return Histogram(float(np.concatenate(list(frame["increments"])).sum()), float(frame["sum_seconds"].sum()))

    def entity(self) -> dict[Hashable, Any]:
        """What is known of the deployment."""
        with self._reader() as engine:
            (row,) = queries.entities(engine, "deployment").to_dict("records")
        return row

    def failed_ticks(self) -> float:
        """Ticks of the source as a whole that did not succeed; one late page is not among them."""
        with self._reader() as engine:
            health = queries.health(engine, 0)
        return float(health.loc[(health["source"] == "serving") & (health["target"] == ""), "failed"].sum())

    @contextmanager
    def _reader(self) -> Iterator[Engine]:
        engine = reader_engine(self._path)
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def daemon(directory: Path, port: int) -> Iterator[Store]:
    """``python -m collectors run`` with nothing switched on but the serving source, after its first tick."""
    disabled = [name for name in SOURCE_NAMES if name != "serving"]
    config, database, log = directory / "vatio.toml", directory / "vatio.db", directory / "daemon.log"
    config.write_text(
        f"[collectors]\ninterval_seconds = {INTERVAL_SECONDS}\ndisabled = {disabled}\n"
        f"[serving]\nloopback_ports = [{port}]\n"
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
