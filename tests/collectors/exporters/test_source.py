"""The source over real HTTP: many targets, what each costs the others, whose a thing is, files of targets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from collectors.sources.exporters import source as source_module
from collectors.sources.exporters.source import HANDED_ON_MS, ExportersSource
from core.errors import NoData
from core.readings import (
    AcceleratorSample,
    DeviceUser,
    Entity,
    Event,
    HostSample,
    Outcome,
    Reading,
    TargetReport,
)
from core.settings import ExporterTarget
from tests.collectors.exporters.pages import FIXTURES, entities, of, samples, values, written
from tests.fixtures.metrics_server import HARMLESS, HOSTILE, SLOW, MetricsServer

MIB = 1 << 20
BUSY, IDLE = "GPU-6f1d2c3b-0a4e-4b7f-9c55-2f0de1a7c901", "GPU-91e8b0d4-77c2-4f60-8a13-5b9d4c2e6f02"
VLLM = Path(__file__).parents[2] / "fixtures/serving/vllm-current-two-models.prom"

Build = Callable[..., ExportersSource]
Serve = Callable[[str], MetricsServer]


class Clock:
    """Stands in for ``now_ms``: real time, and leaps."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(source_module, "now_ms", clock)
    return clock


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda page: stack.enter_context(MetricsServer(page))


@pytest.fixture
def build() -> Iterator[Build]:
    with ExitStack() as stack:

        def build(
            *targets: MetricsServer | ExporterTarget,
            file_sd: Iterable[Path] = (),
            deadline_seconds: float = 10.0,
            own_families: Iterable[str] = (),
        ) -> ExportersSource:
            source = ExportersSource(
                "hub",
                own_families=tuple(own_families),
                targets=[t if isinstance(t, ExporterTarget) else ExporterTarget(url=t.url) for t in targets],
                file_sd=[str(path) for path in file_sd],
                max_body_bytes=16 * MIB,
                deadline_seconds=deadline_seconds,
            )
            stack.callback(source.close)
            stack.callback(source.close)
            return source

        yield build


def reports(readings: Iterable[Reading]) -> dict[str, TargetReport]:
    return {report.target: report for report in of(TargetReport, readings)}


# --- what is there ---


def test_without_targets_nothing_of_the_kind_is_here(build: Build):
    source = build()
    found = source.discover()
    assert (found.ok, found.absent) == (False, True)
    assert found.reason == "no exporter is configured"
    assert "[[exporters.target]]" in found.remedy
    with pytest.raises(NoData):
        source.collect()


def test_discover_names_every_exporter(build: Build, serve: Serve):
    gpus, node = serve(written("dcgm-h100")), serve(written("node-vm"))
    found = build(gpus, node).discover()
    assert found.ok
    assert found.entities == (f"NVIDIA DCGM exporter at {gpus.url}", f"node_exporter at {node.url}")
    assert (found.reason, found.remedy) == ("", "")


