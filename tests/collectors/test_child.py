from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.child import ChildSource
from core.errors import DeadlineExceeded, NoData, SourceUnavailable
from core.readings import HostSample
from tests.collectors.scripted import Scripted


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script"
    file.write_text("work")
    return file


@pytest.fixture
def child(script: Path) -> Iterator[ChildSource]:
    source = ChildSource("scripted", functools.partial(Scripted, script), deadline_seconds=1.0)
    yield source
    source.close()


def pid_of(child: ChildSource) -> int:
    (sample,) = child.collect()
    assert isinstance(sample, HostSample)
    return int(sample.key)


def ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_readings_come_from_another_process(child: ChildSource):
    assert child.discover().ok
    assert pid_of(child) != os.getpid()


def test_without_devices_no_process_stays(child: ChildSource, script: Path):
    script.write_text("absent")
    found = child.discover()
    assert (found.ok, found.reason, found.remedy) == (False, "no driver", "install it")
    with pytest.raises(SourceUnavailable):
        child.collect()


def test_a_hang_costs_its_deadline_and_the_process(child: ChildSource, script: Path):
    child.discover()
    pid = pid_of(child)
    script.write_text("hang")
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="no answer within 1 s"):
        child.collect()
    assert time.monotonic() - began < 3
    assert ended(pid)


@pytest.mark.parametrize(("what", "said"), [("segfault", "died of SIGSEGV"), ("exit", "ended with code 3")])
def test_a_crash_is_told_and_the_next_discovery_starts_anew(child: ChildSource, script: Path, what: str, said: str):
    child.discover()
    first = pid_of(child)
    script.write_text(what)
    with pytest.raises(SourceUnavailable, match=said):
        child.collect()
    script.write_text("work")
    assert child.discover().ok
    assert pid_of(child) != first


def test_errors_arrive_as_they_are(child: ChildSource, script: Path):
    child.discover()
    script.write_text("nothing")
    with pytest.raises(NoData, match="no traffic"):
        child.collect()
    script.write_text("bug")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a defect"):
        child.collect()
    script.write_text("work")
    assert pid_of(child)


def test_close_twice_ends_the_process(child: ChildSource):
    child.discover()
    pid = pid_of(child)
    child.close()
    child.close()
    assert ended(pid)


def test_a_source_that_cannot_be_built_is_unavailable():
    child = ChildSource("scripted", functools.partial(Scripted), deadline_seconds=1.0)
    found = child.discover()
    assert not found.ok
    assert "ended with code 1" in found.reason
