"""One inference server between two scrapes: what was there before, so what happened since.

Counters are passed on as the server shows them, and a reader adds up their increases (a fall is a restart).
That needs a value to start from. When the process provably began while it was being watched, its totals
belong to that time and nothing else, so a sample of zeros is put at the process's start: from there on the
increases add up to what clients counted, from the first token on. The same zeros make a restart visible
whose new totals have already passed the old ones. In all other cases the first scrape is only a beginning:
what a server did before anyone looked is not this interval's traffic.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from collectors.scrape.exposition import Page, PageReader
from collectors.scrape.fetch import Answer
from collectors.scrape.histograms import Cumulative, Identity, Increase, increase
from collectors.scrape.texts import MAX_TEXT, presentable
from collectors.sources.serving.engine import PROCESS_START, Engine, Pointer
from collectors.sources.serving.listeners import Behind
from collectors.sources.serving.names import Census
from collectors.sources.serving.recognition import recognise
from collectors.sources.serving.totals import MinuteTotals, PartTotals
from core.catalog import FAMILIES
from core.errors import CollectorError
from core.metric import Kind
from core.readings import DeploymentSample, Entity, Event, Latency, LatencySample, Reading, Severity

UNKNOWN_MODEL = "unknown model"
MAX_MODELS = 256
MAX_REMEMBERED = 1024
MAX_ADAPTERS = 32

_ASK_AGAIN_MS = 60_000
_CLOCK_SLACK_SECONDS = 5.0
_COUNTERS = frozenset(metric.name for metric in FAMILIES["deployment"].metrics if metric.kind is Kind.COUNTER)


@dataclass(frozen=True, slots=True)
class Start:
    """When the server's process began. ``token`` changes with every start, even if the instant is unknown."""

    token: str
    at_seconds: float | None  # Unix time
    monotonic_seconds: float | None = None  # by the clock of the server's machine


@dataclass(frozen=True, slots=True)
class Scrape:
    """One page, read, and whether the server began again since the one before.

    ``is_new_minute`` is of servers that tell about single minutes: whether this one is still to be counted.
    """

    engine: Engine
    page: Page
    start: Start | None
    models: Mapping[str | None, Page]
    values: Mapping[str | None, Mapping[str, float | None]]
    restarted: bool
    is_new_minute: bool

    @property
    def note(self) -> str:
        """What of the page could not be read, if anything."""
        return "; ".join(f"{reason} (left out: {count})" for reason, count in self.page.left_out.items())


@dataclass(slots=True)
class _Deployment:
    """What the previous scrape showed of one model."""

    counters: Mapping[str, float] = field(default_factory=dict)
    histograms: dict[Latency, dict[Identity, Cumulative]] = field(default_factory=dict)
    announced: Mapping[str, str] | None = None


