"""A real LiteLLM proxy in front of a real vLLM: the tokens of both are right, and are kept apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.servers import launch
from tests.servers.client import Counted, count, drive, workload
from tests.servers.install import Installed
from tests.servers.launch import Server
from tests.servers.watch import THREE_TICKS, Store, daemon

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

CONCURRENCY = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """Two lives of the proxy in front of one life of the engine, seen from all sides by a daemon that has ended."""

    lives: tuple[Counted, Counted]
    gateway: Store
    engine: Store

    def counted(self, field: str) -> float:
        return float(sum(getattr(life, field) for life in self.lives))


@pytest.fixture(scope="module")
def engine(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with launch.vllm(installed, tmp_path_factory.mktemp("vllm") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def measured(installed: Installed, engine: Server, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    directory, port = tmp_path_factory.mktemp("vatio"), launch.free_port()
    lives = []
    with daemon(directory, port, engine.port) as stored:
        for seed, size in ((8, 60), (9, 90)):
            with launch.litellm(installed, directory / f"{size}.log", engine, port=port) as gateway:
                load = workload(size, seed=seed)
                lives.append(count(drive(gateway.url, gateway.model, load, concurrency=CONCURRENCY)))
                time.sleep(THREE_TICKS)
        time.sleep(THREE_TICKS)  # watched after its end as well
    return Measured((lives[0], lives[1]), stored.of(gateway), stored.of(engine))


def test_the_load_holds_what_the_other_tests_are_about(measured: Measured) -> None:
    assert [life.requests for life in measured.lives] == [60, 90]
    assert measured.counted("refused") == 2
    assert 0 < measured.counted("cached_tokens") < measured.counted("prompt_tokens")


def test_tokens_and_requests_of_the_proxy_are_those_of_the_client_over_a_restart(measured: Measured) -> None:
    stored = measured.gateway
    assert stored.increase("generation_tokens_total") == measured.counted("output_tokens")
    assert stored.increase("prompt_tokens_total") == measured.counted("prompt_tokens")
    assert stored.increase("cached_prompt_tokens_total") == measured.counted("cached_tokens")
    assert stored.increase("succeeded_requests_total") == measured.counted("requests")
    assert stored.increase("rejected_requests_total") == measured.counted("refused")


def test_the_engine_behind_it_counts_the_same_without_having_been_restarted(measured: Measured) -> None:
    stored = measured.engine
    assert stored.increase("generation_tokens_total") == measured.counted("output_tokens")
    assert stored.increase("prompt_tokens_total") == measured.counted("prompt_tokens")
    assert stored.increase("succeeded_requests_total") == measured.counted("requests")
    assert stored.events("restart") == []


@pytest.mark.parametrize("kind", ["ttft", "e2e"])
def test_every_request_is_in_each_histogram_of_the_proxy_once(measured: Measured, kind: str) -> None:
    histogram = measured.gateway.latency(kind)
    assert histogram is not None
    assert histogram.observations == measured.counted("requests")


def test_the_proxy_waits_longer_than_its_engine_says_and_the_client_longer_still(measured: Measured) -> None:
    through, behind = measured.gateway.latency("e2e"), measured.engine.latency("e2e")
    assert through is not None
    assert behind is not None
    assert behind.sum_seconds < through.sum_seconds < measured.counted("e2e_seconds")


def test_the_restart_was_seen_once(measured: Measured) -> None:
    (message,) = measured.gateway.events("restart")
    assert "restarted" in message
    assert measured.gateway.falls("generation_tokens_total") == 1


def test_a_gateway_is_not_taken_for_an_engine(measured: Measured) -> None:
    gateway, engine = measured.gateway.entity()["labels"], measured.engine.entity()["labels"]
    assert (gateway["engine"], gateway["role"], gateway["model"]) == ("LiteLLM", "gateway", "tiny")
    assert engine["engine"] == "vLLM"
    assert "role" not in engine
