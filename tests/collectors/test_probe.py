"""The active probe, against a scripted server on loopback, with real timings."""

from __future__ import annotations

import gc
import json
import math
import socket
import threading
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from collectors.sources.probe.completion import Answer
from collectors.sources.probe.reasons import REASON_LIMIT, presentable
from core.errors import CollectorError
from core.readings import Entity, Outcome, ProbeSample, Reading, TargetReport
from tests.collectors.probing import (
    WORST,
    Bench,
    about,
    ask_once,
    bench,
    endpoint,
    gap,
    no_latencies,
    parts,
    priced,
)
from tests.fixtures.openai_server import (
    CUT,
    DONE,
    KEEP_ALIVE,
    OpenAiServer,
    Script,
    Step,
    answer,
    bill,
    delta,
    event,
    finish,
    refusal,
    text,
    usage,
)

KEY = "sk-test-6sPq81LmZx0_secret"


# What is measured


def test_a_plain_answer() -> None:
    script = answer("One", ", two", ", three", seconds_before=0.2, seconds_between=0.1, prompt=12, output=5)
    sample = ask_once(script)
    assert (sample.outcome, sample.error, sample.token_count_estimated) == (Outcome.OK, "", False)
    assert about(sample.ttft_seconds, 0.2)
    assert sample.ttfo_seconds == sample.ttft_seconds
    assert gap(sample.itl_seconds, 0.1)
    assert sample.itl_seconds is not None
    assert sample.tpot_seconds == pytest.approx(sample.itl_seconds * 2 / 4)  # 2 gaps of chunks, 4 of tokens
    assert about(sample.e2e_seconds, 0.4)
    assert (sample.prompt_tokens, sample.output_tokens, sample.reasoning_tokens) == (12, 5, None)
    assert sample.cost_usd is None  # no price, no cost


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_the_first_text_but_not_the_answer(field: str) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 3}}
    thoughts: list[Step] = [0.1, delta(**{field: "hm", "content": None}), 0.1, delta(**{field: "hm"}), 0.1]
    sample = ask_once(
        Script([delta(role="assistant"), *thoughts, delta(content="7"), finish(), usage(9, 4, **details)])
    )
    assert about(sample.ttft_seconds, 0.1)
    assert about(sample.ttfo_seconds, 0.3)
    assert gap(sample.itl_seconds, 0.1)
    assert (sample.output_tokens, sample.reasoning_tokens) == (4, 3)


@pytest.mark.parametrize(
    ("block", "reasoning_tokens"),
    [
        ({"completion_tokens_details": {"reasoning_tokens": 5}}, 5),
        ({"completion_tokens_details": {"reasoning_tokens": 5}, "reasoning_tokens": 2}, 5),
        ({"completion_tokens_details": None, "reasoning_tokens": 5}, 5),  # SGLang
        ({"reasoning_tokens": 0}, None),  # its default, where reasoning was seen
        ({"completion_tokens_details": {"reasoning_tokens": 0}}, None),
        ({}, None),
    ],
)
def test_reasoning_tokens_are_what_usage_says(block: dict[str, object], reasoning_tokens: int | None) -> None:
    steps = [delta(reasoning_content="hm"), delta(content="7"), finish(), usage(9, 8, **block), DONE]
    assert ask_once(Script(steps)).reasoning_tokens == reasoning_tokens


def test_no_reasoning_is_a_measured_zero() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 0}}
    assert ask_once(Script([delta(content="7"), finish(), usage(9, 8, **details), DONE])).reasoning_tokens == 0


def test_reasoning_alone_has_no_time_to_first_output() -> None:
    sample = ask_once(Script([delta(reasoning="hm"), finish("length"), usage(9, 16), DONE]))
    assert sample.outcome is Outcome.OK
    assert sample.ttft_seconds is not None
    assert sample.ttfo_seconds is None


def test_chunks_without_text_are_no_tokens() -> None:
    silent = [delta(role="assistant", content=""), KEEP_ALIVE, delta(content=""), delta(content=None), delta()]
    sample = ask_once(Script([*silent, 0.15, delta(content="a"), 0.1, delta(content=""), delta(content="b"), finish()]))
    assert about(sample.ttft_seconds, 0.15)
    assert gap(sample.itl_seconds, 0.1)


def test_a_chunk_may_hold_several_tokens() -> None:
    steps: list[Step] = [delta(content="One two three "), 0.1, delta(content="four five "), 0.1, delta(content="six")]
    sample = ask_once(Script([*steps, finish(), usage(9, 12), DONE]))
    assert (sample.chunks, sample.output_tokens) == (3, 12)
    assert gap(sample.itl_seconds, 0.1)
    assert sample.itl_seconds is not None
    assert sample.tpot_seconds == pytest.approx(sample.itl_seconds * 2 / 11)