def test_a_page_becomes_entities_samples_and_a_report(build: Build, serve: Serve):
    gpus = serve(written("dcgm-h100"))
    before = time.time_ns() // 1_000_000
    readings = build(gpus).collect()
    assert set(entities(readings)) == {BUSY, IDLE}
    assert values(readings, BUSY)["power_watts"] == 655.317
    assert all(before <= sample.observed_at_ms <= time.time_ns() // 1_000_000 for sample in samples(readings))
    report = reports(readings)[gpus.url]
    assert (report.outcome, report.error) == (Outcome.OK, "")


def test_entities_come_again_after_discover_and_when_they_change(build: Build, serve: Serve):
    gpus = serve(written("dcgm-h100"))
    source = build(gpus)
    source.collect()
    assert of(Entity, source.collect()) == []
    gpus.show(written("dcgm-h100").replace("570.86.15", "575.51.03"))
    assert {entity.labels["driver"] for entity in of(Entity, source.collect())} == {"575.51.03"}
    source.discover()
    assert len(of(Entity, source.collect())) == 2


def test_the_host_is_told_by_the_page_else_the_settings_else_the_url(build: Build, serve: Serve):
    smi, dcgm = serve(written("nvidia-smi-l40s")), serve(written("dcgm-h100"))
    named = ExporterTarget(url=smi.url, host="node-6")
    assert {entity.host for entity in of(Entity, build(named).collect())} == {"node-6"}
    assert {entity.host for entity in of(Entity, build(smi).collect())} == {"127.0.0.1"}
    told = ExporterTarget(url=dcgm.url, host="node-6")
    assert {entity.host for entity in of(Entity, build(told).collect())} == {"gpu-a1"}


def test_a_path_and_a_key(build: Build, serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server = MetricsServer({"/federate/gpus": written("dcgm-h100")})
    with server:
        monkeypatch.setenv("HUB_TOKEN", "t0ken")
        target = ExporterTarget(url=server.url, metrics_path="/federate/gpus", api_key_env="HUB_TOKEN")
        readings = build(target).collect()
        assert reports(readings)[f"{server.url}/federate/gpus"].outcome is Outcome.OK
        assert server.asked[-1][1]["Authorization"] == "Bearer t0ken"
        assert "t0ken" not in repr(readings)


# --- what is not there ---


@pytest.mark.parametrize("mode", sorted(HOSTILE.keys() - HARMLESS))
def test_one_broken_target_never_costs_another(mode: str, build: Build, serve: Serve):
    bad, good = serve(written("node-vm")), serve(written("dcgm-h100"))
    bad.mode = mode
    source = build(bad, good, deadline_seconds=0.5 if mode in SLOW else 10.0)
    readings = source.collect()
    assert {sample.key for sample in of(AcceleratorSample, readings)} == {BUSY, IDLE}
    report = reports(readings)[bad.url]
    assert report.outcome is Outcome.FAILED
    assert report.error
    assert len(report.error) < 200
    assert reports(readings)[good.url].outcome is Outcome.OK


def test_a_target_that_comes_and_goes(build: Build, serve: Serve):
    gpus = serve(written("dcgm-h100"))
    source = build(gpus)
    source.collect()
    gpus.stop()
    assert reports(source.collect())[gpus.url].error == "nothing listens there (connection refused)"
    gpus.start()
    assert len(of(AcceleratorSample, source.collect())) == 2


def test_a_defect_in_a_dialect_costs_its_target_alone(build: Build, serve: Serve, monkeypatch: pytest.MonkeyPatch):
    from collectors.sources.exporters.nvitop import NvitopReader

    def broken(self: object, look: object) -> Iterator[Reading]:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(NvitopReader, "read", broken)
    bad, good = serve(written("nvitop-a100-mig")), serve(written("dcgm-h100"))
    readings = build(bad, good).collect()
    assert reports(readings)[bad.url].error == "unexpected ZeroDivisionError, see the daemon's log"
    assert len(of(AcceleratorSample, readings)) == 2


def test_an_inference_server_is_sent_to_where_it_belongs(build: Build, serve: Serve):
    server = serve(VLLM.read_text())
    report = reports(build(server).collect())[server.url]
    assert report.outcome is Outcome.FAILED
    assert report.error == "this is an inference server (vLLM): name it in [[serving.server]] instead"


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("# HELP up Whether it is.\nup 1\n", "a metrics page, but of no exporter that Vatio knows"),
        (
            "# HELP kube_pod_info x\nkube_pod_info 1\n",
            "a metrics page, but of no exporter that Vatio knows: it seems to be kube-state-metrics",
        ),
        ("<html>DCGM_FI_DEV_GPU_UTIL</html>", "not a metrics page: HTML"),
        ('{"DCGM_FI_DEV_GPU_UTIL": 1}', "not a metrics page: JSON"),
        ("", "not a metrics page: empty"),
    ],
)
def test_other_pages_are_described(page: str, error: str, build: Build, serve: Serve):
    server = serve(page)
    assert reports(build(server).collect())[server.url].error == error


def test_an_exporter_without_a_figure_says_so(build: Build, serve: Serve):
    server = serve('nvidia_smi_gpu_info{name="x"} 1\n')
    report = reports(build(server).collect())[server.url]
    assert report.outcome is Outcome.NO_DATA
    assert report.error == "nvidia_gpu_exporter: no figure that Vatio reads"


