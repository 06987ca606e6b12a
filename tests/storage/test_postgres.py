"""What is particular to PostgreSQL: SQLite's answers, partitions, several daemons, a server that goes away."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from core.errors import StoreError, StoreLocked
from core.health import SourceStatus, TickReport
from core.readings import (
    AcceleratorSample,
    Assignment,
    CpuSample,
    DeploymentSample,
    DeviceProcess,
    Entity,
    Event,
    HostSample,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Severity,
)
from core.settings import StorageSettings
from storage import postgres, queries, schema
from storage.batch import Batch
from storage.engine import Address, reader_engine, writer_engine
from storage.migrate import upgrade
from storage.rows import insert_rows
from storage.schema import SPAN_MS
from storage.session import writing
from storage.spend import StoredSpend
from storage.spool import Spool
from storage.upkeep import Upkeep
from storage.writer import Writer
from tests.e2e.daemon import run
from tests.fixtures.postgresql import PostgreSQL

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SINCE_MS = 20_400 * DAY_MS
STEP_MS = 60_000
INF = float("inf")
NewDatabase = Callable[..., str]


def at(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def batches() -> Iterator[Batch]:
    """Two days of everything; unknown values, a restarted counter and late data among them."""
    yield Batch(
        (
            Entity(
                observed_at_ms=SINCE_MS,
                family="accelerator",
                key="G1",
                host="a",
                labels={"vendor": "amd", "model": "é"},
            ),
            Entity(observed_at_ms=SINCE_MS, family="accelerator", key="G2", host="b", parent_key="b"),
            Entity(observed_at_ms=SINCE_MS, family="deployment", key="s m", host="a"),
            Assignment(
                deployment_key="s m",
                target_family="accelerator",
                target_keys=("G1", "G2"),
                origin="processes",
                observed_at_ms=SINCE_MS,
            ),
        )
    )
    for hour in range(48):
        yield Batch(tuple(_sampled(hour)), tuple(_ticked(hour)), (_status(hour),))
    late_ms = SINCE_MS + 30_000
    yield Batch(
        (
            CpuSample(key="c", observed_at_ms=late_ms, power_watts=80.0),
            Event(
                observed_at_ms=late_ms,
                kind="xid",
                severity=Severity.CRITICAL,
                message="lost",
                code=79,
                family="accelerator",
                key="G1",
            ),
            Event(observed_at_ms=late_ms, kind="restart", severity=Severity.INFO, message="again"),
            DeviceProcess(key="G1", observed_at_ms=late_ms, pid=2, name="b", memory_used_bytes=1 << 40),
            DeviceProcess(key="G1", observed_at_ms=late_ms, pid=1, name="a"),
            *_probes(),
            Assignment(
                deployment_key="s m",
                target_family="accelerator",
                target_keys=("G1",),
                origin="settings",
                observed_at_ms=SINCE_MS + DAY_MS,
            ),
        )
    )


def _sampled(hour: int) -> Iterator[Any]:
    for minute in range(60):
        n = hour * 60 + minute
        at_ms = SINCE_MS + n * STEP_MS
        for number, key in enumerate(("G1", "G2")):
            yield AcceleratorSample(
                key=key,
                observed_at_ms=at_ms,
                power_watts=None if n % 7 == 3 else 300.0 + n % 11 + number / 3,
                energy_joules_total=float(n % 1_000) * 18_000,
                memory_used_bytes=(1 << 36) + n,
                processes=n // 600 % 2,
                throttle_reasons=n % 3,
            )
        yield CpuSample(key="c", observed_at_ms=at_ms, utilization_ratio=n % 10 / 10, power_watts=float("nan"))
        yield HostSample(key="a", observed_at_ms=at_ms, load_1m=0.0, network_rx_bytes_total=float(n * 10**12))
        yield DeploymentSample(
            key="s m", observed_at_ms=at_ms, running_requests=n % 2, generation_tokens_total=float(n * 100)
        )
        yield LatencySample(
            key="s m",
            kind=Latency.TTFT,
            observed_at_ms=at_ms,
            upper_bounds_seconds=(0.1, 1.0, INF) if n < 2_000 else (0.5, INF),
            increments=(1.0, n % 3, 0.0) if n < 2_000 else (2.0, 1.0),
            sum_seconds=None if n % 5 == 0 else 0.7,
        )


def _ticked(hour: int) -> Iterator[TickReport]:
    for source, outcome in (("nvidia", Outcome.OK), ("amd", Outcome.FAILED if hour % 2 else Outcome.OK)):
        yield TickReport(
            host="a",
            source=source,
            target="",
            scheduled_at_ms=SINCE_MS + hour * HOUR_MS,
            outcome=outcome,
            duration_seconds=0.1 + hour / 7,
            readings=hour,
            ticks_missed=hour % 2,
            error="late" if outcome is Outcome.FAILED else "",
        )


def _status(hour: int) -> SourceStatus:
    return SourceStatus(
        host="a",
        source="nvidia" if hour % 2 else "cpu",
        available=bool(hour % 2),
        absent=False,
        reason="",
        remedy="",
        checked_at_ms=SINCE_MS + hour * HOUR_MS,
    )


def _probes() -> Iterator[ProbeSample]:
    for n, outcome in enumerate((Outcome.OK, Outcome.FAILED)):
        yield ProbeSample(
            key="p", observed_at_ms=SINCE_MS + n, outcome=outcome, error="" if n == 0 else "refused", ttft_seconds=0.25
        )


def fill(address: Address) -> Engine:
    """The store of all that, sealed and accounted; its reader."""
    engine = writer_engine(address)
    upgrade(engine)
    writer = Writer(engine, host="a", flush_seconds=0.0)
    writer.start()
    for batch in batches():
        writer.submit(batch)
        writer.call(lambda _: None)
    writer.wait_below(1)
    StoredSpend(writer).reserve("p", "2025-11", 0.1, 1.0)
    StoredSpend(writer).reserve("o", "2025-11", 0.2, 1.0)
    reader = reader_engine(address)
    upkeep = Upkeep(reader, writer, StorageSettings())
    with postgres.upkeep_lock(reader) as ours:
        assert ours
        assert upkeep.seal(SINCE_MS + 45 * HOUR_MS) > 0
        upkeep.account(SINCE_MS + 45 * HOUR_MS)
    writer.stop()
    return reader


WINDOW = (SINCE_MS, SINCE_MS + 2 * DAY_MS)
NEVER = (0, 1)
ASKED: dict[str, list[tuple[Any, ...]]] = {
    "entities": [(), ("cpu",)],
    "first_seen_ms": [("accelerator",), ("cpu",)],
    "latest": [("accelerator",), ("cpu",), ("host",), ("deployment",), ("probe",)],
    "highest": [("accelerator", "power_watts", SINCE_MS)],
    "latest_known": [("accelerator", ["power_watts", "encoder_ratio"], SINCE_MS)],
    "raw": [("accelerator", ["power_watts", "energy_joules_total"], None, *WINDOW), ("host", [], [], *WINDOW)],
    "read": [
        ("accelerator", ["power_watts", "energy_joules_total"], None, *WINDOW, step_ms)
        for step_ms in (90_000, HOUR_MS, SPAN_MS, DAY_MS)
    ],
    "accounts": [
        (family, None, edges_ms)
        for family in ("accelerator", "cpu", "host", "deployment")
        for edges_ms in (
            [*WINDOW],
            [*range(WINDOW[0], WINDOW[1] + 1, 5 * HOUR_MS)],
            [WINDOW[0], WINDOW[0] + 7 * HOUR_MS, WINDOW[1]],
        )
    ],
    "newest_events": [("restart",), ("nothing of the kind",)],
    "increases": [("host", ["network_rx_bytes_total"], None, *WINDOW)],
    "state_shares": [("accelerator", "throttle_reasons", None, *WINDOW, HOUR_MS)],
    "observed_seconds": [("cpu", None, *WINDOW)],
    "seen": [("accelerator", *WINDOW), ("cpu", *NEVER)],
    "extremes": [("deployment", "running_requests", [1, 2, 3, 4, 5, 6, 7, 8], *WINDOW)],
    "latency": [(None, ["ttft"], *WINDOW), (None, ["ttft"], *WINDOW, HOUR_MS), ([1], ["itl"], *WINDOW)],
    "probes": [WINDOW, NEVER],
    "probe_spend": [()],
    "events": [WINDOW, NEVER],
    "device_processes": [(1,), (999,)],
    "process_names": [()],
    "assignments": [WINDOW, NEVER],
    "health": [(SINCE_MS,), (WINDOW[1],)],
    "accounted_until": [(), ("accelerator",)],
    "facts": [()],
    "store_size": [()],
    "newest_sample_at_ms": [()],
}
NOT_ASKED = {"epoch_ms", "schema_is_current"}  # no question to a store that is filled


def test_both_databases_give_the_same_answers(tmp_path: Path, new_database: NewDatabase):
    public = {
        name
        for name, value in inspect.getmembers(queries, inspect.isfunction)
        if value.__module__ == queries.__name__ and not name.startswith("_")
    }
    assert public - NOT_ASKED == set(ASKED)
    one, other = fill(tmp_path / "vatio.db"), fill(new_database())
    for name, questions in ASKED.items():
        for arguments in questions:
            expected, found = (getattr(queries, name)(reader, *arguments) for reader in (one, other))
            if name == "store_size":
                expected, found = (frame.drop(columns="file_bytes") for frame in (expected, found))
            if isinstance(expected, pd.DataFrame):
                pd.testing.assert_frame_equal(found, expected, obj=f"{name}{arguments}")
            elif isinstance(expected, pd.Series):
                pd.testing.assert_series_equal(found, expected, obj=f"{name}{arguments}")
            else:
                assert found == expected, name
    for table in ("account", "latency_account", "block_aggregate", "accelerator_block", "entity"):
        assert _content(other, table) == _content(one, table)
    one.dispose()
    other.dispose()


def _content(reader: Engine, table: str) -> list[tuple[Any, ...]]:
    with reader.connect() as connection:
        every = [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]
    return sorted(every, key=repr)


def _partitions(reader: Engine, parent: str) -> list[str]:
    named = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:parent AS regclass)")
    with reader.connect() as connection:
        return sorted(connection.execute(named, {"parent": parent}).scalars())


@contextmanager
def opened(address: str) -> Iterator[tuple[Engine, Engine]]:
    """Writing and reading engine."""
    writer, reader = writer_engine(address), reader_engine(address)
    yield writer, reader
    writer.dispose()
    reader.dispose()


def test_months_have_partitions_of_their_own_and_go_as_a_whole(new_database: NewDatabase):
    with opened(new_database()) as (engine, reader):
        with engine.begin() as connection:
            postgres.add_partitions(connection, at(2026, 11, 30))
            postgres.add_partitions(connection, at(2026, 11, 30))
            postgres.add_partitions(connection, at(2026, 12, 1))
        months = [f"collector_tick_{month}" for month in ("2026_11", "2026_12", "2027_01", "default")]
        assert _partitions(reader, "collector_tick") == months
        with engine.begin() as connection:
            RowsAt(connection).tick(at(2026, 11, 30), at(2026, 12, 1) - 1, at(2026, 12, 1), at(2020, 1))
            assert RowsAt(connection).counts(*months) == [2, 1, 0, 1]
            assert postgres.drop_partitions_before(connection, at(2026, 12, 1) - 1) == []
            assert postgres.drop_partitions_before(connection, at(2026, 12, 1), ["collector_tick"]) == [months[0]]
            assert len(postgres.drop_partitions_before(connection, at(2026, 12, 1))) == len(postgres.PARTITIONED) - 1
            assert RowsAt(connection).counts("collector_tick") == [2]
        with engine.begin() as connection:
            postgres.drop_partitions_before(connection, at(2040, 1))
        assert _partitions(reader, "host_block") == ["host_block_default"]
        assert all(postgres.is_partition(name) for name in months)
        assert not postgres.is_partition("collector_tick")
        assert not postgres.is_partition("vacation_2026_11")


class RowsAt:
    """Ticks by their time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tick(self, *times_ms: int) -> None:
        insert_rows(
            self._connection, schema.collector_tick, [("h", "s", "", at_ms, "ok", 0.1, 1, 0, "") for at_ms in times_ms]
        )

    def counts(self, *tables: str) -> list[int]:
        return [self._connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]