def test_tokens_that_are_empty_text_are_billed_and_not_seen() -> None:
    """Half a character is a token without text: as vLLM sends it, three of eight."""
    texts = ["", "", "a", "b", "c", "", "d", "e"]
    tokens: list[Step] = [step for text in texts for step in (delta(content=text), 0.03)]
    sample = ask_once(Script([delta(role="assistant", content=""), *tokens, finish("length"), usage(22, 8), DONE]))
    assert (sample.chunks, sample.output_tokens) == (5, 8)
    assert about(sample.ttft_seconds, 0.06)
    assert sample.itl_seconds is not None
    assert sample.tpot_seconds == pytest.approx(sample.itl_seconds * 4 / 7)


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 4}, 4), ({"cached_tokens": 0}, 0), ({"cached_tokens": -4}, None), ({}, None), (None, None)],
)
def test_prompt_tokens_from_a_cache(details: object, cached: int | None) -> None:
    sample = ask_once(Script([delta(content="a"), finish(), usage(20, 1, prompt_tokens_details=details), DONE]))
    assert (sample.prompt_tokens, sample.cached_prompt_tokens) == (20, cached)


def test_a_tool_call_is_a_token() -> None:
    sample = ask_once(Script([0.1, delta(tool_calls=[{"index": 0}]), finish("tool_calls"), usage(9, 8), DONE]))
    assert about(sample.ttft_seconds, 0.1)


def test_the_completions_method_is_measured_too() -> None:
    script = Script([text(""), 0.1, text("er"), 0.1, text("go", "length"), usage(2, 4), DONE])
    with OpenAiServer(script) as server, bench(endpoint(server.url + "/completions")) as a_bench:
        (sample,) = a_bench.samples()
        (request,) = server.received
    assert request.path == "/v1/completions"
    assert request.body["prompt"] == "Count from one to ten."
    assert "messages" not in request.body
    assert about(sample.ttft_seconds, 0.1)
    assert about(sample.ttfo_seconds, 0.1)
    assert sample.output_tokens == 4


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    "ending",
    [
        [finish("length", usage=bill(22, 6))],  # transformers: usage in the finish chunk, no [DONE]
        [finish(), usage(22, 6)],
        [finish(), usage(22, 6), DONE],
        [finish(), usage(22, 6), b"data:[DONE]"],
        [finish(), usage(22, 6), DONE + b"data: not for us\n\n"],
    ],
)
def test_how_a_stream_may_end(ending: list[bytes], chunked: bool) -> None:
    steps: list[Step] = [delta(content="a"), 0.05, delta(content="b"), *ending]
    sample = ask_once(Script(steps, chunked=chunked))
    assert (sample.outcome, sample.output_tokens) == (Outcome.OK, 6)
    assert sample.itl_seconds is not None
    assert sample.tpot_seconds == pytest.approx(sample.itl_seconds / 5)  # 1 gap of chunks, 5 of tokens


def test_the_end_is_done_even_if_the_connection_stays_open() -> None:
    sample = ask_once(Script([delta(content="a"), 0.05, delta(content="b"), finish(), usage(9, 2), DONE, 3.0]))
    assert about(sample.e2e_seconds, 0.05)


def test_continuous_usage_takes_the_last_block() -> None:
    first = finish(None, usage=bill(9, 1))
    sample = ask_once(parts(first, delta(content="a"), finish(usage=bill(9, 2)), usage(9, 3), DONE))
    assert sample.output_tokens == 3


def test_without_usage_tokens_are_unknown_not_counted() -> None:
    sample = ask_once(Script([delta(content="a"), 0.05, delta(content="b"), finish(), DONE]))
    assert sample.outcome is Outcome.OK
    assert sample.token_count_estimated
    assert (sample.prompt_tokens, sample.output_tokens, sample.tpot_seconds) == (None, None, None)
    assert gap(sample.itl_seconds, 0.05)


@pytest.mark.parametrize("count", [True, -1, 3.0, "3", None, 1 << 60, [3], 0])
def test_a_nonsensical_token_count_is_no_count(count: object) -> None:
    block = {"prompt_tokens": 9, "completion_tokens": count, "completion_tokens_details": 7}
    sample = ask_once(Script([delta(content="a"), finish(), event({"choices": [], "usage": block}), DONE]))
    assert (sample.outcome, sample.output_tokens, sample.token_count_estimated) == (Outcome.OK, None, True)


def test_one_chunk_has_no_gaps() -> None:
    sample = ask_once(answer("all of it", output=9))
    assert sample.ttft_seconds is not None
    assert (sample.itl_seconds, sample.tpot_seconds) == (None, None)


def test_an_answer_held_back_on_the_way_is_flagged_and_has_no_gaps() -> None:
    whole = b"".join([delta(content="a"), delta(content="b"), delta(content="c"), finish(), usage(9, 3), DONE])
    sample = ask_once(Script([0.2, whole]))
    assert sample.outcome is Outcome.OK
    assert "at once" in sample.error
    assert about(sample.ttft_seconds, 0.2)
    assert (sample.itl_seconds, sample.tpot_seconds) == (None, None)


def test_the_sample_is_stamped_with_the_start() -> None:
    with OpenAiServer(answer("a", seconds_before=0.1)) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.pass_interval()
        began_ns = a_bench.now_ns
        assert not [r for r in a_bench.source.collect() if isinstance(r, ProbeSample)]
        a_bench.now_ns += 3 * 10**9
        readings = a_bench.collect_until(1)
    (sample,) = [r for r in readings if isinstance(r, ProbeSample)]
    (report,) = [r for r in readings if isinstance(r, TargetReport)]
    assert sample.observed_at_ms == began_ns // 10**6
    assert (report.target, report.outcome, report.error) == ("chat", Outcome.OK, "")
    assert sample.e2e_seconds is not None
    assert report.duration_seconds >= sample.e2e_seconds


