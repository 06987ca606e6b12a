from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from core.errors import StoreError
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
    Outcome,
    Severity,
)
from storage import queries
from storage.batch import Batch
from storage.engine import Address, reader_engine
from storage.rows import open_assignments
from storage.spend import StoredSpend
from storage.writer import Writer
from tests.conftest import START_MS, Store


def gpu(at_ms: int = START_MS, key: str = "GPU-1", **values: float) -> AcceleratorSample:
    return AcceleratorSample(key=key, observed_at_ms=at_ms, **values)  # type: ignore[arg-type]


def rows(store: Store, table: str) -> int:
    with store.reader.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_a_sample_comes_back_as_it_went_in(store: Store):
    store.write(gpu(power_watts=627.32, utilization_ratio=0.0, memory_used_bytes=80 << 30))
    frame = queries.latest(store.reader, "accelerator")
    assert frame["power_watts"].item() == 627.32
    assert frame["utilization_ratio"].item() == 0.0
    assert frame["memory_used_bytes"].item() == 80 << 30
    assert frame["temperature_celsius"].isna().item()


@pytest.mark.parametrize(
    "name",
    ["'; DROP TABLE entity; --", '"', "\\", "%s :name ?1 {x}", "a' OR '1'='1", "\n", "<b>", "\N{SNOWMAN}" * 1_000],
)
def test_a_name_from_outside_is_never_read_as_sql(store: Store, name: str):
    store.write(
        Entity(family="accelerator", key=name, host=name, observed_at_ms=START_MS, labels={"model": name, name: name}),
        gpu(key=name, power_watts=1.0),
        gpu(key="GPU-1", power_watts=2.0),
        Event(
            observed_at_ms=START_MS,
            kind="xid",
            severity=Severity.INFO,
            message=name,
            family="accelerator",
            key=name,
        ),
    )
    entities = queries.entities(store.reader, "accelerator").set_index("key")
    assert set(entities.index) == {name, "GPU-1"}
    assert (entities.loc[name, "host"], entities.loc[name, "labels"]) == (name, {"model": name, name: name})
    assert queries.latest(store.reader, "accelerator")["power_watts"].to_list() == [1.0, 2.0]
    assert queries.events(store.reader, START_MS, START_MS + 1)["message"].to_list() == [name]


def test_the_same_sample_twice_is_stored_once_and_the_first_stays(store: Store):
    store.write(gpu(power_watts=100.0))
    store.write(gpu(power_watts=200.0))
    assert rows(store, "accelerator_sample") == 1
    assert queries.latest(store.reader, "accelerator")["power_watts"].item() == 100.0


def test_nan_and_infinity_are_unknown(store: Store):
    store.write(gpu(power_watts=float("nan"), temperature_celsius=float("inf")))
    frame = queries.latest(store.reader, "accelerator")
    assert frame[["power_watts", "temperature_celsius"]].isna().all(axis=None)


def test_a_changed_driver_becomes_an_event(store: Store):
    def described(at_ms: int, driver: str) -> Entity:
        return Entity(observed_at_ms=at_ms, family="accelerator", key="GPU-1", host="box", labels={"driver": driver})

    store.write(described(START_MS, "590.48"))
    store.write(described(START_MS + 1, "590.48"))
    store.write(described(START_MS + 2, "595.10"))
    events = queries.events(store.reader, START_MS, START_MS + 10)
    assert events["message"].tolist() == ["driver changed from 590.48 to 595.10"]
    assert events["key"].tolist() == ["GPU-1"]


def test_events_and_processes_are_kept(store: Store):
    store.write(
        Event(
            observed_at_ms=START_MS,
            kind="xid",
            severity=Severity.CRITICAL,
            message="fell off the bus",
            family="accelerator",
            key="GPU-1",
            code=79,
        ),
        DeviceProcess(key="GPU-1", observed_at_ms=START_MS, pid=4242, name="python", memory_used_bytes=1 << 30),
    )
    assert queries.events(store.reader, START_MS, START_MS + 1)["code"].tolist() == [79]
    gpu_id = queries.entities(store.reader, "accelerator")["entity_id"].item()
    assert queries.device_processes(store.reader, gpu_id)["pid"].tolist() == [4242]


def test_names_of_processes_are_those_of_the_last_look_at_each_device(store: Store):
    store.write(
        DeviceProcess(key="A", observed_at_ms=START_MS, pid=1, name="gone"),
        DeviceProcess(key="A", observed_at_ms=START_MS + 1000, pid=2, name="python"),
        DeviceProcess(key="A", observed_at_ms=START_MS + 1000, pid=3, name=""),
        DeviceProcess(key="B", observed_at_ms=START_MS, pid=1, name="vllm"),
    )
    keys = queries.entities(store.reader).set_index("entity_id")["key"]
    found = queries.process_names(store.reader)
    assert [*zip(found["entity_id"].map(keys), found["name"], strict=True)] == [
        ("A", "python"),
        ("A", ""),
        ("B", "vllm"),
    ]


