"""A real vLLM on the CPU: what Vatio stores against what the client counted itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from core.readings import Outcome
from tests.servers import launch
from tests.servers.client import Counted, count, drive, workload
from tests.servers.install import Installed
from tests.servers.launch import Server
from tests.servers.probing import probe
from tests.servers.record import LONG_ANSWERS, PRESSURE
from tests.servers.watch import THREE_TICKS, Store, daemon

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

CLIENT_SHARE = 0.5  # of what the client waited; the rest goes to HTTP, JSON and a busy core
CLIENT_SLACK_SECONDS = 0.25  # what these may add to one request that is alone


@dataclass(frozen=True, slots=True)
class Measured:
    """One load, seen from both sides, by a daemon that has ended."""

    counted: Counted
    stored: Store


@pytest.fixture(scope="module")
def server(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with launch.vllm(installed, tmp_path_factory.mktemp("vllm") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def measured(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    with daemon(tmp_path_factory.mktemp("vatio"), server.port) as stored:
        counted = count(drive(server.url, server.model, workload(240, seed=3), concurrency=24))
        time.sleep(THREE_TICKS)
    return Measured(counted, stored)


def test_the_load_holds_what_the_other_tests_are_about(measured: Measured) -> None:
    counted = measured.counted
    assert counted.requests == 240
    assert counted.refused == 1
    assert 0 < counted.stopped < counted.requests
    assert 0 < counted.cached_tokens < counted.prompt_tokens
    assert measured.stored.failed_ticks() == 0


def test_tokens_are_those_of_the_client_to_the_last_one(measured: Measured) -> None:
    counted, stored = measured.counted, measured.stored
    assert stored.increase("generation_tokens_total") == counted.output_tokens
    assert stored.increase("prompt_tokens_total") == counted.prompt_tokens
    assert stored.increase("cached_prompt_tokens_total") == counted.cached_tokens
    assert stored.increase("prefix_cache_queries_tokens_total") == counted.prompt_tokens
    assert stored.increase("prefix_cache_hits_tokens_total") == counted.cached_tokens


def test_a_refused_request_is_neither_a_success_nor_a_failure_of_the_engine(measured: Measured) -> None:
    counted, stored = measured.counted, measured.stored
    assert stored.increase("succeeded_requests_total") == counted.requests
    assert stored.increase("failed_requests_total") == 0
    assert stored.increase("aborted_requests_total") == 0


@pytest.mark.parametrize("kind", ["ttft", "e2e", "queue", "prefill", "decode"])
def test_every_request_is_in_each_histogram_once(measured: Measured, kind: str) -> None:
    histogram = measured.stored.latency(kind)
    assert histogram is not None
    assert histogram.observations == measured.counted.requests


def test_every_gap_between_two_tokens_is_counted_once(measured: Measured) -> None:
    histogram = measured.stored.latency("itl")
    assert histogram is not None
    assert histogram.observations == measured.counted.gaps


@pytest.mark.parametrize(("kind", "waited"), [("ttft", "first_chunk_seconds"), ("e2e", "e2e_seconds")])
def test_the_client_waits_longer_than_the_server_says_but_not_much(measured: Measured, kind: str, waited: str) -> None:
    histogram, client_seconds = measured.stored.latency(kind), getattr(measured.counted, waited)
    assert histogram is not None
    assert CLIENT_SHARE * client_seconds < histogram.sum_seconds <= client_seconds


def test_the_queue_was_seen_and_is_empty_again(measured: Measured) -> None:
    stored = measured.stored
    assert 0 < stored.highest("running_requests") <= launch.SEQUENCES
    assert 0 < stored.highest("waiting_requests") <= 24 - 1
    assert 0 < stored.highest("kv_cache_usage_ratio") <= 1
    assert stored.latest("running_requests") == stored.latest("waiting_requests") == 0


def test_the_server_is_known_by_name_and_age(server: Server, measured: Measured) -> None:
    entity = measured.stored.entity()
    assert entity["key"] == f"{server.url} {server.model}"
    assert "vllm" in {str(label).lower() for label in entity["labels"].values()}
    age_seconds = time.time() - measured.stored.latest("process_started_at_seconds")
    assert server.start_seconds - 5 < age_seconds < server.start_seconds + 300


def test_a_probe_bills_what_the_server_counts_and_times_what_the_client_times(server: Server) -> None:
    probed = probe(server)
    assert [sample.error for sample in probed.samples if sample.outcome is not Outcome.OK] == []
    assert len({each.output_tokens for each in probed.all}) == 1
    assert sum(each.output_tokens or 0 for each in probed.all) == probed.increase("vllm:generation_tokens_total")
    assert sum(each.prompt_tokens or 0 for each in probed.all) == probed.increase("vllm:prompt_tokens_total")
    assert probed.agree_with_the_relay(), probed
    assert probed.agree_on_the_first_token(), probed
    for served, seen in (
        ("vllm:time_to_first_token_seconds", sum(each.ttft_seconds or 0.0 for each in probed.all)),
        ("vllm:e2e_request_latency_seconds", sum(each.e2e_seconds or 0.0 for each in probed.all)),
    ):
        assert probed.increase(f"{served}_count") == len(probed.all)
        assert 0 <= seen - probed.increase(f"{served}_sum") < CLIENT_SLACK_SECONDS * len(probed.all)


@dataclass(frozen=True, slots=True)
class Lives:
    """A server that starts while it is watched, is restarted under cache pressure, and stops; its port stays."""

    plain: Counted
    pressed: Counted
    preempted_before: float
    stored: Store

    def counted(self, field: str) -> float:
        return float(getattr(self.plain, field) + getattr(self.pressed, field))


@pytest.fixture(scope="module")
def lives(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Lives:
    directory, port = tmp_path_factory.mktemp("lives"), launch.free_port()
    with daemon(directory, port) as stored:
        with launch.vllm(installed, directory / "first.log", port=port) as server:
            plain = count(drive(server.url, server.model, workload(120, seed=10), concurrency=24))
            time.sleep(THREE_TICKS)  # drained: what is in flight at the end is in nobody's books
            preempted_before = stored.increase("preemptions_total")
        with launch.vllm(installed, directory / "second.log", *PRESSURE, port=port) as server:
            pressed = count(drive(server.url, server.model, LONG_ANSWERS, concurrency=len(LONG_ANSWERS)))
            time.sleep(THREE_TICKS)
        time.sleep(THREE_TICKS)  # watched after its end as well
    return Lives(plain, pressed, preempted_before, stored)


def test_tokens_and_requests_are_those_of_the_client_over_a_restart_and_a_stop(lives: Lives) -> None:
    stored = lives.stored
    assert (lives.plain.requests, lives.pressed.requests) == (120, len(LONG_ANSWERS))
    assert stored.increase("generation_tokens_total") == lives.counted("output_tokens")
    assert stored.increase("prompt_tokens_total") == lives.counted("prompt_tokens")
    assert stored.increase("succeeded_requests_total") == lives.counted("requests")


@pytest.mark.parametrize("kind", ["ttft", "e2e"])
def test_every_request_of_both_lives_is_in_each_histogram_once(lives: Lives, kind: str) -> None:
    histogram = lives.stored.latency(kind)
    assert histogram is not None
    assert histogram.observations == lives.counted("requests")
    assert histogram.least >= 0


def test_one_restart_was_seen_and_the_end_was_not_taken_for_another(lives: Lives) -> None:
    (message,) = lives.stored.events("restart")
    assert "restarted" in message
    assert lives.stored.falls("generation_tokens_total") == 1


def test_cache_pressure_was_seen_and_preempted_requests_are_counted_once(lives: Lives) -> None:
    stored = lives.stored
    assert lives.preempted_before == 0
    assert stored.increase("preemptions_total") > 0
    assert stored.highest("kv_cache_usage_ratio") > 0.8
    assert stored.highest("waiting_requests") > launch.SEQUENCES
