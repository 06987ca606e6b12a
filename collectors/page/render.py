"""The page in the Prometheus text format, through prometheus_client.

What was measured carries the instant at which it was (the format allows a time stamp in milliseconds): a Vatio that
reads the page then stores the very rows that this one stores, however late or often it asks, and Prometheus draws
a value where it belongs. What merely holds (descriptions, assignments, counts of events, health) has none, since
Prometheus shows nothing that is older than five minutes.

Values are 64-bit floats there as everywhere in Prometheus, written so that they read back bit for bit; whole
numbers are exact up to 2^53. What a label says may come from anywhere: bytes that are no text are replaced, and
``MAX_TEXT`` and ``MAX_LABELS`` keep a line short enough for whoever reads it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, chain

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from collectors.page.latest import Histogram, Known, Latest, Thing
from core import VERSION
from core.catalog import FAMILIES
from core.exposition import (
    ASSIGNMENT,
    BUILD,
    COLLECTOR_DURATION,
    COLLECTOR_MISSED,
    COLLECTOR_SUCCESS,
    EVENTS,
    HOST,
    ID_LABELS,
    INFO,
    LATENCIES,
    METRICS,
    PARENT,
    PROBE_RESULT,
    PROCESS,
    PROCESS_MEMORY,
    USER,
    Series,
    described,
    exposed,
    labels_shown,
)
from core.readings import AcceleratorSample, DeploymentSample, ProbeSample

FRESH_SECONDS = 1.0
MAX_TEXT = 500  # characters of a label's value
MAX_LABELS = 3_000  # characters of all labels of an entity, names included
_ACCELERATOR, _DEPLOYMENT = ID_LABELS[AcceleratorSample.family], ID_LABELS[DeploymentSample.family]

Labels = dict[str, str]


class Page:
    """Renders what is known.

    One page at a time is made, and it serves until a source has ticked or a second has passed, so that nobody who
    asks in a loop costs the sources their ticks.

    Args:
        latest: what is known.
        schema_revision: of the tables that the daemon writes.
    """

    def __init__(self, latest: Latest, schema_revision: str) -> None:
        self._latest = latest
        self._registry = CollectorRegistry()
        self._registry.register(_Everything(latest, schema_revision))
        ProcessCollector(registry=self._registry)  # process_start_time_seconds, memory, CPU, files
        self._lock = threading.Lock()
        self._made = (-1, 0.0, b"")  # after how many ticks, when (monotonic seconds), and the page

    def render(self) -> bytes:
        """The page as of now, UTF-8."""
        with self._lock:
            ticks, made_seconds, page = self._made
            if ticks != self._latest.ticks or time.monotonic() - made_seconds > FRESH_SECONDS:
                ticks, made_seconds = self._latest.ticks, time.monotonic()
                page = generate_latest(self._registry)
                self._made = ticks, made_seconds, page
            return page


class _Everything(Collector):
    def __init__(self, latest: Latest, schema_revision: str) -> None:
        self._latest = latest
        self._schema_revision = schema_revision

    def describe(self) -> Iterable[Metric]:
        """Nothing is known of the names at registration: the registry need not collect to find out."""
        return ()

    def collect(self) -> Iterator[Metric]:
        known, host = self._latest.known(), self._latest.host
        things = [thing for thing in known.things if _can_be_named(thing)]
        metrics = chain(
            _measured(things),
            _latencies(things),
            _descriptions(things),
            _accelerators(things, host),
            _assignments(things),
            _probes(things),
            _events(known),
            _health(known, host),
            _build(self._schema_revision),
        )
        return (metric for metric in metrics if metric.samples)


def _can_be_named(thing: Thing) -> bool:
    """Whether the key fits into a label as it is: two things must not come out under one name."""
    entity = thing.entity
    return entity.family in FAMILIES and _text(entity.key) == entity.key


def _measured(things: Iterable[Thing]) -> Iterator[Metric]:
    metrics = {name: _metric(described(name)) for name in METRICS}
    names = {family.name: {metric.name: exposed(metric) for metric in family.metrics} for family in FAMILIES.values()}
    for thing in things:
        own = _id(thing)
        of_family = names[thing.entity.family]
        for name, measured in thing.values.items():
            if math.isfinite(measured.value):
                to = of_family[name]
                labels = {**own, **to.labels} if to.labels else own
                metrics[to.name].add_sample(to.name, labels, measured.value, _seconds(measured.at_ms))
    yield from metrics.values()


def _latencies(things: Iterable[Thing]) -> Iterator[Metric]:
    metrics = {
        kind: _metric(Series(name, "histogram", f"Latency of requests: {kind}, seconds."))
        for kind, name in LATENCIES.items()
    }
    for thing in things:
        for kind, histogram in thing.latencies.items():
            _add_histogram(metrics[kind], LATENCIES[kind], _id(thing), histogram)
    yield from metrics.values()


def _add_histogram(metric: Metric, name: str, labels: Labels, histogram: Histogram) -> None:
    at_seconds = _seconds(histogram.at_ms)
    total = 0.0
    for bound, total in zip(histogram.upper_bounds_seconds, accumulate(histogram.counts), strict=True):
        metric.add_sample(f"{name}_bucket", labels | {"le": _bound(bound)}, total, at_seconds)
    metric.add_sample(f"{name}_count", labels, total, at_seconds)
    if histogram.sum_seconds is not None:
        metric.add_sample(f"{name}_sum", labels, histogram.sum_seconds, at_seconds)


def _descriptions(things: Iterable[Thing]) -> Iterator[Metric]:
    metrics = {family: _metric(series) for family, series in INFO.items()}
    for thing in things:
        labels = _id(thing)
        if thing.entity.parent_key is not None:
            labels[PARENT] = _text(thing.entity.parent_key)
        _add(metrics[thing.entity.family], labels | _within_bounds(thing.entity.labels), 1)
    yield from metrics.values()


def _accelerators(things: Iterable[Thing], own_host: str) -> Iterator[Metric]:
    """Who holds memory on accelerators, and whom they are given to."""
    processes, memory, users = _metric(PROCESS), _metric(PROCESS_MEMORY), _metric(USER)
    for thing in things:
        device = {_ACCELERATOR: thing.entity.key}
        for process in thing.processes:
            labels = device | {"pid": str(process.pid), HOST: _text(process.host or own_host)}
            at_seconds = _seconds(process.observed_at_ms)
            _add(processes, labels | {"process": process.name}, 1, at_seconds)
            if process.memory_used_bytes is not None:
                _add(memory, labels, process.memory_used_bytes, at_seconds)
        for user in thing.users:
            _add(users, device | _within_bounds(user.labels), 1)
    yield from (processes, memory, users)


def _assignments(things: Iterable[Thing]) -> Iterator[Metric]:
    metric = _metric(ASSIGNMENT)
    for thing in things:
        if said := thing.assignment:
            labels = {_DEPLOYMENT: thing.entity.key, "family": said.target_family, "origin": said.origin}
            for key in said.target_keys:
                _add(metric, labels | {ID_LABELS[said.target_family]: key}, 1)
    yield metric


def _probes(things: Iterable[Thing]) -> Iterator[Metric]:
    metric = _metric(PROBE_RESULT)
    for thing in things:
        if result := thing.probe:
            labels = {
                ID_LABELS[ProbeSample.family]: thing.entity.key,
                "outcome": result.outcome,
                "error": result.error,
                "token_count_estimated": str(result.token_count_estimated).lower(),
            }
            _add(metric, labels, 1, _seconds(result.observed_at_ms))
    yield metric


def _events(known: Known) -> Iterator[Metric]:
    metric = _metric(EVENTS)
    for group, count in known.events.items():
        labels = {"kind": group.kind, "severity": group.severity}
        if group.key:
            labels |= {"family": group.family, "key": group.key}
        if group.code is not None:
            labels["code"] = str(group.code)
        _add(metric, labels, count)
    yield metric


def _health(known: Known, host: str) -> Iterator[Metric]:
    success, duration, missed = map(_metric, (COLLECTOR_SUCCESS, COLLECTOR_DURATION, COLLECTOR_MISSED))
    for one in known.health:
        labels = {HOST: host, "source": one.source} | ({"target": one.target} if one.target else {})
        _add(success, labels, int(one.success))
        _add(duration, labels, one.duration_seconds)
        if not one.target:
            _add(missed, labels, one.ticks_missed)
    yield from (success, duration, missed)


def _build(schema_revision: str) -> Iterator[Metric]:
    metric = _metric(BUILD)
    _add(metric, {"version": VERSION, "schema_revision": schema_revision}, 1)
    yield metric


def _id(thing: Thing) -> Labels:
    return {ID_LABELS[thing.entity.family]: thing.entity.key, HOST: _text(thing.entity.host)}


def _metric(series: Series) -> Metric:
    return Metric(series.name.removesuffix("_total"), series.help, series.type)


def _add(metric: Metric, labels: Mapping[str, str], value: float, at_seconds: float | None = None) -> None:
    """For what is said in words; what is measured has checked labels and no time to lose."""
    name = metric.name + "_total" if metric.type == "counter" else metric.name
    metric.add_sample(name, {label: _text(text) for label, text in labels.items()}, value, at_seconds)


def _within_bounds(labels: Mapping[str, str]) -> Labels:
    shown = {name: _text(text) for name, text in labels_shown(labels)}
    lengths = accumulate(len(name) + len(text) for name, text in shown.items())
    return {name: text for (name, text), length in zip(shown.items(), lengths, strict=True) if length <= MAX_LABELS}


def _text(text: str) -> str:
    return text[:MAX_TEXT].encode(errors="replace").decode()


def _bound(upper_bound_seconds: float) -> str:
    return "+Inf" if math.isinf(upper_bound_seconds) else repr(float(upper_bound_seconds))


def _seconds(at_ms: int) -> float:
    """For the library, which cuts to milliseconds: half of one more, so that this one is what remains."""
    return (at_ms + 0.5) / 1000
