from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, delete, func, select, text, update

from core.errors import ConfigError, StoreError, StoreLocked
from core.readings import (
    AcceleratorSample,
    DeploymentSample,
    Event,
    HostSample,
    Latency,
    LatencySample,
    Severity,
)
from core.settings import StorageSettings
from storage import accounts, inventory, maintenance, queries, schema
from storage import upkeep as upkeep_module
from storage.batch import Batch
from storage.codec import pack, pack_times
from storage.engine import Address, reader_engine
from storage.inventory import Holding, Outlook
from storage.session import writing
from storage.soundness import Entity as Thing
from storage.soundness import Finding
from storage.spool import Spool
from storage.upkeep import Upkeep
from storage.writer import write_fact
from tests.conftest import Store

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 20_371 * DAY_MS
STEP_MS = 5 * MINUTE_MS
BOUNDS = (0.1, 1.0, float("inf"))

sqlite = pytest.mark.parametrize("address", ["sqlite"], indirect=True)
postgresql = pytest.mark.parametrize("address", ["postgresql"], indirect=True)


def settings(address: Address, **more: Any) -> StorageSettings:
    url = address if isinstance(address, str) else f"sqlite:///{address}"
    return StorageSettings(url=url, **({"keep_samples_days": 100_000} | more))


def fill(store: Store, *, days: float = 1.5, start_ms: int = START_MS) -> int:
    """Two GPUs, a host and a server, observed every five minutes; when it ended (Unix ms)."""
    end_ms = start_ms + round(days * DAY_MS)
    for n, at_ms in enumerate(range(start_ms, end_ms, STEP_MS)):
        store.writer.submit(
            Batch(
                (
                    *(
                        AcceleratorSample(
                            key=key,
                            observed_at_ms=at_ms,
                            power_watts=300.0 + n % 7,
                            energy_joules_total=n * 90_000.0,
                            temperature_margin_celsius=(n % 3) - 1.0,
                            processes=0,
                        )
                        for key in "AB"
                    ),
                    HostSample(key="box", observed_at_ms=at_ms, node_power_watts=900.0),
                    DeploymentSample(key="s m", observed_at_ms=at_ms, generation_tokens_total=n * 10.0),
                    LatencySample(
                        key="s m",
                        kind=Latency.TTFT,
                        observed_at_ms=at_ms,
                        upper_bounds_seconds=BOUNDS,
                        increments=(1.0, n % 3, 0.0),
                        sum_seconds=None if n == 3 else 0.5,
                    ),
                )
            )
        )
    store.settle()
    return end_ms


def keep(store: Store, now_ms: int, **more: Any) -> Upkeep:
    upkeep = Upkeep(store.reader, store.writer, settings(store.address, **more))
    upkeep.seal(now_ms)
    upkeep.account(now_ms)
    upkeep.forget(now_ms)
    return upkeep


@pytest.fixture
def kept(store: Store) -> Store:
    """A store with blocks, rows and accounts."""
    keep(store, fill(store))
    return store


