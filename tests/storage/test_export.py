from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update

from core import VERSION
from core.catalog import FAMILIES
from core.errors import ConfigError
from core.health import TickReport
from core.readings import (
    AcceleratorSample,
    DeploymentSample,
    Entity,
    Event,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Severity,
)
from core.settings import StorageSettings
from storage import export as module
from storage import queries, schema
from storage.batch import Batch
from storage.export import export
from storage.export_columns import CHOICES, Wanted, left_out
from storage.upkeep import Upkeep
from storage.writer import write_fact
from tests.conftest import Store

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 20_371 * DAY_MS
STEP_MS = 10 * MINUTE_MS
END_MS = START_MS + 3 * DAY_MS
METRICS = [metric.name for metric in FAMILIES["accelerator"].metrics]


def gpu(key: str, at_ms: int, **values: Any) -> AcceleratorSample:
    return AcceleratorSample(key=key, observed_at_ms=at_ms, **values)


def three_days() -> list[AcceleratorSample]:
    """Two GPUs; one is off for a while, and each metric is unknown now and then or always."""
    samples = []
    for n, at_ms in enumerate(range(START_MS, END_MS, STEP_MS)):
        samples.append(
            gpu(
                "A",
                at_ms,
                power_watts=100.0 + n / 7,
                energy_joules_total=(n % 250) * 1e15 / 3,
                processes=None if n % 3 else 0,
                memory_used_bytes=(80 << 30) + n,
            )
        )
        if not 100 <= n < 200:
            samples.append(gpu("B", at_ms + 1, power_watts=None if n % 2 else 0.0, throttle_reasons=n % 5))
    return samples


def describe(store: Store) -> None:
    labels = {"vendor": "NVIDIA", "model": "H100, 80 GB"}
    store.write(
        *(Entity(observed_at_ms=START_MS, family="accelerator", key=k, host="box", labels=labels) for k in "AB")
    )


def keep(store: Store, now_ms: int) -> Upkeep:
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.seal(now_ms)
    return upkeep


def hot(store: Store) -> None:
    store.write(*three_days())


def sealed(store: Store) -> None:
    store.write(*three_days())
    keep(store, END_MS + DAY_MS)


def mixed(store: Store) -> None:
    """Most is sealed; some came late into sealed spans, and the end is still rows."""
    every = three_days()
    late = every[50:60]
    store.write(*every[:50], *every[60:])
    keep(store, START_MS + 2 * DAY_MS)
    store.write(*late)


def table(store: Store, file: Path, wanted: Wanted) -> Any:
    rows = export(store.reader, wanted, str(file), "parquet")
    read = pq.read_table(file)
    assert read.num_rows == rows
    return read


def cells(store: Store, file: Path, wanted: Wanted) -> list[dict[str, str]]:
    rows = export(store.reader, wanted, str(file), "csv")
    with file.open(newline="") as lines:
        read = list(csv.DictReader(lines))
    assert len(read) == rows
    return read


def everything(family: str, **more: Any) -> Wanted:
    return Wanted(family, START_MS - DAY_MS, END_MS + DAY_MS, **more)


@pytest.mark.parametrize("laid_down", [hot, sealed, mixed])
def test_what_is_exported_is_what_was_written(store: Store, tmp_path: Path, laid_down: Callable[[Store], None]):
    describe(store)
    laid_down(store)
    wanted = {(s.key, s.observed_at_ms): {name: getattr(s, name) for name in METRICS} for s in three_days()}
    read = table(store, tmp_path / "a.parquet", everything("accelerator"))
    assert read.schema.field("time").type == pa.timestamp("ms", "UTC")
    assert read.schema.field("power_watts").type == pa.float64()
    assert read.schema.field("memory_used_bytes").type == pa.int64()
    times = read["time"].cast(pa.int64()).to_pylist()
    found = {
        (row["entity"], at_ms): {name: row[name] for name in METRICS}
        for row, at_ms in zip(read.to_pylist(), times, strict=True)
    }
    assert found == wanted
    assert read.num_rows == len(wanted)
    assert {(row["host"], row["vendor"], row["model"]) for row in read.to_pylist()} == {
        ("box", "NVIDIA", "H100, 80 GB")
    }

    spelt = {}
    for row in cells(store, tmp_path / "a.csv", everything("accelerator")):
        assert row["time"].endswith("Z")
        at_ms = int(np.datetime64(row["time"].removesuffix("Z"), "ms").astype("int64"))
        spelt[row["entity"], at_ms] = {n: None if row[n] == "" else float(row[n]) for n in METRICS}
    assert spelt == wanted
    text = (tmp_path / "a.csv").read_text().lower()
    assert "nan" not in text
    assert "null" not in text