def test_the_clock_starts_when_the_connection_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def slowly(host: str | bytes | None, *arguments: Any, **more: Any) -> Any:
        time.sleep(0.4)
        return resolve("127.0.0.1", *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url.replace("127.0.0.1", "localhost"))) as a_bench:
        a_bench.pass_interval()
        sample, report = [r for r in a_bench.collect_until(1) if not isinstance(r, Entity)]
    assert isinstance(sample, ProbeSample)
    assert isinstance(report, TargetReport)
    assert about(sample.ttft_seconds, 0.0)
    assert about(sample.e2e_seconds, 0.0)
    assert about(sample.connect_seconds, 0.4)
    assert about(report.duration_seconds, 0.4)


@given(gaps=st.lists(st.floats(0.002, 5.0), min_size=1, max_size=20), first=st.floats(0, 9), tokens=st.integers(2, 99))
@settings(deadline=None)
def test_latencies_are_the_arithmetic_of_the_arrivals(gaps: list[float], first: float, tokens: int) -> None:
    heard = Answer(sent_at=100.0)
    at = 100.0 + first
    for pause in [0.0, *gaps]:
        at += pause
        heard.see('{"choices":[{"delta":{"content":"x"}}]}', at)
    heard.see('{"choices":[{"delta":{},"finish_reason":"stop"}]}', at + 1)
    heard.see(f'{{"choices":[],"usage":{{"completion_tokens":{tokens}}}}}', at + 1)
    heard.end(at + 2)
    found = {name: value for name, value in heard.latencies().items() if value is not None}
    expected = {"ttft": first, "ttfo": first, "itl": sum(gaps) / len(gaps), "tpot": sum(gaps) / (tokens - 1)}
    expected["e2e"] = first + sum(gaps) + 2
    assert found == {f"{name}_seconds": pytest.approx(value, abs=1e-9) for name, value in expected.items()}


# What is sent


def test_the_request() -> None:
    wanted = {"prompt": "Say hi.", "max_tokens": 3}
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url, **wanted)) as a_bench:
        a_bench.samples()
        (request,) = server.received
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Say hi."}],
        "max_tokens": 3,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/completions", "/v1/completions"),
    ],
)
def test_where_it_is_sent(path: str, asked: str) -> None:
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url.removesuffix("/v1") + path)) as a_bench:
        a_bench.samples()
        assert [request.path for request in server.received] == [asked]


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert ask_once(answer("a")).outcome is Outcome.OK


def test_a_redirect_is_not_followed() -> None:
    with OpenAiServer(answer("a")) as other:
        sample = ask_once(refusal(307, {}, Location=other.url + "/chat/completions"))
        assert (sample.outcome, sample.error) == (Outcome.FAILED, "HTTP 307")
        assert other.received == []


def test_a_newer_model_gets_the_parameters_it_asks_for() -> None:
    unsupported = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    scripts = [
        refusal(400, {"error": {"message": unsupported}}),
        refusal(400, {"error": {"message": "'temperature' does not support 0 with this model."}}),
        answer("a"),
    ]
    with OpenAiServer(*scripts) as server, bench(endpoint(server.url, max_tokens=7)) as a_bench:
        outcomes = [a_bench.samples()[0].outcome for _ in scripts]
        first, second, third = (request.body for request in server.received)
    assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.OK]  # the refusals are failures, nothing is hidden
    assert (first["max_tokens"], first["temperature"], first.get("max_completion_tokens")) == (7, 0, None)
    assert (second["max_completion_tokens"], second["temperature"], second.get("max_tokens")) == (7, 0, None)
    assert (third["max_completion_tokens"], third.get("temperature")) == (7, None)


UNWANTED = "Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (400, {"error": {"message": f"{UNWANTED}, field: 'stream_options'"}}),
        (400, {"error": {"message": "Unknown parameter", "param": "stream_options"}}),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": UNWANTED}]}),
        (422, {"object": "error", "message": {"detail": [{"loc": ["body", "stream_options", "include_usage"]}]}}),
    ],
)
def test_an_endpoint_that_refuses_stream_options_is_asked_without(status: int, document: object) -> None:
    scripts = [refusal(status, document), parts(delta(content="a"), finish(), DONE), answer("a", prompt=9, output=4)]
    with OpenAiServer(*scripts) as server, bench(endpoint(server.url)) as a_bench:
        refused, uncounted, counted = [a_bench.samples()[0] for _ in scripts]
        assert ["stream_options" in request.body for request in server.received] == [True, False, False]
    assert refused.outcome is Outcome.FAILED
    assert refused.error.startswith(f"HTTP {status}")
    assert (uncounted.outcome, uncounted.token_count_estimated, uncounted.output_tokens) == (Outcome.OK, True, None)
    assert (counted.token_count_estimated, counted.output_tokens) == (False, 4)  # some count without being asked


