"""The NVIDIA source, with the real binding over the stub driver library, in a child process."""

import ctypes
import itertools
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from collectors.child import ChildSource
from collectors.sources.nvidia.device import throttle_of
from collectors.sources.nvidia.source import NvidiaSource
from collectors.sources.nvidia.xid import XIDS
from core.catalog import FAMILIES
from core.errors import DeadlineExceeded, SourceUnavailable
from core.metric import Kind
from core.readings import AcceleratorSample, DeviceProcess, Entity, Event, Reading, Severity, Throttle
from tests.stubs.nvml_host import (
    ALL_LINKS,
    IDLE,
    LOADED,
    MIB,
    FreshNvidia,
    NvmlHost,
    Scenario,
    driver_that_does_not_start,
    h100_host,
    mig_host,
    mig_uuid,
    modest_host,
    old_host,
    uuid,
)

GPM_SPAN_SECONDS = 0.12  # the driver compares samples that are at least 0.1 s apart
UNSUPPORTED_PCIE_COUNTERS = {"field.197.0": None, "field.198.0": None}

ORDERS = itertools.count()

T = TypeVar("T")
Start = Callable[..., tuple[ChildSource, NvmlHost]]


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ChildSource, Path]]:
    """One process for the whole file, and the folder through which it is told what to play."""
    folder = tmp_path_factory.mktemp("nvidia")
    source = ChildSource("nvidia", partial(FreshNvidia, folder / "order"), deadline_seconds=5)
    yield source, folder
    source.close()


@pytest.fixture
def start(child: tuple[ChildSource, Path], monkeypatch: pytest.MonkeyPatch) -> Start:
    """Plays a host and returns a new source on it, discovered."""
    source, folder = child

    def begin(scenario: Scenario, **arguments: float) -> tuple[ChildSource, NvmlHost]:
        host = NvmlHost(folder, scenario)
        host.install(monkeypatch)
        order = {"number": next(ORDERS), "arguments": {"host": "node-1", **arguments}}
        (folder / "order").write_text(json.dumps(order), "utf-8")
        found = source.discover()
        assert found.ok, found
        return source, host

    return begin


@pytest.fixture
def own_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """The same with a process for one test, as the daemon would run it; not yet discovered."""
    sources = []

    def begin(
        scenario: Scenario, *, old_driver: bool = False, deadline_seconds: float = 5
    ) -> tuple[ChildSource, NvmlHost]:
        host = NvmlHost(tmp_path, scenario, old_driver=old_driver)
        host.install(monkeypatch)
        sources.append(ChildSource("nvidia", partial(NvidiaSource, "node-1"), deadline_seconds=deadline_seconds))
        return sources[-1], host

    yield begin
    for source in sources:
        source.close()


def only(kind: type[T], readings: Iterable[Reading]) -> list[T]:
    return [reading for reading in readings if isinstance(reading, kind)]


def sample(source: ChildSource, key: str = uuid(0)) -> AcceleratorSample:
    return next(s for s in only(AcceleratorSample, source.collect()) if s.key == key)


def collect_until(source: ChildSource, *, events: int) -> list[Reading]:
    """Several ticks' readings: what happens elsewhere arrives through a thread, in its own time."""
    readings: list[Reading] = []
    give_up_at = time.monotonic() + 5
    while len(only(Event, readings)) < events and time.monotonic() < give_up_at:
        readings += source.collect()
        time.sleep(0.02)
    return readings


def filled(reading: AcceleratorSample) -> dict[str, object]:
    return {name: value for name, value in asdict(reading).items() if value is not None}


# ---- discovery ----


def test_every_gpu_is_found_by_its_uuid(start: Start) -> None:
    source, _ = start(h100_host(8))
    assert source.discover().entities == tuple(uuid(gpu) for gpu in range(8))


