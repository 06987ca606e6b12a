"""What stays of a stretch of values: count, min, max, sum, first, last and, of a counter, its increase.

The same figures are kept beside every sealed block and made of any other stretch, so that stretches
can be put together to longer ones without looking at their values again. Arrays run over stretches;
positions index a flat array of values that is ordered by entity and time. Unknown values are NaN and
are passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from storage.codec import Floats, Integers


@dataclass(frozen=True, slots=True)
class Aggregates:
    """One entry per stretch; all but ``count`` are NaN where nothing is known, and where they were not asked for."""

    count: Floats
    min: Floats
    max: Floats
    sum: Floats
    first: Floats
    last: Floats
    increase: Floats  # restarts counted from zero; NaN where a value was seen only once


NAMES = tuple(field.name for field in fields(Aggregates))
ALL = frozenset(NAMES)
OF_GAUGE = frozenset(("min", "max", "sum"))
OF_COUNTER = frozenset(("first", "last", "increase"))


def aggregate(values: Floats, starts: Integers, figures: frozenset[str] = ALL) -> Aggregates:
    """Aggregate stretches of a flat array.

    Args:
        values: ordered by entity and time.
        starts: where each stretch begins; ascending, the first is 0.
        figures: which of ``NAMES`` are wanted. An increase is counted from the stretch's own first value on.
    """
    ends = np.append(starts[1:], len(values))
    with np.errstate(invalid="ignore", over="ignore"):
        complete = not np.isnan(values.sum())  # half the price of looking at each
    if complete:
        return _dense(values, starts, ends, figures)
    known = ~np.isnan(values)
    before = np.concatenate(([0], np.cumsum(known)))  # known values before each position
    first, last = before[starts], before[ends]
    some = last > first
    return spread(_dense(values[known], first[some], last[some], figures), some)


def _dense(values: Floats, starts: Integers, ends: Integers, figures: frozenset[str]) -> Aggregates:
    """``aggregate`` where all values are known and no stretch is empty."""
    unknown = np.full(len(starts), np.nan)

    def made(name: str, make: Callable[[], Floats]) -> Floats:
        return make() if name in figures else unknown

    return Aggregates(
        count=(ends - starts).astype("float64"),
        min=made("min", lambda: np.minimum.reduceat(values, starts)),
        max=made("max", lambda: np.maximum.reduceat(values, starts)),
        sum=made("sum", lambda: np.add.reduceat(values, starts)),
        first=made("first", lambda: values[starts]),
        last=made("last", lambda: values[ends - 1]),
        increase=made("increase", lambda: _increase(values, starts, ends)),
    )


def _increase(values: Floats, starts: Integers, ends: Integers) -> Floats:
    """Growth from a stretch's first value on; after a step back the new value is the growth. One value has none."""
    if not len(values):
        return np.empty(0)
    increase = values[ends - 1] - values[starts]
    fallen = np.flatnonzero(values[1:] < values[:-1])
    if len(fallen):
        stretch = np.searchsorted(starts, fallen, side="right") - 1
        inside = fallen + 1 < ends[stretch]
        np.add.at(increase, stretch[inside], values[fallen[inside]])  # counted from zero, not from there
    increase[ends - starts == 1] = np.nan
    return increase


def spread(parts: Aggregates, some: Integers | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Aggregates:
    """Lay out what is known of some of many stretches, chosen by a mask; the others know nothing."""
    laid = []
    for name in NAMES:
        out = np.full(len(some), 0.0 if name == "count" else np.nan)
        out[some] = getattr(parts, name)
        laid.append(out)
    return Aggregates(*laid)


def join(parts: Aggregates, starts: Integers, entity_starts: Integers, figures: frozenset[str] = ALL) -> Aggregates:
    """Put successive stretches together.

    Args:
        parts: ordered by entity and time, every one with a known value.
        starts: where each longer stretch begins.
        entity_starts: where each entity begins: there is nothing before it to grow from.
        figures: as for ``aggregate``.
    """
    unknown = np.full(len(starts), np.nan)
    ends = np.append(starts[1:], len(parts.count))
    increase = _joined_increase(parts, starts, ends, entity_starts) if "increase" in figures else unknown
    if len(starts) == len(parts.count):
        return Aggregates(parts.count, parts.min, parts.max, parts.sum, parts.first, parts.last, increase)
    return Aggregates(
        count=np.add.reduceat(parts.count, starts),
        min=np.minimum.reduceat(parts.min, starts),
        max=np.maximum.reduceat(parts.max, starts),
        sum=np.add.reduceat(parts.sum, starts),
        first=parts.first[starts],
        last=parts.last[ends - 1],
        increase=increase,
    )


def _joined_increase(parts: Aggregates, starts: Integers, ends: Integers, entity_starts: Integers) -> Floats:
    growth = np.where(np.isnan(parts.increase), 0.0, parts.increase)
    step = parts.first[1:] - parts.last[:-1]
    growth[1:] += np.where(step < 0, parts.first[1:], step)
    own = parts.increase[entity_starts]
    growth[entity_starts] = np.nan_to_num(own)
    increase: Floats = np.add.reduceat(growth, starts)
    single = ends - starts == 1
    at_start = np.zeros(len(parts.count), "bool")
    at_start[entity_starts[np.isnan(own)]] = True
    increase[single & at_start[starts]] = np.nan
    return increase