def change(store: Store, *statements: Any) -> None:
    def make(connection: Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    store.writer.call(make)


def found(store: Store) -> list[Finding]:
    return list(maintenance.check(store.reader))


def block(family: str = "accelerator", span: int = 0, entity: str = "A") -> Any:
    table = schema.latency_block if family == "latency" else schema.blocks[family]
    family = "deployment" if family == "latency" else family
    key = "s m" if family == "deployment" else entity
    of = select(schema.entity.c.entity_id).where(schema.entity.c.family == family, schema.entity.c.key == key)
    there = (table.c.span_ms == START_MS + span * schema.SPAN_MS) & (table.c.entity_id == of.scalar_subquery())
    return table, there


# ---- check


def test_a_sound_store_has_no_findings(kept: Store):
    told: list[tuple[str, int, int]] = []
    assert list(maintenance.check(kept.reader, lambda *what: told.append(what))) == []
    assert told[-1][1] == told[-1][2] > 20


def test_late_data_and_a_restarted_counter_are_no_findings(store: Store):
    end_ms = fill(store)
    keep(store, end_ms)
    for n in range(0, 100, 7):
        store.write(AcceleratorSample(key="A", observed_at_ms=START_MS + n * STEP_MS + 1, energy_joules_total=n % 3))
    keep(store, end_ms + DAY_MS)
    assert found(store) == []


def test_each_damaged_payload_is_named_and_stops_nothing(kept: Store):
    table, there = block()
    other, elsewhere = block("host", span=1, entity="box")
    change(
        kept,
        update(table).where(there).values(power_watts=b"\x00" * 30, energy_joules_total=pack([1.0, 2.0])),
        update(other).where(elsewhere).values(node_power_watts=b""),
    )
    power, energy, node = found(kept)
    assert power.line == (
        "accelerator A 2025-10-10T00:00:00Z/2025-10-10T08:00:00Z power_watts: checksum does not match; it is shown as "
        "unknown; remedy: put back a backup that has it, or leave it: nothing else is harmed"
    )
    assert (energy.metric, energy.what) == ("energy_joules_total", "number of values does not match")
    assert (node.entity.key, node.start_ms, node.metric) == ("box", START_MS + schema.SPAN_MS, "node_power_watts")


def test_damaged_times_are_one_finding(kept: Store):
    table, there = block()
    change(kept, update(table).where(there).values(times=b"nothing of use"))
    (finding,) = found(kept)
    assert finding.what == "its times: checksum does not match"
    assert finding.cost == "all of it is shown as unknown"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"first_at_ms": START_MS + 1}, "it says it runs from 2025-10-10T00:00:00.001Z to"),
        ({"last_at_ms": START_MS}, "it says it runs from 2025-10-10T00:00:00Z to 2025-10-10T00:00:00Z but runs"),
        ({"instants": 0}, "it says it holds 0 instants"),
        ({"instants": 1 << 40}, "it says it holds 1099511627776 instants"),
        ({"instants": 95}, "its times: number of values does not match"),
    ],
)
def test_what_a_block_says_of_itself_is_compared(kept: Store, values: dict[str, int], said: str):
    table, there = block()
    change(kept, update(table).where(there).values(**values))
    assert said in found(kept)[0].what
    assert {finding.entity.key for finding in found(kept)} == {"A"}


def test_times_outside_their_span_or_out_of_order(kept: Store):
    def packed(*offsets: int) -> dict[str, Any]:
        at_ms = START_MS + np.array(offsets)
        return {
            "times": pack_times(at_ms, START_MS),
            "instants": len(at_ms),
            "first_at_ms": int(at_ms[0]),
            "last_at_ms": int(at_ms[-1]),
        }

    table, there = block()
    change(kept, update(table).where(there).values(packed(0, 2, 1)))
    assert found(kept)[0].what == "its times do not ascend"
    change(kept, update(table).where(there).values(packed(0, 1, schema.SPAN_MS)))
    assert found(kept)[0].what.startswith("its times are not within it: 2025-10-10T00:00:00Z to 2025-10-10T08:00:00Z")


def test_figures_beside_a_block_are_computed_again(kept: Store):
    beside, metric, entity = schema.block_aggregate, schema.metric.c, schema.entity.c
    a = select(entity.entity_id).where(entity.key == "A").scalar_subquery()

    def of(name: str) -> Any:
        number = select(metric.metric_id).where(metric.family == "accelerator", metric.name == name).scalar_subquery()
        return (beside.c.metric_id == number) & (beside.c.entity_id == a) & (beside.c.span_ms == START_MS)

    change(
        kept,
        update(beside).where(of("power_watts")).values(sum=beside.c.sum * (1 + 1e-8)),
        update(beside).where(of("temperature_margin_celsius")).values(sum=beside.c.sum + 1e-9),  # 0 within 96 degrees
        update(beside).where(of("energy_joules_total")).values(increase=None),
        update(beside).where(of("observed_at_ms")).values(increase=beside.c.increase + 1000.0),
        delete(beside).where(of("processes")),
    )
    findings = {finding.metric: finding.what for finding in found(kept)}
    assert set(findings) == {"power_watts", "energy_joules_total", "instants", "processes"}
    assert "differ: sum is 29" in findings["power_watts"]
    assert findings["energy_joules_total"].endswith("increase is None instead of 8550000.0")
    assert findings["processes"] == "no figures beside the block"


def test_figures_that_nothing_stands_behind(kept: Store):
    table, there = block(span=1)
    other, elsewhere = block(span=2)
    change(kept, delete(table).where(there), update(other).where(elsewhere).values(power_watts=None))
    gone, without = sorted(found(kept), key=lambda one: one.start_ms or 0)
    assert (gone.what, gone.start_ms) == ("figures of a block that is not there", START_MS + schema.SPAN_MS)
    assert (without.what, without.metric) == ("figures without values", "power_watts")


