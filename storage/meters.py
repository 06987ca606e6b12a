"""Energy of a window by the two meters of a device: what its counter grew by, and power samples, integrated.

Of a sealed span that lies within the window and was sampled at an even pace, the aggregates beside its block
tell both. Only what is cut by the window, was sampled unevenly or is not sealed yet is read sample by sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, FromClause, and_, case, func, select
from xxhash import xxh3_128_digest

from analytics.formulas import energy as formulas
from analytics.formulas.sampling import usual_intervals
from storage import schema, series
from storage.blocks import by_span
from storage.codec import Floats, Integers
from storage.schema import SPAN_MS
from storage.series import Rows, merged
from storage.steps import LOOKBACK_MS, TIMES

COUNTER, POWER = "energy_joules_total", "power_watts"
EVEN = 1e-3
"""At an even pace the mean of all instants is the middle between the first and the last, but for this part of the time
from one to the other: then a mean over samples is a mean over time."""


@dataclass(frozen=True, slots=True)
class Metered:
    """One entry per entity that was sampled, in their order; NaN where a meter told nothing.

    Energy (J) by counter and by power samples, the time (s) that each of them covers, and the interval of the newest
    samples (s).
    """

    entity_ids: Integers
    counted_joules: Floats
    counted_seconds: Floats
    sampled_joules: Floats
    sampled_seconds: Floats
    interval_seconds: Floats


@dataclass(frozen=True, slots=True)
class _Meter:
    """What one meter says of stretches of samples: its known values at either end (at s), and the energy between."""

    known: Floats  # how many
    first: Floats
    first_at: Floats
    last: Floats
    last_at: Floats
    joules: Floats
    seconds: Floats


_AnyFloats = formulas.Floats
_JoulesOfSteps = Callable[[_AnyFloats, _AnyFloats, _AnyFloats, _AnyFloats], _AnyFloats]
"""Energy (J) by the values before and after each step, how long it is and may be (s); NaN where it is not known."""

_METER = tuple(field.name for field in fields(_Meter))


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Samples of one entity that follow each other, one entry per stretch."""

    entity_ids: Integers
    first_at: Floats
    interval: Floats  # 0 where a sample is alone
    counter: _Meter
    power: _Meter


