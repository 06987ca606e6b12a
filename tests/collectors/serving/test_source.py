from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest

from core.errors import NoData
from core.readings import (
    Assignment,
    DeploymentSample,
    Entity,
    Event,
    Latency,
    LatencySample,
    Listener,
    Outcome,
    Reading,
    TargetReport,
)
from core.settings import ServerTarget
from tests.collectors.serving.collecting import HOST, collect, of, one
from tests.collectors.serving.pages import llama_page, llama_pages, monotonic_header, recorded, vllm_page
from tests.fixtures.metrics_server import HARMLESS, HOSTILE, SLOW, MetricsServer

TINY = "acme/tiny-1b"


def increase(values: Iterable[float | None]) -> float:
    """As a reader sums a counter: a fall is a restart from zero."""
    known = [value for value in values if value is not None]
    return sum(b - a if b >= a else b for a, b in pairwise(known))


def generated(samples: Iterable[DeploymentSample]) -> list[float | None]:
    return [sample.generation_tokens_total for sample in sorted(samples, key=lambda sample: sample.observed_at_ms)]


def restarts(readings: Iterable[Reading]) -> list[Event]:
    return [event for event in of(Event, readings) if event.kind == "restart"]


def ttft(readings: Iterable[Reading]) -> list[LatencySample]:
    return [sample for sample in of(LatencySample, readings) if sample.kind is Latency.TTFT]


# --- what one server reports ---


def test_a_server_on_a_port_is_found_and_described(build, server):
    source = build([server.port])
    found = source.discover()
    assert found.ok
    assert found.entities == (f"vLLM at {server.url}",)
    assert found.reason == ""
    readings = collect(source)
    entity = one(Entity, readings)
    key = f"{server.url} {TINY}"
    assert (entity.family, entity.key, entity.host) == ("deployment", key, HOST)
    assert entity.labels == {"engine": "vLLM", "url": server.url, "model": TINY, "version": "0.11.0", "host": HOST}
    sample = one(DeploymentSample, readings)
    assert (sample.key, sample.running_requests, sample.generation_tokens_total) == (key, 1, 0)
    assert sample.process_started_at_seconds == 1_760_000_000.25
    assert sample.waiting_requests is None
    report = one(TargetReport, readings)
    assert (report.target, report.outcome, report.error) == (server.url, Outcome.OK, "")
    assert one(Listener, readings).deployment_keys == (key,)
    assert of(LatencySample, readings) == []
    assert of(Entity, collect(source)) == []


def test_entities_come_again_after_discover_and_when_they_change(build, server):
    source = build([server.port])
    first = one(Entity, collect(source))
    assert of(Entity, collect(source)) == []
    source.discover()
    assert one(Entity, collect(source)).labels == first.labels
    server.pages["/version"] = '{"version": "0.12.0"}'
    server.show(vllm_page(started=1_770_000_000.0))
    assert one(Entity, collect(source)).labels["version"] == "0.12.0"


def test_two_models_on_one_server(build, server):
    server.show(recorded("vllm-current-two-models"))
    source = build([server.port])
    samples = {sample.key: sample for sample in of(DeploymentSample, collect(source))}
    assert {key: sample.generation_tokens_total for key, sample in samples.items()} == {
        f"{server.url} {TINY}": 500,
        f"{server.url} acme/small-7b": 7,
    }
    readings = collect(source)
    assert len(of(LatencySample, readings)) == 2 * len(Latency)
    assert all(sample.observations == 0 and sample.sum_seconds == 0 for sample in of(LatencySample, readings))


def test_increments_since_the_previous_scrape(build, server):
    source = build([server.port])
    server.show(vllm_page(ttft=(100, 200, 300), ttft_sum=500.0))
    assert ttft(collect(source)) == []  # what was before anyone looked is not this interval's
    server.show(vllm_page(ttft=(101, 205, 306), ttft_sum=512.5))
    (sample,) = ttft(collect(source))
    assert sample.upper_bounds_seconds == (0.1, 1.0, float("inf"))
    assert (sample.increments, sample.sum_seconds, sample.observations) == ((1, 4, 1), 12.5, 6)


