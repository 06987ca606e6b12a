"""The seam between the source and the inference engines: what a file about one engine declares.

A file such as ``vllm.py`` holds one ``Engine`` constant: how to recognise its page, under which names each
version exports a quantity, and in which unit. It contains no fetching and no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from collectors.scrape.exposition import Page, Point
from collectors.scrape.histograms import Cumulative, Identity, histograms
from core.readings import Latency

PROCESS_START = "process_start_time_seconds"  # by the Prometheus client libraries, any engine


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
class Alias:
    """One way to read a quantity off a page.

    Args:
        series: names whose values are added; all of them must be on the page.
        where: a label and its values that count; other series are left out.
        combine: several series of one name into one number.
        convert: into the unit that is stored, or ``None`` if the page does not tell the unit.
        created_late: the server exports a series only from its first event on, so that one which the page
            announces but does not show stands at zero.
    """

    series: tuple[str, ...]
    where: tuple[str, frozenset[str]] | None = None
    combine: Callable[[Sequence[Point]], float] = total
    convert: Callable[[float, Page], float | None] = unchanged
    created_late: bool = False

    def read(self, page: Page) -> float | None:
        """The value in the stored unit; ``None`` when the page does not hold it."""
        values = [self._value(page, name) for name in self.series]
        known = [value for value in values if value is not None]
        return self.convert(math.fsum(known), page) if len(known) == len(values) else None

    def _value(self, page: Page, name: str) -> float | None:
        points = page.points.get(name, [])
        if self.where is not None:
            label, wanted = self.where
            points = [point for point in points if point.series.labels.get(label) in wanted]
        if points:
            return self.combine(points)
        return 0.0 if self.created_late and name in page.helps else None


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a JSON answer of the server holds a text: path of the URL, then keys and indices."""

    path: str
    keys: tuple[str | int, ...]
    tidy: Callable[[str], str] = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An inference engine.

    Args:
        name: as people write it.
        prefix: what the names of its series begin with.
        quantities: field of ``DeploymentSample`` to its aliases, newest name first.
        histograms: kind of latency to the names of its histogram, newest first.
        model_label: the label that holds the model's name; ``None`` if the page does not say it.
        model: where to ask for the name of the model instead.
        version: where to ask for the version.
        also_read: further series that converters look at.
        monotonic_start_header: header of the page with the instant at which the server began, in
            microseconds of its machine's monotonic clock.
    """

    name: str
    prefix: str
    quantities: Mapping[str, tuple[Alias, ...]]
    histograms: Mapping[Latency, tuple[str, ...]] = field(default_factory=dict)
    model_label: str | None = "model_name"
    model: Pointer | None = None
    version: Pointer | None = None
    also_read: tuple[str, ...] = ()
    monotonic_start_header: str | None = None

    def series_names(self) -> Iterator[str]:
        """All series that matter."""
        yield PROCESS_START
        yield from self.also_read
        for aliases in self.quantities.values():
            for alias in aliases:
                yield from alias.series
        for names in self.histograms.values():
            for name in names:
                yield from (f"{name}_bucket", f"{name}_sum", f"{name}_count")

    def recognises(self, kept: bytes) -> bool:
        """Whether the lines kept of a page are of this engine: one at least begins with its prefix."""
        return any(b"\n" + start + self.prefix.encode() in b"\n" + kept for start in (b"", b"# HELP "))

    def by_model(self, page: Page) -> dict[str | None, Page]:
        """The page once per model, with its series and the ones that concern the whole server.

        The key is ``None`` where the page has series of the engine, but none tells the model.
        """
        label = self.model_label
        shared: dict[str, list[Point]] = {}
        models: dict[str | None, dict[str, list[Point]]] = {}
        for name, points in page.points.items():
            for point in points:
                model = point.series.labels.get(label) if label else None
                own = shared if model is None else models.setdefault(model, {})
                own.setdefault(name, []).append(point)
        if not models and any(name.startswith(self.prefix) for name in shared):
            models[None] = {}
        return {model: Page({**shared, **own}, page.helps) for model, own in models.items()}

    def read_quantities(self, page: Page) -> dict[str, float | None]:
        """Every quantity of one model; ``None`` for what is absent or impossible."""
        return {
            quantity: _possible(quantity, next((v for a in aliases if (v := a.read(page)) is not None), None))
            for quantity, aliases in self.quantities.items()
        }

    def read_histograms(self, page: Page) -> dict[Latency, dict[Identity, Cumulative]]:
        """Every kind of latency that the page of one model has."""
        found = {}
        for kind, names in self.histograms.items():
            name = next((name for name in names if f"{name}_bucket" in page.points), None)
            if name is not None:
                lines = (page.points.get(name + suffix, []) for suffix in ("_bucket", "_sum", "_count"))
                found[kind] = histograms(name, *lines)
        return found


def _possible(quantity: str, value: float | None) -> float | None:
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return None if quantity.endswith("_ratio") and value > 1 else value
