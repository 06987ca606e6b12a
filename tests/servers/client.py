"""A load client that keeps its own books: what it asked for, what came back, and when.

It shares no code with Vatio, so that the two can be held against each other. Requests are OpenAI chat
completions, streamed; tokens are those of the usage block, times are of one monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

END_TOKEN = "0"  # of the tiny model, as a key of logit_bias
SHARED_PREFIX = "The meter counts every request, the wait before it and the answer after it. " * 3
WORDS = ("watt", "token", "queue", "cache", "meter", "count", "answer", "prompt", "server", "second", "cost", "wait")


@dataclass(frozen=True, slots=True)
class Request:
    """One question. ``stops``: the model is made to end at once; ``valid``: else the server must refuse it."""

    prompt: str
    max_tokens: int
    stops: bool = False
    valid: bool = True

    def body(self, model: str) -> dict[str, object]:
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0 if self.valid else "warm",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body | ({"logit_bias": {END_TOKEN: 100}} if self.stops else {"ignore_eos": True})


CUT = 0
"""The status of a request whose connection was lost before its end, or was never made."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request came to; ``ttft_seconds`` is to the first chunk with text and ``None`` without one."""

    status: int
    finish_reason: str | None
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    first_chunk_seconds: float | None
    ttft_seconds: float | None
    e2e_seconds: float

    @property
    def ok(self) -> bool:
        return self.status == httpx.codes.OK and self.finish_reason in ("stop", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The books: what a server should have counted between two moments at which nothing was running."""

    requests: int
    refused: int
    stopped: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    first_chunk_seconds: float
    ttft_seconds: float
    e2e_seconds: float

    @property
    def gaps(self) -> int:
        """How often one output token followed another."""
        return self.output_tokens - self.requests


def count(replies: Iterable[Reply]) -> Counted:
    """Add up; sums of seconds are over the requests that succeeded."""
    replies = list(replies)
    good = [reply for reply in replies if reply.ok]
    return Counted(
        requests=len(good),
        refused=len(replies) - len(good),
        stopped=sum(reply.finish_reason == "stop" for reply in good),
        prompt_tokens=sum(reply.prompt_tokens for reply in good),
        cached_tokens=sum(reply.cached_tokens for reply in good),
        output_tokens=sum(reply.output_tokens for reply in good),
        first_chunk_seconds=sum(reply.first_chunk_seconds or 0.0 for reply in good),
        ttft_seconds=sum(reply.ttft_seconds or 0.0 for reply in good),
        e2e_seconds=sum(reply.e2e_seconds for reply in good),
    )


def workload(size: int, *, seed: int, output_tokens: int = 48) -> list[Request]:
    """A mixed load: short and long, some with a common beginning, some that end at once, one that is refused."""
    dice = random.Random(seed)
    requests = []
    for number in range(size):
        prompt = " ".join(dice.choices(WORDS, k=dice.randint(2, 30)))
        if number % 3 == 0:
            prompt = SHARED_PREFIX + prompt
        requests.append(Request(prompt, dice.randint(1, output_tokens), stops=number % 7 == 5))
    requests.insert(size // 2, Request("never mind", 4, valid=False))
    return requests


def drive(url: str, model: str, requests: Sequence[Request], *, concurrency: int) -> list[Reply]:
    """Send all of them, so many at a time; replies in the order of the requests."""
    return asyncio.run(_drive(url, model, requests, concurrency))


async def _drive(url: str, model: str, requests: Sequence[Request], concurrency: int) -> list[Reply]:
    turns = asyncio.Semaphore(concurrency)
    # A connection each: llama-server drops one after a streamed answer while httpx still believes in it.
    limits, headers = httpx.Limits(max_connections=concurrency, max_keepalive_connections=0), {"Connection": "close"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False, limits=limits) as client:

        async def one(request: Request) -> Reply:
            async with turns:
                return await _ask(client, request.body(model))

        return await asyncio.gather(*(one(request) for request in requests))


async def _ask(client: httpx.AsyncClient, body: dict[str, object]) -> Reply:
    first_chunk = first_text = finish_reason = None
    usage: dict[str, Any] = {}
    began = time.perf_counter()
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for event in _events(response):
                at = time.perf_counter() - began
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    first_chunk = first_chunk or at
                    first_text = first_text or (at if choice["delta"].get("content") else None)
                    finish_reason = choice.get("finish_reason") or finish_reason
        status = response.status_code
    except httpx.TransportError:
        status = CUT
    details = usage.get("prompt_tokens_details")
    return Reply(
        status=status,
        finish_reason=finish_reason,
        prompt_tokens=_int(usage.get("prompt_tokens")),
        cached_tokens=_int(details.get("cached_tokens")) if isinstance(details, dict) else 0,
        output_tokens=_int(usage.get("completion_tokens")),
        first_chunk_seconds=first_chunk,
        ttft_seconds=first_text,
        e2e_seconds=time.perf_counter() - began,
    )


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Each JSON event as it arrives. Lines end at LF alone: the noise has every other separator in it."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