class Server:
    """What is remembered of one server. No fetching here: pages come in, readings go out.

    Args:
        url: base URL, the beginning of every deployment's key.
        host: the machine it runs on.
    """

    def __init__(self, url: str, host: str) -> None:
        self.url = url
        self.host = host
        self._engine: Engine | None = None
        self._start: Start | None = None
        self._seen_at_ms = 0
        self._deployments: dict[str | None, _Deployment] = {}
        self._forgot_at_ms = 0
        self._told: dict[Pointer, str] = {}
        self._unanswered: set[Pointer] = set()
        self._ask_at_ms = 0
        self._begin_reading(None)

    @property
    def is_per_minute(self) -> bool:
        """Whether its pages are about whole minutes."""
        return self._engine is not None and self._engine.per_minute

    def open(self, answer: Answer, now_ms: int) -> Scrape:
        """Read a page.

        Args:
            answer: with what ``recognition.keep`` kept of it.
            now_ms: when it was taken.

        Raises:
            CollectorError: it is not an inference server's.
        """
        engine = recognise(answer.body)
        if engine is not self._reads:
            self._begin_reading(engine)
        page = self._reader.read(answer.body)
        models = engine.by_model(page)
        if len(models) > MAX_MODELS:
            raise CollectorError(f"more than {MAX_MODELS} models on one page")
        is_new_minute = engine.per_minute and self._minutes.is_new(now_ms)
        values = self._values(engine, models, is_new_minute)
        start = _start(engine, page, answer.headers)
        restarted = self._restarted(engine, start, values)
        return Scrape(engine, page, start, models, values, restarted, is_new_minute)

    def questions(self, scrape: Scrape, now_ms: int) -> list[Pointer]:
        """What the page does not say and the server is to be asked: the model's name, the version."""
        if self.may_have_changed(scrape):
            self._unanswered = {pointer for pointer in (scrape.engine.model, *scrape.engine.version) if pointer}
            self._ask_at_ms = now_ms
        if now_ms < self._ask_at_ms:
            return []
        self._ask_at_ms = now_ms + _ASK_AGAIN_MS
        return list(self._unanswered)

    def learn(self, pointer: Pointer, body: bytes) -> None:
        """Remember the answer to a question, if it holds one."""
        try:
            node = json.loads(body)
            for key in pointer.keys:
                node = node[key]
        except (ValueError, LookupError, TypeError, RecursionError):
            return
        if isinstance(node, str) and (text := presentable(pointer.tidy(node))):
            self._told[pointer] = text
            self._unanswered.discard(pointer)
            if self._reads is not None and pointer in self._reads.version:
                self._unanswered -= set(self._reads.version)

    def may_have_changed(self, scrape: Scrape) -> bool:
        """Whether version, model and processes may be others than at the previous scrape."""
        return self._engine is None or scrape.restarted

    def readings(self, scrape: Scrape, now_ms: int, *, watched_since_ms: int, behind: Behind | None) -> list[Reading]:
        """What a scrape says, after its questions were answered.

        Args:
            scrape: of this server, the latest.
            now_ms: when it was taken.
            watched_since_ms: when the server was looked for the first time.
            behind: the processes that serve it, where they are known.
        """
        readings: list[Reading] = []
        if scrape.restarted:
            known = [m for m in scrape.models if m in self._deployments] or list(scrape.models or self._deployments)
            readings += [self._restart_event(self._key(scrape.engine, model), now_ms) for model in known]
            self._deployments.clear()
            self._adapters.clear()
        began = self._began_at_seconds(scrape, behind)
        self._note_adapters(scrape)
        blind_until_ms = max(watched_since_ms, self._forgot_at_ms)
        appeared = began is not None and blind_until_ms < min(began * 1000, now_ms)
        for model in scrape.models:
            readings += self._deployment(scrape, model, now_ms, began, from_zero=scrape.restarted or appeared)
        readings += self._news(scrape, now_ms)
        self._engine, self._seen_at_ms = scrape.engine, now_ms
        self._forget_surplus(scrape, now_ms)
        return readings

    def keys(self, scrape: Scrape) -> tuple[str, ...]:
        """The keys of the deployments on a page."""
        return tuple(self._key(scrape.engine, model) for model in scrape.models)

    def announce_again(self) -> None:
        """Report every ``Entity`` once more."""
        for deployment in self._deployments.values():
            deployment.announced = None

    def _begin_reading(self, engine: Engine | None) -> None:
        """Forget how another engine's pages were read."""
        self._reads = engine
        drops = engine is not None and (engine.keeps_labels or engine.repeats_labels)
        self._reader = PageReader(engine.keeps_label if engine is not None and drops else None)
        self._parts = PartTotals()
        self._minutes = MinuteTotals()
        self._census = Census()
        self._adapters: set[str] = set()

    def _values(
        self, engine: Engine, models: Mapping[str | None, Page], is_new_minute: bool
    ) -> Mapping[str | None, Mapping[str, float | None]]:
        values = {model: engine.read_quantities(part) for model, part in models.items()}
        totals: Mapping[str | None, Mapping[str, float]] = {}
        if engine.per_minute:
            totals = self._minutes.add({model: _counters(own) for model, own in values.items()}, is_new=is_new_minute)
        elif engine.part_label:
            totals = self._parts.add(
                {
                    model: {part: _counters(engine.read_quantities(own)) for part, own in engine.by_part(page).items()}
                    for model, page in models.items()
                }
            )
        return {model: {**own, **totals.get(model, {})} for model, own in values.items()}

    def _restarted(
        self, engine: Engine, start: Start | None, values: Mapping[str | None, Mapping[str, float | None]]
    ) -> bool:
        if self._engine is None:
            return False
        if engine.name != self._engine.name:
            return True
        if start is not None and self._start is not None and start.token != self._start.token:
            return True
        return any(
            (value := values.get(model, {}).get(name)) is not None and value < before
            for model, deployment in self._deployments.items()
            for name, before in deployment.counters.items()
        )

    def _began_at_seconds(self, scrape: Scrape, behind: Behind | None) -> float | None:
        start = scrape.start
        if start is None:
            self._start = None
        elif self._start is None or self._start.token != start.token or self._start.at_seconds is None:
            began = start.at_seconds if start.at_seconds is not None else _local_start(start, behind)
            self._start = Start(start.token, began)
        return self._start.at_seconds if self._start else None

    def _deployment(
        self, scrape: Scrape, model: str | None, now_ms: int, began: float | None, *, from_zero: bool
    ) -> Iterator[Reading]:
        seen_before = model in self._deployments
        deployment = self._deployments.setdefault(model, _Deployment())
        key = self._key(scrape.engine, model)
        labels = self._labels(scrape, model)
        if labels != deployment.announced:
            deployment.announced = labels
            yield Entity(observed_at_ms=now_ms, family=DeploymentSample.family, key=key, host=self.host, labels=labels)
        values = scrape.values[model]
        counters = _counters(values)
        if from_zero and not seen_before and any(counters.values()):
            yield from self._zeros(key, counters, now_ms, began)
        yield DeploymentSample(key=key, observed_at_ms=now_ms, process_started_at_seconds=began, **values)
        deployment.counters = counters
        for kind, now in scrape.engine.read_histograms(scrape.models[model]).items():
            if scrape.engine.per_minute:
                added = _of_minute(now) if scrape.is_new_minute else None
            else:
                before = deployment.histograms.get(kind, {})
                added = increase(before, now, new_from_zero=seen_before or from_zero)
                deployment.histograms[kind] = {**before, **now} if len(before) < MAX_REMEMBERED else now
            if added is not None:
                yield LatencySample(
                    key=key,
                    kind=kind,
                    observed_at_ms=now_ms,
                    upper_bounds_seconds=added.bounds,
                    increments=added.counts,
                    sum_seconds=added.sum,
                )

    def _zeros(
        self, key: str, counters: Mapping[str, float], now_ms: int, began: float | None
    ) -> Iterator[DeploymentSample]:
        """Where the counters began: at the process's start if it is known, else just before this scrape."""
        at_ms = now_ms - 1 if began is None else min(int(began * 1000), now_ms - 1)
        at_ms = max(at_ms, self._seen_at_ms + 1)
        if at_ms < now_ms:
            zeros = dict.fromkeys(counters, 0.0)
            yield DeploymentSample(key=key, observed_at_ms=at_ms, process_started_at_seconds=began, **zeros)

    def _labels(self, scrape: Scrape, model: str | None) -> dict[str, str]:
        engine = scrape.engine
        labels = {"engine": engine.name, "url": self.url, "model": self._model(engine, model), "host": self.host}
        if version := self._version(engine):
            labels["version"] = version
        if self._adapters:
            labels["adapters"] = ", ".join(sorted(self._adapters))
        if engine.gateway:
            labels["role"] = "gateway"
        return labels

    def _version(self, engine: Engine) -> str:
        return next((self._told[pointer] for pointer in engine.version if pointer in self._told), "")

    def _note_adapters(self, scrape: Scrape) -> None:
        """A page names those in use; the others are remembered, so that the description keeps still."""
        for page in scrape.models.values():
            for name in sorted(scrape.engine.read_adapters(page)):
                if len(self._adapters) < MAX_ADAPTERS:
                    self._adapters.add(_distinct(name))

    def _news(self, scrape: Scrape, now_ms: int) -> Iterator[Event]:
        if not scrape.models:
            return
        worked = any(value for own in scrape.values.values() for value in _counters(own).values())
        version = self._version(scrape.engine)
        if news := self._census.news(scrape.engine, scrape.page, version, worked=worked):
            yield Event(
                observed_at_ms=now_ms,
                kind="unknown metrics",
                severity=news.severity,
                message=f"{scrape.engine.name} {version} at {self.url} {news}".replace("  ", " "),
                family=DeploymentSample.family,
                key=self._key(scrape.engine, next(iter(scrape.models))),
            )

    def _restart_event(self, key: str, now_ms: int) -> Event:
        return Event(
            observed_at_ms=now_ms,
            kind="restart",
            severity=Severity.WARNING,
            message=f"{key} restarted; its counters began again at zero",
            family=DeploymentSample.family,
            key=key,
        )

    def _key(self, engine: Engine, model: str | None) -> str:
        return f"{self.url} {self._model(engine, model)}"

    def _model(self, engine: Engine, model: str | None) -> str:
        told = self._told.get(engine.model) if engine.model is not None else None
        return (_distinct(model) if model is not None else told) or UNKNOWN_MODEL

    def _forget_surplus(self, scrape: Scrape, now_ms: int) -> None:
        """A server that invents models must not fill the memory; what is forgotten cannot begin at zero again."""
        if len(self._deployments) > MAX_REMEMBERED:
            self._deployments = {model: self._deployments[model] for model in scrape.models}
            self._forgot_at_ms = now_ms


