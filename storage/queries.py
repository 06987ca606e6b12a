"""Reading back: one function per question, plain arguments, a DataFrame as the answer.

Windows are half-open ``[start, end)`` in Unix milliseconds; frames carry tz-aware UTC times in
columns ending ``_at``. Unknown is NaN/None. An empty answer has the same columns and dtypes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, literal, or_, select
from sqlalchemy.sql.elements import Label

from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import Outcome
from storage import schema

LOOKBACK_MS = 300_000  # how far before a window a counter's previous sample is looked for, as Prometheus does
GAP_MS = 300_000  # two samples further apart than this do not make an observed stretch


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
    )
    return _floats(_frame(engine, statement), _numeric(family))


def latest_known(engine: Engine, family: str, metrics: Sequence[str], since_ms: int) -> pd.DataFrame:
    """The newest value that is not unknown, per entity and metric; for what is only read now and then.

    Returns:
        entity_id and one column per metric.
    """
    table = schema.samples[family]
    ids = select(schema.entity.c.entity_id).where(schema.entity.c.family == family)
    columns: list[Label[Any]] = []
    outer = ids.subquery()
    for name in metrics:
        value = (
            select(table.c[name])
            .where(
                table.c.entity_id == outer.c.entity_id, table.c.observed_at_ms >= since_ms, table.c[name].is_not(None)
            )
            .order_by(table.c.observed_at_ms.desc())
            .limit(1)
            .correlate(outer)
            .scalar_subquery()
        )
        columns.append(value.label(name))
    return _floats(_frame(engine, select(outer.c.entity_id, *columns)), metrics)


def raw(
    engine: Engine, family: str, metrics: Sequence[str], entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Samples as they were taken.

    Returns:
        entity_id, observed_at, and the metrics asked for; ordered by entity and time.
    """
    table = schema.samples[family]
    statement = (
        select(table.c.entity_id, table.c.observed_at_ms, *(table.c[m] for m in metrics))
        .where(
            _within(table.c.entity_id, entity_ids), table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms
        )
        .order_by(table.c.entity_id, table.c.observed_at_ms)
    )
    return _floats(_frame(engine, statement), metrics)


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
        entity_id, bucket_at (start of the step), samples; a gauge ``x`` gives ``x`` (mean), ``x_min``
        and ``x_max``; a counter gives its increase within the step, restarts counted from zero.
        ``None`` for ``entity_ids`` means all. States have no mean: read them with ``raw``.
    """
    declared = [FAMILIES[family].metric(name) for name in metrics]
    window = (entity_ids, start_ms, end_ms, step_ms)
    frame = _gauges_by_step(engine, family, [m.name for m in declared if m.kind is Kind.GAUGE], *window)
    for metric in declared:
        if metric.kind is Kind.STATE:
            raise ValueError(f"{metric.name} is a state: a mean would be meaningless; use raw()")
        if metric.kind is Kind.COUNTER:
            step = _increase_by_step(engine, family, metric.name, *window)
            frame = frame.merge(step, on=["entity_id", "bucket_at"], how="left")
    return frame


def _gauges_by_step(
    engine: Engine,
    family: str,
    names: Sequence[str],
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> pd.DataFrame:
    table = schema.samples[family]
    columns = [
        how(table.c[name]).label(name + suffix)
        for name in names
        for how, suffix in ((func.avg, ""), (func.min, "_min"), (func.max, "_max"))
    ]
    bucket = _bucket(table.c.observed_at_ms, start_ms, step_ms)
    statement = (
        select(table.c.entity_id, bucket, func.count().label("samples"), *columns)
        .where(
            _within(table.c.entity_id, entity_ids), table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms
        )
        .group_by(table.c.entity_id, bucket)
        .order_by(table.c.entity_id, bucket)
    )
    return _floats(_frame(engine, statement), [c.key for c in columns])


def _increase_by_step(
    engine: Engine,
    family: str,
    name: str,
    entity_ids: Sequence[int] | None,
    start_ms: int,
    end_ms: int,
    step_ms: int,
) -> pd.DataFrame:
    """Increase against the sample before, also when that lies before the window or some ticks back."""
    table = schema.samples[family]
    before = func.lag(table.c[name]).over(partition_by=table.c.entity_id, order_by=table.c.observed_at_ms)
    inner = (
        select(table.c.entity_id, table.c.observed_at_ms, table.c[name].label("now"), before.label("before"))
        .where(
            _within(table.c.entity_id, entity_ids),
            table.c[name].is_not(None),
            table.c.observed_at_ms >= start_ms - LOOKBACK_MS,
            table.c.observed_at_ms < end_ms,
        )
        .subquery()
    )
    grown = func.iif(inner.c.now < inner.c.before, inner.c.now, inner.c.now - inner.c.before)
    bucket = _bucket(inner.c.observed_at_ms, start_ms, step_ms)
    statement = (
        select(inner.c.entity_id, bucket, func.sum(grown).label(name))
        .where(inner.c.observed_at_ms >= start_ms)
        .group_by(inner.c.entity_id, bucket)
    )
    return _floats(_frame(engine, statement), [name])


def _bucket(at_ms: ColumnElement[int], start_ms: int, step_ms: int) -> Label[Any]:
    return (start_ms + (at_ms - start_ms) // step_ms * step_ms).label("bucket_at_ms")


def increases(
    engine: Engine, family: str, metrics: Sequence[str], entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Increase of counters over a whole window, restarts counted from zero.

    Returns:
        entity_id, samples, and one column per counter (NaN where it was never seen to change hands).
    """
    span = max(end_ms - start_ms, 1)
    frame = read(engine, family, metrics, entity_ids, start_ms, end_ms, span)
    return frame.drop(columns="bucket_at")


