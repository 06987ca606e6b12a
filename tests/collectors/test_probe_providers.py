"""The table of providers: whose answer it is, what that changes in a request, and its own clock."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.sources.probe.completion import Answer
from collectors.sources.probe.providers import LONGEST_SECONDS, OTHER, PROVIDERS, by_host, by_mark
from collectors.sources.probe.question import question
from core.readings import Entity, Outcome, ProbeSample
from tests.collectors.probing import Bench, ask_once, bench, endpoint
from tests.fixtures.openai_server import DONE, OpenAiServer, Script, answer, delta, event, finish, refusal

STREAM = {"Content-Type": "text/event-stream"}
TIMES = ("server_queue_seconds", "server_prefill_seconds", "server_decode_seconds", "server_e2e_seconds")
END = {"object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}


def stream(*, head: dict[str, str] | None = None, **last: object) -> Script:
    """A good answer with something in its head or in its last event."""
    return Script([delta(content="a"), finish(), event({**END, **last}), DONE], headers={**STREAM, **(head or {})})


def choice(**fields: object) -> Script:
    """A good answer whose chunk has something more in its choice."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", **fields}]}
    return Script([event(chunk), event(END), DONE])


CEREBRAS = {
    "time_info": {
        "queue_time": 0.002,
        "prompt_time": 0.0125,
        "completion_time": 0.25,
        "total_time": 0.5,
        "created": 1_790_000_000.25,
    }
}
LLAMA = {"timings": {"cache_n": 4, "prompt_n": 16, "prompt_ms": 2.5, "predicted_n": 8, "predicted_ms": 40.0}}


def times(sample: ProbeSample) -> dict[str, float]:
    return {name: value for name in TIMES if (value := getattr(sample, name)) is not None}


def labels(a_bench: Bench) -> dict[str, str]:
    """What the newest description of the only endpoint says."""
    a_bench.pass_interval()
    *_, entity = [r for r in a_bench.collect_until(1) if isinstance(r, Entity)]
    return dict(entity.labels)


@pytest.fixture
def everybody_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads to loopback, so that a real server can be asked as if it were a hosted one."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more))


def hosted(server: OpenAiServer, host: str) -> str:
    return f"http://{host}:{server.port}/v1"


# Whose it is


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "OpenAI"),
        ("eu.api.openai.com", "OpenAI"),
        ("api.cerebras.ai", "Cerebras"),
        ("api.mistral.ai", "Mistral"),
        ("api.openai.com.example.org", "OpenAI-compatible"),
        ("notapi.openai.com", "OpenAI-compatible"),
        ("openai.com", "OpenAI-compatible"),
        ("127.0.0.1", "OpenAI-compatible"),
        ("", "OpenAI-compatible"),
    ],
)
def test_hosted_endpoints_are_known_by_their_host(host: str, name: str) -> None:
    assert by_host(host).name == name


MARKED = [
    (stream(**CEREBRAS), "Cerebras"),
    (stream(head={"x-litellm-version": "1.109.1"}), "LiteLLM"),
    (stream(head={"Server": "llama.cpp"}), "llama.cpp"),
    (stream(**LLAMA), "llama.cpp"),  # behind a proxy that puts its own name into the head
    (stream(system_fingerprint="vllm-0.32.0-0a1b2c3d"), "vLLM"),
    (choice(matched_stop=None), "SGLang"),
    (stream(head={"x-compute-type": "gpu+optimized", "x-compute-characters": "22"}), "TGI"),
    (choice(delta={"content": "a", "gen_tokens": None}), "LMDeploy"),
    (stream(system_fingerprint="fp_ollama"), "Ollama"),
    (stream(system_fingerprint="fp_44709d6fcb"), "OpenAI-compatible"),
    (stream(head={"Server": "uvicorn", "openai-processing-ms": "3"}), "OpenAI-compatible"),
    (choice(stop_reason=None), "OpenAI-compatible"),
]


@pytest.mark.parametrize(("script", "name"), MARKED)
def test_servers_of_ones_own_are_known_by_a_mark(script: Script, name: str) -> None:
    with OpenAiServer(script) as server, bench(endpoint(server.url)) as a_bench:
        readings = a_bench.collect_until(1)
        described = [r.labels["provider"] for r in readings if isinstance(r, Entity)]
        assert described == ["OpenAI-compatible", *([name] if name != "OpenAI-compatible" else [])]
        *_, last_entity = [i for i, r in enumerate(readings) if isinstance(r, Entity)]
        assert last_entity < min(i for i, r in enumerate(readings) if isinstance(r, ProbeSample))
        a_bench.pass_interval()
        assert not any(isinstance(r, Entity) for r in a_bench.collect_until(1))  # nothing new about it


