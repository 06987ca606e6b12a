"""From when until when, as a real database holds it: through ``Assigner`` and the writer."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import text

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
from storage.rows import open_assignments
from tests.conftest import START_MS, Store

FORGET_SECONDS = FORGET_MS // 1000
Row = tuple[str, str, str, float, float | None]
"""Deployment, target, origin, from when and until when in seconds."""


@dataclass
class Daemon:
    """What a daemon does with what its sources say."""

    store: Store

    def __post_init__(self) -> None:
        held = self.store.writer.call(lambda connection: open_assignments(connection, "box"))
        self._assigner = Assigner("box", held=held, pid_exists=lambda pid: True)

    def hears(self, seconds: int, *readings: Reading) -> None:
        self.store.write(*readings, *self._assigner.observe(readings, START_MS + seconds * 1000))


@pytest.fixture
def daemon(store: Store) -> Daemon:
    return Daemon(store)


def rows(store: Store) -> list[Row]:
    statement = """
        SELECT deployment.key, target.key, origin, valid_from_ms, valid_to_ms
        FROM assignment
        JOIN entity AS deployment ON deployment.entity_id = deployment_id
        JOIN entity AS target ON target.entity_id = target_id
        ORDER BY valid_from_ms, deployment.key, target.key
    """
    with store.reader.connect() as connection:
        return [
            (deployment, target, origin, (begin - START_MS) / 1000, None if end is None else (end - START_MS) / 1000)
            for deployment, target, origin, begin, end in connection.execute(text(statement))
        ]


def served(deployment: str, seconds: int, *pids: int, host: str = "box", **labels: str) -> tuple[Reading, Reading]:
    at_ms = START_MS + seconds * 1000
    return (
        DeploymentSample(key=deployment, observed_at_ms=at_ms, running_requests=1),
        Listener(deployment_keys=(deployment,), host=host, observed_at_ms=at_ms, pids=frozenset(pids), labels=labels),
    )


def held(device: str, seconds: int, *pids: int, host: str = "") -> tuple[Reading, ...]:
    at_ms = START_MS + seconds * 1000
    return (
        AcceleratorSample(key=device, observed_at_ms=at_ms, processes=len(pids)),
        *(DeviceProcess(key=device, observed_at_ms=at_ms, pid=pid, host=host) for pid in pids),
    )


def given(device: str, seconds: int, host: str, **labels: str) -> tuple[Reading, ...]:
    at_ms = START_MS + seconds * 1000
    return (
        Entity(observed_at_ms=at_ms, family="accelerator", key=device, host=host),
        AcceleratorSample(key=device, observed_at_ms=at_ms),
        DeviceUser(key=device, observed_at_ms=at_ms, labels=labels),
    )


def test_a_second_deployment_on_the_same_accelerator(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *served("d", 0, 10))
    daemon.hears(10, *held("A", 10, 10, 20), *served("d", 10, 10), *served("e", 10, 20))
    daemon.hears(20, *held("A", 20, 20), *served("d", 20, 10), *served("e", 20, 20))
    assert rows(daemon.store) == [
        ("d", "A", "processes", 0, 20),
        ("e", "A", "processes", 10, None),
        ("d", "box", "processes", 20, None),
    ]


def test_a_deployment_that_moves(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *held("B", 0), *served("d", 0, 10))
    daemon.hears(10, *held("A", 10), *held("B", 10, 11), *served("d", 10, 11))
    daemon.hears(20, *held("A", 20), *held("B", 20, 11), *served("d", 20, 11))
    assert rows(daemon.store) == [("d", "A", "processes", 0, 10), ("d", "B", "processes", 10, None)]


def test_a_deployment_that_grows_and_shrinks(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *held("B", 0), *served("d", 0, 10))
    daemon.hears(10, *held("A", 10, 10), *held("B", 10, 10), *served("d", 10, 10))
    daemon.hears(20, *held("A", 20, 10), *held("B", 20), *served("d", 20, 10))
    assert rows(daemon.store) == [("d", "A", "processes", 0, None), ("d", "B", "processes", 10, 10)]


def test_a_deployment_over_two_hosts_of_which_two_exporters_tell(daemon: Daemon):
    daemon.hears(0, *given("A", 0, "one", pod="p"), *served("d", 0, host="one", pod="p"))
    daemon.hears(5, *given("B", 5, "two", pod="p"), *given("C", 5, "two", pod="q"))
    assert rows(daemon.store) == [("d", "A", "labels", 0, None), ("d", "B", "labels", 5, None)]


def test_a_deployment_over_two_hosts_as_two_daemons_tell(daemon: Daemon):
    """Each knows the processes of its own machine; what the first says of the deployment names all accelerators."""
    everywhere = Assignment(
        deployment_key="d",
        target_family="accelerator",
        target_keys=("A", "B"),
        origin="settings",
        observed_at_ms=START_MS,
    )
    daemon.hears(0, *held("A", 0, 10, host="one"), *served("d", 0, 10, host="one"), everywhere)
    daemon.hears(0, *held("B", 0, 10, host="two"), *served("e", 0, 10, host="two"))
    assert rows(daemon.store) == [
        ("d", "A", "settings", 0, None),
        ("d", "B", "settings", 0, None),
        ("e", "B", "processes", 0, None),
    ]


def test_another_origin_is_another_row_without_a_gap(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *served("d", 0, 10, pod="p"))
    daemon.hears(10, *given("A", 10, "box", pod="p"))
    daemon.hears(20, *given("A", 20, "box"), *served("d", 20, 10, pod="p"))
    assert rows(daemon.store) == [
        ("d", "A", "processes", 0, 10),
        ("d", "A", "labels", 10, 20),
        ("d", "A", "processes", 20, None),
    ]


def test_a_device_that_vanishes(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *held("B", 0, 10), *served("d", 0, 10))
    daemon.hears(10, *held("A", 10, 10), *held("B", 10, 10), *served("d", 10, 10))
    for seconds in range(20, 101, 10):
        daemon.hears(seconds, *held("A", seconds, 10), *served("d", seconds, 10))
    assert rows(daemon.store) == [("d", "A", "processes", 0, None), ("d", "B", "processes", 0, 10)]


def test_an_exporter_that_misses_a_tick_and_one_that_is_silent(daemon: Daemon):
    daemon.hears(0, *given("A", 0, "one", pod="p"), *served("d", 0, host="one", pod="p"))
    for seconds in range(10, FORGET_SECONDS, 10):
        daemon.hears(seconds, *served("d", seconds, host="one", pod="p"))
    daemon.hears(FORGET_SECONDS, *given("A", FORGET_SECONDS, "one", pod="p"))
    for seconds in range(FORGET_SECONDS + 10, 2 * FORGET_SECONDS + 11, 10):
        daemon.hears(seconds, *served("d", seconds, host="one", pod="p"))
    assert rows(daemon.store) == [("d", "A", "labels", 0, FORGET_SECONDS)]


def test_what_was_open_when_the_daemon_ended_goes_on(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *held("B", 0, 10), *served("d", 0, 10))
    again = Daemon(daemon.store)
    for seconds in range(300, 300 + 2 * FORGET_SECONDS, 10):
        again.hears(seconds, *held("A", seconds, 10), *served("d", seconds, 10))
        again.hears(seconds + 5, *held("B", seconds + 5, 10))
    assert rows(daemon.store) == [("d", "A", "processes", 0, None), ("d", "B", "processes", 0, None)]


def test_what_ended_while_no_daemon_ran_ended_when_it_was_last_seen(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *held("B", 0, 20), *served("d", 0, 10), *served("e", 0, 20))
    daemon.hears(70, *held("A", 70, 10), *held("B", 70, 20), *served("d", 70, 10), *served("e", 70, 20))
    again = Daemon(daemon.store)
    for seconds in range(300, 301 + FORGET_SECONDS, 10):
        again.hears(seconds, *held("A", seconds), *held("B", seconds, 20), *served("e", seconds, 20))
    assert rows(daemon.store) == [("d", "A", "processes", 0, 70), ("e", "B", "processes", 0, None)]


def test_what_moved_while_no_daemon_ran(daemon: Daemon):
    daemon.hears(0, *held("A", 0, 10), *served("d", 0, 10))
    Daemon(daemon.store).hears(300, *held("A", 300), *held("B", 300, 11), *served("d", 300, 11))
    assert rows(daemon.store) == [("d", "A", "processes", 0, 300), ("d", "B", "processes", 300, None)]
