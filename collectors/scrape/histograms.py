"""From cumulative buckets, as servers export them, to the requests that fell into each during an interval.

The rules are Prometheus': a count that fell means that the server began again, so what it shows now is what
was added; each series is followed on its own and only the increases are added up; series or scrapes whose
bounds differ (an upgrade changes them) are never merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from collectors.scrape.exposition import Point

Identity = tuple[str, tuple[tuple[str, str], ...]]
"""Which histogram: the name and all labels but ``le``."""


@dataclass(frozen=True, slots=True)
class Cumulative:
    """A histogram as exported: observations at or below each bound, ascending, the last one infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float | None


@dataclass(frozen=True, slots=True)
class Increase:
    """Observations per bucket (not cumulative) within an interval, and their sum where it is known."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float | None


def histograms(
    name: str, buckets: Iterable[Point], sums: Iterable[Point], counts: Iterable[Point]
) -> dict[Identity, Cumulative]:
    """The histograms of one name, from the lines ``name_bucket``, ``name_sum`` and ``name_count``.

    One with an impossible count or bound, or without a total, is left out.
    """
    sum_of = {point.series.identity: point.value for point in sums}
    count_of = {point.series.identity: point.value for point in counts}
    by_identity: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    for series, value, _ in buckets:
        if series.bound is not None:
            by_identity.setdefault(series.identity, {})[series.bound] = value
    found = {}
    for identity, by_bound in by_identity.items():
        if math.inf not in by_bound and identity in count_of:
            by_bound[math.inf] = count_of[identity]
        bounds = tuple(sorted(by_bound))
        values = [by_bound[bound] for bound in bounds]
        if bounds[-1] == math.inf and all(0 <= value < math.inf for value in values):
            found[name, identity] = Cumulative(bounds, tuple(values), _finite(sum_of.get(identity)))
    return found


def increase(
    before: Mapping[Identity, Cumulative], now: Mapping[Identity, Cumulative], *, new_from_zero: bool
) -> Increase | None:
    """What was added since ``before``, all series together.

    Args:
        before: the histograms at the previous scrape.
        now: the histograms at this one.
        new_from_zero: a series that ``before`` lacks began at zero after it, since servers create many a
            series with its first observation; otherwise its past is unknown and it is left out.

    Returns:
        ``None`` when nothing can be said: no series to compare, or bounds that differ.
    """
    added = []
    for identity, after in now.items():
        earlier = before.get(identity)
        if earlier is not None and earlier.bounds != after.bounds:
            return None
        if earlier is not None:
            added.append(_difference(earlier, after))
        elif new_from_zero:
            added.append(after)
    if not added or any(one.bounds != added[0].bounds for one in added):
        return None
    counts = [math.fsum(column) for column in zip(*(one.counts for one in added), strict=True)]
    return Increase(added[0].bounds, _per_bucket(counts), _total([one.sum for one in added]))


def _difference(before: Cumulative, after: Cumulative) -> Cumulative:
    if any(new < old for old, new in zip(before.counts, after.counts, strict=True)):
        return after
    counts = tuple(new - old for old, new in zip(before.counts, after.counts, strict=True))
    if before.sum is None or after.sum is None or after.sum < before.sum:
        return Cumulative(after.bounds, counts, None)
    return Cumulative(after.bounds, counts, after.sum - before.sum)


def _per_bucket(cumulative: Sequence[float]) -> tuple[float, ...]:
    """Plain counts; a page read amid an update may have a cumulative count below its neighbour's."""
    rising = accumulate(cumulative, max)
    return tuple(upper - lower for lower, upper in pairwise((0.0, *rising)))


def _total(sums: Sequence[float | None]) -> float | None:
    known = [value for value in sums if value is not None]
    return math.fsum(known) if len(known) == len(sums) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value >= 0 else None
