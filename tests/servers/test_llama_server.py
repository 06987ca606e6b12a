"""A real llama-server: what Vatio stores against what the client counted itself.

It has no histograms and counts no requests, so what is tested here are tokens, the queue and a restart.
Its ``prompt_tokens_total`` leaves out what came from the cache; Vatio's includes it, as bills do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.readings import Outcome
from tests.servers import launch
from tests.servers.client import Counted, count, drive, workload
from tests.servers.install import Installed
from tests.servers.launch import Server
from tests.servers.probing import probe
from tests.servers.watch import THREE_TICKS, Store, daemon

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

CONCURRENCY = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """One load, seen from both sides, by a daemon that has ended."""

    counted: Counted
    stored: Store
    page: str


@pytest.fixture(scope="module")
def server(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with launch.llama_server(installed, tmp_path_factory.mktemp("llama") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def measured(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    directory = tmp_path_factory.mktemp("vatio")
    with (
        launch.llama_server(installed, directory / "server.log") as server,
        daemon(directory, server.port) as stored,
    ):
        counted = count(drive(server.url, server.model, workload(240, seed=4), concurrency=CONCURRENCY))
        time.sleep(THREE_TICKS)
        page = server.page()
    return Measured(counted, stored, page)


def test_the_load_holds_what_the_other_tests_are_about(measured: Measured) -> None:
    assert measured.counted.requests == 240
    assert measured.counted.refused == 1
    assert 0 < measured.counted.cached_tokens < measured.counted.prompt_tokens
    assert measured.stored.failed_ticks() == 0


def test_tokens_are_those_of_the_client_to_the_last_one(measured: Measured) -> None:
    counted, stored = measured.counted, measured.stored
    assert stored.increase("generation_tokens_total") == counted.output_tokens
    assert stored.increase("prompt_tokens_total") == counted.prompt_tokens
    assert stored.increase("cached_prompt_tokens_total") == counted.cached_tokens


def test_the_servers_own_prompt_count_leaves_the_cached_ones_out(measured: Measured) -> None:
    (line,) = [line for line in measured.page.splitlines() if line.startswith("llamacpp:prompt_tokens_total ")]
    assert float(line.split()[1]) == measured.counted.prompt_tokens - measured.counted.cached_tokens


def test_what_it_does_not_count_is_unknown_and_not_zero(measured: Measured) -> None:
    stored = measured.stored
    for counter in ("succeeded_requests_total", "failed_requests_total", "preemptions_total"):
        assert math.isnan(stored.increase(counter)), counter
    assert math.isnan(stored.latest("kv_cache_usage_ratio"))
    assert stored.latency("ttft") is None
    assert stored.latency("e2e") is None


def test_it_worked_no_longer_than_the_client_waited(measured: Measured) -> None:
    worked = measured.stored.increase("prefill_seconds_total") + measured.stored.increase("decode_seconds_total")
    assert 0 < worked < measured.counted.e2e_seconds


def test_the_queue_was_seen_and_is_empty_again(measured: Measured) -> None:
    stored = measured.stored
    assert 0 < stored.highest("running_requests") <= launch.SLOTS
    assert 0 < stored.highest("waiting_requests") <= CONCURRENCY - launch.SLOTS
    assert stored.latest("running_requests") == stored.latest("waiting_requests") == 0


def test_a_restart_and_a_stop_lose_no_token_and_count_none_twice(installed: Installed, tmp_path: Path) -> None:
    with ExitStack() as first_life:
        first = first_life.enter_context(launch.llama_server(installed, tmp_path / "first.log"))
        with daemon(tmp_path, first.port) as stored:
            before = count(drive(first.url, first.model, workload(60, seed=5), concurrency=CONCURRENCY))
            time.sleep(THREE_TICKS)
            assert stored.latest("generation_tokens_total") == before.output_tokens
            first_life.close()
            with launch.llama_server(installed, tmp_path / "second.log", port=first.port) as second:
                after = count(drive(second.url, second.model, workload(90, seed=6), concurrency=CONCURRENCY))
                time.sleep(THREE_TICKS)
            time.sleep(THREE_TICKS)  # watched after its end as well
    assert len(stored.events("restart")) == stored.falls("generation_tokens_total") == 1
    assert after.output_tokens > before.output_tokens  # so that a new total may be mistaken for the old one grown
    assert stored.increase("generation_tokens_total") == before.output_tokens + after.output_tokens
    assert stored.increase("prompt_tokens_total") == before.prompt_tokens + after.prompt_tokens
    assert stored.increase("cached_prompt_tokens_total") == before.cached_tokens + after.cached_tokens


def test_a_server_that_starts_later_is_counted_from_its_first_token(installed: Installed, tmp_path: Path) -> None:
    port = launch.free_port()
    with (
        daemon(tmp_path, port) as stored,
        launch.llama_server(installed, tmp_path / "server.log", port=port) as server,
    ):
        counted = count(drive(server.url, server.model, workload(60, seed=7), concurrency=CONCURRENCY))
        time.sleep(THREE_TICKS)
    assert stored.increase("generation_tokens_total") == counted.output_tokens
    assert stored.increase("prompt_tokens_total") == counted.prompt_tokens


def test_a_probe_bills_what_the_server_counts_and_times_what_the_client_times(server: Server) -> None:
    probed = probe(server)
    assert [sample.error for sample in probed.samples if sample.outcome is not Outcome.OK] == []
    assert len({each.output_tokens for each in probed.all}) == 1
    assert sum(each.output_tokens or 0 for each in probed.all) == probed.increase("llamacpp:tokens_predicted_total")
    read = probed.increase("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total")
    assert sum(each.prompt_tokens or 0 for each in probed.all) == read
    assert probed.agree_with_the_relay(), probed
    assert probed.agree_on_the_first_token(), probed
    assert all(0 < (each.ttft_seconds or 0.0) <= (each.e2e_seconds or 0.0) for each in probed.all)
