from __future__ import annotations

from collectors.assignments import FORGET_MS, Assigner
from core.readings import AcceleratorSample, Assignment, DeviceProcess, Listener, Reading


def assigner(*foreign: int, awaited: tuple[str, ...] = ()) -> Assigner:
    return Assigner("box", awaited=awaited, pid_exists=lambda pid: pid not in foreign)


def process(device: str, pid: int) -> DeviceProcess:
    return DeviceProcess(key=device, observed_at_ms=0, pid=pid)


def listener(*pids: int, at_ms: int = 0) -> Listener:
    return Listener(deployment_keys=("s m",), host="box", observed_at_ms=at_ms, pids=frozenset(pids))


def said(some: Assigner, *readings: Reading, at_ms: int = 0) -> list[tuple[str, tuple[str, ...], str]]:
    return [(a.target_family, a.target_keys, a.origin) for a in some.observe(readings, at_ms)]


def test_the_process_on_the_device_is_the_one_that_listens():
    found = said(assigner(), process("A", 10), process("B", 11), process("C", 99), listener(10, 11, 12))
    assert found == [("accelerator", ("A", "B"), "processes")]


def test_sources_report_at_different_times():
    some = assigner()
    assert said(some, process("A", 10)) == []
    assert said(some, listener(10)) == [("accelerator", ("A",), "processes")]
    assert said(some, listener(10)) == []


def test_without_a_device_it_runs_on_the_hosts_cpus():
    assert said(assigner(), listener(10)) == [("host", ("box",), "processes")]


def test_processes_of_another_namespace_prove_nothing():
    assert said(assigner(4000), process("A", 4000), listener(10)) == []


def test_a_device_that_is_let_go_is_no_longer_assigned():
    some = assigner()
    said(some, process("A", 10), process("B", 10), listener(10))
    empty = AcceleratorSample(key="B", observed_at_ms=0, processes=0)
    assert said(some, empty) == [("accelerator", ("A",), "processes")]


def test_settings_win_over_processes():
    told = Assignment(
        deployment_key="s m", target_family="accelerator", target_keys=("Z",), origin="settings", observed_at_ms=0
    )
    assert said(assigner(), process("A", 10), listener(10), told) == [("accelerator", ("Z",), "settings")]


def test_a_server_that_is_gone_runs_nowhere():
    some = assigner()
    said(some, process("A", 10), listener(10))
    assert said(some, at_ms=FORGET_MS) == []
    assert said(some, at_ms=FORGET_MS + 1) == [("accelerator", (), "processes")]


def test_nothing_runs_on_cpus_before_every_accelerator_source_was_heard():
    some = assigner(awaited=("nvidia", "amd"))
    assert said(some, listener(10)) == []
    some.heard("amd")
    assert said(some) == []
    some.heard("nvidia")
    assert said(some) == [("host", ("box",), "processes")]


def test_what_was_said_of_the_host_is_withdrawn_when_processes_turn_out_to_be_foreign():
    some = assigner(4000)
    said(some, listener(10))
    assert said(some, process("A", 4000)) == [("accelerator", (), "processes")]


def test_a_clock_that_is_set_back_does_not_undo_what_was_said():
    some = assigner()
    said(some, listener(10, at_ms=5_000), at_ms=5_000)
    (later,) = some.observe([process("A", 10)], 4_000)
    assert later.observed_at_ms == 5_000
