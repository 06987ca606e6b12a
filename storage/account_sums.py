"""Accounts of many entities and hours as arrays: what ``queries.accounts`` makes a frame of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, Engine, Select, case, func, literal, select

from storage import accounts, schema, series
from storage.codec import Floats, Integers
from storage.hours import SOURCES
from storage.schema import HOUR_MS


@dataclass(frozen=True, slots=True)
class AccountSums:
    """Accounts summed up between edges, ordered by entity and bucket: one entry for each that has any.

    ``buckets`` are numbers from 0; ``figures`` by name, NaN: unknown. Of a source it is the rank, the worst of all.
    """

    entity_ids: Integers
    buckets: Integers
    figures: Mapping[str, Floats]


def read(
    engine: Engine, family: str, entity_ids: Sequence[int] | None, edges_ms: Sequence[int], columns: Sequence[str]
) -> AccountSums:
    """Columns of accounts, and nothing else.

    Args:
        engine: the reader.
        family: "accelerator", "cpu", "host" or "deployment".
        entity_ids: ``None`` means all.
        edges_ms: ascending, whole UTC hours (Unix ms): n edges make n - 1 buckets of any width.
        columns: those wanted, of ``schema.account``.
    """

    def rows(of: tuple[int, list[int]]) -> Floats:
        statement = _statement(family, columns, entity_ids, *of, edges_ms)
        with engine.connect() as connection:
            return series.plain_rows(connection, statement).reshape(-1, 1 + len(columns))

    starts = list(_starts(edges_ms).items())
    if len(starts) > 1:
        with ThreadPoolExecutor(2) as pool:
            parts = list(pool.map(rows, starts))
    else:
        parts = list(map(rows, starts))
    every = np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.empty((0, 1 + len(columns)))
    key = every[:, 0].astype("int64")
    if (key[1:] < key[:-1]).any():  # accounts of one width come in order
        order = np.argsort(key, kind="stable")
        key, every = key[order], every[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    figures = {name: every[:, 1 + i] for i, name in enumerate(columns)}
    if len(first) < len(key):
        figures = {name: _put_together(name, values, first) for name, values in figures.items()}
    return AccountSums(*np.divmod(key[first], max(len(edges_ms) - 1, 1)), figures)


def _starts(edges_ms: Sequence[int]) -> dict[int, list[int]]:
    """Which accounts together fill the buckets: hours that one covers, widest first -> starts."""
    starts: dict[int, list[int]] = {width: [] for width in (*accounts.SUMS, 1)}
    for at_ms, end_ms in pairwise(edges_ms):
        while at_ms < end_ms:
            width = next(w for w in starts if at_ms % (w * HOUR_MS) == 0 and at_ms + w * HOUR_MS <= end_ms)
            starts[width].append(at_ms)
            at_ms += width * HOUR_MS
    return {width: of for width, of in starts.items() if of}


def _put_together(name: str, values: Floats, first: Integers) -> Floats:
    """Entries from each of some positions on as one, of what is known of them."""
    if name == "energy_source":
        return np.asarray(np.fmax.reduceat(values, first))
    known = ~np.isnan(values)
    sums = np.add.reduceat(np.where(known, values, 0.0), first)
    return np.where(np.logical_or.reduceat(known, first), sums, np.nan)


def _statement(
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
    figures = [rank if name == "energy_source" else table[name] for name in names]
    # One number for both, since the driver makes an object of each.
    key = (table.entity_id * literal(len(edges_ms) - 1, BigInteger) + bucket).label("key")
    # By entity, so that what is asked for is looked up and not all of a width read through.
    kept = [table.hours == width, table.entity_id.in_(of_family), within]
    if len(starts) == len(edges_ms) - 1:  # each is a bucket of its own
        return select(key, *figures).where(*kept)
    sums = [
        func.max(one) if name == "energy_source" else func.sum(one) for name, one in zip(names, figures, strict=True)
    ]
    return select(key, *sums).where(*kept).group_by(key)