def test_a_missed_scrape_loses_nothing(build, server):
    source = build([server.port])
    server.show(vllm_page(ttft=(1, 1, 1)))
    collect(source)
    server.mode = "500"
    server.show(vllm_page(ttft=(3, 3, 3)))
    readings = collect(source)
    assert not of(DeploymentSample, readings)
    assert not of(LatencySample, readings)
    assert one(TargetReport, readings).error == "HTTP 500"
    server.mode = ""
    server.show(vllm_page(ttft=(3, 3, 4)))
    (sample,) = ttft(collect(source))
    assert sample.increments == (2, 0, 1)


def test_changed_bounds_cost_one_interval(build, server):
    source = build([server.port])
    server.show(vllm_page(ttft=(1, 1, 1)))
    collect(source)
    server.show(vllm_page(ttft=(2, 2, 2), le=("0.2", "1.0", "+Inf")))
    assert ttft(collect(source)) == []
    server.show(vllm_page(ttft=(2, 3, 3), le=("0.2", "1.0", "+Inf")))
    (sample,) = ttft(collect(source))
    assert sample.increments == (0, 1, 0)


def test_a_histogram_that_begins_with_its_first_request(build, server):
    """V0 exports no buckets before the first observation; the first must not be lost."""
    source = build([server.port])
    server.show(vllm_page(ttft=None))
    collect(source)
    server.show(vllm_page(ttft=(0, 2, 2)))
    (sample,) = ttft(collect(source))
    assert sample.increments == (0, 2, 0)


# --- restarts ---


def test_a_restart_is_an_event_and_costs_no_tokens(build, server):
    source = build([server.port])
    server.show(vllm_page(generated=1000, prompt=10, ttft=(5, 5, 5)))
    samples = of(DeploymentSample, collect(source))
    server.show(vllm_page(generated=30, prompt=20, ttft=(1, 1, 1), started=time.time()))
    readings = collect(source)
    event = one(Event, readings)
    assert (event.kind, event.family, event.key) == ("restart", "deployment", f"{server.url} {TINY}")
    assert [list(sample.increments) for sample in ttft(readings)] == [[1, 0, 0]]
    samples += of(DeploymentSample, readings)
    assert increase(generated(samples)) == 30
    assert increase(sample.prompt_tokens_total for sample in samples) == 20


def test_a_restart_whose_totals_passed_the_old_ones_is_seen_by_its_start(build, server):
    source = build([server.port])
    server.show(vllm_page(generated=100, ttft=(1, 1, 1)))
    samples = of(DeploymentSample, collect(source))
    time.sleep(0.02)
    server.show(vllm_page(generated=500, ttft=(2, 2, 2), started=time.time()))
    readings = collect(source)
    samples += of(DeploymentSample, readings)
    assert len(of(Event, readings)) == 1
    assert generated(samples) == [100, 0, 500]
    assert ttft(readings)[0].increments == (2, 0, 0)


def test_the_zeros_of_a_restart_come_after_the_last_sample_whatever_the_servers_clock_says(build, server):
    source = build([server.port])
    server.show(vllm_page(generated=100))
    samples = of(DeploymentSample, collect(source))
    time.sleep(0.02)
    server.show(vllm_page(generated=500, started=time.time() - 1000))
    samples += of(DeploymentSample, collect(source))
    assert generated(samples) == [100, 0, 500]


def test_a_restart_is_seen_by_counters_that_fell(build, server):
    source = build([server.port])
    server.show(vllm_page(generated=100, prompt=5, started=None))
    samples = of(DeploymentSample, collect(source))
    server.show(vllm_page(generated=40, prompt=7, started=None))
    readings = collect(source)
    samples += of(DeploymentSample, readings)
    assert len(of(Event, readings)) == 1
    assert increase(generated(samples)) == 40
    assert increase(sample.prompt_tokens_total for sample in samples) == 7


def test_steady_counters_are_no_restart(build, server):
    source = build([server.port])
    for tokens in (5, 5, 6):
        server.show(vllm_page(generated=tokens))
        assert restarts(collect(source)) == []


# --- appearing while watched ---