def test_an_entity_says_what_a_person_wants_to_know(start: Start) -> None:
    source, _ = start(h100_host(4))
    entity = only(Entity, source.collect())[3]
    assert (entity.family, entity.key, entity.host, entity.parent_key) == ("accelerator", uuid(3), "node-1", None)
    assert entity.labels == {
        "vendor": "NVIDIA",
        "model": "NVIDIA H100 80GB HBM3",
        "index": "3",
        "pci": "0000:12:00.0",
        "architecture": "Hopper",
        "serial": "1650000000003",
        "board": "692-2G520-0200-000",
        "vbios": "96.00.A5.00.01",
        "driver": "590.48.01",
        "cuda": "13.1",
        "power_window": "1 s average",
        "power_limit_min_watts": "200",
        "power_limit_max_watts": "700",
        "power_limit_default_watts": "700",
    }


def test_entities_are_sent_once_and_again_after_discovery(start: Start) -> None:
    source, _ = start(h100_host(1))
    assert [len(only(Entity, source.collect())) for _ in range(2)] == [1, 0]
    source.discover()
    assert len(only(Entity, source.collect())) == 1


@pytest.mark.parametrize(
    ("code", "reason", "remedy"),
    [
        (4, "refuses this user", "/dev/nvidiactl"),
        (9, "kernel module is not loaded", "modprobe nvidia"),
        (18, "different versions", "reboot"),
        (999, "NVML error 999", "nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_start_says_why(own_child: Start, code: int, reason: str, remedy: str) -> None:
    found = own_child(driver_that_does_not_start(code))[0].discover()
    assert (found.ok, found.absent) == (False, False)
    assert reason in found.reason
    assert remedy in found.remedy


def test_without_the_library_the_source_is_absent(
    own_child: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = own_child({})
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")  # found before one that this machine may have
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found = source.discover()
    assert (found.ok, found.absent) == (False, True)
    assert "libnvidia-ml.so.1 is not installed" in found.reason


def test_without_the_binding_discovery_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = NvidiaSource("node-1").discover()
    assert not found.ok
    assert "nvidia-ml-py" in found.reason


def test_a_driver_without_gpus_is_no_absence(own_child: Start) -> None:
    found = own_child(h100_host(0))[0].discover()
    assert (found.ok, found.absent) == (False, False)
    assert "shows no GPU" in found.reason


def test_a_gpu_that_does_not_open_leaves_the_others(start: Start) -> None:
    source, _ = start(h100_host(3) | {"gpu1.nvmlDeviceGetHandleByIndex_v2": "error 15"})
    found = source.discover()
    assert (found.reason, found.entities) == ("GPU 1: it fell off the bus", (uuid(0), uuid(2)))
    assert [s.key for s in only(AcceleratorSample, source.collect())] == [uuid(0), uuid(2)]


def test_collecting_before_discovery_is_refused() -> None:
    with pytest.raises(SourceUnavailable):
        NvidiaSource("node-1").collect()


# ---- values and units ----


def test_a_loaded_gpu_in_base_units(start: Start) -> None:
    source, _ = start(h100_host(1))
    values = filled(sample(source))
    assert values.pop("observed_at_ms") == pytest.approx(time.time() * 1000, abs=5000)
    assert values == {
        "key": uuid(0),
        "utilization_ratio": 1.0,
        "memory_activity_ratio": 0.07,
        "encoder_ratio": 0.0,
        "decoder_ratio": 0.0,
        "memory_used_bytes": 31772 * MIB,
        "memory_total_bytes": 81559 * MIB,
        "power_watts": 627.32,
        "memory_power_watts": 97.69,
        "power_limit_watts": 700.0,
        "energy_joules_total": 123_456_789.0,
        "temperature_celsius": 52.0,
        "memory_temperature_celsius": 41.0,
        "temperature_margin_celsius": 35.0,
        "core_clock_hertz": 1.98e9,
        "memory_clock_hertz": 2.619e9,
        "performance_state": 0,
        "throttle_reasons": Throttle.POWER_CAP,
        "throttle_power_seconds_total": 2.0,
        "throttle_thermal_seconds_total": 0.5,
        "throttle_brake_seconds_total": 0.0,
        "ecc_corrected_errors_total": 3,
        "ecc_uncorrected_errors_total": 0,
        "remapped_rows_total": 3,
        "row_remap_state": 0,
        "recovery_action": 0,
        "pcie_tx_bytes_total": 4_217_000_000.0,
        "pcie_rx_bytes_total": 8_691_000_000.0,
        "pcie_generation": 5,
        "pcie_lanes": 16,
        "pcie_replays_total": 9,
        "nvlink_tx_bytes_total": 1048576 * 1024.0,
        "nvlink_rx_bytes_total": 2097152 * 1024.0,
        "processes": 2,
    }


def test_zero_is_measured(start: Start) -> None:
    source, _ = start(h100_host(1, IDLE))
    idle = sample(source)
    assert (idle.utilization_ratio, idle.memory_used_bytes, idle.processes) == (0.0, 0, 0)
    assert (idle.power_watts, idle.throttle_reasons) == (69.9, Throttle.IDLE)


def test_the_second_tick_profiles_and_leaves_out_what_is_slow(start: Start) -> None:
    source, _ = start(h100_host(1))
    first = sample(source)
    time.sleep(GPM_SPAN_SECONDS)
    second = sample(source)
    assert (second.sm_active_ratio, second.sm_occupancy_ratio) == (0.875, 0.25)
    assert (second.tensor_active_ratio, second.dram_active_ratio) == (0.625, 0.5)
    missing = {name for name in filled(first) if getattr(second, name) is None}
    assert missing == {
        "ecc_corrected_errors_total", "ecc_uncorrected_errors_total", "remapped_rows_total", "row_remap_state",
        "pcie_generation", "pcie_lanes", "pcie_replays_total", "processes",
    }  # fmt: skip
    assert second.power_limit_watts == 700.0


def test_ticks_too_close_for_gpm_add_up(start: Start) -> None:
    source, _ = start(h100_host(1))
    ratios = []
    for _ in range(6):
        ratios.append(sample(source).sm_active_ratio)
        time.sleep(0.06)
    assert set(ratios) == {None, 0.875}


def test_slow_values_come_back_at_their_own_pace(start: Start) -> None:
    source, _ = start(h100_host(1), slow_interval_seconds=1.5)  # less the slack: 1 s
    assert [sample(source).pcie_lanes for _ in range(2)] == [16, None]
    time.sleep(1.05)
    assert sample(source).pcie_lanes == 16


def test_processes_carry_pid_name_and_memory(start: Start) -> None:
    source, _ = start(h100_host(1) | {"nvmlDeviceGetGraphicsRunningProcesses_v3": f"10291:{2566 * MIB} 42:-1"})
    processes = only(DeviceProcess, source.collect())
    assert [(p.key, p.pid, p.name, p.memory_used_bytes) for p in processes] == [
        (uuid(0), 42, "", None),
        (uuid(0), 10291, "/usr/bin/python3", 2566 * MIB),
        (uuid(0), 10309, "VLLM::EngineCore", 28234 * MIB),
    ]


def test_energy_grows_with_power_and_time(start: Start) -> None:
    source, _ = start(h100_host(1))
    first = sample(source)
    time.sleep(0.3)
    second = sample(source)
    assert first.energy_joules_total is not None
    assert second.energy_joules_total is not None
    seconds = (second.observed_at_ms - first.observed_at_ms) / 1000
    assert second.energy_joules_total - first.energy_joules_total == pytest.approx(627.32 * seconds, abs=60)


def test_energy_that_no_board_could_draw_is_unknown_and_a_reset_is_not(start: Start) -> None:
    source, host = start(h100_host(1) | {"nvmlDeviceGetTotalEnergyConsumption": 5_000_000})
    readings = [sample(source).energy_joules_total]
    for millijoules in (900_000_000, 5_000_000, 1_000):
        host.change({"nvmlDeviceGetTotalEnergyConsumption": millijoules})
        readings.append(sample(source).energy_joules_total)
    assert readings == [5000.0, None, pytest.approx(5000, abs=2000), pytest.approx(1, abs=2000)]


def test_what_cannot_be_a_measurement_is_unknown(start: Start) -> None:
    impossible = {
        "nvmlDeviceGetPowerUsage": (-1, "power_watts"),
        "nvmlDeviceGetTotalEnergyConsumption": (-1, "energy_joules_total"),
        "nvmlDeviceGetUtilizationRates": ("4294967295 0", "utilization_ratio"),
        "nvmlDeviceGetMemoryInfo_v2": (f"{MIB} 0 0 {2 * MIB}", "memory_used_bytes"),
        "nvmlDeviceGetPerformanceState": (32, "performance_state"),
        "nvmlDeviceGetClockInfo.1": (-1, "core_clock_hertz"),
        "field.82.0": ("1 0", "memory_temperature_celsius"),  # a board without the sensor
        "field.74.0": ("3 -1", "throttle_power_seconds_total"),
        "field.230.0": ("1 -1", "recovery_action"),
        f"field.138.{ALL_LINKS}": ("0 nan", "nvlink_tx_bytes_total"),
    }
    source, host = start(h100_host(1))
    before = filled(sample(source))
    host.change({line: answer for line, (answer, _) in impossible.items()})
    source.discover()
    after = filled(sample(source))
    assert before.keys() - after.keys() == {metric for _, metric in impossible.values()}


def test_memory_power_that_repeats_the_power_of_the_board_is_unknown(start: Start) -> None:
    source, _ = start(h100_host(1) | {"field.185.2": "1 627320"})
    assert sample(source).memory_power_watts is None


def test_a_margin_below_zero_is_a_value(start: Start) -> None:
    source, _ = start(h100_host(1) | {"nvmlDeviceGetMarginTemperature": -1})
    assert sample(source).temperature_margin_celsius == -1.0


def test_pcie_rates_come_from_gpm_where_byte_counters_are_missing(start: Start) -> None:
    source, _ = start(h100_host(1) | UNSUPPORTED_PCIE_COUNTERS | {"gpm.20": 3.0, "gpm.21": 5.0})
    sample(source)
    time.sleep(GPM_SPAN_SECONDS)
    second = sample(source)
    assert (second.pcie_tx_bytes_per_second, second.pcie_rx_bytes_per_second) == (3.0 * MIB, 5.0 * MIB)


def test_pcie_rates_in_kb_where_nothing_else_tells(start: Start) -> None:
    source, _ = start(modest_host())
    rates = sample(source)
    assert (rates.pcie_tx_bytes_per_second, rates.pcie_rx_bytes_per_second) == (4_217_000.0, 8_691_000.0)
    assert rates.pcie_tx_bytes_total is None


def test_byte_counters_of_32_bits_are_not_trusted(start: Start) -> None:
    source, _ = start(h100_host(1) | {"field.197.0": "1 4217000", "field.198.0": "1 8691000"})
    assert sample(source).pcie_tx_bytes_total is None


def test_newer_nvlink_counters_are_in_bytes(start: Start) -> None:
    older = {f"field.{field}.{ALL_LINKS}": None for field in (138, 139)}
    newer = {f"field.202.{ALL_LINKS}": "3 12345", f"field.204.{ALL_LINKS}": "3 67890"}
    source, _ = start(h100_host(1) | older | newer)
    reading = sample(source)
    assert (reading.nvlink_tx_bytes_total, reading.nvlink_rx_bytes_total) == (12345.0, 67890.0)


def test_thermal_time_is_the_sum_where_it_is_counted_in_two(start: Start) -> None:
    newer = {"field.75.0": None, "field.269.0": "3 1500000000", "field.270.0": "3 250000000"}
    source, _ = start(h100_host(1) | newer)
    assert sample(source).throttle_thermal_seconds_total == 1.75


def test_rows_and_pages_that_were_taken_out_of_use(start: Start) -> None:
    broken = {"nvmlDeviceGetRemappedRows": "4 2 1 1", "field.29.0": "3 7", "field.30.0": "3 2"}
    source, _ = start(h100_host(1) | broken)
    reading = sample(source)
    assert (reading.remapped_rows_total, reading.row_remap_state, reading.retired_pages_total) == (6, 3, 9)


@pytest.mark.parametrize(
    ("bits", "meaning"),
    [
        (0x0, Throttle(0)),
        (0x1, Throttle.IDLE),
        (0x2, Throttle.USER_CLOCKS),
        (0x4, Throttle.POWER_CAP),
        (0x48, Throttle.HARDWARE_SLOWDOWN | Throttle.HARDWARE_THERMAL),
        (0x10, Throttle.SYNC_BOOST),
        (0x20, Throttle.SOFTWARE_THERMAL),
        (0x80, Throttle.POWER_BRAKE),
        (0x100, Throttle.DISPLAY),
        (0x8000_0000, Throttle(0)),  # a reason that is not known yet
    ],
)
def test_throttle_reasons_in_the_common_vocabulary(bits: int, meaning: Throttle) -> None:
    assert throttle_of(bits) == meaning


# ---- cards and drivers that can do less ----


def test_a_card_that_refuses_half_the_questions_answers_the_rest(start: Start) -> None:
    source, _ = start(modest_host())
    values = filled(sample(source))
    assert {"power_watts", "utilization_ratio", "memory_used_bytes", "temperature_celsius"} <= values.keys()
    refused = {"energy_joules_total", "power_limit_watts", "ecc_corrected_errors_total", "recovery_action"}
    assert not refused & values.keys()


def test_what_a_device_refused_is_not_asked_again_until_discovery(start: Start) -> None:
    source, host = start(modest_host(), slow_interval_seconds=0)
    sample(source)
    host.change({"nvmlDeviceGetTotalEnergyConsumption": 1_000, "field.230.0": "1 2", "nvmlDeviceGetPowerUsage": 1_000})
    unchanged = sample(source)
    assert (unchanged.energy_joules_total, unchanged.recovery_action, unchanged.power_watts) == (None, None, 1.0)
    source.discover()
    renewed = sample(source)
    assert (renewed.energy_joules_total, renewed.recovery_action) == (1.0, 2)


def test_an_old_driver_is_asked_by_its_older_functions(own_child: Start) -> None:
    source, _ = own_child(old_host(), old_driver=True)
    assert source.discover().ok
    readings = source.collect()
    (reading,) = only(AcceleratorSample, readings)
    assert (reading.temperature_celsius, reading.throttle_reasons) == (44.0, Throttle.SOFTWARE_THERMAL)
    assert (reading.memory_total_bytes, reading.memory_used_bytes) == (81920 * MIB, 1500)
    assert [p.pid for p in only(DeviceProcess, readings)] == [77]
    labels = only(Entity, readings)[0].labels
    assert labels["power_window"] == "instantaneous"  # a GA100
    assert labels["memory_used"] == "includes the driver's own share"


# ---- faults ----


@pytest.mark.parametrize("code", [6, 10, 20, 999])
def test_a_passing_error_costs_one_value_of_one_sample(start: Start, code: int) -> None:
    source, host = start(h100_host(1))
    host.change({"nvmlDeviceGetPowerUsage": f"error {code}", "field.82.0": f"error {code}"})
    failed = sample(source)
    assert (failed.power_watts, failed.memory_temperature_celsius, failed.temperature_celsius) == (None, None, 52.0)
    host.change(LOADED)
    assert (sample(source).power_watts, sample(source).memory_temperature_celsius) == (627.32, 41.0)


def test_a_passing_error_does_not_change_the_way_a_value_is_read(start: Start) -> None:
    older = {"nvmlDeviceGetMemoryInfo": f"{81559 * MIB} {479 * MIB} 0 {31772 * MIB}"}
    source, host = start(h100_host(1) | older)
    host.change({"nvmlDeviceGetMemoryInfo_v2": "error 999"})
    assert sample(source).memory_used_bytes is None  # version 1 would have counted more


def test_a_missing_permission_is_told_once(start: Start) -> None:
    source, _ = start(h100_host(2) | {"nvmlDeviceGetPowerUsage": "error 4"})
    readings = source.collect()
    assert [s.power_watts for s in only(AcceleratorSample, readings)] == [None, None]
    (event,) = only(Event, readings)
    assert (event.kind, event.severity) == ("permission", Severity.WARNING)
    assert event.message.startswith("power: not readable by this user")
    assert not only(Event, source.collect())


def test_a_gpu_that_falls_off_the_bus_is_reported_once_and_the_others_go_on(start: Start) -> None:
    source, host = start(h100_host(8))
    source.collect()
    host.lose(3)
    readings = collect_until(source, events=2)
    events = only(Event, readings)
    assert {(e.kind, e.code, e.severity, e.key) for e in events} == {
        ("device-lost", None, Severity.CRITICAL, uuid(3)),
        ("xid", 79, Severity.CRITICAL, uuid(3)),
    }
    assert "GPU 3 (0000:12:00.0) is lost: it fell off the bus" in [e.message for e in events]
    assert {s.key for s in only(AcceleratorSample, readings)} == {uuid(gpu) for gpu in range(8) if gpu != 3}
    assert not only(Event, source.collect())


def test_a_gpu_that_comes_back_is_found_again(start: Start) -> None:
    source, host = start(h100_host(2), retry_seconds=0)
    source.collect()
    host.change({"gpu1.nvmlDeviceGetUtilizationRates": "error 16"})  # opens, and then does not answer
    (event,) = only(Event, source.collect())
    assert event.message.endswith("is lost: it needs a reset")
    assert not only(Event, source.collect())  # looked for it, in vain
    host.change({"gpu1.nvmlDeviceGetUtilizationRates": None})
    readings = source.collect()
    assert [(e.kind, e.key) for e in only(Event, readings)] == [("device-back", uuid(1))]
    assert len(only(AcceleratorSample, readings)) == 2
    assert not only(Entity, readings)  # its description did not change


def test_the_pause_before_looking_again_is_kept(start: Start) -> None:
    source, host = start(h100_host(2), retry_seconds=60)
    source.collect()
    host.lose(1)
    source.collect()
    host.restore(1)
    assert len(only(AcceleratorSample, source.collect())) == 1


def test_when_the_last_gpu_is_lost_the_source_asks_to_be_discovered(start: Start) -> None:
    source, host = start(h100_host(1))
    source.collect()
    host.change({"gpu0": "error 15"})
    assert [e.kind for e in only(Event, source.collect())] == ["device-lost"]
    with pytest.raises(SourceUnavailable, match="no GPU is left"):
        source.collect()
    assert not source.discover().ok


@pytest.mark.parametrize("code", [1, 18])
def test_a_driver_that_goes_away_ends_the_session_until_it_is_back(start: Start, code: int) -> None:
    source, host = start(h100_host(1))
    host.change({"nvmlDeviceGetUtilizationRates": f"error {code}"})
    with pytest.raises(SourceUnavailable, match="NVIDIA"):
        source.collect()
    host.change(LOADED)
    assert source.discover().ok
    assert sample(source).utilization_ratio == 1.0


def test_a_call_that_hangs_misses_the_deadline_and_the_next_process_is_well(own_child: Start) -> None:
    source, host = own_child(h100_host(1), deadline_seconds=1)
    assert source.discover().ok
    host.hang()
    with pytest.raises(DeadlineExceeded):
        source.collect()
    host.change(LOADED)
    assert source.discover().ok
    assert sample(source).power_watts == 627.32


def test_a_driver_that_crashes_takes_only_its_process_along(own_child: Start) -> None:
    source, host = own_child(h100_host(1))
    assert source.discover().ok
    host.crash()
    with pytest.raises(SourceUnavailable, match="SIGSEGV"):
        source.collect()


# ---- MIG ----


def test_mig_instances_are_children_of_their_gpu(start: Start) -> None:
    source, _ = start(mig_host())
    gpu, *instances = only(Entity, source.collect())
    assert (gpu.key, gpu.parent_key, gpu.labels["mig"]) == (uuid(0), None, "3 instances")
    assert [(e.key, e.parent_key, e.labels["profile"], e.labels["index"]) for e in instances] == [
        (mig_uuid(0), uuid(0), "3g.40gb", "0:0"),
        (mig_uuid(2), uuid(0), "1g.10gb", "0:2"),
        (mig_uuid(3), uuid(0), "1g.10gb", "0:3"),
    ]


def test_a_mig_instance_reports_what_is_measured_for_it_and_no_more(start: Start) -> None:
    source, _ = start(mig_host())
    readings = source.collect()
    time.sleep(GPM_SPAN_SECONDS)
    values = filled(sample(source, mig_uuid(0)))
    del values["observed_at_ms"]
    assert values == {
        "key": mig_uuid(0),
        "memory_total_bytes": 40448 * MIB,
        "memory_used_bytes": 26 * MIB,
        "sm_active_ratio": 0.6,
    }
    assert [(p.key, p.pid) for p in only(DeviceProcess, readings)] == [
        (mig_uuid(0), 500), (mig_uuid(2), 502), (mig_uuid(3), 503),
    ]  # fmt: skip


def test_power_of_a_partitioned_gpu_stays_with_the_gpu(start: Start) -> None:
    source, _ = start(mig_host())
    gpu, *instances = only(AcceleratorSample, source.collect())
    assert (gpu.power_watts, gpu.utilization_ratio, gpu.processes) == (98.0, None, None)
    assert {(s.power_watts, s.energy_joules_total, s.processes) for s in instances} == {(None, None, 1)}


def test_a_new_partition_replaces_the_old(start: Start) -> None:
    source, host = start(mig_host(), slow_interval_seconds=0)
    source.collect()
    moved = {"gpu0.nvmlDeviceGetMigDeviceHandleByIndex.2": None, "gpu0.mig3.nvmlDeviceGetUUID": mig_uuid(7)}
    host.change(moved)
    readings = source.collect()
    assert [s.key for s in only(AcceleratorSample, readings)] == [uuid(0), mig_uuid(0), mig_uuid(7)]
    assert {e.key for e in only(Entity, readings)} == {uuid(0), mig_uuid(7)}  # the GPU has fewer instances now


def test_a_partition_that_cannot_be_read_this_time_stays(start: Start) -> None:
    source, host = start(mig_host(), slow_interval_seconds=0)
    source.collect()
    host.change({"nvmlDeviceGetMigMode": "error 999"})
    assert len(only(AcceleratorSample, source.collect())) == 4


def test_turning_mig_off_makes_refused_metrics_askable(start: Start) -> None:
    source, host = start(mig_host(), slow_interval_seconds=0)
    source.collect()
    whole = {"gpu0.nvmlDeviceGetUtilizationRates": "35 0", "gpu0.nvmlDeviceGetRemappedRows": "0 0 0 0"}
    host.change(whole | {"nvmlDeviceGetMigMode": "0 0"})
    (reading,) = only(AcceleratorSample, source.collect())
    assert (reading.utilization_ratio, reading.remapped_rows_total) == (0.35, 0)


def test_instances_that_share_a_gpu_instance_have_no_profile_of_their_own(start: Start) -> None:
    source, _ = start(mig_host() | {"gpu0.mig3.nvmlDeviceGetGpuInstanceId": 9})
    source.collect()
    time.sleep(GPM_SPAN_SECONDS)
    samples = only(AcceleratorSample, source.collect())
    assert [s.sm_active_ratio for s in samples] == [0.0, 0.6, None, None]


def test_an_instance_that_dies_between_two_scans_costs_only_itself(start: Start) -> None:
    source, host = start(mig_host())
    source.collect()
    host.change({"gpu0.mig2.nvmlDeviceGetMemoryInfo_v2": "error 15"})
    assert [s.key for s in only(AcceleratorSample, source.collect())] == [uuid(0), mig_uuid(0), mig_uuid(3)]


def test_the_profile_is_computed_where_the_name_lacks_it(start: Start) -> None:
    name = {"gpu0.mig0.nvmlDeviceGetName": "NVIDIA H100 80GB HBM3", "gpu0.mig0.nvmlDeviceGetAttributes_v2": "3 40448"}
    source, _ = start(mig_host() | name)
    assert only(Entity, source.collect())[1].labels["profile"] == "3g.40gb"


# ---- XID ----


def test_xids_arrive_as_events_of_their_gpu_in_order(start: Start) -> None:
    source, host = start(h100_host(4))
    source.collect()
    for code in (31, 94, 95, 4711):
        host.xid(2, code)
    events = only(Event, collect_until(source, events=4))
    assert [(e.kind, e.code, e.severity, e.key) for e in events] == [
        ("xid", 31, Severity.INFO, uuid(2)),
        ("xid", 94, Severity.WARNING, uuid(2)),
        ("xid", 95, Severity.CRITICAL, uuid(2)),
        ("xid", 4711, Severity.WARNING, uuid(2)),
    ]
    assert events[0].message == "XID 31: a program touched memory it does not own (MMU fault)"


def test_what_happened_before_is_not_reported(start: Start) -> None:
    source, _ = start(h100_host(1) | {"xid.1": "0 48"})
    time.sleep(0.1)
    assert not only(Event, source.collect())


@pytest.mark.parametrize(("code", "severity"), [(48, "critical"), (63, "warning"), (64, "critical"), (13, "info")])
def test_severity_follows_the_catalogue(code: int, severity: str) -> None:
    assert XIDS[code][0] == severity


def test_closing_ends_the_event_thread_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = NvmlHost(tmp_path, h100_host(1))
    host.install(monkeypatch)
    pynvml = pytest.importorskip("pynvml")
    library = Path(host.env["LD_LIBRARY_PATH"]) / "libnvidia-ml.so.1"
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))  # here the loader has no say: same process
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    source = NvidiaSource("node-1")
    assert source.discover().ok
    assert "nvidia-xid" in [thread.name for thread in threading.enumerate()]
    source.close()
    source.close()
    assert "nvidia-xid" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(SourceUnavailable):
        source.collect()


# ---- the contract of every source ----


@pytest.mark.parametrize("scenario", [h100_host(2), mig_host(), modest_host()], ids=["h100", "mig", "modest"])
def test_values_keep_the_contract(start: Start, scenario: Scenario) -> None:
    source, _ = start(scenario, slow_interval_seconds=0)
    metrics = {metric.name: metric for metric in FAMILIES["accelerator"].metrics}
    highest: dict[tuple[str, str], float] = {}
    for _ in range(4):
        for reading in only(AcceleratorSample, source.collect()):
            for name, value in filled(reading).items():
                if name in ("key", "observed_at_ms"):
                    continue
                assert "nvidia" in metrics[name].sources
                assert isinstance(value, int | float)
                assert math.isfinite(value)
                assert isinstance(value, int) == metrics[name].integer, name
                assert not name.endswith("_ratio") or 0 <= value <= 1
                if metrics[name].kind is Kind.COUNTER:
                    assert value >= highest.get((reading.key, name), 0)
                    highest[reading.key, name] = value
        time.sleep(GPM_SPAN_SECONDS)
    assert highest
