"""Where servers are looked for: other paths of a port, files of targets; and the labels that places have."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from collectors.sources.serving import source as source_module
from collectors.sources.serving.engine import METRICS_PATH
from collectors.sources.serving.recognition import OTHER_PATHS
from core.readings import DeploymentSample, Entity, Listener, Outcome, TargetReport
from core.settings import ServerTarget
from tests.collectors.serving.collecting import collect, of, one
from tests.collectors.serving.pages import FIXTURES, recorded, vllm_page
from tests.collectors.serving.test_source import generated, increase, ttft
from tests.fixtures.metrics_server import MetricsServer

OLLAMA = (FIXTURES / "ollama-0.12-ps.json").read_text()
TRTLLM, NIM = recorded("trtllm-serve-1.2"), recorded("nim-1.2")


# --- other paths of a port ---

ELSEWHERE = [
    ("trtllm-serve", {"/prometheus/metrics": TRTLLM, "/metrics": "[]"}, 1),
    ("trtllm-serve", {"/prometheus/metrics": TRTLLM, "/metrics": '[{"iter": 7, "iterLatencyMS": 9.5}]'}, 1),
    ("trtllm-serve", {"/prometheus/metrics": TRTLLM}, 1),  # and /metrics is 404
    ("NIM", {"/v1/metrics": NIM}, 1),
    ("Ollama", {"/api/ps": OLLAMA, "/api/version": '{"version": "0.12.3"}'}, 3),
]


@pytest.mark.parametrize(("engine", "pages", "models"), ELSEWHERE)
def test_a_server_whose_page_is_elsewhere_is_found_there(build, engine, pages, models):
    with MetricsServer(pages) as server:
        source = build([server.port])
        assert source.discover().entities == (f"{engine} at {server.url}",)
        readings = collect(source)
        assert {entity.labels["engine"] for entity in of(Entity, readings)} == {engine}
        assert len(of(DeploymentSample, readings)) == models
        server.asked.clear()
        assert len(of(DeploymentSample, collect(source))) == models
        assert len(server.asked) == 1  # from then on only there


def test_a_port_without_metrics_is_asked_at_other_paths_too(build, server):
    """llama-server answers 501 without ``--metrics``; so might another."""
    server.mode = "501"
    server.show(NIM, "/v1/metrics")
    assert len(of(DeploymentSample, collect(build([server.port])))) == 1


def test_ollama_says_its_version_and_nothing_that_it_does_not_know(build):
    with MetricsServer({"/api/ps": OLLAMA, "/api/version": '{"version": "0.12.3"}'}) as server:
        readings = collect(build([server.port]))
    entity = next(entity for entity in of(Entity, readings) if entity.labels["model"] == "small:7b")
    assert entity.labels["version"] == "0.12.3"
    sample = next(sample for sample in of(DeploymentSample, readings) if sample.key == entity.key)
    assert sample == DeploymentSample(
        key=f"{server.url} small:7b", observed_at_ms=sample.observed_at_ms, model_memory_bytes=4_500_000_000
    )


def test_a_neighbour_without_metrics_is_asked_for_everything_less_and_less(build, server, clock):
    server.pages.clear()
    source = build([server.port])
    for _ in range(60):  # ten minutes
        collect(source)
        clock.leap(10)
    asked = [path for path, _ in server.asked]
    assert set(asked) == {METRICS_PATH, *OTHER_PATHS}
    assert asked.count("/metrics") == asked.count("/api/ps") < 15


def test_a_html_page_on_a_port_is_nobody_s_metrics_at_any_path(build, server):
    server.mode = "HTML"
    collect(build([server.port]))
    assert [path for path, _ in server.asked] == ["/metrics"]


def test_another_server_on_the_port_is_looked_for_at_the_usual_path_again(build):
    with MetricsServer({"/v1/metrics": NIM}) as server:
        source = build([server.port])
        collect(source)
        server.stop()
        collect(source)
        server.pages = {"/metrics": vllm_page()}
        server.start()
        assert one(Entity, collect(source)).labels["engine"] == "vLLM"


def test_a_configured_server_is_asked_where_the_settings_say_and_nowhere_else(build, server):
    server.pages = {"/prometheus/metrics": TRTLLM}
    report = one(TargetReport, collect(build(targets=[ServerTarget(url=server.url)])))
    assert (report.outcome, report.error) == (Outcome.FAILED, "HTTP 404")
    assert [path for path, _ in server.asked] == ["/metrics"]


def test_ollama_in_the_settings(build):
    with MetricsServer({"/api/ps": OLLAMA}) as server:
        readings = collect(build(targets=[ServerTarget(url=server.url, metrics_path="/api/ps")]))
    assert one(TargetReport, readings).target == f"{server.url}/api/ps"
    assert len(of(DeploymentSample, readings)) == 3


# --- files of targets ---


class Targets:
    """A file of targets that somebody rewrites."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def name(self, *servers: MetricsServer, **labels: str) -> None:
        addresses = [server.url.removeprefix("http://") for server in servers]
        self.write(json.dumps([{"targets": addresses, "labels": labels}]))

    def write(self, text: str) -> None:
        """As one should: the whole file at once."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)


@pytest.fixture
def targets(tmp_path):
    targets = Targets(tmp_path / "servers.json")
    targets.name()
    return targets


@pytest.fixture
def second():
    with MetricsServer(vllm_page(model="acme/small-7b")) as server:
        yield server


def targets_of(readings):
    return {report.target: report.outcome for report in of(TargetReport, readings)}


def test_targets_appear_and_vanish(build, server, second, targets):
    source = build(file_sd=[targets.path])
    assert targets_of(collect(source)) == {"file_sd": Outcome.OK}
    targets.name(server)
    assert targets_of(collect(source)) == {server.url: Outcome.OK, "file_sd": Outcome.OK}
    targets.name(server, second)
    readings = collect(source)
    assert targets_of(readings) == dict.fromkeys((server.url, second.url, "file_sd"), Outcome.OK)
    assert {sample.key for sample in of(DeploymentSample, readings)} == {
        f"{server.url} acme/tiny-1b",
        f"{second.url} acme/small-7b",
    }
    targets.name(second)
    server.asked.clear()
    assert targets_of(collect(source)) == {second.url: Outcome.OK, "file_sd": Outcome.OK}
    assert server.asked == []


def test_a_broken_file_leaves_its_targets_and_says_so(build, server, targets):
    source = build(file_sd=[targets.path])
    targets.name(server)
    collect(source)
    targets.write('[{"targets": [')
    readings = collect(source)
    assert targets_of(readings) == {server.url: Outcome.OK, "file_sd": Outcome.FAILED}
    report = next(report for report in of(TargetReport, readings) if report.target == "file_sd")
    assert report.error.startswith(f"{targets.path}: not valid JSON")
    assert report.error in source.discover().reason


def test_the_path_of_a_target_in_a_file(build, targets):
    with MetricsServer({"/v1/metrics": NIM}) as server:
        targets.name(server, __metrics_path__="/v1/metrics", rack="r4")
        readings = collect(build(file_sd=[targets.path]))
    assert one(Entity, readings).labels["engine"] == "NIM"
    assert one(Listener, readings).labels == {"rack": "r4"}


def test_a_server_in_settings_and_file_is_one(build, server, targets):
    targets.name(server)
    source = build([server.port], [ServerTarget(url=server.url)], file_sd=[targets.path])
    assert len(of(DeploymentSample, collect(source))) == 1
    assert [path for path, _ in server.asked].count("/metrics") == 1


def test_a_target_that_was_gone_for_a_while_is_not_counted_twice(build, server, targets):
    """It began while it was watched, so all it did was counted; when it comes back only the rest is added."""
    server.stop()
    targets.name(server)
    source = build(file_sd=[targets.path])
    collect(source)
    time.sleep(0.02)
    started = time.time()
    server.show(vllm_page(started=started, generated=100, ttft=(1, 2, 3)))
    server.start()
    readings = collect(source)
    targets.name()
    collect(source)
    targets.name(server)
    server.show(vllm_page(started=started, generated=130, ttft=(1, 2, 4)))
    readings += collect(source)
    assert increase(generated(of(DeploymentSample, readings))) == 130
    assert sum(sample.observations for sample in ttft(readings)) == 4


def test_targets_that_never_come_back_are_forgotten_and_what_is_forgotten_is_not_counted_from_zero(
    build, server, targets, monkeypatch
):
    monkeypatch.setattr(source_module, "MAX_GONE", 3)
    server.stop()
    targets.name(server)
    source = build(file_sd=[targets.path])
    collect(source)
    time.sleep(0.02)
    started = time.time()
    server.show(vllm_page(started=started, generated=100, ttft=(1, 2, 3)))
    server.start()
    collect(source)
    for number in range(5):
        targets.write(json.dumps([{"targets": [f"127.0.0.1:{number + 1}"]}]))
        collect(source)
        assert len(source._listed) <= 1 + 3
    targets.name(server)
    readings = collect(source)
    assert generated(of(DeploymentSample, readings)) == [100]
    assert ttft(readings) == []


# --- the labels that a place has ---


def test_labels_of_the_settings_come_with_the_processes(build, server):
    target = ServerTarget(url=server.url, labels={"pod": "tiny-0", "namespace": "llm"})
    readings = collect(build(targets=[target]))
    listener = one(Listener, readings)
    assert listener.labels == {"pod": "tiny-0", "namespace": "llm"}
    assert listener.pids
    assert listener.deployment_keys == (one(DeploymentSample, readings).key,)


def test_labels_of_a_server_elsewhere_come_without_processes(build, server):
    target = ServerTarget(url=server.url.replace("127.0.0.1", "127.0.0.2"), labels={"pod": "tiny-0"})
    server.stop()
    with MetricsServer(vllm_page(), host="127.0.0.2", port=server.port):
        readings = collect(build(targets=[target]))
    listener = one(Listener, readings)
    assert (listener.host, listener.labels, listener.pids) == ("127.0.0.2", {"pod": "tiny-0"}, frozenset())


def test_labels_of_a_file_change_with_it(build, server, targets):
    source = build(file_sd=[targets.path])
    targets.name(server, pod="tiny-0")
    assert one(Listener, collect(source)).labels == {"pod": "tiny-0"}
    targets.name(server, pod="tiny-1")
    assert one(Listener, collect(source)).labels == {"pod": "tiny-1"}