def test_a_month_whose_rows_lie_in_the_default_partition_stays_there(new_database: NewDatabase):
    with opened(new_database()) as (engine, reader):
        with engine.begin() as connection:
            RowsAt(connection).tick(at(2026, 11, 3))
        with engine.begin() as connection:
            postgres.add_partitions(connection, at(2026, 11, 30))
        assert _partitions(reader, "collector_tick") == ["collector_tick_2026_12", "collector_tick_default"]
        assert _partitions(reader, "cpu_block") == ["cpu_block_2026_11", "cpu_block_2026_12", "cpu_block_default"]


def test_partitions_are_neither_made_nor_dropped_under_a_reader(new_database: NewDatabase):
    with opened(new_database()) as (engine, reader):
        with engine.begin() as connection:
            postgres.add_partitions(connection, at(2026, 11))
        with reader.connect() as reading:
            reading.execute(text("SELECT count(*) FROM collector_tick"))
            with engine.begin() as connection:
                postgres.add_partitions(connection, at(2027, 5))
            with pytest.raises(OperationalError, match="lock timeout"), engine.begin() as connection:
                postgres.drop_partitions_before(connection, at(2027, 5))
        assert len(_partitions(reader, "host_block")) == len(_partitions(reader, "collector_tick")) == 3


def test_payloads_are_not_compressed_again_in_any_partition(new_database: NewDatabase):
    with opened(new_database()) as (engine, reader):
        with engine.begin() as connection:
            postgres.add_partitions(connection, at(2026, 11))
        kept = text(
            "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            "WHERE atttypid = 'bytea'::regtype AND attstorage != 'e' AND relname LIKE '%block%'"
        )
        with reader.connect() as connection:
            assert connection.execute(kept).all() == []
            assert len(_partitions(reader, "accelerator_block")) == 3