def test_a_server_that_starts_while_watched_counts_from_its_first_token(build, clock):
    server = MetricsServer(vllm_page())
    server.start()
    server.stop()  # the port is known, nobody listens
    source = build([server.port])
    assert collect(source) == []
    started = time.time()
    clock.leap(60)  # a model takes its time to load
    server.show(vllm_page(started=started, generated=12, prompt=34, ttft=(1, 2, 3), ttft_sum=4.0))
    with server:
        readings = collect(source)
        zero, _ = of(DeploymentSample, readings)
        assert zero.observed_at_ms == int(started * 1000)
        assert (zero.generation_tokens_total, zero.running_requests, zero.preemptions_total) == (0, None, None)
        assert ttft(readings)[0].increments == (1, 1, 1)
        assert restarts(readings) == []
        server.show(vllm_page(started=started, generated=20, prompt=50))
        readings += collect(source)
    samples = of(DeploymentSample, readings)
    assert increase(generated(samples)) == 20
    assert increase(sample.prompt_tokens_total for sample in samples) == 50


def test_a_server_that_is_new_to_us_but_old_gives_no_increments(build, server):
    """A port forwarded from elsewhere, or a target that could not be reached before."""
    server.mode = "500"
    source = build(targets=[ServerTarget(url=server.url)])
    collect(source)
    server.mode = ""
    server.show(vllm_page(generated=1_000_000, ttft=(1, 2, 3)))
    readings = collect(source)
    assert one(DeploymentSample, readings).generation_tokens_total == 1_000_000
    assert of(LatencySample, readings) == []


def test_the_first_look_of_all_gives_no_increments_whatever_the_servers_clock_says(build, server):
    server.show(vllm_page(started=time.time() + 3600, generated=1_000_000, ttft=(1, 2, 3)))
    readings = collect(build([server.port]))
    assert len(of(DeploymentSample, readings)) == 1
    assert of(LatencySample, readings) == []


def test_a_server_forgotten_and_found_again_is_not_new(build, server, clock):
    """It started while we watched, was lost for an hour, and came back: nothing is counted twice."""
    server.stop()
    source = build([server.port])
    collect(source)
    server.show(vllm_page(started=time.time(), generated=100, ttft=(1, 1, 1)))
    server.start()
    samples = of(DeploymentSample, collect(source))
    server.stop()
    clock.leap(3600)
    assert collect(source) == []
    server.show(vllm_page(started=samples[-1].process_started_at_seconds, generated=130, ttft=(1, 1, 2)))
    server.start()
    readings = collect(source)
    samples += of(DeploymentSample, readings)
    assert increase(generated(samples)) == 130
    assert ttft(readings)[0].increments == (0, 0, 1)


# --- llama-server ---


def test_llama_server_is_asked_for_its_model_and_version(build):
    with MetricsServer(llama_pages(llama_page(prompt=3, cached=4, generated=5))) as server:
        source = build([server.port])
        readings = collect(source)
        assert one(Entity, readings).labels == {
            "engine": "llama.cpp",
            "url": server.url,
            "model": "tiny.gguf",
            "version": "b11434-abcdef0",
            "host": HOST,
        }
        sample = one(DeploymentSample, readings)
        assert sample.key == f"{server.url} tiny.gguf"
        assert (sample.prompt_tokens_total, sample.generation_tokens_total) == (7, 5)
        collect(source)
        assert [path for path, _ in server.asked].count("/v1/models") == 1


@pytest.mark.parametrize("answer", [None, "[]", '{"data": []}', '{"data": [{"id": 7}]}', "[" * 100_000, "\xff", '""'])
def test_a_model_that_nobody_names_is_called_unknown_until_it_is(build, clock, answer):
    with MetricsServer(llama_page(generated=5)) as server:
        if answer is not None:
            server.pages["/v1/models"] = answer
        source = build([server.port])
        assert one(DeploymentSample, collect(source)).key == f"{server.url} unknown model"
        server.pages |= llama_pages(llama_page(generated=6))
        clock.leap(61)
        assert one(DeploymentSample, collect(source)).key == f"{server.url} tiny.gguf"


def test_llama_server_that_starts_while_watched_counts_from_its_first_token(build):
    server = MetricsServer(llama_pages(llama_page(generated=12)))
    server.start()
    server.stop()
    source = build([server.port])
    collect(source)
    time.sleep(0.05)
    server.headers = monotonic_header(seconds_ago=0.02)
    with server:
        samples = of(DeploymentSample, collect(source))
        server.show(llama_page(generated=20))
        samples += of(DeploymentSample, collect(source))
    assert generated(samples) == [0, 12, 20]
    assert samples[1].process_started_at_seconds == pytest.approx(time.time(), abs=2)
    assert samples[1].process_started_at_seconds == samples[2].process_started_at_seconds


