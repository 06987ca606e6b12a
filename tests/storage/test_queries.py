from __future__ import annotations

import numpy as np
import pytest

from core.readings import AcceleratorSample, DeploymentSample, Event, Latency, LatencySample, Severity
from core.settings import StorageSettings
from storage import queries
from storage.upkeep import Upkeep
from tests.conftest import START_MS, Store

STEP = 10_000


def counted(values: list[int | None]) -> list[AcceleratorSample]:
    return [
        AcceleratorSample(key="G", observed_at_ms=START_MS + n * STEP, ecc_corrected_errors_total=value)
        for n, value in enumerate(values)
    ]


def increase(store: Store, values: list[int | None]) -> float:
    store.write(*counted(values))
    end = START_MS + len(values) * STEP
    frame = queries.increases(store.reader, "accelerator", ["ecc_corrected_errors_total"], None, START_MS, end)
    return frame["ecc_corrected_errors_total"].item()


def test_increase_counts_a_restart_from_zero(store: Store):
    assert increase(store, [100, 130, 5, 25]) == 55


def test_increase_steps_over_ticks_at_which_the_counter_was_not_read(store: Store):
    assert increase(store, [100, None, None, 130, None, 131]) == 31


def test_increase_of_one_sample_is_unknown_not_zero(store: Store):
    assert np.isnan(increase(store, [100]))


def test_increase_looks_at_the_sample_before_the_window(store: Store):
    store.write(*counted([100, 130, 150]))
    frame = queries.increases(
        store.reader, "accelerator", ["ecc_corrected_errors_total"], None, START_MS + STEP, START_MS + 3 * STEP
    )
    assert frame["ecc_corrected_errors_total"].item() == 50


def test_increases_of_adjacent_windows_add_up(store: Store):
    values = [5, 9, 9, 2, 8, 30, 31, 4, 10]
    store.write(*counted(list(values)))

    def total(first: int, last: int) -> float:
        frame = queries.increases(
            store.reader,
            "accelerator",
            ["ecc_corrected_errors_total"],
            None,
            START_MS + first * STEP,
            START_MS + last * STEP,
        )
        return frame["ecc_corrected_errors_total"].item()

    assert total(0, 4) + total(4, 9) == total(0, 9)


def test_gauges_give_mean_min_and_max_per_step(store: Store):
    store.write(
        *(
            AcceleratorSample(key="G", observed_at_ms=START_MS + n * STEP, power_watts=watts)
            for n, watts in enumerate([100.0, 200.0, 300.0, None, 500.0])
        )
    )
    frame = queries.read(store.reader, "accelerator", ["power_watts"], None, START_MS, START_MS + 6 * STEP, 3 * STEP)
    assert frame["power_watts"].tolist() == [200.0, 500.0]
    assert frame["power_watts_min"].tolist() == [100.0, 500.0]
    assert frame["power_watts_max"].tolist() == [300.0, 500.0]
    assert frame["samples"].tolist() == [3, 2]


def test_a_state_has_no_mean(store: Store):
    with pytest.raises(ValueError, match="throttle_reasons is a state"):
        queries.read(store.reader, "accelerator", ["throttle_reasons"], None, 0, 1, 1)


