"""serving/latency: quantiles as the buckets give them, and plain words where they cannot be known."""

from __future__ import annotations

import html
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.readings import (
    AcceleratorSample,
    DeploymentSample,
    DeviceProcess,
    Entity,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
)
from pages.serving.figures import significant
from tests.pages.additions import add, attacked, configure, metric, said, scraped
from tests.pages.conftest import Open
from tests.pages.databases import BOUNDS, DEPLOYMENT, HOST, HOSTILE

LATENCY = "serving/latency"
JOINED = [DEPLOYMENT, "H100 80GB HBM3", "process ids"]
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
    help_text = next(one.proto.help for one in test.markdown if one.value == ":small[TTFT p50]")
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
    why = next(one.proto.help for one in test.markdown if one.value == ":small[TTFT p50]")
    assert "no requests, or no histogram of it" in html.unescape(why)
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
    assert metric(test, "TPOT p50") == "≤ 100 ms"  # all lie in the lowest bucket: half of its bound would be a guess


def test_the_database_of_the_fixture_is_the_one_looked_at(full: Path, open_page: Open):
    frame = open_page(LATENCY).dataframe[0].value
    assert list(frame["deployment"]) == ["llama @ http://127.0.0.1:8000"]
    assert DEPLOYMENT.endswith("llama")


OBJECTIVE = '[[serving.objective]]\nmodel = "llama"\nttft_seconds = 0.5\ne2e_seconds = 0.3\ntarget_ratio = 0.9'
TWIN = "http://127.0.0.1:9000 llama"


def twin(bounds: tuple[float, ...] = BOUNDS, increments: tuple[float, ...] = (0, 0, 0, 0, 400, 0)) -> list[Reading]:
    """A second server of the same model, slower."""
    labels, now = {"model": "llama", "engine": "vLLM", "url": "http://127.0.0.1:9000"}, at_ms()
    return [
        Entity(observed_at_ms=now, family="deployment", key=TWIN, host=HOST, labels=labels),
        DeploymentSample(key=TWIN, observed_at_ms=now + 60_000, running_requests=7.0, waiting_requests=0.0),
        LatencySample(
            key=TWIN,
            kind=Latency.TTFT,
            observed_at_ms=now,
            upper_bounds_seconds=bounds,
            increments=increments,
            sum_seconds=300.0,
        ),
    ]


def choose(test, part: str):
    box = test.selectbox(key="latency-deployment")
    return box.select(next(option for option in box.options if part in option)).run()


def test_promises_stand_beside_what_was_kept(full: Path, open_page: Open):
    # of 20 observations a tick: 19 of TTFT within 0.5 s, a bound; of E2E 16 within 0.1 s and 19 within 0.5 s
    configure(full, OBJECTIVE)
    test = open_page(LATENCY)
    text = said(test)
    assert metric(test, "TTFT within 500 ms") == "95.00 %"
    assert metric(test, "E2E within 300 ms") == "80.00 – 95.00 %"
    assert re.search(r"Error budget burn = 0\.5× – 2×", text)
    assert re.search(r"target 90\.0 %, n = 2,\d{3}", text)
    assert "75.00 – 95.00 % of requests" in text  # misses may fall together, or not
    assert "No objective is set" not in text
    assert not any("promised" in box.value for box in test.warning)  # it is not certain that one was broken


def test_numbers_are_written_as_the_visitor_writes_them(full: Path, open_page: Open):
    configure(full, OBJECTIVE)
    shown = {str(one.value) for one in open_page(LATENCY, language="es").metric}
    assert {"50,0 ms", "95,00 %", "80,00 – 95,00 %", "0,5× – 2×"} <= shown


def test_digits_that_matter_stay_and_zeros_at_the_end_go():
    shown = [significant(value, 2) for value in (0.0, 0.0123, 0.5, 2.0, 9.99, 14.6, 1234.5)]
    assert shown == ["0", "0.012", "0.5", "2", "10", "15", "1,234"]


