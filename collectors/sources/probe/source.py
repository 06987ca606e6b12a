"""The active probe: asks configured endpoints for a short completion and times the answer.

Off unless ``[[probe]]`` is set. Requests start on a fixed grid, one endpoint never waits for another,
and one endpoint never has two requests at once. They run on an event loop of their own, so a tick of
the runner starts what is due and hands over what has ended since. A failed request is a sample too,
without latencies; nothing is tried again.

Money: before a request the worst case is reserved in the ledger, afterwards it is settled to what was
billed. Whatever is not known, or not collected before a crash, stays at the worst case.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import httpx

from collectors.base import Availability, next_tick
from collectors.sources.probe.completion import Answer, Question, ask, presentable, question
from core.errors import CollectorError, StoreError
from core.readings import Entity, Outcome, ProbeSample, Reading, TargetReport
from core.settings import ProbeSettings

TEMPLATE_TOKENS: Final = 1024
"""Bound on what a chat template adds to the prompt; some put in a default system prompt of hundreds of tokens."""


class SpendLedger(Protocol):
    """What probes have spent, by endpoint and month (UTC, ``2026-11``). Durable; survives a crash."""

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        """Count the worst case as spent, unless the month's total would pass the cap: then ``False``."""

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        """Replace a reservation with what was billed, which may be more."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that is out: when it began and what was set aside for it."""

    began_at_ms: int
    month: str
    reserved_usd: float
    answer: Future[Answer]


@dataclass(slots=True)
class _Endpoint:
    """One ``[[probe]]`` and where it stands."""

    settings: ProbeSettings
    phase_ns: int
    next_ns: int
    adjusted: frozenset[str] = frozenset()
    request: _Request | None = None
    announced: bool = False

    @property
    def interval_ns(self) -> int:
        return round(self.settings.interval_seconds * 1e9)

    def due(self, now_ns: int) -> bool:
        """Whether an instant of its grid has come; a clock that was set back does not stop it."""
        waiting = now_ns < self.next_ns <= now_ns + self.interval_ns
        return self.request is None and not waiting

    def entity(self, host: str, now_ms: int) -> Entity:
        labels = {"url": self.settings.url, "model": self.settings.model, "price": self._price_label()}
        return Entity(
            family=ProbeSample.family, key=self.settings.name, host=host, observed_at_ms=now_ms, labels=labels
        )

    def _price_label(self) -> str:
        prompt, output = self.settings.usd_per_million_input_tokens, self.settings.usd_per_million_output_tokens
        if prompt is None or output is None:
            return "not set"
        return f"{prompt:g} USD in, {output:g} USD out per million tokens"

    def price_usd(self, prompt_tokens: int | None, output_tokens: int | None) -> float | None:
        """Price of so many tokens; where a number is unknown, of the most there can be. ``None`` without prices."""
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
        """What the request has to be counted with: the bill if there is one, else no less than the worst case."""
        worst = self.price_usd(None, None)
        if worst is None:
            return None
        if answer.sent_at is None:
            return 0.0
        output_tokens = answer.output_tokens
        if output_tokens is None:  # an endpoint that ignores max_tokens shows it by the number of chunks
            output_tokens = max(self.settings.max_tokens, answer.chunks)
        counted = self.price_usd(answer.prompt_tokens, output_tokens) or 0.0
        return counted if answer.complete else max(counted, worst)