def test_steps_without_samples_have_no_row(store: Store):
    for n in (0, 7):
        store.write(AcceleratorSample(key="G", observed_at_ms=START_MS + n * STEP, power_watts=1.0))
    frame = queries.read(store.reader, "accelerator", ["power_watts"], None, START_MS, START_MS + 8 * STEP, STEP)
    assert ((frame["bucket_at"].astype("int64") // 1000 - START_MS) // STEP).tolist() == [0, 7]


def test_observed_seconds_leave_out_gaps(store: Store):
    for n in (0, 1, 2, 100, 101):
        store.write(AcceleratorSample(key="G", observed_at_ms=START_MS + n * STEP))
    frame = queries.observed_seconds(store.reader, "accelerator", None, START_MS, START_MS + 1000 * STEP)
    assert frame["observed_seconds"].tolist() == [30.0]


def histogram(at_ms: int, increments: tuple[float, ...], bounds: tuple[float, ...] = (0.1, 1.0, float("inf"))):
    return LatencySample(
        key="s m",
        kind=Latency.TTFT,
        observed_at_ms=at_ms,
        upper_bounds_seconds=bounds,
        increments=increments,
        sum_seconds=sum(increments) / 10,
    )


def test_histograms_are_summed_per_step_and_bounds(store: Store):
    store.write(
        histogram(START_MS, (1, 2, 0)),
        histogram(START_MS + STEP, (3, 0, 1)),
        histogram(START_MS + 2 * STEP, (5, 5), (0.5, float("inf"))),
    )
    frame = queries.latency(store.reader, None, ["ttft"], START_MS, START_MS + 3 * STEP)
    assert [(row.upper_bounds_seconds, row.increments.tolist()) for row in frame.itertuples()] == [
        ((0.1, 1.0, float("inf")), [4, 2, 1]),
        ((0.5, float("inf")), [5, 5]),
    ]
    assert frame["sum_seconds"].tolist() == pytest.approx([0.7, 1.0])


def test_the_newest_known_value_is_found_behind_unknown_ones(store: Store):
    store.write(*counted([7, None, None]))
    frame = queries.latest_known(store.reader, "accelerator", ["ecc_corrected_errors_total", "power_watts"], START_MS)
    assert frame["ecc_corrected_errors_total"].item() == 7
    assert frame["power_watts"].isna().item()


@pytest.mark.parametrize("family", ["accelerator", "cpu", "host", "deployment", "probe"])
def test_an_empty_answer_has_the_same_columns_and_types(store: Store, family: str):
    empty = queries.latest(store.reader, family)
    assert empty.empty
    assert str(empty["observed_at"].dtype).startswith("datetime64")
    store.write(DeploymentSample(key="s m", observed_at_ms=START_MS, running_requests=1))
    if family == "deployment":
        assert queries.latest(store.reader, family).dtypes.equals(empty.dtypes)


def test_health_and_sizes_of_an_empty_store(store: Store):
    assert queries.health(store.reader, 0).empty
    assert queries.newest_sample_at_ms(store.reader) is None
    sizes = queries.store_size(store.reader)
    assert sizes["rows"].sum() == 0
    assert (sizes["file_bytes"] > 0).all()


def test_the_newest_event_of_a_kind_per_entity_however_old(store: Store):
    def event(seconds: int, key: str, kind: str = "unknown metrics") -> Event:
        return Event(
            observed_at_ms=START_MS + seconds * 1000,
            kind=kind,
            severity=Severity.INFO,
            message=f"{key} {seconds}",
            family="deployment",
            key=key,
        )

    store.write(event(0, "a"), event(0, "b"), event(60, "a"), event(90, "a", "restart"))
    frame = queries.newest_events(store.reader, "unknown metrics")
    assert frame["message"].tolist() == ["a 60", "b 0"]
    assert frame["key"].tolist() == ["a", "b"]
    assert queries.newest_events(store.reader, "nothing of the kind").empty


def test_between_what_values_a_metric_lay_is_found_in_rows_and_in_blocks(store: Store):
    hour_ms = 3_600_000
    start_ms = START_MS // (8 * hour_ms) * 8 * hour_ms
    for key, waiting in (("waited", [0, 2, 0]), ("calm", [0, 0, 0]), ("unknown", [None, None, None])):
        store.write(
            *(
                DeploymentSample(key=key, observed_at_ms=start_ms + n * STEP, waiting_requests=value)
                for n, value in enumerate(waiting)
            )
        )
    keys = queries.entities(store.reader, "deployment").set_index("key")["entity_id"]
    asked = ("deployment", "waiting_requests", keys.tolist())

    def found(first: int, last: int) -> list[tuple[float, ...]]:
        frame = queries.extremes(store.reader, *asked, start_ms + first * STEP, start_ms + last * STEP)
        return list(frame.itertuples(index=False, name=None))

    both = [(keys["waited"], 0.0, 2.0), (keys["calm"], 0.0, 0.0)]
    assert found(0, 3) == both
    assert found(2, 3) == [(keys["waited"], 0.0, 0.0), (keys["calm"], 0.0, 0.0)]
    Upkeep(store.reader, store.writer, StorageSettings()).seal(start_ms + 2 * hour_ms)
    assert found(0, 3) == both
    assert found(5, 6) == both  # within the same sealed span
    assert queries.extremes(store.reader, *asked, start_ms + 8 * hour_ms, start_ms + 9 * hour_ms).empty
