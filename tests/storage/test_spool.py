from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from math import inf
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.health import SourceStatus, TickReport
from core.readings import (
    AcceleratorSample,
    CpuSample,
    DeviceUser,
    Entity,
    Event,
    Latency,
    LatencySample,
    Listener,
    Outcome,
    Reading,
    Severity,
    TargetReport,
)
from storage import spool as module
from storage.batch import KEPT, Batch, from_json, to_json
from storage.spool import Record, Spool

MIB = 1 << 20


def batch(number: int, filling: int = 0) -> Batch:
    """A batch that says which one it is, and is as large as wanted."""
    return Batch((Event(observed_at_ms=number, kind="n", severity=Severity.INFO, message="x" * filling),))


def number_of(record: Record) -> int:
    (reading,) = record.batch.readings
    assert isinstance(reading, Event)
    return reading.observed_at_ms


def line(sequence: int, content: bytes) -> bytes:
    return b"[%d,%d,%b]\n" % (sequence, zlib.crc32(b"%d,%b" % (sequence, content)), content)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@dataclass
class Database:
    """Remembers, in one transaction with what it stores, how far each spool was replayed."""

    stored: list[int] = field(default_factory=list)
    replayed: dict[str, int] = field(default_factory=dict)

    def store(self, identity: str, records: list[Record]) -> None:
        self.stored += [number_of(record) for record in records]
        self.replayed[identity] = records[-1].sequence

    def replay(self, spool: Spool, *, limit: int = 100) -> None:
        after = self.replayed.get(spool.identity, 0)
        spool.discard_through(after)
        while records := spool.read(after, limit):
            self.store(spool.identity, records)
            after = records[-1].sequence
            spool.discard_through(after)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 500)


# The form of a batch


def values(hint: Any) -> st.SearchStrategy[Any]:
    """What a field declared like this may hold."""
    arguments = get_args(hint)
    origin = get_origin(hint)
    if origin is UnionType:
        return st.one_of(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=4).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values(str), values(str), max_size=4)
    if origin is Literal:
        return st.sampled_from(arguments)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    simple: dict[type, st.SearchStrategy[Any]] = {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(),
        str: st.text(st.characters(exclude_categories=())),  # lone surrogates included, as os.fsdecode gives them
    }
    return simple[hint]


