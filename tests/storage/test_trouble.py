"""A store that is full, read-only, locked or gone for a while loses nothing that the spool can hold."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.readings import AcceleratorSample, Event, Severity
from storage import queries
from storage.batch import Batch
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.spool import Spool
from storage.writer import Writer
from tests.conftest import START_MS

LIMIT = 64 << 20


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def writing(path: Path, spool: Spool | None, *, max_queued: int = 5_000) -> Iterator[Writer]:
    engine = writer_engine(path)
    upgrade(engine)
    writer = Writer(engine, host="box", spool=spool, flush_seconds=0.01, retry_seconds=0.05, max_queued=max_queued)
    writer.start()
    yield writer
    writer.stop()


def batch(n: int) -> Batch:
    """Two samples and an event, which is stored as often as it is said."""
    samples = [AcceleratorSample(key=k, observed_at_ms=START_MS + n * 1000, power_watts=float(n)) for k in "AB"]
    said = Event(observed_at_ms=START_MS + n * 1000, kind="test", severity=Severity.INFO, message="x" * 500)
    return Batch((*samples, said))


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def expect(path: Path, batches: int) -> None:
    """All there, in order, and nothing twice."""
    reader = reader_engine(path)
    frame = queries.raw(reader, "accelerator", ["power_watts"], None, 0, 1 << 50)
    for _, one in frame.groupby("entity_id"):
        assert one["power_watts"].tolist() == [float(n) for n in range(batches)]
    assert len(queries.events(reader, 0, 1 << 50, limit=1 << 30)) == batches
    assert "batches_dropped" not in queries.facts(reader)
    reader.dispose()


def test_a_full_disk(small: Path, tmp_path: Path):
    spool, path, n = Spool(tmp_path / "spool", max_bytes=LIMIT), small / "vatio.db", 0
    with writing(path, spool) as writer:
        while not spool.waiting:
            writer.submit(batch(n))
            n += 1
            time.sleep(0.0005)
        for more in range(300):
            writer.submit(batch(n + more))
        n += more
        wait_until(lambda: spool.waiting > 200)
        mount("-o", "remount,size=64m", str(small))
        wait_until(lambda: not writer.waiting)
        writer.submit(batch(n + 1))
        wait_until(lambda: not writer.waiting)
    expect(path, n + 2)


def test_a_full_disk_with_the_spool_on_it_keeps_what_memory_holds(small: Path):
    spool, path, n = Spool(small / "spool", max_bytes=LIMIT), small / "vatio.db", 0
    with writing(path, spool) as writer:
        while len(writer._queue) < 100:
            writer.submit(batch(n))
            n += 1
            time.sleep(0.0005)
        mount("-o", "remount,size=64m", str(small))
        wait_until(lambda: not writer.waiting)
    expect(path, n)


def test_a_file_system_that_became_read_only(small: Path, tmp_path: Path):
    spool, path = Spool(tmp_path / "spool", max_bytes=LIMIT), small / "vatio.db"
    with writing(path, spool) as writer:
        for n in range(10):
            writer.submit(batch(n))
        wait_until(lambda: not writer.waiting)
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=False)
        for n in range(10, 50):
            writer.submit(batch(n))
            time.sleep(0.005)
        subprocess.run(["mount", "-o", "remount,rw", str(small)], check=False)
        wait_until(lambda: not writer.waiting)
    expect(path, 50)


def test_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("storage.engine.BUSY_TIMEOUT_MS", 50)
    spool, path = Spool(tmp_path / "spool", max_bytes=LIMIT), tmp_path / "vatio.db"
    with writing(path, spool) as writer:
        writer.submit(batch(0))
        wait_until(lambda: not writer.waiting)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for n in range(1, 30):
            writer.submit(batch(n))
        wait_until(lambda: spool.waiting, seconds=30)
        other.execute("ROLLBACK")
        other.close()
        wait_until(lambda: not writer.waiting)
    expect(path, 30)


def test_a_daemon_that_ended_meanwhile_leaves_its_batches_to_the_next(small: Path, tmp_path: Path):
    folder, path, n = tmp_path / "spool", small / "vatio.db", 0
    spool = Spool(folder, max_bytes=LIMIT)
    with writing(path, spool) as writer:
        while not spool.waiting:
            writer.submit(batch(n))
            n += 1
            time.sleep(0.0005)
    mount("-o", "remount,size=64m", str(small))
    with writing(path, Spool(folder, max_bytes=LIMIT)) as writer:
        wait_until(lambda: not writer.waiting)
        writer.submit(batch(n))
        wait_until(lambda: not writer.waiting)
    expect(path, n + 1)


def test_what_does_not_fit_anywhere_is_counted_and_said(small: Path, tmp_path: Path):
    spool, path, n = Spool(tmp_path / "spool", max_bytes=1 << 20), small / "vatio.db", 0
    with writing(path, spool, max_queued=50) as writer:
        while not spool.waiting:
            writer.submit(batch(n))
            n += 1
            time.sleep(0.0005)
        for more in range(2_500):
            writer.submit(batch(n + more))
            if more % 40 == 0:
                time.sleep(0.06)
        n += more
        wait_until(lambda: writer.batches_dropped)
        mount("-o", "remount,size=64m", str(small))
        wait_until(lambda: not writer.waiting)
        writer.submit(batch(n + 1))
        wait_until(lambda: not writer.waiting)
    reader = reader_engine(path)
    stored = len(queries.events(reader, 0, 1 << 50, limit=1 << 30))
    assert int(queries.facts(reader)["batches_dropped"]) == n + 2 - stored > 0
    reader.dispose()