def test_the_window_is_half_open(store: Store, tmp_path: Path):
    sealed(store)
    wanted = Wanted("accelerator", START_MS + STEP_MS, START_MS + 3 * STEP_MS, keys=("A",))
    times = table(store, tmp_path / "a.parquet", wanted)["time"].cast(pa.int64()).to_pylist()
    assert times == [START_MS + STEP_MS, START_MS + 2 * STEP_MS]


def test_only_the_metrics_and_entities_asked_for(store: Store, tmp_path: Path):
    hot(store)
    wanted = everything("accelerator", metrics=("power_watts",), keys=("B",))
    read = table(store, tmp_path / "a.parquet", wanted)
    assert read.column_names == ["entity", "host", "vendor", "model", "time", "power_watts"]
    assert set(read["entity"].to_pylist()) == {"B"}
    assert set(read["power_watts"].to_pylist()) == {0.0, None}
    assert read["vendor"].to_pylist() == [None] * read.num_rows  # never described


def test_a_parquet_file_says_what_it_holds(store: Store, tmp_path: Path):
    store.writer.call(lambda connection: write_fact(connection, "simulated", "true"))
    hot(store)
    schema_of = table(store, tmp_path / "a.parquet", everything("accelerator")).schema
    facts = {name.decode(): text.decode() for name, text in schema_of.metadata.items()}
    assert facts["vatio.simulated"] == "true"
    assert facts["vatio.version"] == VERSION
    assert facts["vatio.window_start"] == "2025-10-09T00:00:00Z"
    assert facts["vatio.family"] == "accelerator"
    power = FAMILIES["accelerator"].metric("power_watts")
    assert schema_of.field("power_watts").metadata == {b"unit": b"W", b"help": power.help.encode()}
    assert json.loads(facts["vatio.columns"])["utilization_ratio"]["unit"] == "1"
    assert all(schema_of.field(name).metadata[b"help"] for name in schema_of.names)


def test_a_csv_file_of_a_simulated_store_says_so_in_every_row(store: Store, tmp_path: Path):
    hot(store)
    assert "simulated" not in cells(store, tmp_path / "a.csv", everything("accelerator"))[0]
    store.writer.call(lambda connection: write_fact(connection, "simulated", "true"))
    assert {row["simulated"] for row in cells(store, tmp_path / "a.csv", everything("accelerator"))} == {"true"}


@pytest.mark.parametrize("family", CHOICES)
@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_an_empty_store_gives_a_file_with_columns_and_no_rows(
    store: Store, tmp_path: Path, family: str, file_format: str
):
    file = tmp_path / "a"
    assert export(store.reader, everything(family), str(file), file_format) == 0
    assert file.stat().st_size > 20


