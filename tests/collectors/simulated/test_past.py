"""Laying down the past: every instant once, only what is missing, and no seam to what is told live."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_test
from hypothesis import strategies as st
from sqlalchemy import func, select

from collectors.base import now_ms
from collectors.past import COARSE_MS, FINE_MS, LAID_DOWN, catch_up, known_until_ms, lay_down, missing
from collectors.sources.simulated.source import SimulatedSource
from core.health import TickReport
from core.readings import AcceleratorSample, Entity, Latency, LatencySample, Outcome
from core.settings import CollectorSettings, Settings, StorageSettings
from storage import queries, schema
from storage.batch import Batch
from storage.engine import reader_engine
from storage.schema import DAY_MS, HOUR_MS, SPAN_MS
from storage.session import writing
from storage.upkeep import Upkeep
from storage.writer import write_fact
from tests.conftest import Store

END_MS = 1_795_435_200_000 + 12_345  # 2026-11-23 12:00 UTC and a little
instants = st.integers(END_MS, END_MS + 3 * DAY_MS)


@pytest.fixture(scope="module")
def source() -> SimulatedSource:
    return SimulatedSource()


def laid(known_ms: int | None, end_ms: int, step_ms: int = FINE_MS) -> list[int]:
    return [int(at_ms) for stretch in missing(known_ms, end_ms, step_ms, weeks=1) for at_ms in stretch.at_ms]


@settings_of_test(deadline=None)
@given(end_ms=instants, step_ms=st.sampled_from([FINE_MS, 30_000, COARSE_MS, 300_000]))
def test_every_instant_comes_once_and_the_last_day_is_the_finest(end_ms: int, step_ms: int):
    end_ms = end_ms // step_ms * step_ms
    at_ms = laid(None, end_ms, step_ms)
    steps = [(before, after - before) for before, after in pairwise(at_ms)]
    assert 7 * DAY_MS <= end_ms - at_ms[0] < 7 * DAY_MS + SPAN_MS
    assert at_ms[-1] == end_ms
    assert {step for _, step in steps} == {max(step_ms, COARSE_MS), step_ms}
    assert all(step == step_ms for before, step in steps if before >= end_ms - DAY_MS)


@settings_of_test(deadline=None)
@given(end_ms=instants, known=st.integers(0, 7 * DAY_MS))
def test_what_is_known_is_not_laid_down_again(end_ms: int, known: int):
    known_ms = end_ms - known
    assert laid(known_ms, end_ms) == [at_ms for at_ms in laid(None, end_ms) if at_ms > known_ms]


@settings_of_test(deadline=None)
@given(end_ms=instants, known=st.none() | st.integers(0, 7 * DAY_MS))
def test_parts_follow_each_other_and_no_span_of_blocks_is_in_two(end_ms: int, known: int | None):
    parts = list(missing(None if known is None else end_ms - known, end_ms, FINE_MS, weeks=1))
    for before, after in pairwise(parts):
        assert after.after_ms == before.at_ms[-1]
        assert before.at_ms[-1] < after.at_ms[0]
    spans = [set((part.at_ms // SPAN_MS).tolist()) for part in parts]
    assert all(not before & after for before, after in pairwise(spans))


def deployment_id(store: Store) -> int:
    found = queries.entities(store.reader, "deployment")
    return int(found.loc[found["key"].str.contains("mx-h100-1:8000"), "entity_id"].iloc[0])


def test_history_a_restart_and_live_ticks_join_without_a_seam(store: Store, source: SimulatedSource):
    begin_ms = END_MS // HOUR_MS * HOUR_MS - 2 * HOUR_MS
    first_end_ms, second_end_ms = begin_ms + HOUR_MS + 7 * FINE_MS, begin_ms + 2 * HOUR_MS
    for known_ms, end_ms in (
        (begin_ms - 1, first_end_ms),
        (first_end_ms, second_end_ms),
        (begin_ms - 1, second_end_ms),
    ):
        for stretch in missing(known_ms, end_ms, FINE_MS, weeks=1):
            lay_down(store.writer, source, stretch)
    live_ms = list(range(second_end_ms + FINE_MS, second_end_ms + 6 * FINE_MS, FINE_MS))
    for at_ms in live_ms:
        store.write(*source.at(at_ms, at_ms - FINE_MS))
    store.settle()
    number, after_ms = deployment_id(store), live_ms[-1] + 1
    read = queries.read(store.reader, "deployment", ["running_requests"], [number], begin_ms, after_ms, FINE_MS)
    assert len(read) == 2 * HOUR_MS // FINE_MS + 6
    latency = queries.latency(store.reader, [number], ["ttft"], begin_ms + 1, after_ms)
    grown = queries.increases(store.reader, "deployment", ["succeeded_requests_total"], [number], begin_ms, after_ms)
    counted = sum(float(np.sum(one)) for one in latency["increments"])
    assert counted == float(grown["succeeded_requests_total"].iloc[0]) > 1000


def test_what_was_laid_down_is_what_the_source_says(store: Store, source: SimulatedSource):
    at_ms = END_MS // HOUR_MS * HOUR_MS
    for stretch in missing(at_ms - HOUR_MS, at_ms, FINE_MS, weeks=1):
        lay_down(store.writer, source, stretch)
    said = [one for one in source.at(at_ms - HOUR_MS // 2) if isinstance(one, AcceleratorSample | LatencySample)]
    found = queries.entities(store.reader).set_index(["family", "key"])["entity_id"]
    for one in said[::7]:
        if isinstance(one, AcceleratorSample):
            number = [int(found["accelerator", one.key])]
            window = (one.observed_at_ms, one.observed_at_ms + 1)
            read = queries.read(store.reader, "accelerator", ["power_watts"], number, *window, FINE_MS)
            assert read["power_watts"].iloc[0] == one.power_watts
        elif one.kind is not Latency.ITL and one.observations:
            number = [int(found["deployment", one.key])]
            read = queries.latency(store.reader, number, [one.kind.value], one.observed_at_ms, one.observed_at_ms + 1)
            assert tuple(read["increments"].iloc[0]) == one.increments


def test_a_store_of_something_else_has_no_known_past_and_keeps_what_it_has(store: Store, source: SimulatedSource):
    old = "of the former demo"
    store.write(
        Entity(observed_at_ms=END_MS - HOUR_MS, family="accelerator", key=old, host="demo-host"),
        AcceleratorSample(key=old, observed_at_ms=END_MS - HOUR_MS, power_watts=70.0),
    )
    store.submit(Batch(ticks=(_tick(END_MS - HOUR_MS),)))
    assert known_until_ms(store.writer, store.reader) is None
    lay_down(store.writer, source, next(iter(missing(END_MS - HOUR_MS, END_MS, FINE_MS))))
    assert known_until_ms(store.writer, store.reader) == END_MS // FINE_MS * FINE_MS
    hosts = set(queries.entities(store.reader)["host"])
    assert "demo-host" in hosts
    assert len(hosts) == 6


def test_ticks_that_were_told_live_are_known(store: Store, source: SimulatedSource):
    lay_down(store.writer, source, next(iter(missing(END_MS - HOUR_MS, END_MS, FINE_MS))))
    store.submit(Batch(ticks=(_tick(END_MS + DAY_MS),)))
    assert known_until_ms(store.writer, store.reader) == END_MS + DAY_MS


def _tick(at_ms: int) -> TickReport:
    return TickReport(
        host="simulated",
        source="simulated",
        target="",
        scheduled_at_ms=at_ms,
        outcome=Outcome.OK,
        duration_seconds=0.0,
    )


def test_catching_up_fills_the_gap_with_accounts_and_says_that_it_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    address = tmp_path / "demo.db"
    settings = Settings(
        simulated=True,
        storage=StorageSettings(url=f"sqlite:///{address}"),
        collectors=CollectorSettings(host_name="simulated"),
    )
    known_ms = now_ms() - 26 * HOUR_MS
    with writing(address, host="simulated") as writer:
        writer.call(lambda connection: write_fact(connection, LAID_DOWN, str(known_ms)))
        upkeep = Upkeep(reader_engine(address), writer, settings.storage)
        catch_up(settings, writer, upkeep, threading.Event())
        reader = reader_engine(address)
    facts = queries.facts(reader)
    assert facts["simulated"] == "true"
    assert now_ms() - int(facts[LAID_DOWN]) < 60_000
    until = queries.accounted_until(reader)
    assert len(until) == 34 + 9 + 5 + 8
    assert min(until.values()) > now_ms() - 3 * HOUR_MS
    with reader.connect() as connection:
        held = connection.execute(select(func.count()).select_from(schema.device_process)).scalar_one()
    assert held >= 32
    assert capsys.readouterr().err.startswith("laying down 1 days of simulated past")
    reader.dispose()


def test_whoever_stops_it_early_finds_the_rest_missing(tmp_path: Path):
    address, stop = tmp_path / "demo.db", threading.Event()
    settings = Settings(simulated=True, storage=StorageSettings(url=f"sqlite:///{address}"))
    stop.set()
    with writing(address, host="simulated") as writer:
        reader = reader_engine(address)
        catch_up(settings, writer, Upkeep(reader, writer, settings.storage), stop)
        assert known_until_ms(writer, reader) is None
    reader.dispose()
