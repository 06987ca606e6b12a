"""Cerebras' metrics API for dedicated endpoints: every series, also one named ``_total``, is of the last full minute.

Percentiles of single minutes cannot be averaged and are left out; the mean times the minute's requests can be added up.
The label with ``avg`` is called ``percentile`` or ``statistic``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from collectors.scrape.exposition import Page
from collectors.scrape.histograms import Cumulative, Identity
from collectors.sources.serving.engine import Alias, Engine, among, matching
from core.readings import Latency

_SUCCEEDED = "requests_success_total"
_STATISTICS = ("percentile", "statistic")


@dataclass(frozen=True, slots=True)
class _MinuteMean:
    """A latency of which the page gives the mean of the minute's requests: one bucket without a bound."""

    name: str

    def series(self) -> tuple[str, ...]:
        """The names it needs."""
        return (self.name, _SUCCEEDED)

    def read(self, page: Page) -> dict[Identity, Cumulative]:
        """The minute's requests, and their mean times their number."""
        means = [point for label in _STATISTICS for point in matching(page, self.name, among(label, "avg"))]
        requests = page.points.get(_SUCCEEDED, ())
        if len(means) != 1 or len(requests) != 1:
            return {}
        count, seconds = requests[0].value, means[0].value * requests[0].value
        if not (0 <= count < math.inf and 0 <= seconds < math.inf):
            return {}
        return {(self.name, ()): Cumulative((math.inf,), (count,), seconds)}


CEREBRAS = Engine(
    name="Cerebras",
    prefixes=("",),
    marks=("inference_endpoint_status",),
    path="/api/v1/metrics/organizations/",
    per_minute=True,
    quantities={
        "prompt_tokens_total": (Alias(("input_tokens_total",)),),
        "generation_tokens_total": (Alias(("output_tokens_total",)),),
        "succeeded_requests_total": (Alias((_SUCCEEDED,)),),
        "failed_requests_total": (Alias(("requests_failure_total",)),),
    },
    histograms={
        Latency.TTFT: (_MinuteMean("ttft_seconds"),),
        Latency.E2E: (_MinuteMean("e2e_latency_seconds"),),
        Latency.QUEUE: (_MinuteMean("queue_time_seconds"),),
    },
    model_labels=("endpoint",),
    keeps_labels=frozenset(("endpoint", *_STATISTICS)),
    ignored=("requests_count_total",),
)
