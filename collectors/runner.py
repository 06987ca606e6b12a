"""Ticks on an absolute grid, a thread per source, and the health of every tick.

A source that fails costs its own tick and nothing else. One that says it is not available, or that
missed its deadline, is discovered again with growing pauses. Only this file hands readings to storage.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from collectors.assignments import Assigner
from collectors.base import Availability, Source, next_tick, now_ms
from collectors.child import ChildSource
from collectors.clock import Clock, Newest, on_tick
from collectors.firsthand import DRIVERS, Firsthand
from collectors.page.latest import Latest
from core.errors import CollectorError, DeadlineExceeded, NoData, SourceUnavailable
from core.health import SourceStatus, TickReport
from core.readings import Outcome, Reading, TargetReport
from storage.batch import Batch
from storage.rows import open_assignments
from storage.writer import Writer

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 10.0  # after something broke
FIRST_PAUSE_ABSENT_SECONDS = 300.0  # where nothing of the kind is here: a new process each time is not free
LONGEST_PAUSE_SECONDS = 600.0
ON_TIME_RATIO = 0.01  # of the interval: a sample taken so soon after its tick was taken at it
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick brought, before it is stored."""

    readings: tuple[Reading, ...]
    reports: tuple[TickReport, ...]
    rediscover: bool

    @property
    def report(self) -> TickReport:
        """How the source as a whole fared."""
        return self.reports[0]


def discovered(source: Source) -> Availability:
    """What a source says of itself; a defect in it is an answer too."""
    try:
        return source.discover()
    except Exception as exc:
        log.exception("%s: unexpected failure at discovery", source.name)
        return Availability(False, f"unexpected {type(exc).__name__}: {_last_line(exc)}", "see the daemon's log")


def run_tick(source: Source, host: str, scheduled_at_ms: int, ticks_missed: int = 0) -> Tick:
    """Collect once and turn any failure into a report; never raises."""
    readings: tuple[Reading, ...] = ()
    outcome, error, rediscover = Outcome.OK, "", False
    began = time.perf_counter()
    try:
        readings = tuple(source.collect())
    except NoData as exc:
        outcome, error = Outcome.NO_DATA, str(exc)
    except CollectorError as exc:
        outcome, error = Outcome.FAILED, str(exc)
        rediscover = isinstance(exc, SourceUnavailable | DeadlineExceeded)
    except Exception as exc:  # noqa: BLE001  a defect of the source must not end its thread
        log.error("%s: unexpected failure\n%s", source.name, traceback.format_exc())
        outcome, error = Outcome.FAILED, f"unexpected {type(exc).__name__}: {_last_line(exc)}"
    own = TickReport(
        host=host,
        source=source.name,
        target="",
        scheduled_at_ms=scheduled_at_ms,
        outcome=outcome,
        duration_seconds=time.perf_counter() - began,
        readings=sum(not isinstance(reading, TargetReport) for reading in readings),
        ticks_missed=ticks_missed,
        error=error,
    )
    return Tick(readings, (own, *_of_targets(own, readings)), rediscover)


def _last_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[-1] if lines else ""


def _of_targets(own: TickReport, readings: Iterable[Reading]) -> list[TickReport]:
    return [
        TickReport(
            host=own.host,
            source=own.source,
            target=reading.target,
            scheduled_at_ms=own.scheduled_at_ms,
            outcome=reading.outcome,
            duration_seconds=reading.duration_seconds,
            error=reading.error,
        )
        for reading in readings
        if isinstance(reading, TargetReport)
    ]


