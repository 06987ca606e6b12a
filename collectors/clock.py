"""Instants: the tick that a sample belongs to, and what to do when somebody sets the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import Event, LatencySample, Reading, Sample, Severity

LEAST_STEP_NS = 2_000_000_000  # less is the work of time synchronisation, which nobody needs to hear of
_COUNTERS: dict[str, dict[str, Any]] = {
    name: dict.fromkeys(metric.name for metric in family.metrics if metric.kind is Kind.COUNTER)
    for name, family in FAMILIES.items()
}


class Clock:
    """One for all sources of a daemon; tells each step once."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._lock = threading.Lock()
        self._apart_ns = wall_ns() - steady_ns()

    def step(self) -> tuple[Event, ...]:
        """An event if the clock was set since the last call, else nothing."""
        with self._lock:
            wall_ns = self._wall_ns()
            apart_ns = wall_ns - self._steady_ns()
            step_ns, self._apart_ns = apart_ns - self._apart_ns, apart_ns
        if abs(step_ns) < LEAST_STEP_NS:
            return ()
        seconds = abs(step_ns) / 1e9
        back = f"set back by {seconds:,.0f} s: until it has caught up, counters are not stored"
        said = back if step_ns < 0 else f"set forward by {seconds:,.0f} s: the time between was not observed"
        at_ms = wall_ns // 1_000_000
        return (Event(observed_at_ms=at_ms, kind="clock", severity=Severity.WARNING, message=f"the clock was {said}"),)


def on_tick(
    readings: Iterable[Reading], scheduled_at_ms: int, tolerance_ms: float, *, began_at_ms: int
) -> tuple[Reading, ...]:
    """Readings with those samples at the instant of their tick that were taken within the tolerance after it.

    All entities of a host then share their times, which are stored once and looked at once. It moves a sample by
    no more than the tolerance, a hundredth of the interval in the daemon. What is older than the beginning of the
    tick's work was taken elsewhere (another daemon's page says when) and keeps its instant.
    """
    return tuple(
        replace(reading, observed_at_ms=scheduled_at_ms)
        if isinstance(reading, Sample | LatencySample)
        and began_at_ms <= reading.observed_at_ms <= scheduled_at_ms + tolerance_ms
        else reading
        for reading in readings
    )


class Newest:
    """The newest instant at which each entity was seen, by one source."""

    def __init__(self) -> None:
        self._at_ms: dict[tuple[str, str], int] = {}

    def without_counters(self, readings: Iterable[Reading]) -> tuple[Reading, ...]:
        """Readings with the counters of those samples unknown that are not newer than earlier ones of their entity.

        After a clock was set back two courses of one counter would lie in one series, and every change between
        them would look like a restart. What the counter grew by meanwhile is seen when time has caught up.
        """
        return tuple(
            replace(reading, **_COUNTERS[reading.family])
            if isinstance(reading, Sample) and not self._advances(reading)
            else reading
            for reading in readings
        )

    def _advances(self, sample: Sample) -> bool:
        thing = sample.family, sample.key
        if sample.observed_at_ms <= self._at_ms.get(thing, 0):
            return False
        self._at_ms[thing] = sample.observed_at_ms
        return True
