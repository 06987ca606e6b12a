"""Sealing and accounting while a daemon writes a thousand accelerators: does any tick wait, does memory grow?

A store is given an hour of rows of every accelerator that has just ended; then the daemon's own runner, writer and
upkeep are started in a process of their own, which ticks on while all of it is sealed and accounted for. The write
lock is held from BEGIN IMMEDIATE to the end of COMMIT, what the log is checkpointed by included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, text

from benchmarks.fleet import METRICS
from collectors.base import Availability, now_ms
from collectors.runner import Daemon
from core.readings import AcceleratorSample, Reading
from core.settings import StorageSettings
from storage import upkeep as upkeeps
from storage.batch import Batch
from storage.engine import reader_engine
from storage.schema import HOUR_MS
from storage.session import writing
from storage.spool import Spool
from storage.upkeep import SETTLE_MS, Upkeep

ACCELERATORS, INTERVAL_SECONDS, SECONDS = 1_000, 10.0, 90.0
SAMPLES_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the daemon's process went through."""

    ticks: int
    ticks_missed: int
    rows_sealed: int
    accounts: int
    longest_lock_ms: float
    memory_mib: float


class Thousand:
    """A source of a thousand accelerators with twelve metrics each."""

    name = "nvidia"

    def discover(self) -> Availability:
        return Availability(True)

    def collect(self) -> Iterable[Reading]:
        return tuple(samples(now_ms()))

    def close(self) -> None:
        """Nothing is held."""


def samples(at_ms: int) -> Iterator[AcceleratorSample]:
    seconds = at_ms / 1000
    for number in range(ACCELERATORS):
        load = (number * 37 + at_ms // 600_000 * 11) % 100 / 100
        values = (
            load,
            load / 2,
            load * 0.7 + number % 7 / 1000,
            int(load * 80) << 30,
            71 + round(600 * load, 3),
            round(seconds * 300 + number, 3),
            40 + load // 0.03,
            1.98e9 - 15e6 * (number % 3),
            2.6e9,
            load * 1e9 // 1000 * 1000,
            load * 2e9 // 1000 * 1000,
            round(seconds / 100, 6),
        )
        yield AcceleratorSample(key=f"GPU-{number}", observed_at_ms=at_ms, **dict(zip(METRICS, values, strict=True)))  # type: ignore[arg-type]


def _fill(path: Path) -> None:
    """The hour that has just ended, as rows."""
    end_ms = (now_ms() - SETTLE_MS) // HOUR_MS * HOUR_MS
    with writing(path, host="bench") as writer:
        for at_ms in range(end_ms - HOUR_MS, end_ms, round(INTERVAL_SECONDS * 1000)):
            writer.submit(Batch(tuple(samples(at_ms))))
            writer.wait_below(4)


def _watch_lock(engine: Engine) -> list[float]:
    """How long each transaction held the write lock (s)."""
    held: list[float] = []
    began: list[float] = []

    @event.listens_for(engine, "begin")
    def _begin(_connection: Any) -> None:
        began.append(time.perf_counter())

    inner = engine.dialect.do_commit

    def commit(connection: Any) -> None:
        inner(connection)
        held.append(time.perf_counter() - began[-1])

    engine.dialect.do_commit = commit  # type: ignore[method-assign, assignment]
    return held


def daemon(path: Path) -> None:
    """The process that is measured: prints its outcome as JSON."""
    settings = StorageSettings(url=f"sqlite:///{path}")
    upkeeps.PAUSE_SECONDS = 5.0
    with writing(path, host="bench", spool=Spool(settings.spool, max_bytes=1 << 28)) as writer:
        held = _watch_lock(writer.engine)
        keeper = Upkeep(reader_engine(path), writer, settings)
        running = Daemon([Thousand()], host="bench", interval_seconds=INTERVAL_SECONDS, writer=writer)
        running.start()
        keeper.start()
        time.sleep(SECONDS)
        running.stop()
        keeper.stop()
    outcome = Outcome(
        ticks=_count(path, "SELECT count(*) FROM collector_tick"),
        ticks_missed=_count(path, "SELECT sum(ticks_missed) FROM collector_tick"),
        rows_sealed=_count(path, "SELECT sum(instants) FROM accelerator_block"),
        accounts=_count(path, "SELECT count(*) FROM account WHERE hours = 1"),
        longest_lock_ms=max(held) * 1e3,
        memory_mib=_most_memory_mib(),
    )
    print(json.dumps(asdict(outcome)))


def _most_memory_mib() -> float:
    """Peak resident memory of this program; what getrusage tells remembers who started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def _count(path: Path, statement: str) -> int:
    engine = reader_engine(path)
    with engine.connect() as connection:
        answer = int(connection.execute(text(statement)).scalar_one() or 0)
    engine.dispose()
    return answer


def measure() -> Outcome:
    """Fill a store and watch the daemon keep it."""
    with tempfile.TemporaryDirectory(prefix="vatio-bench-") as scratch:
        path = Path(scratch) / "vatio.db"
        _fill(path)
        command = [sys.executable, "-m", "benchmarks.upkeep", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    daemon(Path(sys.argv[1]))
