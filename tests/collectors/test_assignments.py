from __future__ import annotations

from typing import Any

import pytest

from collectors.assignments import FORGET_MS, Assigner
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Listener,
    Reading,
)


def assigner(*foreign: int, awaited: tuple[str, ...] = (), held: tuple[Assignment, ...] = ()) -> Assigner:
    return Assigner("box", awaited=awaited, held=held, pid_exists=lambda pid: pid not in foreign)


def process(device: str, pid: int, host: str = "") -> DeviceProcess:
    return DeviceProcess(key=device, observed_at_ms=0, pid=pid, host=host)


def listener(*pids: int, host: str = "box", **labels: str) -> Listener:
    return Listener(deployment_keys=("s m",), host=host, observed_at_ms=0, pids=frozenset(pids), labels=labels)


def user(device: str, **labels: str) -> DeviceUser:
    return DeviceUser(key=device, observed_at_ms=0, labels=labels)


def device(key: str, host: str = "box", parent_key: str | None = None) -> tuple[Reading, Reading]:
    """An accelerator of which nothing but its being is told."""
    entity = Entity(observed_at_ms=0, family="accelerator", key=key, host=host, parent_key=parent_key)
    return entity, AcceleratorSample(key=key, observed_at_ms=0)


def told(*devices: str, origin: str = "settings", at_ms: int = 0) -> Assignment:
    rest: Any = {"target_family": "accelerator", "origin": origin}
    return Assignment(deployment_key="s m", target_keys=devices, observed_at_ms=at_ms, **rest)


SERVED = DeploymentSample(key="s m", observed_at_ms=0)
ON_CPUS = [("host", ("box",), "processes")]
NOWHERE = [("accelerator", (), "processes")]


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


def test_a_device_that_is_let_go_is_no_longer_assigned():
    some = assigner()
    said(some, process("A", 10), process("B", 10), listener(10))
    empty = AcceleratorSample(key="B", observed_at_ms=0, processes=0)
    assert said(some, empty) == [("accelerator", ("A",), "processes")]


def test_settings_win_over_labels_and_labels_over_processes():
    by_process, by_label = (process("A", 10), listener(10, pod="p")), user("B", pod="p")
    assert said(assigner(), *by_process, by_label, told("Y", "Z")) == [("accelerator", ("Y", "Z"), "settings")]
    assert said(assigner(), *by_process, by_label) == [("accelerator", ("B",), "labels")]


def test_a_server_that_is_gone_runs_nowhere():
    some = assigner()
    said(some, process("A", 10), listener(10))
    assert said(some, at_ms=FORGET_MS) == []
    assert said(some, at_ms=FORGET_MS + 1) == NOWHERE


def test_a_clock_that_is_set_back_does_not_undo_what_was_said():
    some = assigner()
    said(some, listener(10), at_ms=5_000)
    (later,) = some.observe([process("A", 10)], 4_000)
    assert later.observed_at_ms == 5_000


# --- the host's CPUs ---


def test_without_a_device_it_runs_on_the_hosts_cpus():
    assert said(assigner(), listener(10)) == ON_CPUS


def test_processes_of_another_namespace_prove_nothing():
    assert said(assigner(4000), process("A", 4000), listener(10)) == []


def test_nothing_runs_on_cpus_before_every_accelerator_source_was_heard():
    some = assigner(awaited=("nvidia", "amd"))
    assert said(some, listener(10)) == []
    some.heard("amd")
    assert said(some) == []
    some.heard("nvidia")
    assert said(some) == ON_CPUS


def test_what_was_said_of_the_host_is_withdrawn_when_processes_turn_out_to_be_foreign():
    some = assigner(4000)
    said(some, listener(10))
    assert said(some, process("A", 4000)) == NOWHERE


def test_a_device_here_whose_processes_are_not_known_may_be_the_servers():
    assert said(assigner(), *device("A"), listener(10)) == []
    assert said(assigner(), AcceleratorSample(key="A", observed_at_ms=0), listener(10)) == []
    assert said(assigner(), *device("A", host="far"), listener(10)) == ON_CPUS