def test_one_daemon_at_a_time_keeps_the_store_in_order(new_database: NewDatabase, tmp_path: Path):
    address = new_database()
    one, other = reader_engine(address), reader_engine(address)
    with postgres.upkeep_lock(one) as first, postgres.upkeep_lock(other) as second:
        assert (first, second) == (True, False)
    with postgres.upkeep_lock(other) as free:
        assert free
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = "
        with one.connect() as connection:
            database = connection.execute(text("SELECT current_database()")).scalar_one()
            assert connection.execute(text(f"{waiting}'{database}'")).scalar_one() == 0
    engine = writer_engine(tmp_path / "vatio.db")
    with postgres.upkeep_lock(engine) as alone, postgres.upkeep_lock(engine) as again:
        assert alone
        assert again
    for used in (one, other, engine):
        used.dispose()


def test_without_citus_nothing_is_distributed(new_database: NewDatabase):
    with opened(new_database()) as (engine, _), engine.begin() as connection:
        assert postgres.distribute(connection) is False


def test_one_host_name_writes_once(new_database: NewDatabase):
    address = new_database()
    with writing(address, host="a"), writing(address, host="b"):
        with (
            pytest.raises(
                StoreLocked, match=r"another Vatio daemon writes as host 'a': .* collectors\.host_name"
            ) as told,
            writing(address, host="a"),
        ):
            pass
        assert "\n" not in str(told.value)
    with writing(address, host="a"):
        pass