def read(connection: Connection, family: str, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> Metered:
    """What both meters say of ``[start_ms, end_ms)``; the step that leads into the window counts as a whole.

    Args:
        connection: within one transaction, so that nothing is sealed in between.
        family: "accelerator" or "cpu".
        entity_ids: of the family.
        start_ms: window start.
        end_ms: window end.
    """
    inner_ms = min(-(-start_ms // SPAN_MS) * SPAN_MS, end_ms)
    head = series.read(connection, family, (COUNTER, POWER), entity_ids, start_ms - LOOKBACK_MS, inner_ms)
    hot = series.rows(connection, family, (COUNTER, POWER), entity_ids, inner_ms, end_ms)
    spans = _spans(connection, family, entity_ids, inner_ms, end_ms)
    whole = (spans["even"] > 0) & (spans["last_ms"] < _until(hot, spans["entity_id"], end_ms))
    samples = [_leading_in(rows, start_ms) for rows in head.by_entity()]
    samples += _samples(connection, family, _chosen(spans, ~whole), hot, end_ms)
    return _together(_stacked([_of_spans(_chosen(spans, whole)), _of_samples(samples)]))


def _until(hot: Mapping[int, Rows], entity_ids: Floats, end_ms: int) -> Integers:
    """Up to where sealed samples of each entity are all that there is: the rest may lie among them."""
    begins = {entity_id: int(rows.at_ms[0]) for entity_id, rows in hot.items()}
    distinct, place = np.unique(entity_ids, return_inverse=True)
    return np.array([begins.get(int(one), end_ms) for one in distinct], dtype="int64")[place]


def _leading_in(rows: Rows, start_ms: int) -> Rows:
    """Samples from the last one before the window on."""
    first = max(int(np.searchsorted(rows.at_ms, start_ms)) - 1, 0)
    return Rows(rows.entity_id, rows.at_ms[first:], {name: values[first:] for name, values in rows.values.items()})


# --- spans by their aggregates ---

_Spans = Mapping[str, Floats]
"""Columns of figures of spans, one entry each: see ``_spans``."""


def _spans(connection: Connection, family: str, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> _Spans:
    """What the aggregates of a counter and of power samples say of each span.

    Whether they say all (``even``: no gap, no change of pace, no restart, and a meter that tells always or never), the
    instants, and the first and last value of either meter.
    """
    metric = schema.metric.c
    named = select(metric.name, metric.metric_id).where(metric.family == family)
    ids: dict[str, int] = dict(map(tuple, connection.execute(named)))
    times, counter, power = (schema.block_aggregate.alias(name) for name in ("times", "counter", "power"))
    joined: FromClause = times
    for one, name in ((counter, COUNTER), (power, POWER)):
        same = and_(one.c.entity_id == times.c.entity_id, one.c.span_ms == times.c.span_ms)
        joined = joined.outerjoin(one, and_(one.c.metric_id == ids.get(name, 0), same))
    of = times.c
    length = of.last - of.first
    even = and_(
        of["count"] > 0,
        func.coalesce(of.increase, 0) == length,
        func.abs(of.sum / of["count"] - of.first - length / 2) <= EVEN * length,
        func.coalesce(counter.c["count"], of["count"]) == of["count"],
        func.coalesce(power.c["count"], of["count"]) == of["count"],
        func.coalesce(counter.c.increase, 0) == func.coalesce(counter.c.last - counter.c.first, 0),
    )
    columns = {
        "entity_id": of.entity_id,
        "span_ms": of.span_ms,
        "even": case((even, 1), else_=0),
        "first_ms": of.first,
        "last_ms": of.last,
        "instants": of["count"],
        "total": counter.c.first,
        "total_end": counter.c.last,
        "watts": power.c.first,
        "watts_end": power.c.last,
        "watts_sum": power.c.sum,
    }
    statement = (
        select(*columns.values())
        .select_from(joined)
        .where(
            of.metric_id == ids.get(TIMES, 0),
            series.within(of.entity_id, entity_ids),
            of.span_ms >= start_ms,
            of.span_ms < end_ms,
        )
    )
    matrix = series.plain_rows(connection, statement).reshape(-1, len(columns))
    return dict(zip(columns, matrix.T, strict=True))


def _chosen(spans: _Spans, those: NDArray[np.bool_]) -> _Spans:
    return {name: column[those] for name, column in spans.items()}


def _of_spans(spans: _Spans) -> _Stretches:
    begin, end, instants = spans["first_ms"] / 1000, spans["last_ms"] / 1000, spans["instants"]
    steps = np.maximum(instants - 1, 1)
    # Trapezoids of one width: every sample counts whole, but the first and the last by half.
    watts = (spans["watts_sum"] - (spans["watts"] + spans["watts_end"]) / 2) / steps
    meters = (
        _Meter(
            np.where(np.isnan(first), 0, instants),
            first,
            begin,
            last,
            end,
            np.nan_to_num(joules),
            (end - begin) * ~np.isnan(first),
        )
        for first, last, joules in (
            (spans["total"], spans["total_end"], spans["total_end"] - spans["total"]),
            (spans["watts"], spans["watts_end"], watts * (end - begin)),
        )
    )
    return _Stretches(spans["entity_id"].astype("int64"), begin, (end - begin) / steps, *meters)


# --- samples ---


def _samples(
    connection: Connection, family: str, spans: _Spans, hot: Mapping[int, Rows], end_ms: int
) -> Iterator[Rows]:
    """All samples of some spans, and whatever else is not sealed."""
    unsealed = {(entity_id, span_ms): part for entity_id, rows in hot.items() for span_ms, part in by_span(rows)}
    of_span: dict[int, list[int]] = defaultdict(list)
    for entity_id, span_ms in zip(spans["entity_id"].tolist(), spans["span_ms"].tolist(), strict=True):
        of_span[int(span_ms)].append(int(entity_id))
    for span_ms, ids in of_span.items():
        until_ms = min(span_ms + SPAN_MS, end_ms)
        sealed = series.read(connection, family, (COUNTER, POWER), ids, span_ms, until_ms, only_sealed=True)
        for rows in sealed.by_entity():
            part = unsealed.pop((rows.entity_id, span_ms), None)
            yield rows if part is None else merged(rows, part)
    yield from unsealed.values()


def _of_samples(samples: Iterable[Rows]) -> _Stretches:
    shared: dict[bytes, _Instants] = {}  # devices of a host are sampled at once
    rows = []
    for one in samples:
        key = xxh3_128_digest(one.at_ms.data)
        instants = shared.get(key)
        if instants is None:
            instants = shared[key] = _Instants.of(one.at_ms / 1000)
        counter, power = instants.of_counter(one.values[COUNTER]), instants.of_power(one.values[POWER])
        rows.append((one.entity_id, instants.at[0], instants.interval, *counter, *power))
    entity_ids, first_at, interval, *meters = np.array(rows, dtype="float64").reshape(-1, 3 + 2 * len(_METER)).T
    counter_, power_ = _Meter(*meters[: len(_METER)]), _Meter(*meters[len(_METER) :])
    return _Stretches(entity_ids.astype("int64"), first_at, interval, counter_, power_)


@dataclass(frozen=True, slots=True)
class _Instants:
    """Instants (s) at which entities were sampled, how long the steps between them may be, and the newest interval.

    ``covered``: the time of all steps that are no gaps (s); ``weights``: for how much of it each instant stands (s).
    """

    at: Floats
    longest: _AnyFloats
    interval: float
    covered: float
    weights: _AnyFloats

    @classmethod
    def of(cls, at: Floats) -> _Instants:
        usual = usual_intervals(at)
        longest, seconds = formulas.max_gap_seconds(usual)[1:], np.diff(at)
        covered = float(seconds[seconds <= longest].sum())
        return cls(at, longest, float(usual[-1]), covered, formulas.power_weights(seconds, longest))

    def of_counter(self, values: Floats) -> tuple[float, ...]:
        """A counter over these instants, in the order of ``_METER``."""
        joules, at = values[-1] - values[0], self.at
        if np.isfinite(joules) and (values[1:] >= values[:-1]).all():  # known throughout, and never restarted
            return len(at), values[0], at[0], values[-1], at[-1], joules, at[-1] - at[0]
        return self._of_known(values, _counted)

    def of_power(self, values: Floats) -> tuple[float, ...]:
        """Power samples, likewise."""
        joules, at = float(values @ self.weights), self.at
        if np.isfinite(joules):  # known throughout
            return len(at), values[0], at[0], values[-1], at[-1], joules, self.covered
        return self._of_known(values, formulas.power_steps)

    def _of_known(self, values: Floats, joules_of_steps: _JoulesOfSteps) -> tuple[float, ...]:
        """Either meter step by step, from each known value to the next."""
        there = np.flatnonzero(np.isfinite(values))
        if not len(there):
            return 0.0, np.nan, np.nan, np.nan, np.nan, 0.0, 0.0
        at, values = self.at[there], values[there]
        seconds = np.diff(at)
        joules = joules_of_steps(values[:-1], values[1:], seconds, self.longest[there[1:] - 1])
        sound = ~np.isnan(joules)
        return len(at), values[0], at[0], values[-1], at[-1], joules[sound].sum(), seconds[sound].sum()


def _counted(before: _AnyFloats, after: _AnyFloats, _seconds: _AnyFloats, _longest: _AnyFloats) -> _AnyFloats:
    """As ``formulas.power_steps``, but that a counter goes on in gaps."""
    return formulas.counter_steps(before, after)


# --- both ---


def _stacked(parts: Sequence[_Stretches]) -> _Stretches:
    """All stretches in order of entity and time."""

    def meter(of: Sequence[_Meter]) -> _Meter:
        return _Meter(*(np.concatenate([getattr(one, name) for one in of])[order] for name in _METER))

    entity_ids, first_at, interval = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("entity_ids", "first_at", "interval")
    )
    order = np.lexsort((first_at, entity_ids))
    counter, power = meter([part.counter for part in parts]), meter([part.power for part in parts])
    return _Stretches(entity_ids[order], first_at[order], interval[order], counter, power)


def _together(stretches: _Stretches) -> Metered:
    """Stretches of each entity as one, with the steps from one to the next."""
    ids, place = np.unique(stretches.entity_ids, return_inverse=True)
    newest = np.append(place[1:] != place[:-1], True)[: len(place)]

    def summed(meter: _Meter, joules_of_steps: _JoulesOfSteps) -> tuple[Floats, Floats]:
        """Energy (J) and the time that it covers (s)."""
        told = meter.known > 0
        of, interval = place[told], stretches.interval[told]
        seconds = meter.first_at[told][1:] - meter.last_at[told][:-1]
        longest = formulas.max_gap_seconds(np.maximum(interval[1:], interval[:-1]))
        joules = joules_of_steps(meter.last[told][:-1], meter.first[told][1:], seconds, longest)
        steps = np.flatnonzero((of[1:] == of[:-1]) & ~np.isnan(joules))
        sums, covered = (
            np.bincount(of, within[told], len(ids)) + np.bincount(of[steps], between[steps], len(ids))
            for within, between in ((meter.joules, joules), (meter.seconds, seconds))
        )
        return np.where(covered > 0, sums, np.nan), np.where(covered > 0, covered, np.nan)

    counted, sampled = summed(stretches.counter, _counted), summed(stretches.power, formulas.power_steps)
    return Metered(ids, *counted, *sampled, stretches.interval[newest])