def test_damaged_histograms_are_named(kept: Store):
    table, there = block("latency")
    change(kept, update(table).where(there).values(increments=pack([1.0] * 96), sum_seconds=b"x" * 9))
    sums, counts = found(kept)
    assert (sums.entity.key, sums.metric) == ("s m", "latency ttft")
    assert sums.what == "its sum_seconds: checksum does not match"
    assert counts.what == "its increments: number of values does not match"


def test_days_that_are_not_the_sum_of_their_hours(kept: Store):
    account, latency, entity = schema.account, schema.latency_account, schema.entity.c
    a = select(entity.entity_id).where(entity.key == "A").scalar_subquery()
    day = (account.c.hours == 24) & (account.c.start_ms == START_MS)
    change(
        kept,
        update(account).where(day, account.c.entity_id == a).values(energy_joules=1.0, energy_source="estimated"),
        update(latency).where(latency.c.hours == 24, latency.c.start_ms == START_MS).values(increments="[1,2,3]"),
        delete(account).where(
            account.c.hours == 24,
            account.c.start_ms == START_MS + DAY_MS,
            account.c.entity_id == select(entity.entity_id).where(entity.key == "B").scalar_subquery(),
        ),
    )
    energy, missing, counts = sorted(found(kept), key=lambda one: one.entity.key)
    assert energy.what.startswith("the day is not the sum of its hours: energy_joules is 1.0 instead of 2")
    assert "energy_source is estimated instead of counter" in energy.what
    assert "rebuild-accounts" in energy.remedy
    assert missing.what == "hours without their day"
    assert counts.what == "the day is not the sum of its hours: increments is [1,2,3] instead of the sum of its hours"


def test_what_is_no_json_is_a_finding(kept: Store):
    latency = schema.latency_account
    change(kept, update(latency).where(latency.c.hours == 1, latency.c.start_ms == START_MS).values(increments="[1,"))
    (finding,) = found(kept)
    assert finding.what.startswith("it cannot be read: ")


def test_a_key_cannot_move_the_cursor_of_a_terminal(store: Store):
    line = Finding("x", "y", "z", Thing(1, "accelerator", "\x1b[2J\nA")).line
    assert line == "accelerator  [2J A: x; y; remedy: z"


@pytest.mark.parametrize(
    ("number", "said", "remedy"),
    [("9999", "is unknown to this Vatio", "install the release"), ("0001", "is older than", "start the collector")],
)
def test_another_schema_revision_is_the_only_finding(store: Store, number: str, said: str, remedy: str):
    change(store, text(f"UPDATE alembic_version SET version_num = '{number}'"))
    (finding,) = found(store)
    assert said in finding.what
    assert finding.remedy.startswith(remedy)
    with pytest.raises(StoreError, match=said), maintenance.reading(store.address, "here"):
        pass
    with maintenance.reading(store.address, "here", any_revision=True):
        pass


@pytest.fixture
def file(store: Store) -> Path:
    """The database file of a test about SQLite."""
    return store.path


@sqlite
def test_a_damaged_page_is_a_finding_and_the_rest_is_still_looked_at(file: Path, kept: Store):
    table, there = block("host", span=1, entity="box")
    change(kept, update(table).where(there).values(node_power_watts=b"x" * 9))
    with kept.reader.connect() as connection:
        rooted = text("SELECT rootpage FROM sqlite_schema WHERE name = 'accelerator_block'")
        page = connection.execute(rooted).scalar_one()
    kept.writer.stop()
    kept.reader.dispose()
    database = sqlite3.connect(file)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
    file.write_bytes(content)
    reader = reader_engine(file)
    lines = [finding.line for finding in maintenance.check(reader)]
    reader.dispose()
    assert any(line.startswith("database: ") for line in lines)
    assert any(line.startswith("accelerator A: cannot be read on: database disk image is malformed") for line in lines)
    assert any("host box" in line and "node_power_watts: checksum does not match" in line for line in lines)


@sqlite
def test_a_row_that_names_nothing_is_a_finding(file: Path, kept: Store):
    kept.writer.stop()
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM entity WHERE key = 'box'")
    connection.close()
    assert {finding.what for finding in found(kept)} >= {"a row of host_block names a row of entity that is not there"}


