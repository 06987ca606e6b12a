from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Source, next_tick
from collectors.child import ChildSource
from collectors.runner import Daemon, phase_ns, run_tick
from core.readings import HostSample, Outcome
from storage import queries
from tests.collectors.scripted import Scripted
from tests.conftest import Store

INTERVAL = 0.5


@given(st.integers(0, 2**62), st.integers(1, 10**12), st.integers(0, 10**12))
def test_the_next_tick_lies_on_the_grid_and_after_now(now: int, interval: int, phase: int):
    tick = next_tick(now, interval, phase)
    assert now < tick <= now + interval
    assert (tick - phase) % interval == 0


def test_phases_differ_between_sources_and_stay():
    phases = {phase_ns("box", name, 10**10) for name in ("nvidia", "amd", "cpu", "host", "serving")}
    assert len(phases) == 5
    assert phase_ns("box", "cpu", 10**10) == phase_ns("box", "cpu", 10**10)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script"
    file.write_text("work")
    return file


@pytest.mark.parametrize(
    ("what", "outcome", "error", "rediscover"),
    [
        ("work", Outcome.OK, "", False),
        ("nothing", Outcome.NO_DATA, "no traffic", False),
        ("gone", Outcome.FAILED, "the device fell off the bus", True),
        ("bug", Outcome.FAILED, "unexpected ZeroDivisionError: a defect", False),
    ],
)
def test_any_end_of_a_tick_becomes_a_report(
    script: Path, what: str, outcome: Outcome, error: str, rediscover: bool, caplog: pytest.LogCaptureFixture
):
    script.write_text(what)
    tick = run_tick(Scripted(script), "box", 1000, ticks_missed=3)
    assert (tick.report.outcome, tick.report.error, tick.rediscover) == (outcome, error, rediscover)
    assert tick.report.ticks_missed == 3
    assert ("Traceback" in caplog.text) == (what == "bug")


def test_a_target_has_a_report_of_its_own(script: Path):
    script.write_text("target fails")
    own, target = run_tick(Scripted(script), "box", 1000).reports
    assert (own.outcome, own.readings) == (Outcome.OK, 1)
    assert (target.target, target.outcome, target.error) == ("http://a", Outcome.FAILED, "HTTP 500")


@pytest.fixture
def running(store: Store) -> Iterator[Callable[..., None]]:
    daemons: list[Daemon] = []

    def start(*sources: Source) -> None:
        daemons.append(Daemon(sources, host="box", interval_seconds=INTERVAL, writer=store.writer))
        daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.stop()


def named(script: Path, name: str) -> Scripted:
    source = Scripted(script)
    source.name = name
    return source


def ticks(store: Store, source: str) -> int:
    health = queries.health(store.reader, 0).set_index("source")
    return int(health["ticks"].get(source, 0) - health["failed"].get(source, 0)) if source in health.index else 0


@pytest.mark.parametrize("trouble", ["hang", "segfault", "bug", "gone"])
def test_one_broken_source_costs_no_other_a_tick(
    store: Store,
    running: Callable[..., None],
    tmp_path: Path,
    trouble: str,
):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("work")
    bad.write_text("work")
    child = ChildSource("broken", functools.partial(Scripted, bad), deadline_seconds=0.4)
    running(named(good, "steady"), child)
    time.sleep(2 * INTERVAL)
    before, began = ticks(store, "steady"), time.monotonic()
    bad.write_text(trouble)
    time.sleep(6 * INTERVAL)
    store.settle()
    expected = (time.monotonic() - began) / INTERVAL
    assert ticks(store, "steady") - before >= expected - 1.5
    health = queries.health(store.reader, 0).set_index("source")
    assert health.loc["steady", "ticks_missed"] == 0
    assert health["failed"].to_dict()["broken"] >= 1
    assert health.loc["broken", "error"]


def test_a_source_that_appears_later_is_found(
    store: Store,
    running: Callable[..., None],
    script: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("collectors.runner.FIRST_PAUSE_SECONDS", 0.2)
    script.write_text("absent")
    running(Scripted(script))
    time.sleep(INTERVAL)
    store.settle()
    health = queries.health(store.reader, 0)
    assert (health["available"].item(), health["reason"].item()) == (0, "no driver")
    script.write_text("work")
    time.sleep(4 * INTERVAL)
    assert ticks(store, "scripted") >= 1


def test_a_source_that_cannot_even_be_asked_is_tried_again(
    store: Store,
    running: Callable[..., None],
    script: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("collectors.runner.FIRST_PAUSE_SECONDS", 0.2)
    source = Scripted(script)
    answers = iter([OSError("Resource temporarily unavailable")])
    honest = source.discover

    def discover():
        for error in answers:
            raise error
        return honest()

    monkeypatch.setattr(source, "discover", discover)
    running(source)
    time.sleep(4 * INTERVAL)
    store.settle()
    assert ticks(store, "scripted") >= 1


def test_failure_and_recovery_are_logged_once_each(
    running: Callable[..., None], script: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    script.write_text("bug")
    running(Scripted(script))
    time.sleep(4 * INTERVAL)
    script.write_text("work")
    time.sleep(3 * INTERVAL)
    assert caplog.text.count("scripted fails") == 1
    assert caplog.text.count("scripted works again") == 1


def test_it_is_known_whether_a_source_looks_around_in_this_process(store: Store, script: Path):
    started, over = threading.Event(), threading.Event()
    source = Scripted(script)

    def collect() -> list[HostSample]:
        started.set()
        over.wait(10)
        return []

    source.collect = collect  # type: ignore[method-assign]
    daemon = Daemon((source,), host="box", interval_seconds=INTERVAL, writer=store.writer)
    assert not daemon.is_ticking()
    daemon.start()
    assert started.wait(10)
    assert daemon.is_ticking()
    over.set()
    daemon.stop()
    assert not daemon.is_ticking()
