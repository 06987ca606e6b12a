"""Energy by two meters that check each other, by hour and state, at the meter, as emissions; and what may be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.energy import Quality
from analytics.power import (
    PORTIONS,
    Course,
    checked_energy,
    contracted_watts,
    course,
    energy_by_device,
    energy_by_hour,
    energy_by_site,
    hours_of,
    incomplete_hours,
    incomplete_steps,
)
from core.readings import AcceleratorSample, CpuSample, Entity, Reading
from core.settings import Settings, StorageSettings
from storage import queries
from storage.upkeep import Upkeep
from tests.conftest import Store

HOUR_MS = 3_600_000
BEGIN_MS = 1_760_054_400_000  # 2025-10-10 00:00 UTC
STEP_S = 20


def card(
    key: str = "0",
    *,
    seconds: Iterable[int] = range(0, 7201, STEP_S),
    watts: float | None = 500.0,
    counted: float | None = 500.0,
    held: bool = True,
    first_seen_s: int = 0,
) -> list[Reading]:
    """A card of constant power, with a counter that grows by so many J a second."""
    first = BEGIN_MS + first_seen_s * 1000
    return [
        Entity(observed_at_ms=first, family="accelerator", key=key, host="box", labels={"model": "MI300X"}),
        *(
            AcceleratorSample(
                key=key,
                observed_at_ms=BEGIN_MS + s * 1000,
                processes=int(held),
                utilization_ratio=0.9 if held else 0.0,
                power_watts=watts,
                energy_joules_total=None if counted is None else counted * s,
            )
            for s in seconds
        ),
    ]


def checked(store: Store, *readings: Reading, hours: float = 2.0) -> pd.Series:
    store.write(*readings)
    frame = checked_energy(store.reader, "accelerator", None, BEGIN_MS, BEGIN_MS + round(hours * HOUR_MS))
    assert len(frame) == 1
    return frame.iloc[0]


def accounted(store: Store, *readings: Reading, hours: float = 2) -> None:
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.account(BEGIN_MS + round((hours + 0.2) * HOUR_MS))


def by_hour(store: Store, *readings: Reading, family: str = "accelerator", hours: int = 2) -> pd.DataFrame:
    accounted(store, *readings, hours=hours)
    return energy_by_hour(store.reader, family, None, BEGIN_MS, BEGIN_MS + hours * HOUR_MS)


def at(hour: int) -> pd.Timestamp:
    return pd.Timestamp(BEGIN_MS + hour * HOUR_MS, unit="ms", tz="UTC")


# --- the meters ---


@pytest.mark.parametrize("factor", [0.099, 0.11, 1.0, 9.9, 10.1, 1000.0])
def test_a_counter_counts_while_it_is_within_ten_times_of_the_power_samples(store: Store, factor: float):
    found = checked(store, *card(seconds=range(0, 601, STEP_S), counted=500.0 * factor), hours=601 / 3600)
    assert found["counter_over_samples"] == pytest.approx(factor)
    believed = 0.1 <= factor <= 10
    assert bool(found["is_doubtful"]) is not believed
    assert found["energy_label"] == ("gpu_counter" if believed else "gpu_power")
    assert found["energy_joules"] == pytest.approx(500.0 * 600 * (factor if believed else 1.0))
    assert found["mean_watts"] == pytest.approx(500.0 * (factor if believed else 1.0))


@pytest.mark.parametrize(
    ("watts", "counted", "label", "quality"),
    [
        (None, 500.0, "gpu_counter", "measured"),
        (500.0, None, "gpu_power", "derived"),
        (None, None, "missing", "missing"),
    ],
)
def test_one_meter_alone_is_not_doubted_and_none_is_unknown(store: Store, watts, counted, label, quality):
    found = checked(store, *card(watts=watts, counted=counted))
    assert (found["energy_label"], found["quality"]) == (label, quality)
    assert pd.isna(found["counter_over_samples"])
    assert not found["is_doubtful"]
    if label == "missing":
        assert found[["energy_joules", "mean_watts", "counter_joules", "sampled_joules"]].isna().all()
    else:
        assert found["energy_joules"] == pytest.approx(500 * 7200, rel=0.005)


def test_a_counter_that_only_ever_stepped_back_leaves_the_samples(store: Store):
    found = checked(store, *card(counted=-1.0))
    assert found["energy_label"] == "gpu_power"
    assert pd.isna(found["counter_joules"])
    assert found["energy_joules"] == pytest.approx(500 * 7200, rel=0.005)


def test_nothing_is_filled_in_before_a_device_was_there(store: Store):
    found = checked(store, *card(seconds=range(2400, 7201, STEP_S), first_seen_s=2400))
    assert found["energy_joules"] == pytest.approx(500 * 4800, rel=0.005)
    assert found["coverage_ratio"] == pytest.approx(1.0)


# --- hours ---


@given(start=st.integers(BEGIN_MS, BEGIN_MS + 5 * HOUR_MS), length=st.integers(1, 200 * HOUR_MS))
def test_the_hours_of_a_window_are_whole_over_and_at_least_one(start: int, length: int):
    first, end = hours_of(start, start + length)
    assert first % HOUR_MS == end % HOUR_MS == 0
    assert end <= start + length < end + HOUR_MS
    assert first <= start
    assert first < end


def test_states_and_what_belongs_to_none_add_up_to_the_energy(store: Store):
    gap = [s for s in range(0, 7201, STEP_S) if not 1800 < s < 5400]
    hours = by_hour(store, *card("0", seconds=gap), *card("1", held=False, watts=70.0, counted=70.0))
    assert hours["bucket_at"].tolist() == [at(0), at(1)]
    assert hours["energy_joules"].tolist() == pytest.approx([570 * 3600] * 2)
    assert hours[list(PORTIONS)].sum(axis=1).tolist() == pytest.approx(hours["energy_joules"].tolist())
    devices = energy_by_device(store.reader, "accelerator", None, BEGIN_MS, BEGIN_MS + 2 * HOUR_MS)
    busy, free = devices.iloc[0], devices.iloc[1]
    assert busy["energy_joules"] == pytest.approx(500 * 7200)
    assert busy["active_joules"] == pytest.approx(500 * 3600, rel=0.01)
    assert busy["unattributed_joules"] == pytest.approx(500 * 3600, rel=0.01)  # the counter went on in the gap
    assert free["free_joules"] == pytest.approx(70 * 7200)
    assert free[["active_joules", "parked_joules", "unattributed_joules"]].tolist() == pytest.approx([0, 0, 0])
    figures = ["there_seconds", "energy_seconds", "energy_joules", *PORTIONS]
    assert devices[figures].sum().tolist() == pytest.approx(hours[figures].sum().tolist())


def test_energy_that_nobody_reads_is_unknown_in_every_portion(store: Store):
    hours = by_hour(store, *card(watts=None, counted=None))
    devices = energy_by_device(store.reader, "accelerator", None, BEGIN_MS, BEGIN_MS + 2 * HOUR_MS)
    assert (len(hours), len(devices)) == (2, 1)
    for found in (hours, devices):
        assert found[["energy_joules", *PORTIONS]].isna().all(axis=None)
    assert incomplete_hours(hours, BEGIN_MS + 2 * HOUR_MS).tolist() == [0.0, 0.0]


def test_the_energy_of_cpu_packages_is_of_no_state(store: Store):
    samples = [
        CpuSample(key="s", observed_at_ms=BEGIN_MS + s * 1000, power_watts=100.0) for s in range(0, 7201, STEP_S)
    ]
    socket = Entity(observed_at_ms=BEGIN_MS, family="cpu", key="s", host="box", labels={})
    hours = by_hour(store, socket, *samples, family="cpu")
    assert hours["unattributed_joules"].tolist() == pytest.approx(hours["energy_joules"].tolist())
    assert hours["energy_joules"].sum() == pytest.approx(100 * 7200)


def test_an_hour_is_incomplete_by_the_time_that_devices_were_there(store: Store):
    half = range(0, 5401, STEP_S)
    hours = by_hour(store, *card("0"), *card("1", seconds=half, counted=None), hours=3)
    lacking = incomplete_hours(hours, BEGIN_MS + 3 * HOUR_MS)
    assert lacking.index.tolist() == [at(1), at(2)]
    assert lacking.tolist() == [pytest.approx(0.75, abs=0.01), 0.0]  # three of four half hours; and nobody


def test_an_hour_before_the_first_device_lacks_nothing(store: Store):
    hours = by_hour(store, *card(seconds=range(3600, 7201, STEP_S), first_seen_s=3600))
    assert hours["bucket_at"].tolist() == [at(1)]
    assert incomplete_hours(hours, BEGIN_MS + 2 * HOUR_MS).empty


# --- power over time ---


def test_a_step_is_incomplete_while_a_device_that_was_there_is_silent():
    seen = pd.to_datetime([BEGIN_MS, BEGIN_MS + 2000, BEGIN_MS], unit="ms", utc=True)
    steps = pd.DatetimeIndex(pd.to_datetime([BEGIN_MS + s * 1000 for s in range(4)], unit="ms", utc=True))
    course = Course(steps, np.full((1, 4), 5.0), np.array([[1, 0, 1, 1]]), frozenset((1, 2)))
    found = incomplete_steps(course, pd.Series(seen, index=[1, 2, 3]))
    seconds = ((queries.epoch_ms(found.index.to_series()) - BEGIN_MS) // 1000).tolist()
    assert list(zip(seconds, found["reporting"], found["expected"], strict=True)) == [(1, 0, 1), (2, 1, 2), (3, 1, 2)]


def power_of(store: Store, hours: int, step_ms: int) -> Course:
    ids = queries.entities(store.reader, "accelerator").set_index("key")["entity_id"]
    groups = [[int(ids["0"]), int(ids["1"])], [int(ids["2"])]]
    window = (BEGIN_MS, BEGIN_MS + hours * HOUR_MS, step_ms)
    return course(store.reader, "accelerator", "power_watts", groups, *window)


def three() -> list[Reading]:
    late = range(3600, 7201, STEP_S)
    return [*card("0"), *card("1", seconds=late, watts=70.0, counted=70.0), *card("2", watts=None, counted=None)]


def test_power_of_short_steps_is_the_mean_of_samples_summed_by_group(store: Store):
    store.write(*three())
    found = power_of(store, 2, HOUR_MS // 2)
    assert found.watts[0].tolist() == pytest.approx([500, 500, 570, 570])
    assert np.isnan(found.watts[1]).all()
    assert found.reporting.tolist() == [[1, 1, 2, 2], [0, 0, 0, 0]]
    assert len(found.devices) == 2
    rows = found.parts(["both", "silent"], "power_watts")
    assert rows["series"].unique().tolist() == ["both"]
    assert rows["power_watts"].tolist() == pytest.approx([500, 500, 570, 570])


@pytest.mark.parametrize("hours_accounted", [0.5, 1, 2])
def test_power_of_hours_is_that_of_the_accounts_and_of_samples_until_there_are_some(store: Store, hours_accounted):
    accounted(store, *three(), hours=hours_accounted)
    found = power_of(store, 2, HOUR_MS)
    assert found.watts[0].tolist() == pytest.approx([500, 570], rel=0.01)
    assert np.isnan(found.watts[1]).all()
    assert found.reporting.tolist() == [[1, 2], [0, 0]]
    assert len(found.devices) == 2


def test_power_of_steps_of_several_hours_is_the_mean_of_those(store: Store):
    accounted(store, *three())
    assert power_of(store, 2, 2 * HOUR_MS).watts[0].tolist() == pytest.approx([535], rel=0.01)


# --- sites ---


def devices(*rows: tuple[str, float | None, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["host", "energy_joules", "quality"]).astype({"energy_joules": "float64"})


def settings(**site: object) -> Settings:
    return Settings(site=site)  # type: ignore[arg-type]


def test_the_meter_is_known_where_a_pue_is_given_and_then_it_is_an_estimate():
    here = devices(("a", 3.6e6, "measured"), ("b", 7.2e6, "derived"))
    (with_pue,) = energy_by_site(settings(pue_ratio=1.5, grid_gco2e_per_kwh=100.0), here)
    assert (with_pue.kwh, with_pue.meter_kwh) == (pytest.approx(3.0), pytest.approx(4.5))
    assert with_pue.grams == pytest.approx(450.0)
    assert with_pue.quality is Quality.DERIVED
    assert with_pue.meter_quality is with_pue.grams_quality is Quality.ESTIMATED
    (without,) = energy_by_site(settings(grid_gco2e_per_kwh=100.0), here)
    assert (without.meter_kwh, without.meter_quality) == (None, Quality.MISSING)
    assert without.grams == pytest.approx(300.0)
    assert without.grams_quality is Quality.DERIVED


def test_emissions_are_unknown_without_a_factor_and_estimated_by_that_of_a_country():
    here = devices(("a", 3.6e6, "measured"))
    (none,) = energy_by_site(settings(), here)
    assert (none.grams, none.factor, none.grams_quality) == (None, None, Quality.MISSING)
    (country,) = energy_by_site(settings(country="CL"), here)
    assert country.factor is not None
    assert country.grams == pytest.approx(country.factor.grams_per_kwh)
    assert country.grams_quality is Quality.ESTIMATED


def test_each_site_has_its_own_devices_and_unknown_ones_are_no_zero():
    edge = {"name": "edge", "hosts": ["edge-*"], "pue_ratio": 2.0}
    here = devices(("a", 3.6e6, "measured"), ("edge-1", None, "missing"), ("edge-2", 3.6e6, "measured"))
    main, other = energy_by_site(settings(other=[edge]), here)
    assert (main.kwh, main.meter_kwh) == (1.0, None)
    assert (other.name, other.kwh, other.meter_kwh) == ("edge", 1.0, 2.0)
    (unknown,) = energy_by_site(settings(pue_ratio=2.0, country="CL"), devices(("a", None, "missing")))
    assert (unknown.kwh, unknown.meter_kwh, unknown.grams) == (None, None, None)
    assert unknown.quality is unknown.meter_quality is unknown.grams_quality is Quality.MISSING


def test_energy_of_nothing_has_no_sites():
    assert energy_by_site(settings(), devices()) == []


# --- contracts ---


def promised(day: date, there: list[str], **terms: object) -> dict[str, float]:
    contract = {
        "name": "c",
        "unit": "megawatts",
        "amount": 3.0,
        "price": 1.0,
        "begins": "2026-01-01",
        "ends": "2027-01-01",
    }
    of = Settings(cost={"contract": [contract | terms]})  # type: ignore[arg-type]
    return contracted_watts(of, there, int(pd.Timestamp(day, tz="UTC").timestamp() * 1000))


def test_a_contract_promises_within_its_term_and_for_hosts_that_it_covers():
    assert promised(date(2026, 6, 1), ["a"]) == {"c": 3e6}
    assert promised(date(2025, 12, 31), ["a"]) == promised(date(2027, 1, 1), ["a"]) == {}
    assert promised(date(2026, 6, 1), ["gpu-1"], hosts=["gpu-*"]) == {"c": 3e6}
    assert promised(date(2026, 6, 1), ["gpu-1", "edge"], hosts=["gpu-*"]) == {}
    assert promised(date(2026, 6, 1), ["a"], unit="money") == {}


def test_of_a_contract_in_tranches_those_that_have_begun_count():
    tranches = [{"begins": "2026-01-01", "amount": 1.0}, {"begins": "2026-07-01", "amount": 2.0}]
    assert promised(date(2026, 6, 30), ["a"], tranche=tranches) == {"c": 1e6}
    assert promised(date(2026, 7, 1), ["a"], tranche=tranches) == {"c": 3e6}