def assigned(at_ms: int, *targets: str, origin: str = "processes") -> Assignment:
    return Assignment(
        deployment_key="s m",
        target_family="accelerator",
        target_keys=targets,
        origin=origin,  # type: ignore[arg-type]
        observed_at_ms=at_ms,
    )


def test_assignments_open_and_close(store: Store):
    store.write(gpu(key="A"), gpu(key="B"))
    store.write(assigned(START_MS, "A", "B"))
    store.write(assigned(START_MS + 1000, "A"))
    store.write(assigned(START_MS + 2000))
    frame = queries.assignments(store.reader, START_MS, START_MS + 5000)
    seconds = (frame["valid_to_at"] - frame["valid_from_at"]).dt.total_seconds().tolist()
    assert sorted(seconds) == [1.0, 2.0]


def test_an_assignment_said_again_is_one(store: Store):
    store.write(assigned(START_MS, "A"))
    store.write(assigned(START_MS + 1000, "A"))
    frame = queries.assignments(store.reader, START_MS, START_MS + 5000)
    assert len(frame) == 1
    assert frame["valid_to_at"].isna().all()


def test_an_assignment_stamped_before_the_one_it_ends_costs_nothing_else(store: Store):
    store.write(assigned(START_MS + 10, "A"))
    store.write(assigned(START_MS, "B"), gpu(key="C"))
    frame = queries.assignments(store.reader, START_MS, START_MS + 5000)
    assert (frame["valid_to_at"].dropna() >= frame["valid_from_at"][frame["valid_to_at"].notna()]).all()
    assert frame["valid_to_at"].isna().sum() == 1
    assert set(queries.entities(store.reader, "accelerator")["key"]) == {"A", "B", "C"}


def test_an_assignment_that_ends_and_begins_in_one_millisecond_goes_on(store: Store):
    store.write(assigned(START_MS, "A"), assigned(START_MS), assigned(START_MS, "A", origin="labels"))
    frame = queries.assignments(store.reader, START_MS, START_MS + 5000)
    assert frame["origin"].tolist() == ["labels"]
    assert frame["valid_to_at"].isna().all()


def test_an_assignment_ends_when_it_was_last_seen_and_not_before_it_began(store: Store):
    store.write(assigned(START_MS, "A"), assigned(START_MS + 9_000, "A", "B"), assigned(START_MS + 5_000))
    frame = queries.assignments(store.reader, START_MS - 1, START_MS + 50_000)
    seconds = (frame["valid_to_at"] - frame["valid_from_at"]).dt.total_seconds().tolist()
    assert sorted(seconds) == [0.0, 5.0]


def test_what_an_earlier_daemon_left_open_and_when_its_deployment_was_last_seen(store: Store):
    store.write(assigned(START_MS, "B", "A"), DeploymentSample(key="s m", observed_at_ms=START_MS + 7_000))
    other = replace(assigned(START_MS + 500, "A", origin="labels"), deployment_key="s n")
    store.write(other, replace(assigned(START_MS, "A"), deployment_key="s o"))
    store.write(replace(assigned(START_MS + 900), deployment_key="s o"))
    left = store.writer.call(lambda connection: open_assignments(connection, "box"))
    assert left == [assigned(START_MS + 7_000, "A", "B"), other]


def test_health_is_stored(store: Store):
    report = TickReport(
        host="box",
        source="nvidia",
        target="",
        scheduled_at_ms=START_MS,
        outcome=Outcome.FAILED,
        duration_seconds=0.5,
        ticks_missed=2,
        error="GPU is lost",
    )
    status = SourceStatus(
        host="box", source="amd", available=False, absent=True, reason="no ROCm", remedy="", checked_at_ms=START_MS
    )
    store.submit(Batch(ticks=(report,), statuses=(status,)))
    health = queries.health(store.reader, START_MS).set_index("source")
    assert health.loc["nvidia", "error"] == "GPU is lost"
    assert health.loc["nvidia", "ticks_missed"] == 2
    assert health.loc["amd", "reason"] == "no ROCm"
    assert health.loc["amd", "absent"] == 1