@pytest.mark.parametrize("nasty", ['"', "\n", "\\", "<img src=x>", "y" * 100_000, "\x00\x1b[31m", "\ud800"])
def test_hostile_label_values(nasty: str, build: Build, serve: Serve):
    escaped = nasty.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    line = f'DCGM_FI_DEV_GPU_TEMP{{UUID="GPU-x{escaped}",gpu="7",modelName="{escaped}",Hostname="h{escaped}"}} 40\n'
    server = serve("")
    server.show((written("dcgm-h100") + line).encode("utf-8", "surrogatepass"))
    source = build(server)
    for _ in range(2):
        readings = source.collect()
        assert {BUSY, IDLE} <= {sample.key for sample in of(AcceleratorSample, readings)}
    for entity in of(Entity, readings):
        assert max(map(len, (entity.key, entity.host, *entity.labels.values()))) <= 210
        assert "".join((entity.key, entity.host, *entity.labels.values())).isprintable()


# --- whose a thing is ---


def test_two_exporters_of_one_accelerator_make_one_course(build: Build, serve: Serve):
    first, second = serve(written("dcgm-h100")), serve(written("dcgm-h100").replace("655.317", "600.000"))
    source = build(first, second)
    for _ in range(2):
        readings = source.collect()
        assert [sample.power_watts for sample in of(AcceleratorSample, readings)] == [655.317, 71.204]
        assert len(of(DeviceUser, readings)) == 2
        report = reports(readings)[second.url]
        assert report.outcome is Outcome.NO_DATA
        assert report.error == (
            f"left out, since NVIDIA DCGM exporter at {first.url} reports it already: 2 x accelerator; "
            "remove one of the two targets"
        )
        assert reports(readings)[first.url].error == ""


def test_what_only_the_second_has_is_kept(build: Build, serve: Serve):
    dcgm = serve(written("dcgm-h100"))
    smi = serve(
        written("nvidia-smi-l40s").replace("5e2b90c4-13d7-4a8e-b6f0-92c4d1e7a806", BUSY.removeprefix("GPU-"))
        + 'nvidia_smi_power_draw_watts{uuid="5e2b90c4-13d7-4a8e-b6f0-92c4d1e7a806"} 99\n'
    )
    readings = build(dcgm, smi).collect()
    assert len(of(AcceleratorSample, readings)) == 3
    assert reports(readings)[smi.url].outcome is Outcome.OK
    assert "1 x accelerator" in reports(readings)[smi.url].error


def test_a_thing_is_handed_on_when_its_exporter_is_silent_for_long(build: Build, serve: Serve, clock: Clock):
    first, second = serve(written("dcgm-h100")), serve(written("dcgm-h100").replace("655.317", "600.000"))
    source = build(first, second)
    source.collect()
    first.stop()
    assert of(AcceleratorSample, source.collect()) == []  # a missed tick is no reason
    clock.ahead_ms += HANDED_ON_MS + 1000
    readings = source.collect()
    assert values(readings, BUSY)["power_watts"] == 600.0
    first.start()
    readings = source.collect()
    assert values(readings, BUSY)["power_watts"] == 600.0
    assert "reports it already" in reports(readings)[first.url].error


def test_of_its_own_machine_a_daemon_knows_more(build: Build, serve: Serve):
    page = written("node-vm").replace('nodename="edge-3"', 'nodename="hub"')
    node, gpus = serve(page), serve(written("dcgm-h100").replace("gpu-a1", "hub"))
    readings = build(node, gpus, own_families=("cpu", "host")).collect()
    assert {sample.key for sample in samples(readings)} == {BUSY, IDLE}
    assert reports(readings)[node.url].error == "left out, since this Vatio reads it itself: what is about this machine"
    assert len(of(HostSample, build(node).collect())) == 1  # unless it does not


# --- federation ---


