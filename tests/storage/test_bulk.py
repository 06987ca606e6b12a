"""The past, loaded from memory: read back as it is, once, and beside what came by itself."""

from __future__ import annotations

import json

import numpy as np
from sqlalchemy import func, select

from core.readings import AcceleratorSample, Latency, LatencySample
from core.settings import StorageSettings
from storage import histograms, schema, series
from storage.bulk import Bulk
from storage.codec import Floats, Integers
from storage.schema import SPAN_MS
from storage.upkeep import Upkeep
from tests.conftest import Store

BOUNDS = (0.1, 1.0, float("inf"))
STEP_MS = 60_000
SPAN = 1_760_000_000_000 // SPAN_MS * SPAN_MS


def past(first: int, last: int) -> tuple[Integers, Floats, Floats]:
    """Instants ``[first, last)`` of a grid, counts that are all different, and sums of which some are unknown."""
    numbers = np.arange(first, last)
    counts = np.stack([numbers * 3.0, numbers * 3.0 + 1, numbers * 3.0 + 2])
    return SPAN + numbers * STEP_MS, counts, np.where(numbers % 7, numbers * 0.5, np.nan)


def load(store: Store, first: int, last: int) -> None:
    Bulk(store.writer).load_latency("d", "ttft", BOUNDS, *past(first, last))


def check(store: Store, first: int, last: int) -> None:
    at_ms, counts, sums = past(first, last)
    with store.reader.connect() as connection:
        (read,) = histograms.read(connection, None, None, SPAN, SPAN + 3 * SPAN_MS)
    np.testing.assert_array_equal(read.at_ms, at_ms)
    np.testing.assert_array_equal(read.increments, counts)
    np.testing.assert_array_equal(read.sum_seconds, sums)


def rows(store: Store) -> int:
    with store.reader.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.latency_sample)).scalar_one())


# --- samples ---


def samples(first: int, last: int) -> tuple[Integers, dict[str, Floats]]:
    """A gauge, a counter that begins anew once, one that is unknown throughout and one that is in part."""
    numbers = np.arange(first, last)
    nowhere, at_times = np.full(len(numbers), np.nan), np.where(numbers % 5, np.nan, 7.0)
    values = {
        "power_watts": 300.0 + numbers % 13,
        "energy_joules_total": 1e3 * (numbers % 700),
        "temperature_celsius": nowhere,
        "memory_temperature_celsius": at_times,
    }
    return SPAN + numbers * STEP_MS, values


def stored(store: Store, key: str) -> list[list[tuple[object, ...]]]:
    """Blocks of an accelerator, what stands beside them, and its rows, without the number of the entity."""
    tables = (schema.blocks["accelerator"], schema.block_aggregate, schema.samples["accelerator"])
    with store.reader.connect() as connection:
        number = select(schema.entity.c.entity_id).where(schema.entity.c.key == key).scalar_subquery()
        return [
            [
                tuple(row)
                for row in connection.execute(
                    select(*(c for c in table.c if c.name != "entity_id"))
                    .where(table.c.entity_id == number)
                    .order_by(*(c for c in table.primary_key if c.name != "entity_id"))
                )
            ]
            for table in tables
        ]


def test_samples_are_stored_as_the_writer_does_one_span_after_the_other(store: Store):
    at_ms, values = samples(100, 1300)
    store.writer.load("accelerator", "slow", at_ms, values)
    Bulk(store.writer).load("accelerator", "quick", at_ms, values)
    assert stored(store, "quick") == stored(store, "slow")
    assert len(stored(store, "quick")[0]) == 3


def test_samples_that_are_there_stay_and_the_others_come_beside_them(store: Store):
    live_ms, watts = SPAN + 300 * STEP_MS, 999.0
    store.write(AcceleratorSample(key="quick", observed_at_ms=live_ms, power_watts=watts))
    for first, last in ((600, 900), (0, 700), (0, 900)):
        Bulk(store.writer).load("accelerator", "quick", *samples(first, last))
    with store.reader.connect() as connection:
        read = series.read(connection, "accelerator", ["power_watts"], None, SPAN, SPAN + 3 * SPAN_MS)
    (rows,) = read.by_entity()
    at_ms, values = samples(0, 900)
    expected = np.where(at_ms == live_ms, watts, values["power_watts"])
    np.testing.assert_array_equal(rows.at_ms, at_ms)
    np.testing.assert_array_equal(rows.values["power_watts"], expected)


# --- histograms ---


def test_what_is_loaded_over_two_spans_is_read_back_and_needs_no_row(store: Store):
    load(store, 100, 900)
    check(store, 100, 900)
    assert rows(store) == 0


def test_loading_twice_or_overlapping_changes_nothing_that_was_there(store: Store):
    load(store, 10, 300)
    load(store, 200, 600)
    load(store, 10, 300)
    check(store, 10, 600)
    Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000)).seal(SPAN + 2 * SPAN_MS)
    assert rows(store) == 0
    check(store, 10, 600)


def test_nothing_loads_nothing(store: Store):
    load(store, 5, 5)
    with store.reader.connect() as connection:
        assert histograms.read(connection, None, None, 0, SPAN + SPAN_MS) == []
    Bulk(store.writer).load("accelerator", "quick", *samples(5, 5))
    assert stored(store, "quick") == [[], [], []]


def test_accounts_before_what_was_loaded_late_are_made_again(store: Store):
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    at_ms, counts, _ = past(0, 200)
    store.writer.load("deployment", "d", at_ms, {"running_requests": np.ones(200)})
    upkeep.account(SPAN + SPAN_MS)
    load(store, 0, 200)
    upkeep.account(SPAN + SPAN_MS)
    table = schema.latency_account.c
    with store.reader.connect() as connection:
        found = connection.execute(select(table.increments).where(table.hours == 1)).scalars().all()
    assert len(found) == 4
    # What is told at the first instant happened in the hour before, of which nothing else is known.
    assert np.sum([json.loads(one) for one in found], axis=0).tolist() == counts[:, 1:].sum(axis=1).tolist()


def test_live_rows_are_read_beside_what_was_loaded(store: Store):
    load(store, 10, 20)
    at_ms, counts, sums = past(20, 21)
    store.write(
        LatencySample(
            key="d",
            kind=Latency.TTFT,
            observed_at_ms=int(at_ms[0]),
            upper_bounds_seconds=BOUNDS,
            increments=tuple(counts[:, 0].tolist()),
            sum_seconds=float(sums[0]),
        )
    )
    check(store, 10, 21)
    assert rows(store) == 1


def test_other_bounds_are_another_series(store: Store):
    load(store, 10, 20)
    at_ms, counts, sums = past(10, 20)
    Bulk(store.writer).load_latency("d", "ttft", BOUNDS[1:], at_ms, counts[:2], sums)
    with store.reader.connect() as connection:
        assert [len(one.increments) for one in histograms.read(connection, None, None, 0, SPAN + SPAN_MS)] == [3, 2]
