"""The active probe: asks configured endpoints for a short completion and times the answer.

Off unless ``[[probe]]`` is set. The first request begins at once, the others at an instant of a fixed grid or,
by chance, a little later, so that many probes do not ask together. One endpoint never waits for another and
never has two requests at once. They run on an event loop of their own, so a tick of the runner starts what is
due and hands over what has ended since. A failed request is a sample too, without latencies; nothing is tried
again, and what a refusal teaches holds from the next scheduled request on.

Money: before a request the worst case is reserved in the ledger, afterwards it is settled to what was
billed, or to nothing if it was refused. Whatever is not known, or not collected before a crash, stays at
the worst case.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx

from collectors.base import Availability
from collectors.sources.probe.completion import Answer, ask
from collectors.sources.probe.endpoint import Endpoint, Request, endpoint
from collectors.sources.probe.question import Question, question
from collectors.sources.probe.reasons import presentable
from core.errors import CollectorError, StoreError
from core.readings import Outcome, ProbeSample, Reading, TargetReport
from core.settings import ProbeSettings


class SpendLedger(Protocol):
    """What probes have spent, by endpoint and month (UTC, ``2026-11``). Durable; survives a crash."""

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        """Count the worst case as spent, unless the month's total would pass the cap: then ``False``."""

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        """Replace a reservation with what was billed, which may be more."""


class ProbeSource:
    """Every ``[[probe]]`` of the settings.

    Args:
        endpoints: what to ask, and what it costs.
        host: the machine that asks.
        ledger: keeps ``monthly_cap_usd``; called only by whoever calls ``collect``.
        clock_ns: Unix time in nanoseconds, for the grid, the month and the stamps.
        chance: a number from 0 to 1, a new one each time, for how late a request begins.
    """

    name = "probe"

    def __init__(
        self,
        endpoints: Iterable[ProbeSettings],
        host: str,
        ledger: SpendLedger,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._chance = chance
        self._endpoints = [endpoint(settings, self._phase(settings)) for settings in endpoints]
        self._loop: _LoopThread | None = None

    def _phase(self, settings: ProbeSettings) -> int:
        digest = hashlib.blake2b(f"{self._host}\0{settings.name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest)

    def _now_ms(self) -> int:
        return self._clock_ns() // 1_000_000

    def discover(self) -> Availability:
        """Look at the settings and whether the keys are there; nothing is sent."""
        if not self._endpoints:
            return Availability(False, "no [[probe]] in the settings", "add one with name, url and model", absent=True)
        for each in self._endpoints:
            each.announced = False
        names = tuple(each.settings.name for each in self._endpoints)
        obstacles = "; ".join(f"{e.settings.name}: {why}" for e in self._endpoints if (why := _obstacle(e.settings)))
        return Availability(True, obstacles, "see [[probe]] in the settings" if obstacles else "", names)

    def collect(self) -> list[Reading]:
        """Hand over requests that have ended, and start those that are due."""
        readings: list[Reading] = []
        for each in self._endpoints:
            ended = self._ended(each)
            if not each.announced:
                readings.append(each.entity(self._host, self._now_ms()))
                each.announced = True
            readings += ended
            now_ns = self._clock_ns()
            if each.due(now_ns):
                each.schedule(now_ns, self._chance)
                readings += self._begin(each)
        return readings

    def wait(self) -> None:
        """Let the requests that are out end, each within its timeout; ``collect`` then has them all."""
        wait_for([each.request.answer for each in self._endpoints if each.request])

    def close(self) -> None:
        """Cut what is running; its reservations stay."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        for each in self._endpoints:
            each.request = None

    def _begin(self, an_endpoint: Endpoint) -> tuple[Reading, ...]:
        """Send a request; what comes back at once is why there is none."""
        settings, now_ms = an_endpoint.settings, self._now_ms()
        month = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")
        try:
            a_question = question(settings, an_endpoint.provider, an_endpoint.adjusted)
        except CollectorError as exc:
            return _unsent(settings.name, now_ms, Outcome.FAILED, str(exc))
        worst, cap = an_endpoint.price_usd(None, None) or 0.0, settings.monthly_cap_usd
        if cap is not None:
            try:
                granted = self._ledger.reserve(settings.name, month, worst, cap)
            except StoreError as exc:
                return _unsent(settings.name, now_ms, Outcome.REFUSED, f"spend cannot be counted: {exc}")
            if not granted:
                reason = f"not sent: {worst:.2g} USD more could pass the cap of {cap:g} USD for {month}"
                return _unsent(settings.name, now_ms, Outcome.REFUSED, reason)
        an_endpoint.request = Request(now_ms, month, worst, self._send(a_question))
        return ()

    def _send(self, a_question: Question) -> Future[Answer]:
        if self._loop is None:
            self._loop = _LoopThread()
        return self._loop.submit(ask(a_question, self._loop.tls))

    def _ended(self, an_endpoint: Endpoint) -> tuple[Reading, ...]:
        request, settings = an_endpoint.request, an_endpoint.settings
        if request is None or not request.answer.done():
            return ()
        an_endpoint.request = None
        answer = request.answer.result()
        cost = an_endpoint.cost_usd(answer)
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
        an_endpoint.recognise(answer)
        return _reported(answer, request.began_at_ms, settings.name, cost, presentable("; ".join(notes), ""))


def _reported(answer: Answer, at_ms: int, name: str, cost_usd: float | None, note: str) -> tuple[Reading, ...]:
    outcome = Outcome.FAILED if answer.failure else Outcome.OK
    billed = answer if answer.complete else Answer()
    sample = ProbeSample(
        key=name,
        observed_at_ms=at_ms,
        outcome=outcome,
        error=note,
        token_count_estimated=answer.sent_at is not None and not answer.refused and billed.output_tokens is None,
        **answer.latencies(),
        prompt_tokens=billed.prompt_tokens,
        output_tokens=billed.output_tokens,
        reasoning_tokens=billed.reasoning_tokens,
        cached_prompt_tokens=billed.cached_prompt_tokens,
        chunks=answer.chunks if answer.complete else None,
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


def _obstacle(settings: ProbeSettings) -> str:
    """Why no request could be sent now; empty when one could."""
    try:
        question(settings)
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
