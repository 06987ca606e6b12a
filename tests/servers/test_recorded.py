"""The recorded pages against the client's books: what Vatio adds up over them is what was served.

Runs everywhere; the same comparison against servers that are running is in the tests beside this one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from collectors.sources.probe.completion import Answer
from collectors.sources.probe.sse import EventParser
from collectors.sources.serving.source import ServingSource
from core.readings import DeploymentSample, Latency, LatencySample, Reading
from tests.fixtures.metrics_server import MetricsServer
from tests.servers.client import Counted
from tests.servers.record import RECORDED

VLLM, LLAMA = "vllm-0.32.0-cpu", "llama-server-b11434"
LIVES = {
    VLLM: (["idle", "midload", "after"], ["restarted"], ["pressure", "pressure-after"]),
    LLAMA: (["idle", "midload", "after"], ["restarted"]),
}


def scraped(folder: str) -> list[Reading]:
    """Every page of a folder in the order in which it was recorded, read by the source tick after tick."""
    with MetricsServer("") as server:
        source = ServingSource("here", ports=[server.port], targets=(), max_body_bytes=1 << 20, deadline_seconds=5)
        readings: list[Reading] = []
        for label in (label for life in LIVES[folder] for label in life):
            server.show((RECORDED / folder / f"{label}.prom").read_text("utf-8"))
            readings += source.collect()
            time.sleep(0.01)  # two samples need two instants
        source.close()
    return readings


def counted(folder: str, field: str) -> float:
    """What the client counted of one thing over all lives of a server."""
    books = json.loads((RECORDED / folder / "counted.json").read_text("utf-8"))
    assert set(books) == {life[-1] for life in LIVES[folder]}
    return float(sum(getattr(Counted(**book), field) for book in books.values()))


def increase(readings: Sequence[Reading], counter: str) -> float:
    samples = sorted((r for r in readings if isinstance(r, DeploymentSample)), key=lambda sample: sample.observed_at_ms)
    values = [getattr(sample, counter) for sample in samples]
    return float(sum(now - before if now >= before else now for before, now in pairwise(values)))


def observations(readings: Sequence[Reading], kind: Latency) -> float:
    return sum(r.observations for r in readings if isinstance(r, LatencySample) and r.kind is kind)


@pytest.mark.parametrize("folder", [VLLM, LLAMA])
def test_tokens_add_up_over_load_and_restarts(folder: str) -> None:
    readings = scraped(folder)
    assert increase(readings, "generation_tokens_total") == counted(folder, "output_tokens")
    assert increase(readings, "prompt_tokens_total") == counted(folder, "prompt_tokens")
    assert increase(readings, "cached_prompt_tokens_total") == counted(folder, "cached_tokens")


def test_requests_add_up_where_the_server_counts_them() -> None:
    readings = scraped(VLLM)
    requests = counted(VLLM, "requests")
    assert increase(readings, "succeeded_requests_total") == requests
    assert increase(readings, "failed_requests_total") == 0
    for kind in (Latency.TTFT, Latency.E2E, Latency.QUEUE, Latency.PREFILL, Latency.DECODE):
        assert observations(readings, kind) == requests, kind
    assert observations(readings, Latency.ITL) == counted(VLLM, "output_tokens") - requests


@pytest.mark.parametrize("folder", [VLLM, LLAMA])
def test_the_pages_amid_a_load_show_a_queue(folder: str) -> None:
    samples = [reading for reading in scraped(folder) if isinstance(reading, DeploymentSample)]
    assert any(sample.running_requests and sample.waiting_requests for sample in samples)


@pytest.mark.parametrize("folder", [VLLM, LLAMA])
def test_the_recorded_stream_bills_its_twelve_tokens(folder: str) -> None:
    answer, parser = Answer(), EventParser()
    for data in parser.feed((RECORDED / folder / "chat.sse").read_bytes()):
        answer.see(data, time.perf_counter())
    answer.end(time.perf_counter())
    assert answer.done
    assert answer.output_tokens == 12
    assert 0 < answer.chunks < 12  # some tokens are half a character: no text of their own
