"""Machines without an agent: the exporters they run anyway, read in the units and under the keys of Vatio's sources.

Every tick asks all targets at once (``fetch``), recognises by the page which exporters speak there (``DIALECTS``),
and lets them read it. A page may hold several exporters of many machines, as that of a Prometheus does that is asked
for ``/federate``: it is read by instance. An exporter that looks at its devices more seldom than it is asked repeats
itself; the sample is kept, since it is what the page says, but for the energy counter (``accelerators.Energy``).

A thing belongs to the first target that reported it, until that has not spoken of it for ten minutes: two exporters
on one machine must not make two courses of one accelerator.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from collectors.base import Availability, now_ms
from collectors.scrape.exposition import Page, PageReader, Point, Selector, describe_other
from collectors.scrape.fetch import Answer, Failure, Fetcher, Request
from collectors.scrape.targets import FileTarget, FileTargets
from collectors.sources.exporters import DIALECTS
from collectors.sources.exporters.dialect import Dialect, DialectReader, Look
from collectors.sources.serving import ENGINES
from core.errors import CollectorError, NoData
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Event,
    LatencySample,
    Outcome,
    Reading,
    Sample,
    TargetReport,
)
from core.settings import ExporterTarget

log = logging.getLogger(__name__)

METRICS_PATH = "/metrics"
HANDED_ON_MS = 600_000
OLDEST_MS = 3_600_000  # figures with an older time stamp are history
MAX_THINGS = 20_000  # on one page
MAX_READERS = 4096  # of one target: exporters times instances

_UNCONFIGURED = "no exporter is configured"
_FILES = "file_sd"

Thing = tuple[str, str]
"""Family and key."""


@dataclass(frozen=True, slots=True)
class _Speaker:
    """Who says something: an exporter on a page, about one instance."""

    target: str
    dialect: str
    instance: str

    def __str__(self) -> str:
        return f"{self.dialect} at {self.target}"


@dataclass(slots=True)
class _Claim:
    """Whose a thing is, and when that one last spoke of it."""

    speaker: _Speaker
    seen_at_ms: int


@dataclass(slots=True)
class _Target:
    """A page, and what is remembered of it."""

    page_url: str
    name: str  # on ops/health
    host: str
    watched_since_ms: int
    max_kept_bytes: int
    api_key_env: str | None = None
    dialects: tuple[Dialect, ...] = ()
    pages: PageReader = field(default_factory=PageReader)
    readers: dict[_Speaker, DialectReader] = field(default_factory=dict)

    def keep(self, body: bytes) -> bytes:
        """What matters of a page.

        Raises:
            CollectorError: it is no page, or of no exporter that is known.
        """
        lines = b"\n" + body
        self.dialects = tuple(dialect for dialect in DIALECTS if dialect.speaks(lines))
        if not self.dialects:
            raise CollectorError(_describe(body))
        return _selector(self.dialects, self.max_kept_bytes)(body)

    def looks(self, page: Page, now_ms: int, own_host: str) -> Iterator[tuple[_Speaker, Look]]:
        """A page once per instance and exporter."""
        for instance, part in _by_instance(page).items():
            for dialect in self.dialects:
                points = [point for name in dialect.series for point in part.points.get(name, ())]
                at_ms = _newest(points, now_ms)
                if at_ms is not None:
                    yield (
                        _Speaker(self.name, dialect.name, instance),
                        Look(
                            page=part,
                            at_ms=at_ms,
                            host=_host(instance) if instance else self.host,
                            own_host=own_host,
                            watched_since_ms=self.watched_since_ms,
                            federated=bool(instance),
                        ),
                    )

    def reader(self, speaker: _Speaker) -> DialectReader:
        """The memory for what one speaker says."""
        if speaker not in self.readers:
            if len(self.readers) >= MAX_READERS:  # instances that never come back must not pile up
                self.readers.clear()
            (dialect,) = (dialect for dialect in self.dialects if dialect.name == speaker.dialect)
            self.readers[speaker] = dialect.reader()
        return self.readers[speaker]


class ExportersSource:
    """The exporters that the settings name.

    Args:
        host: name of the machine that looks.
        own_families: what other sources report of that machine, so that its exporters need not.
        targets: in the settings.
        file_sd: patterns of files with more of them.
        max_body_bytes: of a metrics page.
        deadline_seconds: for each page as a whole.
    """

    name = "exporters"

    def __init__(
        self,
        host: str,
        *,
        targets: Sequence[ExporterTarget],
        file_sd: Sequence[str],
        max_body_bytes: int,
        deadline_seconds: float,
        own_families: Collection[str] = (),
    ) -> None:
        self._host = host
        self._own_families = frozenset(own_families)
        self._configured = tuple(targets)
        self._files = FileTargets(file_sd) if file_sd else None
        self._max_body_bytes = max_body_bytes
        self._fetcher = Fetcher(deadline_seconds=deadline_seconds, max_body_bytes=max_body_bytes)
        self._targets: dict[str, _Target] = {}  # by page
        self._claims: dict[Thing, _Claim] = {}
        self._announced: dict[Thing, Entity] = {}

    def discover(self) -> Availability:
        """Look at every page once. Ok as soon as one is configured: it may answer at any time."""
        if not self._configured and self._files is None:
            return Availability(False, _UNCONFIGURED, "name pages in [[exporters.target]]", absent=True)
        self._announced.clear()
        found: list[str] = []
        reasons: list[str] = []
        targets = self._current()
        for target, answer in zip(targets, self._fetch(targets), strict=True):
            if isinstance(answer, Failure):
                reasons.append(f"{target.name}: {answer.reason}")
            else:
                found.append(f"{' and '.join(dialect.name for dialect in target.dialects)} at {target.name}")
        reasons += self._files.problems if self._files else ()
        remedy = "see what answers there, or correct [exporters] in the settings" if reasons else ""
        return Availability(True, "; ".join(reasons), remedy, tuple(found))

    def collect(self) -> list[Reading]:
        """One look at every page.

        Raises:
            NoData: no page is named.
        """
        targets = self._current()
        now = now_ms()
        readings: list[Reading] = []
        for target, answer in zip(targets, self._fetch(targets), strict=True):
            readings += self._read(target, answer, now)
        if self._files is not None:
            problems = "; ".join(self._files.problems)
            outcome = Outcome.FAILED if problems else Outcome.OK
            readings.append(TargetReport(target=_FILES, outcome=outcome, duration_seconds=0.0, error=problems))
        self._forget(now)
        if not targets and not readings:
            raise NoData(_UNCONFIGURED)
        return readings

    def close(self) -> None:
        """Close all connections."""
        self._fetcher.close()

    def _current(self) -> list[_Target]:
        """The targets as of now, those of the settings first; what is remembered of others is dropped."""
        listed = self._files.current() if self._files else ()
        wanted: dict[str, _Target] = {}
        for target in (*map(self._of_settings, self._configured), *map(self._of_file, listed)):
            wanted.setdefault(target.page_url, self._targets.get(target.page_url, target))
        self._targets = wanted
        return list(wanted.values())

    def _of_settings(self, target: ExporterTarget) -> _Target:
        return self._target(target.url.rstrip("/"), target.metrics_path, target.host, target.api_key_env)

    def _of_file(self, target: FileTarget) -> _Target:
        return self._target(target.url, target.metrics_path, target.labels.get("host"))

    def _target(self, url: str, path: str, host: str | None, api_key_env: str | None = None) -> _Target:
        return _Target(
            page_url=url + path,
            name=url if path == METRICS_PATH else url + path,
            host=host or urlsplit(url).hostname or "",
            watched_since_ms=now_ms(),
            max_kept_bytes=self._max_body_bytes,
            api_key_env=api_key_env,
        )

    def _fetch(self, targets: Sequence[_Target]) -> list[Answer | Failure]:
        return self._fetcher.fetch_all([Request(t.page_url, t.api_key_env, t.keep) for t in targets])

    def _read(self, target: _Target, answer: Answer | Failure, now: int) -> list[Reading]:
        """What one page says, and how it went."""
        try:
            if isinstance(answer, Failure):
                raise CollectorError(answer.reason)
            page = target.pages.read(answer.body)
            said = list(self._said(target, page, now))
        except CollectorError as exc:
            return [_report(target, answer, Outcome.FAILED, str(exc))]
        except Exception as exc:
            log.exception("%s: unexpected failure", target.name)  # a defect in a dialect must not cost other targets
            return [_report(target, answer, Outcome.FAILED, f"unexpected {type(exc).__name__}, see the daemon's log")]
        notes = [f"{count} lines not read: {why}" for why, count in page.left_out.items()]
        kept = self._shared_out(said, now, notes)
        measured = any(isinstance(reading, Sample) for reading in kept)
        if not measured and not notes:
            notes = [f"{' and '.join(dialect.name for dialect in target.dialects)}: no figure that Vatio reads"]
        return [*kept, _report(target, answer, Outcome.OK if measured else Outcome.NO_DATA, "; ".join(notes))]

    def _said(self, target: _Target, page: Page, now: int) -> Iterator[tuple[_Speaker, Reading]]:
        things: set[Thing | None] = set()
        for speaker, look in target.looks(page, now, self._host):
            for reading in target.reader(speaker).read(look):
                things.add(_thing(reading))
                if len(things) > MAX_THINGS:
                    target.readers.clear()  # they stopped halfway
                    raise CollectorError(f"more than {MAX_THINGS} things on one page")
                yield speaker, reading

    def _shared_out(self, said: Sequence[tuple[_Speaker, Reading]], now: int, notes: list[str]) -> list[Reading]:
        """What is news and not another's to say; a note is added about what is."""
        kept: list[Reading] = []
        own = {_thing(reading) for _, reading in said if isinstance(reading, Entity) and self._is_own(reading)}
        others: dict[_Speaker, set[Thing]] = {}
        for speaker, reading in said:
            thing = _thing(reading)
            if thing in own:
                continue
            if thing is not None:
                claim = self._claims.get(thing)
                if claim is None or claim.speaker == speaker or now - claim.seen_at_ms > HANDED_ON_MS:
                    self._claims[thing] = _Claim(speaker, now)
                else:
                    others.setdefault(claim.speaker, set()).add(thing)
                    continue
            if not isinstance(reading, Entity) or self._is_news(reading):
                kept.append(reading)
        if own:
            notes.append("left out, since this Vatio reads it itself: what is about this machine")
        notes += (_already(speaker, things) for speaker, things in others.items())
        return kept

    def _is_own(self, entity: Entity) -> bool:
        return entity.host == self._host and entity.family in self._own_families

    def _is_news(self, entity: Entity) -> bool:
        thing = (entity.family, entity.key)
        before, self._announced[thing] = self._announced.get(thing), entity
        return before is None or _description(before) != _description(entity)

    def _forget(self, now: int) -> None:
        for thing in [thing for thing, claim in self._claims.items() if now - claim.seen_at_ms > HANDED_ON_MS]:
            del self._claims[thing]
            self._announced.pop(thing, None)


