"""Whom a probe asks: what differs from one OpenAI-compatible endpoint to the next, as a table.

A hosted API is known by its host before anything is sent; a server of one's own by a mark in its answer, so
that its row holds from there on. Who has no row is asked the common way, and that is what most rows say too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LONGEST_SECONDS: Final = 300.0
"""No request is waited for longer than that, so no time within one is longer."""

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in an answer: in its head under a name, or in an event of the stream under keys."""

    path: tuple[str | int, ...]
    in_head: bool = False

    def look(self, head: Mapping[str, str], event: Mapping[str, Any]) -> object:
        """What stands there, which may be ``None``; ``_ABSENT`` where there is no such place."""
        found: object = head if self.in_head else event
        for step in self.path:
            if isinstance(found, Mapping) and isinstance(step, str):
                found = found.get(step, _ABSENT)
            elif isinstance(found, list) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return _ABSENT
        return found


@dataclass(frozen=True, slots=True)
class Mark:
    """What only one server's answers have: a place that is there at all or, with ``start``, how its text begins."""

    place: Place
    start: str = ""

    def on(self, head: Mapping[str, str], event: Mapping[str, Any]) -> bool:
        """Whether this part of an answer carries it."""
        found = self.place.look(head, event)
        return found is not _ABSENT if not self.start else isinstance(found, str) and found.startswith(self.start)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time that an endpoint measured itself: where it stands and how long its unit is."""

    place: Place
    unit_seconds: float

    def read(self, head: Mapping[str, str], event: Mapping[str, Any]) -> float | None:
        """The time in seconds, if it is one and can be."""
        found = self.place.look(head, event)
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            return None
        try:
            seconds = float(found) * self.unit_seconds
        except (ValueError, OverflowError):
            return None
        return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST_SECONDS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One kind of endpoint.

    Args:
        name: what a person calls it.
        hosts: names that its API goes by; those below them are its own, too.
        marks: any one of them tells it.
        limit: the parameter of the chat method that bounds the answer.
        refuses: parameters that it answers with an error, and that it works without.
        reasoning: fields of a delta that hold thoughts and not the answer.
        clocks: its own times, by field of a sample.
        note: what to know before its figures are compared with others'.
    """

    name: str
    hosts: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    limit: str = "max_tokens"
    refuses: frozenset[str] = frozenset()
    reasoning: tuple[str, ...] = ()
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    note: str = ""

    def times(self, head: Mapping[str, str], event: Mapping[str, Any]) -> dict[str, float]:
        """Those of its own times that this part of an answer tells."""
        read = ((name, clock.read(head, event)) for name, clock in self.clocks.items())
        return {name: seconds for name, seconds in read if seconds is not None}


def _head(name: str) -> Place:
    return Place((name,), in_head=True)


def _event(*path: str | int) -> Place:
    return Place(path)


PROVIDERS: Final = (
    Provider(
        name="OpenAI",
        hosts=("api.openai.com",),
        limit="max_completion_tokens",  # max_tokens is deprecated, and newer models refuse it
        # Its openai-processing-ms is in the head, so it ends where the stream begins: no time of a whole request.
        note="Reasoning is billed within max_tokens and never shown.",
    ),
    Provider(
        name="Cerebras",
        hosts=("api.cerebras.ai",),
        marks=(Mark(_event("time_info")),),
        limit="max_completion_tokens",
        reasoning=("reasoning",),
        clocks={
            "server_queue_seconds": Clock(_event("time_info", "queue_time"), 1.0),
            "server_prefill_seconds": Clock(_event("time_info", "prompt_time"), 1.0),
            "server_decode_seconds": Clock(_event("time_info", "completion_time"), 1.0),
            "server_e2e_seconds": Clock(_event("time_info", "total_time"), 1.0),
        },
    ),
    Provider(
        name="Mistral",
        hosts=("api.mistral.ai",),
        refuses=frozenset({"stream_options"}),  # with HTTP 422; usage comes in the last chunk unasked
    ),
    Provider(
        name="LiteLLM",
        marks=(Mark(_head("x-litellm-version")),),
        reasoning=("reasoning_content",),
        note="A gateway: what answers behind it cannot be told.",
    ),
    Provider(
        name="llama.cpp",
        marks=(Mark(_head("server"), "llama.cpp"), Mark(_event("timings", "predicted_ms"))),
        reasoning=("reasoning_content",),
        clocks={
            "server_prefill_seconds": Clock(_event("timings", "prompt_ms"), 1e-3),
            "server_decode_seconds": Clock(_event("timings", "predicted_ms"), 1e-3),
        },
        note="Its own prefill time is that of the tokens that were not cached. A chunk may hold several tokens.",
    ),
    Provider(
        name="vLLM",
        marks=(Mark(_event("system_fingerprint"), "vllm-"),),  # in the usage chunk of newer versions alone
        reasoning=("reasoning_content", "reasoning"),  # up to 0.15, from 0.11.2
        note="A token of half a character comes as empty text: TTFT is that of the first one that can be read.",
    ),
    Provider(
        name="SGLang",
        marks=(Mark(_event("choices", 0, "matched_stop")),),
        reasoning=("reasoning_content",),
    ),
    Provider(
        name="TGI",
        marks=(Mark(_head("x-compute-type")),),  # its x-queue-time and x-inference-time are left out of streams
    ),
    Provider(
        name="LMDeploy",
        marks=(Mark(_event("choices", 0, "delta", "gen_tokens")),),
        reasoning=("reasoning_content",),
    ),
    Provider(
        name="Ollama",
        marks=(Mark(_event("system_fingerprint"), "fp_ollama"),),
        reasoning=("reasoning",),
        note="The first request after a pause loads the model; its own times are left out of this API.",
    ),
)

OTHER: Final = Provider(name="OpenAI-compatible")
"""Whoever has no row, or has not shown which one is his."""

REASONING_FIELDS: Final = frozenset(name for provider in PROVIDERS for name in provider.reasoning)
"""Looked for in every answer: a gateway hands through what it is given."""


def by_host(host: str) -> Provider:
    """The provider whose API has this name."""
    for provider in PROVIDERS:
        if any(host == name or host.endswith(f".{name}") for name in provider.hosts):
            return provider
    return OTHER


def by_mark(head: Mapping[str, str], event: Mapping[str, Any]) -> Provider:
    """The provider that a part of an answer is marked by."""
    for provider in PROVIDERS:
        if any(mark.on(head, event) for mark in provider.marks):
            return provider
    return OTHER