def records(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    return st.fixed_dictionaries({it.name: values(hints[it.name]) for it in fields(kind)}).map(lambda of: kind(**of))


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_kept_comes_back_as_it_was(kind: type):
    @settings(max_examples=50, deadline=None)
    @given(st.lists(records(kind), max_size=3))
    def check(written: list[Any]) -> None:
        of_kind = {TickReport: "ticks", SourceStatus: "statuses"}.get(kind, "readings")
        content = to_json(Batch(**{of_kind: tuple(written)}))
        assert b"\n" not in content
        read, unknown = from_json(content)
        assert repr(getattr(read, of_kind)) == repr(tuple(written))  # repr: NaN equals nothing, not even itself
        assert unknown == []

    check()


def test_every_kind_of_reading_is_kept_or_left_out_on_purpose():
    assert {*get_args(Reading), TickReport, SourceStatus} == {*KEPT, DeviceUser, Listener, TargetReport}


def test_a_whole_batch_is_equal_and_keeps_its_order():
    written = Batch(
        readings=(
            CpuSample(key="box/socket 0", observed_at_ms=2, power_watts=90),
            AcceleratorSample(key="GPU-1", observed_at_ms=1, power_watts=627.32, memory_used_bytes=80 << 30),
            LatencySample(
                key="s m",
                kind=Latency.TTFT,
                observed_at_ms=3,
                upper_bounds_seconds=(0.1, inf),
                increments=(3.0, 1.0),
                sum_seconds=None,
            ),
            Entity(observed_at_ms=4, family="cpu", key="c", host="box", labels=MappingProxyType({"model": "EPYC"})),
        ),
        ticks=(
            TickReport(
                host="box", source="cpu", target="", scheduled_at_ms=1, outcome=Outcome.NO_DATA, duration_seconds=0.5
            ),
        ),
        statuses=(
            SourceStatus(host="box", source="amd", available=False, absent=True, reason="", remedy="", checked_at_ms=1),
        ),
    )
    assert from_json(to_json(written)) == (written, [])


def test_what_the_store_does_not_keep_is_left_out():
    kept = CpuSample(key="c", observed_at_ms=1)
    listener = Listener(deployment_keys=("s m",), host="box", observed_at_ms=1, pids=frozenset({1}))
    report = TargetReport(target="t", outcome=Outcome.OK, duration_seconds=0.1)
    assert from_json(to_json(Batch((listener, kept, report)))) == (Batch((kept,)), [])


def test_unknown_values_of_a_sample_take_no_room():
    assert to_json(Batch((CpuSample(key="c", observed_at_ms=1),))) == b'[["CpuSample",{"key":"c","observed_at_ms":1}]]'


@pytest.mark.parametrize(
    ("entry", "unknown"),
    [
        (["QuantumSample", {"key": "q"}], ["QuantumSample"]),
        (["CpuSample", ["another", "form"]], ["CpuSample"]),
        (["CpuSample", {"key": "lacks a time"}], ["CpuSample"]),
        (
            ["Event", {"observed_at_ms": 1, "kind": "x", "severity": "hopeless", "message": ""}],
            ["Event.severity", "Event"],
        ),
        (["LatencySample", {"key": "s m", "increments": 7}], ["LatencySample.increments", "LatencySample"]),
        ("neither", ["record"]),
    ],
)
def test_a_record_of_another_release_costs_itself(entry: object, unknown: list[str]):
    known = Batch((CpuSample(key="c", observed_at_ms=1),))
    content = json.dumps([entry, *json.loads(to_json(known))]).encode()
    assert from_json(content) == (known, unknown)


@pytest.mark.parametrize("value", ["hot", [1.0], True])
def test_a_field_of_another_release_costs_itself(value: object):
    entry = ["CpuSample", {"key": "c", "observed_at_ms": 1, "aura_lumens": 1.0, "power_watts": value}]
    sample = CpuSample(key="c", observed_at_ms=1)
    assert from_json(json.dumps([entry]).encode()) == (
        Batch((sample,)),
        ["CpuSample.aura_lumens", "CpuSample.power_watts"],
    )


@pytest.mark.parametrize("content", [b"{}", b"nonsense"])
def test_a_batch_in_another_form_is_empty(content: bytes):
    assert from_json(content) == (Batch(), ["batch"])


# The spool


def test_nothing_is_on_disk_before_the_first_batch_and_only_the_owner_reads_it(folder: Path):
    spool = Spool(folder, max_bytes=MIB)
    assert (spool.waiting, spool.bytes, spool.read(0, 10)) == (0, 0, [])
    spool.discard_through(0)
    assert not folder.exists()
    spool.append(batch(1))
    (segment,) = segments(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600
    assert spool.bytes == segment.stat().st_size


def test_batches_come_back_in_order_and_their_segments_go(folder: Path, small_segments: None):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(50):
        spool.append(batch(number))
    assert spool.waiting == 50
    assert len(segments(folder)) > 5
    database = Database()
    database.replay(spool, limit=3)
    assert database.stored == list(range(50))
    assert (spool.waiting, spool.bytes) == (0, 0)
    assert [path.stat().st_size for path in segments(folder)] == [0]


def test_only_fully_replayed_segments_are_deleted(folder: Path, small_segments: None):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(1, 51):
        spool.append(batch(number))
    starts = [int(path.name[:20]) for path in segments(folder)]
    spool.discard_through(starts[2] - 2)
    assert [int(path.name[:20]) for path in segments(folder)] == starts[1:]
    spool.discard_through(starts[2] - 1)
    assert [int(path.name[:20]) for path in segments(folder)] == starts[2:]
    assert spool.waiting == 50 - (starts[2] - 1)
    assert number_of(spool.read(0, 1)[0]) == starts[2]


def test_a_read_holds_no_more_than_a_segment(folder: Path):
    spool = Spool(folder, max_bytes=64 * MIB)
    for number in range(40):
        spool.append(batch(number, filling=100_000))
    assert 1 <= len(spool.read(0, 1_000)) <= 10


def test_a_crash_between_stored_and_discarded_stores_nothing_twice(folder: Path, small_segments: None):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(30):
        spool.append(batch(number))
    database = Database()
    database.store(spool.identity, spool.read(0, 4))
    again = Spool(folder, max_bytes=MIB)
    assert again.identity == spool.identity
    database.replay(again)
    database.replay(Spool(folder, max_bytes=MIB))
    assert database.stored == list(range(30))


class Killed(BaseException):
    """The process ends here."""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["append", "append 3", "restart", "store", "store, then killed", "killed between segments"]),
        max_size=40,
    )
)
def test_whatever_happens_each_batch_is_stored_once_and_in_order(steps: list[str]):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_BYTES", 300)
        folder = Path(name) / "spool"
        spool = Spool(folder, max_bytes=MIB)
        database = Database()
        appended = 0
        for step in steps:
            if step.startswith("append"):
                for _ in range(3 if step.endswith("3") else 1):
                    spool.append(batch(appended))
                    appended += 1
            elif step.startswith("store"):
                records = spool.read(database.replayed.get(spool.identity, 0), 2)
                if records:
                    database.store(spool.identity, records)
                    if step == "store":
                        spool.discard_through(records[-1].sequence)
            elif step == "killed between segments":
                database.replay(spool)
                with patch.context() as killing:
                    killing.setattr(Spool, "_delete_oldest", kill)
                    try:
                        spool.append(batch(appended))
                        appended += 1
                        database.store(spool.identity, spool.read(database.replayed.get(spool.identity, 0), 1))
                        spool.discard_through(database.replayed[spool.identity])
                    except Killed:
                        pass
            if step not in ("append", "append 3", "store"):
                spool = Spool(folder, max_bytes=MIB)
        database.replay(spool)
        assert database.stored == list(range(appended))
        assert spool.damaged == 0