DAEMON = """
import sys
from core.readings import AcceleratorSample, CpuSample, Entity, Event, Latency, LatencySample, Severity
from storage.batch import Batch
from storage.session import writing
url, host, forward = sys.argv[1], sys.argv[2], sys.argv[3] == "forward"
names = list(range(30)) if forward else list(reversed(range(30)))
sys.stdin.readline()
with writing(url, host=host) as writer:
    print("open", flush=True)
    sys.stdin.readline()
    for n in range(20):
        writer.submit(Batch(tuple(
            LatencySample(key=host, kind=Latency.TTFT, observed_at_ms=100 * n + name, sum_seconds=None,
                upper_bounds_seconds=(0.1 + name, float(n + 100), float("inf")), increments=(1.0, 0.0, 0.0))
            for name in names
        )))
    writer.wait_below(1)  # a transaction of their own
    for n in range(20):
        readings = []
        for name in names:
            key = f"shared-{n}-{name}"
            readings.append(Entity(observed_at_ms=n, family="accelerator", key=key, host=host, labels={"by": host}))
            readings.append(AcceleratorSample(key=f"{host}-{name}", observed_at_ms=n, power_watts=1.0))
            readings.append(AcceleratorSample(key=key, observed_at_ms=n, power_watts=2.0))
            readings.append(CpuSample(key=f"undescribed-{n}-{name}", observed_at_ms=n))
            readings.append(Event(observed_at_ms=n, kind="x", severity=Severity.INFO, message=host))
        writer.submit(Batch(tuple(readings)))
    writer.wait_below(1)
print(writer.batches_dropped, writer.waiting)
"""


def test_daemons_that_start_and_write_at_once(new_database: NewDatabase):
    address = new_database(migrated=False)
    words = [(sys.executable, "-c", DAEMON, address, host, way) for host, way in (("a", "forward"), ("b", "backward"))]
    pipe = subprocess.PIPE
    daemons = [subprocess.Popen(each, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for each in words]
    answers: dict[int, tuple[str, str]] = {}
    together = threading.Barrier(len(daemons))

    def talk(number: int) -> None:
        daemon = daemons[number]
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        daemon.stdin.write("start\n")
        daemon.stdin.flush()
        daemon.stdout.readline()
        together.wait(30)
        answers[number] = daemon.communicate("write\n", timeout=60)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(daemons))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {0: ("0 0\n", ""), 1: ("0 0\n", "")}
    with opened(address) as (_, reader), reader.connect() as connection:
        counted = {
            "accelerator_sample": 20 * 30 * 3,  # those of either, and those of both once
            "cpu_sample": 20 * 30,
            "latency_sample": 20 * 30 * 2,
            "event": 20 * 30 * 2,
            "entity": 20 * 30 * 2 + 60 + 2,
            "histogram_bounds": 20 * 30,
        }
        assert dict(zip(counted, RowsAt(connection).counts(*counted), strict=True)) == counted
        statistics = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert connection.execute(statistics).scalar_one() == 0


