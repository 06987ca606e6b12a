"""The AMD source, with the real binding over the stub library, in a process of its own.

The stub aborts in the two calls that are too slow for a tick, so every test that survives shows that they are
not made.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from collectors.child import ChildSource
from collectors.sources.amd import rocm
from collectors.sources.amd.source import AmdSource
from collectors.sources.amd.tables import (
    EnergyCounter,
    ThrottleCounter,
    independent_reasons,
    power_cap_watts,
    retired_pages,
    utilization_ratio,
)
from core.catalog import FAMILIES
from core.errors import DeadlineExceeded, SourceUnavailable
from core.metric import Kind
from core.readings import AcceleratorSample, DeviceProcess, Entity, Event, Severity, Throttle
from tests.stubs.amdsmi_host import (
    DRIVER_NOT_LOADED,
    GIB,
    NO_PERMISSION,
    NOT_SUPPORTED,
    AmdsmiHost,
    Bench,
    Scenario,
    cpx_host,
    mi250x_host,
    mi300x_host,
    modest_host,
    of,
    pci,
    rocm_is_here,
    uuid,
)

ABSENT = Path("/nonexistent")
ALL_ONES = (0xFFFF, 0xFFFF_FFFF, 2**64 - 1)
MIB = 1 << 20

Open = Callable[..., Bench]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("amd"))
    yield bench
    bench.end()


@pytest.fixture
def begin(bench: Bench) -> Iterator[Open]:
    """Shows a machine to a new source that has discovered it."""

    def begin(scenario: Scenario, **arguments: object) -> Bench:
        bench.host.show(scenario)
        bench.host.turn_clock(1000.0)
        bench.build("amd", host="node-1", clock=bench.host.clock, **arguments)
        found = bench.discover()
        assert found.ok, found
        return bench

    yield begin
    bench.close()


def samples(readings: list) -> dict[str, AcceleratorSample]:
    return {r.key: r for r in readings if isinstance(r, AcceleratorSample)}


def entities(readings: list) -> dict[str, Entity]:
    return {r.key: r for r in readings if isinstance(r, Entity)}


def events(readings: list) -> list[Event]:
    return [r for r in readings if isinstance(r, Event)]


def one(readings: list) -> AcceleratorSample:
    (sample,) = samples(readings).values()
    return sample


def measured(sample: AcceleratorSample) -> dict[str, float]:
    """The metrics that have a value."""
    identity = {"key", "observed_at_ms"}
    return {name: value for name, value in asdict(sample).items() if value is not None and name not in identity}


FAST = {
    "utilization_ratio": 0.97,
    "memory_activity_ratio": 0.42,
    "memory_used_bytes": 160 * GIB,
    "memory_total_bytes": 196_592 * MIB,
    "power_watts": 712.0,
    "energy_joules_total": 4_750_896_266 / 65_536,
    "temperature_celsius": 67.0,
    "memory_temperature_celsius": 54.0,
    "core_clock_hertz": 2.08e9,
    "memory_clock_hertz": 1.3e9,
    "throttle_power_seconds_total": 0.0,
    "throttle_thermal_seconds_total": 0.0,
    "throttle_brake_seconds_total": 0.0,
    "xgmi_rx_bytes_total": 7_000 * 1024.0,
    "xgmi_tx_bytes_total": 14_000 * 1024.0,
}
SLOW = {
    "power_limit_watts": 750.0,
    "ecc_corrected_errors_total": 3,
    "ecc_uncorrected_errors_total": 0,
    "retired_pages_total": 2,
    "pcie_generation": 5,
    "pcie_lanes": 16,
    "pcie_replays_total": 7,
    "processes": 1,
}


def test_stub_lays_out_its_structures_as_the_binding_does(bench: Bench) -> None:
    sizes = bench.struct_sizes()
    assert {name: ours for name, (ours, _) in sizes.items()} == {name: theirs for name, (_, theirs) in sizes.items()}
    assert sizes["gpu_metrics"][0] > 4000


def test_eight_boards_in_spx_mode(begin: Open) -> None:
    bench = begin(mi300x_host())
    readings = bench.collect()
    found = samples(readings)
    assert list(found) == [uuid(board) for board in range(8)]
    assert all(measured(sample) == FAST | SLOW for sample in found.values())
    listed = [r for r in readings if isinstance(r, DeviceProcess)]
    assert [(p.key, p.pid, p.name, p.memory_used_bytes) for p in listed] == [
        (uuid(board), 4711, "VLLM::EngineCore", 150 * GIB) for board in range(8)
    ]
    assert events(readings) == []


def test_describes_each_board_once(begin: Open) -> None:
    bench = begin(mi300x_host(2))
    described = entities(bench.collect())
    assert {(e.family, e.host, e.parent_key) for e in described.values()} == {("accelerator", "node-1", None)}
    assert described[uuid(1)].labels == {
        "vendor": "AMD",
        "model": "AMD Instinct MI300X",
        "index": "1",
        "pci": pci(1),
        "architecture": "CDNA 3",
        "serial": "0xA1B2000000000001",
        "vbios": "113-M3000100-103",
        "driver": "6.14.14",
        "oam": "1",
        "compute_units": "304",
        "compute_partition": "SPX",
        "memory_partition": "NPS1",
        "power_limit_max_watts": "750",
        "power_limit_default_watts": "750",
        "rocm": "7.0.2",
        "library": "26.0.2",
    }
    assert entities(bench.collect()) == {}
    assert bench.discover().entities == (uuid(0), uuid(1))
    assert list(entities(bench.collect())) == [uuid(0), uuid(1)]


def test_slow_values_come_at_their_own_pace_and_settings_carry(begin: Open) -> None:
    bench = begin(mi300x_host(1), slow_interval_seconds=30)
    bench.collect()
    bench.host.change({"gpu.energy": 4_750_896_267})
    between = measured(one(bench.collect()))
    assert between == FAST | {"power_limit_watts": 750.0, "energy_joules_total": 4_750_896_267 / 65_536}
    bench.host.turn_clock(1029.6)  # a tick may come a little early
    assert measured(one(bench.collect())).keys() >= SLOW.keys()


@pytest.mark.parametrize(
    "unknown", ["N/A", "n/a", "", None, True, False, float("nan"), *ALL_ONES, *map(float, ALL_ONES)]
)
def test_every_form_of_not_measured_is_unknown(unknown: object) -> None:
    assert rocm.known(unknown) is None
    assert rocm.within(unknown, 0, 1e30) is None


@pytest.mark.parametrize("value", [0, 1, 0xFE, 0xFF, 0xFFFE, 0x1_0000, -1, 0.5])
def test_numbers_are_known(value: float) -> None:
    assert rocm.known(value) == value


@pytest.mark.parametrize("ones", ALL_ONES)
def test_all_ones_of_any_width_are_unknown_in_every_field(begin: Open, ones: int) -> None:
    """The library widens what firmware gave it: all ones of 16 or 32 bits turn up in fields of 64."""
    wide = (
        "energy", "accumulation_counter", "ppt_residency_acc", "prochot_residency_acc", "socket_thm_residency_acc",
        "hbm_thm_residency_acc", "vr_thm_residency_acc", "power_cap", "ecc_corrected", "ecc_uncorrected",
        "pcie_replays", "xgmi_read_data_acc", "xgmi_write_data_acc",
    )  # fmt: skip
    narrow = (
        "average_gfx_activity", "average_umc_activity", "current_socket_power", "temperature_hotspot",
        "temperature_mem", "current_gfxclks", "current_uclk", "pcie_width", "pcie_speed", "vram_total", "vram_used",
    )  # fmt: skip
    arrays = {"xgmi_read_data_acc", "xgmi_write_data_acc", "current_gfxclks"}
    lines = {name: [ones] * 8 if name in arrays else ones for name in (*wide, *narrow)}
    bench = begin(mi300x_host(1, **lines, bad_pages=None, processes=None))
    assert measured(one(bench.collect())) == {}


def test_values_that_cannot_be_are_unknown(begin: Open) -> None:
    impossible = {"average_gfx_activity": 101, "average_umc_activity": 30_000, "current_socket_power": 10_001}
    bench = begin(mi300x_host(1, **impossible, temperature_hotspot=151, temperature_mem=0, pcie_speed=17))
    sample = one(bench.collect())
    absurd = ("utilization_ratio", "memory_activity_ratio", "power_watts", "temperature_celsius", "pcie_generation")
    assert [getattr(sample, name) for name in (*absurd, "memory_temperature_celsius")] == [None] * 6


def test_idle_is_zero_and_not_unknown(begin: Open) -> None:
    bench = begin(mi300x_host(1, average_gfx_activity=0, average_umc_activity=0, vram_used=0, processes=""))
    sample = one(bench.collect())
    assert (sample.utilization_ratio, sample.memory_activity_ratio) == (0.0, 0.0)
    assert (sample.memory_used_bytes, sample.processes, sample.ecc_uncorrected_errors_total) == (0, 0, 0)


def test_zero_watts_at_start_are_unknown(begin: Open) -> None:
    bench = begin(mi300x_host(1, current_socket_power=0))
    assert one(bench.collect()).power_watts is None
    bench.host.change({"gpu.current_socket_power": 244})
    assert one(bench.collect()).power_watts == 244.0


def test_falls_back_to_the_busy_time_of_the_dies(begin: Open) -> None:
    bench = begin(mi300x_host(1, average_gfx_activity=None, gfx_busy_inst=[100, 50, 0, 50]))
    assert one(bench.collect()).utilization_ratio == 0.5
    assert utilization_ratio({"average_gfx_activity": "N/A", "xcp_stats.gfx_busy_inst": [["N/A"], []]}) is None


def test_a_board_that_does_not_support_half_of_it(begin: Open) -> None:
    bench = begin(modest_host())
    readings = bench.collect()
    assert measured(one(readings)) == {
        "utilization_ratio": 0.12,
        "memory_used_bytes": 10 * MIB,
        "memory_total_bytes": 65_520 * MIB,
        "power_watts": 94.0,  # from the average: "current" and "socket" hold all ones there
        "temperature_celsius": 41.0,
        "core_clock_hertz": 8e8,
    }
    assert entities(readings)[uuid(0)].labels["model"] == "AMD Instinct MI210"  # its market name is a bare number


def test_power_keys_in_their_order(begin: Open) -> None:
    bench = begin(modest_host() | {"gpu0.power_info.socket": 90})
    for key, watts in (("average", 94.0), ("current", 95.0)):
        bench.host.change({f"gpu0.power_info.{key}": int(watts)})
        assert one(bench.collect()).power_watts == watts
    bench.host.change({"gpu0.power_info.average": None, "gpu0.power_info.current": None})
    assert one(bench.collect()).power_watts == 90.0


@pytest.mark.parametrize(
    ("cap", "watts"), [(750_000_000, 750.0), (750, 750.0), (0, None), ("N/A", None), (2**64 - 1, None)]
)
def test_power_cap_in_either_unit(cap: object, watts: float | None) -> None:
    assert power_cap_watts(cap) == watts


def joules(counts: object, counter: EnergyCounter, resolution: float = 15.300000190734863) -> float | None:
    return counter.joules({"energy_accumulator": counts, "counter_resolution": resolution}, 500.0)


def test_energy_uses_the_exact_resolution_and_believes_others() -> None:
    assert joules(65_536, EnergyCounter()) == 1.0
    assert joules(65_536, EnergyCounter(), 15.2587890625) == 1.0
    assert joules(1_000_000, EnergyCounter(), 20.0) == pytest.approx(20.0)
    older = {"power": 131_072, "counter_resolution": 15.3, "timestamp": 1}
    assert EnergyCounter().joules(older, None) == 2.0


@pytest.mark.parametrize("counts", [0, "N/A", *ALL_ONES, None])
def test_energy_without_a_count_is_unknown(counts: object) -> None:
    assert joules(counts, EnergyCounter()) is None


def test_energy_holds_over_a_small_step_back_and_follows_a_restart() -> None:
    counter = EnergyCounter()
    steps = (4_750_896_266, 4_736_943_791, 4_750_000_000, 4_760_000_000)  # the first two as seen on MI300A: -213 J
    seen = [joules(counts, counter) for counts in steps]
    assert seen == [steps[0] / 65_536] * 3 + [steps[3] / 65_536]
    assert joules(65_536 * 50, counter) == 50.0  # the driver was loaded anew


def test_energy_that_stands_still_under_power_is_unknown() -> None:
    counter = EnergyCounter()
    assert joules(8_152_136, counter) is not None
    assert joules(8_152_136, counter) is None
    assert counter.joules({"energy_accumulator": 8_152_136, "counter_resolution": 15.3}, None) is not None
    assert joules(8_152_137, counter) == 8_152_137 / 65_536


RESIDENCIES = ("ppt", "socket_thm", "hbm_thm", "vr_thm", "prochot")


def table(cycles: object, *held: object) -> dict[str, object]:
    names = (f"{name}_residency_acc" for name in RESIDENCIES)
    return {"accumulation_counter": cycles, **dict(zip(names, held, strict=True))}


def test_throttle_seconds_are_shares_of_the_time_between_snapshots() -> None:
    counter = ThrottleCounter()
    first = counter.update(table(1000, 7, 7, 7, 7, 7), 50.0)
    assert (first.reasons, first.power_seconds, first.thermal_seconds, first.brake_seconds) == (None, 0.0, 0.0, 0.0)
    second = counter.update(table(11_000, 2_507, 1_007, 3_007, 7, 7), 60.0)
    assert second.reasons == Throttle.POWER_CAP | Throttle.SOFTWARE_THERMAL | Throttle.MEMORY_THERMAL
    assert (second.power_seconds, second.thermal_seconds, second.brake_seconds) == (2.5, 3.0, 0.0)
    third = counter.update(table(21_000, 2_507, 1_007, 3_007, 107, 99_999), 70.0)  # never more than the time there was
    assert third.reasons == Throttle.REGULATOR_THERMAL | Throttle.PROCHOT
    assert (third.power_seconds, third.brake_seconds) == (2.5, 10.0)
    assert third.thermal_seconds == pytest.approx(3.1)


def test_throttle_seconds_survive_a_repeated_snapshot_and_a_restart() -> None:
    counter = ThrottleCounter()
    counter.update(table(1000, 0, 0, 0, 0, 0), 0.0)
    same = counter.update(table(1000, 0, 0, 0, 0, 0), 10.0)
    assert (same.reasons, same.power_seconds) == (None, 0.0)
    assert counter.update(table(2000, 500, 0, 0, 0, 0), 20.0).power_seconds == 10.0
    restarted = counter.update(table(100, 50, 0, 0, 0, 0), 30.0)
    assert (restarted.reasons, restarted.power_seconds) == (None, 10.0)
    assert counter.update(table(200, 150, 0, 0, 0, 0), 31.0).power_seconds == 11.0


def test_throttle_seconds_of_missing_residencies_are_unknown() -> None:
    counter = ThrottleCounter()
    counter.update(table(1000, 0, "N/A", "N/A", "N/A", 2**64 - 1), 0.0)
    seen = counter.update(table(2000, 0, "N/A", "N/A", "N/A", 2**64 - 1), 10.0)
    assert (seen.reasons, seen.power_seconds, seen.thermal_seconds, seen.brake_seconds) == (0, 0.0, None, None)
    assert ThrottleCounter().update(table("N/A", 0, 0, 0, 0, 0), 0.0).power_seconds is None


def test_throttling_through_the_binding(begin: Open) -> None:
    bench = begin(mi300x_host(1))
    assert one(bench.collect()).throttle_reasons is None
    bench.host.turn_clock(1010.0)
    bench.host.change({"gpu.accumulation_counter": 10_010_000, "gpu.ppt_residency_acc": 52_500})
    sample = one(bench.collect())
    assert sample.throttle_reasons == Throttle.POWER_CAP
    assert (sample.throttle_power_seconds_total, sample.throttle_thermal_seconds_total) == (2.5, 0.0)


def test_two_dies_of_one_board(begin: Open) -> None:
    bench = begin(mi250x_host())
    readings = bench.collect()
    found, described = samples(readings), entities(readings)
    assert [described[uuid(die)].parent_key for die in range(4)] == [None, uuid(0), None, uuid(2)]
    own = {
        "utilization_ratio": 0.8,
        "memory_used_bytes": GIB,
        "memory_total_bytes": 65_520 * MIB,
        "temperature_celsius": 60.0,
        "memory_temperature_celsius": 58.0,  # the hottest of four stacks
        "core_clock_hertz": 1.7e9,
        "memory_clock_hertz": 1.6e9,
        "throttle_reasons": 0,
        "processes": 0,
    }
    both = {"power_watts": 420.0, "energy_joules_total": 1000.0, "power_limit_watts": 560.0}
    assert [measured(found[uuid(die)]) for die in range(4)] == [own | both, own, own | both, own]
    assert described[uuid(0)].labels["power_scope"] == "both dies"
    assert [described[uuid(die)].labels["die"] for die in (2, 3)] == ["1 of 2", "2 of 2"]
    assert described[uuid(0)].labels["driver"] == "in-tree, Linux 6.14.0-24-generic"


def test_dies_without_a_serial_are_paired_in_bus_order_and_either_may_report(begin: Open) -> None:
    lines = mi250x_host() | {f"gpu{die}.board_serial": None for die in range(4)}
    lines |= of(0, {"average_socket_power": 0}) | of(1, {"average_socket_power": 401})
    described = entities(begin(lines).collect())
    assert [described[uuid(die)].parent_key for die in range(4)] == [uuid(1), None, None, uuid(2)]


def test_throttler_bits_of_older_boards(begin: Open) -> None:
    bench = begin(mi250x_host() | {"gpu0.indep_throttle_status": 1 << 0 | 1 << 36 | 1 << 47})
    sample = samples(bench.collect())[uuid(0)]
    assert sample.throttle_reasons == Throttle.POWER_CAP | Throttle.SOFTWARE_THERMAL | Throttle.PROCHOT
    assert independent_reasons(1 << 34 | 1 << 38) == Throttle.MEMORY_THERMAL | Throttle.REGULATOR_THERMAL
    assert independent_reasons(0) == Throttle(0)


def test_partitions_have_memory_and_processes_only(begin: Open) -> None:
    bench = begin(cpx_host())
    readings = bench.collect()
    found, described = samples(readings), entities(readings)
    assert len(found) == 16
    assert list(found)[:3] == [uuid(0), f"{uuid(0)}/1", f"{uuid(0)}/2"]
    memory = {"memory_used_bytes": 20 * GIB, "memory_total_bytes": 24_574 * MIB, "processes": 1}
    for key, sample in found.items():
        board, _, partition = key.partition("/")
        assert described[key].parent_key == (board if partition else None)
        assert described[key].labels["partition"] == (partition or "0")
        assert measured(sample) == (memory if partition else FAST | SLOW | memory)  # zeros of partition 1 included
    assert described[f"{uuid(1)}/7"].labels["index"] == "1:7"
    assert described[uuid(1)].labels["compute_units"] == "38"


@pytest.mark.parametrize("nothing", ["00000000-0000-0000-0000-000000000000", None])
def test_guests_without_uuid_and_partition_number(begin: Open, nothing: object) -> None:
    lines = mi300x_host(2, partition_id=None)
    bench = begin(lines | {"gpu0.uuid": nothing, "gpu1.uuid": nothing, "gpu.partition_id": None})
    described = entities(bench.collect())
    assert [(key, entity.parent_key) for key, entity in described.items()] == [
        (f"node-1/{pci(0)}", None),
        (f"node-1/{pci(1)}", None),
    ]


def test_processes_that_are_known_to_be_wrong(begin: Open) -> None:
    bench = begin(mi300x_host(1, vram_used=1024, processes=f"1:0:gone,2:{2 * GIB}:elsewhere,3:{GIB}:here"))
    readings = bench.collect()
    assert [(p.pid, p.memory_used_bytes) for p in readings if isinstance(p, DeviceProcess)] == [(3, GIB)]
    assert one(readings).processes == 1


@pytest.mark.parametrize(
    ("listed", "count"),
    [("", 0), ("1:0:gone", None), (None, None), (f"{{own}}:{GIB}:collector", 0)],
    ids=["nobody", "only wrong ones", "not told", "only this one"],
)
def test_how_many_processes(begin: Open, bench: Bench, listed: str | None, count: int | None) -> None:
    text = listed and listed.format(own=bench.pid)
    assert one(begin(mi300x_host(1, processes=text)).collect()).processes == count


def test_retired_pages_leave_out_those_still_in_use() -> None:
    pages = [{"status": 0}, {"status": 1}, {"status": 0}, {"status": 2}]
    assert retired_pages(pages, 0) == 2
    assert retired_pages([], 0) == 0
    assert retired_pages("No bad pages found.", 0) is None
    assert retired_pages(pages, None) is None


def test_new_uncorrectable_errors_are_an_event(begin: Open) -> None:
    bench = begin(mi300x_host(2, ecc_uncorrected=4), slow_interval_seconds=10)
    assert events(bench.collect()) == []  # what was there before is no news
    bench.host.change({"gpu1.ecc_uncorrected": 6})
    bench.host.turn_clock(1005.0)
    assert events(bench.collect()) == []
    bench.host.turn_clock(1010.0)
    (event,) = events(bench.collect())
    assert (event.kind, event.severity, event.family, event.key) == (
        "ras", Severity.CRITICAL, "accelerator", uuid(1)
    )  # fmt: skip
    assert event.message == "2 new uncorrectable memory errors, 6 since the driver was loaded"
    bench.host.turn_clock(1020.0)
    assert events(bench.collect()) == []


def test_a_lost_board_costs_only_itself(begin: Open) -> None:
    bench = begin(mi300x_host(3))
    bench.collect()
    bench.host.lose(1)
    readings = bench.collect()
    assert list(samples(readings)) == [uuid(0), uuid(2)]
    (event,) = events(readings)
    assert (event.kind, event.severity, event.key) == ("device-lost", Severity.CRITICAL, uuid(1))
    assert event.message == "GPU 1 is lost: it no longer answers"
    assert events(bench.collect()) == []
    bench.host.turn_clock(1601.0)
    assert events(bench.collect()) == []  # looked for, and still lost
    bench.host.restore(1)
    bench.host.turn_clock(2202.0)
    readings = bench.collect()
    assert list(samples(readings)) == [uuid(0), uuid(1), uuid(2)]
    assert [(event.kind, event.key) for event in events(readings)] == [("device-back", uuid(1))]


def test_a_reloaded_driver_is_discovered_again(begin: Open) -> None:
    bench = begin(mi300x_host(2))
    bench.collect()
    bench.host.reload_driver()
    with pytest.raises(SourceUnavailable, match="reloaded"):
        bench.collect()
    bench.host.change({"gpu.energy": 65_536})
    assert bench.discover().ok
    readings = bench.collect()
    assert list(entities(readings)) == [uuid(0), uuid(1)]
    assert {s.energy_joules_total for s in samples(readings).values()} == {1.0}
    assert events(readings) == []


def test_a_board_that_does_not_survive_a_reload_is_lost(begin: Open) -> None:
    bench = begin(mi300x_host(2))
    bench.collect()
    bench.host.show(mi300x_host(1) | {"generation": 1})
    with pytest.raises(SourceUnavailable):
        bench.collect()
    assert bench.discover().entities == (uuid(0),)
    assert [(event.kind, event.key) for event in events(bench.collect())] == [("device-lost", uuid(1))]


def test_a_changed_partition_mode_is_discovered_again(begin: Open) -> None:
    bench = begin(mi300x_host(2))
    bench.collect()
    bench.host.show(cpx_host())
    bench.collect()
    bench.host.turn_clock(1060.0)
    with pytest.raises(SourceUnavailable, match="GPU 0 changed to partition mode CPX NPS4"):
        bench.collect()
    assert bench.discover().ok
    assert len(samples(bench.collect())) == 16


def test_collect_before_discover(bench: Bench) -> None:
    bench.build("amd", host="node-1")
    with pytest.raises(SourceUnavailable):
        bench.collect()
    bench.close()
    bench.close()


@pytest.mark.parametrize(
    ("scenario", "reason", "remedy"),
    [
        ({"gpus": 0}, "shows no GPU", "groups video and render"),
        ({"fail.amdsmi_init": NO_PERMISSION}, "refuses this user", "groups video and render"),
        ({"fail.amdsmi_init": DRIVER_NOT_LOADED}, "amdgpu driver is not loaded", "modprobe amdgpu"),
        ({"fail.amdsmi_init": 18}, "status 18", "amd-smi"),
        (mi300x_host(1) | {"library.major": 25}, "fits libamd_smi.so 26.0, but this one is 25.0.2", "pip install"),
        (mi300x_host(1) | {"library.minor": 1}, "26.1.2", "pip install"),
        (mi300x_host(1) | {"fail.amdsmi_get_lib_version": NOT_SUPPORTED}, "does not tell its release", "pip install"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_said_with_its_remedy(
    bench: Bench, scenario: Scenario, reason: str, remedy: str
) -> None:
    bench.host.show(scenario)
    bench.build("amd", host="node-1", device_file=Path("/"))
    found = bench.discover()
    assert not found.ok
    assert reason in found.reason
    assert remedy in found.remedy
    assert not found.absent
    with pytest.raises(SourceUnavailable):
        bench.collect()
    bench.close()


def test_without_a_driver_no_gpu_is_no_fault(bench: Bench) -> None:
    bench.host.show({"gpus": 0})
    bench.build("amd", host="node-1", device_file=ABSENT)
    assert bench.discover().absent


def test_values_keep_the_promises_of_the_catalogue(begin: Open) -> None:
    declared = {metric.name: metric for metric in FAMILIES["accelerator"].metrics}
    bench = begin(mi300x_host(2, live=1), slow_interval_seconds=5)
    before: dict[tuple[str, str], float] = {}
    for tick in range(4):
        bench.host.turn_clock(1000.0 + 5 * tick)
        bench.host.change({"gpu.accumulation_counter": 10_000_000 + 5000 * tick})
        for sample in samples(bench.collect()).values():
            assert sample.observed_at_ms > 1_600_000_000_000
            for name, value in measured(sample).items():
                assert "amd" in declared[name].sources
                assert isinstance(value, int if declared[name].integer else float), name
                if name.endswith("_ratio"):
                    assert 0 <= value <= 1
                if declared[name].kind is Kind.COUNTER:
                    assert value >= before.get((sample.key, name), 0)
                    before[sample.key, name] = value
    assert (uuid(1), "energy_joules_total") in before
    bench.close()
    bench.close()


# ---- the binding: where it is taken from, how it fails ----


@pytest.fixture
def own_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[ChildSource, AmdsmiHost]]]:
    """A source in a child as the daemon runs it."""
    started = []

    def start(deadline_seconds: float = 5) -> tuple[ChildSource, AmdsmiHost]:
        host = AmdsmiHost(tmp_path, mi300x_host(1))
        host.install(monkeypatch)
        source = ChildSource("amd", partial(AmdSource, "node-1"), deadline_seconds=deadline_seconds)
        started.append(source)
        return source, host

    yield start
    for source in started:
        source.close()


def test_a_crash_and_a_hang_end_in_the_child(own_child: Callable[..., tuple[ChildSource, AmdsmiHost]]) -> None:
    source, host = own_child(deadline_seconds=0.5)
    assert source.discover().ok
    assert measured(one(list(source.collect()))) == FAST | SLOW
    host.crash()
    with pytest.raises(SourceUnavailable, match="SIGSEGV"):
        source.collect()
    host.show(mi300x_host(1))
    assert source.discover().ok
    host.hang()
    with pytest.raises(DeadlineExceeded):
        source.collect()


def test_the_binding_of_the_installed_rocm_comes_first(
    own_child: Callable[..., tuple[ChildSource, AmdsmiHost]],
) -> None:
    source, host = own_child()
    package = host.bundle("25.3.0+ede62f2")
    found = source.discover()
    assert found.reason == "amdsmi 25.3.0+ede62f2 fits libamd_smi.so 25.3, but this one is 26.0.2"
    assert found.remedy.endswith(f"pip install {package.parent}")
    (package / "_version.py").write_text('__version__ = "26.0.2+39589fda"\n')
    assert source.discover().ok
    assert len(samples(list(source.collect()))) == 1


FAKE = """
print("Unable to find libamd_smi.so library")
{body}
"""


@pytest.fixture
def fake_rocm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A ROCm whose binding is a few lines of Python."""

    def write(body: str) -> Path:
        package = tmp_path / "share" / "amd_smi" / "amdsmi"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(FAKE.format(body=body))
        monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
        monkeypatch.setenv("ROCM_PATH", "/somewhere/else")
        monkeypatch.delenv("ROCM_HOME", raising=False)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('ROCM_PATH')", "libamd_smi.so was not found"),
        ("raise KeyError('libamd_smi.so')", "libamd_smi.so was not found"),
        ("raise OSError('cannot open shared object file')", "libamd_smi.so was not found"),
        ("raise AttributeError('undefined symbol: amdsmi_x')", "different releases (undefined symbol: amdsmi_x)"),
        ("raise ImportError('no _ctypes')", "cannot be imported (ImportError: no _ctypes)"),
        ("raise ModuleNotFoundError('x', name='amdsmi')", "amdsmi is not installed"),
        ("1 / 0", "cannot be imported (ZeroDivisionError"),
    ],
)
def test_import_failures_are_told_and_print_nothing(
    fake_rocm: Callable[[str], Path], capfd: pytest.CaptureFixture[str], body: str, reason: str
) -> None:
    path, environment = list(sys.path), dict(os.environ) | {"ROCM_PATH": "/somewhere/else"}
    source = AmdSource("node-1", rocm_roots=[ABSENT, fake_rocm(body)])
    found = source.discover()
    assert not found.ok
    assert reason in found.reason
    assert found.remedy
    assert not found.absent  # a ROCm is there
    assert tuple(capfd.readouterr()) == ("", "")
    assert sys.path == path
    environment.pop("ROCM_HOME", None)
    assert dict(os.environ) == environment