def test_a_locked_store_loses_nothing(store: Store):
    failures = iter([True] * 3)

    @event.listens_for(store.writer.engine, "begin")
    def locked(connection: object) -> None:
        if next(failures, False):
            raise OperationalError("BEGIN", None, Exception("database is locked"))

    for n in range(5):
        store.writer.submit(Batch((gpu(START_MS + n),)))
    deadline = time.monotonic() + 10
    while rows(store, "accelerator_sample") < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rows(store, "accelerator_sample") == 5
    assert store.writer.batches_dropped == 0


def test_a_table_that_is_away_for_a_while_costs_nothing(store: Store):
    def rename(before: str, after: str) -> None:
        store.writer.call(lambda connection: connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}")))

    rename("cpu_sample", "elsewhere")
    store.writer.submit(Batch((CpuSample(key="c", observed_at_ms=START_MS),)))
    time.sleep(0.1)
    rename("elsewhere", "cpu_sample")
    store.settle()
    deadline = time.monotonic() + 10
    while not rows(store, "cpu_sample") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rows(store, "cpu_sample") == 1
    assert store.writer.batches_dropped == 0


def test_a_full_queue_drops_the_oldest_and_counts(open_store: Callable[[], Store]):
    store = open_store()
    idle = Writer(store.writer.engine, host="box", max_queued=3)
    for n in range(5):
        idle.submit(Batch((gpu(START_MS + n),)))
    assert idle.batches_dropped == 2
    assert [batch.readings[0].observed_at_ms for batch in idle._queue] == [START_MS + 2, START_MS + 3, START_MS + 4]  # type: ignore[union-attr]


def test_one_batch_that_cannot_be_stored_costs_no_other(store: Store):
    poison = HostSample(key="box", observed_at_ms=START_MS, memory_used_bytes=1 << 70)
    for batch in (Batch((gpu(),)), Batch((poison,)), Batch((CpuSample(key="c", observed_at_ms=START_MS),))):
        store.writer.submit(batch)
    store.settle()
    assert rows(store, "accelerator_sample") == rows(store, "cpu_sample") == 1
    assert store.writer.batches_dropped == 1
    store.write(gpu(START_MS + 1))
    assert queries.facts(store.reader)["batches_dropped"] == "1"


def test_ids_are_found_again_after_a_restart(open_store: Callable[[], Store]):
    first = open_store()
    first.write(gpu(START_MS))
    first.writer.stop()
    second = open_store()
    second.write(gpu(START_MS + 1))
    assert len(queries.entities(second.reader)) == 1
    assert rows(second, "accelerator_sample") == 2


def test_spend_stays_under_its_cap_and_survives_a_restart(open_store: Callable[[], Store]):
    first = open_store()
    spend = StoredSpend(first.writer)
    assert spend.reserve("probe", "2026-11", 0.6, 1.0)
    spend.settle("probe", "2026-11", 0.6, 0.5)
    first.writer.stop()
    again = StoredSpend(open_store().writer)
    assert not again.reserve("probe", "2026-11", 0.51, 1.0)
    assert again.reserve("probe", "2026-11", 0.5, 1.0)
    assert again.reserve("probe", "2026-12", 1.0, 1.0)


def test_a_ledger_that_cannot_be_written_allows_nothing(store: Store):
    with store.writer.engine.begin() as connection:
        connection.execute(text("DROP TABLE probe_spend"))
    with pytest.raises(StoreError, match="no probe is sent"):
        StoredSpend(store.writer).reserve("probe", "2026-11", 0.1, 1.0)


KILLED = """
import itertools, sys
from pathlib import Path
from core.readings import AcceleratorSample
from storage.engine import writer_engine
from storage.migrate import upgrade
from storage.batch import Batch
from storage.writer import Writer
engine = writer_engine(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
upgrade(engine)
writer = Writer(engine, host="box", flush_seconds=0.02)
writer.start()
for n in itertools.count():
    writer.submit(Batch(tuple(AcceleratorSample(key=f"G{g}", observed_at_ms=n, power_watts=1.0) for g in range(8))))
    writer.wait_below(20)
    print(n, flush=True)
"""


@pytest.mark.parametrize("lines", [5, 200])
def test_kill_nine_while_writing_leaves_a_sound_database(address: Address, lines: int):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(address)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        submitted = [int(process.stdout.readline()) for _ in range(lines)][-1]
        process.send_signal(signal.SIGKILL)
        submitted += len(process.stdout.readlines())
    engine = reader_engine(address)
    with engine.connect() as connection:
        if isinstance(address, Path):
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        stored, complete = connection.execute(
            text("SELECT count(DISTINCT observed_at_ms), count(*) FROM accelerator_sample")
        ).one()
    engine.dispose()
    assert complete == stored * 8  # a batch is there whole or not at all
    assert submitted - stored <= 45  # the flush under way and the queue that wait_below allows
