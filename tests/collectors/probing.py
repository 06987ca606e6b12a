"""A probe source on a bench: its clock, its chance and its money are the test's; endpoints and timings are real."""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from collectors.sources.probe.source import ProbeSource
from core.errors import StoreError
from core.readings import ProbeSample, Reading
from core.settings import ProbeSettings
from tests.fixtures.openai_server import OpenAiServer, Script, Step

START_NS = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * 10**9
SLACK = 0.25
WORST = ((len(b"Count from one to ten.") + 1024) * 100 + 16 * 1000) / 1e6
"""The most that a request of ``priced`` can cost, in USD."""


class Ledger:
    """A spend ledger in memory."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], float] = {}
        self.calls: list[tuple[str, float]] = []
        self.broken = ""

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        self._check("reserve")
        self.calls.append(("reserve", worst_case_usd))
        spent = self.spent.get((endpoint, month), 0.0)
        if spent + worst_case_usd > cap_usd:
            return False
        self.spent[endpoint, month] = spent + worst_case_usd
        return True

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        self._check("settle")
        self.calls.append(("settle", actual_usd))
        self.spent[endpoint, month] += actual_usd - reserved_usd

    def _check(self, call: str) -> None:
        if self.broken == call:
            raise StoreError("database is locked")


class Bench:
    """A source on a clock that stands still until it is moved past the next grid instant; without chance."""

    def __init__(self, *endpoints: ProbeSettings, ledger: Ledger | None = None) -> None:
        self.now_ns = START_NS
        self.chance = 0.0
        self.ledger = ledger or Ledger()
        self.endpoints = endpoints
        self.source = ProbeSource(
            endpoints, "host-a", self.ledger, clock_ns=lambda: self.now_ns, chance=lambda: self.chance
        )

    def pass_interval(self) -> None:
        self.now_ns += round(max(e.interval_seconds for e in self.endpoints) * 1e9)

    def samples(self, wanted: int = 1, within: float = 10.0) -> list[ProbeSample]:
        """Let an interval pass, then collect until so many samples are there."""
        self.pass_interval()
        return [r for r in self.collect_until(wanted, within) if isinstance(r, ProbeSample)]

    def collect_until(self, wanted: int, within: float = 10.0) -> list[Reading]:
        readings: list[Reading] = []
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            readings += self.source.collect()
            if sum(isinstance(r, ProbeSample) for r in readings) >= wanted:
                return readings
            time.sleep(0.005)
        raise AssertionError(f"{wanted} samples expected within {within} s, got {readings}")


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # reading the certificates takes longer than most tests


@contextmanager
def bench(*endpoints: ProbeSettings, ledger: Ledger | None = None) -> Iterator[Bench]:
    a_bench, tls = Bench(*endpoints, ledger=ledger), _tls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda **_: tls)
        try:
            yield a_bench
        finally:
            a_bench.source.close()


def endpoint(url: str, **more: Any) -> ProbeSettings:
    return ProbeSettings(**{"name": "chat", "url": url, "model": "tiny", **more})


def priced(url: str, **more: Any) -> ProbeSettings:
    """100 USD per million prompt tokens, 1000 per million output tokens."""
    prices = {"usd_per_million_input_tokens": 100.0, "usd_per_million_output_tokens": 1000.0, "monthly_cap_usd": 10.0}
    return endpoint(url, **{**prices, **more})


def ask_once(script: Script, make: Callable[..., ProbeSettings] = endpoint, **more: Any) -> ProbeSample:
    with OpenAiServer(script) as server, bench(make(server.url, **more)) as a_bench:
        (sample,) = a_bench.samples()
        return sample


def parts(*steps: Step) -> Script:
    return Script(steps)


def no_latencies(sample: ProbeSample) -> bool:
    """Whether the sample holds no time at all, neither ours nor the endpoint's."""
    return all(getattr(sample, name) is None for name in sample.__slots__ if name.endswith("_seconds"))


def about(value: float | None, scripted: float) -> bool:
    """A time since the request: never before its script, and little later."""
    return value is not None and scripted - 0.005 <= value < scripted + SLACK


def gap(value: float | None, scripted: float) -> bool:
    """A gap between arrivals: the first may have been read late, so it can be shorter, too."""
    return value is not None and scripted * 0.3 <= value < scripted + SLACK