def federated(text: str, instance: str, stamp_ms: int | None = None) -> str:
    """A page as a Prometheus hands it on: labels of its own, time stamps, no help."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            head, _, value = line.rpartition(" ")
            name, brace, labels = head.partition("{")
            own = f'instance="{instance}",job="x"'
            head = f"{name}{{{own},{labels}" if brace else f"{name}{{{own}}}"
            lines.append(f"{head} {value}" + (f" {stamp_ms}" if stamp_ms else ""))
    return "\n".join(lines) + "\n"


def test_a_page_of_many_machines_and_exporters(build: Build, serve: Serve):
    at_ms = time.time_ns() // 1_000_000 - 7_000
    page = (
        federated(written("node-vm"), "10.0.0.3:9100", at_ms)
        + federated(written("node-two-sockets"), "10.0.0.7:9100", at_ms)
        + federated(written("nvidia-smi-l40s"), "10.0.0.8:9835", at_ms)
        + federated(written("dcgm-h100"), "gpu-a1:9400")
    )
    server = serve(page)
    source = build(server)
    (found,) = source.discover().entities
    assert found == f"NVIDIA DCGM exporter and nvidia_gpu_exporter and node_exporter at {server.url}"
    readings = source.collect()
    assert {sample.key for sample in of(HostSample, readings)} == {"edge-3", "cpu-07"}
    hosts = {entity.key: entity.host for entity in of(Entity, readings)}
    assert hosts["GPU-5e2b90c4-13d7-4a8e-b6f0-92c4d1e7a806"] == "10.0.0.8"
    assert hosts[BUSY] == "gpu-a1"
    stamps = {sample.key: sample.observed_at_ms for sample in samples(readings)}
    assert stamps["edge-3"] == at_ms  # as stamped
    assert stamps[BUSY] > at_ms  # now, without a stamp


def test_figures_that_are_stamped_long_ago_or_ahead(build: Build, serve: Serve):
    now = time.time_ns() // 1_000_000
    server = serve(federated(written("dcgm-h100"), "a:1", now - 2 * 3_600_000))
    assert samples(build(server).collect()) == []
    server.show(federated(written("dcgm-h100"), "a:1", now + 3_600_000))
    stamps = {sample.observed_at_ms for sample in samples(build(server).collect())}
    assert max(stamps) <= time.time_ns() // 1_000_000


# --- files of targets ---


def test_targets_in_a_file_come_and_go(build: Build, serve: Serve, tmp_path: Path):
    gpus, node = serve(written("dcgm-h100")), serve(written("nvidia-smi-l40s"))
    path = tmp_path / "targets.json"

    def write(*servers: MetricsServer) -> None:
        path.write_text(json.dumps([{"targets": [f"127.0.0.1:{s.port}" for s in servers], "labels": {"host": "n-6"}}]))

    write(gpus)
    source = build(file_sd=[path])
    assert source.discover().ok
    readings = source.collect()
    assert set(reports(readings)) == {gpus.url, "file_sd"}
    assert reports(readings)["file_sd"].outcome is Outcome.OK
    write(gpus, node)
    readings = source.collect()
    assert {entity.host for entity in of(Entity, readings)} == {"n-6"}
    assert len(of(AcceleratorSample, readings)) == 3
    path.write_text("[")
    readings = source.collect()
    assert len(of(AcceleratorSample, readings)) == 3
    assert reports(readings)["file_sd"].outcome is Outcome.FAILED
    assert str(path) in reports(readings)["file_sd"].error
    path.unlink()
    assert of(AcceleratorSample, source.collect()) == []


def test_a_target_in_settings_and_file_is_asked_once_as_in_the_settings(build: Build, serve: Serve, tmp_path: Path):
    smi = serve(written("nvidia-smi-l40s"))
    path = tmp_path / "targets.json"
    path.write_text(json.dumps([{"targets": [f"127.0.0.1:{smi.port}"], "labels": {"host": "from-file"}}]))
    readings = build(ExporterTarget(url=smi.url, host="from-settings"), file_sd=[path]).collect()
    assert {entity.host for entity in of(Entity, readings)} == {"from-settings"}
    assert len(smi.asked) == 1


# --- all of them ---


def test_every_written_page_at_once(build: Build, serve: Serve):
    pages = sorted(FIXTURES.glob("*.prom"))
    servers = [serve(path.read_text()) for path in pages]
    source = build(*servers)
    assert source.discover().reason == ""
    readings = source.collect()
    assert {report.outcome for report in of(TargetReport, readings)} == {Outcome.OK}
    assert {report.error for report in of(TargetReport, readings)} == {""}
    described = {(entity.family, entity.key) for entity in of(Entity, readings)}
    assert {(sample.family, sample.key) for sample in samples(readings)} == described
    assert of(Event, readings) == []