def observed_seconds(
    engine: Engine, family: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """How much of a window each entity was watched: the sum of steps between neighbouring samples.

    Returns:
        entity_id, observed_seconds.
    """
    table = schema.samples[family]
    before = func.lag(table.c.observed_at_ms).over(partition_by=table.c.entity_id, order_by=table.c.observed_at_ms)
    inner = (
        select(table.c.entity_id, (table.c.observed_at_ms - before).label("step_ms"))
        .where(
            _within(table.c.entity_id, entity_ids), table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms
        )
        .subquery()
    )
    seconds = func.sum(func.iif(inner.c.step_ms <= GAP_MS, inner.c.step_ms, 0)) / literal(1000.0)
    statement = select(inner.c.entity_id, seconds.label("observed_seconds")).group_by(inner.c.entity_id)
    return _floats(_frame(engine, statement), ["observed_seconds"])


def seen(engine: Engine, family: str, start_ms: int, end_ms: int) -> set[int]:
    """Entities of a family with at least one sample in a window."""
    table, entity = schema.samples[family], schema.entity
    there = (
        select(literal(1))
        .where(
            table.c.entity_id == entity.c.entity_id,
            table.c.observed_at_ms >= start_ms,
            table.c.observed_at_ms < end_ms,
        )
        .exists()
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
    table, bounds = schema.latency_sample, schema.histogram_bounds
    statement = (
        select(
            table.c.entity_id,
            table.c.kind,
            table.c.observed_at_ms,
            bounds.c.upper_bounds_seconds,
            table.c.increments,
            table.c.sum_seconds,
        )
        .join(bounds, bounds.c.bounds_id == table.c.bounds_id)
        .where(
            _within(table.c.entity_id, entity_ids),
            table.c.kind.in_(kinds),
            table.c.observed_at_ms >= start_ms,
            table.c.observed_at_ms < end_ms,
        )
    )
    step = step_ms or max(end_ms - start_ms, 1)
    summed: dict[tuple[int, str, int, str], tuple[np.ndarray[Any, np.dtype[np.float64]], float]] = {}
    with engine.connect() as connection:
        for entity_id, kind, at_ms, upper, increments, sum_seconds in connection.execute(statement):
            key = (entity_id, kind, start_ms + (at_ms - start_ms) // step * step, upper)
            counts = np.asarray(json.loads(increments), dtype="float64")
            have = summed.get(key)
            total = np.nan if sum_seconds is None else float(sum_seconds)
            summed[key] = (counts, total) if have is None else (have[0] + counts, have[1] + total)
    rows = [
        (entity_id, kind, at_ms, tuple(float(b) for b in json.loads(upper)), counts, total)
        for (entity_id, kind, at_ms, upper), (counts, total) in sorted(summed.items(), key=lambda item: item[0])
    ]
    frame = pd.DataFrame(
        rows, columns=["entity_id", "kind", "bucket_at", "upper_bounds_seconds", "increments", "sum_seconds"]
    )
    frame["bucket_at"] = _times(frame["bucket_at"])
    frame["entity_id"] = frame["entity_id"].astype("int64")
    return _floats(frame, ["sum_seconds"])


def probes(engine: Engine, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Every probe request of a window, newest last.

    Returns:
        entity_id, observed_at, outcome, error, token_count_estimated, and the probe metrics.
    """
    table = schema.samples["probe"]
    statement = (
        select(*table.c)
        .where(table.c.observed_at_ms >= start_ms, table.c.observed_at_ms < end_ms)
        .order_by(table.c.observed_at_ms)
    )
    return _floats(_frame(engine, statement), _numeric("probe"))


def probe_spend(engine: Engine) -> pd.DataFrame:
    """What was spent on probes: endpoint, month, spent_usd."""
    return _floats(_frame(engine, select(*schema.probe_spend.c).order_by(schema.probe_spend.c.month)), ["spent_usd"])


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


def device_processes(engine: Engine, entity_id: int) -> pd.DataFrame:
    """Who held memory on a device when it was last asked.

    Returns:
        observed_at, pid, name, memory_used_bytes.
    """
    table = schema.device_process
    newest = select(func.max(table.c.observed_at_ms)).where(table.c.entity_id == entity_id).scalar_subquery()
    statement = select(table.c.observed_at_ms, table.c.pid, table.c.name, table.c.memory_used_bytes).where(
        table.c.entity_id == entity_id, table.c.observed_at_ms == newest
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
        .order_by(table.c.deployment_id, table.c.valid_from_ms)
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
    succeeded = func.iif(tick.c.outcome != Outcome.FAILED.value, tick.c.scheduled_at_ms, None)
    summary = (
        select(
            *keys,
            func.max(tick.c.scheduled_at_ms).label("last_tick_at_ms"),
            func.max(succeeded).label("last_success_at_ms"),
            func.avg(tick.c.duration_seconds).label("mean_duration_seconds"),
            func.count().label("ticks"),
            func.sum(func.iif(tick.c.outcome == Outcome.FAILED.value, 1, 0)).label("failed"),
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


def store_size(engine: Engine, path: Path) -> pd.DataFrame:
    """Rows and time range of each fact table, and the bytes of the whole file beside them.

    Returns:
        table, rows, first_at, last_at, file_bytes.
    """
    answers = []
    timed = [(t.name, t, t.c.observed_at_ms) for t in (*schema.samples.values(), schema.latency_sample, schema.event)]
    for name, table, at in [*timed, ("collector_tick", schema.collector_tick, schema.collector_tick.c.scheduled_at_ms)]:
        with engine.connect() as connection:
            row = connection.execute(select(func.count(), func.min(at), func.max(at)).select_from(table)).one()
        answers.append((name, *row))
    frame = pd.DataFrame(answers, columns=["table", "rows", "first_at", "last_at"])
    for name in ("first_at", "last_at"):
        frame[name] = _times(frame[name])
    beside = (path, path.with_name(path.name + "-wal"))
    frame["file_bytes"] = sum(file.stat().st_size for file in beside if file.exists())
    return frame


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


def _within(column: ColumnElement[int], entity_ids: Sequence[int] | None) -> ColumnElement[bool]:
    return literal(True) if entity_ids is None else column.in_([int(i) for i in entity_ids])