@pytest.mark.parametrize(
    ("version", "library", "fits"),
    [
        ("7.0.2", {"major": 26, "minor": 0, "release": 2, "build": ""}, True),
        ("26.0.2+39589fda", {"major": 26, "minor": 0, "release": 0, "build": ""}, True),
        ("6.4.3", {"major": 25, "minor": 5, "release": 1, "build": ""}, True),
        ("24.6.3+2cfe6ad", {"year": 24, "major": 6, "minor": 3, "release": 0, "build": ""}, True),
        ("6.2.4", {"year": 24, "major": 6, "minor": 3, "release": 0, "build": ""}, True),
        ("7.0.2", {"major": 26, "minor": 1, "release": 0, "build": ""}, False),
        ("7.0.2", {"year": 24, "major": 7, "minor": 1, "release": 0, "build": ""}, False),
        ("26.5.0", {"major": 27, "minor": 0, "release": 0, "build": ""}, False),
        ("9.9.9", {"major": 26, "minor": 0, "release": 0, "build": ""}, False),
        ("unknown", {"major": 26, "minor": 0, "release": 0, "build": ""}, False),
    ],
)
def test_binding_and_library_must_be_of_one_release(
    fake_rocm: Callable[[str], Path], version: str, library: dict[str, object], fits: bool
) -> None:
    root = fake_rocm(f"__version__ = {version!r}\ndef amdsmi_get_lib_version(): return {library!r}")
    try:
        if fits:
            assert rocm.load([root], ABSENT).library.startswith(str(library.get("year", library["major"])))
        else:
            with pytest.raises(rocm.Unusable) as refused:
                rocm.load([root], ABSENT)
            assert version in str(refused.value)
    finally:
        del sys.modules["amdsmi"]


def test_where_a_rocm_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "_rocm_sdk_core"
    wheel.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    named = {"ROCM_PATH": "/b", "ROCM_HOME": "/a"}
    assert rocm.installed_roots(named) == (Path("/a"), Path("/b"), wheel, Path("/opt/rocm"))
    assert rocm.installed_roots({})[-1] == Path("/opt/rocm")


@pytest.mark.skipif(rocm_is_here(), reason="this machine has a ROCm")
def test_here_without_rocm(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process: without a ROCm nothing is loaded."""
    for name in ("ROCM_HOME", "ROCM_PATH"):
        monkeypatch.delenv(name, raising=False)
    source = AmdSource("node-1", device_file=ABSENT)
    found = source.discover()
    assert (found.ok, found.absent) == (False, True)
    assert found.reason
    assert found.remedy
    assert AmdSource("node-1", device_file=Path("/")).discover().absent is False  # a driver without its ROCm
    source.close()
    source.close()
    assert tuple(capfd.readouterr()) == ("", "")
