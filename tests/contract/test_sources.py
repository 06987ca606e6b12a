"""What every registered source promises, checked against its fake."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from collectors.base import Availability, Source, now_ms
from collectors.registry import FACTORIES, Context, sources
from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import Entity, LatencySample, Reading, Sample
from core.settings import Settings
from tests.fixtures.metrics_server import MetricsServer
from tests.fixtures.openai_server import OpenAiServer, answer
from tests.stubs.amdsmi_host import AmdsmiHost, mi300x_host
from tests.stubs.nvml_host import NvmlHost, h100_host

FIXTURES = Path(__file__).parents[1] / "fixtures"
PAGE = FIXTURES / "serving/vllm-current-two-models.prom"
EXPORTERS = FIXTURES / "exporters"
TICKS = 3


class Purse:
    """A ledger in memory that allows everything; the stored one is tested in tests/storage."""

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        return True

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        pass


Build = Callable[[str], Source]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Makes a source by its name in a world where everything is there."""
    with ExitStack() as stack:

        def make(name: str) -> Source:
            configured: dict[str, object] = {"collectors": {"host_name": "box"}}
            if name == "nvidia":
                NvmlHost(tmp_path, h100_host(2)).install(monkeypatch)
            elif name == "amd":
                AmdsmiHost(tmp_path, mi300x_host(live=1)).install(monkeypatch)
            elif name == "serving":
                server = stack.enter_context(MetricsServer(PAGE.read_text()))
                configured["serving"] = {"loopback_ports": (server.port,)}
            elif name == "exporters":
                pages = [path.read_text() for path in sorted(EXPORTERS.glob("*.prom"))]
                servers = [stack.enter_context(MetricsServer(page)) for page in pages]
                configured["exporters"] = {"target": tuple({"url": server.url} for server in servers)}
            elif name == "probe":
                endpoint = stack.enter_context(OpenAiServer(*[answer("a", "b", "c")] * TICKS))
                probe = {
                    "name": "p",
                    "url": f"{endpoint.url}/v1",
                    "model": "m",
                    "interval_seconds": 1,
                    "timeout_seconds": 1,
                }
                configured["probe"] = (probe,)
            elif name == "simulated":
                configured["simulated"] = True
            context = Context(Settings(**configured), Purse())  # type: ignore[arg-type]
            source = next(source for source in sources(context) if source.name == name)
            stack.callback(source.close)
            return source

        yield make


@pytest.fixture(params=[*FACTORIES, "simulated"])
def source(request: pytest.FixtureRequest, build: Build) -> Source:
    return build(request.param)


def test_discover_answers_twice_and_never_raises(source: Source):
    for _ in range(2):
        found = source.discover()
        assert isinstance(found, Availability)
        assert found.ok, found.reason


def test_readings_keep_the_promises_of_the_catalog(source: Source):
    assert source.discover().ok
    before = now_ms()
    ticks = [list(source.collect())]
    for _ in range(TICKS - 1):
        time.sleep(1.1 if source.name in ("probe", "simulated") else 0.15)
        ticks.append(list(source.collect()))
    readings = [reading for tick in ticks for reading in tick]
    entities = {(r.family, r.key) for r in readings if isinstance(r, Entity)}
    samples = [r for r in readings if isinstance(r, Sample)]
    assert samples
    last: dict[tuple[str, str], float] = {}
    for sample in sorted(samples, key=lambda sample: sample.observed_at_ms):
        assert (sample.family, sample.key) in entities, "a thing is described before it is measured"
        assert before - 100_000 < sample.observed_at_ms <= now_ms()
        check_values(source.name, sample, last)
    for histogram in (r for r in readings if isinstance(r, LatencySample)):
        assert math.isinf(histogram.upper_bounds_seconds[-1])
        assert len(histogram.increments) == len(histogram.upper_bounds_seconds)
        assert min(histogram.increments) >= 0


def check_values(source: str, sample: Sample, last: dict[tuple[str, str], float]) -> None:
    for metric in FAMILIES[sample.family].metrics:
        value = getattr(sample, metric.name)
        if value is None:
            continue
        assert math.isfinite(value), metric.name
        assert source in metric.sources or source == "simulated", f"{source} is not declared for {metric.name}"
        if metric.name.endswith("_ratio"):
            assert 0 <= value <= 1, metric.name
        if metric.integer:
            assert isinstance(value, int), metric.name
        if metric.kind is Kind.COUNTER:
            assert value >= last.get((sample.key, metric.name), 0.0), metric.name
            last[sample.key, metric.name] = value


def test_readings_can_cross_a_process(source: Source):
    assert source.discover().ok
    readings: list[Reading] = list(source.collect())
    assert pickle.loads(pickle.dumps(readings)) == readings


def test_close_twice_is_fine(source: Source):
    source.close()
    source.discover()
    source.close()
    source.close()


@pytest.mark.parametrize("name", list(FACTORIES))
def test_without_its_world_a_source_says_so_and_does_not_raise(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    settings = Settings(serving={"loopback_ports": ()}, collectors={"host_name": "box"})  # type: ignore[arg-type]
    source = FACTORIES[name](Context(settings, Purse()))
    found = source.discover()
    assert found.ok or (found.reason and found.remedy)
    source.close()