def test_a_divided_device_leaves_its_processes_to_its_slices():
    some = assigner()
    assert said(some, *device("A"), *device("A/1", parent_key="A"), process("A/1", 99), listener(10)) == ON_CPUS


def test_a_device_that_comes_back_is_not_described_again():
    some = assigner()
    said(some, *device("A"))
    said(some, at_ms=FORGET_MS + 1)
    assert said(some, AcceleratorSample(key="A", observed_at_ms=0), listener(10), at_ms=FORGET_MS + 2) == []


# --- process numbers of several machines ---


def test_process_numbers_of_two_machines_have_nothing_in_common():
    far = listener(10, host="far")
    assert said(assigner(), process("A", 10), far) == []
    assert said(assigner(), process("A", 10, host="far"), listener(10)) == ON_CPUS
    assert said(assigner(), process("A", 10), process("B", 10, host="far"), far) == [
        ("accelerator", ("B",), "processes")
    ]
    assert said(assigner(), process("A", 10), process("B", 10, host="far"), listener(10)) == [
        ("accelerator", ("A",), "processes")
    ]


def test_an_exporter_on_this_machine_counts_as_it_does():
    assert said(assigner(), process("A", 10, host="box"), listener(10)) == [("accelerator", ("A",), "processes")]
    assert said(assigner(10), process("A", 10, host="box"), listener(11)) == []


def test_a_server_elsewhere_does_not_run_on_any_cpus_that_are_known():
    assert said(assigner(), *device("A", host="far"), listener(host="far", pod="p"), SERVED) == []
    assert said(assigner(), listener(10, host="far")) == []
    assert said(assigner(), listener(pod="p")) == []


# --- labels ---


@pytest.mark.parametrize(
    ("server", "given", "is_same"),
    [
        ({"pod": "p", "namespace": "n"}, {"pod": "p", "namespace": "n", "container": "c"}, True),
        ({"pod": "p", "namespace": "n"}, {"pod": "p", "namespace": "o"}, False),
        ({"pod": "p"}, {"pod": "p", "namespace": "n"}, True),
        ({"pod": "p", "namespace": ""}, {"pod": "p", "namespace": "n"}, True),
        ({"pod": "p", "container": "c"}, {"pod": "p", "container": "d"}, False),
        ({"pod": "p", "job": "7"}, {"pod": "p", "job": "8"}, False),
        ({"job": "7"}, {"job": "7"}, True),
        ({"container_id": "3f"}, {"container_id": "3f", "pod": "p"}, True),
        ({"namespace": "n", "container": "c"}, {"namespace": "n", "container": "c"}, False),
        ({"pod": "p"}, {"job": "p"}, False),
        ({"pod": ""}, {"pod": ""}, False),
        ({}, {"pod": "p"}, False),
        ({"pod": "p"}, {}, False),
    ],
)
def test_labels_agree_in_all_that_both_have_and_one_of_these_names_a_workload(server, given, is_same):
    found = said(assigner(), *device("A", host="far"), user("A", **given), listener(host="far", **server))
    assert found == ([("accelerator", ("A",), "labels")] if is_same else [])


def test_a_workload_has_all_its_devices_on_all_machines():
    given = (user("A", pod="p", namespace="n"), user("B", pod="p", namespace="n"), user("C", pod="q", namespace="n"))
    devices = (*device("A", "one"), *device("B", "two"), *device("C", "two"))
    found = said(assigner(), *devices, *given, listener(host="one", pod="p"))
    assert found == [("accelerator", ("A", "B"), "labels")]


def test_pods_of_one_name_in_two_namespaces_are_not_told_apart():
    given = (user("A", pod="p", namespace="n"), user("B", pod="p", namespace="m"))
    assert said(assigner(), *given, listener(host="far", pod="p")) == []
    assert said(assigner(), *given, listener(host="far", pod="p", namespace="m")) == [("accelerator", ("B",), "labels")]


