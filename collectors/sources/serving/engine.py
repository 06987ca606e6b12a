"""The seam between the source and the inference engines: what a file about one engine declares.

A file such as ``vllm.py`` holds one ``Engine`` constant: how to recognise its page, under which names each
version exports a quantity, and in which unit. It contains no fetching and no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from collectors.scrape.exposition import Page, Point
from collectors.scrape.histograms import Cumulative, Identity, histograms
from core.readings import Latency

METRICS_PATH = "/metrics"
PROCESS_START = "process_start_time_seconds"  # by the Prometheus client libraries, any engine

_LINE_STARTS = (b"\n", b"\n# HELP ", b"\n# TYPE ")
_UNNAMED = frozenset(("", "None"))  # label values that name no model
_OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
_OF_RUNTIMES = ("python_", "process_", "http_", "go_", "promhttp_")


def total(points: Sequence[Point]) -> float:
    """Adds up the series of a quantity: engines of a data-parallel group, reasons, pids."""
    return math.fsum(point.value for point in points)


def average(points: Sequence[Point]) -> float:
    """For shares of equal parts, such as the caches of data-parallel engines."""
    return fmean(point.value for point in points)


def unchanged(value: float, page: Page) -> float | None:
    """The converter of what is exported in the unit that Vatio stores."""
    return value


@dataclass(frozen=True, slots=True)
class Where:
    """Which series count: those whose label has one of the values, or with ``but`` all others.

    A series without the label counts as one whose label is empty.
    """

    label: str
    values: frozenset[str]
    but: bool = False

    def holds(self, point: Point) -> bool:
        """Whether a line counts."""
        return (point.series.labels.get(self.label, "") in self.values) != self.but


def among(label: str, *values: str) -> Where:
    """The series whose label has one of the values."""
    return Where(label, frozenset(values))


def outside(label: str, *values: str) -> Where:
    """The series whose label has none of the values."""
    return Where(label, frozenset(values), but=True)


def matching(page: Page, name: str, where: Where | None) -> Sequence[Point]:
    """The lines of a series that count."""
    points = page.points.get(name, ())
    return points if where is None else [point for point in points if where.holds(point)]


@dataclass(frozen=True, slots=True)
class Alias:
    """One way to read a quantity off a page.

    Args:
        series: names whose values are added; all of them must be on the page.
        where: which of the lines count.
        combine: several series of one name into one number.
        convert: into the unit that is stored, or ``None`` if the page does not tell the unit.
        created_late: the server exports a series only from its first event on, so that one which the page
            announces but does not show stands at zero.
    """

    series: tuple[str, ...]
    where: Where | None = None
    combine: Callable[[Sequence[Point]], float] = total
    convert: Callable[[float, Page], float | None] = unchanged
    created_late: bool = False

    def read(self, page: Page) -> float | None:
        """The value in the stored unit; ``None`` when the page does not hold it."""
        values = [self._value(page, name) for name in self.series]
        known = [value for value in values if value is not None]
        return self.convert(math.fsum(known), page) if len(known) == len(values) else None

    def _value(self, page: Page, name: str) -> float | None:
        if points := matching(page, name, self.where):
            return self.combine(points)
        return 0.0 if self.created_late and name in page.helps else None


class Timing(Protocol):
    """One way to read a latency off a page."""

    def series(self) -> tuple[str, ...]:
        """The names it needs."""

    def read(self, page: Page) -> dict[Identity, Cumulative]:
        """Every histogram of it, in seconds; empty when the page has none."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """A latency of which the server keeps a histogram.

    Args:
        name: of the histogram, without ``_bucket``.
        where: which of the lines count.
        per_second: how many of the server's units make a second.
    """

    name: str
    where: Where | None = None
    per_second: float = 1.0

    def series(self) -> tuple[str, ...]:
        """The names it needs."""
        return tuple(self.name + suffix for suffix in _OF_HISTOGRAMS)

    def read(self, page: Page) -> dict[Identity, Cumulative]:
        """Every histogram of it, in seconds."""
        found = histograms(self.name, *(matching(page, name, self.where) for name in self.series()))
        return found if self.per_second == 1.0 else {key: self._seconds(one) for key, one in found.items()}

    def _seconds(self, one: Cumulative) -> Cumulative:
        total_seconds = None if one.sum is None else one.sum / self.per_second
        return Cumulative(tuple(bound / self.per_second for bound in one.bounds), one.counts, total_seconds)


@dataclass(frozen=True, slots=True)
class Mean:
    """A latency of which the server only adds up the time: one bucket without a bound.

    The mean is exact and quantiles stay unknown.

    Args:
        sum: the time of all requests.
        count: how many requests there were, with the same labels.
        per_second: how many of the server's units make a second.
    """

    sum: str
    count: str
    per_second: float = 1.0

    def series(self) -> tuple[str, ...]:
        """The names it needs."""
        return (self.sum, self.count)

    def read(self, page: Page) -> dict[Identity, Cumulative]:
        """One bucket for each series that has both."""
        counts = {point.series.identity: point.value for point in page.points.get(self.count, ())}
        found = {}
        for point in page.points.get(self.sum, ()):
            identity, count = point.series.identity, counts.get(point.series.identity, math.nan)
            if math.isfinite(point.value) and 0 <= count < math.inf:
                found[self.sum, identity] = Cumulative((math.inf,), (count,), point.value / self.per_second)
        return found


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a JSON answer of the server holds a text: path of the URL, then keys and indices."""

    path: str
    keys: tuple[str | int, ...]
    tidy: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Adapters:
    """The series whose labels list the LoRA adapters in use, with commas between them."""

    series: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """An inference engine.

    Args:
        name: as people write it.
        prefixes: what the names of its series begin with.
        marks: series by which its page is known, all of them together; default: any with one of the prefixes.
        path: of its page.
        rewrite: turns an answer that is no metrics page into one; only where it is asked at ``path``.
        quantities: field of ``DeploymentSample`` to its aliases, newest name first.
        histograms: kind of latency to the ways to read it, newest first.
        model_labels: the labels that hold the model's name, the first that does counts; empty if the page
            does not say it.
        model_series: series that only models of this server have, where others also carry names that clients
            made up; empty if there is no such danger.
        model: where to ask for the name of the model instead.
        version: where to ask for the version.
        adapters: where the page lists LoRA adapters.
        also_read: further series that converters look at.
        ignored: names of series that are known and not needed; one that ends with ``*`` is their beginning.
        optional: quantities and latencies that its newest version shows only where a feature is on, or no more.
        keeps_labels: the only labels that are looked at, where others are nobody's business. Series that are
            alike without them are added up.
        repeats_labels: ranks that all say the same: their series are taken for one, and the largest counts.
        part_label: tells processes apart that come and go while the page stays.
        per_minute: every series is about the last complete minute.
        gateway: forwards requests to other servers, which count the same tokens.
        monotonic_start_header: header of the page with the instant at which the server began, in
            microseconds of its machine's monotonic clock.
    """

    name: str
    prefixes: tuple[str, ...]
    marks: tuple[str, ...] = ()
    path: str = METRICS_PATH
    rewrite: Callable[[bytes], bytes] | None = None
    quantities: Mapping[str, tuple[Alias, ...]]
    histograms: Mapping[Latency, tuple[Timing, ...]] = field(default_factory=dict)
    model_labels: tuple[str, ...] = ("model_name",)
    model_series: tuple[str, ...] = ()
    model: Pointer | None = None
    version: tuple[Pointer, ...] = ()
    adapters: Adapters | None = None
    also_read: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    keeps_labels: frozenset[str] = frozenset()
    repeats_labels: frozenset[str] = frozenset()
    part_label: str = ""
    per_minute: bool = False
    gateway: bool = False
    monotonic_start_header: str | None = None

    def series_names(self) -> Iterator[str]:
        """All series that matter."""
        yield from self._about_server()
        yield from self.marks
        yield from self.model_series
        for aliases in self.quantities.values():
            for alias in aliases:
                yield from alias.series
        for timings in self.histograms.values():
            for timing in timings:
                yield from timing.series()

    def recognises(self, page: bytes) -> bool:
        """Whether a page, or the lines kept of one, is of this engine."""
        lines = b"\n" + page
        if self.marks:
            return all(_begins_line(mark, lines) for mark in self.marks)
        return any(_begins_line(prefix, lines) for prefix in self.prefixes)

    def knows(self, name: str) -> bool:
        """Whether a name that a page declares is no news."""
        plain = _plain(name)
        return (
            not self._is_own(name)
            or name.endswith("_created")  # when a series began, by the Prometheus client of Python
            or any(plain == _plain(known) for known in self.series_names())
            or any(plain == _plain(known) or _within(name, known) for known in self.ignored)
        )

    def missing(self, page: Page) -> frozenset[str]:
        """Quantities and latencies that its newest version has and this page neither shows nor declares."""
        shown = {_plain(name) for name in (*page.points, *page.types, *page.helps)}
        needs: dict[str, Iterable[tuple[str, ...]]] = {
            **{quantity: [alias.series for alias in aliases] for quantity, aliases in self.quantities.items()},
            **{kind.value: [timing.series() for timing in timings] for kind, timings in self.histograms.items()},
        }
        return frozenset(
            wanted
            for wanted, ways in needs.items()
            if wanted not in self.optional and not any(shown.issuperset(map(_plain, way)) for way in ways)
        )

    def keeps_label(self, name: str) -> bool:
        """Whether a label is looked at."""
        return name not in self.repeats_labels and (not self.keeps_labels or name in self.keeps_labels)

    def by_model(self, page: Page) -> dict[str | None, Page]:
        """The page once per model, with its series and the ones that concern the whole server.

        The key is ``None`` where the page has series of the engine, but none tells the model. What a server
        with several models says without a model's name belongs to none of them.
        """
        shared: dict[str, list[Point]] = {}
        models: dict[str, dict[str, list[Point]]] = {}
        for name, points in page.points.items():
            for model, own in self._split(points).items():
                (shared if model is None else models.setdefault(model, {}))[name] = own
        if self.model_series:
            models = {model: own for model, own in models.items() if any(name in own for name in self.model_series)}
        if not models and not self.model_series and any(self._is_own(name) for name in shared):
            return {None: page}
        if len(models) > 1:
            shared = {name: points for name, points in shared.items() if name in set(self._about_server())}
        return {model: Page({**shared, **own}, page.helps, page.types, page.left_out) for model, own in models.items()}

    def by_part(self, page: Page) -> dict[str, Page]:
        """The page of one model once per process that serves it."""
        parts: dict[str, dict[str, list[Point]]] = {}
        for name, points in page.points.items():
            for point in points:
                part = parts.setdefault(point.series.labels.get(self.part_label, ""), {})
                part.setdefault(name, []).append(point)
        return {part: Page(points, page.helps) for part, points in parts.items()}

    def read_quantities(self, page: Page) -> dict[str, float | None]:
        """Every quantity of one model; ``None`` for what is absent or impossible."""
        return {
            quantity: _possible(quantity, next((v for a in aliases if (v := a.read(page)) is not None), None))
            for quantity, aliases in self.quantities.items()
        }

    def read_histograms(self, page: Page) -> dict[Latency, dict[Identity, Cumulative]]:
        """Every kind of latency that the page of one model has."""
        read = {
            kind: next((found for timing in timings if (found := timing.read(page))), {})
            for kind, timings in self.histograms.items()
        }
        return {kind: found for kind, found in read.items() if found}

    def read_adapters(self, page: Page) -> frozenset[str]:
        """The LoRA adapters that the page of one model names."""
        if self.adapters is None:
            return frozenset()
        lists = (
            point.series.labels.get(label, "")
            for point in page.points.get(self.adapters.series, ())
            for label in self.adapters.labels
        )
        return frozenset(name.strip() for names in lists for name in names.split(",") if name.strip())

    def _is_own(self, name: str) -> bool:
        return name.startswith(self.prefixes) and not name.startswith(_OF_RUNTIMES)

    def _about_server(self) -> Iterator[str]:
        yield PROCESS_START
        yield from self.also_read
        if self.adapters is not None:
            yield self.adapters.series

    def _split(self, points: Sequence[Point]) -> dict[str | None, list[Point]]:
        split: dict[str | None, list[Point]] = {}
        for point in points:
            labels = point.series.labels
            model = next((text for label in self.model_labels if (text := labels.get(label, "")) not in _UNNAMED), None)
            split.setdefault(model, []).append(point)
        if self.keeps_labels or self.repeats_labels:
            combine = max if self.repeats_labels else math.fsum
            return {model: _alike(own, combine) for model, own in split.items()}
        return split


def _alike(points: Sequence[Point], combine: Callable[[list[float]], float]) -> list[Point]:
    """One line for all that became alike when labels were left out."""
    groups: dict[tuple[object, ...], list[Point]] = {}
    for point in points:
        groups.setdefault((point.series.bound, point.series.identity), []).append(point)
    return [group[0]._replace(value=combine([point.value for point in group])) for group in groups.values()]


def _begins_line(text: str, lines: bytes) -> bool:
    return any(start + text.encode() in lines for start in _LINE_STARTS)


def _plain(name: str) -> str:
    """The name of a metric, without what its series or a version of its format add."""
    for suffix in (*_OF_HISTOGRAMS, "_total"):
        name = name.removesuffix(suffix)
    return name


def _within(name: str, beginning: str) -> bool:
    return beginning.endswith("*") and name.startswith(beginning[:-1])


def _possible(quantity: str, value: float | None) -> float | None:
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return None if quantity.endswith("_ratio") and value > 1 else value
