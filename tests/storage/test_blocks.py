"""Payloads bit for bit, and what damage to one costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from core.readings import AcceleratorSample, Latency, LatencySample, Throttle
from core.settings import StorageSettings
from storage import queries, schema
from storage.codec import Corrupt, pack, pack_times, unpack, unpack_first, unpack_into, unpack_times
from storage.schema import SPAN_MS
from storage.upkeep import Upkeep
from tests.conftest import Store

SPAN = 20_371 * 3 * SPAN_MS
STEP_MS = 10_000
bits = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300)
SPECIAL = [np.nan, -0.0, 0.0, np.inf, -np.inf, 2.0**53, 2.0**53 - 1, 5e-324, 1.7976931348623157e308]


@given(bits)
@example([int(np.float64(value).view("uint64")) for value in SPECIAL])
@example([0x7FF0000000000001, 0xFFF8000000000123])  # NaNs that carry something
def test_every_bit_of_a_value_comes_back(patterns: list[int]):
    values = np.array(patterns, dtype="uint64").view("float64")
    out = np.empty(len(values))
    unpack_into(pack(values), out)
    assert out.tobytes() == values.tobytes() == unpack(pack(values)).tobytes()


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 5_000, 20_000])
def test_the_first_values_come_alone(count: int):
    values = np.random.default_rng(1).poisson(0.3, 20_000).astype("float64")
    values[12_000:] = 0.0
    assert unpack_first(pack(values), count).tobytes() == values[:count].tobytes()


@given(st.lists(st.integers(0, SPAN_MS - 1), min_size=1, max_size=300, unique=True))
def test_times_come_back(offsets: list[int]):
    at_ms = np.array(sorted(offsets), dtype="int64") + SPAN
    assert unpack_times(pack_times(at_ms, SPAN), SPAN, len(at_ms)).tolist() == at_ms.tolist()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.data())
def test_a_flipped_bit_or_a_missing_end_is_found(values: list[float], data: st.DataObject):
    payload = pack(np.array(values))
    at = data.draw(st.integers(0, len(payload) - 1))
    flipped = bytearray(payload)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), payload[:at]):
        with pytest.raises(Corrupt):
            unpack_into(damaged, np.empty(len(values)))
        with pytest.raises(Corrupt):
            unpack_first(damaged, len(values) // 2)


def test_another_number_of_values_is_found():
    payload = pack(np.arange(100.0))
    for length in (99, 101):
        with pytest.raises(Corrupt):
            unpack_into(payload, np.empty(length))
    with pytest.raises(Corrupt):
        unpack_first(payload, 101)


def sealed(store: Store, spans: int = 2, keys: str = "AB") -> None:
    """Two accelerators at 10 s, all sealed but the newest."""
    for key in keys:
        store.write(
            *(
                AcceleratorSample(
                    key=key,
                    observed_at_ms=SPAN + n * STEP_MS,
                    power_watts=float(n % 500),
                    temperature_celsius=50.0,
                    throttle_reasons=int(Throttle.POWER_CAP) if n % 4 == 0 else 0,
                )
                for n in range(spans * 2880 + 1)
            )
        )
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.seal(SPAN + (spans + 1) * SPAN_MS)


@pytest.mark.parametrize(("now_minutes", "oldest_minutes"), [(19, 0), (20, 15), (34, 15), (35, 30), (65, 59)])
def test_rows_are_those_of_the_last_quarter_and_the_newest(store: Store, now_minutes: int, oldest_minutes: int):
    """Those of latency are of the hour, which has no account yet. Whatever is sealed, every sample is read once."""
    store.write(
        *(AcceleratorSample(key="A", observed_at_ms=SPAN + n * 60_000, power_watts=float(n)) for n in range(60)),
        *(
            LatencySample(
                key="D",
                kind=Latency.TTFT,
                observed_at_ms=SPAN + n * 60_000,
                upper_bounds_seconds=(1.0, math.inf),
                increments=(0, n),
                sum_seconds=2.0 * n,
            )
            for n in range(1, 60)
        ),
    )
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.seal(SPAN + now_minutes * 60_000)
    at, latency = schema.samples["accelerator"].c.observed_at_ms, schema.latency_sample.c.observed_at_ms
    with store.reader.connect() as connection:
        assert connection.execute(select(func.min(at))).scalar_one() == SPAN + oldest_minutes * 60_000
        left = connection.execute(select(func.min(latency))).scalar_one()
    assert left == (None if now_minutes == 65 else SPAN + 60_000)
    raw = queries.raw(store.reader, "accelerator", ["power_watts"], None, SPAN, SPAN + SPAN_MS)
    assert raw["power_watts"].tolist() == list(range(60))
    seen = queries.latency(store.reader, None, ("ttft",), SPAN, SPAN + SPAN_MS)
    assert [increments.tolist() for increments in seen["increments"]] == [[0, sum(range(1, 60))]]


def test_a_damaged_payload_costs_its_metric_in_its_block_and_nothing_else(store: Store):
    sealed(store)
    table = schema.blocks["accelerator"]
    (first, second) = queries.entities(store.reader, "accelerator")["entity_id"]
    there = (table.c.entity_id == first) & (table.c.span_ms == SPAN)
    with store.reader.connect() as connection:
        payload = connection.execute(select(table.c.power_watts).where(there)).scalar_one()
    damaged = payload[:50] + bytes([payload[50] ^ 4]) + payload[51:]
    store.writer.call(lambda connection: connection.execute(update(table).where(there).values(power_watts=damaged)))
    frame = queries.raw(
        store.reader, "accelerator", ["power_watts", "temperature_celsius"], None, SPAN, SPAN + 3 * SPAN_MS
    )
    assert len(frame) == 2 * 5761
    lost = frame["power_watts"].isna()
    assert lost.sum() == 2880
    assert set(frame[lost]["entity_id"]) == {first}
    assert frame["temperature_celsius"].notna().all()
    assert frame[frame["entity_id"] == second]["power_watts"].notna().all()


@pytest.mark.parametrize("seconds", [60, 3 * 3600])
def test_the_newest_and_the_highest_value_are_found_whether_sealed_or_not(store: Store, seconds: int):
    sealed(store, spans=1)
    store.write(AcceleratorSample(key="A", observed_at_ms=SPAN + SPAN_MS + STEP_MS, temperature_celsius=51.0))
    since_ms = SPAN + SPAN_MS + 2 * STEP_MS - seconds * 1000
    known = queries.latest_known(store.reader, "accelerator", ["power_watts", "temperature_celsius"], since_ms)
    assert known["temperature_celsius"].tolist() == [51.0, 50.0]
    assert known["power_watts"].tolist() == [2880 % 500] * 2
    highest = queries.highest(store.reader, "accelerator", "power_watts", since_ms)
    assert highest["power_watts"].tolist() == ([380.0] * 2 if seconds == 60 else [499.0] * 2)


def test_a_late_row_is_not_taken_for_the_newest(store: Store):
    sealed(store, spans=1)
    (late, _) = queries.entities(store.reader, "accelerator")["entity_id"]
    newest, before = SPAN + SPAN_MS, SPAN + SPAN_MS - 600_000
    at = schema.samples["accelerator"].c
    store.write(AcceleratorSample(key="A", observed_at_ms=before + 1, power_watts=7.0, temperature_celsius=7.0))
    unknown = update(schema.samples["accelerator"]).where(at.entity_id == late, at.observed_at_ms == newest)
    store.writer.call(lambda connection: connection.execute(unknown.values(power_watts=None)))
    known = queries.latest_known(store.reader, "accelerator", ["power_watts", "temperature_celsius"], SPAN)
    assert known["power_watts"].tolist() == [2879 % 500, 2880 % 500]
    assert known["temperature_celsius"].tolist() == [50.0, 50.0]


def test_coverage_is_the_share_in_which_samples_followed_each_other(store: Store):
    """At 60 s steps of 60 s are whole too, and half an hour without samples is half an hour less."""
    minutes = [n for n in range(121) if not 30 <= n < 60]
    store.write(*(AcceleratorSample(key="A", observed_at_ms=SPAN + n * 60_000, power_watts=1.0) for n in minutes))
    hours = queries.read(store.reader, "accelerator", ["power_watts"], None, SPAN, SPAN + 7_200_000, 3_600_000)
    assert hours["coverage_ratio"].tolist() == pytest.approx([0.5, 59 / 60])  # the step over the gap is in neither
    steps = queries.read(store.reader, "accelerator", ["power_watts"], None, SPAN, SPAN + 600_000, 60_000)
    assert steps["coverage_ratio"].tolist() == [1.0] * 10


def test_long_and_short_steps_agree_on_coverage(store: Store):
    sealed(store, keys="A")
    window = (SPAN, SPAN + 2 * SPAN_MS)
    whole = queries.read(store.reader, "accelerator", ["power_watts"], None, *window, SPAN_MS)
    parts = queries.read(store.reader, "accelerator", ["power_watts"], None, *window, 300_000)
    assert whole["coverage_ratio"].tolist() == pytest.approx([1.0, 1.0])
    assert parts["coverage_ratio"].to_numpy() == pytest.approx(np.ones(192))


def test_a_state_has_shares_of_time(store: Store):
    sealed(store, spans=1, keys="A")
    window = (SPAN + STEP_MS, SPAN + SPAN_MS + STEP_MS)
    shares = queries.state_shares(store.reader, "accelerator", "throttle_reasons", None, *window, SPAN_MS)
    of = shares.set_index("value")
    assert of["share_ratio"].to_dict() == pytest.approx({0.0: 0.75, float(Throttle.POWER_CAP): 0.25})
    assert of["seconds"].sum() == pytest.approx(SPAN_MS / 1000)
