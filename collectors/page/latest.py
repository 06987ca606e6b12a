"""What the daemon knows right now: the last of everything that its sources said, under each entity.

A metric keeps its last known value with the instant at which it was measured, since sources read some of them more
seldom than others. An entity that nothing was heard of for a while is silent: its figures are forgotten, its
description is not, for sources tell that once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from core.catalog import FAMILIES
from core.health import TickReport
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Event,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
    Sample,
)

SILENT_SECONDS = 300.0  # as long as Prometheus looks back for a sample
SILENT_INTERVALS = 3  # where these take longer
MOST_ENTITIES = 50_000  # the descriptions of the longest silent ones are dropped
MOST_EVENT_COUNTS = 2_000  # further ones are counted by kind and severity alone

_values = {name: attrgetter(*(m.name for m in family.metrics)) for name, family in FAMILIES.items()}
_names = {name: tuple(m.name for m in family.metrics) for name, family in FAMILIES.items()}


class Measured(NamedTuple):
    """A value and when it was so (Unix ms)."""

    value: float
    at_ms: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """All observations since the daemon began, or since the bounds are these; counts are not cumulative.

    ``sum_seconds`` is unknown from the first interval on whose sum was.
    """

    upper_bounds_seconds: tuple[float, ...]
    counts: tuple[float, ...]
    sum_seconds: float | None
    at_ms: int

    def with_more(self, sample: LatencySample) -> Histogram:
        """The same with the observations of one more interval."""
        known = self.sum_seconds is not None and sample.sum_seconds is not None
        return Histogram(
            self.upper_bounds_seconds,
            tuple(one + more for one, more in zip(self.counts, sample.increments, strict=True)),
            (self.sum_seconds or 0.0) + (sample.sum_seconds or 0.0) if known else None,
            sample.observed_at_ms,
        )


@dataclass(slots=True)
class Thing:
    """An entity and what was last said of it."""

    entity: Entity
    heard_seconds: float  # when it was last measured, by the monotonic clock
    measured_at_ms: int = 0
    values: dict[str, Measured] = field(default_factory=dict)
    latencies: dict[Latency, Histogram] = field(default_factory=dict)
    processes: tuple[DeviceProcess, ...] = ()
    users: tuple[DeviceUser, ...] = ()
    assignment: Assignment | None = None
    probe: ProbeSample | None = None

    def forget(self) -> None:
        """Drop everything but the description."""
        self.values, self.latencies, self.processes, self.users = {}, {}, (), ()
        self.assignment = self.probe = None


@dataclass(frozen=True, slots=True)
class EventCount:
    """Which events are counted together."""

    kind: str
    severity: str
    family: str = ""
    key: str = ""
    code: int | None = None


@dataclass(slots=True)
class Health:
    """How the ticks of one source, or of one of its targets, went."""

    source: str
    target: str
    success: bool
    duration_seconds: float
    ticks_missed: int
    heard_seconds: float


@dataclass(frozen=True, slots=True)
class Known:
    """Everything at one moment."""

    things: tuple[Thing, ...]
    events: Mapping[EventCount, int]
    health: tuple[Health, ...]


class Latest:
    """Collects what is stored, from any thread; ``known`` may be asked by any other.

    Args:
        host: name of this machine, to which belongs what was never described.
        interval_seconds: between two ticks.
        clock: monotonic, seconds.

    ``ticks`` counts what was taken in.
    """

    def __init__(self, host: str, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.host = host
        self.ticks = 0
        self._silent_seconds = max(SILENT_SECONDS, SILENT_INTERVALS * interval_seconds)
        self._clock = clock
        self._lock = threading.Lock()
        self._things: dict[tuple[str, str], Thing] = {}
        self._events: dict[EventCount, int] = {}
        self._health: dict[tuple[str, str], Health] = {}

    def take(self, readings: Iterable[Reading], reports: Iterable[TickReport]) -> None:
        """Take in what one tick of one source brought, as it is stored."""
        with self._lock:
            now = self._clock()
            self.ticks += 1
            self._forget_silent(now)
            processes: dict[str, list[DeviceProcess]] = {}
            users: dict[str, list[DeviceUser]] = {}
            for reading in readings:
                match reading:
                    case Entity():
                        self._thing(reading.family, reading.key, reading.observed_at_ms, now).entity = reading
                    case LatencySample():
                        self._add(reading, now)
                    case Event():
                        self._count(reading)
                    case DeviceProcess():
                        processes.setdefault(reading.key, []).append(reading)
                    case DeviceUser():
                        users.setdefault(reading.key, []).append(reading)
                    case Assignment():
                        deployment = self._thing(
                            DeploymentSample.family, reading.deployment_key, reading.observed_at_ms, now
                        )
                        deployment.assignment = reading if reading.target_keys else None
                    case _ if isinstance(reading, Sample):
                        self._measure(reading, now)
            for key, several in processes.items():
                self._thing(AcceleratorSample.family, key, several[0].observed_at_ms, now).processes = tuple(several)
            for key, given in users.items():
                self._thing(AcceleratorSample.family, key, given[0].observed_at_ms, now).users = tuple(given)
            for report in reports:
                self._report(report, now)

    def known(self) -> Known:
        """Everything that is not silent, as of now; nothing of it changes any more."""
        with self._lock:
            now = self._clock()
            self._forget_silent(now)
            things = [self._copied(thing) for thing in self._things.values() if not self._is_silent(thing, now)]
            health = [copy(one) for one in self._health.values() if not self._is_silent(one, now)]
            return Known(tuple(things), dict(self._events), tuple(health))

    def _thing(self, family: str, key: str, at_ms: int, now: float) -> Thing:
        thing = self._things.get((family, key))
        if thing is None:
            thing = Thing(Entity(observed_at_ms=at_ms, family=family, key=key, host=self.host), now)
            self._things[family, key] = thing
        return thing

    def _measure(self, sample: Sample, now: float) -> None:
        thing = self._thing(sample.family, sample.key, sample.observed_at_ms, now)
        if sample.observed_at_ms != thing.measured_at_ms:  # the page of another Vatio repeats the last it knows
            thing.heard_seconds, thing.measured_at_ms = now, sample.observed_at_ms
        for name, value in zip(_names[sample.family], _values[sample.family](sample), strict=True):
            if value is not None:
                thing.values[name] = Measured(value, sample.observed_at_ms)
        if isinstance(sample, ProbeSample):
            thing.probe = sample
        elif isinstance(sample, AcceleratorSample) and sample.processes == 0:
            thing.processes = ()

    def _add(self, sample: LatencySample, now: float) -> None:
        latencies = self._thing(DeploymentSample.family, sample.key, sample.observed_at_ms, now).latencies
        before = latencies.get(sample.kind)
        if before is None or before.upper_bounds_seconds != sample.upper_bounds_seconds:
            before = Histogram(sample.upper_bounds_seconds, (0.0,) * len(sample.increments), 0.0, 0)
        latencies[sample.kind] = before.with_more(sample)

    def _count(self, event: Event) -> None:
        group = EventCount(event.kind, event.severity, event.family, event.key, event.code)
        if group not in self._events and len(self._events) >= MOST_EVENT_COUNTS:
            group = EventCount(event.kind, event.severity)
        self._events[group] = self._events.get(group, 0) + 1

    def _report(self, report: TickReport, now: float) -> None:
        before = self._health.get((report.source, report.target))
        self._health[report.source, report.target] = Health(
            source=report.source,
            target=report.target,
            success=report.outcome is not Outcome.FAILED,
            duration_seconds=report.duration_seconds,
            ticks_missed=report.ticks_missed + (before.ticks_missed if before else 0),
            heard_seconds=now,
        )

    def _is_silent(self, one: Thing | Health, now: float) -> bool:
        return now - one.heard_seconds > self._silent_seconds

    def _forget_silent(self, now: float) -> None:
        """A histogram that comes back then begins at zero, as whoever follows it expects of one that was away."""
        silent = [thing for thing in self._things.values() if self._is_silent(thing, now)]
        for thing in silent:
            thing.forget()
        surplus = len(self._things) - MOST_ENTITIES
        if surplus > 0:
            for thing in sorted(silent, key=lambda thing: thing.heard_seconds)[:surplus]:
                del self._things[thing.entity.family, thing.entity.key]

    def _copied(self, thing: Thing) -> Thing:
        one = copy(thing)
        one.values, one.latencies = dict(thing.values), dict(thing.latencies)
        return one
