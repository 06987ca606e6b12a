"""An hour of a real vLLM, with a restart and a stop, read by Vatio into a real database; against two sets of books.

One is the client's own, the other a plain walk over the pages. ``test_prometheus.py`` asks Prometheus the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import pytest
from sqlalchemy import Engine

from analytics.formulas.latency import LEAST_FOR_P99
from storage import queries
from storage.engine import reader_engine
from tests.fixtures.metrics_server import MetricsServer
from tests.quantiles import quantiles
from tests.servers.hour import Hour, Page
from tests.servers.record import RECORDED
from tests.servers.replay import replay
from tests.servers.walk import COUNTERS, HISTOGRAMS, Walk, Window, quantile, windows

BOOKS = {
    "generation_tokens_total": "output_tokens",
    "prompt_tokens_total": "prompt_tokens",
    "cached_prompt_tokens_total": "cached_tokens",
    "succeeded_requests_total": "requests",
}
SETTLED_MS = 1000  # after the last answer every counter has its value
QUANTILES = {"p50": Fraction(50, 100), "p95": Fraction(95, 100), "p99": Fraction(99, 100)}


@pytest.fixture(scope="module")
def hour() -> Hour:
    return Hour.load(RECORDED / "vllm-0.32.0-cpu")


@pytest.fixture(scope="module")
def walk(hour: Hour) -> Walk:
    return Walk(hour)


@pytest.fixture(scope="module")
def stored(hour: Hour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    database = tmp_path_factory.mktemp("hour") / "vatio.db"
    with MetricsServer("") as endpoint:
        replay(hour, endpoint, database)
    engine = reader_engine(database)
    yield engine
    engine.dispose()


def increases(stored: Engine, window: Window) -> dict[str, float]:
    frame = queries.increases(stored, "deployment", list(COUNTERS), None, window.start_ms, window.end_ms)
    return {metric: float(frame[metric][0]) if len(frame) else math.nan for metric in COUNTERS}


def test_the_recording_holds_what_the_other_tests_are_about(hour: Hour, walk: Walk) -> None:
    pages = [page for page in hour.pages if page.lines]
    assert pages[-1].at_ms - pages[0].at_ms >= 3_500_000
    assert len(set(walk.counter("generation_tokens_total")[0].lives)) == 3
    assert sum(page.lines is None for page in hour.pages) > 24
    assert sum(burst.counted.requests for burst in hour.bursts) > 500


def test_what_is_stored_between_quiet_moments_is_what_the_client_counted(hour: Hour, stored: Engine) -> None:
    """Every stretch from a page on which nothing was in flight to the next one."""
    busy = [(burst.began_at_ms, burst.ended_at_ms + SETTLED_MS) for burst in hour.bursts]
    quiet = [
        page.at_ms
        for page in hour.pages
        if page.lines is not None and not any(began <= page.at_ms <= ended for began, ended in busy)
    ]
    compared = 0
    for before_ms, after_ms in pairwise(quiet):
        bursts = [burst for burst in hour.bursts if before_ms < burst.began_at_ms < after_ms]
        found = increases(stored, Window(before_ms + 1, after_ms + 1))
        for metric, field in BOOKS.items():
            assert found[metric] == sum(getattr(burst.counted, field) for burst in bursts), (before_ms, metric)
        compared += len(bursts)
    assert compared == sum(burst.began_at_ms > quiet[0] for burst in hour.bursts)


def test_two_hundred_windows_are_what_a_walk_over_the_pages_finds(hour: Hour, walk: Walk, stored: Engine) -> None:
    for window in windows(hour, 200, seed=17):
        for metric, found in increases(stored, window).items():
            expected = math.fsum(series.increase(window) for series in walk.counter(metric))
            assert found == expected or (math.isnan(found) and expected == 0), (window, metric)
        for kind in HISTOGRAMS:
            _compare_latencies(walk, stored, window, kind)


def _compare_latencies(walk: Walk, stored: Engine, window: Window, kind: str) -> None:
    buckets = walk.buckets(kind)
    bounds, cumulative = [series.bound for series in buckets], [series.increase(window) for series in buckets]
    frame = quantiles(stored, None, kind, window.start_ms, window.end_ms)
    if frame.empty or not frame["observations"][0]:
        assert cumulative[-1] == 0, (window, kind)
        return
    (row,) = frame.to_dict("records")
    assert row["observations"] == cumulative[-1], (window, kind)
    seconds = walk.sum(kind).increase(window)
    assert row["mean_seconds"] == pytest.approx(seconds / cumulative[-1], rel=1e-9), (window, kind)
    for name, q in QUANTILES.items():
        if name == "p99" and cumulative[-1] < LEAST_FOR_P99:
            assert math.isnan(row["p99_seconds"])
        else:
            assert row[f"{name}_seconds"] == pytest.approx(quantile(q, bounds, cumulative), rel=1e-9), (window, kind)


def test_both_ends_of_a_process_are_told_and_nothing_else(hour: Hour, stored: Engine) -> None:
    events = queries.events(stored, hour.pages[0].at_ms, hour.pages[-1].at_ms + 1)
    assert list(events["kind"]) == ["restart", "restart"]


def test_pages_are_read_as_they_were_saved(tmp_path) -> None:
    pages = [
        Page(1, {"a": "1", "b": "2"}),
        Page(2, {"a": "1", "b": "3"}),
        Page(3, None),
        Page(4, {"b": "3"}),
        Page(5, {"b": "3", "a": "0"}),
    ]
    Hour(pages, []).save(tmp_path)
    assert Hour.load(tmp_path).pages == pages
