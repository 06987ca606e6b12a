"""One streamed completion from an OpenAI-compatible endpoint: what came back, and when.

The clock starts when the connection stands and the request is about to be written, so neither DNS nor
TLS is in a latency. Tokens are what the endpoint says it bills; chunks are never counted as tokens.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from collectors.sources.probe.providers import OTHER, REASONING_FIELDS, Provider, by_mark
from collectors.sources.probe.question import ADJUSTABLE, Question
from collectors.sources.probe.reasons import message, presentable, texts
from collectors.sources.probe.sse import EventParser
from core.errors import CollectorError

BODY_LIMIT_BYTES: Final = 4 << 20
BURST_SECONDS: Final = 1e-3
"""Chunks closer together than this in all were held back on the way, or written at once: no gap was measured."""

_ERROR_BODY_LIMIT_BYTES: Final = 16 << 10
_ERROR_BODY_SECONDS: Final = 2.0
_COMPLAINTS: Final = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY})


@dataclass(slots=True)
class Answer:
    """What came back so far; times are of one monotonic clock, in seconds."""

    provider: Provider = OTHER
    """Whose answer it is, as far as it can be told."""
    connecting_at: float | None = None
    sent_at: float | None = None
    ended_at: float | None = None
    failure: str = ""
    duration_seconds: float = 0.0
    """The whole attempt, connecting included."""
    responded: bool = False
    chunks: int = 0
    """Chunks that carried text."""
    refused: bool = False
    """Turned away before anything was computed."""
    wanted: frozenset[str] = frozenset()
    """Which of ``ADJUSTABLE`` a refusal named."""

    head: Mapping[str, str] = field(default_factory=dict)
    server_times: dict[str, float] = field(default_factory=dict)
    """What the endpoint says of its own times, by field of a sample."""
    reasoned: bool = False
    first_text_at: float | None = None
    first_answer_at: float | None = None
    last_text_at: float | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    finished: bool = False

    def see(self, data: str, at: float) -> None:
        """Take in one event that arrived at ``at``.

        Raises:
            CollectorError: the event says that the request failed, or is none.
        """
        if self.done or not data.strip():
            return
        if data.strip() == "[DONE]":
            self.done = True
            return
        event = _object(data)
        if event is None:
            raise CollectorError("an event of the stream is not a JSON object")
        if event.get("error") or event.get("object") == "error":
            raise CollectorError(f"error event: {message(event)}")
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        self.examine(event)
        for choice in _objects(event.get("choices")):
            self._choice(choice, at)

    def examine(self, event: Mapping[str, Any]) -> None:
        """Look through the head and an event for whose answer it is and what its own clock says."""
        if self.provider is OTHER:
            self.provider = by_mark(self.head, event)
        self.server_times |= self.provider.times(self.head, event)

    def _choice(self, choice: Mapping[str, Any], at: float) -> None:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        answered = delta.get("content") or delta.get("tool_calls") or choice.get("text")
        reasoned = any(delta.get(name) for name in REASONING_FIELDS)
        if answered or reasoned:
            self.chunks += 1
            self.last_text_at = at
            self.first_text_at = at if self.first_text_at is None else self.first_text_at
        if answered and self.first_answer_at is None:
            self.first_answer_at = at
        self.reasoned = self.reasoned or reasoned
        reason = choice.get("finish_reason")
        if reason in ("error", "abort"):
            raise CollectorError(f"finish_reason is {reason}")
        self.finished = self.finished or bool(reason)

    def end(self, at: float) -> None:
        """The stream is over.

        Raises:
            CollectorError: it was cut, or had no text in it.
        """
        if not self.done and not self.finished:
            what = "the stream was cut: neither finish_reason nor [DONE] came" if self.chunks else "empty stream"
            raise CollectorError(what)
        self.ended_at = at
        if not self.chunks:
            raise CollectorError("no text in the answer")

    @property
    def complete(self) -> bool:
        """Whether the stream came to its end, so that its usage block is the final one."""
        return self.ended_at is not None

    @property
    def progress(self) -> str:
        """How far it got, for the reason of a timeout."""
        if self.sent_at is None:
            return "not connected"
        if not self.responded:
            return "no response"
        return f"chunks with text so far: {self.chunks}"

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens as billed."""
        return _count(self.usage, "prompt_tokens")

    @property
    def output_tokens(self) -> int | None:
        """Output tokens as billed, reasoning included; a zero beside text is no count."""
        count = _count(self.usage, "completion_tokens")
        return None if count == 0 and self.chunks else count

    @property
    def reasoning_tokens(self) -> int | None:
        """The part of the output that was reasoning; a zero beside reasoning is no count."""
        # SGLang has no details and puts it among the other counts.
        count = _count(self._details("completion_tokens_details") or self.usage, "reasoning_tokens")
        return None if count == 0 and self.reasoned else count

    @property
    def cached_prompt_tokens(self) -> int | None:
        """The part of the prompt that came from a cache."""
        return _count(self._details("prompt_tokens_details"), "cached_tokens")

    def _details(self, name: str) -> Mapping[str, Any]:
        details = self.usage.get(name)
        return details if isinstance(details, dict) else {}

    @property
    def burst(self) -> bool:
        """Whether all text arrived at once, so that gaps between tokens cannot be told."""
        return self.chunks > 1 and self._text_seconds < BURST_SECONDS

    @property
    def _text_seconds(self) -> float:
        if self.first_text_at is None or self.last_text_at is None:
            return 0.0
        return self.last_text_at - self.first_text_at

    def latencies(self) -> dict[str, float | None]:
        """The latency fields of a sample in seconds; all unknown unless the request succeeded."""
        if self.failure or self.sent_at is None or self.ended_at is None or self.first_text_at is None:
            return {}
        span, tokens = self._text_seconds, self.output_tokens
        spread = self.chunks > 1 and not self.burst
        return {
            "ttft_seconds": self.first_text_at - self.sent_at,
            "ttfo_seconds": None if self.first_answer_at is None else self.first_answer_at - self.sent_at,
            "itl_seconds": span / (self.chunks - 1) if spread else None,
            "tpot_seconds": span / (tokens - 1) if spread and tokens is not None and tokens > 1 else None,
            "e2e_seconds": self.ended_at - self.sent_at,
            "connect_seconds": None if self.connecting_at is None else self.sent_at - self.connecting_at,
            **self.server_times,
        }


