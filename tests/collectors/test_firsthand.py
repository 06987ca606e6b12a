"""A driver and an exporter that tell of the same accelerator."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from collectors.base import Availability, now_ms
from collectors.firsthand import HANDED_ON_MS, Firsthand
from collectors.runner import Daemon
from core.readings import (
    AcceleratorSample,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Event,
    HostSample,
    Listener,
    Reading,
    Severity,
)
from storage import queries
from tests.conftest import Store

USER = DeviceUser(key="A", observed_at_ms=0, labels={"pod": "tiny-0"})
ELSEWHERE = HostSample(key="far", observed_at_ms=0, load_1m=1.0)


def sample(key: str = "A", **values: float) -> AcceleratorSample:
    return AcceleratorSample(key=key, observed_at_ms=0, **values)


def told(key: str = "A") -> tuple[Reading, ...]:
    """All that an exporter says of a device, but for whom it is given to."""
    return (
        Entity(observed_at_ms=0, family="accelerator", key=key, host="box"),
        sample(key, power_watts=101.0),
        DeviceProcess(key=key, observed_at_ms=0, pid=7, host="box"),
        Event(
            family="accelerator",
            key=key,
            observed_at_ms=0,
            kind="xid",
            severity=Severity.WARNING,
            message="Xid 31",
        ),
    )


def only(some: Firsthand, source: str, *readings: Reading, at_ms: int = 0, heard: bool = True) -> tuple[Reading, ...]:
    return some.only(source, readings, at_ms, drivers_heard=heard)


@pytest.mark.parametrize("driver", ["nvidia", "amd"])
def test_of_a_device_that_its_driver_reports_an_exporter_tells_only_whom_it_is_given_to(driver):
    some = Firsthand()
    assert only(some, driver, sample()) == (sample(),)
    assert only(some, "exporters", *told(), USER, ELSEWHERE, *told("B")) == (USER, ELSEWHERE, *told("B"))


def test_a_slice_of_it_is_the_drivers_too_with_its_users():
    some = Firsthand()
    only(some, "nvidia", sample())
    given = DeviceUser(key="A/3", observed_at_ms=0, labels={"pod": "tiny-0"})
    assert only(some, "exporters", *told("A/3"), given, *told("AA/3")) == told("AA/3")


def test_a_device_that_its_driver_reports_no_more_is_left_to_the_exporter():
    some = Firsthand()
    only(some, "nvidia", sample())
    assert only(some, "exporters", *told(), at_ms=HANDED_ON_MS) == ()
    assert only(some, "exporters", *told(), at_ms=HANDED_ON_MS + 1) == told()


def test_other_sources_say_nothing_firsthand():
    some = Firsthand()
    only(some, "exporters", *told())
    assert only(some, "exporters", *told()) == told()


def test_until_every_driver_was_heard_what_an_exporter_says_waits():
    some = Firsthand()
    entity, measured, process, event = told("B")
    assert only(some, "exporters", *told("B"), *told("A"), USER, ELSEWHERE, heard=False) == (ELSEWHERE,)
    only(some, "nvidia", sample("A"), heard=False)
    later = sample("B", power_watts=102.0)
    assert only(some, "exporters", later, process) == (entity, measured, event, later, process)
    assert only(some, "exporters", later) == (later,)


class Steady:
    """Says the same at every tick."""

    def __init__(self, name: str, *readings: Reading) -> None:
        self.name = name
        self._readings = readings

    def discover(self) -> Availability:
        return Availability(True)

    def collect(self) -> Iterable[Reading]:
        for reading in self._readings:
            yield replace(reading, observed_at_ms=now_ms())

    def close(self) -> None:
        """Nothing to release."""


def test_a_daemon_with_both_stores_one_course(store: Store):
    interval = 0.3
    nvidia = Steady("nvidia", told()[0], sample(power_watts=99.0, processes=0), sample("C", power_watts=98.0))
    exporters = Steady("exporters", *told(), USER, sample("B", power_watts=102.0))
    serving = Steady(
        "serving",
        DeploymentSample(key="d", observed_at_ms=0, running_requests=1),
        Listener(deployment_keys=("d",), host="far", observed_at_ms=0, labels=USER.labels),
    )
    daemon = Daemon((nvidia, exporters, serving), host="box", interval_seconds=interval, writer=store.writer)
    began_ms = now_ms()
    daemon.start()
    time.sleep(6 * interval)
    daemon.stop()
    store.settle()
    ended_ms = now_ms()
    stored = queries.read(store.reader, "accelerator", ["power_watts"], None, began_ms, ended_ms, 3_600_000)
    assert sorted(zip(stored["power_watts_min"], stored["power_watts_max"], strict=True)) == [
        (98.0, 98.0),
        (99.0, 99.0),
        (102.0, 102.0),
    ]
    assert queries.assignments(store.reader, began_ms, ended_ms)["origin"].to_list() == ["labels"]
