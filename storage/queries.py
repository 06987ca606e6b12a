"""Reading back: one function per question, plain arguments, a DataFrame as the answer.

Windows are half-open ``[start, end)`` in Unix milliseconds; frames carry tz-aware UTC times in
columns ending ``_at``. Unknown is NaN/None. An empty answer has the same columns and dtypes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, case, func, literal, or_, select

from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import Outcome
from storage import accounts as accounted
from storage import histograms, hourly, schema, series
from storage.codec import Floats, Integers
from storage.engine import database_bytes
from storage.hours import SOURCES
from storage.schema import HOUR_MS
from storage.series import FOREVER_MS
from storage.steps import LOOKBACK_MS, by_step, grown_ms

__all__ = ["LOOKBACK_MS"]


def _frame(engine: Engine, statement: Select[Any], *, integers: Iterable[str] = ()) -> pd.DataFrame:
    """Run a SELECT; ``*_at_ms`` columns become UTC times named ``*_at``, other numbers float64."""
    with engine.connect() as connection:
        rows = list(map(tuple, connection.execute(statement)))  # pandas is 15 times slower on SQLAlchemy's own rows
    frame = pd.DataFrame(rows, columns=list(statement.selected_columns.keys()))
    for name in frame.columns:
        if name.endswith("_at_ms"):
            frame[name] = _times(frame[name])
        elif name in integers or name.endswith("_id"):
            frame[name] = frame[name].astype("Int64" if frame[name].isna().any() else "int64")
    return frame.rename(columns={n: n.removesuffix("_ms") for n in frame.columns if n.endswith("_at_ms")})


def _times(at_ms: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(at_ms.astype("Int64"), unit="ms", utc=True)


def _instants(at_ms: Integers) -> pd.DatetimeIndex:
    """Unix milliseconds as times, of the same type as those that come from a table."""
    return pd.DatetimeIndex((at_ms * 1000).view("M8[us]")).tz_localize("UTC")


def epoch_ms(times: pd.Series[Any]) -> pd.Series[int]:
    """Unix milliseconds of a column of UTC times, the way back from ``*_at``."""
    milliseconds: pd.Series[int] = times.dt.as_unit("ms").astype("int64")
    return milliseconds


def _floats(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    for name in columns:
        frame[name] = frame[name].astype("float64")
    return frame


def entities(engine: Engine, family: str | None = None) -> pd.DataFrame:
    """Everything that was ever seen.

    Returns:
        entity_id, family, key, host, parent_key, labels (dict), first_seen_at, vendor, model.
    """
    table = schema.entity
    columns = [table.c[n] for n in ("entity_id", "family", "key", "host", "parent_key", "labels", "first_seen_at_ms")]
    statement = select(*columns).order_by(table.c.host, table.c.entity_id)
    if family is not None:
        statement = statement.where(table.c.family == family)
    frame = _frame(engine, statement)
    frame["labels"] = [json.loads(text) for text in frame["labels"]]
    for label in ("vendor", "model"):
        frame[label] = pd.Series([labels.get(label) for labels in frame["labels"]], dtype="object")
    return frame


def latest(engine: Engine, family: str) -> pd.DataFrame:
    """The newest sample of each entity of a family, however old it is.

    Returns:
        entity_id, observed_at, and every metric of the family.
    """
    table = schema.samples[family]
    newest = (
        select(func.max(table.c.observed_at_ms))
        .where(table.c.entity_id == schema.entity.c.entity_id)
        .correlate(schema.entity)
        .scalar_subquery()
    )
    statement = (
        select(*table.c)
        .select_from(schema.entity.join(table, table.c.entity_id == schema.entity.c.entity_id))
        .where(schema.entity.c.family == family, table.c.observed_at_ms == newest)
        .order_by(table.c.entity_id)
    )
    return _floats(_frame(engine, statement), _numeric(family))


def latest_known(engine: Engine, family: str, metrics: Sequence[str], since_ms: int) -> pd.DataFrame:
    """The newest value that is not unknown, per entity and metric; for what is only read now and then.

    Returns:
        entity_id and one column per metric.
    """
    known = raw(engine, family, metrics, None, since_ms, FOREVER_MS).groupby("entity_id")[list(metrics)].last()
    ids = entities(engine, family)["entity_id"].sort_values()
    return known.reindex(ids).reset_index()


def raw(
    engine: Engine, family: str, metrics: Sequence[str], entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Samples as they were taken.

    Returns:
        entity_id, observed_at, and the metrics asked for; ordered by entity and time.
    """
    with engine.connect() as connection:
        read = series.read(connection, family, metrics, entity_ids, start_ms, end_ms)
    columns = {"entity_id": read.entity_ids, "observed_at": _instants(read.at_ms), **read.values}
    return pd.DataFrame(columns, copy=False)


