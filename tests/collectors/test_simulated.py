"""The simulated source: a pure function of time whose figures hang together, with a known incident."""

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.formulas.latency import histogram_quantile
from collectors.sources.simulated.source import BOUNDS, SimulatedSource
from collectors.sources.simulated.world import HOT_ACCELERATOR, PATIENCE_SECONDS, TICK_SECONDS
from core.catalog import FAMILIES
from core.metric import Kind
from core.readings import (
    ALARMING_THROTTLE,
    AcceleratorSample,
    Assignment,
    CpuSample,
    DeploymentSample,
    DeviceProcess,
    Entity,
    Event,
    HostSample,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Sample,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_795_392_000_000  # 2026-11-23 00:00 UTC
STEP_MS = 10_000
CHAT, REASONING = "meta-llama/Llama-2-70b-chat-hf", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"


@pytest.fixture(scope="module")
def source():
    return SimulatedSource("demo-host", 10.0)


@pytest.fixture(scope="module")
def day(source):
    return list(source.history(MONDAY_MS, MONDAY_MS + DAY_MS, STEP_MS))


@pytest.fixture(scope="module")
def by_key(day):
    """Samples of the day per family and key, in time order."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)  # Any: what is simulated is never None
    for _, readings in day:
        for reading in readings:
            if isinstance(reading, Sample):
                found[reading.family, reading.key].append(reading)
    return found


def _latency(day, model, kind):
    return [
        r for _, readings in day for r in readings
        if isinstance(r, LatencySample) and r.kind is kind and r.key.endswith(model)
    ]  # fmt: skip


def _of_day(samples, start_hour, end_hour):
    start, end = MONDAY_MS + start_hour * HOUR_MS, MONDAY_MS + end_hour * HOUR_MS
    return [sample for sample in samples if start <= sample.observed_at_ms < end]


def test_a_day_of_history_is_every_tick_once(day):
    assert [at for at, _ in day] == list(range(MONDAY_MS, MONDAY_MS + DAY_MS, STEP_MS))
    kinds = [type(r) for r in day[1][1]]
    assert kinds.count(AcceleratorSample) == 8
    assert kinds.count(CpuSample) == 2
    assert kinds.count(HostSample) == 1
    assert kinds.count(DeploymentSample) == 2
    assert kinds.count(LatencySample) == 2 * len(BOUNDS)


def test_history_and_live_agree(source, day):
    for index in (1, 17, 5_043, 8_639):
        at_ms, readings = day[index]
        assert source.at(at_ms) == readings


def test_history_laid_down_twice_is_the_same_history(source, day):
    again = source.history(MONDAY_MS + 4_321, MONDAY_MS + MINUTE_MS, STEP_MS)
    assert [at for at, _ in again] == [at for at, _ in day if MONDAY_MS < at < MONDAY_MS + MINUTE_MS]


def test_same_seed_same_week_other_seed_other_week(source):
    again, other = SimulatedSource("demo-host", 10.0), SimulatedSource("demo-host", 10.0, seed=1)
    at_ms = MONDAY_MS + 9 * HOUR_MS
    assert again.at(at_ms) == source.at(at_ms)
    assert other.at(at_ms) != source.at(at_ms)


def test_the_first_tick_describes_what_there_is(day):
    described = [r for r in day[0][1] if isinstance(r, Entity)]
    assert {(e.family, e.host) for e in described} == {
        (family, "demo-host") for family in ("host", "cpu", "accelerator", "deployment", "probe")
    }
    assert all(e.labels["simulated"] == "yes" for e in described)
    keys = {e.key for e in described}
    assert {r.key for _, readings in day for r in readings if isinstance(r, Sample)} == keys
    assert not any(isinstance(r, Entity) for _, readings in day[1:] for r in readings)


def test_one_accelerator_is_left_without_work(day, by_key):
    assigned = {key for r in day[0][1] if isinstance(r, Assignment) for key in r.target_keys}
    idle = [samples for (family, key), samples in by_key.items() if family == "accelerator" and key not in assigned]
    assert len(assigned) == 7
    assert len(idle) == 1
    assert all(s.processes == 0 and s.memory_used_bytes == 0 and s.utilization_ratio == 0 for s in idle[0])
    assert all(50 < s.power_watts < 90 for s in idle[0])


def test_values_are_finite_in_range_and_counters_never_fall(by_key):
    for (family, _), samples in by_key.items():
        for metric in FAMILIES[family].metrics:
            values = [v for s in samples if (v := getattr(s, metric.name)) is not None]
            assert all(math.isfinite(v) for v in values), metric.name
            if metric.name.endswith("_ratio"):
                assert all(0 <= v <= 1 for v in values), metric.name
            if metric.integer:
                assert all(isinstance(v, int) for v in values), metric.name
            if metric.kind is Kind.COUNTER:
                assert all(a <= b for a, b in pairwise(values)), metric.name


def test_counters_go_on_over_the_end_of_the_week(source):
    for _, counters in _counters_over(source, MONDAY_MS + 7 * DAY_MS - MINUTE_MS, MONDAY_MS + 7 * DAY_MS + MINUTE_MS):
        rises = np.diff(counters)
        assert (rises >= 0).all()
        assert rises.max() <= 3 * max(np.median(rises), 1)


def _counters_over(source, start_ms, end_ms):
    found = defaultdict(list)
    for _, readings in source.history(start_ms, end_ms, STEP_MS):
        for r in readings:
            if isinstance(r, AcceleratorSample):
                found[r.key].append(r.energy_joules_total)
            elif isinstance(r, DeploymentSample):
                found[r.key].append(r.generation_tokens_total)
    assert len(found) == 10
    return found.items()


def test_energy_is_the_integral_of_power(by_key):
    for (family, _), samples in by_key.items():
        if family in ("accelerator", "cpu"):
            integral = sum(s.power_watts for s in samples[:-1]) * TICK_SECONDS
            counted = samples[-1].energy_joules_total - samples[0].energy_joules_total
            assert counted == pytest.approx(integral, rel=1e-6)


def test_node_power_holds_all_its_parts(day):
    readings: list[Any]
    for _, readings in day[::500]:
        parts = sum(r.power_watts for r in readings if type(r) in (AcceleratorSample, CpuSample))
        node = next(r.node_power_watts for r in readings if type(r) is HostSample)
        assert parts < node < 1.5 * parts


def test_work_follows_the_hour(by_key, day):
    chat = next(s for (family, key), s in by_key.items() if family == "deployment" and key.endswith(CHAT))
    night, noon = (_of_day(chat, a, b) for a, b in ((2, 4), (16, 18)))

    def tokens(samples):
        return samples[-1].generation_tokens_total - samples[0].generation_tokens_total

    assert tokens(noon) > 3 * tokens(night)
    chat_key = chat[0].key
    used = next(r.target_keys[0] for r in day[0][1] if isinstance(r, Assignment) and r.deployment_key == chat_key)
    busy = by_key["accelerator", used]
    for metric in ("power_watts", "temperature_celsius", "sm_active_ratio"):
        assert min(getattr(s, metric) for s in _of_day(busy, 16, 17)) > max(
            getattr(s, metric) for s in _of_day(busy, 2, 4)
        )


def test_histograms_add_up_to_the_requests_and_hold_their_sums(day, by_key):
    for model in (CHAT, REASONING):
        totals = next(s for (family, key), s in by_key.items() if family == "deployment" and key.endswith(model))
        answered = totals[-1].succeeded_requests_total - totals[0].succeeded_requests_total
        for kind in (Latency.TTFT, Latency.TPOT, Latency.E2E, Latency.QUEUE):
            samples = _latency(day, model, kind)
            assert sum(s.observations for s in samples[1:]) == answered
        for kind, bounds in BOUNDS.items():
            lower, upper = np.array([0, *bounds[:-1]]), np.array(bounds)
            for sample in _latency(day, model, kind)[::50]:
                counts = np.array(sample.increments)
                held = counts > 0
                assert (counts >= 0).all()
                assert (counts == np.round(counts)).all()
                assert (counts[held] * lower[held]).sum() <= sample.sum_seconds + 1e-9
                assert sample.sum_seconds <= (counts[held] * upper[held]).sum() + 1e-9


def _quantile(samples, q):
    return histogram_quantile(q, samples[0].upper_bounds_seconds, np.sum([s.increments for s in samples], axis=0))


def test_the_incident_is_where_the_module_says(day, by_key):
    uuids = [r.key for r in day[1][1] if isinstance(r, AcceleratorSample)]
    hot = uuids[HOT_ACCELERATOR]
    for key in uuids:
        alarmed = [s.observed_at_ms for s in by_key["accelerator", key] if s.throttle_reasons & int(ALARMING_THROTTLE)]
        if key == hot:
            start = MONDAY_MS + 14 * HOUR_MS
            assert alarmed == list(range(start, start + 20 * MINUTE_MS, STEP_MS))
        else:
            assert alarmed == []
    held = by_key["accelerator", hot]
    assert held[-1].throttle_thermal_seconds_total - held[0].throttle_thermal_seconds_total == pytest.approx(1200)
    events = [r for _, readings in day for r in readings if isinstance(r, Event)]
    assert [(e.key, e.kind) for e in events] == [(hot, "throttle")] * 2
    assert events[1].observed_at_ms - events[0].observed_at_ms == 20 * MINUTE_MS


def test_the_incident_raises_latency_of_the_one_model_that_uses_the_hot_accelerator(day):
    before, during, after = ((13.5, 14), (14.1, 14.33), (14.6, 15))
    for kind, least in ((Latency.TTFT, 5), (Latency.ITL, 1.7)):
        chat = _latency(day, CHAT, kind)
        assert _quantile(_of_day(chat, *during), 0.5) > least * _quantile(_of_day(chat, *before), 0.5)
        assert _quantile(_of_day(chat, *after), 0.5) < 1.5 * _quantile(_of_day(chat, *before), 0.5)
        other = _latency(day, REASONING, kind)
        assert _quantile(_of_day(other, *during), 0.5) < 1.5 * _quantile(_of_day(other, *before), 0.5)


def test_requests_queue_up_to_the_patience_of_clients(by_key):
    chat = next(s for (family, key), s in by_key.items() if family == "deployment" and key.endswith(CHAT))
    full = [s for s in chat if s.waiting_requests > 0]
    assert full
    assert all(s.running_requests == 128 for s in full)
    assert max(s.waiting_requests for s in full) <= PATIENCE_SECONDS * 8  # requests/s that it can still serve
    assert chat[-1].aborted_requests_total > chat[0].aborted_requests_total


def test_the_probe_sees_a_little_more_than_the_server(day):
    probes: list[Any] = [r for _, readings in day for r in readings if isinstance(r, ProbeSample)]
    assert len(probes) == DAY_MS // MINUTE_MS
    well = [p for p in probes if p.outcome is Outcome.OK]
    assert len(well) < len(probes)  # the incident made it wait too long
    for probe in well[::100]:
        assert probe.e2e_seconds > probe.ttft_seconds > 0
    failed = [p for p in probes if p.outcome is Outcome.FAILED]
    assert all(p.error and p.ttft_seconds is None for p in failed)


def test_live_ticks_cover_the_time_between_them(source, monkeypatch):
    at = iter([MONDAY_MS + HOUR_MS, MONDAY_MS + HOUR_MS + 10_003, MONDAY_MS + HOUR_MS + 37_777])
    monkeypatch.setattr("collectors.sources.simulated.source.now_ms", lambda: next(at))
    live = SimulatedSource("demo-host", 10.0)
    assert live.discover().ok
    first, second, third = (tuple(live.collect()) for _ in range(3))
    assert any(isinstance(r, Entity) for r in first)
    assert not any(isinstance(r, Entity) for r in second)
    live.close()
    live.close()

    def answered(readings):
        return next(r.succeeded_requests_total for r in readings if isinstance(r, DeploymentSample))

    def observed(readings):
        return next(r.observations for r in readings if isinstance(r, LatencySample) and r.kind is Latency.TTFT)

    assert observed(second) == answered(second) - answered(first)
    assert observed(third) == answered(third) - answered(second)


def test_discovery_describes_again(monkeypatch, source):
    source.discover()
    assert any(isinstance(r, Entity) for r in source.collect())
    source.discover()
    assert any(isinstance(r, Entity) for r in source.collect())


@settings(max_examples=25, deadline=None)
@given(at=st.integers(MONDAY_MS, MONDAY_MS + 60 * DAY_MS), part=st.integers(1, 299_999))
def test_increments_are_additive_over_any_split(source, at, part):
    whole, parts = 300_000, []
    for start, end in ((at, at + part), (at + part, at + whole)):
        parts.append([r.observations for r in source.at(end, start) if isinstance(r, LatencySample)])
    together = [r.observations for r in source.at(at + whole, at) if isinstance(r, LatencySample)]
    exact = [i for i, kind in enumerate(list(BOUNDS) * 2) if kind is not Latency.ITL]  # its gaps are rounded
    assert [parts[0][i] + parts[1][i] for i in exact] == [together[i] for i in exact]


def test_processes_hold_the_devices_they_are_on(day):
    minute = next(readings for at, readings in day if at == MONDAY_MS + MINUTE_MS)
    held = {r.key for r in minute if isinstance(r, DeviceProcess)}
    assigned = {key for r in day[0][1] if isinstance(r, Assignment) for key in r.target_keys}
    assert held == assigned