def test_a_refusal_that_repeats_the_request_wants_nothing_changed() -> None:
    body = {"stream_options": {"include_usage": True}, "temperature": 0, "text": "max_completion_tokens"}
    complaint = {"detail": [{"type": "missing", "loc": ["body", "user"], "msg": "Field required", "input": body}]}
    with OpenAiServer(refusal(422, complaint), answer("a")) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.samples()
        a_bench.samples()
        first, second = (request.body for request in server.received)
    assert first == second


def test_a_refusal_as_deep_as_can_be_is_read() -> None:
    deep: object = "stream_options"
    for _ in range(900):
        deep = [deep]
    with OpenAiServer(refusal(400, {"error": deep}), answer("a")) as server, bench(endpoint(server.url)) as a_bench:
        assert a_bench.samples()[0].error == "HTTP 400"
        a_bench.samples()
        assert "stream_options" not in server.received[1].body


def test_nothing_is_tried_again_before_its_time() -> None:
    scripts = [refusal(400, {"error": {"message": "temperature is not supported"}}), answer("a")]
    with OpenAiServer(*scripts) as server, bench(endpoint(server.url)) as a_bench:
        assert a_bench.samples()[0].outcome is Outcome.FAILED
        for _ in range(20):
            a_bench.source.collect()
        a_bench.source.wait()
        assert len(server.received) == 1


def test_the_limit_is_kept_when_a_refusal_is_about_something_else() -> None:
    scripts = [refusal(400, {"error": {"message": "max_tokens is too large: 16"}}), answer("a")]
    with OpenAiServer(*scripts) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.samples()
        a_bench.samples()
        assert [request.body.get("max_tokens") for request in server.received] == [16, 16]


# Failures


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (refusal(500, {"error": {"message": "out of memory"}}), "HTTP 500: out of memory"),
        (refusal(429, {"error": "slow down"}), "HTTP 429: slow down"),
        (refusal(404, {"detail": "Not Found"}), "HTTP 404: Not Found"),
        (refusal(503, {"object": "error", "message": "loading"}), "HTTP 503: loading"),
        (refusal(403, {"error": {"message": None, "code": "forbidden"}}), "HTTP 403: forbidden"),
        (Script([b"<html>gateway</html>"], 502, {"Content-Type": "text/html"}), "HTTP 502"),
        (Script([b"[1]"], 500), "HTTP 500"),
        (Script([b'{"error": "' + b"x" * 20_000 + b'"}'], 500), "HTTP 500"),
        (Script([b'{"error": "half a', CUT], 500), "HTTP 500"),
        (parts(), "empty stream"),
        (parts(KEEP_ALIVE, KEEP_ALIVE), "empty stream"),
        (parts(delta(role="assistant", content="")), "empty stream"),
        (parts(DONE), "no text in the answer"),
        (parts(delta(role="assistant"), finish(), usage(9, 0), DONE), "no text in the answer"),
        (parts(delta(content="a"), usage(9, 1)), "the stream was cut: neither finish_reason nor [DONE] came"),
        (parts(delta(content="a"), b'data: {"choices": [{"del'), "an event of the stream is not a JSON object"),
        (parts(delta(content="a"), b"data: ping\n\n"), "an event of the stream is not a JSON object"),
        (parts(b"data: " + b"[" * 200_000 + b"\n\n"), "an event of the stream is not a JSON object"),
        (parts(delta(content="a"), event({"error": {"message": "CUDA error"}})), "error event: CUDA error"),
        (parts(event({"error": "overloaded", "error_type": "overloaded"})), "error event: overloaded"),
        (parts(event({"object": "error", "message": "too long"})), "error event: too long"),
        (parts(delta(content="a"), finish("error"), usage(9, 1), DONE), "finish_reason is error"),
        (parts(delta(content="a"), finish("abort"), usage(9, 1), DONE), "finish_reason is abort"),
        (
            Script([b'{"choices": []}'], headers={"Content-Type": "application/json; charset=utf-8"}),
            "expected an event stream, got application/json",
        ),
        (
            Script([b"\x1f\x8b"], headers={"Content-Encoding": "gzip"}),
            "the answer is compressed (gzip), though identity was asked for",
        ),
        (parts(b"data: " + b"x" * (5 << 20) + b"\n\n"), "the answer exceeds 4 MiB"),
    ],
)
def test_a_failure_has_a_reason_and_no_latencies(script: Script, reason: str) -> None:
    sample = ask_once(script)
    assert (sample.outcome, sample.error) == (Outcome.FAILED, reason)
    assert no_latencies(sample)


def test_a_stream_cut_by_the_network() -> None:
    sample = ask_once(parts(delta(content="a"), 0.02, delta(content="b"), CUT))
    assert sample.outcome is Outcome.FAILED
    assert sample.error.startswith("RemoteProtocolError")
    assert no_latencies(sample)


def test_nobody_listens() -> None:
    with OpenAiServer(answer("a")) as server:
        url = server.url
    with bench(priced(url)) as a_bench:
        (sample,) = a_bench.samples()
        assert sample.outcome is Outcome.FAILED
        assert sample.error.startswith("ConnectError")
        assert sample.cost_usd == 0.0  # nothing was sent, so nothing can be billed
        assert not sample.token_count_estimated
        assert a_bench.ledger.spent == {("chat", "2026-11"): 0.0}


