"""Accounts against figures that can be worked out by hand, and against themselves made anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from core.readings import (
    AcceleratorSample,
    Assignment,
    CpuSample,
    DeploymentSample,
    HostSample,
    Latency,
    LatencySample,
    Reading,
)
from core.settings import StorageSettings
from storage import account_sums, accounts, queries, schema
from storage.hourly_energy import energy_by_hour
from storage.upkeep import Upkeep
from tests.conftest import Store

HOUR_MS = 3_600_000
MIDNIGHT_MS = 20_371 * 24 * HOUR_MS
STEP_MS = 10_000


def keep(store: Store, *, hours: float) -> Upkeep:
    """One round of upkeep as if so many hours had passed since midnight."""
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    now_ms = MIDNIGHT_MS + round(hours * HOUR_MS)
    upkeep.seal(now_ms)
    upkeep.account(now_ms)
    return upkeep


def rows(store: Store, hours: int = 1) -> list[dict]:
    table = schema.account
    with store.reader.connect() as connection:
        statement = select(table).where(table.c.hours == hours).order_by(table.c.entity_id, table.c.start_ms)
        return [dict(row) for row in connection.execute(statement).mappings()]


def gpu(second: float, **values: float) -> AcceleratorSample:
    return AcceleratorSample(key="G", observed_at_ms=MIDNIGHT_MS + round(second * 1000), **values)  # type: ignore[arg-type]


def test_a_steady_hour_is_accounted_to_the_second(store: Store):
    """500 W for two hours by a counter: 1.8 MJ an hour, all of it observed, held by nobody."""
    store.write(*(gpu(s, energy_joules_total=s * 500.0, power_watts=500.0, processes=0) for s in range(0, 7210, 10)))
    keep(store, hours=2.2)
    first, second = rows(store)
    for hour in (first, second):
        assert hour["energy_joules"] == pytest.approx(1_800_000)
        assert hour["energy_seconds"] == pytest.approx(3600)
        assert (hour["energy_source"], hour["observed_seconds"]) == ("counter", pytest.approx(3600))
        assert (hour["free_seconds"], hour["active_seconds"], hour["off_seconds"]) == (pytest.approx(3600), None, 0)
    (day,) = rows(store, hours=24)
    assert day["energy_joules"] == pytest.approx(3_600_000)
    assert day["free_seconds"] == pytest.approx(7200)


def test_power_samples_make_energy_where_there_is_no_counter(store: Store):
    store.write(*(gpu(s, power_watts=100.0) for s in range(0, 3610, 10)))
    keep(store, hours=1.2)
    (hour,) = rows(store)
    assert (hour["energy_joules"], hour["energy_source"]) == (pytest.approx(360_000), "integrated")


def test_a_counter_that_contradicts_the_power_beside_it_is_not_believed(store: Store):
    store.write(*(gpu(s, power_watts=100.0, energy_joules_total=s * 1e6) for s in range(0, 3610, 10)))
    keep(store, hours=1.2)
    (hour,) = rows(store)
    assert (hour["energy_joules"], hour["energy_source"]) == (pytest.approx(360_000), "integrated")


def test_node_power_is_called_so(store: Store):
    store.write(
        *(
            HostSample(key="h", observed_at_ms=MIDNIGHT_MS + s * 1000, node_power_watts=900.0)
            for s in range(0, 3610, 10)
        )
    )
    keep(store, hours=1.2)
    assert rows(store)[0]["energy_source"] == "node"


def test_no_energy_is_invented_over_a_gap_in_power(store: Store):
    """Worked example 8 of the economics: only steps of at most max(3 intervals, 30 s) count."""
    watts = {0: 300, 10: 320, 20: 500, 30: 700, 150: 680, 160: 400, 170: 120}
    store.write(*(gpu(s, power_watts=float(w)) for s, w in watts.items()), gpu(3700, power_watts=100.0))
    keep(store, hours=1.2)
    hour = rows(store)[0]
    assert hour["energy_joules"] == pytest.approx(21_200)
    assert hour["energy_seconds"] == pytest.approx(50)
    assert hour["observed_seconds"] == pytest.approx(50)
    assert hour["off_seconds"] == pytest.approx(3550)


@pytest.mark.parametrize(("before", "after"), [(60, 10), (10, 60)])
def test_a_pace_that_changes_is_no_gap(store: Store, before: int, after: int):
    """100 W throughout, an hour at one interval and an hour at another; it is accounted for as seen throughout."""
    seen = [*range(0, 3600, before), *range(3600, 7260, after)]
    store.write(*(gpu(s, power_watts=100.0, energy_joules_total=s * 100.0, processes=0) for s in seen))
    keep(store, hours=2.2)
    for hour in rows(store)[:2]:
        assert hour["energy_joules"] == pytest.approx(360_000)
        assert hour["energy_source"] == "counter"
        assert hour["observed_seconds"] == pytest.approx(3600)
        assert hour["free_seconds"] == pytest.approx(3600)
        assert hour["free_joules"] == pytest.approx(360_000)


def test_a_counter_goes_on_over_a_gap_within_the_hour(store: Store):
    joules = {0: 0.0, 10: 5_000.0, 20: 10_000.0, 30: 15_000.0, 150: 90_000.0, 160: 95_000.0, 170: 98_500.0}
    store.write(*(gpu(s, energy_joules_total=j) for s, j in joules.items()), gpu(3700, energy_joules_total=98_500.0))
    keep(store, hours=1.2)
    hour = rows(store)[0]
    assert hour["energy_joules"] == pytest.approx(98_500.0)
    assert hour["energy_source"] == "estimated"  # the last step leads out of the hour and is a gap


def test_what_a_counter_counted_while_nobody_looked_is_spread_and_adds_up(store: Store):
    """100 W throughout; not looked at from 0:30 to 3:30."""
    seen = [*range(0, 1810, 10), *range(12_600, 14_410, 10)]
    store.write(*(gpu(s, energy_joules_total=s * 100.0) for s in seen))
    keep(store, hours=4.2)
    hours = rows(store)
    assert [hour["energy_joules"] for hour in hours] == [pytest.approx(360_000)] * 4
    assert [hour["energy_source"] for hour in hours] == ["estimated"] * 4
    assert [hour["observed_seconds"] for hour in hours] == [pytest.approx(s) for s in (1800, 0, 0, 1800)]
    assert sum(hour["energy_joules"] for hour in hours) == pytest.approx(14_400 * 100)


def test_a_restarted_counter_costs_the_step_in_which_it_restarted(store: Store):
    totals = [1000.0, 1100.0, 1200.0, 50.0, 150.0]
    store.write(
        *(gpu(n * 10, energy_joules_total=j) for n, j in enumerate(totals)), gpu(3601, energy_joules_total=150.0)
    )
    keep(store, hours=1.2)
    assert rows(store)[0]["energy_joules"] == pytest.approx(300.0)


def test_tokens_count_a_restart_from_zero(store: Store):
    """Worked example 7: 100, 130, 5, 25 is 55."""
    totals = [100.0, 130.0, 5.0, 25.0]
    store.write(
        *(
            DeploymentSample(key="d", observed_at_ms=MIDNIGHT_MS + n * STEP_MS, generation_tokens_total=total)
            for n, total in enumerate(totals)
        ),
        DeploymentSample(key="d", observed_at_ms=MIDNIGHT_MS + HOUR_MS + 1, generation_tokens_total=25.0),
    )
    keep(store, hours=1.2)
    assert rows(store)[0]["generation_tokens"] == pytest.approx(55)


def test_states_follow_the_server_and_the_look_back(store: Store):
    """A model is held for an hour; requests run in the first ten minutes, and five minutes of lull are still work."""
    readings: list[Reading] = [
        Assignment(
            deployment_key="d",
            target_family="accelerator",
            target_keys=("G",),
            origin="processes",
            observed_at_ms=MIDNIGHT_MS,
        )
    ]
    for s in range(0, 3610, 10):
        readings.append(gpu(s, processes=1, utilization_ratio=0.0, power_watts=700.0 if s <= 900 else 100.0))
        at_ms = MIDNIGHT_MS + s * 1000
        running = 2.0 if s <= 600 else 0.0
        readings.append(DeploymentSample(key="d", observed_at_ms=at_ms, running_requests=running, waiting_requests=0.0))
    store.write(*readings)
    keep(store, hours=1.2)
    hour = next(row for row in rows(store) if row["active_seconds"])
    assert hour["active_seconds"] == pytest.approx(900)
    assert hour["parked_seconds"] == pytest.approx(2700)
    assert hour["active_joules"] == pytest.approx(900 * 700)
    assert hour["parked_joules"] == pytest.approx(2690 * 100 + 10 * 400)  # the step of the fall ends in it
    assert hour["free_joules"] is None


def test_energy_of_a_gap_is_of_no_state(store: Store):
    """100 W throughout, nothing on it; not looked at for half an hour."""
    seen = [*range(0, 910, 10), *range(2_700, 3_610, 10)]
    store.write(*(gpu(s, energy_joules_total=s * 100.0, processes=0) for s in seen))
    keep(store, hours=1.2)
    (hour,) = rows(store)
    assert hour["energy_joules"] == pytest.approx(360_000)
    assert (hour["active_joules"], hour["parked_joules"]) == (None, None)
    assert hour["free_joules"] == pytest.approx(180_000)


def test_histograms_are_summed_by_hour_and_day(store: Store):
    def histogram(second: int, *counts: float) -> LatencySample:
        return LatencySample(
            key="d",
            kind=Latency.TTFT,
            observed_at_ms=MIDNIGHT_MS + second * 1000,
            upper_bounds_seconds=(0.1, 1.0, float("inf")),
            increments=counts,
            sum_seconds=sum(counts) / 2,
        )

    deployment = [DeploymentSample(key="d", observed_at_ms=MIDNIGHT_MS + s * 1000) for s in range(0, 7300, 10)]
    store.write(*deployment, histogram(10, 1, 2, 0), histogram(3600, 1, 0, 0), histogram(3610, 0, 5, 1))
    keep(store, hours=2.2)
    table = schema.latency_account.c
    with store.reader.connect() as connection:
        found = connection.execute(
            select(table.hours, table.start_ms, table.increments, table.sum_seconds).order_by(
                table.hours, table.start_ms
            )
        ).all()
    assert [tuple(row) for row in found] == [
        (1, MIDNIGHT_MS, "[2.0,2.0,0.0]", 2.0),  # an interval that ends with the hour was counted in it
        (1, MIDNIGHT_MS + HOUR_MS, "[0.0,5.0,1.0]", 3.0),
        (24, MIDNIGHT_MS, "[2.0,7.0,1.0]", 5.0),
    ]


def test_late_data_make_the_hour_and_the_day_anew(store: Store):
    store.write(*(gpu(s, power_watts=100.0) for s in [*range(0, 1810, 10), *range(3600, 7300, 10)]))
    keep(store, hours=2.2)
    assert rows(store)[0]["energy_joules"] == pytest.approx(180_000)
    store.write(*(gpu(s, power_watts=100.0) for s in range(1810, 3600, 10)))
    keep(store, hours=2.3)
    assert [hour["energy_joules"] for hour in rows(store)] == [pytest.approx(360_000)] * 2
    assert rows(store, hours=24)[0]["energy_joules"] == pytest.approx(720_000)


def test_a_device_that_fell_silent_has_its_last_hour_too(store: Store):
    store.write(*(gpu(s, power_watts=100.0) for s in range(0, 1810, 10)))
    keep(store, hours=30)
    keep(store, hours=60)
    (hour,) = rows(store)
    assert hour["energy_joules"] == pytest.approx(180_000)
    store.write(*(gpu(s, power_watts=100.0) for s in range(200_000, 203_000, 10)))
    keep(store, hours=90)
    assert [hour["start_ms"] for hour in rows(store)] == [
        MIDNIGHT_MS,
        MIDNIGHT_MS + 55 * HOUR_MS,
        MIDNIGHT_MS + 56 * HOUR_MS,
    ]


def test_made_anew_they_are_the_same(store: Store):
    """Sealed or not, hour by hour or all at once."""
    for first in range(0, 30 * 360, 360):
        store.write(
            *(
                reading
                for n in range(first, first + 360)
                for reading in (
                    gpu(n * 10, energy_joules_total=(n * 3_777.25) % 9e6, power_watts=377.0, processes=n % 7),
                    CpuSample(key="c", observed_at_ms=MIDNIGHT_MS + n * STEP_MS, power_watts=n % 90 / 3),
                )
            )
        )
        keep(store, hours=first / 360 + 1.1)
    before = [rows(store), rows(store, hours=24)]
    assert len(before[0]) == 60
    store.writer.call(lambda connection: accounts.forget(connection, MIDNIGHT_MS + 5 * HOUR_MS))
    keep(store, hours=30.1)
    assert [rows(store), rows(store, hours=24)] == before


@pytest.mark.parametrize(
    "edges",
    [
        [0, 24, 48, 72],
        [3, 27, 51, 72],
        [5, 7, 9, 11],
        [1, 2, 30, 31, 63],
        [7, 17, 65],
        [0, 72],
        list(range(73)),
    ],
)
def test_buckets_of_any_width_add_up_to_their_hours(store: Store, edges: list[int]):
    """Days, thirds of days and hours are put together so that each hour is counted once."""
    for first in range(0, 72 * 60, 720):
        store.write(
            *(gpu(n * 60, power_watts=100.0 + n % 97, processes=n // 300 % 2) for n in range(first, first + 720))
        )
    keep(store, hours=72.2)
    hours = rows(store)
    assert len(hours) == 72
    edges_ms = [MIDNIGHT_MS + hour * HOUR_MS for hour in edges]
    frame = queries.accounts(store.reader, "accelerator", None, edges_ms)
    assert len(frame) == len(edges) - 1
    for first, last, row in zip(edges, edges[1:], frame.to_dict("records"), strict=False):
        of = hours[first:last]
        assert row["bucket_seconds"] == (last - first) * 3600
        of_states = ("parked_seconds", "free_seconds", "parked_joules", "free_joules")
        for name in ("energy_joules", "energy_seconds", "observed_seconds", *of_states):
            known = [hour[name] for hour in of if hour[name] is not None]
            assert row[name] == pytest.approx(sum(known)) if known else pd.isna(row[name])
        assert row["off_seconds"] == pytest.approx(row["bucket_seconds"] - row["observed_seconds"], abs=1e-6)
        assert row["energy_source"] == "integrated"


def test_sums_are_ordered_by_entity_and_bucket_and_leave_out_what_has_no_account(store: Store):
    """A day, a third of a day and hours answer together; the newer card is first told of in the second bucket."""
    store.write(replace(gpu(0, power_watts=100.0), key="older"))
    store.write(*(replace(gpu(30 * 3600 + s, power_watts=50.0), key="newer") for s in range(0, 3 * 3600, 60)))
    store.write(*(replace(gpu(s, power_watts=100.0), key="older") for s in range(60, 34 * 3600, 60)))
    keep(store, hours=34.2)
    keys = queries.entities(store.reader).set_index("key")["entity_id"]
    edges_ms = [MIDNIGHT_MS + hour * HOUR_MS for hour in (0, 24, 32, 33)]
    found = account_sums.read(store.reader, "accelerator", None, edges_ms, ("energy_joules", "observed_seconds"))
    told = sorted([(keys["older"], 0), (keys["older"], 1), (keys["older"], 2), (keys["newer"], 1), (keys["newer"], 2)])
    assert list(zip(found.entity_ids, found.buckets, strict=True)) == told
    frame = queries.accounts(store.reader, "accelerator", None, edges_ms)
    for name, figures in found.figures.items():
        assert figures.tolist() == frame[name].tolist()
    assert list(account_sums.read(store.reader, "cpu", None, edges_ms, ("energy_joules",)).buckets) == []


def test_energy_of_several_is_summed_by_hour_and_not_known_where_nothing_was_read(store: Store):
    two = ("G", "H")
    store.write(*(replace(gpu(s, power_watts=100.0), key=key) for key in two for s in range(0, 7210, 10)))
    store.write(replace(gpu(0, power_watts=900.0), key="other"), *(gpu(s, processes=0) for s in range(7220, 10810, 10)))
    keep(store, hours=3.2)
    keys = queries.entities(store.reader).set_index("key")["entity_id"]
    ids = [int(keys[key]) for key in two]
    first_ms, second_ms, third_ms, end_ms = (MIDNIGHT_MS + hour * HOUR_MS for hour in range(4))
    joules = energy_by_hour(store.reader, ids, first_ms, end_ms)[0]
    assert joules.tolist() == pytest.approx([720_000, 720_000, float("nan")], nan_ok=True)
    part = energy_by_hour(store.reader, ids[:1], second_ms, third_ms)[0]
    assert part.tolist() == pytest.approx([360_000])
    assert np.isnan(energy_by_hour(store.reader, [], first_ms, end_ms)).all()