def test_every_row_that_has_a_mark_is_told_by_it() -> None:
    assert {name for _, name in MARKED} == {p.name for p in (*PROVIDERS, OTHER) if p.marks or not p.hosts}


def test_a_host_says_more_than_a_mark(everybody_is_here: None) -> None:
    script = stream(system_fingerprint="vllm-0.32.0-0a1b2c3d", **LLAMA)
    with OpenAiServer(script) as server, bench(endpoint(hosted(server, "api.cerebras.ai"))) as a_bench:
        assert labels(a_bench)["provider"] == "Cerebras"
        assert times(a_bench.samples()[0]) == {}


def test_a_failure_takes_nothing_back() -> None:
    scripts = [stream(head={"Server": "llama.cpp"}), refusal(503, {"error": "loading"}), stream()]
    with OpenAiServer(*scripts) as server, bench(endpoint(server.url)) as a_bench:
        assert labels(a_bench)["provider"] == "llama.cpp"
        for _ in scripts[1:]:
            a_bench.samples()
        a_bench.source.discover()
        assert labels(a_bench)["provider"] == "llama.cpp"


def test_what_to_know_of_a_provider_is_told_with_it() -> None:
    with OpenAiServer(stream(system_fingerprint="fp_ollama")) as server, bench(endpoint(server.url)) as a_bench:
        assert "loads the model" in labels(a_bench)["note"]
    with OpenAiServer(stream()) as server, bench(endpoint(server.url)) as a_bench:
        assert "note" not in labels(a_bench)


# What that changes in a request


@pytest.mark.parametrize(
    ("host", "path", "limit", "asks_for_usage"),
    [
        ("api.openai.com", "/v1", "max_completion_tokens", True),
        ("api.openai.com", "/v1/completions", "max_tokens", True),
        ("api.cerebras.ai", "/v1", "max_completion_tokens", True),
        ("api.mistral.ai", "/v1", "max_tokens", False),
        ("127.0.0.1:8000", "/v1", "max_tokens", True),
    ],
)
def test_each_is_asked_in_its_own_way(host: str, path: str, limit: str, asks_for_usage: bool) -> None:
    asked = question(endpoint(f"https://{host}{path}", max_tokens=7), by_host(host))
    assert {name: asked.body[name] for name in asked.body if name.startswith("max_")} == {limit: 7}
    assert ("stream_options" in asked.body) is asks_for_usage


def test_the_host_counts_from_the_first_request_and_a_mark_from_the_second(everybody_is_here: None) -> None:
    with OpenAiServer(stream(**CEREBRAS)) as server, bench(endpoint(hosted(server, "api.cerebras.ai"))) as a_bench:
        a_bench.samples()
        assert "max_completion_tokens" in server.received[0].body
    with OpenAiServer(stream(**CEREBRAS)) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.samples()
        a_bench.samples()
        assert ["max_completion_tokens" in request.body for request in server.received] == [False, True]


# Its own clock


def test_cerebras_tells_seconds() -> None:
    assert times(ask_once(stream(**CEREBRAS))) == {
        "server_queue_seconds": 0.002,
        "server_prefill_seconds": 0.0125,
        "server_decode_seconds": 0.25,
        "server_e2e_seconds": 0.5,
    }


def test_llama_cpp_tells_milliseconds() -> None:
    sample = ask_once(stream(**LLAMA))
    assert times(sample) == {
        "server_prefill_seconds": pytest.approx(0.0025),
        "server_decode_seconds": pytest.approx(0.04),
    }


def test_a_time_in_the_head_is_not_one_of_the_whole_request(everybody_is_here: None) -> None:
    script = stream(head={"openai-processing-ms": "412"})
    with OpenAiServer(script) as server, bench(endpoint(hosted(server, "api.openai.com"))) as a_bench:
        (sample,) = a_bench.samples()
    assert times(sample) == {}


def test_who_tells_no_time_has_none() -> None:
    assert times(ask_once(answer("a", "b"))) == {}