def test_a_device_that_pods_share_is_each_ones():
    some = assigner()
    both = (user("A", pod="p"), user("A", pod="q"))
    other = Listener(deployment_keys=("s n",), host="far", observed_at_ms=0, labels={"pod": "q"})
    assert said(some, *both, listener(host="far", pod="p"), other) == [("accelerator", ("A",), "labels")] * 2
    assert said(some, user("A", pod="q")) == NOWHERE
    assert said(some, user("A")) == NOWHERE


# --- from when, and until when ---


def ends(some: Assigner, *readings: Reading, at_ms: int) -> int:
    (end,) = some.observe(readings, at_ms)
    assert end.target_keys == ()
    return end.observed_at_ms


def test_a_target_that_misses_a_tick_ends_nothing_and_one_that_is_silent_ends_it_when_it_was_last_heard():
    by_label, by_process = assigner(), assigner()
    far = listener(10, host="far")
    said(by_label, user("A", pod="p"), listener(host="far", pod="p"))
    said(by_process, process("A", 10, host="far"), far)
    for at_ms in range(10_000, FORGET_MS + 1, 10_000):
        assert said(by_label, listener(host="far", pod="p"), at_ms=at_ms) == []
        assert said(by_process, far, at_ms=at_ms) == []
    assert ends(by_label, listener(host="far", pod="p"), at_ms=FORGET_MS + 1) == 0
    assert ends(by_process, far, at_ms=FORGET_MS + 1) == 0


def test_processes_that_an_exporter_lists_no_more_have_ended_when_it_last_did():
    some = assigner()
    far = listener(10, host="far")
    said(some, *device("A", host="far"), process("A", 10, host="far"), far, at_ms=1_000)
    assert said(some, *device("A", host="far"), far, at_ms=1_000 + FORGET_MS) == []
    assert ends(some, *device("A", host="far"), far, at_ms=1_001 + FORGET_MS) == 1_000


def test_a_driver_lists_processes_now_and_then_and_they_hold_as_long_as_it_speaks():
    some = assigner()
    said(some, *device("A"), process("A", 10), listener(10))
    for at_ms in range(30_000, 10 * FORGET_MS, 30_000):
        assert said(some, AcceleratorSample(key="A", observed_at_ms=0), listener(10), at_ms=at_ms) == []


def test_far_apart_ticks_are_waited_for():
    some = Assigner("box", interval_seconds=100.0)
    said(some, user("A", pod="p"), listener(host="far", pod="p"))
    assert said(some, at_ms=300_000) == []
    assert said(some, at_ms=300_001) == NOWHERE


# --- a daemon that begins where another ended ---


def test_what_still_holds_is_said_again_and_not_ended():
    some = assigner(held=(told("A", "B", origin="processes", at_ms=500),))
    assert said(some, listener(10), at_ms=1_000) == []  # it would run on CPUs, if this were all
    assert said(some, process("A", 10), at_ms=2_000) == []
    assert said(some, process("B", 10), at_ms=3_000) == [("accelerator", ("A", "B"), "processes")]
    assert said(some, at_ms=4_000) == []


def test_what_holds_no_more_ended_when_it_was_last_seen():
    gone, less = told("A", origin="processes", at_ms=500), told("A", "B", origin="processes", at_ms=500)
    assert said(some := assigner(held=(gone,)), at_ms=1_000) == []
    assert ends(some, at_ms=1_000 + FORGET_MS) == 500
    some = assigner(held=(less,))
    held = (process("A", 10), listener(10))
    assert said(some, *held, at_ms=1_000) == []
    (part,) = some.observe(held, 1_000 + FORGET_MS)
    assert (part.target_keys, part.observed_at_ms) == (("A",), 500)


def test_what_is_known_otherwise_is_said_at_once():
    some = assigner(held=(told("A", origin="processes", at_ms=500),))
    (moved,) = some.observe([process("B", 10), listener(10)], 1_000)
    assert (moved.target_keys, moved.observed_at_ms) == (("B",), 1_000)


def test_a_better_origin_is_waited_for():
    some = assigner(held=(told("A", origin="labels", at_ms=500),))
    assert said(some, process("B", 10), listener(10), at_ms=1_000) == []
    assert said(some, process("B", 10), listener(10), at_ms=1_000 + FORGET_MS) == [("accelerator", ("B",), "processes")]
