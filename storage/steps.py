"""Metrics by step: each stretch of samples of one entity within one step, aggregated.

Steps that are whole spans are answered from the aggregates beside the blocks without decoding them;
what has rows that are not sealed yet, and all shorter steps, from the samples themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, func, or_, select

from analytics.formulas.sampling import usual_intervals
from core.metric import Kind, Metric
from storage import schema, series
from storage.aggregates import NAMES, OF_COUNTER, OF_GAUGE, Aggregates, aggregate, join, spread
from storage.codec import Floats, Integers
from storage.schema import SPAN_MS
from storage.series import FOREVER_MS

LOOKBACK_MS = 300_000  # how far before a window a counter's previous sample is looked for, as Prometheus does
LEAST_GAP_MS = 30_000
MOST_WORKERS = 4
WORTH_THREADS = 1_000  # payloads
INTERVALS_PER_GAP = 3  # samples further apart than this many intervals do not make an observed stretch
Made = TypeVar("Made")
_MOST_SPANS = 1 << 20
TIMES = "observed_at_ms"
"""The name under which a block's instants are aggregated: their ``increase`` is the time observed (ms)."""


@dataclass(frozen=True, slots=True)
class Steps:
    """One entry per entity and step with at least one sample, ordered by both."""

    entity_ids: Integers
    numbers: Integers  # of the step, counted from the window's start
    instants: Integers
    first_at_ms: Integers
    last_at_ms: Integers
    observed_ms: Floats  # time between samples that followed each other
    interval_ms: Floats  # between samples, as a rule; NaN where there was one alone
    metrics: dict[str, Aggregates]


def by_step(
    engine: Engine,
    family: str,
    metrics: Sequence[Metric],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> Steps:
    """Aggregate metrics of ``[start_ms, end_ms)`` by entity and step of ``step_ms`` from the start.

    Counters grow against the sample before, also when that lies up to ``LOOKBACK_MS`` before the window.
    Long answers are put together by several threads, each for entities of its own on a connection of its own.
    """

    def work(ids: Sequence[int]) -> Steps:
        with engine.connect() as connection:
            return of_entities(connection, family, metrics, ids, start_ms, end_ms, step_ms)

    ids = sorted(entity_ids) if entity_ids is not None else _ids(engine, family)
    spans = (end_ms - start_ms) // SPAN_MS + 1 if _inner_ms(family, start_ms, end_ms, step_ms) is None else 1
    parts = shared(work, ids, len(metrics) * spans)
    return parts[0] if len(parts) == 1 else _stacked(parts)


def shared(work: Callable[[Sequence[int]], Made], ids: Sequence[int], payloads: int) -> list[Made]:
    """What several threads make, each of its share of the entities, of which each has so many payloads or rows."""
    workers = min(os.cpu_count() or 1, MOST_WORKERS) if len(ids) * payloads >= WORTH_THREADS else 1
    shares = [list(share) for share in np.array_split(ids, workers) if len(share)]
    if len(shares) < 2:
        return [work(ids)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, shares))


def means(
    engine: Engine, family: str, metric: str, entity_ids: Sequence[int], start_ms: int, end_ms: int, step_ms: int
) -> Floats:
    """Means of a gauge, a row per entity and a column per step; NaN where it is not known.

    The same as ``by_step`` makes, where nothing else is asked for.
    """
    return means_of(engine, family, (metric,), entity_ids, start_ms, end_ms, step_ms)[metric]


