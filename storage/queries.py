"""Reading back: one function per question, plain arguments, a DataFrame as the answer.

Windows are half-open ``[start, end)`` in Unix milliseconds; frames carry tz-aware UTC times in
columns ending ``_at``. Unknown is NaN/None. An empty answer has the same columns and dtypes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Column, Connection, Engine, Select, and_, case, func, literal, or_, select

from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import Outcome
from storage import account_sums, histograms, hourly, schema, series
from storage import accounts as accounted
from storage.codec import Floats, Integers
from storage.engine import database_bytes
from storage.hours import SOURCES
from storage.schema import HOUR_MS, SPAN_MS
from storage.series import FOREVER_MS
from storage.steps import LOOKBACK_MS, by_step, grown_ms, shared

__all__ = ["LOOKBACK_MS"]
_PIECES = 3  # of a whole window of latency: its accounts, and what lies before and after them


def _frame(engine: Engine, statement: Select[Any], *, integers: Iterable[str] = ()) -> pd.DataFrame:
    """Run a SELECT; ``*_at_ms`` columns become UTC times named ``*_at``, other numbers float64."""
    with engine.connect() as connection:
        cursor = connection.execute(statement).cursor  # pandas is 15 times slower on SQLAlchemy's own rows
        rows = [] if cursor is None else cursor.fetchall()
    frame = pd.DataFrame(rows, columns=list(statement.selected_columns.keys()))
    for name in frame.columns:
        if name.endswith("_at_ms"):
            frame[name] = _times(frame[name])
        elif name in integers or name.endswith("_id"):
            frame[name] = frame[name].astype("Int64" if frame[name].isna().any() else "int64")
    return frame.rename(columns={n: n.removesuffix("_ms") for n in frame.columns if n.endswith("_at_ms")})


def _times(at_ms: pd.Series[Any]) -> pd.DatetimeIndex:
    milliseconds = at_ms.to_numpy("float64")
    times = (np.nan_to_num(milliseconds).astype("int64") * 1000).view("M8[us]")
    times[np.isnan(milliseconds)] = np.datetime64("NaT")
    return pd.DatetimeIndex(times).tz_localize("UTC")


def _instants(at_ms: Integers) -> pd.DatetimeIndex:
    """Unix milliseconds as times, of the same type as those that come from a table."""
    return pd.DatetimeIndex((at_ms * 1000).view("M8[us]")).tz_localize("UTC")


def epoch_ms(times: pd.Series[Any]) -> pd.Series[int]:
    """Unix milliseconds of a column of UTC times, the way back from ``*_at``."""
    milliseconds: pd.Series[int] = times.dt.as_unit("ms").astype("int64")
    return milliseconds


def _columns(connection: Connection, statement: Select[Any]) -> dict[str, Floats]:
    """The columns of a SELECT of nothing but numbers (NULL: NaN)."""
    names = list(statement.selected_columns.keys())
    return dict(zip(names, series.plain_rows(connection, statement).reshape(-1, len(names)).T, strict=True))


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
    frame["labels"] = json.loads(f"[{','.join(frame['labels'])}]")
    for label in ("vendor", "model"):
        frame[label] = pd.Series([labels.get(label) for labels in frame["labels"]], dtype="object")
    return frame


def first_seen_ms(engine: Engine, family: str) -> pd.Series[int]:
    """When each entity of a family was first seen (Unix ms), by entity_id, in the order of ``entities``."""
    table = schema.entity.c
    statement = (
        select(table.entity_id, table.first_seen_at_ms)
        .where(table.family == family)
        .order_by(table.host, table.entity_id)
    )
    with engine.connect() as connection:
        ids, at_ms = _columns(connection, statement).values()
    return pd.Series(at_ms.astype("int64"), pd.Index(ids.astype("int64"), name="entity_id"), name="first_seen_ms")


def latest(engine: Engine, family: str, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The newest sample of each entity of a family, however old it is.

    Returns:
        entity_id, observed_at, and the metrics asked for; ``None`` asks for every metric of the family.
    """
    table, entity = schema.samples[family].c, schema.entity
    newest = (
        select(func.max(table.observed_at_ms))
        .where(table.entity_id == entity.c.entity_id)
        .correlate(entity)
        .scalar_subquery()
    )
    wanted = _numeric(family) if metrics is None else metrics
    statement = (
        select(table.entity_id, table.observed_at_ms, *(table[name] for name in wanted))
        .select_from(entity.join(schema.samples[family], table.entity_id == entity.c.entity_id))
        .where(entity.c.family == family, table.observed_at_ms == newest)
        .order_by(table.entity_id)
    )
    with engine.connect() as connection:
        ids, at_ms, *figures = _columns(connection, statement).values()
    times = {"entity_id": ids.astype("int64"), "observed_at": _instants(at_ms.astype("int64"))}
    return pd.DataFrame(times | dict(zip(wanted, figures, strict=True)))


