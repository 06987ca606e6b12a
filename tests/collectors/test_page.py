"""What the daemon's page says, read by the library's own parser, and by a real Prometheus' checker."""

from __future__ import annotations

import math
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collectors.page import render
from collectors.page.latest import MOST_ENTITIES, MOST_EVENT_COUNTS, SILENT_SECONDS, Latest
from collectors.page.render import MAX_LABELS, MAX_TEXT, Page
from collectors.sources.simulated.source import SimulatedSource
from core.catalog import FAMILIES
from core.exposition import ID_LABELS, exposed, labels_read
from core.health import TickReport
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
)

AT_MS = 1_760_000_000_123
Lines = dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, int | None]]


class Watch:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def lines(page: bytes) -> Lines:
    """Name and labels to value and time (Unix ms)."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): (
            sample.value,
            None if sample.timestamp is None else round(float(sample.timestamp) * 1000),
        )
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def shown(*readings: Reading, reports: Iterable[TickReport] = ()) -> Lines:
    latest = Latest("box", 10.0)
    latest.take(readings, reports)
    return lines(Page(latest, "0003").render())


def of(page: Lines, name: str, **labels: str) -> Any:
    """The one line of that name with these labels among others."""
    (found,) = (value for (line, said), value in page.items() if line == name and labels.items() <= dict(said).items())
    return found


def names(page: Lines) -> set[str]:
    return {name for name, _ in page}


def latency(*increments: float, at_ms: int = AT_MS, bounds: tuple[float, ...] = (0.1, math.inf), **more: Any):
    values = {"key": "D", "kind": Latency.TTFT, "sum_seconds": 1.5} | more
    return LatencySample(observed_at_ms=at_ms, upper_bounds_seconds=bounds, increments=increments, **values)


def accelerator(key: str = "G", at_ms: int = AT_MS, **values: Any) -> AcceleratorSample:
    return AcceleratorSample(key=key, observed_at_ms=at_ms, **values)


def test_every_value_of_every_family_reads_back_bit_for_bit_with_its_instant():
    source = SimulatedSource("box")
    source.discover()
    readings = list(source.collect())
    page = shown(*readings)
    samples = [reading for reading in readings if isinstance(reading, Sample)]
    hosts = {reading.key: reading.host for reading in readings if isinstance(reading, Entity)}
    assert {sample.family for sample in samples} >= {"accelerator", "cpu", "host", "deployment"}
    count = 0
    for sample in samples:
        for metric in FAMILIES[sample.family].metrics:
            series, key = exposed(metric), {ID_LABELS[sample.family]: sample.key, "host": hosts[sample.key]}
            labels = tuple(sorted({**series.labels, **key}.items()))
            value = getattr(sample, metric.name)
            if value is None:
                assert (series.name, labels) not in page, "unknown is not zero"
            else:
                assert page[series.name, labels] == (value, sample.observed_at_ms)
                count += 1
    assert count > 200


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**41))
def test_any_float_and_any_instant_survive(value: float, at_ms: int):
    (read,) = (
        line
        for (name, _), line in shown(accelerator(power_watts=value, at_ms=at_ms)).items()
        if name == "hw_power_watts"
    )
    assert (repr(read[0]), read[1]) == (repr(value), at_ms)


@given(st.integers(0, 2**53))
def test_whole_numbers_are_exact_up_to_2_to_the_53(value: int):
    page = shown(accelerator(memory_used_bytes=value))
    assert of(page, "hw_gpu_memory_usage_bytes")[0] == value


def test_what_no_number_is_left_out():
    assert "hw_power_watts" not in names(shown(accelerator(power_watts=math.nan, temperature_celsius=math.inf)))


def test_a_metric_that_is_read_seldom_keeps_its_value_and_its_instant():
    page = shown(accelerator(power_watts=1.0, pcie_lanes=16), accelerator(at_ms=AT_MS + 1000, power_watts=2.0))
    assert of(page, "hw_power_watts") == (2.0, AT_MS + 1000)
    assert of(page, "vatio_accelerator_pcie_lanes") == (16.0, AT_MS)


def test_a_description_has_host_parent_and_all_labels():
    labels = {"vendor": "NVIDIA", "model": 'H100 "SXM"\\ \n 2', "host": "x", "empty": ""}
    entity = Entity(observed_at_ms=AT_MS, family="accelerator", key="M", host="node-1", parent_key="G", labels=labels)
    page = shown(entity, accelerator("M", memory_used_bytes=1))
    said = {f"label_{name}": text for name, text in labels.items()}
    assert of(page, "vatio_accelerator_info", hw_id="M", host="node-1", parent="G", **said) == (1.0, None)
    assert of(page, "hw_gpu_memory_usage_bytes", hw_id="M", host="node-1")


def test_what_was_never_described_belongs_to_this_machine():
    assert of(
        shown(HostSample(key="box", observed_at_ms=AT_MS, load_1m=1.0)), "vatio_host_info", host="box", hw_id="box"
    )


def test_latency_is_a_histogram_since_the_daemon_began():
    page = shown(latency(3, 1), latency(2, 0, at_ms=AT_MS + 1000, sum_seconds=0.5))
    name = "gen_ai_server_time_to_first_token_seconds"
    labels = {"deployment": "D", "host": "box"}
    assert of(page, f"{name}_bucket", le="0.1", **labels) == (5.0, AT_MS + 1000)
    assert of(page, f"{name}_bucket", le="+Inf", **labels)[0] == 6.0
    assert of(page, f"{name}_count", **labels)[0] == 6.0
    assert of(page, f"{name}_sum", **labels)[0] == 2.0


def test_other_bounds_begin_another_histogram_and_an_unknown_sum_stays_unknown():
    name = "gen_ai_server_time_to_first_token_seconds"
    page = shown(
        latency(3, 1), latency(1, 1, bounds=(0.2, math.inf), sum_seconds=None), latency(1, 0, bounds=(0.2, math.inf))
    )
    assert {dict(labels)["le"] for line, labels in page if line == f"{name}_bucket"} == {"0.2", "+Inf"}
    assert of(page, f"{name}_count")[0] == 3.0
    assert f"{name}_sum" not in names(page)


def test_processes_users_and_assignments_are_the_latest_ones():
    def process(pid: int, at_ms: int, **more: Any) -> DeviceProcess:
        return DeviceProcess(key="G", observed_at_ms=at_ms, pid=pid, name="vllm", **more)

    def runs_on(*keys: str) -> Assignment:
        return Assignment(
            deployment_key="D", target_family="accelerator", target_keys=keys, origin="labels", observed_at_ms=AT_MS
        )

    user = DeviceUser(key="G", observed_at_ms=AT_MS, labels={"pod": "llm-0"})
    latest = Latest("box", 10.0)
    latest.take([accelerator(processes=1), process(1, AT_MS), user, runs_on("G", "H")], ())
    latest.take([accelerator(at_ms=AT_MS + 1), process(2, AT_MS + 1, memory_used_bytes=7, host="n"), runs_on("H")], ())
    page = lines(Page(latest, "0003").render())
    assert of(page, "vatio_device_process_info", hw_id="G", pid="2", process="vllm", host="n") == (1.0, AT_MS + 1)
    assert of(page, "vatio_device_process_memory_bytes", pid="2", host="n")[0] == 7.0
    assert of(page, "vatio_device_user_info", hw_id="G", label_pod="llm-0") == (1.0, None)
    assert of(page, "vatio_assignment_info", deployment="D", hw_id="H", family="accelerator", origin="labels")
    latest.take([accelerator(at_ms=AT_MS + 2, processes=0), runs_on()], ())
    page = lines(Page(latest, "0003").render())
    assert names(page).isdisjoint({"vatio_device_process_info", "vatio_assignment_info"})


def test_a_probe_that_failed_says_why():
    page = shown(ProbeSample(key="p", observed_at_ms=AT_MS, outcome=Outcome.FAILED, error="HTTP 500"))
    said = {"outcome": "failed", "error": "HTTP 500", "token_count_estimated": "false"}
    assert of(page, "vatio_probe_result_info", probe="p", **said) == (1.0, AT_MS)
    assert "vatio_probe_ttft_seconds" not in names(page)


def test_events_are_counted_and_an_endless_variety_of_them_is_not_told_apart():
    def xid(key: str) -> Event:
        return Event(
            observed_at_ms=AT_MS,
            kind="xid",
            severity=Severity.CRITICAL,
            message="",
            family="accelerator",
            key=key,
            code=79,
        )

    said = {"kind": "xid", "severity": "critical", "family": "accelerator", "key": "G", "code": "79"}
    assert of(shown(xid("G"), xid("G"), xid("H")), "vatio_events_total", **said) == (2.0, None)
    page = shown(*(xid(str(number)) for number in range(MOST_EVENT_COUNTS + 5)))
    assert sum(name == "vatio_events_total" for name in (line for line, _ in page)) == MOST_EVENT_COUNTS + 1
    assert sum(value for (name, _), (value, _) in page.items() if name == "vatio_events_total") == MOST_EVENT_COUNTS + 5


def test_the_collectors_own_health_is_told_per_source_and_target():
    def report(outcome: Outcome, target: str = "", missed: int = 0) -> TickReport:
        return TickReport(
            host="box",
            source="serving",
            target=target,
            scheduled_at_ms=AT_MS,
            outcome=outcome,
            duration_seconds=0.25,
            ticks_missed=missed,
        )

    page = shown(
        reports=[report(Outcome.OK, missed=2), report(Outcome.FAILED, "http://a"), report(Outcome.NO_DATA, missed=1)]
    )
    assert of(page, "vatio_collector_success", source="serving", target="http://a") == (0.0, None)
    assert of(page, "vatio_collector_ticks_missed_total", source="serving") == (3.0, None)
    assert [
        value
        for (name, labels), (value, _) in page.items()
        if name == "vatio_collector_success" and "target" not in dict(labels)
    ] == [1.0]
    assert of(page, "vatio_build_info", schema_revision="0003")
    assert of(page, "process_start_time_seconds")[0] > 0


def silence() -> tuple[Watch, Latest, Callable[[], Lines]]:
    watch = Watch()
    latest = Latest("box", 10.0, clock=watch)
    return watch, latest, lambda: lines(Page(latest, "0003").render())


def test_what_is_not_measured_any_more_disappears_and_comes_back_described():
    watch, latest, page = silence()
    entity = Entity(observed_at_ms=AT_MS, family="deployment", key="D", host="far", labels={"model": "m"})
    latest.take([entity, DeploymentSample(key="D", observed_at_ms=AT_MS, running_requests=1), latency(4, 0)], ())
    watch.seconds = SILENT_SECONDS
    assert of(page(), "vatio_deployment_running_requests", host="far")
    watch.seconds += 1
    assert {name for name in names(page()) if "deployment" in name or "gen_ai" in name} == set()
    latest.take([DeploymentSample(key="D", observed_at_ms=AT_MS + 1, waiting_requests=2), latency(1, 0)], ())
    again = page()
    assert of(again, "vatio_deployment_info", label_model="m", host="far")
    assert "vatio_deployment_running_requests" not in names(again)
    assert of(again, "gen_ai_server_time_to_first_token_seconds_count")[0] == 1.0, "from zero"


def test_a_sample_that_is_only_repeated_keeps_nothing_alive():
    watch, latest, page = silence()
    for _ in range(4):
        latest.take([accelerator(power_watts=1.0)], ())
        watch.seconds += SILENT_SECONDS / 2
    assert "hw_power_watts" not in names(page())


def test_long_intervals_are_no_silence():
    watch = Watch()
    latest = Latest("box", 300.0, clock=watch)
    latest.take([accelerator(power_watts=1.0)], ())
    watch.seconds = 890.0
    assert latest.known().things


def test_descriptions_do_not_pile_up():
    watch, latest, _ = silence()
    latest.take([accelerator(str(number)) for number in range(MOST_ENTITIES)], ())
    watch.seconds = SILENT_SECONDS + 1
    latest.take([accelerator("new")], ())
    latest.take([], ())
    assert len(latest._things) == MOST_ENTITIES
    assert [thing.entity.key for thing in latest.known().things] == ["new"]


HOSTILE = ['"', "\\", "\n", '\\"\n}', "a\r\tb", "\0", "<script>", "é✓", "\u2028", "'; DROP TABLE entity; --"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_wherever_it_comes(text: str):
    entity = Entity(observed_at_ms=AT_MS, family="accelerator", key=text, host=text, labels={"model": text})
    page = shown(
        entity,
        accelerator(text, power_watts=1.0),
        ProbeSample(key="p", observed_at_ms=1, outcome=Outcome.FAILED, error=text),
    )
    assert of(page, "vatio_accelerator_info", hw_id=text, host=text, label_model=text)
    assert of(page, "hw_power_watts", hw_id=text)
    assert of(page, "vatio_probe_result_info", error=text)


def test_text_without_end_or_that_is_none_costs_its_own_label_at_most():
    labels = {"huge": "x" * (1 << 20), "odd": "a\udcffb", "b\nad": "x", "a": "first"}
    many = {f"label{number}": "y" * MAX_TEXT for number in range(100)}
    latest = Latest("box", 10.0)
    for key, about in (("G", labels), ("M", many)):
        latest.take([Entity(observed_at_ms=AT_MS, family="accelerator", key=key, host="box", labels=about)], ())
    for key in ("k" * (MAX_TEXT + 1), "\ud800"):
        latest.take([accelerator(key, power_watts=1.0)], ())
    page = Page(latest, "0003").render()
    (about,) = (dict(said) for name, said in lines(page) if name.endswith("_info") and ("hw_id", "G") in said)
    said = labels_read(about)
    assert said["huge"] == "x" * MAX_TEXT
    assert said["odd"] == "a?b"
    assert said["a"] == "first"
    assert "b\nad" not in said
    assert max(map(len, page.split(b"\n"))) < MAX_LABELS + 200
    assert b"hw_power_watts" not in page, "no two things may come out under one cut name"


def test_a_page_is_made_once_until_there_is_news(monkeypatch: pytest.MonkeyPatch):
    latest = Latest("box", 10.0)
    asked = Mock(wraps=latest.known)
    monkeypatch.setattr(latest, "known", asked)
    page = Page(latest, "0003")
    monkeypatch.setattr(render, "FRESH_SECONDS", 60.0)
    for number in range(3):
        latest.take([accelerator(power_watts=float(number))], ())
        assert [of(lines(page.render()), "hw_power_watts")[0] for _ in range(4)] == [number] * 4
    assert asked.call_count == 3
    monkeypatch.setattr(render, "FRESH_SECONDS", 0.0)
    page.render()
    assert asked.call_count == 4, "what became silent must disappear though nothing ticks any more"


def test_collectors_and_readers_do_not_wait_for_each_other():
    latest = Latest("box", 10.0)
    page = Page(latest, "0003")

    def collect(number: int) -> None:
        for at_ms in range(200):
            latest.take([accelerator(f"{number}", at_ms=at_ms + 1, power_watts=1.0), latency(1, 0)], ())

    threads = [threading.Thread(target=collect, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        lines(page.render())
    assert of(lines(page.render()), "gen_ai_server_time_to_first_token_seconds_count")[0] == 800.0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_own_checker_has_no_complaint():
    latest = Latest("box", 10.0)
    source = SimulatedSource("box")
    source.discover()
    latest.take([*source.collect(), *every_kind()], ())
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=Page(latest, "0003").render(), capture_output=True, timeout=20
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def every_kind() -> list[Reading]:
    """A sample of every family with every metric known, and one of everything else."""
    values: dict[str, dict[str, Any]] = {
        family.name: {metric.name: 1 for metric in family.metrics} for family in FAMILIES.values()
    }
    values["probe"]["outcome"] = Outcome.OK
    samples = [
        family.sample_type(key="every", observed_at_ms=AT_MS, **values[family.name]) for family in FAMILIES.values()
    ]
    return [
        *samples,
        *(latency(1, 1, kind=kind) for kind in Latency),
        Event(observed_at_ms=AT_MS, kind="xid", severity=Severity.CRITICAL, message="", code=79),
        DeviceProcess(key="every", observed_at_ms=AT_MS, pid=1, name="p", memory_used_bytes=1),
        DeviceUser(key="every", observed_at_ms=AT_MS, labels={"pod": "a"}),
        Assignment(
            deployment_key="every",
            target_family="accelerator",
            target_keys=("every",),
            origin="processes",
            observed_at_ms=AT_MS,
        ),
    ]
