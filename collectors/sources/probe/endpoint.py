"""One ``[[probe]]`` of the settings and where it stands: when it is due, what a request costs, what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import httpx

from collectors.base import next_tick
from collectors.sources.probe.completion import Answer
from collectors.sources.probe.providers import OTHER, Provider, by_host
from core.readings import Entity, ProbeSample
from core.settings import ProbeSettings

TEMPLATE_TOKENS: Final = 1024
"""Bound on what a chat template adds to the prompt; some put in a default system prompt of hundreds of tokens."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is out: when it began and what was set aside for it."""

    began_at_ms: int
    month: str
    reserved_usd: float
    answer: Future[Answer]


@dataclass(slots=True)
class Endpoint:
    """Begins due: its first request waits for nobody, the others each for an instant of the grid and some chance."""

    settings: ProbeSettings
    interval_ns: int
    phase_ns: int
    next_ns: int = 0
    provider: Provider = OTHER
    adjusted: frozenset[str] = frozenset()
    request: Request | None = None
    announced: bool = False

    def due(self, now_ns: int) -> bool:
        """Whether the next request may begin; a clock that was set back does not stop it."""
        longest_ns = round(self.interval_ns * (1 + self.settings.jitter_ratio))
        waiting = now_ns < self.next_ns <= now_ns + longest_ns
        return self.request is None and not waiting

    def schedule(self, now_ns: int, chance: Callable[[], float]) -> None:
        """Choose when the next request begins: from the grid, not from this one, so that chance adds up to no drift.

        Args:
            now_ns: Unix time in nanoseconds.
            chance: gives a number from 0 to 1, a new one each time.
        """
        late_ns = round(chance() * self.settings.jitter_ratio * self.interval_ns)
        self.next_ns = next_tick(now_ns, self.interval_ns, self.phase_ns) + late_ns

    def recognise(self, answer: Answer) -> None:
        """Learn from an answer whose it is and what has to be asked otherwise from the next request on."""
        self.adjusted |= answer.wanted
        if answer.provider not in (OTHER, self.provider):
            self.provider = answer.provider
            self.announced = False

    def entity(self, host: str, now_ms: int) -> Entity:
        """What a person is told of it."""
        labels = {
            "url": self.settings.url,
            "model": self.settings.model,
            "provider": self.provider.name,
            "price": self._price_label(),
        }
        if self.provider.note:
            labels["note"] = self.provider.note
        return Entity(
            family=ProbeSample.family, key=self.settings.name, host=host, observed_at_ms=now_ms, labels=labels
        )

    def _price_label(self) -> str:
        prompt, output = self.settings.usd_per_million_input_tokens, self.settings.usd_per_million_output_tokens
        if prompt is None or output is None:
            return "not set"
        return f"{prompt:g} USD in, {output:g} USD out per million tokens"

    def price_usd(self, prompt_tokens: int | None, output_tokens: int | None) -> float | None:
        """Price of so many tokens; where a number is unknown, of the most there can be. ``None`` without prices.

        Cached prompt tokens count like others, though some endpoints bill them at less.
        """
        prompt_price = self.settings.usd_per_million_input_tokens
        output_price = self.settings.usd_per_million_output_tokens
        if prompt_price is None or output_price is None:
            return None
        if prompt_tokens is None:  # a token is at least one byte
            prompt_tokens = len(self.settings.prompt.encode()) + TEMPLATE_TOKENS
        if output_tokens is None:
            output_tokens = self.settings.max_tokens
        return (prompt_tokens * prompt_price + output_tokens * output_price) / 1e6

    def cost_usd(self, answer: Answer) -> float | None:
        """What the request has to be counted with: the bill if there is one, else no less than the worst case.

        Nothing, where nothing was computed: not sent, or refused.
        """
        worst = self.price_usd(None, None)
        if worst is None:
            return None
        if answer.sent_at is None or answer.refused:
            return 0.0
        output_tokens = answer.output_tokens
        if output_tokens is None:  # an endpoint that ignores max_tokens shows it by the number of chunks
            output_tokens = max(self.settings.max_tokens, answer.chunks)
        counted = self.price_usd(answer.prompt_tokens, output_tokens) or 0.0
        return counted if answer.complete else max(counted, worst)


def endpoint(settings: ProbeSettings, phase: int) -> Endpoint:
    """A fresh one; ``phase`` is any number that is fixed for it and differs among others."""
    try:
        provider = by_host(httpx.URL(settings.url).host)
    except httpx.InvalidURL:
        provider = OTHER  # nothing is sent there; whoever tries says why
    interval_ns = round(settings.interval_seconds * 1e9)
    return Endpoint(settings, interval_ns, phase % interval_ns, provider=provider)
