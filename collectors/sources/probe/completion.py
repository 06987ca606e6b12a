"""One streamed completion from an OpenAI-compatible endpoint: what is sent, what came back, and when.

The clock starts when the connection stands and the request is about to be written, so neither DNS nor
TLS is in a latency. Tokens are what the endpoint says it bills; chunks are never counted as tokens.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from collectors.sources.probe.sse import EventParser
from core.errors import CollectorError
from core.settings import ProbeSettings

BODY_LIMIT_BYTES: Final = 4 << 20
REASON_LIMIT: Final = 200
BURST_SECONDS: Final = 1e-3
"""Chunks closer together than this in all were held back on the way, or written at once: no gap was measured."""

ADJUSTABLE: Final = frozenset({"max_completion_tokens", "temperature"})
"""What a newer model may want changed; it says so in an HTTP 400. The first is asked for, the second unwanted."""

_ERROR_BODY_LIMIT_BYTES: Final = 16 << 10
_ERROR_BODY_SECONDS: Final = 2.0
_FRAGMENT: Final = 8
_CREDENTIAL = re.compile(r"(?i)\b(bearer |sk-)\S+")


@dataclass(frozen=True, slots=True)
class Question:
    """A request ready to be sent. Lives for one request, since it holds the key."""

    url: httpx.URL
    body: Mapping[str, Any]
    key: str = field(repr=False)
    timeout_seconds: float

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it; a compressed answer would arrive in blocks, not token by token."""
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "User-Agent": "vatio"}
        return headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


def question(settings: ProbeSettings, adjusted: Collection[str] = ()) -> Question:
    """The request that the settings ask for, with the key as the environment holds it now.

    ``url`` may be the server, the base that OpenAI clients take (``…/v1``), or the full path of either
    completions method.

    Raises:
        CollectorError: it cannot be sent, or not without giving the key away.
    """
    try:
        url = httpx.URL(settings.url)
    except httpx.InvalidURL as exc:
        raise CollectorError(f"{settings.url} is not a URL: {exc}") from exc
    if url.port is not None and url.port > 65535:
        raise CollectorError(f"{settings.url} is not a URL: no such port")
    key = _key(settings.api_key_env)
    if key and url.scheme != "https" and not _is_loopback(url.host):
        raise CollectorError(f"{settings.api_key_env} would cross the network unencrypted; expected an https url")
    path = url.path.rstrip("/")
    if not path.endswith("/completions"):
        path = f"{path or '/v1'}/chat/completions"
    limit = "max_completion_tokens" if "max_completion_tokens" in adjusted else "max_tokens"
    body: dict[str, Any] = {
        "model": settings.model,
        limit: settings.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if "temperature" not in adjusted:
        body["temperature"] = 0
    if path.endswith("/chat/completions"):
        body["messages"] = [{"role": "user", "content": settings.prompt}]
    else:
        body["prompt"] = settings.prompt
    return Question(url.copy_with(path=path), body, key, settings.timeout_seconds)


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise CollectorError(f"environment variable {variable} is not set")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CollectorError(f"environment variable {variable} holds no usable key (spaces or control characters)")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(slots=True)
class Answer:
    """What came back so far; times are of one monotonic clock, in seconds."""

    sent_at: float | None = None
    ended_at: float | None = None
    failure: str = ""
    duration_seconds: float = 0.0
    """The whole attempt, connecting included."""
    responded: bool = False
    chunks: int = 0
    """Chunks that carried text."""
    wanted: frozenset[str] = frozenset()
    """Which of ``ADJUSTABLE`` a refusal named."""

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
            raise CollectorError(f"error event: {_message(event)}")
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        for choice in _objects(event.get("choices")):
            self._choice(choice, at)

    def _choice(self, choice: Mapping[str, Any], at: float) -> None:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        answered = delta.get("content") or delta.get("tool_calls") or choice.get("text")
        if answered or delta.get("reasoning_content") or delta.get("reasoning"):
            self.chunks += 1
            self.last_text_at = at
            self.first_text_at = at if self.first_text_at is None else self.first_text_at
        if answered and self.first_answer_at is None:
            self.first_answer_at = at
        reason = choice.get("finish_reason")
        if reason == "error":
            raise CollectorError("finish_reason is error")
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
        """The part of the output that was reasoning."""
        details = self.usage.get("completion_tokens_details")
        return _count(details, "reasoning_tokens") if isinstance(details, dict) else None

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
        }


async def ask(a_question: Question, tls: ssl.SSLContext) -> Answer:
    """Send a request once and listen to the end; what goes wrong is in the answer, one line, without the key."""
    answer = Answer()
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
        if step == "http11.send_request_headers.started":
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
    if response.status_code != httpx.codes.OK:
        message = await _error_message(response)
        if response.status_code == httpx.codes.BAD_REQUEST:
            answer.wanted = frozenset(name for name in ADJUSTABLE if name in message)
        raise CollectorError(f"HTTP {response.status_code}" + (f": {message}" if message else ""))
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


async def _error_message(response: httpx.Response) -> str:
    """What the body of a refusal says; nothing when that is no JSON, too long or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _ERROR_BODY_LIMIT_BYTES:
                    return ""
    except (TimeoutError, httpx.HTTPError):
        return ""
    return _message(_object(bytes(body)) or {})


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _objects(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _message(document: Mapping[str, Any]) -> str:
    """The human part of an error in any of the shapes that servers use."""
    error = document.get("error")
    inner: Mapping[str, Any] = error if isinstance(error, dict) else document
    candidates = (inner.get("message"), inner.get("detail"), error, inner.get("type"), inner.get("code"))
    return next((text for text in candidates if isinstance(text, str) and text), "")


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value < 1 << 53 else None


def presentable(text: str, key: str) -> str:
    """One printable line of at most ``REASON_LIMIT`` characters that gives no credential away.

    Whoever answers may echo the key, whole or in part: every run of ``_FRAGMENT`` characters that the key
    also has is blanked, besides what looks like a credential of somebody else.
    """
    start = text[: 10 * REASON_LIMIT]
    line = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    line = _CREDENTIAL.sub(r"\1[hidden]", line)
    size = min(_FRAGMENT, len(key))
    fragments = {key[i : i + size].lower() for i in range(len(key) - size + 1)} if key else set()
    comparable = line.encode("ascii", "replace").decode().lower()  # as long as the line, character by character
    hidden = {i + j for i in range(len(line)) if comparable[i : i + size] in fragments for j in range(size)}
    line = "".join("*" if i in hidden else c for i, c in enumerate(line))
    return line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 1] + "…"