def kill(_spool: Spool) -> None:
    raise Killed


# Restarts


def test_numbers_go_on_after_the_spool_was_emptied_and_opened_again(folder: Path):
    database = Database()
    for start in range(3):
        spool = Spool(folder, max_bytes=MIB)
        spool.append(batch(start))
        (record,) = spool.read(database.replayed.get(spool.identity, 0), 10)
        assert record.sequence == start + 1
        database.replay(spool)
    assert database.stored == [0, 1, 2]
    assert list(database.replayed.values()) == [3]


def test_an_emptied_folder_is_another_spool(folder: Path):
    spool = Spool(folder, max_bytes=MIB)
    spool.append(batch(1))
    database = Database()
    database.replay(spool)
    for path in segments(folder):
        path.unlink()
    again = Spool(folder, max_bytes=MIB)
    again.append(batch(2))
    assert again.identity != spool.identity
    database.replay(again)
    assert database.stored == [1, 2]


def test_files_that_are_none_of_ours_are_left_alone(folder: Path):
    folder.mkdir()
    (folder / "notes.txt").write_text("keep me")
    spool = Spool(folder, max_bytes=MIB)
    spool.append(batch(1))
    database = Database()
    database.replay(spool)
    assert database.stored == [1]
    assert (folder / "notes.txt").read_text() == "keep me"


def test_numbers_that_a_power_cut_took_back_are_not_given_again(folder: Path):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(5):
        spool.append(batch(number))
    database = Database()
    database.store(spool.identity, spool.read(0, 10))
    (segment,) = segments(folder)
    os.truncate(segment, 0)
    again = Spool(folder, max_bytes=MIB)
    again.discard_through(database.replayed[again.identity])
    again.append(batch(5))
    database.replay(again)
    assert database.stored == list(range(6))
    assert again.damaged == 0