@cache
def _selector(dialects: tuple[Dialect, ...], max_kept_bytes: int) -> Selector:
    return Selector({name for dialect in dialects for name in dialect.series}, max_kept_bytes)


def _by_instance(page: Page) -> dict[str, Page]:
    """The page once per instance; as a whole, under no name, where no series has such a label."""
    if not any("instance" in point.series.labels for points in page.points.values() for point in points):
        return {"": page}
    parts: dict[str, dict[str, list[Point]]] = {}
    for name, points in page.points.items():
        for point in points:
            part = parts.setdefault(point.series.labels.get("instance", ""), {})
            part.setdefault(name, []).append(point)
    return {instance: Page(part, page.helps) for instance, part in parts.items()}


def _newest(points: Sequence[Point], now: int) -> int | None:
    """When the points were measured: now, unless they are stamped; ``None`` when long ago, or without points."""
    if not points:
        return None
    at_ms = max((now if point.at_ms is None else point.at_ms) for point in points)
    return min(at_ms, now) if at_ms >= now - OLDEST_MS else None


def _host(instance: str) -> str:
    """The machine in ``machine:port``, as Prometheus calls its targets."""
    try:
        return urlsplit(f"//{instance}").hostname or instance
    except ValueError:
        return instance


def _thing(reading: Reading) -> Thing | None:
    """What a reading is about; ``None`` for what is nobody's."""
    match reading:
        case LatencySample():
            return DeploymentSample.family, reading.key
        case Entity() | Event():
            return (reading.family, reading.key) if reading.key else None
        case DeviceProcess() | DeviceUser():
            return AcceleratorSample.family, reading.key
        case Assignment():
            return DeploymentSample.family, reading.deployment_key
        case _:
            return (reading.family, reading.key) if isinstance(reading, Sample) else None


