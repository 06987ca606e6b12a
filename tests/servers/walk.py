"""What happened in a window of the recorded hour, added up from its pages in plain Python.

Shares no code with Vatio. A counter grows from page to page; a new process began at zero. What grew between two
pages belongs to the window that holds the later one.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from tests.servers.hour import Hour
from tests.servers.replay import PROCESS_START

COUNTERS = {
    "generation_tokens_total": "vllm:generation_tokens_total",
    "prompt_tokens_total": "vllm:prompt_tokens_total",
    "cached_prompt_tokens_total": "vllm:prompt_tokens_cached_total",
    "succeeded_requests_total": 'vllm:request_success_total{finished_reason=~"stop|length"}',
    "prefix_cache_hits_tokens_total": "vllm:prefix_cache_hits_total",
}
"""Vatio's name of a counter, and what Prometheus is asked for."""

HISTOGRAMS = {
    "ttft": "vllm:time_to_first_token_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}
SUCCEEDED = ("stop", "length")


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start_ms`` up to ``end_ms``, which is not part of it."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Series:
    """One series of the hour: what each page said, and which process said it."""

    name: str
    labels: dict[str, str]
    at_ms: list[int]
    values: list[float]
    lives: list[str]

    @property
    def bound(self) -> float:
        return float(self.labels["le"])

    def within(self, window: Window) -> slice:
        """The pages that lie in a window."""
        return slice(bisect_left(self.at_ms, window.start_ms), bisect_left(self.at_ms, window.end_ms))

    def increase(self, window: Window) -> float:
        """By how much it grew up to the pages in a window; the first page of all is only a beginning."""
        pages = self.within(window)
        return math.fsum(self._grown(number) for number in range(max(pages.start, 1), pages.stop))

    def _grown(self, number: int) -> float:
        began_again = self.lives[number] != self.lives[number - 1]
        return self.values[number] - (0.0 if began_again else self.values[number - 1])

    @property
    def hidden_restarts(self) -> int:
        """New processes that had reached the old one's count by their first page: the count alone hides them."""
        pairs = pairwise(zip(self.lives, self.values, strict=True))
        return sum(0 < old <= new and one != other for (one, old), (other, new) in pairs)


class Walk:
    """All counters and buckets of an hour."""

    def __init__(self, hour: Hour) -> None:
        self.series: dict[str, Series] = {}
        for page in hour.pages:
            for text, value in (page.lines or {}).items():
                if (series := self.series.get(text)) is None:
                    series = self.series[text] = _series(text)
                series.at_ms.append(page.at_ms)
                series.values.append(float(value))
                series.lives.append((page.lines or {})[PROCESS_START])

    def counter(self, metric: str) -> list[Series]:
        """The series that a counter of Vatio's is the sum of."""
        name = COUNTERS[metric].partition("{")[0]
        return [
            s for s in self.series.values() if s.name == name and s.labels.get("finished_reason", "stop") in SUCCEEDED
        ]

    def buckets(self, kind: str) -> list[Series]:
        """The buckets of a histogram, by their bounds."""
        name = f"{HISTOGRAMS[kind]}_bucket"
        return sorted((s for s in self.series.values() if s.name == name), key=lambda series: series.bound)

    def sum(self, kind: str) -> Series:
        (series,) = [s for s in self.series.values() if s.name == f"{HISTOGRAMS[kind]}_sum"]
        return series


def _series(text: str) -> Series:
    (family,) = text_string_to_metric_families(f"{text} 0")
    (sample,) = family.samples
    return Series(sample.name, dict(sample.labels), [], [], [])


def quantile(q: Fraction, bounds: Sequence[float], cumulative: Sequence[float]) -> float:
    """The definition in exact arithmetic: linear inside a bucket, the first from zero, the last at its lower bound."""
    rank = q * Fraction(cumulative[-1])
    number = next(n for n, count in enumerate(cumulative) if Fraction(count) >= rank)
    if math.isinf(bounds[number]):
        return bounds[number - 1]
    lower = Fraction(bounds[number - 1]) if number else Fraction(0)
    below = Fraction(cumulative[number - 1]) if number else Fraction(0)
    share = (rank - below) / (Fraction(cumulative[number]) - below)
    return float(lower + (Fraction(bounds[number]) - lower) * share)


def windows(hour: Hour, size: int, *, seed: int) -> Iterator[Window]:
    """Windows of a minute up to the hour, anywhere in it, to the millisecond."""
    dice = random.Random(seed)
    first_ms, last_ms = hour.pages[0].at_ms, hour.pages[-1].at_ms
    for _ in range(size):
        length_ms = dice.randint(60_000, min(3_600_000, last_ms - first_ms))
        start_ms = dice.randint(first_ms, last_ms - length_ms)
        yield Window(start_ms, start_ms + length_ms)