def test_what_is_handed_out_was_forced_to_disk(folder: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    spool = Spool(folder, max_bytes=MIB)
    spool.append(batch(1))
    monkeypatch.setattr(module, "_sync", synced.append)
    spool.append(batch(2))
    assert synced == []
    spool.read(0, 1)
    spool.read(1, 1)
    assert synced == segments(folder)


APPENDING = """
import itertools, sys
from pathlib import Path
from core.readings import AcceleratorSample
from storage.batch import Batch
from storage.spool import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=1 << 30)
for n in itertools.count(int(sys.argv[2])):
    spool.append(Batch(tuple(AcceleratorSample(key=f"G{g}", observed_at_ms=n, power_watts=1.0) for g in range(8))))
    print(n, flush=True)
"""


def test_kill_nine_while_appending_loses_nothing(folder: Path):
    after = read = 0
    for lines in (1, 300, 2_000):
        command = [sys.executable, "-c", APPENDING, str(folder), str(read)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(lines)][-1]
            process.send_signal(signal.SIGKILL)
            acknowledged += len([rest for rest in process.stdout.readlines() if rest.endswith("\n")])
        spool = Spool(folder, max_bytes=1 << 30)
        while found := spool.read(after, 1_000):
            for record in found:
                assert [reading.observed_at_ms for reading in record.batch.readings] == [read] * 8  # type: ignore[union-attr]
                read += 1
            after = found[-1].sequence
        assert read - 1 in (acknowledged, acknowledged + 1)  # killed before it could say so


# Damage


def test_a_torn_end_costs_itself_and_nothing_follows_it_on_its_line(folder: Path, caplog: pytest.LogCaptureFixture):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(3):
        spool.append(batch(number))
    (segment,) = segments(folder)
    os.truncate(segment, segment.stat().st_size - 5)
    again = Spool(folder, max_bytes=MIB)
    again.append(batch(3))
    assert again.waiting == 4
    database = Database()
    database.replay(again)
    assert database.stored == [0, 1, 3]
    assert (again.damaged, again.waiting) == (1, 0)
    assert [it.message for it in caplog.records] == [f"spool {folder} is damaged: 1 batches after number 2 are lost"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_flipped_bit_costs_its_batch_and_with_the_end_of_a_line_the_next(tmp_path: Path, restart: bool):
    at, size = 0, 1
    while at < size:
        folder = tmp_path / str(at)
        spool = Spool(folder, max_bytes=MIB)
        for number in range(4):
            spool.append(batch(number))
        (segment,) = segments(folder)
        content = bytearray(segment.read_bytes())
        size = len(content)
        hit = content[:at].count(b"\n")
        lost = {hit, hit + 1} if content[at] == ord("\n") else {hit}
        content[at] ^= 1
        segment.write_bytes(content)
        kept = [number for number in range(4) if number not in lost]
        if restart:
            spool = Spool(folder, max_bytes=MIB)
            spool.append(batch(4))
            kept.append(4)
        database = Database()
        database.replay(spool)
        assert database.stored == kept, at
        assert 1 <= spool.damaged <= len(lost & {*range(4)}), at  # two on one line at the very end may pass for one
        assert spool.waiting == 0
        at += 1


def test_damage_is_counted_once_and_never_kept_waiting(folder: Path, caplog: pytest.LogCaptureFixture):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(4):
        spool.append(batch(number))
    (segment,) = segments(folder)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([lines[0], b"\0" * 20 + b"\n", lines[2], b"9" * 5_000 + b",1,[]]\n"]))
    for _ in range(3):
        assert [record.sequence for record in spool.read(0, 10)] == [1, 3]
    assert spool.damaged == 2
    assert spool.read(3, 10) == []
    assert spool.waiting == 4  # nothing was said to be stored yet
    database = Database()
    database.replay(spool)
    assert database.stored == [0, 2]
    assert (spool.damaged, spool.waiting, len(caplog.records)) == (2, 0, 1)
    spool.append(batch(4))
    database.replay(spool)
    assert database.stored == [0, 2, 4]


def test_segments_deleted_by_hand_count_as_damaged_and_hold_up_nothing(folder: Path, small_segments: None):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(10):
        spool.append(batch(number))
    for path in segments(folder):
        path.unlink()
    folder.rmdir()
    database = Database()
    database.replay(spool)
    assert (database.stored, spool.damaged, spool.waiting) == ([], 10, 0)
    spool.append(batch(10))
    database.replay(spool)
    assert database.stored == [10]


def test_another_release_is_counted_and_named_once(folder: Path, caplog: pytest.LogCaptureFixture):
    spool = Spool(folder, max_bytes=MIB)
    spool.append(batch(0))
    (segment,) = segments(folder)
    strange = json.dumps([["QuantumSample", {}], *json.loads(to_json(batch(1)))], separators=(",", ":")).encode()
    with segment.open("ab") as file:
        file.write(line(2, strange) + line(3, strange.replace(b'"observed', b'"spin":1,"observed')))
    again = Spool(folder, max_bytes=MIB)
    for _ in range(2):
        assert [number_of(record) for record in again.read(0, 10)] == [0, 1, 1]
    assert (again.unknown, again.damaged) == (3, 0)
    assert [it.message.split(": ")[1].split()[0] for it in caplog.records] == ["QuantumSample", "Event.spin"]


# The bound


def test_over_the_bound_the_oldest_go_and_are_counted(folder: Path, caplog: pytest.LogCaptureFixture):
    spool = Spool(folder, max_bytes=20_000)
    for number in range(500):
        spool.append(batch(number))
        assert spool.bytes <= 20_000
    assert spool.bytes == sum(path.stat().st_size for path in segments(folder)) > 15_000
    assert spool.dropped + spool.waiting == 500
    database = Database()
    database.replay(spool)
    assert database.stored == list(range(spool.dropped, 500))
    assert (spool.damaged, len(caplog.records)) == (0, 1)


def test_what_was_replayed_is_not_dropped(folder: Path):
    spool = Spool(folder, max_bytes=20_000)
    database = Database()
    for number in range(500):
        spool.append(batch(number))
        records = spool.read(database.replayed.get(spool.identity, 0), 1)
        database.store(spool.identity, records)
        spool.discard_through(records[-1].sequence)
    assert (spool.dropped, spool.waiting, database.stored) == (0, 0, list(range(500)))


def test_half_a_segment_replayed_counts_as_half_when_it_goes(folder: Path):
    spool = Spool(folder, max_bytes=8 * 1_000)
    while len(segments(folder) if folder.exists() else []) < 8:
        spool.append(batch(1))
    second = int(segments(folder)[1].name[:20])
    spool.discard_through(second - 3)
    while spool.dropped == 0:
        spool.append(batch(2))
    assert spool.dropped == 2


def test_a_smaller_bound_holds_for_what_an_earlier_process_left(folder: Path):
    spool = Spool(folder, max_bytes=MIB)
    for number in range(200):
        spool.append(batch(number))
    again = Spool(folder, max_bytes=2_000)
    again.append(batch(200))
    assert again.bytes <= 2_000
    assert [number_of(record) for record in again.read(0, 10)] == [200]
    assert again.dropped == 200


def test_a_batch_larger_than_the_bound_is_dropped_alone(folder: Path):
    spool = Spool(folder, max_bytes=2_000)
    spool.append(batch(1))
    spool.append(batch(2, filling=3_000))
    spool.append(batch(3, filling=1_000))  # larger than a segment, within the bound
    assert [number_of(it) for start in (0, 1) for it in spool.read(start, 10)] == [1, 3]
    assert spool.dropped == 1


# A disk that cannot take it


def fill(spool: Spool) -> int:
    """Append until the disk is full; how many batches it took."""
    for number in range(1_000):
        try:
            spool.append(batch(number, filling=10_000))
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                return number
            raise
    raise AssertionError("the disk was never full")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"a small file system cannot be mounted here: {getattr(exc, 'stderr', exc)}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_spool_as_it_was(small_disk: Path):
    spool = Spool(small_disk / "spool", max_bytes=MIB)
    kept = fill(spool)
    assert kept > 10
    size = spool.bytes
    assert fill(spool) == 0
    assert spool.bytes == size == sum(path.stat().st_size for path in segments(small_disk / "spool"))
    database = Database()
    database.replay(spool)
    assert database.stored == list(range(kept))
    spool.append(batch(kept))
    database.replay(Spool(small_disk / "spool", max_bytes=MIB))
    assert database.stored == list(range(kept + 1))
    assert (spool.damaged, spool.dropped) == (0, 0)


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("restart", [False, True])
def test_half_a_line_is_taken_back_or_left_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, truncates: bool, restart: bool
):
    spool = Spool(folder, max_bytes=MIB)
    spool.append(batch(0))
    (segment,) = segments(folder)
    sound = segment.read_bytes()
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) // 2])

    def broken(file: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "write", half)
        if not truncates:
            failing.setattr(os, "ftruncate", broken)
        with pytest.raises(OSError, match="No space left"):
            spool.append(batch(1))
    assert (segment.read_bytes() == sound) is truncates
    if restart:
        spool = Spool(folder, max_bytes=MIB)
    spool.append(batch(2))
    database = Database()
    database.replay(spool)
    assert database.stored == [0, 2]
    assert spool.damaged == (0 if truncates else 1)


def test_a_folder_that_cannot_be_made_says_so_and_may_be_tried_again(tmp_path: Path):
    (tmp_path / "blocked").write_text("")
    spool = Spool(tmp_path / "blocked" / "spool", max_bytes=MIB)
    for _ in range(2):
        with pytest.raises(NotADirectoryError):
            spool.append(batch(1))
    (tmp_path / "blocked").unlink()
    spool.append(batch(1))
    assert spool.waiting == 1
