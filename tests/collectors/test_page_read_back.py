"""A page that one Vatio renders, fetched over HTTP and read by another: what comes back is what went in."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from collectors.page.latest import Latest
from collectors.page.render import Page
from collectors.sources.exporters.source import ExportersSource
from collectors.sources.simulated.source import SimulatedSource
from core.catalog import FAMILIES
from core.metric import Metric
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Event,
    HostSample,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
    Sample,
    Severity,
    TargetReport,
)
from core.settings import ExporterTarget
from tests.fixtures.metrics_server import MetricsServer

INF = math.inf


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Pair:
    """One Vatio (what it knows, its page) and another that reads it."""

    def __init__(self, server: MetricsServer) -> None:
        self.server = server
        self.at_ms = now_ms()
        self.restart()
        self.source = self.reader()

    def restart(self) -> None:
        self.latest = Latest("far", 10.0)
        self.page = Page(self.latest, "0004")
        self.began = self.at_ms / 1000 - 100

    def reader(self, host: str = "hub") -> ExportersSource:
        return ExportersSource(
            host,
            targets=[ExporterTarget(url=self.server.url)],
            file_sd=(),
            max_body_bytes=16 << 20,
            deadline_seconds=5.0,
        )

    def say(self, *readings: Reading) -> None:
        self.latest.take(readings, ())

    def look(self) -> list[Reading]:
        """What the other one reads now. Its beginning is set, so that a test can restart it."""
        lines = self.page.render().decode().split("\n")
        self.server.show(
            "\n".join(
                f"process_start_time_seconds {self.began!r}" if line.startswith("process_start_time") else line
                for line in lines
            )
        )
        readings = list(self.source.collect())
        (report,) = (reading for reading in readings if isinstance(reading, TargetReport))
        assert report.outcome is Outcome.OK, report.error
        return [reading for reading in readings if reading is not report]

    def samples(self) -> list[Sample]:
        return [reading for reading in self.look() if isinstance(reading, Sample)]

    def latency(self) -> list[LatencySample]:
        return [reading for reading in self.look() if isinstance(reading, LatencySample)]

    def events(self) -> list[Event]:
        return [reading for reading in self.look() if isinstance(reading, Event)]

    def later(self, seconds: int = 10) -> int:
        self.at_ms += seconds * 1000
        return self.at_ms


@pytest.fixture
def pair() -> Iterator[Pair]:
    with MetricsServer("") as server:
        pair = Pair(server)
        yield pair
        pair.source.close()


def of(kind: type[Reading], readings: Iterable[Reading]) -> list[Any]:
    return [reading for reading in readings if isinstance(reading, kind)]


def deployment(at_ms: int, **values: float) -> DeploymentSample:
    return DeploymentSample(key="D", observed_at_ms=at_ms, running_requests=1.0, **values)


def ttft(at_ms: int, *increments: float, bounds: tuple[float, ...] = (0.1, INF), total: float = 0.5) -> LatencySample:
    return LatencySample(
        key="D",
        kind=Latency.TTFT,
        observed_at_ms=at_ms,
        upper_bounds_seconds=bounds,
        increments=increments,
        sum_seconds=total,
    )


def assigned(*keys: str, **more: Any) -> Assignment:
    values = {"target_family": "accelerator", "origin": "processes"} | more
    return Assignment(deployment_key="D", target_keys=keys, **{"observed_at_ms": now_ms()} | values)


def test_what_the_simulated_fleet_says_comes_back_as_it_was(pair: Pair):
    source = SimulatedSource("far")
    source.discover()
    first, second = list(source.collect()), list(source.at(now_ms(), now_ms() - 10_000))
    pair.say(*first)
    described = of(Entity, pair.look())
    pair.say(*second)
    read = pair.look()
    assert {(e.family, e.key): replace(e, observed_at_ms=0) for e in described} == {
        (e.family, e.key): replace(e, observed_at_ms=0) for e in of(Entity, first)
    }
    sampled = (AcceleratorSample, HostSample, DeploymentSample)
    assert {(s.family, s.key): s for s in read if isinstance(s, sampled)} == {
        (s.family, s.key): s for s in second if isinstance(s, sampled)
    }
    histograms = {(s.key, s.kind): s for s in of(LatencySample, read)}
    assert len(histograms) == len(of(LatencySample, second))
    for expected in of(LatencySample, second):
        got = histograms[expected.key, expected.kind]
        assert replace(got, sum_seconds=None) == replace(expected, sum_seconds=None)
        assert got.sum_seconds == pytest.approx(expected.sum_seconds, rel=1e-12)
    assert {replace(a, observed_at_ms=0) for a in of(Assignment, read)} == {
        replace(a, observed_at_ms=0, target_keys=tuple(sorted(a.target_keys))) for a in of(Assignment, first)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_metric_comes_back_in_its_type(pair: Pair, family: str):
    def value(metric: Metric, number: int) -> float:
        return 2**53 - number if metric.integer else 0.1 + number / 7

    values: dict[str, Any] = {metric.name: value(metric, i) for i, metric in enumerate(FAMILIES[family].metrics)}
    if family == "probe":
        values |= {"outcome": Outcome.OK, "token_count_estimated": True}
    sample = FAMILIES[family].sample_type(key="k", observed_at_ms=pair.at_ms, **values)
    pair.say(sample)
    (read,) = pair.samples()
    assert read == sample
    assert {name: type(getattr(read, name)) for name in values} == {name: type(of) for name, of in values.items()}


def test_what_is_unknown_stays_unknown_and_zero_stays_zero(pair: Pair):
    sample = AcceleratorSample(key="G", observed_at_ms=pair.at_ms, power_watts=0.0, processes=0)
    pair.say(sample)
    assert pair.samples() == [sample]


def test_a_probe_that_failed_comes_back_without_the_figures_of_the_one_before(pair: Pair):
    pair.say(ProbeSample(key="p", observed_at_ms=pair.at_ms, outcome=Outcome.OK, ttft_seconds=0.2))
    assert len(pair.samples()) == 1
    failed = ProbeSample(key="p", observed_at_ms=pair.later(1), outcome=Outcome.FAILED, error='HTTP 500 "x"\n')
    pair.say(failed)
    assert pair.samples() == [failed]


def test_figures_that_are_read_seldom_belong_to_their_own_instant(pair: Pair):
    whole = AcceleratorSample(key="G", observed_at_ms=pair.at_ms, power_watts=1.0, pcie_lanes=16)
    pair.say(whole)
    assert pair.samples() == [whole]
    fast = AcceleratorSample(key="G", observed_at_ms=pair.later(1), power_watts=2.0)
    pair.say(fast)
    assert pair.samples() == [fast]
    assert pair.samples() == [fast], "the newest is told again: it is what the page says"
    slow = AcceleratorSample(key="G", observed_at_ms=pair.later(1), power_watts=3.0, pcie_lanes=8)
    newest = AcceleratorSample(key="G", observed_at_ms=pair.later(1), power_watts=4.0)
    pair.say(slow, newest)
    assert pair.samples() == [replace(slow, power_watts=None), newest], "of a tick that was missed, what is left"
    pair.source.close()
    pair.source = pair.reader()
    assert pair.samples() == [newest], "who comes later begins with a whole sample"


def test_an_instant_that_cannot_be_is_damage(pair: Pair):
    far = AcceleratorSample(key="G", observed_at_ms=pair.at_ms + 10 * 365 * 86_400_000, power_watts=1.0)
    good = AcceleratorSample(key="H", observed_at_ms=pair.at_ms, power_watts=1.0)
    pair.say(far, good)
    assert pair.samples() == [good]


def test_descriptions_have_host_parent_and_labels_and_changes_are_told(pair: Pair):
    mig = Entity(
        observed_at_ms=pair.at_ms,
        family="accelerator",
        key="MIG-1",
        host="node-7",
        parent_key="GPU-1",
        labels={"profile": "1g.10gb", "driver": 'a"b\\\n', "empty": ""},
    )
    pair.say(mig, AcceleratorSample(key="MIG-1", observed_at_ms=pair.at_ms, memory_used_bytes=1))
    (read,) = of(Entity, pair.look())
    assert replace(read, observed_at_ms=mig.observed_at_ms) == mig
    assert of(Entity, pair.look()) == [], "told once"
    pair.say(replace(mig, labels={"driver": "2"}))
    assert [entity.labels for entity in of(Entity, pair.look())] == [{"driver": "2"}]


def test_latency_is_what_was_added_between_two_looks(pair: Pair):
    pair.say(deployment(pair.at_ms), ttft(pair.at_ms, 100, 7))
    assert pair.latency() == [], "when that was is not known"
    assert pair.latency() == [], "nothing new"
    one = ttft(pair.later(), 3, 1)
    pair.say(one)
    assert pair.latency() == [one]
    idle = ttft(pair.later(), 0, 0, total=0.0)
    pair.say(idle)
    assert pair.latency() == [idle], "an interval without requests is one"
    pair.say(ttft(pair.later(), 2, 0), ttft(pair.later(), 4, 1))
    assert pair.latency() == [ttft(pair.at_ms, 6, 1, total=1.0)], "a look that was missed is made good"


def test_a_histogram_that_appears_or_changes_its_bounds_began_at_zero(pair: Pair):
    pair.say(deployment(pair.at_ms))
    assert pair.latency() == []
    one = ttft(pair.later(), 3, 1)
    pair.say(one)
    assert pair.latency() == [one]
    other = ttft(pair.later(), 5, 0, bounds=(0.2, INF))
    pair.say(other)
    assert pair.latency() == [other]


def test_a_daemon_that_began_again_counts_from_zero_however_much_it_counted(pair: Pair):
    pair.say(deployment(pair.at_ms), ttft(pair.at_ms, 2, 0))
    assert pair.latency() == []
    pair.restart()
    pair.began += 50
    more = ttft(pair.later(), 90, 9)
    pair.say(deployment(pair.at_ms), more)
    assert pair.latency() == [more]


def test_a_daemon_that_began_while_it_was_watched_is_known_from_its_first_page(pair: Pair):
    pair.server.stop()
    assert [type(reading) for reading in pair.source.collect()] == [TargetReport]
    pair.server.start()
    pair.began = now_ms() / 1000 + 1
    first = ttft(pair.at_ms, 5, 1)
    pair.say(deployment(pair.at_ms), first)
    assert pair.latency() == [first]


def test_processes_have_the_host_whose_numbers_they_are(pair: Pair):
    own = DeviceProcess(key="G", observed_at_ms=pair.at_ms, pid=7, name="python", memory_used_bytes=5)
    other = DeviceProcess(key="G", observed_at_ms=pair.at_ms, pid=7, name='a"b', host="node-9")
    user = DeviceUser(key="G", observed_at_ms=pair.at_ms, labels={"namespace": "llm", "pod": "p-0"})
    free = DeviceUser(key="H", observed_at_ms=pair.at_ms, labels={})
    pair.say(*(AcceleratorSample(key=key, observed_at_ms=pair.at_ms, power_watts=1.0) for key in "GH"))
    pair.say(own, other, user, free)
    read = pair.look()
    assert of(DeviceProcess, read) == [replace(own, host="far"), other]
    assert [(one.key, one.labels) for one in of(DeviceUser, read)] == [("G", user.labels), ("H", {})]


def test_assignments_keep_their_origin_and_their_end_is_told_once(pair: Pair):
    pair.say(deployment(pair.at_ms), assigned("G", "H", origin="labels"))
    (read,) = of(Assignment, pair.look())
    assert (read.target_family, read.target_keys, read.origin) == ("accelerator", ("G", "H"), "labels")
    pair.say(assigned("far", target_family="host"))
    (read,) = of(Assignment, pair.look())
    assert (read.target_family, read.target_keys, read.origin) == ("host", ("far",), "processes")
    pair.say(assigned())
    (read,) = of(Assignment, pair.look())
    assert (read.deployment_key, read.target_keys) == ("D", ())
    assert of(Assignment, pair.look()) == []


def test_events_are_told_from_the_second_look_on(pair: Pair):
    xid = Event(
        observed_at_ms=pair.at_ms,
        kind="xid",
        severity=Severity.CRITICAL,
        message="GPU has fallen off the bus",
        family="accelerator",
        key="G",
        code=79,
    )
    pair.say(AcceleratorSample(key="G", observed_at_ms=pair.at_ms, power_watts=1.0), xid)
    assert pair.events() == []
    pair.say(xid, replace(xid, code=48), Event(observed_at_ms=1, kind="clock", severity=Severity.WARNING, message=""))
    assert {(e.kind, e.severity, e.family, e.key, e.code) for e in pair.events()} == {
        ("xid", Severity.CRITICAL, "accelerator", "G", 79),
        ("xid", Severity.CRITICAL, "accelerator", "G", 48),
    }, "what concerns the daemon itself is in its own store"
    assert pair.events() == []


def test_of_itself_a_daemon_believes_nobody(pair: Pair):
    """Else two that read each other would tell each other for ever what one of them once said."""
    pair.source.close()
    pair.source = pair.reader("far")
    other = Entity(observed_at_ms=pair.at_ms, family="accelerator", key="H", host="node-1")
    mine = AcceleratorSample(key="G", observed_at_ms=pair.at_ms, power_watts=1.0)
    pair.say(mine, deployment(pair.at_ms), assigned("G"), other, replace(mine, key="H"))
    assert {getattr(reading, "key", "") for reading in pair.look()} == {"H"}


def test_a_page_of_a_hub_has_the_same_rows_again(pair: Pair):
    pair.say(AcceleratorSample(key="G", observed_at_ms=pair.at_ms, power_watts=1 / 3))
    through_a_hub = pair.look()
    pair.latest = Latest("hub", 10.0)
    pair.page = Page(pair.latest, "0004")
    pair.source.close()
    pair.source = pair.reader("headquarters")
    pair.say(*through_a_hub)
    again = pair.look()
    assert of(AcceleratorSample, again) == of(AcceleratorSample, through_a_hub)
    assert [entity.host for entity in of(Entity, again)] == ["far"]


@pytest.mark.parametrize(
    "line",
    [
        'vatio_accelerator_processes{hw_id="G",host="far"} 1e300 0',
        'vatio_accelerator_processes{hw_id="G",host="far"} NaN',
        'vatio_assignment_info{deployment="D",family="cpu",hw_id="G",origin="processes"} 1',
        'vatio_assignment_info{deployment="D",family="host",hw_id="far",origin="gossip"} 1',
        'vatio_device_process_info{hw_id="G",host="far",pid="-1"} 1',
        'vatio_device_process_info{hw_id="G",host="far",pid="99999999999999999999"} 1',
        'vatio_events_total{kind="x",severity="dire",family="accelerator",key="G"} 5',
        'vatio_probe_result_info{probe="P",outcome="maybe"} 1',
        "vatio_accelerator_info 1",
        'hw_power_watts{hw_id="G",hw_type="fan"} 1',
    ],
)
def test_a_line_that_no_vatio_writes_adds_nothing(pair: Pair, line: str):
    known = [
        *('vatio_accelerator_info{hw_id="G",host="far"} 1', 'vatio_deployment_info{deployment="D",host="far"} 1'),
        *('vatio_probe_info{probe="P",host="far"} 1', 'hw_power_watts{hw_id="G",hw_type="gpu"} 1'),
    ]
    pair.server.show("\n".join(known))
    before = of(Sample, pair.source.collect())  # type: ignore[arg-type]
    pair.server.show("\n".join([*known, line]))
    after = [reading for reading in pair.source.collect() if not isinstance(reading, TargetReport)]
    assert [replace(reading, observed_at_ms=0) for reading in after] == [
        replace(reading, observed_at_ms=0) for reading in before
    ]