class ProbeSource:
    """Every ``[[probe]]`` of the settings.

    Args:
        endpoints: what to ask, and what it costs.
        host: the machine that asks.
        ledger: keeps ``monthly_cap_usd``; called only by whoever calls ``collect``.
        clock_ns: Unix time in nanoseconds, for the grid, the month and the stamps.
    """

    name = "probe"

    def __init__(
        self,
        endpoints: Iterable[ProbeSettings],
        host: str,
        ledger: SpendLedger,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._host = host
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._endpoints = [self._endpoint(settings) for settings in endpoints]
        self._loop: _LoopThread | None = None

    def _endpoint(self, settings: ProbeSettings) -> _Endpoint:
        digest = hashlib.blake2b(f"{self._host}\0{settings.name}".encode(), digest_size=8).digest()
        endpoint = _Endpoint(settings, phase_ns=int.from_bytes(digest), next_ns=0)
        endpoint.phase_ns %= endpoint.interval_ns
        self._wait_for_the_grid(endpoint)
        return endpoint

    def _wait_for_the_grid(self, endpoint: _Endpoint) -> None:
        endpoint.next_ns = next_tick(self._clock_ns(), endpoint.interval_ns, endpoint.phase_ns)

    def _now_ms(self) -> int:
        return self._clock_ns() // 1_000_000

    def discover(self) -> Availability:
        """Look at the settings and whether the keys are there; nothing is sent."""
        if not self._endpoints:
            return Availability(False, "no [[probe]] in the settings", "add one with name, url and model", absent=True)
        for endpoint in self._endpoints:
            endpoint.announced = False
        names = tuple(endpoint.settings.name for endpoint in self._endpoints)
        obstacles = "; ".join(f"{e.settings.name}: {why}" for e in self._endpoints if (why := _obstacle(e)))
        return Availability(True, obstacles, "see [[probe]] in the settings" if obstacles else "", names)

    def collect(self) -> list[Reading]:
        """Hand over requests that have ended, and start those that are due."""
        readings: list[Reading] = []
        for endpoint in self._endpoints:
            if not endpoint.announced:
                readings.append(endpoint.entity(self._host, self._now_ms()))
                endpoint.announced = True
            readings += self._ended(endpoint)
            if endpoint.due(self._clock_ns()):
                self._wait_for_the_grid(endpoint)
                readings += self._begin(endpoint)
        return readings

    def close(self) -> None:
        """Cut what is running; its reservations stay."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        for endpoint in self._endpoints:
            endpoint.request = None

    def _begin(self, endpoint: _Endpoint) -> tuple[Reading, ...]:
        """Send a request; what comes back at once is why there is none."""
        settings, now_ms = endpoint.settings, self._now_ms()
        month = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")
        try:
            a_question = question(settings, endpoint.adjusted)
        except CollectorError as exc:
            return _unsent(settings.name, now_ms, Outcome.FAILED, str(exc))
        worst, cap = endpoint.price_usd(None, None) or 0.0, settings.monthly_cap_usd
        if cap is not None:
            try:
                granted = self._ledger.reserve(settings.name, month, worst, cap)
            except StoreError as exc:
                return _unsent(settings.name, now_ms, Outcome.REFUSED, f"spend cannot be counted: {exc}")
            if not granted:
                reason = f"not sent: {worst:.2g} USD more could pass the cap of {cap:g} USD for {month}"
                return _unsent(settings.name, now_ms, Outcome.REFUSED, reason)
        endpoint.request = _Request(now_ms, month, worst, self._send(a_question))
        return ()

    def _send(self, a_question: Question) -> Future[Answer]:
        if self._loop is None:
            self._loop = _LoopThread()
        return self._loop.submit(ask(a_question, self._loop.tls))

    def _ended(self, endpoint: _Endpoint) -> tuple[Reading, ...]:
        request, settings = endpoint.request, endpoint.settings
        if request is None or not request.answer.done():
            return ()
        endpoint.request = None
        answer = request.answer.result()
        cost = endpoint.cost_usd(answer)
        notes = []
        if cost is not None and cost > request.reserved_usd:
            notes.append(f"{cost:.2g} USD billed where max_tokens allows {request.reserved_usd:.2g} USD")
        if answer.failure or answer.burst:
            notes.append(answer.failure or "all text came at once (held back by a proxy?): no gaps to measure")
        if cost is not None and settings.monthly_cap_usd is not None:
            try:
                self._ledger.settle(settings.name, request.month, request.reserved_usd, cost)
            except StoreError as exc:  # not tried again: settled twice, it would count too little
                cost = max(cost, request.reserved_usd)
                notes.append(f"counted at its worst case: {exc}")
        endpoint.adjusted |= answer.wanted
        return _reported(answer, request.began_at_ms, settings.name, cost, presentable("; ".join(notes), ""))


def _reported(answer: Answer, at_ms: int, name: str, cost_usd: float | None, note: str) -> tuple[Reading, ...]:
    outcome = Outcome.FAILED if answer.failure else Outcome.OK
    billed = answer if answer.complete else Answer()
    sample = ProbeSample(
        key=name,
        observed_at_ms=at_ms,
        outcome=outcome,
        error=note,
        token_count_estimated=answer.sent_at is not None and billed.output_tokens is None,
        **answer.latencies(),
        prompt_tokens=billed.prompt_tokens,
        output_tokens=billed.output_tokens,
        reasoning_tokens=billed.reasoning_tokens,
        cost_usd=cost_usd,
    )
    duration = answer.duration_seconds
    return sample, TargetReport(target=name, outcome=outcome, duration_seconds=duration, error=note)


def _unsent(name: str, at_ms: int, outcome: Outcome, reason: str) -> tuple[Reading, ...]:
    why = presentable(reason, "")
    return (
        ProbeSample(key=name, observed_at_ms=at_ms, outcome=outcome, error=why),
        TargetReport(target=name, outcome=outcome, duration_seconds=0.0, error=why),
    )


def _obstacle(endpoint: _Endpoint) -> str:
    """Why no request could be sent now; empty when one could."""
    try:
        question(endpoint.settings)
    except CollectorError as exc:
        return str(exc)
    return ""


class _LoopThread:
    """An event loop on a thread of its own; closing it cancels what runs there and joins the thread."""

    def __init__(self) -> None:
        self.tls = httpx.create_ssl_context(trust_env=False)  # costs tens of ms, so once and not between timings
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="vatio-probe", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        # Not left to the end of the loop, which cancels every task at once, those too that these have just
        # started: a coroutine that never ran its first step makes Python warn.
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _registered(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await task

    def submit(self, work: Coroutine[Any, Any, Answer]) -> Future[Answer]:
        return asyncio.run_coroutine_threadsafe(self._registered(work), self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