# ---- info


def test_facts_are_counted_in_either_form(kept: Store):
    now_ms = START_MS + round(1.5 * DAY_MS)
    taken = inventory.take(kept.reader, settings(kept.address), now_ms)
    by_kind = {one.kind: one for one in taken.holdings}
    gpus = by_kind["accelerator"]
    assert gpus.facts == 2 * 432
    assert 0 < gpus.rows < 50
    assert (gpus.first_at_ms, gpus.last_at_ms) == (START_MS, now_ms - STEP_MS)
    assert min(gpus.row_bytes, gpus.block_bytes, gpus.aggregate_bytes) > 0
    assert by_kind["latency"].facts == 432
    assert by_kind["account"].rows > 100
    assert by_kind["event"].facts == 0
    assert sum(one.bytes for one in taken.holdings) < taken.file_bytes
    assert (taken.simulated, taken.batches_dropped, taken.spool.batches) == (False, 0, 0)
    assert taken.outlook is not None
    assert taken.outlook.bytes_per_day == pytest.approx(sum(one.bytes_per_day or 0 for one in taken.holdings))


def test_growth_is_what_was_taken_and_does_not_depend_on_what_is_sealed_yet(kept: Store):
    now_ms = START_MS + round(1.5 * DAY_MS)
    gpus = inventory.take(kept.reader, settings(kept.address), now_ms).holdings[0]
    sealed_bytes = (gpus.block_bytes + gpus.aggregate_bytes) / gpus.sealed * gpus.facts
    assert gpus.bytes_per_day == pytest.approx(sealed_bytes / 1.5, rel=0.05)


def test_growth_is_unknown_within_the_first_day(store: Store):
    end_ms = fill(store, days=0.9)
    taken = inventory.take(store.reader, settings(store.address), end_ms)
    assert taken.outlook is None
    assert {one.bytes_per_day for one in taken.holdings} == {None}


def test_an_empty_store_has_an_inventory(store: Store):
    taken = inventory.take(store.reader, settings(store.address), START_MS)
    assert {one.facts for one in taken.holdings} == {0}
    assert taken.outlook is None


def test_without_page_sizes_lengths_of_values_stand_for_them(kept: Store, monkeypatch: pytest.MonkeyPatch):
    pages = inventory.take(kept.reader, settings(kept.address), START_MS + 2 * DAY_MS).holdings[0]
    monkeypatch.setattr(inventory, "_disk_bytes", lambda connection: None)
    taken = inventory.take(kept.reader, settings(kept.address), START_MS + 2 * DAY_MS)
    assert not taken.whole_pages
    assert 0 < taken.holdings[0].block_bytes < pages.block_bytes
    assert taken.holdings[0].row_bytes > 0