def test_no_tls_where_it_is_expected() -> None:
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url.replace("http:", "https:"))) as a_bench:
        (sample,) = a_bench.samples()
    assert sample.outcome is Outcome.FAILED
    assert sample.error.startswith("ConnectError")


@pytest.mark.parametrize(
    ("script", "progress"),
    [
        (Script([DONE], seconds_before_headers=5), "no response"),
        (Script([delta(content="a"), finish(), DONE], seconds_between_header_bytes=0.05), "no response"),
        (Script([KEEP_ALIVE, 0.02], forever=True), "chunks with text so far: 0"),
        (Script([delta(content="a"), 0.02, delta(content="b"), 9.0]), "chunks with text so far: 2"),
        (Script([delta(content="a"), finish(), KEEP_ALIVE, 9.0]), "chunks with text so far: 1"),
    ],
)
def test_the_deadline_is_over_all_whatever_trickles(script: Script, progress: str) -> None:
    began = time.monotonic()
    sample = ask_once(script, timeout_seconds=0.4)
    assert time.monotonic() - began < 3.0  # scripts take 5 s at least
    assert (sample.outcome, sample.error) == (Outcome.FAILED, f"not complete within 0.4 s ({progress})")
    assert no_latencies(sample)


def test_a_slow_error_body_does_not_hide_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.sources.probe.completion._ERROR_BODY_SECONDS", 0.2)
    script = Script([b" ", 0.05], 500, {"Content-Type": "application/json"}, forever=True)
    assert ask_once(script, timeout_seconds=10).error == "HTTP 500"


# Keys


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_KEY", f" {KEY}\n")
    echo = f"Incorrect API key provided: {KEY}. You sent 'Bearer {KEY}' for {KEY[:14]}***"
    scripts = [
        refusal(401, {"error": {"message": echo}}),
        parts(event({"error": {"message": "\u200b".join(echo) + echo}})),
        refusal(500, {"error": f"{'long ' * 36}{KEY}"}),
        refusal(500, {"error": f"{KEY.upper()} {KEY[3:].replace('_', '/')}"}),
    ]
    with (
        OpenAiServer(*scripts) as server,
        bench(endpoint(server.url, api_key_env="PROBE_KEY")) as a_bench,
    ):
        readings: list[Reading] = []
        for _ in scripts:
            a_bench.pass_interval()
            readings += a_bench.collect_until(1)
        assert [r.headers["authorization"] for r in server.received] == [f"Bearer {KEY}"] * len(scripts)
    errors = [r.error for r in readings if isinstance(r, ProbeSample | TargetReport)]
    assert len(errors) == 2 * len(scripts)
    assert errors[0].startswith("HTTP 401: Incorrect API key provided: ")
    for error in errors:
        assert len(error) <= REASON_LIMIT
        assert not any(KEY[i : i + 8].lower() in error.lower() for i in range(len(KEY) - 7))
    assert KEY not in repr(readings)