def latest_known(engine: Engine, family: str, metrics: Sequence[str], since_ms: int) -> pd.DataFrame:
    """The newest value that is not unknown, per entity and metric; for what is only read now and then.

    Returns:
        entity_id and one column per metric.
    """
    table, entity = schema.samples[family].c, schema.entity.c
    recent = (table.entity_id == entity.entity_id, table.observed_at_ms >= since_ms)
    oldest = select(func.min(table.observed_at_ms)).where(*recent).scalar_subquery()
    newest = [
        select(table[name])
        .where(*recent, table[name].is_not(None))
        .order_by(table.observed_at_ms.desc())
        .limit(1)
        .scalar_subquery()
        .label(name)
        for name in metrics
    ]
    statement = (
        select(entity.entity_id, oldest.label("oldest_ms"), *newest)
        .where(entity.family == family)
        .order_by(entity.entity_id)
    )
    with engine.connect() as connection:
        numbers, oldest_ms, *rows = _columns(connection, statement).values()
        ids, figures = numbers.astype("int64"), np.array(rows)
        sealed_until = _sealed_until(connection, family, since_ms)
        until_ms = np.array([sealed_until.get(entity_id, -1) for entity_id in ids.tolist()], dtype="int64")
        late = oldest_ms <= until_ms  # some of its rows lie before what is sealed
        lacking = np.isnan(figures) | late
        asked = ids[lacking.any(axis=0) & (until_ms >= since_ms)].tolist()
        if asked:
            names = {metrics[row]: row for row in np.flatnonzero(lacking.any(axis=1)).tolist()}
            window = (since_ms, FOREVER_MS)
            read = series.read(connection, family, list(names), asked, *window, only_sealed=not late.any())
            for name, row in names.items():
                figures[row] = np.where(lacking[row], _last_known(read, name, ids), figures[row])
    return pd.DataFrame({"entity_id": ids, **dict(zip(metrics, figures, strict=True))})


