"""One request of Vatio's probe to a real server, beside the same request of the client."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collectors.sources.probe.source import ProbeSource
from core.readings import ProbeSample
from core.settings import ProbeSettings
from tests.servers.client import Reply, Request, drive
from tests.servers.launch import Server
from tests.servers.relay import Passed, relay
from tests.servers.watch import wait_until

QUESTION = Request("How many tokens does a watt buy?", 16)
REPEATS = 5
QUIET_SECONDS = 1.0  # until the server has counted the last answer
CLOSE_SECONDS = 0.1
READING_SECONDS = 0.02  # what loopback, a thread's turn and reading may add; a fraction of a millisecond as a rule


class NoMoney:
    """The ledger of endpoints without a price, which is never asked."""

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        raise AssertionError("a free endpoint was billed")

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        raise AssertionError("a free endpoint was billed")


@dataclass(frozen=True, slots=True)
class Probed:
    """``before`` and ``after`` are the server's own counters around all these requests, and there were no others.

    ``passed`` are the samples' own streams, as a relay in front of the server timed them.
    """

    samples: list[ProbeSample]
    passed: list[Passed]
    replies: list[Reply]
    before: dict[str, float]
    after: dict[str, float]

    @property
    def all(self) -> list[ProbeSample | Reply]:
        """Every request, whoever sent it; both sides name their figures alike."""
        return [*self.samples, *self.replies]

    def increase(self, *counters: str) -> float:
        """What all requests added to one or more counters."""
        return sum(self.after[counter] - self.before[counter] for counter in counters)

    def added_seconds(self, name: str) -> list[float]:
        """By how much the probe's figure of each stream exceeds the relay's."""
        pairs = zip(self.samples, self.passed, strict=True)
        return [(getattr(sample, name) or 0.0) - getattr(passed, name) for sample, passed in pairs]

    def agree_with_the_relay(self) -> bool:
        """Whether the probe's figures contain the relay's, and exceed them by no more than reading takes."""
        added = [self.added_seconds("ttft_seconds"), self.added_seconds("e2e_seconds")]
        return all(min(each) >= 0 and statistics.median(each) < READING_SECONDS for each in added)

    def agree_on_the_first_token(self) -> bool:
        """Whether the medians are close; one request alone may have met a busy core."""
        probed = statistics.median(sample.ttft_seconds or 0.0 for sample in self.samples)
        timed = statistics.median(reply.ttft_seconds or 0.0 for reply in self.replies)
        return probed == pytest.approx(timed, rel=0.5, abs=CLOSE_SECONDS)


def probe(server: Server) -> Probed:
    """Ask by turns as the client and as the probe, after one request that warms the server up."""
    drive(server.url, server.model, [QUESTION], concurrency=1)
    time.sleep(QUIET_SECONDS)
    before = _counters(server)
    samples, replies = [], []
    with relay(server.port) as between:
        for _ in range(REPEATS):
            replies += drive(server.url, server.model, [QUESTION], concurrency=1)
            samples.append(_one_sample(between.url, server.model))
    time.sleep(QUIET_SECONDS)
    return Probed(samples, between.passed, replies, before, _counters(server))


def _one_sample(url: str, model: str) -> ProbeSample:
    settings = ProbeSettings(
        name="tiny",
        url=url,
        model=model,
        prompt=QUESTION.prompt,
        max_tokens=QUESTION.max_tokens,
        interval_seconds=86_400,  # one request only
        timeout_seconds=10,
    )
    source = ProbeSource([settings], "here", NoMoney())
    samples: list[ProbeSample] = []

    def answered() -> bool:
        samples.extend(reading for reading in source.collect() if isinstance(reading, ProbeSample))
        return bool(samples)

    try:
        assert source.discover().ok
        wait_until(answered, 15, "the probe's answer")
    finally:
        source.close()
    return samples[0]


def _counters(server: Server) -> dict[str, float]:
    """The page of a server with one model, by name; of series that differ in labels the sum."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(server.page()):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values