@pytest.mark.parametrize("laid_down", [hot, sealed, mixed])
@pytest.mark.parametrize("step_ms", [HOUR_MS, 7 * MINUTE_MS, 8 * HOUR_MS, 5 * DAY_MS])
def test_steps_are_those_of_one_question_however_they_are_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, laid_down: Callable[[Store], None], step_ms: int
):
    laid_down(store)
    monkeypatch.setattr(module, "SHORTEST_MS", 3 * HOUR_MS)
    monkeypatch.setattr(module, "LONGEST_MS", 5 * HOUR_MS)
    metrics = ("power_watts", "energy_joules_total")
    wanted = Wanted("accelerator", START_MS, END_MS, metrics, step_seconds=step_ms / 1000)
    read = table(store, tmp_path / "a.parquet", wanted)
    frame = queries.read(store.reader, "accelerator", metrics, None, START_MS, END_MS, step_ms)
    assert read["time"].cast(pa.int64()).to_pylist() == queries.epoch_ms(frame["bucket_at"]).tolist()
    for name in ("samples", "power_watts", "power_watts_min", "power_watts_max", "energy_joules_total"):
        column = read[name].to_numpy(zero_copy_only=False).astype("float64")
        np.testing.assert_allclose(column, frame[name].to_numpy("float64"), rtol=1e-12, equal_nan=True)


def test_states_have_no_mean(store: Store, tmp_path: Path):
    wanted = everything("accelerator", step_seconds=60.0)
    assert "performance_state" in left_out(wanted)
    assert "performance_state" not in table(store, tmp_path / "a.parquet", wanted).column_names
    assert left_out(everything("accelerator")) == []
    with pytest.raises(ConfigError, match="performance_state is a state"):
        export(store.reader, everything("accelerator", step_seconds=60.0, metrics=("performance_state",)), "-", "csv")


def served(store: Store) -> list[LatencySample]:
    bounds = (0.1, 1.0, math.inf)
    samples = [
        LatencySample(
            key="s m",
            kind=kind,
            observed_at_ms=at_ms,
            upper_bounds_seconds=bounds if n < 200 else (0.5, math.inf),
            increments=(n % 4, 1.0, 0.0) if n < 200 else (2.0, n % 3),
            sum_seconds=None if n == 5 else n / 3,
        )
        for n, at_ms in enumerate(range(START_MS, END_MS, STEP_MS))
        for kind in (Latency.TTFT, Latency.E2E)
    ]
    store.write(DeploymentSample(key="s m", observed_at_ms=START_MS, running_requests=1), *samples)
    return samples


@pytest.mark.parametrize("until_ms", [START_MS, START_MS + 30 * HOUR_MS, END_MS + DAY_MS])
def test_histograms_come_back_as_they_were(store: Store, tmp_path: Path, until_ms: int):
    samples = served(store)
    keep(store, until_ms)
    wanted = {
        (s.kind.value, s.observed_at_ms): (s.upper_bounds_seconds, list(s.increments), s.sum_seconds) for s in samples
    }
    read = table(store, tmp_path / "a.parquet", everything("latency"))
    times = read["time"].cast(pa.int64()).to_pylist()
    found = {
        (row["kind"], at_ms): (tuple(row["upper_bounds_seconds"]), row["increments"], row["sum_seconds"])
        for row, at_ms in zip(read.to_pylist(), times, strict=True)
    }
    assert found == wanted
    assert read["observations"].to_pylist() == [sum(row) for row in read["increments"].to_pylist()]
    (*_, last) = cells(store, tmp_path / "a.csv", everything("latency", metrics=("ttft",)))
    assert last["kind"] == "ttft"
    assert json.loads(last["upper_bounds_seconds"]) == [0.5, "inf"]


def test_histograms_by_step_add_up(store: Store, tmp_path: Path):
    served(store)
    keep(store, START_MS + 30 * HOUR_MS)
    wanted = Wanted("latency", START_MS, END_MS, ("e2e",), step_seconds=5 * 3600)
    read = table(store, tmp_path / "a.parquet", wanted)
    frame = queries.latency(store.reader, None, ["e2e"], START_MS, END_MS, 5 * HOUR_MS)
    assert read["increments"].to_pylist() == [row.tolist() for row in frame["increments"]]
    assert read["time"].cast(pa.int64()).to_pylist() == queries.epoch_ms(frame["bucket_at"]).tolist()