def test_two_ledgers_share_one_cap(new_database: NewDatabase):
    address = new_database()
    with writing(address, host="a") as one, writing(address, host="b") as other:
        granted: list[bool] = []

        def reserve(writer: Writer) -> None:
            granted.extend(StoredSpend(writer).reserve("p", "2026-11", 0.125, 2.0) for _ in range(20))

        threads = [threading.Thread(target=reserve, args=(writer,)) for writer in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(granted) == 16


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_a_server_that_goes_away_costs_nothing(postgresql: PostgreSQL, new_database: NewDatabase, tmp_path: Path):
    address = new_database()
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    reader = reader_engine(address)

    def batch(n: int) -> Batch:
        happened = Event(observed_at_ms=n, kind="x", severity=Severity.INFO, message=str(n))
        return Batch((CpuSample(key=f"c{n}", observed_at_ms=n, power_watts=1.0), happened))

    with writing(address, host="a", spool=spool) as writer:
        writer._flush_seconds, writer._retry_seconds = 0.01, 0.05
        writer.submit(batch(0))
        assert until(lambda: len(queries.entities(reader)) == 1)
        postgresql.stop()
        try:
            for n in range(1, 6):
                writer.submit(batch(n))
            assert until(lambda: spool.waiting == 5)
            with pytest.raises(StoreError, match=r"cannot be used .*: start the server"):
                queries.entities(reader)
            with pytest.raises(OperationalError):
                writer.call(lambda _: None)
        finally:
            postgresql.start()
        writer.submit(batch(6))
        assert until(lambda: len(queries.entities(reader)) == 7)
        assert writer.batches_dropped == spool.waiting == 0
        assert sorted(queries.events(reader, 0, 10)["message"], key=int) == [str(n) for n in range(7)]
        with pytest.raises(StoreLocked), writing(address, host="a"):  # it has asked for its name again
            pass
    reader.dispose()


@pytest.fixture(params=["no such database", "no such user", "no server", "no socket", "no such host", "no such option"])
def wrong_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    def live() -> str:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        return server.url("nowhere")

    return {
        "no such database": live,
        "no such user": lambda: live().replace("nowhere", "postgres").replace("vatio@", "nobody@"),
        "no server": lambda: "postgresql+psycopg://vatio@127.0.0.1:1/vatio",
        "no socket": lambda: f"postgresql+psycopg://vatio@/vatio?host={tmp_path}",
        "no such host": lambda: "postgresql+psycopg://vatio@vatio.invalid/vatio",
        "no such option": lambda: "postgresql+psycopg://vatio@/vatio?colour=red",
    }[request.param]()


def test_a_database_that_cannot_be_reached_is_said_in_one_line(wrong_address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    reader = reader_engine(wrong_address)
    for use in (lambda: reader.connect(), lambda: writing(wrong_address, host="a").__enter__()):
        with pytest.raises(
            StoreError, match=r"^postgresql\+psycopg://\S+ cannot be used \(.+\): start the server"
        ) as told:
            use()
        assert "\n" not in str(told.value)
        assert "hunter2" not in str(told.value)


def test_no_password_is_repeated():
    for address in (
        "postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
        "postgresql+psycopg://u@127.0.0.1:1/x?password=hunter2",
    ):
        with pytest.raises(StoreError) as told:
            reader_engine(address).connect()
        assert "hunter2" not in str(told.value)
    with pytest.raises(StoreError, match="expected postgresql") as told:
        reader_engine("postgresql+psycopg://u:hunter2@host:port/x")
    assert "hunter2" not in str(told.value)


def test_the_daemon_says_so_and_ends(tmp_path: Path):
    config = tmp_path / "vatio.toml"
    config.write_text('[storage]\nurl = "postgresql+psycopg://vatio@127.0.0.1:1/vatio"\n')
    ended = run(config, "run")
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("postgresql+psycopg://vatio@127.0.0.1:1/vatio cannot be used (")
    assert not ended.stdout


def test_a_mistake_in_a_question_is_no_matter_of_the_store(new_database: NewDatabase):
    with opened(new_database()) as (_, reader), reader.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text("SELECT nothing FROM nowhere"))