def _last_known(read: series.Series, name: str, ids: Integers) -> Floats:
    """The newest known value of a metric, of each of some ascending entities."""
    values, last = read.values[name], np.full(len(ids), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    last[np.searchsorted(ids, read.entity_ids[known])] = values[known]  # in order of time, so that the newest stays
    return last


def highest(engine: Engine, family: str, metric: str, since_ms: int) -> pd.DataFrame:
    """The largest value of a metric since an instant, of each entity that has a sample; NaN where it is never known.

    Returns:
        entity_id and the metric.
    """
    table = schema.samples[family].c
    statement = (
        select(table.entity_id, func.max(table[metric]).label(metric))
        .where(table.entity_id.in_(select(schema.entity.c.entity_id)), table.observed_at_ms >= since_ms)
        .group_by(table.entity_id)
    )
    with engine.connect() as connection:
        ids, values = _columns(connection, statement).values()
        if _sealed_until(connection, family, since_ms):
            read = series.read(connection, family, [metric], None, since_ms, FOREVER_MS, only_sealed=True)
            ids, values = np.append(ids, read.entity_ids), np.append(values, read.values[metric])
    every, place = np.unique(ids.astype("int64"), return_inverse=True)
    found = np.full(len(every), np.nan)
    np.fmax.at(found, place, values)
    return pd.DataFrame({"entity_id": every, metric: found})


def _sealed_until(connection: Connection, family: str, since_ms: int) -> dict[int, int]:
    """The newest sealed instant (Unix ms) of each entity that has one since then: SQL cannot look into blocks."""
    if family not in schema.blocks:
        return {}
    table, entity = schema.blocks[family].c, schema.entity.c
    of_family = select(entity.entity_id).where(entity.family == family)  # by entity, as the table is ordered
    first_span = since_ms // SPAN_MS * SPAN_MS
    late = (
        select(table.entity_id, func.max(table.last_at_ms))
        .where(table.entity_id.in_(of_family), table.span_ms >= first_span, table.last_at_ms >= since_ms)
        .group_by(table.entity_id)
    )
    return dict(map(tuple, connection.execute(late)))


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


def extremes(
    engine: Engine, family: str, metric: str, entity_ids: Sequence[int] | None, start_ms: int, end_ms: int
) -> pd.DataFrame:
    """Between what values a metric lay in a window, or before and after it within a sealed span that the window cuts.

    Quick, so that what never changed or was never over zero need not be looked at.

    Returns:
        entity_id, lowest and highest; no row where nothing is known.
    """
    row, part, named = schema.samples[family].c, schema.block_aggregate.c, schema.metric.c
    of_metric = select(named.metric_id).where(named.family == family, named.name == metric).scalar_subquery()
    statements = (
        select(row.entity_id, func.min(row[metric]), func.max(row[metric]))
        .where(
            series.within(row.entity_id, entity_ids),
            row.observed_at_ms >= start_ms,
            row.observed_at_ms < end_ms,
            row[metric].is_not(None),
        )
        .group_by(row.entity_id),
        select(part.entity_id, func.min(part.min), func.max(part.max))
        .where(
            part.metric_id == of_metric,
            series.within(part.entity_id, entity_ids),
            series.overlapping(schema.block_aggregate, start_ms, end_ms),
            part.min.is_not(None),
        )
        .group_by(part.entity_id),
    )
    with engine.connect() as connection:
        found = [tuple(one) for statement in statements for one in connection.execute(statement)]
    frame = pd.DataFrame(found, columns=["entity_id", "lowest", "highest"]).astype({"entity_id": "int64"})
    grouped = _floats(frame, ["lowest", "highest"]).groupby("entity_id", as_index=False)
    return grouped.agg(lowest=("lowest", "min"), highest=("highest", "max"))


def latency(
    engine: Engine,
    entity_ids: Sequence[int] | None,
    kinds: Sequence[str],
    start_ms: int,
    end_ms: int,
    step_ms: int | None = None,
    *,
    together: bool = False,
) -> pd.DataFrame:
    """Histogram increments, summed per deployment, kind, step and set of bounds.

    Args:
        engine: the reader.
        entity_ids: deployments; ``None`` means all.
        kinds: values of ``core.readings.Latency``.
        start_ms: window start.
        end_ms: window end.
        step_ms: ``None`` sums the whole window into one row (``bucket_at`` is its start).
        together: sum over deployments as well; entity_id is 0 then.

    Returns:
        entity_id, kind, bucket_at, upper_bounds_seconds (tuple, last is inf), increments (float array,
        one per bound), sum_seconds. Different sets of bounds are never merged.
    """
    step = step_ms or max(end_ms - start_ms, 1)

    def work(ids: Sequence[int]) -> list[histograms.Histograms]:
        with engine.connect() as connection:
            if step_ms is None:
                return hourly.whole(connection, ids, kinds, start_ms, end_ms)
            return hourly.by_step(connection, ids, kinds, start_ms, end_ms, step)

    every = first_seen_ms(engine, "deployment").index.tolist() if entity_ids is None else sorted(entity_ids)
    pieces = _PIECES if step_ms is None else (end_ms - start_ms) // SPAN_MS + 2
    found = [one for part in shared(work, every, len(kinds) * pieces) for one in part]
    alike: dict[tuple[str, int], list[histograms.Histograms]] = {}
    for one in found:
        alike.setdefault((one.kind, one.bounds_id), []).append(one)
    upper = _upper_bounds(engine)
    rows: list[tuple[int, str, int, tuple[float, ...], Floats, float]] = []
    for (kind, bounds_id), parts in alike.items():
        numbers = (np.concatenate([one.at_ms for one in parts]) - start_ms) // step
        ids = np.repeat([0 if together else one.entity_id for one in parts], [len(one.at_ms) for one in parts])
        order = np.lexsort((numbers, ids))
        numbers, ids = numbers[order], ids[order]
        starts = np.flatnonzero((np.diff(ids, prepend=-1) != 0) | (np.diff(numbers, prepend=-1) != 0))
        counts = np.add.reduceat(np.concatenate([one.increments for one in parts], axis=1)[:, order], starts, axis=1)
        seconds = np.add.reduceat(np.concatenate([one.sum_seconds for one in parts])[order], starts)
        times = start_ms + numbers[starts] * step
        for entity_id, at_ms, increments, total in zip(ids[starts], times, counts.T.copy(), seconds, strict=True):
            rows.append((int(entity_id), kind, int(at_ms), upper[bounds_id], increments, float(total)))
    columns = ["entity_id", "kind", "bucket_at", "upper_bounds_seconds", "increments", "sum_seconds"]
    rows.sort(key=lambda row: row[:4])
    frame = pd.DataFrame(rows, columns=columns)
    frame["bucket_at"] = _times(frame["bucket_at"])
    frame["entity_id"] = frame["entity_id"].astype("int64")
    return _floats(frame, ["sum_seconds"])


def _upper_bounds(engine: Engine) -> dict[int, tuple[float, ...]]:
    """The bounds of histograms' buckets (s), by ``bounds_id``."""
    table = schema.histogram_bounds.c
    with engine.connect() as connection:
        found = connection.execute(select(table.bounds_id, table.upper_bounds_seconds))
        return {bounds_id: tuple(float(bound) for bound in json.loads(text)) for bounds_id, text in found}


def accounts(
    engine: Engine,
    family: str,
    entity_ids: Sequence[int] | None,
    edges_ms: Sequence[int],
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """What entities used and did between successive edges, from their accounts.

    Args:
        engine: the reader.
        family: "accelerator", "cpu", "host" or "deployment".
        entity_ids: ``None`` means all.
        edges_ms: ascending, whole UTC hours (Unix ms): n edges make n - 1 buckets of any width, such as weeks
            of a time zone.
        columns: those of an account that are wanted; ``None`` means all.

    Returns:
        entity_id, bucket_at, bucket_seconds, coverage_ratio, observed_seconds; energy_joules as observed,
        energy_seconds (the time it covers) and energy_source (worst of its hours) for what uses energy;
        active_joules, parked_joules, free_joules (of that energy; what lies in gaps is of none) and the time
        in each state, active_seconds, parked_seconds, free_seconds and off_seconds (all the rest), for
        accelerators; the increase of every counter for deployments. NaN: unknown. No row where nothing is
        accounted.
    """
    wanted = accounted.COLUMNS[family] if columns is None else columns
    names = list(dict.fromkeys(("observed_seconds", *wanted)))
    sums = account_sums.read(engine, family, entity_ids, edges_ms, names)
    figures, edges = sums.figures, np.asarray(edges_ms, dtype="int64")
    seconds = np.diff(edges)[sums.buckets] / 1000
    answer = {
        "entity_id": sums.entity_ids,
        "bucket_at": _instants(edges[sums.buckets]),
        "bucket_seconds": seconds,
        "coverage_ratio": np.minimum(figures["observed_seconds"] / seconds, 1.0),
        **{name: figures[name] for name in wanted},
    }
    if "energy_source" in answer:
        ranks = figures["energy_source"]
        answer["energy_source"] = _SOURCE_OF_RANK[np.where(np.isnan(ranks), len(SOURCES), ranks).astype("int64")]
    if "off_seconds" in answer:
        answer["off_seconds"] = np.maximum(seconds - figures["observed_seconds"], 0.0)
    return pd.DataFrame(answer, copy=False)


_SOURCE_OF_RANK = np.array([*SOURCES, None], dtype=object)


def accounted_until(engine: Engine, family: str | None = None) -> dict[int, int]:
    """End of the last hour that each entity has an account of (Unix ms), by entity_id; ``None``: of every family."""
    table, entity = schema.account.c, schema.entity.c
    last = select(func.max(table.start_ms)).where(table.hours == 1, table.entity_id == entity.entity_id)
    statement = select(entity.entity_id, last.scalar_subquery().label("start_ms"))
    if family is not None:
        statement = statement.where(entity.family == family)
    with engine.connect() as connection:
        found = connection.execute(statement).all()
        return {entity_id: start_ms + HOUR_MS for entity_id, start_ms in found if start_ms is not None}


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


def process_names(engine: Engine) -> pd.DataFrame:
    """What held memory on each device when it was last asked: entity_id and name."""
    table, entity = schema.device_process, schema.entity.c.entity_id
    newest = (
        select(func.max(table.c.observed_at_ms))
        .where(table.c.entity_id == entity)
        .correlate(schema.entity)
        .scalar_subquery()
    )
    return _frame(
        engine,
        select(table.c.entity_id, table.c.name)
        .select_from(schema.entity.join(table, table.c.entity_id == entity))
        .where(table.c.observed_at_ms == newest)
        .order_by(table.c.entity_id, table.c.pid),
    )


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

    def counted(one: tuple[str, Column[int]]) -> tuple[str, int, int, int | None, int | None]:
        name, at = one
        with engine.connect() as connection:
            rows, *ends = connection.execute(select(func.count(), func.min(at), func.max(at))).one()
            sealed = 0
            if name in blocks:
                of = blocks[name].c
                sums = select(func.sum(of.instants), func.min(of.first_at_ms), func.max(of.last_at_ms))
                instants, *more = connection.execute(sums).one()
                sealed, ends = int(instants or 0), [*ends, *more]
        known = [at_ms for at_ms in ends if at_ms is not None]
        return name, rows, sealed, min(known, default=None), max(known, default=None)

    with ThreadPoolExecutor(2) as pool:  # each reads through a table
        answers = list(pool.map(counted, [*hot, ("collector_tick", schema.collector_tick.c.scheduled_at_ms)]))
    with engine.connect() as connection:
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
