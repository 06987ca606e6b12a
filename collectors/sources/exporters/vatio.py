"""Another Vatio's own page (``collectors.page``): whatever that daemon knows, as it knows it.

A sample keeps the instant that the page gives it, so the same row lies in both stores, once, however often it is
read. Latency is what the histograms grew by between two pages. Events are only counted there; the words are in the
store of the daemon that saw them.

What is about this machine is left out: of itself a daemon knows more, and two that read each other must not tell
each other the same for ever.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from collectors.scrape.exposition import Page, Point
from collectors.scrape.histograms import Cumulative, Identity, Increase, histograms, increase
from collectors.sources.exporters.dialect import Dialect, Look
from core.catalog import FAMILIES
from core.exposition import (
    ASSIGNMENT,
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
    labels_read,
    metric_of,
)
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
    Severity,
)

MOST_APART_MS = 3_600_000  # an instant further from that of the page is taken for damage
_LARGEST_INTEGER = 2.0**63
_START = "process_start_time_seconds"
_ACCELERATOR, _DEPLOYMENT = ID_LABELS[AcceleratorSample.family], ID_LABELS[DeploymentSample.family]
_PROBE = ID_LABELS[ProbeSample.family]

Thing = tuple[str, str]
"""Family and key."""


_TARGETS: Mapping[str, Literal["accelerator", "host"]] = {"accelerator": "accelerator", "host": "host"}
_ORIGINS: Mapping[str, Literal["processes", "labels", "settings"]] = {
    "processes": "processes",
    "labels": "labels",
    "settings": "settings",
}
_OUTCOMES, _SEVERITIES = frozenset(Outcome), frozenset(Severity)


@dataclass(frozen=True, slots=True)
class _Observed:
    """A histogram as it stood."""

    histogram: Cumulative
    at_ms: int


class VatioReader:
    """The page of one daemon."""

    def __init__(self) -> None:
        self._newest_ms: dict[Thing, int] = {}
        self._latencies: dict[tuple[str, Latency], _Observed] = {}
        self._events: dict[tuple[tuple[str, str], ...], float] = {}
        self._assigned: set[str] = set()
        self._began: float | None = None
        self._read_before = False

    def read(self, look: Look) -> Iterator[Reading]:
        """Everything on the page; samples that were handed on already only while they are the newest."""
        began = look.page.single(_START)
        if began != self._began:
            self._latencies, self._events = {}, {}
        # What the page before lacks began at zero after it; before the first page only a daemon's beginning tells.
        from_zero = self._read_before or (began is not None and began * 1000 > look.watched_since_ms)
        self._began, self._read_before = began, True
        entities = {(one.family, one.key): one for one in _entities(look)}
        yield from entities.values()
        yield from self._samples(look, entities)
        yield from self._latency(look, entities, from_zero=from_zero)
        yield from _processes(look, entities)
        yield from _users(look, entities)
        yield from self._assignments(look, entities)
        yield from self._news(look, entities, from_zero=from_zero)

    def _samples(self, look: Look, entities: Mapping[Thing, Entity]) -> Iterator[Sample]:
        """A page holds each metric as last measured; those of one instant are one sample.

        The first page tells of earlier instants only what was not measured since: that is no sample.
        """
        before, self._newest_ms = self._newest_ms, {}
        for thing, instants in _measured(look).items():
            if thing not in entities:
                continue
            family, key = thing
            newest_ms = self._newest_ms[thing] = max(instants)
            known_ms = before.get(thing, newest_ms)
            for at_ms in sorted(instants):
                values = instants[at_ms]
                if (at_ms > known_ms or at_ms == newest_ms) and (family != ProbeSample.family or "outcome" in values):
                    yield FAMILIES[family].sample_type(key=key, observed_at_ms=at_ms, **values)

    def _latency(self, look: Look, entities: Mapping[Thing, Entity], *, from_zero: bool) -> Iterator[LatencySample]:
        before, self._latencies = self._latencies, {}
        for kind, name in LATENCIES.items():
            lines = [look.page.points.get(name + suffix, []) for suffix in ("_bucket", "_sum", "_count")]
            instants = {point.series.identity: _instant(point, look) for point in lines[-1]}
            for identity, now in histograms(name, *lines).items():
                key = dict(identity[1]).get(_DEPLOYMENT, "")
                at_ms = instants.get(identity[1])
                if (DeploymentSample.family, key) not in entities or at_ms is None:
                    continue
                earlier = before.get((key, kind))
                self._latencies[key, kind] = _Observed(now, at_ms)
                if earlier is None or at_ms != earlier.at_ms:
                    added = _increase(identity, earlier, now, from_zero=from_zero)
                    if added is not None:
                        yield _latency_sample(key, kind, at_ms, added)

    def _assignments(self, look: Look, entities: Mapping[Thing, Entity]) -> Iterator[Assignment]:
        """What runs on what; a deployment that is said to run on nothing any more is told once."""
        said: dict[tuple[str, str, str], set[str]] = {}
        for labels in _all_labels(look.page, ASSIGNMENT.name):
            deployment, family = labels.get(_DEPLOYMENT, ""), labels.get("family", "")
            if (DeploymentSample.family, deployment) in entities and family in _TARGETS:
                targets = said.setdefault((deployment, family, labels.get("origin", "")), set())
                targets.add(labels.get(ID_LABELS[family], ""))
        for (deployment, family, origin), targets in said.items():
            if origin in _ORIGINS:
                yield Assignment(
                    deployment_key=deployment,
                    target_family=_TARGETS[family],
                    target_keys=tuple(sorted(targets)),
                    origin=_ORIGINS[origin],
                    observed_at_ms=look.at_ms,
                )
        assigned = {deployment for deployment, _, _ in said}
        for deployment in sorted(self._assigned - assigned):
            yield Assignment(
                deployment_key=deployment,
                target_family="accelerator",
                target_keys=(),
                origin="processes",
                observed_at_ms=look.at_ms,
            )
        self._assigned = assigned

    def _news(self, look: Look, entities: Mapping[Thing, Entity], *, from_zero: bool) -> Iterator[Event]:
        """An event for each kind that was counted further."""
        before, self._events = self._events, {}
        for series, count, _ in look.page.points.get(EVENTS.name, ()):
            self._events[series.identity] = count
            labels = series.labels
            known = before.get(series.identity, 0.0 if from_zero else count)
            thing = labels.get("family", ""), labels.get("key", "")
            if count > known and thing in entities and labels.get("severity") in _SEVERITIES:
                kind, code = labels.get("kind", ""), _integer(labels.get("code", ""))
                yield Event(
                    observed_at_ms=look.at_ms,
                    kind=kind,
                    severity=Severity(labels["severity"]),
                    message=f"{kind}{'' if code is None else f' {code}'} (the store of the Vatio there has the words)",
                    family=thing[0],
                    key=thing[1],
                    code=code,
                )


VATIO = Dialect(
    name="Vatio",
    marks=("\nvatio_",),
    series=frozenset(
        (
            *METRICS,
            *(name + suffix for name in LATENCIES.values() for suffix in ("_bucket", "_sum", "_count")),
            *(series.name for series in INFO.values()),
            *(one.name for one in (ASSIGNMENT, EVENTS, PROBE_RESULT, PROCESS, PROCESS_MEMORY, USER)),
            _START,
        )
    ),
    reader=VatioReader,
)


def _entities(look: Look) -> Iterator[Entity]:
    for family, series in INFO.items():
        for labels in _all_labels(look.page, series.name):
            key, host = labels.get(ID_LABELS[family], ""), labels.get(HOST, "")
            if key and host and host != look.own_host:
                yield Entity(
                    observed_at_ms=look.at_ms,
                    family=family,
                    key=key,
                    host=host,
                    parent_key=labels.get(PARENT),
                    labels=labels_read(labels),
                )


def _measured(look: Look) -> dict[Thing, dict[int, dict[str, Any]]]:
    """Thing to the instants at which something of it was measured, to the values."""
    found: dict[Thing, dict[int, dict[str, Any]]] = {}
    for point in look.page.points.get(PROBE_RESULT.name, ()):
        labels, at_ms = point.series.labels, _instant(point, look)
        if at_ms is not None and labels.get("outcome") in _OUTCOMES:
            found.setdefault((ProbeSample.family, labels.get(_PROBE, "")), {})[at_ms] = {
                "outcome": Outcome(labels["outcome"]),
                "error": labels.get("error", ""),
                "token_count_estimated": labels.get("token_count_estimated") == "true",
            }
    for name in METRICS:
        for point in look.page.points.get(name, ()):
            metric, at_ms = metric_of(name, point.series.labels), _instant(point, look)
            if metric is None or at_ms is None or not math.isfinite(point.value):
                continue
            if metric.integer and abs(point.value) >= _LARGEST_INTEGER:
                continue
            key = point.series.labels.get(ID_LABELS[metric.family], "")
            value = round(point.value) if metric.integer else point.value
            found.setdefault((metric.family, key), {}).setdefault(at_ms, {})[metric.name] = value
    return found


def _increase(identity: Identity, earlier: _Observed | None, now: Cumulative, *, from_zero: bool) -> Increase | None:
    """What was added; all of it where the bounds are others than before, since then the daemon counts anew."""
    same = earlier is not None and earlier.histogram.bounds == now.bounds
    before = {identity: earlier.histogram} if earlier is not None and same else {}
    return increase(before, {identity: now}, new_from_zero=from_zero)


def _processes(look: Look, entities: Mapping[Thing, Entity]) -> Iterator[DeviceProcess]:
    memory = {
        _process(point.series.labels): point.value
        for point in look.page.points.get(PROCESS_MEMORY.name, ())
        if 0 <= point.value < _LARGEST_INTEGER
    }
    for point in look.page.points.get(PROCESS.name, ()):
        labels, at_ms = point.series.labels, _instant(point, look)
        key, pid, host = _process(labels)
        number = _integer(pid)
        if (AcceleratorSample.family, key) in entities and number is not None and at_ms is not None:
            held = memory.get((key, pid, host))
            yield DeviceProcess(
                key=key,
                observed_at_ms=at_ms,
                pid=number,
                name=labels.get("process", ""),
                memory_used_bytes=None if held is None else round(held),
                host=host,
            )


def _process(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels.get(_ACCELERATOR, ""), labels.get("pid", ""), labels.get(HOST, "")


def _users(look: Look, entities: Mapping[Thing, Entity]) -> Iterator[DeviceUser]:
    for labels in _all_labels(look.page, USER.name):
        key = labels.get(_ACCELERATOR, "")
        if (AcceleratorSample.family, key) in entities:
            yield DeviceUser(key=key, observed_at_ms=look.at_ms, labels=labels_read(labels))


def _latency_sample(key: str, kind: Latency, at_ms: int, added: Increase) -> LatencySample:
    return LatencySample(
        key=key,
        kind=kind,
        observed_at_ms=at_ms,
        upper_bounds_seconds=added.bounds,
        increments=added.counts,
        sum_seconds=added.sum,
    )


def _all_labels(page: Page, name: str) -> Iterator[Mapping[str, str]]:
    return (point.series.labels for point in page.points.get(name, ()))


def _instant(point: Point, look: Look) -> int | None:
    """When a point was measured; ``None`` for an instant that cannot be."""
    at_ms = look.at_ms if point.at_ms is None else point.at_ms
    return at_ms if abs(at_ms - look.at_ms) <= MOST_APART_MS else None


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,10}", text, re.ASCII) else None