def _start(engine: Engine, page: Page, headers: Mapping[str, str]) -> Start | None:
    if engine.part_label:  # the page is not of the processes that count
        return None
    exported = page.single(PROCESS_START)
    if exported is not None and 0 < exported < float("inf"):
        return Start(repr(exported), exported)
    microseconds = headers.get(engine.monotonic_start_header or "", "")
    if microseconds.isdecimal() and len(microseconds) <= 18:
        return Start(microseconds, None, int(microseconds) / 1e6)
    return None


def _local_start(start: Start, behind: Behind | None) -> float | None:
    """Unix time of an instant of the monotonic clock, if that is the clock of this machine.

    A port that is forwarded from elsewhere also looks local; there the instant lies before the process that
    forwards it, or in the future.
    """
    if start.monotonic_seconds is None or behind is None or behind.started_at_seconds is None:
        return None
    age = time.monotonic() - start.monotonic_seconds
    began = time.time() - age
    return began if age >= 0 and began >= behind.started_at_seconds - _CLOCK_SLACK_SECONDS else None


def _counters(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name in _COUNTERS and value is not None}


def _of_minute(histograms: Mapping[Identity, Cumulative]) -> Increase:
    (one,) = histograms.values()
    return Increase(one.bounds, one.counts, one.sum)


def _distinct(name: str) -> str:
    """A name fit to be shown; one that had to be changed or cut is told from others that would look the same."""
    clean = presentable(name)
    if clean == name:
        return name
    mark = blake2b(name.encode(errors="replace"), digest_size=4).hexdigest()
    return f"{clean[: MAX_TEXT - len(mark) - 1]}~{mark}"