def test_the_key_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROBE_KEY", raising=False)
    with (
        OpenAiServer(answer("a")) as server,
        bench(priced(server.url, api_key_env="PROBE_KEY")) as a_bench,
    ):
        found = a_bench.source.discover()
        assert (found.ok, found.reason) == (True, "chat: environment variable PROBE_KEY is not set")
        (sample,) = a_bench.samples()
        assert (sample.outcome, sample.error) == (Outcome.FAILED, "environment variable PROBE_KEY is not set")
        assert server.received == []
        assert a_bench.ledger.calls == []
        monkeypatch.setenv("PROBE_KEY", KEY)
        assert a_bench.samples()[0].outcome is Outcome.OK


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ñ"])
def test_a_key_that_no_header_can_hold(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_KEY", key)
    sample = ask_once(answer("a"), api_key_env="PROBE_KEY")
    assert sample.error == "environment variable PROBE_KEY holds no usable key (spaces or control characters)"


@pytest.mark.parametrize("host", ["192.0.2.1", "models.invalid", "localhost.models.invalid", "[2001:db8::1]"])
def test_a_key_does_not_cross_the_network_in_clear(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_KEY", KEY)
    with bench(endpoint(f"http://{host}/v1", api_key_env="PROBE_KEY")) as a_bench:
        (sample,) = a_bench.samples()
    assert sample.outcome is Outcome.FAILED
    assert sample.error == "PROBE_KEY would cross the network unencrypted; expected an https url"


@given(
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    before=st.text(max_size=300),
    after=st.text(max_size=40),
)
@settings(deadline=None)
@example(key="a" * 8, before="İ" * 30, after="ß")
def test_what_is_shown_is_one_short_line_without_the_key(key: str, before: str, after: str) -> None:
    shown = presentable(f"{before}{key}{after}", key)
    assert len(shown) <= REASON_LIMIT
    assert shown.isprintable()
    assert key.lower() not in shown.lower() or set(key) <= set("*…")


def test_other_credentials_are_hidden_too() -> None:
    shown = presentable("upstream said: Authorization: Bearer abc.def.ghi and sk-live-1234, model gpt-x", "")
    assert shown == "upstream said: Authorization: Bearer [hidden] and sk-[hidden] model gpt-x"


# Money: 100 USD per million prompt tokens, 1000 per million output tokens


def spent(a_bench: Bench) -> float:
    return a_bench.ledger.spent["chat", "2026-11"]


def test_what_was_billed_is_counted() -> None:
    with OpenAiServer(answer("a", "b", prompt=40, output=6)) as server, bench(priced(server.url)) as a_bench:
        (sample,) = a_bench.samples()
        assert sample.cost_usd == pytest.approx((40 * 100 + 6 * 1000) / 1e6)
        assert spent(a_bench) == pytest.approx(sample.cost_usd)
        assert a_bench.ledger.calls == [("reserve", pytest.approx(WORST)), ("settle", sample.cost_usd)]


@pytest.mark.parametrize(
    "script",
    [
        parts(delta(content="a"), finish(), DONE),
        parts(delta(content="a"), usage(9, 1)),
        parts(delta(content="a"), finish(None, usage=bill(9, 1)), CUT),
        parts(event({"error": "late"})),
        refusal(500, {}),
        Script([delta(content="a"), usage(9, 1), 9.0]),
    ],
)
def test_an_unknown_bill_is_counted_at_its_worst(script: Script) -> None:
    with OpenAiServer(script) as server, bench(priced(server.url, timeout_seconds=0.3)) as a_bench:
        (sample,) = a_bench.samples()
        assert sample.cost_usd == pytest.approx(WORST)
        assert sample.token_count_estimated
        assert spent(a_bench) == pytest.approx(WORST)


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 413, 422, 429])
def test_a_refused_request_costs_nothing(status: int) -> None:
    with OpenAiServer(refusal(status, {"error": {"message": "no"}})) as server, bench(priced(server.url)) as a_bench:
        (sample,) = a_bench.samples()
        assert (sample.outcome, sample.cost_usd, sample.token_count_estimated) == (Outcome.FAILED, 0.0, False)
        assert a_bench.ledger.calls == [("reserve", pytest.approx(WORST)), ("settle", 0.0)]
        assert spent(a_bench) == 0.0


@pytest.mark.parametrize(
    ("status", "document"),
    [(408, {}), (429, {"error": "late", "usage": bill(9, 16)}), (500, {}), (502, {}), (503, {}), (504, {}), (202, {})],
)
def test_what_may_have_been_computed_is_counted_at_its_worst(status: int, document: object) -> None:
    with OpenAiServer(refusal(status, document)) as server, bench(priced(server.url)) as a_bench:
        (sample,) = a_bench.samples()
        assert sample.cost_usd == pytest.approx(WORST)
        assert spent(a_bench) == pytest.approx(WORST)


def test_a_wrong_key_does_not_use_up_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_KEY", KEY)
    scripts = [*[refusal(401, {"error": {"message": "wrong key"}})] * 9, answer("a")]
    with (
        OpenAiServer(*scripts) as server,
        bench(priced(server.url, api_key_env="PROBE_KEY", monthly_cap_usd=1.5 * WORST)) as a_bench,
    ):
        outcomes = [a_bench.samples()[0].outcome for _ in scripts]
    assert outcomes == [Outcome.FAILED] * 9 + [Outcome.OK]


def test_cached_prompt_tokens_cost_as_much_as_others() -> None:
    script = Script([delta(content="a"), finish(), usage(40, 6, prompt_tokens_details={"cached_tokens": 32}), DONE])
    assert ask_once(script, priced).cost_usd == pytest.approx((40 * 100 + 6 * 1000) / 1e6)


def test_the_reservation_stands_while_the_request_is_out() -> None:
    with OpenAiServer(answer("a", seconds_before=5.0)) as server, bench(priced(server.url)) as a_bench:
        a_bench.pass_interval()
        a_bench.source.collect()
        assert spent(a_bench) == pytest.approx(WORST)
        a_bench.source.close()
        assert spent(a_bench) == pytest.approx(WORST)  # as after a crash


def test_an_endpoint_that_ignores_max_tokens_is_counted_in_full_and_then_refused() -> None:
    script = answer("a", "b", seconds_between=0.01, prompt=20, output=30_000)
    with OpenAiServer(script) as server, bench(priced(server.url)) as a_bench:
        (first,) = a_bench.samples()
        assert first.cost_usd == pytest.approx(30.002)
        assert first.error == "30 USD billed where max_tokens allows 0.12 USD"
        assert spent(a_bench) == pytest.approx(30.002)
        (second,) = a_bench.samples()
        assert second.outcome is Outcome.REFUSED
        assert len(server.received) == 1


def test_more_chunks_than_max_tokens_raise_the_worst_case() -> None:
    steps = [delta(content="a")] * 50
    sample = ask_once(Script([*steps, finish(), DONE]), priced)
    assert sample.cost_usd == pytest.approx(WORST + (50 - 16) * 1000 / 1e6)