def _already(speaker: _Speaker, things: Iterable[Thing]) -> str:
    counts = ", ".join(f"{count} x {family}" for family, count in sorted(Counter(f for f, _ in things).items()))
    return f"left out, since {speaker} reports it already: {counts}; remove one of the two targets"


def _description(entity: Entity) -> tuple[str, str | None, Mapping[str, str]]:
    return entity.host, entity.parent_key, entity.labels


def _report(target: _Target, answer: Answer | Failure, outcome: Outcome, error: str) -> TargetReport:
    return TargetReport(target=target.name, outcome=outcome, duration_seconds=answer.duration_seconds, error=error)


_OTHERS = {
    "windows_": "windows_exporter",
    "container_": "cAdvisor",
    "kube_": "kube-state-metrics",
    "prometheus_": "Prometheus itself",
    "otelcol_": "an OpenTelemetry collector",
}
"""What the series of well-known pages begin with that hold nothing about hardware that Vatio reads."""


def _describe(body: bytes) -> str:
    """What a page seems to be that no dialect knows; none of its words are quoted."""
    engine = next((engine.name for engine in ENGINES if engine.recognises(body)), None)
    if engine is not None:
        return f"this is an inference server ({engine}): name it in [[serving.server]] instead"
    lines = b"\n" + body
    if lines.lstrip().startswith((b"# HELP", b"# TYPE")):
        other = next((name for prefix, name in _OTHERS.items() if f"\n{prefix}".encode() in lines), None)
        return "a metrics page, but of no exporter that Vatio knows" + (f": it seems to be {other}" if other else "")
    return describe_other(body)