def test_what_waits_in_the_spool_is_counted_and_the_spool_left_alone(kept: Store, tmp_path: Path):
    folder = tmp_path / "spool"
    of = settings(kept.address, spool_folder=folder)
    assert inventory.take(kept.reader, of, START_MS).spool == inventory.Waiting(0, 0)
    assert not folder.exists()
    spool = Spool(folder, max_bytes=of.spool_max_bytes)
    for n in range(5):
        spool.append(Batch((Event(observed_at_ms=n, kind="n", severity=Severity.INFO, message="m"),)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert inventory.take(kept.reader, of, START_MS).spool == inventory.Waiting(5, spool.bytes)
    kept.writer.call(lambda connection: write_fact(connection, f"spool_replayed:{spool.identity}", "3"))
    assert inventory.take(kept.reader, of, START_MS).spool.batches == 2
    spool.discard_through(5)
    kept.writer.call(lambda connection: write_fact(connection, f"spool_replayed:{spool.identity}", "5"))
    assert inventory.take(kept.reader, of, START_MS).spool.batches == 0
    assert before


def holding(**more: Any) -> Holding:
    return replace(Holding("accelerator", 0, 0, 0, 0, 0, None, None, bytes_per_day=10.0, keep_days=100.0), **more)


@pytest.mark.parametrize(
    ("holdings", "room", "full", "settled", "settles"),
    [
        ([holding()], 5_000, None, 1_000 + 1_000, 100),
        ([holding(block_bytes=400)], 5_000, None, 1_000 + 600, 60),
        ([holding(block_bytes=2_000)], 5_000, None, 1_000, 0),  # retention was shortened: it shrinks
        ([holding()], 500, 50, None, None),
        ([holding(), holding(keep_days=None)], 500, 25, None, None),
        ([holding(), holding(keep_days=None, bytes_per_day=1.0)], 1_200, 200, 1_000 + 1_100, 100),
        ([holding()], None, None, 1_000 + 1_000, 100),
    ],
)
def test_when_the_disk_is_full(holdings: list[Holding], room: int, full: float, settled: int, settles: float):
    outlook = inventory._outlook(holdings, 1_000, room)
    assert outlook == Outlook(
        outlook.bytes_per_day,
        full if full is None else pytest.approx(full, abs=0.02),
        settled,
        settles if settles is None else pytest.approx(settles),
    )


# ---- backup


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    answer = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
    connection.close()
    return answer


@sqlite
def test_a_backup_is_one_sound_file_of_one_moment_while_others_write(
    file: Path, kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(maintenance, "BACKUP_PAGES", 4)
    before = rows(file, "accelerator_block"), rows(file, "host_sample")
    steps = []

    def written_meanwhile(what: str, done: int, total: int) -> None:
        steps.append(done)
        kept.write(HostSample(key="box", observed_at_ms=START_MS + 10 * DAY_MS + len(steps), load_1m=1.0))

    target = tmp_path / "copy" / "vatio.db"
    target.parent.mkdir()
    size = maintenance.backup(kept.reader, target, told=written_meanwhile)
    assert len(steps) > 10
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_size == size
    assert target.stat().st_mode & 0o777 == 0o600
    assert (rows(target, "accelerator_block"), rows(target, "host_sample")) == before
    assert len(rows(file, "host_sample")) > len(before[1])
    copy = reader_engine(target)
    assert list(maintenance.check(copy)) == []
    copy.dispose()


@sqlite
def test_a_backup_replaces_nothing_unless_told_to(file: Path, kept: Store, tmp_path: Path):
    target = tmp_path / "copy.db"
    target.write_text("mine")
    with pytest.raises(ConfigError, match="there already: name another file, or replace it with --force"):
        maintenance.backup(kept.reader, target)
    assert target.read_text() == "mine"
    maintenance.backup(kept.reader, target, force=True)
    assert rows(target, "entity")


@sqlite
@pytest.mark.parametrize("suffix", ["", "-wal", ".lock"])
def test_a_backup_never_replaces_the_store(file: Path, kept: Store, suffix: str):
    link = file.with_name("link.db")
    link.symlink_to(f"{file}{suffix}")
    for target in (Path(f"{file}{suffix}"), link):
        with pytest.raises(ConfigError, match="belongs to the store itself"):
            maintenance.backup(kept.reader, target, force=True)


@sqlite
def test_a_backup_never_replaces_a_pipe(file: Path, kept: Store, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is a device or a pipe: name a file"):
        maintenance.backup(kept.reader, tmp_path / "pipe", force=True)
    assert (tmp_path / "pipe").is_fifo()


@sqlite
def test_a_backup_does_not_slip_under_the_log_of_another_database(file: Path, kept: Store, tmp_path: Path):
    other = tmp_path / "other.db"
    other.write_text("")
    Path(f"{other}-wal").write_text("log")
    with pytest.raises(ConfigError, match="is a database in use"):
        maintenance.backup(kept.reader, other, force=True)


@sqlite
def test_a_backup_that_does_not_fit_is_not_begun(file: Path, kept: Store, tmp_path: Path, few_bytes: None):
    target = tmp_path / "copy" / "vatio.db"
    target.parent.mkdir()
    with pytest.raises(StoreError, match=r"needs \d+ MB in .*, where 0 MB are free: make room"):
        maintenance.backup(kept.reader, target)
    assert list(target.parent.iterdir()) == []


@sqlite
def test_a_backup_that_is_stopped_leaves_nothing(file: Path, kept: Store, tmp_path: Path):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "copy" / "vatio.db"
    target.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        maintenance.backup(kept.reader, target, told=stopped)
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)


@postgresql
def test_of_postgresql_pg_dump_makes_backups(store: Store, tmp_path: Path):
    with pytest.raises(ConfigError, match="pg_dump"):
        maintenance.backup(store.reader, tmp_path / "copy.db")


# ---- compact


def test_compact_seals_accounts_removes_and_gives_back(store: Store):
    end_ms = fill(store, days=2.2)
    store.writer.stop()
    told = []
    of = settings(store.address, keep_samples_days=1.0)
    before, after = maintenance.compact(of, "box", end_ms, lambda *what: told.append(what))
    assert list(dict.fromkeys(what for what, _, _ in told))[:3] == [
        "sealing",
        "entity-hours",
        "removing what is too old",
    ]
    assert all(done <= total for what, done, total in told if total)
    taken = {one.kind: one for one in inventory.take(store.reader, of, end_ms).holdings}
    assert taken["accelerator"].first_at_ms == START_MS + DAY_MS
    assert taken["account"].first_at_ms == START_MS
    assert taken["accelerator"].rows < 50
    assert found(store) == []
    if isinstance(store.address, Path):
        assert after < before
        with store.reader.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() == 0


def of_the_first_release(file: Path) -> None:
    """A file that cannot give space back bit by bit, with much of it unused."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript("PRAGMA auto_vacuum=NONE; VACUUM; CREATE TABLE much (x)")
    connection.executemany("INSERT INTO much VALUES (?)", [(os.urandom(900),)] * 3000)
    connection.execute("DROP TABLE much")
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()


@sqlite
def test_a_file_of_the_first_release_is_written_anew_once(file: Path, kept: Store):
    kept.writer.stop()
    kept.reader.dispose()
    before = rows(file, "accelerator_block")
    of_the_first_release(file)
    bytes_before, bytes_after = maintenance.compact(settings(file), "box", START_MS + round(1.5 * DAY_MS))
    assert bytes_after < bytes_before - 2_000_000
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()
    assert rows(file, "accelerator_block") == before
    assert found(kept) == []


@sqlite
def test_a_file_is_not_written_anew_where_it_does_not_fit_twice(file: Path, kept: Store, few_bytes: None):
    kept.writer.stop()
    kept.reader.dispose()
    of_the_first_release(file)
    with pytest.raises(StoreError, match=r"writing .* anew needs"):
        maintenance.compact(settings(file), "box", START_MS + round(1.5 * DAY_MS))
    assert found(kept) == []


def test_compact_makes_no_store(tmp_path: Path):
    with pytest.raises(StoreError, match="no database at"):
        maintenance.compact(settings(tmp_path / "none.db"), "box", START_MS)
    assert list(tmp_path.iterdir()) == []


def test_what_writes_is_refused_while_another_holds_the_store(store: Store):
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with writing(store.address, host="box"):
            held.set()
            end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    try:
        for refused in (maintenance.compact, maintenance.rebuild_accounts):
            with pytest.raises(StoreLocked, match=r"another Vatio daemon .*does all upkeep by itself"):
                refused(settings(store.address), "box", START_MS)
    finally:
        end.set()
        thread.join()


# ---- accounts


def all_accounts(store: Store) -> list[tuple[Any, ...]]:
    with store.reader.connect() as connection:
        every = []
        for table in (schema.account, schema.latency_account):
            keys = list(table.primary_key.columns)
            every += [tuple(row) for row in connection.execute(select(table).order_by(*keys))]
        marks = select(schema.entity.c.entity_id, schema.entity.c.accounted_until_ms).order_by(
            schema.entity.c.entity_id
        )
        return [*every, *(tuple(row) for row in connection.execute(marks))]


def test_accounts_made_again_are_the_same(kept: Store):
    before = all_accounts(kept)
    kept.writer.stop()
    now_ms = START_MS + round(1.5 * DAY_MS)
    told = []
    made = maintenance.rebuild_accounts(settings(kept.address), "box", now_ms, told=lambda *what: told.append(what))
    assert made == 4 * 35
    assert told[-1] == ("entity-hours", made, made)
    assert all_accounts(kept) == before


def test_wrong_accounts_are_right_afterwards_and_others_stay(kept: Store):
    before = all_accounts(kept)
    account = schema.account
    change(
        kept,
        update(account)
        .where(account.c.hours == 1, account.c.start_ms == START_MS + 5 * HOUR_MS)
        .values(energy_joules=1),
        update(account).where(account.c.start_ms == START_MS + 20 * HOUR_MS).values(energy_joules=2),
    )
    kept.writer.stop()
    window = (START_MS + 5 * HOUR_MS, START_MS + 6 * HOUR_MS)
    now_ms = START_MS + round(1.5 * DAY_MS)
    assert maintenance.rebuild_accounts(settings(kept.address), "box", now_ms, *window) == 4
    after = all_accounts(kept)
    different = [row for row, was in zip(after, before, strict=True) if row != was]
    assert {(row[0], row[2]) for row in different} == {
        (1, START_MS + 20 * HOUR_MS),
        (8, START_MS + 16 * HOUR_MS),
        (24, START_MS),
    }
    assert maintenance.rebuild_accounts(settings(kept.address), "box", now_ms, window[0]) == 4 * 30
    assert all_accounts(kept) == before


def test_accounts_older_than_the_samples_stay_as_they_are(store: Store):
    end_ms = fill(store, days=3.0)
    keep(store, end_ms, keep_samples_days=100_000)
    before = all_accounts(store)
    keep(store, end_ms, keep_samples_days=1.2)  # samples begin at 16:00 of the second day now
    oldest = queries.store_size(store.reader)["first_at"].min().value // 1_000_000
    assert oldest > START_MS + DAY_MS
    assert all_accounts(store) == before
    store.writer.call(lambda connection: accounts.forget(connection, 0))
    keep(store, end_ms, keep_samples_days=1.2)
    assert all_accounts(store) == before
    store.writer.stop()
    assert maintenance.rebuild_accounts(settings(store.address, keep_samples_days=1.2), "box", end_ms) > 0
    assert all_accounts(store) == before


def test_an_entity_that_is_gone_keeps_its_accounts(store: Store):
    """Its samples are removed after a while, and its last hour, which was never final, stays."""
    end_ms = fill(store, days=1.0)
    keep(store, end_ms)
    with store.reader.connect() as connection:
        before = connection.execute(select(func.count()).select_from(schema.account)).scalar_one()
    later_ms = end_ms + 30 * DAY_MS
    for _ in range(2):
        keep(store, later_ms, keep_samples_days=5.0)
    with store.reader.connect() as connection:
        assert connection.execute(select(func.count()).select_from(schema.account)).scalar_one() >= before
    assert found(store) == [], "hours and days still agree"


def test_a_clock_that_was_wrong_once_costs_no_account(store: Store):
    """A sample of 1970 asks for accounts from there on; what is older than the samples stays all the same."""
    end_ms = fill(store, days=3.0)
    keep(store, end_ms)
    keep(store, end_ms, keep_samples_days=1.2)
    before = all_accounts(store)[:-4]
    store.write(AcceleratorSample(key="A", observed_at_ms=1_000, power_watts=1.0))
    for _ in range(2):
        keep(store, end_ms, keep_samples_days=1.2)
    assert all_accounts(store)[:-4] == before


def test_what_was_never_accounted_is_before_it_is_removed(store: Store):
    end_ms = fill(store, days=3.0)
    keep(store, end_ms, keep_samples_days=1.2)
    with store.reader.connect() as connection:
        hours = select(func.count()).select_from(schema.account).where(schema.account.c.hours == 1)
        assert connection.execute(hours).scalar_one() == 4 * 71


# ---- what is more urgent


def test_upkeep_gives_way_to_what_is_more_urgent(store: Store):
    now_ms = fill(store)
    busy = iter([True, True, True])
    asked: list[int] = []

    def is_busy() -> bool:
        asked.append(blocks_there(store))
        return next(busy, False)

    Upkeep(store.reader, store.writer, settings(store.address), is_busy=is_busy).seal(now_ms)
    assert asked[:4] == [0, 0, 0, 0]  # nothing was done before it was over
    assert blocks_there(store) > 0


def test_upkeep_is_done_though_something_is_always_urgent(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep_module, "GIVE_WAY_SECONDS", 0.05)
    now_ms = fill(store)
    busy = Upkeep(store.reader, store.writer, settings(store.address), is_busy=lambda: True)
    assert busy.seal(now_ms) > 0
    busy.account(now_ms)
    with store.reader.connect() as connection:
        assert connection.execute(select(func.count()).select_from(schema.account)).scalar_one() > 0


def blocks_there(store: Store) -> int:
    with store.reader.connect() as connection:
        return connection.execute(select(func.count()).select_from(schema.blocks["accelerator"])).scalar_one()
