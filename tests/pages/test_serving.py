"""serving/latency: quantiles as the buckets give them, and plain words where they cannot be known."""

from __future__ import annotations

import html
import math
import re
import time
from pathlib import Path

from core.readings import (
    DeploymentSample,
    Entity,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
)
from tests.pages.additions import add, metric, said
from tests.pages.conftest import Open
from tests.pages.databases import BOUNDS, DEPLOYMENT, HOST, HOSTILE

LATENCY = "serving/latency"
OTHER = "http://127.0.0.1:8080 other"


def at_ms() -> int:
    """A minute ago: within every window, and finished."""
    return int(time.time() * 1000) - 60_000


def other(engine: str, increments: tuple[float, ...] | None, **sample: float) -> list[Reading]:
    """A second deployment, with one TTFT histogram or none."""
    now, labels = at_ms(), {"model": "other", "engine": engine, "url": "http://127.0.0.1:8080"}
    readings: list[Reading] = [
        Entity(observed_at_ms=now, family="deployment", key=OTHER, host=HOST, labels=labels),
        *(
            DeploymentSample(key=OTHER, observed_at_ms=now + n, **{k: v * n for k, v in sample.items()})
            for n in (0, 10_000, 59_000)
        ),
    ]
    if increments is not None:
        readings.append(
            LatencySample(
                key=OTHER,
                kind=Latency.TTFT,
                observed_at_ms=now,
                upper_bounds_seconds=BOUNDS,
                increments=increments,
                sum_seconds=3.0,
            )
        )
    return readings


def open_other(open_page: Open):
    test = open_page(LATENCY)
    box = test.selectbox(key="latency-deployment")
    return box.select(next(option for option in box.options if "other" in option)).run()


def charts(test) -> int:
    return len(test.get("vega_lite_chart"))


def test_without_a_server_it_says_how_to_get_one(empty: Path, open_page: Open):
    test = open_page(LATENCY)
    assert "No inference server was seen" in said(test)
    assert charts(test) == 0


def test_quantiles_are_those_of_the_summed_buckets(full: Path, open_page: Open):
    # 2, 8, 6, 3, 1, 0 in (0.01, 0.05, 0.1, 0.5, 1, inf): rank 10 of 20 ends the second bucket, 19 the fourth
    test = open_page(LATENCY)
    said(test)
    assert metric(test, "TTFT p50") == "50.0 ms"
    assert metric(test, "TTFT p95") == "500 ms"
    assert metric(test, "TTFT p99") == "900 ms"
    help_text = next(one.proto.help for one in test.metric if one.label == "TTFT p50")
    assert "Mean: 200 ms" in html.unescape(help_text)  # 4 s over 20 requests
    assert re.search(r"derived · last hour, n = 2,\d{3}\b", said(test))
    assert charts(test) == 9


def test_the_verdict_says_who_waits(full: Path, open_page: Open):
    test = open_page(LATENCY)
    assert "1 request waits" in said(test)
    assert test.warning


def test_a_server_that_went_silent_is_said_first(stale: Path, open_page: Open):
    test = open_page(LATENCY)
    assert "has stopped reporting" in said(test)
    assert "stale, 5 min old" in said(test)


def test_under_a_hundred_observations_there_is_no_p99_but_the_count(full: Path, open_page: Open):
    add(full, *other("vLLM", (10.0, 10.0, 10.0, 0.0, 0.0, 0.0)))
    test = open_other(open_page)
    text = said(test)
    assert metric(test, "TTFT p99") == "n = 30"
    assert "no p99 under 100" in text
    assert metric(test, "TTFT p50") == "30.0 ms"


def test_beyond_the_last_bucket_only_a_lower_limit_is_known(full: Path, open_page: Open):
    add(full, *other("vLLM", (10.0, 0.0, 0.0, 0.0, 0.0, 190.0)))
    test = open_other(open_page)
    said(test)
    assert metric(test, "TTFT p50") == "≥ 1.0 s"
    assert metric(test, "TTFT p99") == "≥ 1.0 s"


def test_a_server_without_histograms_is_told_apart_from_one_without_requests(full: Path, open_page: Open):
    rates = {"decode_seconds_total": 0.0004, "generation_tokens_total": 0.01, "running_requests": 0.0}
    add(full, *other("llama.cpp", None, **rates))
    test = open_other(open_page)
    text = said(test)
    assert "llama.cpp exports no latency histograms" in text
    assert "[[probe]]" in text
    assert metric(test, "TTFT p50") == "unknown"
    assert "Mean time per output token" in text
    assert metric(test, "KV cache") == "unknown"


def test_no_request_at_all_is_not_a_latency_of_zero(full: Path, open_page: Open):
    add(full, *other("vLLM", (0.0,) * 6))
    test = open_other(open_page)
    text = said(test)
    assert metric(test, "TTFT p50") == "unknown"
    assert "exports no latency histograms" not in text
    assert "No request ended in the window" in text


def test_measured_zero_preemptions_are_a_zero(full: Path, open_page: Open):
    assert "0 in the last hour: no request was pushed out" in said(open_page(LATENCY))


def test_a_probe_of_the_same_model_stands_beside_the_server(full: Path, open_page: Open):
    labels = {"url": "http://127.0.0.1:8000/v1", "model": "llama", "price": "not set"}
    now = at_ms()
    probe = Entity(observed_at_ms=now, family="probe", key="p", host=HOST, labels=labels)
    well = ProbeSample(key="p", observed_at_ms=now, outcome=Outcome.OK, ttft_seconds=0.2)
    lost = ProbeSample(key="p", observed_at_ms=now + 1, outcome=Outcome.FAILED, error="timeout")
    add(full, probe, well, lost)
    test = open_page(LATENCY)
    assert "2 probes, 1 of them not answered" in said(test)
    assert charts(test) == 10


def test_many_failures_are_a_finding(full: Path, open_page: Open):
    add(full, *other("vLLM", None, succeeded_requests_total=0.01, failed_requests_total=0.001))
    assert "of requests failed in the last hour" in said(open_page(LATENCY))


def test_a_hostile_name_is_text(full: Path, open_page: Open):
    now, labels = at_ms(), {"model": HOSTILE, "engine": HOSTILE, "url": "http://h"}
    add(
        full,
        Entity(observed_at_ms=now, family="deployment", key="evil", host=HOST, labels=labels),
        DeploymentSample(key="evil", observed_at_ms=now, waiting_requests=3.0),
    )
    test = open_page(LATENCY)
    assert not test.exception
    assert all("<script>" not in box.value and "[bold](" not in box.value for box in [*test.warning, *test.markdown])


def test_the_kinds_of_a_server_without_itl_show_tpot(full: Path, open_page: Open):
    tpot = LatencySample(
        key=OTHER,
        kind=Latency.TPOT,
        observed_at_ms=at_ms(),
        upper_bounds_seconds=(0.1, math.inf),
        increments=(200.0, 0.0),
        sum_seconds=8.0,
    )
    add(full, *other("trtllm", (50.0,) * 6), tpot)
    test = open_other(open_page)
    said(test)
    assert metric(test, "TPOT p50") == "50.0 ms"


def test_the_database_of_the_fixture_is_the_one_looked_at(full: Path, open_page: Open):
    frame = open_page(LATENCY).dataframe[0].value
    assert list(frame["deployment"]) == ["llama @ http://127.0.0.1:8000"]
    assert DEPLOYMENT.endswith("llama")