def read(
    engine: Engine,
    family: str,
    metrics: Sequence[str],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> pd.DataFrame:
    """Metrics per entity and step, combined as their kind demands. Steps without samples have no row.

    Returns:
        entity_id, bucket_at (start of the step), samples, coverage_ratio (share of the step in which samples
        followed each other); a gauge ``x`` gives ``x`` (mean), ``x_min`` and ``x_max``; a counter gives its
        increase within the step, restarts counted from zero. ``None`` for ``entity_ids`` means all. States
        have no mean: read them with ``state_shares``.
    """
    declared = [FAMILIES[family].metric(name) for name in metrics]
    for metric in declared:
        if metric.kind is Kind.STATE:
            raise ValueError(f"{metric.name} is a state: a mean would be meaningless; use state_shares() or raw()")
    steps = by_step(engine, family, declared, entity_ids, start_ms, end_ms, step_ms)
    columns = {
        "entity_id": steps.entity_ids,
        "bucket_at": _instants(start_ms + steps.numbers * step_ms),
        "samples": steps.instants,
        "coverage_ratio": np.minimum(steps.observed_ms / step_ms, 1.0),
    }
    for metric in sorted(declared, key=lambda one: one.kind is Kind.COUNTER):
        found = steps.metrics[metric.name]
        if metric.kind is Kind.COUNTER:
            columns[metric.name] = found.increase
        else:
            known = np.where(found.count > 0, found.count, np.nan)
            columns |= {
                metric.name: found.sum / known,
                f"{metric.name}_min": found.min,
                f"{metric.name}_max": found.max,
            }
    return pd.DataFrame(columns, copy=False)


def increases(
    engine: Engine, family: str, metrics: Sequence[str], entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Increase of counters over a whole window, restarts counted from zero.

    Returns:
        entity_id, samples, coverage_ratio, and one column per counter (NaN where it was never seen to change hands).
    """
    span = max(end_ms - start_ms, 1)
    frame = read(engine, family, metrics, entity_ids, start_ms, end_ms, span)
    return frame.drop(columns="bucket_at")


def state_shares(
    engine: Engine,
    family: str,
    metric: str,
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> pd.DataFrame:
    """How the observed time of each step falls on the values of a state. A sample stands for the time up to it.

    Returns:
        entity_id, bucket_at, value, seconds, share_ratio (of the seconds in which the state was known).
    """
    with engine.connect() as connection:
        found = series.read(connection, family, [metric], entity_ids, start_ms - LOOKBACK_MS, end_ms)
    at_ms = found.at_ms
    grown = np.concatenate([grown_ms(at)[0] for at in _times_by_entity(found)] or [np.empty(0, "int64")])
    frame = pd.DataFrame(
        {
            "entity_id": found.entity_ids,
            "bucket_at": _instants(start_ms + (at_ms - start_ms) // step_ms * step_ms),
            "value": found.values[metric],
            "seconds": grown / 1000,
        }
    )[at_ms >= start_ms]
    shares = frame.dropna().groupby(["entity_id", "bucket_at", "value"])["seconds"].sum().reset_index()
    whole = shares.groupby(["entity_id", "bucket_at"])["seconds"].transform("sum")
    shares["share_ratio"] = shares["seconds"] / whole.where(whole > 0)
    return shares


def observed_seconds(
    engine: Engine, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """How much of a window each entity was watched: the sum of steps between neighbouring samples that are no gaps.

    Returns:
        entity_id, observed_seconds.
    """
    with engine.connect() as connection:
        found = series.read(connection, family, (), entity_ids, start_ms, end_ms)
    seconds = [float(grown_ms(at)[0].sum()) / 1000 for at in _times_by_entity(found)]
    ids = list(dict.fromkeys(run.entity_id for run in found.runs))
    frame = pd.DataFrame({"entity_id": ids, "observed_seconds": seconds})
    return frame.astype({"entity_id": "int64", "observed_seconds": "float64"})


def _times_by_entity(found: series.Series) -> list[Integers]:
    every: dict[int, list[Integers]] = {}
    for run in found.runs:
        every.setdefault(run.entity_id, []).append(run.at_ms)
    return [np.concatenate(times) for times in every.values()]


def seen(engine: Engine, family: str, start_ms: int, end_ms: int) -> set[int]:
    """Entities of a family that were sampled in a window (or before and after it within one sealed span)."""
    table, block, entity = schema.samples[family].c, schema.blocks[family].c, schema.entity
    there = or_(
        select(literal(1))
        .where(table.entity_id == entity.c.entity_id, table.observed_at_ms >= start_ms, table.observed_at_ms < end_ms)
        .exists(),
        select(literal(1))
        .where(
            block.entity_id == entity.c.entity_id,
            series.overlapping(schema.blocks[family], start_ms, end_ms),
            block.first_at_ms < end_ms,
            block.last_at_ms >= start_ms,
        )
        .exists(),
    )
    with engine.connect() as connection:
        return set(connection.execute(select(entity.c.entity_id).where(entity.c.family == family, there)).scalars())


def latency(
    engine: Engine,
    entity_ids: Sequence[int] | None,
    kinds: Sequence[str],
    start_ms: int,
    end_ms: int,
    step_ms: int | None = None,
) -> pd.DataFrame:
    """Histogram increments, summed per deployment, kind, step and set of bounds.

    Args:
        engine: the reader.
        entity_ids: deployments; ``None`` means all.
        kinds: values of ``core.readings.Latency``.
        start_ms: window start.
        end_ms: window end.
        step_ms: ``None`` sums the whole window into one row (``bucket_at`` is its start).

    Returns:
        entity_id, kind, bucket_at, upper_bounds_seconds (tuple, last is inf), increments (float array,
        one per bound), sum_seconds. Different sets of bounds are never merged.
    """
    step = step_ms or max(end_ms - start_ms, 1)
    bounds = schema.histogram_bounds.c
    rows: list[tuple[int, str, int, tuple[float, ...], Floats, float]] = []
    with engine.connect() as connection:
        upper = {
            bounds_id: tuple(float(bound) for bound in json.loads(text))
            for bounds_id, text in connection.execute(select(bounds.bounds_id, bounds.upper_bounds_seconds))
        }
        read = hourly.whole if step_ms is None else histograms.read
        for found in read(connection, entity_ids, kinds, start_ms, end_ms):
            numbers = (found.at_ms - start_ms) // step
            starts = np.flatnonzero(np.diff(numbers, prepend=-1))
            increments = np.add.reduceat(found.increments, starts, axis=1).T
            seconds = np.add.reduceat(found.sum_seconds, starts)
            for number, counts, total in zip(numbers[starts], increments, seconds, strict=True):
                at_ms = start_ms + int(number) * step
                rows.append((found.entity_id, found.kind, at_ms, upper[found.bounds_id], counts, float(total)))
    columns = ["entity_id", "kind", "bucket_at", "upper_bounds_seconds", "increments", "sum_seconds"]
    rows.sort(key=lambda row: row[:4])
    frame = pd.DataFrame(rows, columns=columns)
    frame["bucket_at"] = _times(frame["bucket_at"])
    frame["entity_id"] = frame["entity_id"].astype("int64")
    return _floats(frame, ["sum_seconds"])


def accounts(engine: Engine, family: str, entity_ids: Sequence[int] | None, edges_ms: Sequence[int]) -> pd.DataFrame:
    """What entities used and did between successive edges, from their accounts.

    Args:
        engine: the reader.
        family: "accelerator", "cpu", "host" or "deployment".
        entity_ids: ``None`` means all.
        edges_ms: ascending, whole UTC hours (Unix ms): n edges make n - 1 buckets of any width, such as weeks
            of a time zone.

    Returns:
        entity_id, bucket_at, bucket_seconds, observed_seconds, coverage_ratio; energy_joules as observed,
        energy_seconds (the time it covers) and energy_source (worst of its hours) for what uses energy;
        active_joules, parked_joules, free_joules (of that energy; what lies in gaps is of none) and the time
        in each state, active_seconds, parked_seconds, free_seconds and off_seconds (all the rest), for
        accelerators; the increase of every counter for deployments. NaN: unknown. No row where nothing is
        accounted.
    """
    names = accounted.COLUMNS[family]

    def sums(of: tuple[int, list[int]]) -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            return list(map(tuple, connection.execute(_account_sums(family, names, entity_ids, *of, edges_ms))))

    with ThreadPoolExecutor(2) as pool:
        parts = [row for rows in pool.map(sums, _account_starts(edges_ms).items()) for row in rows]
    frame = pd.DataFrame(parts, columns=["entity_id", "bucket", *names])
    figures = [name for name in names if name != "energy_source"]
    grouped = frame.astype(dict.fromkeys(figures, "float64")).groupby(["entity_id", "bucket"], sort=True)
    answer = grouped[figures].sum(min_count=1).reset_index().astype({"entity_id": "int64", "bucket": "int64"})
    if "energy_source" in names:
        worst = grouped["energy_source"].max().to_numpy(dtype="float64")
        answer["energy_source"] = [None if rank != rank else SOURCES[int(rank)] for rank in worst]
    edges = np.asarray(edges_ms, dtype="int64")
    number = answer["bucket"].to_numpy()
    answer["bucket_at"] = _instants(edges[number])
    answer["bucket_seconds"] = np.diff(edges)[number] / 1000
    answer["coverage_ratio"] = (answer["observed_seconds"] / answer["bucket_seconds"]).clip(upper=1.0)
    if "off_seconds" in names:
        answer["off_seconds"] = (answer["bucket_seconds"] - answer["observed_seconds"]).clip(lower=0.0)
    return answer[["entity_id", "bucket_at", "bucket_seconds", "coverage_ratio", *names]]


def energy_by_hour(engine: Engine, entity_ids: Sequence[int], start_ms: int, end_ms: int) -> pd.DataFrame:
    """What entities used together in each hour, as observed.

    Args:
        engine: the reader.
        entity_ids: accelerators, CPU packages or hosts; none of them part of another.
        start_ms: a whole UTC hour (Unix ms).
        end_ms: another.

    Returns:
        bucket_at and energy_joules; no row where none is known.
    """
    table = schema.account.c
    statement = (
        select(table.start_ms.label("bucket_at_ms"), func.sum(table.energy_joules).label("energy_joules"))
        .where(
            table.hours == 1,
            series.within(table.entity_id, entity_ids),
            table.start_ms >= start_ms,
            table.start_ms < end_ms,
            table.energy_joules.is_not(None),
        )
        .group_by(table.start_ms)
        .order_by(table.start_ms)
    )
    return _floats(_frame(engine, statement), ["energy_joules"])


def accounted_until(engine: Engine) -> dict[int, int]:
    """End of the last hour that each entity has an account of (Unix ms), by entity_id."""
    table, entity_id = schema.account.c, schema.entity.c.entity_id
    last = select(func.max(table.start_ms)).where(table.hours == 1, table.entity_id == entity_id).scalar_subquery()
    with engine.connect() as connection:
        found = connection.execute(select(entity_id, last.label("start_ms"))).all()
    return {row.entity_id: row.start_ms + HOUR_MS for row in found if row.start_ms is not None}


def _account_starts(edges_ms: Sequence[int]) -> dict[int, list[int]]:
    """Which accounts together fill the buckets: hours that one covers, widest first -> starts."""
    starts: dict[int, list[int]] = {width: [] for width in (*accounted.SUMS, 1)}
    for at_ms, end_ms in pairwise(edges_ms):
        while at_ms < end_ms:
            width = next(w for w in starts if at_ms % (w * HOUR_MS) == 0 and at_ms + w * HOUR_MS <= end_ms)
            starts[width].append(at_ms)
            at_ms += width * HOUR_MS
    return {width: of for width, of in starts.items() if of}


def _account_sums(
    family: str,
    names: Sequence[str],
    entity_ids: Sequence[int] | None,
    width: int,
    starts: Sequence[int],
    edges_ms: Sequence[int],
) -> Select[Any]:
    table, entity = schema.account.c, schema.entity.c
    of_family = select(entity.entity_id).where(entity.family == family, series.within(entity.entity_id, entity_ids))
    step_ms = edges_ms[1] - edges_ms[0]
    if list(edges_ms) == list(range(edges_ms[0], edges_ms[-1] + 1, step_ms)):
        bucket: ColumnElement[int] = (table.start_ms - edges_ms[0]) // step_ms
    else:
        bucket = case(*((table.start_ms < edge, number) for number, edge in enumerate(edges_ms[1:])))
    within: ColumnElement[bool] = table.start_ms.between(starts[0], starts[-1])
    if starts[-1] - starts[0] != (len(starts) - 1) * width * HOUR_MS:
        within &= table.start_ms.in_(starts)
    rank = case({name: number for number, name in enumerate(SOURCES)}, value=table.energy_source)
    figures = [func.max(rank) if name == "energy_source" else func.sum(table[name]) for name in names]
    return (
        select(table.entity_id, bucket.label("bucket"), *figures)
        # By entity, so that what is asked for is looked up and not all of a width read through.
        .where(table.hours == width, table.entity_id.in_(of_family), within)
        .group_by(table.entity_id, bucket)
    )


def probes(engine: Engine, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Every probe request of a window, newest last.

    Returns:
        entity_id, observed_at, outcome, error, token_count_estimated, and the probe metrics.
    """
    table = schema.samples["probe"]
    statement = (
        select(*table.c)
        .where(table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms)
        .order_by(table.c.observed_at_ms, table.c.entity_id)
    )
    return _floats(_frame(engine, statement), _numeric("probe"))


def probe_spend(engine: Engine) -> pd.DataFrame:
    """What was spent on probes: endpoint, month, spent_usd."""
    table = schema.probe_spend.c
    return _floats(_frame(engine, select(*table).order_by(table.month, table.endpoint)), ["spent_usd"])


def events(engine: Engine, start_ms: int, end_ms: int, *, limit: int = 500) -> pd.DataFrame:
    """What happened, newest first.

    Returns:
        observed_at, kind, severity, code, message, entity_id, family, key.
    """
    table, entity = schema.event, schema.entity
    statement = (
        select(
            table.c.observed_at_ms,
            table.c.kind,
            table.c.severity,
            table.c.code,
            table.c.message,
            table.c.entity_id,
            entity.c.family,
            entity.c.key,
        )
        .outerjoin(entity, entity.c.entity_id == table.c.entity_id)
        .where(table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms)
        .order_by(table.c.observed_at_ms.desc(), table.c.event_id.desc())
        .limit(limit)
    )
    return _frame(engine, statement, integers=("code",))


def newest_events(engine: Engine, kind: str) -> pd.DataFrame:
    """The newest event of a kind of each entity, newest first, however old.

    Returns:
        The columns of ``events`` and ``host``.
    """
    table, entity = schema.event.c, schema.entity.c
    newest = select(func.max(table.event_id)).where(table.kind == kind).group_by(table.entity_id)
    columns = (table.observed_at_ms, table.kind, table.severity, table.code, table.message, table.entity_id)
    statement = (
        select(*columns, entity.family, entity.key, entity.host)
        .select_from(schema.event.outerjoin(schema.entity, entity.entity_id == table.entity_id))
        .where(table.event_id.in_(newest))
        .order_by(table.event_id.desc())
    )
    return _frame(engine, statement, integers=("code",))


def device_processes(engine: Engine, entity_id: int) -> pd.DataFrame:
    """Who held memory on a device when it was last asked.

    Returns:
        observed_at, pid, name, memory_used_bytes.
    """
    table = schema.device_process
    newest = select(func.max(table.c.observed_at_ms)).where(table.c.entity_id == entity_id).scalar_subquery()
    statement = (
        select(table.c.observed_at_ms, table.c.pid, table.c.name, table.c.memory_used_bytes)
        .where(table.c.entity_id == entity_id, table.c.observed_at_ms == newest)
        .order_by(table.c.pid)
    )
    return _floats(_frame(engine, statement, integers=("pid",)), ["memory_used_bytes"])


def assignments(engine: Engine, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Which deployment ran on what during a window, and how that is known.

    Returns:
        deployment_id, target_id, target_family, origin, valid_from_at, valid_to_at (NaT: still so).
    """
    table, entity = schema.assignment, schema.entity
    statement = (
        select(
            table.c.deployment_id,
            table.c.target_id,
            entity.c.family.label("target_family"),
            table.c.origin,
            table.c.valid_from_ms.label("valid_from_at_ms"),
            table.c.valid_to_ms.label("valid_to_at_ms"),
        )
        .join(entity, entity.c.entity_id == table.c.target_id)
        .where(table.c.valid_from_ms < end_ms, or_(table.c.valid_to_ms.is_(None), table.c.valid_to_ms > start_ms))
        .order_by(table.c.deployment_id, table.c.valid_from_ms, table.c.target_id)
    )
    return _frame(engine, statement)


def health(engine: Engine, since_ms: int) -> pd.DataFrame:
    """How each source and target fares, from its ticks since ``since_ms`` and its last discovery.

    Returns:
        host, source, target, available and absent (of the source, 0 or 1), reason, remedy, checked_at, last_tick_at,
        last_success_at, outcome and error of the last tick, mean_duration_seconds, ticks, failed,
        ticks_missed, readings. A source that never ticked has NaN/NaT there.
    """
    tick, status = schema.collector_tick, schema.source_status
    recent = tick.c.scheduled_at_ms >= since_ms
    keys = (tick.c.host, tick.c.source, tick.c.target)
    succeeded = case((tick.c.outcome != Outcome.FAILED.value, tick.c.scheduled_at_ms))
    summary = (
        select(
            *keys,
            func.max(tick.c.scheduled_at_ms).label("last_tick_at_ms"),
            func.max(succeeded).label("last_success_at_ms"),
            func.avg(tick.c.duration_seconds).label("mean_duration_seconds"),
            func.count().label("ticks"),
            func.sum(case((tick.c.outcome == Outcome.FAILED.value, 1), else_=0)).label("failed"),
            func.sum(tick.c.ticks_missed).label("ticks_missed"),
            func.sum(tick.c.readings).label("readings"),
        )
        .where(recent)
        .group_by(*keys)
        .subquery()
    )
    last = tick.alias()
    statement = (
        select(
            *(summary.c[n] for n in ("host", "source", "target", "last_tick_at_ms", "last_success_at_ms")),
            last.c.outcome,
            last.c.error,
            *(summary.c[n] for n in ("mean_duration_seconds", "ticks", "failed", "ticks_missed", "readings")),
        )
        .select_from(summary)
        .join(
            last,
            and_(
                last.c.host == summary.c.host,
                last.c.source == summary.c.source,
                last.c.target == summary.c.target,
                last.c.scheduled_at_ms == summary.c.last_tick_at_ms,
            ),
        )
    )
    ticks = _frame(engine, statement)
    statuses = _frame(engine, select(*status.c))
    merged = statuses.merge(ticks, on=["host", "source"], how="outer")
    merged["target"] = merged["target"].fillna("")
    numbers = ("mean_duration_seconds", "ticks", "failed", "ticks_missed", "readings", "available", "absent")
    return _floats(merged, numbers).sort_values(["host", "source", "target"], ignore_index=True)


def facts(engine: Engine) -> dict[str, str]:
    """What the store says of itself: ``simulated``, ``batches_dropped``."""
    with engine.connect() as connection:
        return {row.name: row.value for row in connection.execute(select(*schema.store_fact.c))}


def store_size(engine: Engine) -> pd.DataFrame:
    """Samples and time range of each kind of fact, and the bytes of the whole database beside them.

    Returns:
        table, rows (of samples: those not sealed yet), sealed (samples in blocks), first_at, last_at, file_bytes.
    """
    hot = [(t.name, t.c.observed_at_ms) for t in (*schema.samples.values(), schema.latency_sample, schema.event)]
    blocks = {f"{name}_sample": table for name, table in schema.blocks.items()} | {
        "latency_sample": schema.latency_block
    }
    answers = []
    with engine.connect() as connection:
        for name, at in [*hot, ("collector_tick", schema.collector_tick.c.scheduled_at_ms)]:
            rows, first, last = connection.execute(select(func.count(), func.min(at), func.max(at))).one()
            sealed = 0
            if name in blocks:
                of = blocks[name].c
                sums = select(func.sum(of.instants), func.min(of.first_at_ms), func.max(of.last_at_ms))
                instants, begun, ended = connection.execute(sums).one()
                sealed = int(instants or 0)
                first = min((at_ms for at_ms in (first, begun) if at_ms is not None), default=None)
                last = max((at_ms for at_ms in (last, ended) if at_ms is not None), default=None)
            answers.append((name, rows, sealed, first, last))
        size = database_bytes(connection)
    frame = pd.DataFrame(answers, columns=["table", "rows", "sealed", "first_at", "last_at"])
    for name in ("first_at", "last_at"):
        frame[name] = _times(frame[name])
    return frame.assign(file_bytes=size)


def newest_sample_at_ms(engine: Engine) -> int | None:
    """When anything was last stored by a collector; ``None`` in an empty store."""
    with engine.connect() as connection:
        newest = connection.execute(select(func.max(schema.collector_tick.c.scheduled_at_ms))).scalar_one()
    return None if newest is None else int(newest)


def schema_is_current(connection: Connection) -> bool:
    """Whether the tables this release reads are there."""
    return connection.dialect.has_table(connection, "collector_tick")


def _numeric(family: str) -> list[str]:
    return [metric.name for metric in FAMILIES[family].metrics]
