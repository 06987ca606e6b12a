"""Running totals where a server keeps none, or not in one piece.

They begin at zero with the first page: what a server did before anyone looked is not this interval's. From there on
they only grow, so that a reader who adds up increases counts everything that was seen, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE_MS = 60_000
SETTLED_MS = 20_000  # into the next minute: by then every clock agrees which minute was the last full one
MAX_REMEMBERED = 20_000

Model = str | None
Counters = Mapping[str, float]
"""Quantity to its value."""


@dataclass(slots=True)
class PartTotals:
    """Totals over processes that come and go, each of which counts on its own."""

    _totals: dict[tuple[Model, str], float] = field(default_factory=dict)
    _before: dict[tuple[Model, str, str], float] = field(default_factory=dict)
    _begun: bool = False

    def add(self, parts: Mapping[Model, Mapping[str, Counters]]) -> dict[Model, dict[str, float]]:
        """The totals of each model after a page with the counters of each of its parts."""
        shown: dict[tuple[Model, str, str], float] = {}
        found: dict[Model, dict[str, float]] = {}
        for model, counters_of in parts.items():
            for part, counters in counters_of.items():
                for name, value in counters.items():
                    shown[model, part, name] = value
                    total = self._totals.get((model, name), 0.0) + self._added((model, part, name), value)
                    self._totals[model, name] = found.setdefault(model, {})[name] = total
        self._before = {**self._before, **shown} if len(self._before) < MAX_REMEMBERED else shown
        self._totals = _bounded(self._totals, found)
        self._begun = True
        return found

    def _added(self, which: tuple[Model, str, str], value: float) -> float:
        if not self._begun:
            return 0.0
        before = self._before.get(which, 0.0)
        return value - before if value >= before else value


@dataclass(slots=True)
class MinuteTotals:
    """Totals of what is told about single minutes. A minute that nobody asked about is unknown and adds nothing."""

    _totals: dict[tuple[Model, str], float] = field(default_factory=dict)
    _counted: int | None = None  # the last minute that is in the totals, or was over before the first page

    def is_new(self, now_ms: int) -> bool:
        """Whether a page of this instant is about a minute that is still to be counted; asked once per page."""
        minute = now_ms // MINUTE_MS - 1
        counted, self._counted = self._counted, max(minute, self._counted or minute)
        return counted is not None and minute > counted

    def add(self, minute: Mapping[Model, Counters], *, is_new: bool) -> dict[Model, dict[str, float]]:
        """The totals of each model after a page with the counts of one minute."""
        found: dict[Model, dict[str, float]] = {}
        for model, counters in minute.items():
            for name, value in counters.items():
                total = self._totals.get((model, name), 0.0) + (value if is_new else 0.0)
                self._totals[model, name] = found.setdefault(model, {})[name] = total
        self._totals = _bounded(self._totals, found)
        return found


def is_due(now_ms: int, asked_at_ms: int | None) -> bool:
    """Whether to ask a server of minutes: once in each, when the one before is settled, or else a minute later."""
    if asked_at_ms is None or now_ms - asked_at_ms >= MINUTE_MS:
        return True
    return now_ms % MINUTE_MS >= SETTLED_MS and now_ms // MINUTE_MS > (asked_at_ms - SETTLED_MS) // MINUTE_MS


def _bounded(totals: dict[tuple[Model, str], float], found: Mapping[Model, Counters]) -> dict[tuple[Model, str], float]:
    """Totals of models that never come back must not pile up."""
    if len(totals) <= MAX_REMEMBERED:
        return totals
    return {(model, name): total for model, counters in found.items() for name, total in counters.items()}