@pytest.mark.parametrize("value", [None, True, "soon", "", -0.001, [0.1], {"s": 1}, 1e9, 10**400, "1e400", "nan"])
def test_a_nonsensical_time_is_none(value: object) -> None:
    sample = ask_once(stream(time_info={"queue_time": value, "prompt_time": 0.25}))
    assert sample.outcome is Outcome.OK
    assert times(sample) == {"server_prefill_seconds": 0.25}


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_a_number_that_json_should_not_have_is_none(written: str) -> None:
    last = f'data: {{"choices": [], "time_info": {{"queue_time": {written}, "total_time": 0.25}}}}\n\n'
    sample = ask_once(Script([delta(content="a"), finish(), last.encode(), DONE]))
    assert times(sample) == {"server_e2e_seconds": 0.25}


@pytest.mark.parametrize("told", [None, "fast", [], ["queue_time"], 0.1])
def test_times_that_are_no_object_are_none(told: object) -> None:
    sample = ask_once(stream(time_info=told, timings=told))
    assert (sample.outcome, times(sample)) == (Outcome.OK, {})


def test_a_failed_request_has_no_times() -> None:
    late = Script([delta(content="a"), event({**END, **CEREBRAS}), event({"error": "late"})])
    assert times(ask_once(late)) == {}
    refused = refusal(500, {"error": "no", "timings": {"predicted_ms": 4}}, Server="llama.cpp")
    assert times(ask_once(refused)) == {}


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
keys = ("time_info", "timings", "choices", "system_fingerprint")
inner_keys = ("queue_time", "prompt_time", "prompt_ms", "predicted_ms")


@given(
    event=st.dictionaries(
        st.sampled_from(keys), anything | st.dictionaries(st.sampled_from(inner_keys), anything, max_size=4)
    )
)
@settings(deadline=None)
def test_whatever_is_told_is_a_time_or_nothing(event: dict[str, object]) -> None:
    heard = Answer()
    heard.examine(event)
    assert all(0 <= value <= LONGEST_SECONDS for value in heard.server_times.values())
    assert by_mark({}, event) in (*PROVIDERS, OTHER)


# Streams as servers sent them

SAMPLES = os.environ.get("VATIO_SAMPLES")
READ_BY_HAND: dict[str, tuple[str, int, int | None, int | None, int | None]] = {
    # provider, chunks with text, prompt tokens, output tokens, cached prompt tokens
    "guidellm-mock-0.8.1-chat-stream.sse": ("OpenAI-compatible", 5, 1, 5, None),
    "llama-cpp-python-0.3.36-chat-stream.sse": ("OpenAI-compatible", 5, None, None, None),
    "llama-server-b11434-chat-stream.sse": ("llama.cpp", 6, 20, 8, 4),
    "transformers-serve-5.19-chat-stream.sse": ("OpenAI-compatible", 3, 22, 6, None),
    "vllm-0.32.0-chat-stream.sse": ("vLLM", 5, 22, 8, None),
    "vllm-0.32.0-completions-stream-continuous-usage.sse": ("vLLM", 4, 2, 4, 0),  # the first is a DEL character
}


@pytest.mark.skipif(SAMPLES is None, reason="VATIO_SAMPLES names no folder of recorded streams")
@pytest.mark.parametrize("name", READ_BY_HAND)
def test_a_recorded_stream(name: str) -> None:
    provider, *figures = READ_BY_HAND[name]
    recorded = (Path(SAMPLES or "") / "sse" / name).read_bytes()
    steps = [block + b"\n\n" for block in recorded.split(b"\n\n") if block]
    with OpenAiServer(Script(steps)) as server, bench(endpoint(server.url)) as a_bench:
        readings = a_bench.collect_until(1)
    (sample,) = [r for r in readings if isinstance(r, ProbeSample)]
    *_, entity = [r for r in readings if isinstance(r, Entity)]
    assert sample.outcome is Outcome.OK
    assert [sample.chunks, sample.prompt_tokens, sample.output_tokens, sample.cached_prompt_tokens] == figures
    assert sample.token_count_estimated is (sample.output_tokens is None)
    assert entity.labels["provider"] == provider
    told = {"server_prefill_seconds": 0.002796, "server_decode_seconds": 0.002283} if provider == "llama.cpp" else {}
    assert times(sample) == pytest.approx(told)


@pytest.mark.skipif(SAMPLES is None, reason="VATIO_SAMPLES names no folder of recorded streams")
def test_no_recorded_stream_is_left_out() -> None:
    assert {file.name for file in (Path(SAMPLES or "") / "sse").iterdir()} == set(READ_BY_HAND)