def test_events_with_and_without_an_entity_a_page_at_a_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    events = [
        Event(
            observed_at_ms=START_MS + n // 5,  # several at once
            kind="xid",
            severity=Severity.CRITICAL,
            message=f"event {n}",
            family="accelerator" if n % 2 else "",
            key="A" if n % 2 else "",
            code=n if n % 3 else None,
        )
        for n in range(20)
    ]
    store.write(*events)
    read = table(store, tmp_path / "a.parquet", everything("events")).to_pylist()
    assert [row["message"] for row in read] == [event.message for event in events]
    assert [row["code"] for row in read] == [event.code for event in events]
    assert {(row["entity"], row["family"]) for row in read} == {("A", "accelerator"), (None, None)}
    only = table(store, tmp_path / "a.parquet", everything("events", keys=("A",)))
    assert only.num_rows == 10


def test_ticks_a_page_at_a_time(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    ticks = tuple(
        TickReport(
            host="box",
            source=source,
            target="",
            scheduled_at_ms=START_MS + n * 1000,
            outcome=Outcome.OK,
            duration_seconds=0.25,
            readings=n,
        )
        for n in range(7)
        for source in ("cpu", "host", "nvidia")
    )
    store.submit(Batch(ticks=ticks))
    read = table(store, tmp_path / "a.parquet", everything("ticks")).to_pylist()
    assert [(row["source"], row["readings"], row["error"]) for row in read] == [
        (tick.source, tick.readings, "") for tick in ticks
    ]


def test_probes_with_what_a_spreadsheet_must_not_run(store: Store, tmp_path: Path):
    store.write(
        ProbeSample(key="=1+1", observed_at_ms=START_MS, outcome=Outcome.FAILED, error="@SUM(A1)"),
        ProbeSample(key="=1+1", observed_at_ms=START_MS + 1, outcome=Outcome.OK, ttft_seconds=0.5, output_tokens=0),
    )
    failed, answered = cells(store, tmp_path / "a.csv", everything("probe"))
    assert (failed["entity"], failed["error"], failed["ttft_seconds"]) == ("'=1+1", "'@SUM(A1)", "")
    assert (answered["outcome"], answered["error"], answered["output_tokens"]) == ("ok", "", "0")
    assert answered["token_count_estimated"] == "false"
    read = table(store, tmp_path / "a.parquet", everything("probe", metrics=("ttft_seconds",)))
    assert read["entity"].to_pylist() == ["=1+1", "=1+1"]
    assert read["ttft_seconds"].to_pylist() == [None, 0.5]
    (row,) = cells(store, tmp_path / "b.csv", everything("probe", step_seconds=60.0))
    assert (row["samples"], row["ttft_seconds"]) == ("2", "0.5")


def test_accounts_of_hours_and_days(store: Store, tmp_path: Path):
    sealed(store)
    keep(store, END_MS).account(END_MS + HOUR_MS)
    hours = table(store, tmp_path / "a.parquet", everything("accounts", keys=("A",)))
    days = table(store, tmp_path / "b.parquet", everything("accounts", keys=("A",), step_seconds=86_400.0))
    assert hours.num_rows == 72
    assert days.num_rows == 3
    assert sum(hours["energy_joules"].to_pylist()) == pytest.approx(sum(days["energy_joules"].to_pylist()))
    assert hours.schema.field("energy_joules").metadata[b"unit"] == b"J"
    only = cells(store, tmp_path / "c.csv", everything("accounts", metrics=("energy_source",)))
    assert list(only[0]) == ["family", "entity", "host", "vendor", "model", "time", "energy_source"]


def test_a_damaged_payload_is_unknown_and_costs_nothing_else(store: Store, tmp_path: Path):
    sealed(store)
    of = schema.blocks["accelerator"]
    damage = update(of).where(of.c.span_ms == START_MS).values(power_watts=b"\x00" * 40)
    store.writer.call(lambda connection: connection.execute(damage))
    read = table(store, tmp_path / "a.parquet", everything("accelerator", keys=("A",)))
    power = read["power_watts"].to_pylist()
    assert power[:48] == [None] * 48
    assert None not in power[48:]
    assert read["energy_joules_total"].null_count == 0


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (everything("accelerator", metrics=("watts",)), "accelerator has no 'watts', but utilization_ratio"),
        (everything("accelerator", keys=("C",)), "no 'C' among accelerator, but A, B"),
        (Wanted("cpu", 5, 5), "--to .* is not after --from"),
        (everything("events", metrics=("code",)), "leave out --metrics and --step"),
        (everything("ticks", keys=("A",)), "leave out --entity"),
        (everything("accounts", step_seconds=60.0), "expected 3600"),
        (everything("latency", metrics=("power_watts",)), "latency has no 'power_watts', but ttft"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_no_file(store: Store, tmp_path: Path, wanted: Wanted, said: str):
    store.write(gpu("A", START_MS), gpu("B", START_MS))
    with pytest.raises(ConfigError, match=said):
        export(store.reader, wanted, str(tmp_path / "out" / "a.csv"), "csv")
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match=said):
        export(store.reader, wanted, str(tmp_path / "out" / "a.csv"), "csv")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_keeps_its_content_until_the_new_one_is_complete(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hot(store)
    file = tmp_path / "out" / "a.csv"
    file.parent.mkdir()
    file.write_text("before")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store.reader, everything("accelerator"), str(file), "csv", told=stopped)
    assert file.read_text() == "before"
    assert list(file.parent.iterdir()) == [file]


def test_a_pipe_is_written_to_and_stays_one(store: Store, tmp_path: Path):
    hot(store)
    pipe, link, read = tmp_path / "pipe", tmp_path / "link", []
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for file_format in ("csv", "parquet"):
        reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
        reader.start()
        export(store.reader, everything("accelerator"), str(link), file_format)
        reader.join(20)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert read[0].startswith(b'"entity"')
    assert read[1][:4] == read[1][-4:] == b"PAR1"


def test_what_a_link_points_to_is_replaced(store: Store, tmp_path: Path):
    hot(store)
    (tmp_path / "real.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to("real.csv")
    export(store.reader, everything("accelerator"), str(tmp_path / "link.csv"), "csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith('"entity"')


PEAK = """
import sys
from pathlib import Path
from storage.engine import reader_engine
from storage.export import export
from storage.export_columns import Wanted
reader = reader_engine(Path(sys.argv[1]))
rows = export(reader, Wanted("accelerator", int(sys.argv[2]), int(sys.argv[3])), sys.argv[4], sys.argv[5])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(rows, int(status["VmHWM"].split()[0]) // 1024)  # of this program alone; ru_maxrss remembers who started it
"""


@pytest.fixture
def long_store(tmp_path: Path) -> Path:
    """Two accelerators, every second for eleven days: 1.9 million samples of three metrics."""
    from storage.session import writing

    path, count = tmp_path / "long.db", 11 * 86_400
    at_ms = START_MS + np.arange(count) * 1000
    random = np.random.default_rng(1)
    values = {
        "power_watts": random.normal(500, 20, count),
        "energy_joules_total": np.arange(count) * 500.0,
        "processes": np.ones(count),
    }
    with writing(path, host="box") as writer:
        for key in "AB":
            writer.load("accelerator", key, at_ms, values)
    return path


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_range(long_store: Path, tmp_path: Path, file_format: str):
    def peak(days: int) -> tuple[int, int]:
        """Rows, and the most memory it took (MiB)."""
        window = [str(START_MS), str(START_MS + days * DAY_MS)]
        command = [sys.executable, "-c", PEAK, str(long_store), *window, str(tmp_path / "out"), file_format]
        rows, most = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(rows), int(most)

    few, short = peak(1)
    many, long = peak(11)
    assert (few, many) == (2 * 86_400, 2 * 11 * 86_400)
    assert long < short + 48, "the whole range is 150 MiB and more as a table"
    assert long < 450