def test_a_promise_that_was_certainly_broken_is_a_finding(full: Path, open_page: Open):
    configure(full, OBJECTIVE.replace("0.5", "0.1"))
    text = said(open_page(LATENCY))
    assert "TTFT within 100 ms: 80.00 % in the last hour, promised 90.0 %" in text


def test_without_a_promise_it_says_how_to_make_one(full: Path, open_page: Open):
    assert "[[serving.objective]] in vatio.toml adds its figures" in said(open_page(LATENCY))


def test_probes_are_judged_by_the_same_promise(full: Path, open_page: Open):
    configure(full, OBJECTIVE)
    now, labels = at_ms(), {"url": "http://127.0.0.1:8000/v1", "model": "llama"}
    answers = [
        ProbeSample(
            key="p",
            observed_at_ms=now + n,
            outcome=Outcome.OK,
            ttft_seconds=0.1,
            e2e_seconds=e2e,
            output_tokens=9,
            server_queue_seconds=0.004,
            server_decode_seconds=0.2,
        )
        for n, e2e in enumerate((0.2, 0.2, 0.9))
    ]
    add(full, Entity(observed_at_ms=now, family="probe", key="p", host=HOST, labels=labels), *answers)
    test = open_page(LATENCY)
    said(test)
    assert metric(test, "Probes within all limits") == "2 of 3"
    own = next(table.value for table in test.dataframe if "part" in table.value)
    assert dict(zip(own["part"], own["median_seconds"], strict=True))["queue, server's clock"] == 0.004
    assert "prompt, server's clock" not in set(own["part"])


def test_the_deployments_of_a_model_are_one(full: Path, open_page: Open):
    add(full, *twin())
    test = open_page(LATENCY)
    assert test.selectbox(key="latency-deployment").options[0] == "llama: all 2 deployments"
    text = said(test)
    assert metric(test, "Running") == "11 requests"
    assert "sum of 2 deployments" in text
    alone = choose(test, "9000")
    said(alone)
    assert metric(alone, "TTFT p50") == "750 ms"
    assert metric(alone, "Running") == "7 requests"


def test_what_other_buckets_leave_out_is_said(full: Path, open_page: Open):
    add(full, *twin((0.3, math.inf), (200.0, 200.0)))
    text = said(open_page(LATENCY))
    assert "400 left out" in text
    assert "400 observations are left out: their server has other buckets." in text


def test_a_histogram_without_bounds_shows_its_mean_and_why_no_more(full: Path, open_page: Open):
    add(full, *twin((math.inf,), (400.0,)))
    test = choose(open_page(LATENCY), "9000")
    text = said(test)
    assert metric(test, "TTFT p50") == "mean 750 ms"
    assert "n = 400, no quantile: the server tells only their number and sum" in text
    assert "Mean alone" in text


def test_a_gateway_is_shown_and_counted_nowhere_again(full: Path, open_page: Open):
    gateway = twin()
    assert isinstance(gateway[0], Entity)
    gateway[0] = replace(gateway[0], labels={**gateway[0].labels, "role": "gateway", "engine": "LiteLLM"})
    add(full, *gateway)
    test = open_page(LATENCY)
    said(test)
    assert test.selectbox(key="latency-deployment").options == [
        "llama @ http://127.0.0.1:8000",
        "llama @ http://127.0.0.1:9000",
    ]
    assert sorted(test.dataframe[0].value["role"]) == ["", "gateway: counted again behind it"]
    overview = open_page("fleet/overview")
    assert not overview.exception