@pytest.mark.parametrize("seconds_ago", [-3600, 1e6])
def test_the_uptime_of_another_machine_is_not_taken_for_ours(build, seconds_ago):
    """Forwarded ports: the listener is local, the clock is not."""
    server = MetricsServer(llama_pages(llama_page(generated=12)))
    server.start()
    server.stop()
    source = build([server.port])
    collect(source)
    server.headers = monotonic_header(seconds_ago)
    with server:
        sample = one(DeploymentSample, collect(source))
    assert sample.process_started_at_seconds is None


def test_llama_server_that_restarts_is_seen_though_its_counters_grew(build):
    with MetricsServer(llama_pages(llama_page(generated=12))) as server:
        server.headers = monotonic_header(100)
        source = build([server.port])
        samples = of(DeploymentSample, collect(source))
        time.sleep(0.02)
        server.headers = monotonic_header(50)
        server.show(llama_page(generated=30))
        readings = collect(source)
        samples += of(DeploymentSample, readings)
    assert len(of(Event, readings)) == 1
    assert increase(generated(samples)) == 30


# --- ports: found, lost, not servers at all ---


def test_nothing_there(build, server):
    server.stop()
    source = build([server.port])
    found = source.discover()
    assert found.ok
    assert found.reason == f"no inference server found on 127.0.0.1 ports {server.port}"
    assert found.remedy
    with pytest.raises(NoData, match="no inference server found"):
        source.collect()


def test_a_server_is_found_within_two_collects(build, server):
    server.stop()
    source = build([server.port])
    collect(source)
    server.start()
    assert of(DeploymentSample, collect(source))


def test_a_llama_server_without_metrics_is_explained(build, server):
    server.mode = "501"
    found = build([server.port]).discover()
    assert "HTTP 501" in found.reason
    assert "--metrics" in found.remedy


def test_something_else_on_a_port_is_asked_less_and_less(build, server, clock):
    server.mode = "HTML"
    source = build([server.port])
    asked_after = []
    for tick in range(60):
        before = len(server.asked)
        assert collect(source) == []
        asked_after += [tick] if len(server.asked) > before else []
        clock.leap(10)
    assert asked_after[:2] == [0, 1]
    assert len(asked_after) < 15
    assert max(b - a for a, b in pairwise(asked_after)) == 6  # a minute
    server.stop()  # the web page goes, an inference server comes: it is seen at once
    server.mode = ""
    server.start()
    assert of(DeploymentSample, collect(source))


def test_a_server_that_still_loads_is_found_when_it_is_ready(build, server, clock):
    server.mode = "500"
    source = build([server.port])
    assert collect(source) == []
    server.mode = ""
    clock.leap(10)
    assert of(DeploymentSample, collect(source))


def test_a_server_that_is_gone_is_reported_and_then_forgotten(build, server, clock):
    source = build([server.port])
    collect(source)
    server.stop()
    report = one(TargetReport, collect(source))
    assert (report.outcome, report.error) == (Outcome.FAILED, "stopped answering: nothing listens on its port")
    clock.leap(599)
    assert of(TargetReport, collect(source))
    clock.leap(2)
    assert collect(source) == []
    server.start()
    assert one(TargetReport, collect(source)).outcome is Outcome.OK


def test_a_configured_server_is_reported_for_ever(build, server, clock):
    source = build(targets=[ServerTarget(url=server.url)])
    collect(source)
    server.stop()
    clock.leap(1_000_000)
    report = one(TargetReport, collect(source))
    assert (report.outcome, report.error) == (Outcome.FAILED, "nothing listens there (connection refused)")
    assert report.error in source.discover().reason


def test_a_configured_server_is_not_found_a_second_time(build, server, clock):
    target = ServerTarget(url=f"http://localhost:{server.port}/", accelerators=("GPU-1", "GPU-2"))
    readings = collect(build([server.port], [target, target]))
    sample = one(DeploymentSample, readings)
    assert sample.key == f"http://localhost:{server.port} {TINY}"
    assignment = one(Assignment, readings)
    assert (assignment.deployment_key, assignment.target_keys) == (sample.key, ("GPU-1", "GPU-2"))
    assert (assignment.origin, assignment.target_family) == ("settings", "accelerator")
    assert one(Listener, readings).deployment_keys == (sample.key,)