def test_the_cap_refuses_before_anything_is_sent() -> None:
    with OpenAiServer(answer("a")) as server, bench(priced(server.url, monthly_cap_usd=WORST * 0.99)) as a_bench:
        a_bench.pass_interval()
        sample, report = [r for r in a_bench.collect_until(1) if not isinstance(r, Entity)]
        assert isinstance(sample, ProbeSample)
        assert isinstance(report, TargetReport)
        assert sample.outcome is report.outcome is Outcome.REFUSED
        assert sample.error == "not sent: 0.12 USD more could pass the cap of 0.119394 USD for 2026-11"
        assert (sample.cost_usd, sample.token_count_estimated) == (None, False)
        assert no_latencies(sample)
        assert server.received == []
        assert a_bench.ledger.spent == {}


def test_the_cap_starts_anew_with_the_month_in_utc() -> None:
    script = answer("a", prompt=1000, output=16)
    with OpenAiServer(script) as server, bench(priced(server.url, monthly_cap_usd=WORST)) as a_bench:
        a_bench.now_ns = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 10**9 - 600 * 10**9
        samples = [a_bench.samples()[0] for _ in range(4)]
        assert set(a_bench.ledger.spent) == {("chat", "2026-11"), ("chat", "2026-12")}
    months = [datetime.fromtimestamp(sample.observed_at_ms / 1e3, UTC).month for sample in samples]
    ends = [sample.outcome for sample in samples]
    assert months[0] == 11
    assert months[-1] == 12
    assert ends[0] is Outcome.OK
    expected = [Outcome.OK if i == 0 or month != months[i - 1] else Outcome.REFUSED for i, month in enumerate(months)]
    assert ends == expected


def test_a_request_is_billed_to_the_month_it_began_in() -> None:
    with OpenAiServer(answer("a", seconds_before=0.1)) as server, bench(priced(server.url)) as a_bench:
        a_bench.now_ns = int(datetime(2026, 11, 30, 23, 50, tzinfo=UTC).timestamp()) * 10**9
        a_bench.pass_interval()
        a_bench.source.collect()
        a_bench.now_ns += 290 * 10**9
        a_bench.collect_until(1)
        a_bench.now_ns += 300 * 10**9
    assert set(a_bench.ledger.spent) == {("chat", "2026-11")}


def test_the_invoice_never_passes_the_cap() -> None:
    """Whatever an endpoint does or says: what its operator charges, within max_tokens, stays below the cap."""
    cap = 2.0
    scripts = [
        answer("a", "b", prompt=30, output=16),
        parts(delta(content="a"), finish(), DONE),
        parts(delta(content="a"), CUT),
        parts(event({"error": "late"})),
        refusal(500, {}),
        parts(delta(content="a"), usage(1, 1), CUT),
        parts(delta(content="a"), finish(), usage(30, 0), DONE),
    ]
    scripts = [replace(script, billed_prompt_tokens=30, billed_output_tokens=16) for script in scripts]
    with OpenAiServer(*(scripts * 8)) as server, bench(priced(server.url, monthly_cap_usd=cap)) as a_bench:
        samples = [a_bench.samples()[0] for _ in range(50)]
        outcomes = [sample.outcome for sample in samples]
        invoice = server.billed_usd(100.0, 1000.0)
        assert Outcome.REFUSED in outcomes
        assert len(server.received) == 50 - outcomes.count(Outcome.REFUSED)
        assert 0.1 * cap < invoice <= spent(a_bench) <= cap
        assert sum(sample.cost_usd or 0.0 for sample in samples) == pytest.approx(spent(a_bench))


def test_a_free_endpoint_needs_no_ledger() -> None:
    free = {"usd_per_million_input_tokens": 0.0, "usd_per_million_output_tokens": 0.0}
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url, **free)) as a_bench:
        assert a_bench.samples()[0].cost_usd == 0.0
        assert a_bench.ledger.calls == []


def test_nothing_is_sent_while_spend_cannot_be_counted() -> None:
    with OpenAiServer(answer("a")) as server, bench(priced(server.url)) as a_bench:
        a_bench.ledger.broken = "reserve"
        (sample,) = a_bench.samples()
        assert (sample.outcome, sample.error) == (Outcome.REFUSED, "spend cannot be counted: database is locked")
        assert server.received == []


def test_what_cannot_be_settled_stays_at_the_worst_case() -> None:
    with OpenAiServer(answer("a")) as server, bench(priced(server.url)) as a_bench:
        a_bench.ledger.broken = "settle"
        (sample,) = a_bench.samples()
        assert (sample.outcome, sample.error) == (Outcome.OK, "counted at its worst case: database is locked")
        assert sample.cost_usd == spent(a_bench) == pytest.approx(WORST)


# Schedule and life cycle


def test_without_settings_there_is_no_probe() -> None:
    with bench() as a_bench:
        found = a_bench.source.discover()
        assert (found.ok, found.reason) == (False, "no [[probe]] in the settings")
        assert a_bench.source.collect() == []
        a_bench.source.close()
        a_bench.source.close()