async def ask(a_question: Question, tls: ssl.SSLContext) -> Answer:
    """Send a request once and listen to the end; what goes wrong is in the answer, one line, without the key."""
    answer = Answer(provider=a_question.provider)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(a_question.timeout_seconds):
            await _listen(a_question, tls, answer)
    except (TimeoutError, httpx.TimeoutException):
        answer.failure = f"not complete within {a_question.timeout_seconds:g} s ({answer.progress})"
    except CollectorError as exc:
        answer.failure = str(exc)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        answer.failure = f"{type(exc).__name__}: {exc}"
    answer.failure = presentable(answer.failure, a_question.key)
    answer.duration_seconds = time.perf_counter() - began
    return answer


async def _listen(a_question: Question, tls: ssl.SSLContext, answer: Answer) -> None:
    async def trace(step: str, _: Mapping[str, Any]) -> None:
        if step == "connection.connect_tcp.started":  # with the name's lookup
            answer.connecting_at = time.perf_counter()
        elif step == "http11.send_request_headers.started":
            answer.sent_at = time.perf_counter()

    # A connection of its own each time: one kept open between probes would be stale more often than warm.
    # httpx's own timeouts only back up the deadline over all, which also holds for a trickle.
    client = httpx.AsyncClient(verify=tls, trust_env=False, timeout=a_question.timeout_seconds, follow_redirects=False)
    request = client.build_request(
        "POST", a_question.url, json=a_question.body, headers=a_question.headers, extensions={"trace": trace}
    )
    async with client:
        response = await client.send(request, stream=True)
        try:
            answer.responded = True
            await _check(response, answer)
            await _read(response, answer)
        finally:
            await response.aclose()


async def _check(response: httpx.Response, answer: Answer) -> None:
    answer.head = response.headers
    answer.examine({})
    status = response.status_code
    if status != httpx.codes.OK:
        error = await _error(response)
        # A bill beside a refusal says that something was computed after all, and after a timeout that may be, too.
        answer.refused = 300 <= status < 500 and status != httpx.codes.REQUEST_TIMEOUT and not error.get("usage")
        if status in _COMPLAINTS:
            answer.wanted = frozenset(name for name in ADJUSTABLE if any(name in text for text in texts(error)))
        said = message(error)
        raise CollectorError(f"HTTP {status}" + (f": {said}" if said else ""))
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("application/json", "text/html"):
        raise CollectorError(f"expected an event stream, got {media_type}")
    if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
        raise CollectorError(f"the answer is compressed ({encoding}), though identity was asked for")


async def _read(response: httpx.Response, answer: Answer) -> None:
    parser = EventParser()
    received = 0
    async for chunk in response.aiter_raw():
        at = time.perf_counter()
        received += len(chunk)
        if received > BODY_LIMIT_BYTES:
            raise CollectorError(f"the answer exceeds {BODY_LIMIT_BYTES >> 20} MiB")
        for data in parser.feed(chunk):
            answer.see(data, at)
        if answer.done:
            break
    else:
        at = time.perf_counter()
        for data in parser.end():
            answer.see(data, at)
    answer.end(at)


async def _error(response: httpx.Response) -> dict[str, Any]:
    """The body of a refusal; nothing when that is no JSON, too long or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _ERROR_BODY_LIMIT_BYTES:
                    return {}
    except (TimeoutError, httpx.HTTPError):
        return {}
    return _object(bytes(body)) or {}


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _objects(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value < 1 << 53 else None