def test_a_page_elsewhere_with_a_key(build, server, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "sk-secret")
    server.show(vllm_page(), "/prometheus")
    target = ServerTarget(url=server.url, metrics_path="/prometheus", api_key_env="SERVER_KEY")
    readings = collect(build(targets=[target]))
    assert one(TargetReport, readings).target == f"{server.url}/prometheus"
    assert {headers["Authorization"] for _, headers in server.asked} == {"Bearer sk-secret"}
    assert "sk-secret" not in repr(readings)


def test_a_server_that_names_no_model_yet(build, server):
    server.show("# HELP vllm:generation_tokens_total Number.\n# TYPE vllm:generation_tokens_total counter\n")
    readings = collect(build([server.port]))
    assert [type(reading) for reading in readings] == [TargetReport]
    assert one(TargetReport, readings).outcome is Outcome.NO_DATA


# --- hostility ---

REASONS = {
    "200 MB": "body exceeds 16 MiB",
    "endless": "body exceeds 16 MiB",
    "random bytes": "not a metrics page: binary data",
    "trickle body": "no complete answer within 0.6 s",
    "trickle headers": "no complete answer within 0.6 s",
    "HTML": "not a metrics page: HTML",
    "JSON": "not a metrics page: JSON",
    "empty": "not a metrics page: empty",
    "other exporter": "a metrics page, but not of an inference server that Vatio knows",
    "broken line": "not a metrics page: a line breaks the format",
    "long line": "not a metrics page: a line is longer than 8192 characters",
    "many models": "more than 256 models on one page",
}


@pytest.mark.parametrize("mode", sorted(set(HOSTILE) - HARMLESS))
def test_each_kind_of_trouble_is_one_failed_tick_of_its_target(build, server, monkeypatch, mode):
    monkeypatch.setenv("SERVER_KEY", "sk-very-secret")
    with MetricsServer(vllm_page()) as hostile:
        source = build(
            targets=[ServerTarget(url=server.url), ServerTarget(url=hostile.url, api_key_env="SERVER_KEY")],
            deadline_seconds=0.6 if mode in SLOW else 5.0,
        )
        assert [report.outcome for report in of(TargetReport, collect(source))] == [Outcome.OK] * 2
        hostile.mode = mode
        server.show(vllm_page(generated=8, ttft=(1, 1, 1)))
        began = time.perf_counter()
        readings = collect(source)
        assert time.perf_counter() - began < 4
        good, bad = of(TargetReport, readings)
        assert good.outcome is Outcome.OK
        assert bad.outcome is Outcome.FAILED
        assert bad.error == REASONS.get(mode, bad.error)
        assert bad.error
        assert "\n" not in bad.error
        assert "sk-very-secret" not in repr(readings)
        assert one(DeploymentSample, readings).generation_tokens_total == 8
        assert ttft(readings)[0].observations == 1
        hostile.mode = ""
        hostile.show(vllm_page(generated=9))
        readings = collect(source)
        assert [report.outcome for report in of(TargetReport, readings)] == [Outcome.OK] * 2
        assert [sample.generation_tokens_total for sample in of(DeploymentSample, readings)] == [8, 9]


def test_names_from_outside_are_made_presentable(build, server):
    server.show(vllm_page(model=r"a\nb\"" + "x" * 500))
    key = one(DeploymentSample, collect(build([server.port]))).key
    assert key.startswith(f'{server.url} ab"xxx')
    assert len(key) == len(server.url) + 1 + 200


def test_nothing_of_who_asked_a_gateway_leaves_its_page(build, server):
    """Its series are split by key, user, team and address."""
    page = recorded("litellm-1.109")
    private = set(re.findall(r'(?:alias|ip|end_user|key|model_id|team|user|user_agent|email)="([^"]+)"', page)) - {
        "None"
    }
    assert {"ines@example.org", "203.0.113.17", "customer-4711", "team-heron"} < private
    source = build([server.port])
    told = []
    for shown in (page, page.replace(" 30.0", " 31.0")):
        server.show(shown)
        told += collect(source)
    assert generated(of(DeploymentSample, told)) != []
    assert {text for text in private if text in repr(told)} == set()
