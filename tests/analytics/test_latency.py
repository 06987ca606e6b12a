"""Quantiles over servers and windows: what cannot be added up is counted, what is accounted is not read again."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection

from analytics.latency import FIGURES, quantiles_by
from core.readings import DeploymentSample, Latency, LatencySample, Reading
from core.settings import StorageSettings
from storage import histograms, hourly, queries
from storage.codec import unpack_first
from storage.upkeep import Upkeep
from tests.conftest import Store
from tests.quantiles import quantiles

HOUR_MS = 3_600_000
START_MS = 20_371 * 24 * HOUR_MS
FINE, COARSE, BARE = (0.1, 0.5, 1.0, math.inf), (0.2, 2.0, math.inf), (math.inf,)


def seen(
    key: str,
    at_ms: int,
    bounds: tuple[float, ...],
    *increments: float,
    seconds: float | None = 1.0,
    kind: Latency = Latency.TTFT,
) -> LatencySample:
    return LatencySample(
        key=key,
        kind=kind,
        observed_at_ms=at_ms,
        upper_bounds_seconds=bounds,
        increments=increments,
        sum_seconds=seconds,
    )


def whole(store: Store, *readings: Reading) -> pd.Series:
    store.write(*readings)
    return quantiles(store.reader, None, "ttft", START_MS, START_MS + HOUR_MS).iloc[0]


def test_servers_of_one_kind_add_up(store: Store):
    found = whole(store, seen("a", START_MS, FINE, 10, 0, 0, 0), seen("b", START_MS, FINE, 0, 10, 0, 0, seconds=3.0))
    assert (found["observations"], found["left_out_observations"]) == (20, 0)
    assert found["p50_seconds"] == pytest.approx(0.1)
    assert found["mean_seconds"] == pytest.approx(0.2)


def test_servers_with_other_bounds_are_counted_not_dropped_in_silence(store: Store):
    found = whole(store, seen("a", START_MS, FINE, 0, 30, 0, 0), seen("b", START_MS, COARSE, 10, 0, 0))
    assert (found["observations"], found["left_out_observations"]) == (30, 10)
    assert found["p50_seconds"] == pytest.approx(0.3)
    assert found["mean_seconds"] == pytest.approx(2.0 / 40)  # sums need no bounds


def test_a_histogram_without_bounds_has_a_mean_and_no_quantile(store: Store):
    found = whole(store, seen("a", START_MS, BARE, 200, seconds=30.0))
    assert found["observations"] == 200
    assert found["mean_seconds"] == pytest.approx(0.15)
    assert math.isnan(found["p50_seconds"])
    assert math.isnan(found["lowest_bound_seconds"])
    assert math.isnan(found["highest_bound_seconds"])
    assert not found[["p50_at_least", "p95_at_least", "p99_at_least"]].any()


def test_buckets_win_over_a_server_that_has_none(store: Store):
    found = whole(store, seen("a", START_MS, BARE, 500), seen("b", START_MS, FINE, 0, 20, 0, 0))
    assert (found["observations"], found["left_out_observations"]) == (20, 500)
    assert found["p50_seconds"] == pytest.approx(0.3)


def test_nothing_seen_is_an_empty_answer_with_the_same_columns(store: Store):
    found = quantiles(store.reader, None, "ttft", START_MS, START_MS + HOUR_MS)
    assert found.empty
    assert "left_out_observations" in found


@pytest.fixture
def accounted(store: Store) -> Store:
    """Six hours of two servers, one of which fell silent in the third; accounts of all but the newest hours."""
    readings: list[Reading] = []
    for tick in range(6 * 60):
        at_ms = START_MS + tick * 60_000
        for key, last in (("a", 6 * 60), ("b", 150)):
            if tick < last:
                bounds = FINE if key == "a" or tick < 60 else COARSE
                counts = [float((tick + n) % 5) for n in range(len(bounds))]
                readings += [
                    DeploymentSample(key=key, observed_at_ms=at_ms, generation_tokens_total=float(tick)),
                    seen(key, at_ms, bounds, *counts, seconds=None if key == "b" and tick == 70 else tick / 7),
                    seen(key, at_ms, FINE, 1, 2, 3, 4, kind=Latency.E2E),
                ]
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    now_ms = START_MS + 5 * HOUR_MS + 1_800_000
    upkeep.seal(now_ms)
    upkeep.account(now_ms)
    return store


def _both_ways(store: Store, start_ms: int, end_ms: int) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    with store.reader.connect() as connection:
        by_hours = hourly.whole(connection, None, ["ttft", "e2e"], start_ms, end_ms)
        by_blocks = histograms.read(connection, None, ["ttft", "e2e"], start_ms, end_ms)
    return tuple(  # type: ignore[return-value]
        [
            (
                one.entity_id,
                one.kind,
                one.bounds_id,
                one.increments.sum(axis=1).tolist(),
                round(one.sum_seconds.sum(), 6),
            )
            for one in every
        ]
        for every in (by_hours, by_blocks)
    )


EDGES = (-60, 0, 1, 59, 60, 61, 119, 120, 121, 180, 239, 240, 299, 300, 301, 330, 360, 400)  # min


def test_whole_hours_from_accounts_tell_what_blocks_tell(accounted: Store):
    """Also where an edge of the window is the instant of a sample, or the end of an hour, or both."""
    for start, end in itertools.combinations(EDGES, 2):
        fast, slow = _both_ways(accounted, START_MS + start * 60_000, START_MS + end * 60_000)
        assert str(fast) == str(slow), (start, end)  # as text, since an unknown sum is NaN


def test_only_what_no_account_holds_is_read(accounted: Store, monkeypatch: pytest.MonkeyPatch):
    asked: set[tuple[int, int]] = set()
    real = histograms.sums

    def noted(connection: Connection, ids: list[int], kinds: list[str], begin_ms: int, end_ms: int, *more: Any):
        asked.add((begin_ms, end_ms))
        return real(connection, ids, kinds, begin_ms, end_ms, *more)

    monkeypatch.setattr(histograms, "sums", noted)
    with accounted.reader.connect() as connection:
        hourly.whole(connection, None, ["ttft"], START_MS, START_MS + 6 * HOUR_MS)
    assert asked == {
        (START_MS, START_MS + 1),  # the first instant ends an hour that has no account
        (START_MS + 5 * HOUR_MS + 1, START_MS + 6 * HOUR_MS),  # the hour that goes on
        (START_MS + 2 * HOUR_MS + 1, START_MS + 6 * HOUR_MS),  # of the server that fell silent
    }


def test_bounds_above_all_that_was_seen_are_not_decoded(store: Store, monkeypatch: pytest.MonkeyPatch):
    readings: list[Reading] = []
    for tick in range(5 * 60):
        at_ms, slow = START_MS + tick * 60_000, float(tick > 200)
        readings += [
            DeploymentSample(key="a", observed_at_ms=at_ms, generation_tokens_total=float(tick)),
            seen("a", at_ms, FINE, tick % 3, 1, 0, slow),
            seen("a", at_ms, FINE, 0, 0, 0, 0, kind=Latency.E2E),
        ]
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.seal(START_MS + 3 * HOUR_MS + 1_800_000)
    upkeep.account(START_MS + 3 * HOUR_MS + 1_800_000)
    upkeep.seal(START_MS + 6 * HOUR_MS)  # no account holds what is sealed now
    decoded: list[int] = []

    def noted(payload: bytes, count: int):
        decoded.append(count)
        return unpack_first(payload, count)

    monkeypatch.setattr(histograms, "unpack_first", noted)
    for hours, lengths in ((3, [0, 2 * 300]), (5, [])):
        window = (START_MS + 1_800_000, START_MS + hours * HOUR_MS)
        decoded.clear()
        steps = queries.latency(store.reader, None, ["ttft", "e2e"], *window, 7 * 60_000)
        assert sorted(decoded) == lengths
        fast, slow_ = _both_ways(store, *window)
        assert str(fast) == str(slow_)
        sums = steps.groupby("kind", sort=False)["increments"].sum()
        assert [sums[kind].tolist() for _, kind, *_ in fast] == [increments for *_, increments, _ in fast]


def test_late_data_is_not_missed(accounted: Store):
    """An account that is not final any more is not read."""
    accounted.write(seen("a", START_MS + HOUR_MS + 30_500, FINE, 7, 7, 7, 7))
    fast, slow = _both_ways(accounted, START_MS, START_MS + 6 * HOUR_MS)
    assert str(fast) == str(slow)


def test_whole_days_are_read_by_their_sums(store: Store):
    """Three days with a pause: hours before and after whole days, and days that began before the first sample."""
    readings: list[Reading] = []
    for tick in range(3 * 24 * 2):
        if not 50 < tick < 60:
            at_ms = START_MS + 5 * HOUR_MS + tick * 1_800_000
            readings += [
                DeploymentSample(key="a", observed_at_ms=at_ms, generation_tokens_total=float(tick)),
                seen("a", at_ms, FINE, *(float((tick + n) % 7) for n in range(4)), seconds=tick / 3),
            ]
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    now_ms = START_MS + 77 * HOUR_MS
    upkeep.seal(now_ms)
    upkeep.account(now_ms)
    for start, end in itertools.combinations((-24, 0, 3, 5, 5.25, 24, 24.5, 47, 48, 70, 72, 73.5, 76, 96), 2):
        fast, slow = _both_ways(store, START_MS + int(start * HOUR_MS), START_MS + int(end * HOUR_MS))
        assert str(fast) == str(slow), (start, end)


@pytest.mark.parametrize("step_ms", [60_000, 7 * 60_000, HOUR_MS, 7 * HOUR_MS])
def test_steps_are_the_same_from_rows_and_from_blocks(accounted: Store, step_ms: int):
    """Servers with other bounds in one step, one that changed them, and samples that came late or twice."""
    accounted.write(seen("a", START_MS + 30_500, FINE, 7, 7, 7, 7))
    frame = queries.latency(accounted.reader, None, ["ttft"], START_MS, START_MS + 6 * HOUR_MS, step_ms)
    with accounted.reader.connect() as connection:
        every = histograms.read(connection, None, ["ttft"], START_MS, START_MS + 6 * HOUR_MS)
    expected: dict[tuple[int, int, int], list[float]] = {}
    for one in every:
        for at_ms, counts in zip(one.at_ms, one.increments.T, strict=True):
            key = (one.entity_id, (int(at_ms) - START_MS) // step_ms, len(counts))
            expected[key] = [a + b for a, b in zip(expected.get(key, [0.0] * len(counts)), counts, strict=True)]
    steps = (queries.epoch_ms(frame["bucket_at"]) - START_MS) // step_ms
    found = {
        (entity_id, step, len(increments)): increments.tolist()
        for entity_id, step, increments in zip(frame["entity_id"], steps, frame["increments"], strict=True)
    }
    assert found == expected
    together = queries.latency(
        accounted.reader, None, ["ttft"], START_MS, START_MS + 6 * HOUR_MS, step_ms, together=True
    )
    assert set(together["entity_id"]) == {0}
    assert sum(counts.sum() for counts in together["increments"]) == sum(map(sum, expected.values()))
    assert not together.duplicated(["bucket_at", "upper_bounds_seconds"]).any()


def test_quantiles_of_each_deployment_are_as_it_has_them_alone(accounted: Store):
    window = (START_MS, START_MS + 6 * HOUR_MS)
    each = quantiles_by(queries.latency(accounted.reader, None, ["ttft", "e2e"], *window), ["entity_id", "kind"])
    assert len(each) == 4
    for row in each.to_dict("records"):
        (alone,) = quantiles(accounted.reader, [row["entity_id"]], row["kind"], *window).to_dict("records")
        assert str([row[name] for name in FIGURES]) == str([alone[name] for name in FIGURES])