def phase_ns(host: str, name: str, interval_ns: int) -> int:
    """This source's place within the interval: fixed, and spread over hosts and sources."""
    digest = hashlib.blake2b(f"{host}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % interval_ns


class SourceLoop:
    """One source on its grid, in a thread of its own."""

    def __init__(
        self,
        source: Source,
        *,
        host: str,
        interval_seconds: float,
        writer: Writer,
        assigner: Assigner,
        firsthand: Firsthand,
        clock: Clock,
        latest: Latest,
    ) -> None:
        self._source = source
        self._host = host
        self._interval_ns = round(interval_seconds * NS)
        self._phase_ns = phase_ns(host, source.name, self._interval_ns)
        self._writer = writer
        self._assigner = assigner
        self._firsthand = firsthand
        self._clock = clock
        self._latest = latest
        self._newest = Newest()
        self._stop = threading.Event()
        self._available = False
        self._worked = False  # ever: a source that was never here misses nothing
        self._skipped = 0
        self._outcome: Outcome | None = None
        self._announced: Availability | None = None
        self._pause_seconds = 0.0
        self._next_discovery = 0.0  # monotonic seconds
        self._failing: set[str] = set()
        self.is_ticking = False  # in this process: it minds what else wants to compute
        self._thread = threading.Thread(target=self._run, name=f"vatio-{source.name}", daemon=True)

    def start(self) -> None:
        """Begin with a tick at once, then follow the grid."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let the current tick finish and begin no other."""
        self._stop.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread, which closes its source."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        scheduled_ns, missed, due_ns = time.time_ns(), 0, time.monotonic_ns()
        while True:
            self._tick(scheduled_ns // 1_000_000, missed)
            now, steady_ns = time.time_ns(), time.monotonic_ns()
            scheduled_ns = following = next_tick(now, self._interval_ns, self._phase_ns)
            # By the clock that nobody sets: where the other is put forward by a day nothing was missed.
            following_ns = steady_ns + following - now
            missed = max(round((following_ns - due_ns) / self._interval_ns) - 1, 0)
            due_ns = following_ns
            if self._stop.wait((following - now) / NS):
                break
        try:
            self._source.close()
        except Exception:  # it ends anyway
            log.exception("%s: cannot be closed", self._source.name)

    def _tick(self, scheduled_at_ms: int, missed: int) -> None:
        if not self._available and not self._discovered():
            self._skipped += self._worked
            return
        began_at_ms = now_ms()
        self.is_ticking = not isinstance(self._source, ChildSource)
        tick = run_tick(self._source, self._host, scheduled_at_ms, missed + self._skipped)
        self.is_ticking = False
        self._skipped, self._worked = 0, True
        if tick.rediscover:
            self._available = False
        else:
            self._pause_seconds = 0.0
        with self._assigner.lock:
            self._assigner.heard(self._source.name)
            ended_at_ms, drivers_heard = now_ms(), self._assigner.has_heard_all
            told = self._firsthand.only(self._source.name, tick.readings, ended_at_ms, drivers_heard=drivers_heard)
            assignments = self._assigner.observe(told, ended_at_ms)
            tolerance_ms = self._interval_ns / NS * 1000 * ON_TIME_RATIO
            taken = on_tick(told, scheduled_at_ms, tolerance_ms, began_at_ms=began_at_ms)
            readings = (*self._newest.without_counters(taken), *assignments, *self._clock.step())
            self._writer.submit(Batch(readings, tick.reports))
            self._latest.take(readings, tick.reports)
        for report in tick.reports:
            self._log_change(report)
        if {self._outcome, tick.report.outcome} == {Outcome.NO_DATA, Outcome.OK}:
            self._discover()  # what it said about having nothing to report is out of date
        self._outcome = tick.report.outcome

    def _discovered(self) -> bool:
        return time.monotonic() >= self._next_discovery and self._discover()

    def _discover(self) -> bool:
        found = discovered(self._source)
        self._available = found.ok
        if not found.ok:
            with self._assigner.lock:
                self._assigner.heard(self._source.name)
        first = FIRST_PAUSE_ABSENT_SECONDS if found.absent else FIRST_PAUSE_SECONDS
        self._pause_seconds = min(max(self._pause_seconds * 2, first), LONGEST_PAUSE_SECONDS)
        self._next_discovery = time.monotonic() + self._pause_seconds
        if found != self._announced:
            log.info("%s: %s", self._source.name, _in_words(found))
            self._announced = found
        status = SourceStatus(
            host=self._host,
            source=self._source.name,
            available=found.ok,
            absent=found.absent,
            reason=found.reason,
            remedy=found.remedy,
            checked_at_ms=now_ms(),
        )
        self._writer.submit(Batch(statuses=(status,)))
        return found.ok

    def _log_change(self, report: TickReport) -> None:
        """One line when something begins to fail, one when it works again; the rest is in the store."""
        name = f"{report.source} {report.target}".strip()
        if report.outcome is Outcome.FAILED and name not in self._failing:
            self._failing.add(name)
            log.warning("%s fails: %s", name, report.error)
        elif report.outcome is Outcome.OK and name in self._failing:
            self._failing.remove(name)
            log.info("%s works again", name)


def _in_words(found: Availability) -> str:
    state = "available" if found.ok else "not here" if found.absent else "not available"
    return ": ".join(part for part in (state, found.reason) if part)


class Daemon:
    """All sources of one machine, running; ``latest`` is what they last said."""

    def __init__(self, sources: Iterable[Source], *, host: str, interval_seconds: float, writer: Writer) -> None:
        every = list(sources)
        self.latest = Latest(host, interval_seconds)
        assigner = Assigner(
            host,
            awaited=DRIVERS & {source.name for source in every},
            held=writer.call(lambda connection: open_assignments(connection, host)),
            interval_seconds=interval_seconds,
        )
        firsthand, clock = Firsthand(), Clock()
        self._loops = [
            SourceLoop(
                source,
                host=host,
                interval_seconds=interval_seconds,
                writer=writer,
                assigner=assigner,
                firsthand=firsthand,
                clock=clock,
                latest=self.latest,
            )
            for source in every
        ]

    def is_ticking(self) -> bool:
        """Whether a source looks around just now, in this process."""
        return any(loop.is_ticking for loop in self._loops)

    def start(self) -> None:
        """Start every source."""
        for loop in self._loops:
            loop.start()

    def stop(self, timeout_seconds: float = 8.0) -> None:
        """Stop every source; one that hangs is left behind when the time is over."""
        for loop in self._loops:
            loop.ask_to_stop()
        end = time.monotonic() + timeout_seconds
        for loop in self._loops:
            loop.join(max(end - time.monotonic(), 0.1))
