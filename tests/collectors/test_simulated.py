"""The simulated source: a pure function of time whose figures hang together, with a known incident."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.formulas.latency import histogram_quantile
from collectors.sources.simulated.clock import TICK_SECONDS, Floats
from collectors.sources.simulated.columns import Columns
from collectors.sources.simulated.fleet import CHAT, FORGOTTEN, HOSTED, REASONING
from collectors.sources.simulated.latency import BOUNDS, Increments
from collectors.sources.simulated.source import SLOW_MS, SimulatedSource
from collectors.sources.simulated.world import HOT, PATIENCE_SECONDS
from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import (
    ALARMING_THROTTLE,
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    Entity,
    Event,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
    Sample,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_795_392_000_000  # 2026-11-23 00:00 UTC
STEP_MS = 10_000
AT_MS = np.arange(MONDAY_MS, MONDAY_MS + DAY_MS, STEP_MS)
H100, MI300X = "simulated-mx-h100-1", "simulated-mx-mi300x-1"
CHAT_KEY, REASONING_KEY = f"http://{H100}:8000 {CHAT}", f"http://{H100}:8001 {REASONING}"

Day = dict[tuple[str, str], Columns]
Grown = dict[tuple[str, Latency], Increments]


@pytest.fixture(scope="module")
def source() -> SimulatedSource:
    return SimulatedSource()


@pytest.fixture(scope="module")
def day(source: SimulatedSource) -> Day:
    return {(one.family, one.key): one.values for one in source.series(AT_MS)}


@pytest.fixture(scope="module")
def grown(source: SimulatedSource) -> Grown:
    return {(key, one.kind): one for key, one in source.increments(AT_MS, AT_MS - STEP_MS)}


@pytest.fixture(scope="module")
def described(source: SimulatedSource) -> list[Reading]:
    return list(source.description(MONDAY_MS))


def entities(described: list[Reading], family: str) -> list[Entity]:
    return [one for one in described if isinstance(one, Entity) and one.family == family]


def keys_of(described: list[Reading], host: str) -> list[str]:
    """Accelerators of a machine, in the order of their index."""
    return [one.key for one in entities(described, "accelerator") if one.host == host]


def held_by(described: list[Reading], deployment: str) -> tuple[str, ...]:
    (keys,) = (one.target_keys for one in described if isinstance(one, Assignment) and one.deployment_key == deployment)
    return keys


def between(start_hour: float, end_hour: float) -> slice:
    return slice(round(start_hour * HOUR_MS / STEP_MS), round(end_hour * HOUR_MS / STEP_MS))


# --- who is there ---


def test_three_sites_have_34_accelerators_of_two_vendors(described: list[Reading]):
    cards = entities(described, "accelerator")
    assert Counter(one.labels["model"] for one in cards) == {
        "NVIDIA H100 80GB HBM3": 16,
        "AMD Instinct MI300X": 8,
        "AMD Instinct MI300X VF": 8,
        "NVIDIA L40S": 2,
    }
    assert len(entities(described, "host")) == 5
    assert all(one.labels["simulated"] == "yes" and one.host.startswith("simulated") for one in _every(described))
    assert all("simulated" in one.labels["url"] for one in _every(described) if "url" in one.labels)


def _every(described: list[Reading]) -> list[Entity]:
    return [one for one in described if isinstance(one, Entity)]


def test_all_that_is_measured_is_described(source: SimulatedSource, described: list[Reading], day: Day):
    asked = {
        ("probe", one.key) for one in source.between(MONDAY_MS, MONDAY_MS + HOUR_MS) if isinstance(one, ProbeSample)
    }
    assert {(one.family, one.key) for one in _every(described)} == {*day, *asked}


def test_another_fleet_has_other_things_of_the_same_kind(source: SimulatedSource):
    other = SimulatedSource("elsewhere")
    keys = [[one.key for one in _every(list(each.description(0)))] for each in (source, other)]
    hosted = {HOSTED.name}
    assert set(keys[0]) & set(keys[1]) == hosted
    assert len(keys[0]) == len(keys[1])


def test_processes_hold_the_devices_that_work_is_on(source: SimulatedSource, day: Day):
    held = {one.key: one for one in source.processes(MONDAY_MS)}
    busy = {key for (family, key), values in day.items() if family == "accelerator" and values["processes"].all()}
    assert set(held) == busy
    assert len(busy) == 32
    assert all(one.memory_used_bytes and one.memory_used_bytes > 1 << 30 for one in held.values())


# --- a pure function of seed and time ---


def test_same_seed_same_week_other_seed_other_week(source: SimulatedSource):
    at_ms = MONDAY_MS + 9 * HOUR_MS
    said = source.at(at_ms)
    assert SimulatedSource(seed=1).at(at_ms) != said
    assert SimulatedSource().at(at_ms) == said  # its tables are made anew after those of the other seed


@pytest.mark.parametrize("index", [1, 17, 5_043, 8_639])
def test_history_and_live_agree(source: SimulatedSource, day: Day, grown: Grown, index: int):
    for one in source.at(int(AT_MS[index])):
        if isinstance(one, Sample) and not isinstance(one, ProbeSample):
            past = {name: column[index] for name, column in day[one.family, one.key].items()}
            assert {name: getattr(one, name) for name in past} == past
        elif isinstance(one, LatencySample):
            past_one = grown[one.key, one.kind]
            assert one.increments == tuple(past_one.counts[index])
            assert one.sum_seconds == past_one.sum_seconds[index]


def test_live_ticks_lie_on_the_grid_of_history_and_cover_the_time_between(monkeypatch: pytest.MonkeyPatch):
    at = iter([MONDAY_MS + HOUR_MS, MONDAY_MS + HOUR_MS + 10_003, MONDAY_MS + HOUR_MS + 37_777])
    monkeypatch.setattr("collectors.sources.simulated.source.now_ms", lambda: next(at))
    live = SimulatedSource()
    assert live.discover().ok
    ticks = [live.collect() for _ in range(3)]
    assert [sum(isinstance(r, Entity) for r in readings) > 0 for readings in ticks] == [True, False, False]
    assert {r.observed_at_ms % STEP_MS for tick in ticks for r in tick if isinstance(r, Sample)} == {0}
    live.close()
    live.close()

    def answered(readings: list[Reading]) -> float:
        return next(r.succeeded_requests_total or 0.0 for r in readings if isinstance(r, DeploymentSample))

    def observed(readings: list[Reading]) -> float:
        return next(r.observations for r in readings if isinstance(r, LatencySample) and r.kind is Latency.TTFT)

    for before, after in pairwise(ticks):
        assert observed(after) == answered(after) - answered(before)


def test_discovery_describes_again(source: SimulatedSource):
    for _ in range(2):
        source.discover()
        assert any(isinstance(r, Entity) for r in source.collect())


@settings(max_examples=25, deadline=None)
@given(at=st.integers(MONDAY_MS, MONDAY_MS + 60 * DAY_MS), part=st.integers(1, 299_999))
def test_what_happened_is_the_same_over_any_split(source: SimulatedSource, at: int, part: int):
    def seen(*edges: int) -> tuple[list[float], list[Reading]]:
        counts = np.zeros(len(BOUNDS) * 8)
        happened: list[Reading] = []
        for start, end in pairwise(edges):
            grown = source.increments(np.array([end]), np.array([start]))
            counts += [0.0 if one.kind is Latency.ITL else one.counts.sum() for _, one in grown]  # its gaps are rounded
            happened += source.between(start, end)
        return counts.tolist(), happened

    assert seen(at, at + part, at + 300_000) == seen(at, at + 300_000)


# --- physics ---


def test_values_are_finite_in_range_and_counters_never_fall(day: Day):
    for (family, _), values in day.items():
        for metric in FAMILIES[family].metrics:
            if (column := values.get(metric.name)) is None:
                continue
            assert np.isfinite(column).all(), metric.name
            if metric.name.endswith("_ratio"):
                assert ((column >= 0) & (column <= 1)).all(), metric.name
            if metric.integer:
                assert (column == column.round()).all(), metric.name
            if metric.kind is Kind.COUNTER:
                assert (np.diff(column) >= 0).all(), metric.name


def test_whole_numbers_are_integers_when_they_are_read_live(source: SimulatedSource):
    for one in source.at(MONDAY_MS):
        if isinstance(one, Sample):
            whole = [m.name for m in FAMILIES[one.family].metrics if m.integer]
            assert all(isinstance(getattr(one, name), int | None) for name in whole)


def test_counters_go_on_over_the_end_of_the_week(source: SimulatedSource):
    sunday_ms = MONDAY_MS + 7 * DAY_MS
    for one in source.series(np.arange(sunday_ms - MINUTE_MS, sunday_ms + MINUTE_MS, STEP_MS)):
        for name in ("energy_joules_total", "generation_tokens_total"):
            if name in one.values:
                rises = np.diff(one.values[name])
                assert (rises >= 0).all()
                assert rises.max() <= 3 * max(np.median(rises), 1)


def test_energy_is_the_integral_of_power(day: Day):
    for (family, _), values in day.items():
        if family in ("accelerator", "cpu"):
            integral = values["power_watts"][:-1].sum() * TICK_SECONDS
            counted = values["energy_joules_total"][-1] - values["energy_joules_total"][0]
            assert counted == pytest.approx(integral, rel=1e-9)
            assert (values["power_watts"] <= values["power_limit_watts"]).all()


def test_node_power_holds_all_its_parts(described: list[Reading], day: Day):
    hosts = {(one.family, one.key): one.host for one in _every(described)}
    for host in (one.key for one in entities(described, "host")):
        parts: Floats = sum(
            (
                values["power_watts"]
                for thing, values in day.items()
                if hosts[thing] == host and "power_watts" in values
            ),
            np.zeros(len(AT_MS)),
        )
        node = day["host", host]["node_power_watts"]
        assert ((parts < node) & (node < 2 * parts)).all()


@pytest.mark.parametrize("host", [H100, MI300X])
def test_work_follows_the_hour(described: list[Reading], day: Day, host: str):
    key = f"http://{host}:8000 {CHAT}"
    tokens = day["deployment", key]["generation_tokens_total"]
    night, noon = between(3, 5), between(16, 18)
    assert np.ptp(tokens[noon]) > 3 * np.ptp(tokens[night])
    busy = day["accelerator", held_by(described, key)[0]]
    for metric in ("power_watts", "temperature_celsius"):
        assert busy[metric][noon].min() > busy[metric][night].max()


def test_a_training_job_works_hard_and_answers_nobody(described: list[Reading], day: Day):
    served = {key for one in described if isinstance(one, Assignment) for key in one.target_keys}
    alone = [
        values
        for (family, key), values in day.items()
        if family == "accelerator" and key not in served and values["processes"].all()
    ]
    assert len(alone) == 6
    assert all(values["power_watts"].mean() > 0.85 * 700 for values in alone)


def test_what_is_parked_or_free_stays_so(described: list[Reading], day: Day):
    forgotten = f"http://simulated-mx-h100-2:8000 {FORGOTTEN}"
    assert np.ptp(day["deployment", forgotten]["prompt_tokens_total"]) == 0
    for key in held_by(described, forgotten):
        values = day["accelerator", key]
        assert (values["processes"] == 1).all()
        assert (values["utilization_ratio"] == 0).all()
    for key in keys_of(described, H100)[6:]:
        values = day["accelerator", key]
        assert not values["processes"].any()
        assert not values["memory_used_bytes"].any()
        assert values["power_watts"].max() < 90


def test_the_rented_machine_answers_nobody_at_night(day: Day):
    tokens = day["deployment", "http://simulated-br-cloud-1:8000 deepseek-ai/DeepSeek-R1"]["generation_tokens_total"]
    closed = between(1.5, 9.5)
    assert np.ptp(tokens[closed]) == 0
    assert (np.diff(tokens[between(9.6, 24)]) > 0).all()


# --- latency ---


@pytest.mark.parametrize("key", [CHAT_KEY, REASONING_KEY])
def test_histograms_add_up_to_the_requests_and_hold_their_sums(day: Day, grown: Grown, key: str):
    requests = day["deployment", key]["succeeded_requests_total"]
    for kind, bounds in BOUNDS.items():
        one = grown[key, kind]
        if kind is not Latency.ITL:  # counted by token
            assert one.counts[1:].sum() == np.ptp(requests)
        assert ((one.counts >= 0) & (one.counts == one.counts.round())).all()
        lower, finite = one.counts @ np.array([0, *bounds[:-1]]), one.counts[:, :-1] @ np.array(bounds[:-1])
        assert (lower <= one.sum_seconds + 1e-6).all()
        assert ((one.sum_seconds <= finite + 1e-6) | (one.counts[:, -1] > 0)).all()


def test_gaps_between_tokens_are_as_many_as_tokens_less_one_a_request(day: Day, grown: Grown):
    values = day["deployment", CHAT_KEY]
    gaps = np.ptp(values["generation_tokens_total"]) - np.ptp(values["succeeded_requests_total"])
    assert grown[CHAT_KEY, Latency.ITL].counts[1:].sum() == pytest.approx(gaps, rel=1e-3)


def median(grown: Grown, key: str, kind: Latency, hours: tuple[float, float]) -> float:
    found: Any = histogram_quantile(0.5, BOUNDS[kind], grown[key, kind].counts[between(*hours)].sum(axis=0))
    return float(found)


# --- the incident ---


def test_the_incident_is_where_the_module_says(source: SimulatedSource, described: list[Reading], day: Day):
    hot = keys_of(described, f"simulated-{HOT[0].name}")[HOT[1]]
    for (family, key), values in day.items():
        if family == "accelerator":
            alarmed = AT_MS[(values["throttle_reasons"].astype("int64") & int(ALARMING_THROTTLE)) > 0]
            start = MONDAY_MS + 14 * HOUR_MS
            expected = range(start, start + 20 * MINUTE_MS, STEP_MS) if key == hot else range(0)
            assert alarmed.tolist() == list(expected)
    seconds = day["accelerator", hot]["throttle_thermal_seconds_total"]
    assert np.ptp(seconds) == pytest.approx(1200)
    events = [one for one in source.between(MONDAY_MS, MONDAY_MS + DAY_MS) if isinstance(one, Event)]
    assert [(one.key, one.kind) for one in events] == [(hot, "throttle")] * 2
    assert events[1].observed_at_ms - events[0].observed_at_ms == 20 * MINUTE_MS


def test_the_incident_raises_latency_of_the_one_model_that_uses_the_hot_accelerator(grown: Grown):
    before, during, after = ((13.5, 14), (14.1, 14.33), (14.6, 15))
    for kind, least in ((Latency.TTFT, 5), (Latency.ITL, 1.7)):
        assert median(grown, CHAT_KEY, kind, during) > least * median(grown, CHAT_KEY, kind, before)
        assert median(grown, CHAT_KEY, kind, after) < 1.5 * median(grown, CHAT_KEY, kind, before)
        assert median(grown, REASONING_KEY, kind, during) < 1.5 * median(grown, REASONING_KEY, kind, before)


def test_requests_queue_up_to_the_patience_of_clients(day: Day):
    chat = day["deployment", CHAT_KEY]
    full = chat["waiting_requests"] > 0
    assert full.any()
    assert (chat["running_requests"][full] == 128).all()
    assert chat["waiting_requests"].max() <= PATIENCE_SECONDS * 8  # requests/s that it can still serve
    assert np.ptp(chat["aborted_requests_total"]) > 0


def test_probes_see_a_little_more_than_the_server_and_a_hosted_endpoint_less(source: SimulatedSource):
    probes = [one for one in source.between(MONDAY_MS, MONDAY_MS + DAY_MS) if isinstance(one, ProbeSample)]
    own, hosted = ([one for one in probes if (one.key == HOSTED.name) is is_hosted] for is_hosted in (False, True))
    assert len(own) == len(hosted) == DAY_MS // SLOW_MS
    failed = [one for one in own if one.outcome is Outcome.FAILED]
    assert failed, "the incident made it wait too long"
    assert all(one.error and one.ttft_seconds is None for one in failed)
    assert all((one.e2e_seconds or 0) > (one.ttft_seconds or 0) > 0 for one in own if one not in failed)
    assert all((one.tpot_seconds or 1) < 0.001 and (one.cost_usd or 0) > 0 for one in hosted)


def test_processes_are_looked_at_with_the_probes(source: SimulatedSource):
    ticks = [source.at(MONDAY_MS + minute * MINUTE_MS, MONDAY_MS + (minute - 1) * MINUTE_MS) for minute in range(6)]
    looked = [any(isinstance(one, DeviceProcess) for one in tick) for tick in ticks]
    assert looked == [True, False, False, False, False, True]
    assert [any(isinstance(one, ProbeSample) for one in tick) for tick in ticks] == looked
    assert sum(isinstance(one, AcceleratorSample) for one in ticks[1]) == 34
