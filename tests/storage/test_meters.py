"""What two meters say of a window: the same by aggregates as sample by sample; and mean power by accounts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest

from core.readings import AcceleratorSample, Entity
from core.settings import StorageSettings
from storage import hourly_energy, meters, queries, series, steps
from storage.meters import Metered
from storage.schema import SPAN_MS
from storage.upkeep import Upkeep
from tests.conftest import Store

BEGIN = 20_371 * 3 * SPAN_MS
MINUTE = 60_000
LAST = 3 * 8 * 60  # minutes: three spans
EVERY = range(0, LAST + 1, 5)


def watts(minute: int) -> float:
    return 300.0 + minute % 90


def card(
    minutes: Iterable[int],
    *,
    key: str = "0",
    restart: int = LAST + 1,
    silent: range = range(0),
    counts: bool = True,
    measures: bool = True,
) -> list[AcceleratorSample]:
    """A card that counts 300 J a second, begins again at a restart and does not tell its counter while it is silent."""
    return [
        AcceleratorSample(
            key=key,
            observed_at_ms=BEGIN + minute * MINUTE,
            power_watts=watts(minute) if measures else None,
            energy_joules_total=(
                18_000.0 * (minute if minute < restart else minute - restart)
                if counts and minute not in silent
                else None
            ),
        )
        for minute in minutes
    ]


SLOWER = [*range(0, 240, 1), *range(240, LAST + 1, 5)]
PATTERNS = {
    "even": card(EVERY),
    "with a gap": card([minute for minute in EVERY if not 500 < minute < 700]),
    "slower later": card(SLOWER),
    "restarted within a span": card(EVERY, restart=600),
    "restarted between spans": card(EVERY, restart=480),
    "silent for a while": card(EVERY, silent=range(490, 700)),
    "without a counter": card(EVERY, counts=False),
    "without power": card(EVERY, measures=False),
    "with neither": card(EVERY, counts=False, measures=False),
}
WINDOWS = [(0, LAST), (7, LAST), (480, 960), (481, 1337), (100, 300), (480, 481), (1000, LAST + 60)]


def seal(store: Store) -> None:
    Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000)).seal(BEGIN + 4 * SPAN_MS)


def read(store: Store, begin: int, end: int) -> Metered:
    ids = queries.entities(store.reader, "accelerator")["entity_id"].tolist()
    with store.reader.connect() as connection:
        return meters.read(connection, "accelerator", ids, BEGIN + begin * MINUTE, BEGIN + end * MINUTE)


def figures(found: Metered) -> list[float]:
    every = (found.counted_joules, found.counted_seconds, found.sampled_joules, found.sampled_seconds)
    return np.concatenate(every).tolist()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_aggregates_tell_what_samples_tell(store: Store, pattern: str):
    store.write(*PATTERNS[pattern])
    before = [read(store, *window) for window in WINDOWS]
    seal(store)
    for window, by_samples in zip(WINDOWS, before, strict=True):
        assert figures(read(store, *window)) == pytest.approx(figures(by_samples), nan_ok=True), window


def test_an_even_span_is_not_decoded(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.write(*PATTERNS["even"])
    seal(store)
    spans: list[int] = []
    monkeypatch.setattr(series.Block, "fill", lambda block, name, out: spans.append(block.span_ms))
    read(store, 480, LAST + 1)
    assert set(spans) == {BEGIN}  # for what leads into the window


@pytest.mark.parametrize("late", [[3], [602], [481, 1300], [958, 959]])
def test_what_comes_late_lies_among_what_is_sealed(store: Store, late: list[int]):
    store.write(*(sample for sample in PATTERNS["even"]))
    seal(store)
    store.write(*card(late))
    before = [read(store, *window) for window in WINDOWS]
    seal(store)
    for window, unsealed in zip(WINDOWS, before, strict=True):
        assert figures(read(store, *window)) == pytest.approx(figures(unsealed), nan_ok=True), window


def test_a_counter_and_samples_of_constant_power(store: Store):
    store.write(*card(EVERY))
    seal(store)
    found = read(store, 10, LAST)
    assert found.counted_joules.tolist() == pytest.approx([300.0 * (LAST - 10) * 60])
    assert found.counted_seconds.tolist() == [(LAST - 10) * 60]
    assert found.interval_seconds.tolist() == [300]


def test_a_step_that_went_back_is_left_out(store: Store):
    store.write(*card(EVERY, restart=600))
    found = read(store, 0, LAST)
    assert found.counted_seconds.tolist() == [(LAST - 10) * 60]


def test_means_are_those_of_steps(store: Store):
    gone = [minute for minute in EVERY if not 500 < minute < 700]
    store.write(*card(EVERY, key="0"), *card(gone, key="1"), *card(EVERY, key="2", measures=False))
    ids = queries.entities(store.reader, "accelerator")["entity_id"].tolist()
    for sealed in (False, True):
        if sealed:
            seal(store)
        window = (BEGIN + 7 * MINUTE, BEGIN + LAST * MINUTE, 30 * MINUTE)
        found = steps.means(store.reader, "accelerator", "power_watts", ids, *window)
        frame = queries.read(store.reader, "accelerator", ["power_watts"], ids, *window)
        wide = frame.pivot_table(index="entity_id", columns="bucket_at", values="power_watts", dropna=False)
        np.testing.assert_allclose(found, wide.reindex(ids).to_numpy())
        metrics = ("temperature_celsius", "power_watts")
        several = steps.means_of(store.reader, "accelerator", metrics, ids, *window)
        assert list(several) == list(metrics)
        np.testing.assert_array_equal(several["power_watts"], found)
    assert steps.means(store.reader, "accelerator", "power_watts", [], *window).shape == (0, found.shape[1])


def test_entities_whose_energy_is_accounted_for(store: Store):
    there = Entity(observed_at_ms=BEGIN, family="accelerator", key="0", host="box", labels={})
    store.write(there, *card(EVERY, key="0"), *card(EVERY, key="1", counts=False, measures=False))
    Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000)).account(BEGIN + 4 * SPAN_MS)
    ids = queries.entities(store.reader, "accelerator").set_index("key")["entity_id"]
    window = (BEGIN, BEGIN + 3 * SPAN_MS)
    assert hourly_energy.metered(store.reader, ids.tolist(), *window) == {ids["0"]}
    power, reporting = hourly_energy.mean_power(store.reader, [ids.tolist(), []], *window, SPAN_MS)
    assert power[0].tolist() == pytest.approx([300.0] * 3, rel=0.01)
    assert np.isnan(power[1]).all()
    assert reporting.tolist() == [[1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_step_over_several_spans_is_the_same_sealed_or_not(store: Store, pattern: str):
    store.write(*PATTERNS[pattern])

    def read_back(begin: int, end: int) -> pd.DataFrame:
        window = (BEGIN + begin * MINUTE, BEGIN + end * MINUTE, (end - begin) * MINUTE)
        return queries.read(store.reader, "accelerator", [meters.COUNTER, meters.POWER], None, *window)

    windows = [(begin, end) for begin, end in WINDOWS if end - begin > 1]
    before = [read_back(*window) for window in windows]
    seal(store)
    for window, rows in zip(windows, before, strict=True):
        pd.testing.assert_frame_equal(read_back(*window), rows, rtol=0.01, obj=f"{pattern} {window}")