def means_of(
    engine: Engine,
    family: str,
    metrics: Sequence[str],
    entity_ids: Sequence[int],
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> dict[str, Floats]:
    """``means`` of several gauges: to find the samples costs as much as to decode one of them."""
    steps = -(-(end_ms - start_ms) // step_ms)

    def work(ids: Sequence[int]) -> list[Floats]:
        begins = {entity_id: row * steps for row, entity_id in enumerate(ids)}
        with engine.connect() as connection:
            sealed = series.read(connection, family, metrics, ids, start_ms, end_ms, only_sealed=True)
            hot = _sums_of_rows(connection, family, metrics, ids, start_ms, end_ms, step_ms)
        places, starts = _places(sealed, begins, start_ms, step_ms)
        of_hot = np.array([begins[entity_id] for entity_id in hot[0].astype("int64").tolist()], "int64")
        place, size = np.concatenate((places, of_hot + hot[1].astype("int64"))), len(ids) * steps
        found = []
        for metric, hot_sum, hot_count in zip(metrics, hot[2::2], hot[3::2], strict=True):
            of = aggregate(sealed.values[metric], starts, frozenset(("sum",)))
            both = ((np.nan_to_num(of.sum), np.nan_to_num(hot_sum)), (of.count, hot_count))
            whole, known = (np.bincount(place, np.concatenate(parts), size) for parts in both)
            found.append((whole / np.where(known > 0, known, np.nan)).reshape(len(ids), steps))
        return found

    parts = shared(work, entity_ids, len(metrics) * ((end_ms - start_ms) // SPAN_MS + 1))
    return {metric: np.concatenate(of) for metric, *of in zip(metrics, *parts, strict=True)}


def _places(read: series.Series, begins: Mapping[int, int], start_ms: int, step_ms: int) -> tuple[Integers, Integers]:
    """Of all stretches of one step, run by run: their places, from where an entity's begin, and their first values."""
    cuts: dict[int, tuple[Integers, Integers]] = {}  # the same for all runs with the same instants
    for run in read.runs:
        if id(run.at_ms) not in cuts:
            numbers = (run.at_ms - start_ms) // step_ms
            first = _changes(numbers)
            cuts[id(run.at_ms)] = first, numbers[first]
    of_runs = [cuts[id(run.at_ms)] for run in read.runs]
    none = np.empty(0, "int64")
    lengths = [len(first) for first, _ in of_runs]
    starts = np.concatenate([none, *(first for first, _ in of_runs)])
    starts += np.repeat(np.array([run.begin for run in read.runs], "int64"), lengths)
    places = np.concatenate([none, *(numbers for _, numbers in of_runs)])
    places += np.repeat(np.array([begins[run.entity_id] for run in read.runs], "int64"), lengths)
    return places, starts


def _sums_of_rows(
    connection: Connection,
    family: str,
    metrics: Sequence[str],
    entity_ids: Sequence[int],
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> Floats:
    """What is not sealed, by the database: entities, steps, and of each metric its sums and of how many values."""
    table = schema.samples[family].c
    step = ((table.observed_at_ms - start_ms) // step_ms).label("step")
    sums = [figure(table[metric]) for metric in metrics for figure in (func.sum, func.count)]
    statement = (
        select(table.entity_id, step, *sums)
        .where(
            series.within(table.entity_id, entity_ids),
            table.observed_at_ms >= start_ms,
            table.observed_at_ms < end_ms,
            or_(*(table[metric].is_not(None) for metric in metrics)),
        )
        .group_by(table.entity_id, step)
    )
    return series.plain_rows(connection, statement).reshape(-1, 2 + len(sums)).T


def _inner_ms(family: str, start_ms: int, end_ms: int, step_ms: int) -> int | None:
    """From where on all but the newest blocks need not be decoded; ``None`` where steps cut them.

    Steps may begin and end where blocks do, or one step be all of the window.
    """
    inner_ms = -(-start_ms // SPAN_MS) * SPAN_MS
    whole = inner_ms == start_ms and step_ms % SPAN_MS == 0
    one = step_ms >= end_ms - start_ms and inner_ms + SPAN_MS <= end_ms
    return inner_ms if family in schema.blocks and (whole or one) else None


def _ids(engine: Engine, family: str) -> list[int]:
    table = schema.entity.c
    with engine.connect() as connection:
        ids = connection.execute(select(table.entity_id).where(table.family == family).order_by(table.entity_id))
        return list(ids.scalars())


def of_entities(
    connection: Connection,
    family: str,
    metrics: Sequence[Metric],
    entity_ids: Sequence[int],
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> Steps:
    """``by_step`` on one connection, for a few entities."""
    inner_ms = _inner_ms(family, start_ms, end_ms, step_ms)
    begin_ms = start_ms - LOOKBACK_MS if _any_counter(metrics) else start_ms
    names = [metric.name for metric in metrics]
    read = series.read(connection, family, names, entity_ids, begin_ms, end_ms if inner_ms is None else inner_ms)
    parts = _parts(read, metrics, start_ms, step_ms)
    if inner_ms is not None:
        every = _stacked([parts, _by_span(connection, family, metrics, entity_ids, inner_ms, end_ms)])
        parts = _take(every, np.lexsort((every.first_at_ms, every.entity_ids)))
    joined = _joined(parts, metrics, start_ms, step_ms)
    inside = joined.numbers >= 0
    return _take(joined, inside) if not inside.all() else joined


def _figures(metric: Metric) -> frozenset[str]:
    return OF_COUNTER if metric.kind is Kind.COUNTER else OF_GAUGE


def _any_counter(metrics: Sequence[Metric]) -> bool:
    return any(metric.kind is Kind.COUNTER for metric in metrics)


def grown_ms(at_ms: Integers) -> tuple[Integers, float]:
    """Time that each instant of a run adds to the one before, 0 after a gap, and the usual interval (NaN: unknown)."""
    if len(at_ms) < 2:
        return np.zeros(len(at_ms), "int64"), np.nan
    steps = np.diff(at_ms)
    longest = np.maximum(INTERVALS_PER_GAP * usual_intervals(at_ms)[1:], LEAST_GAP_MS)
    return np.concatenate(([0], np.where(steps <= longest, steps, 0))), float(np.median(steps))


def _parts(read: series.Series, metrics: Sequence[Metric], start_ms: int, step_ms: int) -> Steps:
    """Every run cut at the steps. Cuts are the same for all runs with the same instants."""
    if not read.runs:
        return _nothing(metrics)
    cuts: dict[int, _Cut] = {}
    of_runs = []
    for run in read.runs:
        cut = cuts.get(id(run.at_ms))
        if cut is None:
            cut = cuts[id(run.at_ms)] = _cut(run.at_ms, start_ms, step_ms)
        of_runs.append(cut)
    lengths = [len(cut.first) for cut in of_runs]
    begins = np.repeat([run.begin for run in read.runs], lengths)
    starts = begins + np.concatenate([cut.first for cut in of_runs])
    return Steps(
        np.repeat([run.entity_id for run in read.runs], lengths),
        np.concatenate([cut.numbers for cut in of_runs]),
        np.concatenate([cut.instants for cut in of_runs]),
        np.concatenate([cut.first_at_ms for cut in of_runs]),
        np.concatenate([cut.last_at_ms for cut in of_runs]),
        np.concatenate([cut.observed_ms for cut in of_runs]),
        np.repeat([cut.interval_ms for cut in of_runs], lengths),
        {metric.name: aggregate(read.values[metric.name], starts, _figures(metric)) for metric in metrics},
    )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the steps cut a run, and what is true of its instants whatever was measured."""

    first: Integers  # position in the run
    numbers: Integers
    instants: Integers
    first_at_ms: Integers
    last_at_ms: Integers
    observed_ms: Floats
    interval_ms: float


def _cut(at_ms: Integers, start_ms: int, step_ms: int) -> _Cut:
    numbers = (at_ms - start_ms) // step_ms
    first = _changes(numbers)
    ends = np.append(first[1:], len(at_ms))
    grown, interval_ms = grown_ms(at_ms)
    grown[first] = 0  # what lies between two parts is added when they are joined
    observed_ms = np.add.reduceat(grown, first).astype("float64")
    return _Cut(first, numbers[first], ends - first, at_ms[first], at_ms[ends - 1], observed_ms, interval_ms)


def time_aggregates(at_ms: Integers) -> Aggregates:
    """The instants of one run as if they were a metric."""
    cut = _cut(at_ms, 0, FOREVER_MS)
    first, last, count = (part.astype("float64") for part in (cut.first_at_ms, cut.last_at_ms, cut.instants))
    return Aggregates(count, first, last, np.array([at_ms.sum()], "float64"), first, last, cut.observed_ms)


def _by_span(
    connection: Connection,
    family: str,
    metrics: Sequence[Metric],
    entity_ids: Sequence[int],
    start_ms: int,
    end_ms: int,
) -> Steps:
    """One part per entity and span: from aggregates where all of it is sealed and inside, else from samples."""
    whole_ms = end_ms // SPAN_MS * SPAN_MS
    open_spans = _open_spans(connection, family, entity_ids, start_ms, end_ms)
    if whole_ms < end_ms:
        table = schema.blocks[family].c
        cut = connection.execute(
            select(table.entity_id, table.span_ms).where(
                series.within(table.entity_id, entity_ids), table.span_ms == whole_ms
            )
        )
        open_spans |= {(entity_id, span_ms) for entity_id, span_ms in cut}
    names, first_open = [metric.name for metric in metrics], min((span_ms for _, span_ms in open_spans), default=end_ms)
    from_ms, spans = max(first_open, start_ms), frozenset(open_spans)
    read = series.read(connection, family, names, entity_ids, from_ms, end_ms, spans=spans)
    sealed = _sealed(connection, family, metrics, entity_ids, start_ms, whole_ms, open_spans)
    return _stacked([sealed, _parts(read, metrics, start_ms, SPAN_MS)])


def _open_spans(
    connection: Connection, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> set[tuple[int, int]]:
    """Entities and spans with rows that are not sealed."""
    table = schema.samples[family].c
    span = (table.observed_at_ms - table.observed_at_ms % SPAN_MS).label("span_ms")
    found = connection.execute(
        select(table.entity_id, span)
        .where(
            series.within(table.entity_id, entity_ids), table.observed_at_ms >= start_ms, table.observed_at_ms < end_ms
        )
        .distinct()
    )
    return {(entity_id, span_ms) for entity_id, span_ms in found}


def _sealed(
    connection: Connection,
    family: str,
    metrics: Sequence[Metric],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    without: set[tuple[int, int]],
) -> Steps:
    """Aggregates as they lie beside the blocks, laid out by entity and span."""
    table, metric = schema.block_aggregate.c, schema.metric.c
    left_out = _keys(*np.array(sorted(without), dtype="float64").reshape(-1, 2).T)

    def found(name: str, figures: frozenset[str]) -> tuple[Integers, dict[str, Floats]]:
        names = ("entity_id", "span_ms", "count", *figures)
        statement = (
            select(*(table[part] for part in names))
            .join(schema.metric, metric.metric_id == table.metric_id)
            .where(
                metric.family == family,
                metric.name == name,
                series.within(table.entity_id, entity_ids),
                table.span_ms >= start_ms,
                table.span_ms < end_ms,
            )
            .order_by(table.entity_id, table.span_ms)
        )
        rows = series.plain_rows(connection, statement).reshape(-1, len(names)).T
        keys = _keys(rows[0], rows[1])
        kept = ~np.isin(keys, left_out)
        return keys[kept], dict(zip(names, rows[:, kept], strict=True))

    keys, times = found(TIMES, OF_COUNTER)
    parts = {one.name: _placed(*found(one.name, _figures(one)), keys) for one in metrics}
    with np.errstate(invalid="ignore", divide="ignore"):
        interval_ms = np.where(times["count"] > 1, times["increase"] / (times["count"] - 1), np.nan)
    return Steps(
        times["entity_id"].astype("int64"),
        ((times["span_ms"] - start_ms) // SPAN_MS).astype("int64"),
        times["count"].astype("int64"),
        times["first"].astype("int64"),
        times["last"].astype("int64"),
        times["increase"],
        interval_ms,
        parts,
    )


def _keys(entity_ids: Floats, spans: Floats) -> Integers:
    """One number for an entity and span, in order of both."""
    return (entity_ids * _MOST_SPANS + spans // SPAN_MS).astype("int64")


def _placed(found: Integers, figures: Mapping[str, Floats], keys: Integers) -> Aggregates:
    """Aggregates of a metric at the places of the instants they belong to; unknown in between."""
    at = np.searchsorted(keys, found)
    laid = [np.full(len(keys), 0.0 if name == "count" else np.nan) for name in NAMES]
    for name, out in zip(NAMES, laid, strict=True):
        if name in figures:
            out[at] = figures[name]
    return Aggregates(*laid)


def _joined(parts: Steps, metrics: Sequence[Metric], start_ms: int, step_ms: int) -> Steps:
    """Parts of one entity and step as one; what grew between parts is counted, and time where it is no gap."""
    if not len(parts.entity_ids):
        return parts
    numbers = (parts.first_at_ms - start_ms) // step_ms
    new = np.ones(len(numbers), "bool")
    new[1:] = (np.diff(parts.entity_ids) != 0) | (np.diff(numbers) != 0)
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(new))
    return Steps(
        parts.entity_ids[starts],
        numbers[starts],
        np.add.reduceat(parts.instants, starts),
        parts.first_at_ms[starts],
        parts.last_at_ms[ends - 1],
        np.add.reduceat(parts.observed_ms + _between_ms(parts), starts),
        parts.interval_ms[starts],
        {metric.name: _known_joined(parts, metric, new) for metric in metrics},
    )


def _changes(ids: Integers) -> Integers:
    """Where a run of equal numbers begins."""
    return np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))


def _known_joined(parts: Steps, metric: Metric, new: NDArray[np.bool_]) -> Aggregates:
    """``join`` over the parts that know something of a metric; ``new``: a step of its own begins here."""
    known, figures = parts.metrics[metric.name], _figures(metric)
    if new.all() and metric.kind is not Kind.COUNTER:
        return known
    some = known.count > 0
    if some.all():
        return join(known, np.flatnonzero(new), _changes(parts.entity_ids), figures)
    step = (np.cumsum(new) - 1)[some]
    there = np.zeros(np.count_nonzero(new), "bool")
    there[step] = True
    held = _pick(known, some)
    if not len(step):
        return spread(held, there)
    return spread(join(held, _changes(step), _changes(parts.entity_ids[some]), figures), there)


def _between_ms(parts: Steps) -> Floats:
    """Time between each part and the one before, 0 over a gap.

    The first part of an entity stands for one interval, since what was before it is not looked at.
    """
    longest = np.fmax(INTERVALS_PER_GAP * parts.interval_ms, LEAST_GAP_MS)
    between = np.zeros(len(longest))
    between[1:] = parts.first_at_ms[1:] - parts.last_at_ms[:-1]
    between[1:][between[1:] > np.fmax(longest[1:], longest[:-1])] = 0.0
    entity_starts = _changes(parts.entity_ids)
    between[entity_starts] = np.nan_to_num(parts.interval_ms[entity_starts])
    return between


def _nothing(metrics: Sequence[Metric]) -> Steps:
    none, empty = np.empty(0, "int64"), Aggregates(*(np.empty(0) for _ in NAMES))
    return Steps(none, none, none, none, none, np.empty(0), np.empty(0), {metric.name: empty for metric in metrics})


def _stacked(parts: Sequence[Steps]) -> Steps:
    """All parts one after the other."""

    def metric(name: str) -> Aggregates:
        every = [part.metrics[name] for part in parts]
        return Aggregates(*(np.concatenate([getattr(one, figure) for one in every]) for figure in NAMES))

    plain = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN}
    return Steps(**plain, metrics={name: metric(name) for name in parts[0].metrics})


def _pick(parts: Aggregates, chosen: NDArray[np.bool_] | Integers) -> Aggregates:
    return Aggregates(*(getattr(parts, name)[chosen] for name in NAMES))


def _take(steps: Steps, chosen: NDArray[np.bool_] | Integers) -> Steps:
    plain = {name: getattr(steps, name)[chosen] for name in _PLAIN}
    return Steps(**plain, metrics={name: _pick(part, chosen) for name, part in steps.metrics.items()})


_PLAIN = ("entity_ids", "numbers", "instants", "first_at_ms", "last_at_ms", "observed_ms", "interval_ms")