def test_hits_are_counted_within_the_window(full: Path, open_page: Open):
    now = int(time.time() * 1000) - 120_000
    counted = [
        DeploymentSample(
            key=OTHER,
            observed_at_ms=now + n * 10_000,
            prefix_cache_queries_tokens_total=1e6 + 100 * n,
            prefix_cache_hits_tokens_total=9e5 + 25 * n,
            prompt_tokens_total=1e6 + 100 * n,
            cached_prompt_tokens_total=10.0 * n,
            rejected_requests_total=2.0 * n,
        )
        for n in range(7)
    ]
    labels = {"model": "other", "engine": "vLLM", "url": "http://127.0.0.1:8080"}
    add(full, Entity(observed_at_ms=now, family="deployment", key=OTHER, host=HOST, labels=labels), *counted)
    test = open_other(open_page)
    said(test)
    assert metric(test, "Prefix cache hits") == "25.0 %"
    assert metric(test, "Prompt from cache") == "10.0 %"
    assert metric(test, "Rejected") == "12"
    assert metric(test, "Aborted") == "unknown"


def test_what_runs_where_and_what_is_joined_to_nothing(full: Path, open_page: Open):
    add(full, *other("vLLM", None, generation_tokens_total=0.01, prompt_tokens_total=0.02))
    busy = {"processes": 1, "utilization_ratio": 0.9}
    add(
        full,
        Entity(observed_at_ms=at_ms(), family="accelerator", key="GPU-9", host=HOST, labels={"model": "L40S"}),
        *(AcceleratorSample(key="GPU-9", observed_at_ms=at_ms() + n, **busy) for n in (0, 60_000)),
        DeviceProcess(key="GPU-9", observed_at_ms=at_ms(), pid=77, name="train.py", memory_used_bytes=1 << 30),
    )
    test = open_page("ops/health")
    text = said(test)
    tables = [table.value for table in test.dataframe]
    joined = next(table for table in tables if "known_by" in table)
    assert joined[["deployment", "runs_on", "known_by"]].to_numpy().tolist() == [JOINED]
    assert joined["since_at"].notna().all()
    lost = next(table for table in tables if "output_tokens" in table and "deployment" in table)
    assert lost["deployment"].tolist() == [OTHER]
    assert lost["output_tokens"].iloc[0] > 0
    assert "Name the accelerators of each" in text
    held = next(table for table in tables if "held_by" in table)
    assert held["device"].tolist() == ["GPU-9"]  # the idle AMD card is held by nobody
    assert held["held_by"].tolist() == ["train.py"]


def test_latency_says_what_the_chosen_deployment_runs_on(full: Path, open_page: Open):
    add(full, *other("vLLM", None, generation_tokens_total=0.01, prompt_tokens_total=0.02))
    for test, joined, lost in ((open_page(LATENCY), [JOINED], []), (open_other(open_page), [], [OTHER])):
        tables = [table.value for table in test.dataframe]
        found = [table[["deployment", "runs_on", "known_by"]] for table in tables if "known_by" in table]
        assert [row for table in found for row in table.to_numpy().tolist()] == joined
        unknown = [table["deployment"] for table in tables if "output_tokens" in table and "deployment" in table]
        assert [key for keys in unknown for key in keys] == lost
        assert ("No deployment is joined to hardware" in said(test)) == (not joined)


@pytest.mark.parametrize("page", [LATENCY, "serving/compare", "ops/health"])
def test_no_name_of_a_server_is_read_as_markup(page: str, full: Path, open_page: Open):
    add(full, *attacked(at_ms()), *scraped())
    test = open_page(page)
    assert not test.exception
    for box in [*test.success, *test.info, *test.warning, *test.error, *test.markdown, *test.caption]:
        assert not re.search(r"<img|<script|<h1>|\]\(javascript|!\[p\]|:red\[", box.value), box.value[:300]
        assert len(box.value) < 5_000
    for one in test.metric:
        assert "<" not in one.value
    for chosen in test.selectbox:
        assert all(len(option) <= 200 for option in chosen.options)
    for table in test.dataframe:
        texts = table.value.select_dtypes(["object", "str"])
        assert all(len(text) <= 200 for text in texts.to_numpy().ravel() if isinstance(text, str))