def test_entities_come_first_and_once_per_discovery() -> None:
    nobody = "http://127.0.0.1:1/v1"
    with bench(priced(nobody), endpoint(nobody, name="free")) as a_bench:
        found = a_bench.source.discover()
        assert (found.ok, found.reason, found.entities) == (True, "", ("chat", "free"))
        entities = a_bench.source.collect()
        assert [(e.family, e.key, e.host) for e in entities if isinstance(e, Entity)] == [
            ("probe", "chat", "host-a"),
            ("probe", "free", "host-a"),
        ]
        common = {"url": nobody, "model": "tiny", "provider": "OpenAI-compatible"}
        assert [dict(e.labels) for e in entities if isinstance(e, Entity)] == [
            {**common, "price": "100 USD in, 1000 USD out per million tokens"},
            {**common, "price": "not set"},
        ]
        assert not any(isinstance(r, Entity) for r in a_bench.collect_until(2))
        a_bench.source.discover()
        assert a_bench.source.collect() == entities


def test_settings_admit_no_credentials_in_the_url() -> None:
    with pytest.raises(ValidationError):
        endpoint("http://user:secret@127.0.0.1/v1")


def test_endpoints_do_not_wait_for_each_other() -> None:
    with OpenAiServer(answer("a", seconds_before=1.0)) as slow, OpenAiServer(answer("a")) as fast:
        endpoints = [endpoint(slow.url, name=f"slow {i}") for i in range(8)] + [endpoint(fast.url, name="fast")]
        with bench(*endpoints) as a_bench:
            (first,) = a_bench.samples(1)
            assert (first.key, first.outcome) == ("fast", Outcome.OK)
            others = a_bench.collect_until(8)
        assert all(r.outcome is Outcome.OK for r in others if isinstance(r, ProbeSample))
        assert slow.most_in_flight == 8


def test_an_endpoint_never_has_two_requests_at_once() -> None:
    with (
        OpenAiServer(answer("a", seconds_before=0.3)) as server,
        bench(endpoint(server.url, interval_seconds=1, timeout_seconds=1)) as a_bench,
    ):
        seen: list[ProbeSample] = []
        for _ in range(60):  # far ahead of the answers
            a_bench.pass_interval()
            seen += [r for r in a_bench.source.collect() if isinstance(r, ProbeSample)]
            time.sleep(0.01)
        assert server.most_in_flight == 1
        assert 1 <= len(seen) <= 3


def test_collect_returns_at_once() -> None:
    with OpenAiServer(answer("a", seconds_before=2.0)) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.source.collect()
        a_bench.pass_interval()
        began = time.monotonic()
        a_bench.source.collect()
        a_bench.source.collect()
        assert time.monotonic() - began < 1.0


def test_close_cuts_what_runs_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with OpenAiServer(Script([KEEP_ALIVE, 0.02], forever=True)) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.pass_interval()
        a_bench.source.collect()
        deadline = time.monotonic() + 5
        while not server.received and time.monotonic() < deadline:
            time.sleep(0.005)
        began = time.monotonic()
        a_bench.source.close()
        a_bench.source.close()
        assert time.monotonic() - began < 1.0
        assert not any(t.name == "vatio-probe" for t in threading.enumerate())
        while server.in_flight and time.monotonic() < deadline:  # the server sees the connection go
            time.sleep(0.005)
        assert server.in_flight == 0
    assert set(threading.enumerate()) <= before


def test_close_right_after_the_start_is_silent() -> None:
    with OpenAiServer(Script([KEEP_ALIVE, 0.02], forever=True)) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for pause in [0.0, 0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02]:
            with bench(endpoint(server.url)) as a_bench:
                a_bench.pass_interval()
                a_bench.source.collect()
                time.sleep(pause)
        gc.collect()
    assert [str(warning.message) for warning in said] == []


def test_it_can_be_used_again_after_close() -> None:
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.samples()
        a_bench.source.close()
        assert a_bench.source.discover().ok
        assert a_bench.samples()[0].outcome is Outcome.OK


def test_whoever_waits_finds_every_request_ended() -> None:
    with (
        OpenAiServer(answer("a", seconds_before=0.2)) as slow,
        OpenAiServer(Script([KEEP_ALIVE, 0.02], forever=True)) as hanging,
        bench(endpoint(slow.url), endpoint(hanging.url, name="hanging", timeout_seconds=0.3)) as a_bench,
    ):
        a_bench.source.wait()  # for nothing
        a_bench.source.collect()
        a_bench.source.wait()
        samples = [r for r in a_bench.source.collect() if isinstance(r, ProbeSample)]
    assert [(s.key, s.outcome) for s in samples] == [("chat", Outcome.OK), ("hanging", Outcome.FAILED)]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = ["choices", "delta", "content", "text", "reasoning", "finish_reason", "usage", "completion_tokens", "error"]
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=4),
    max_leaves=20,
)


@given(events=st.lists(documents, max_size=8))
@settings(max_examples=80, deadline=None)
def test_no_json_brings_it_down(events: list[object]) -> None:
    heard = Answer(sent_at=1.0)
    try:
        for number, document in enumerate(events):
            heard.see(json.dumps(document), 2.0 + number)
        heard.end(99.0)
    except CollectorError as exc:
        heard.failure = str(exc)
    found = [value for value in heard.latencies().values() if value is not None]
    assert all(math.isfinite(value) and value >= 0 for value in found)
    assert heard.output_tokens is None or heard.output_tokens >= 0
