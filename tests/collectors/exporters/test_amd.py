"""AMD's device-metrics-exporter: figures read off the pages by a person, and every trap of them."""

from __future__ import annotations

import re

import pytest

from collectors.sources.exporters.amd import AMD
from core.readings import AcceleratorSample, DeviceProcess, DeviceUser, Throttle
from tests.collectors.exporters.pages import Watched, dialect_of, entities, looked, of, values, written

MIB = 1 << 20
KIB = 1 << 10
BUSY, IDLE = "mi-01/692251000301", "mi-01/692251000417"
BOARD = "mi-02/692251000988"


def without(text: str, *names: str) -> str:
    """A page without some of its series."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(tuple(f"{n}{{" for n in names))) + "\n"


def test_every_figure_of_a_busy_mi300x():
    assert dialect_of(written("amd-mi300x-spx")) is AMD
    assert values(looked(written("amd-mi300x-spx")), BUSY) == {
        "utilization_ratio": 0.96,
        "memory_activity_ratio": 0.41,
        "memory_used_bytes": 180_224 * MIB,
        "memory_total_bytes": 196_592 * MIB,
        "power_watts": 688.0,
        "energy_joules_total": 4_213_372.036,  # exported in microjoules
        "temperature_celsius": 74.0,
        "memory_temperature_celsius": 66.0,
        "core_clock_hertz": 2_095e6,  # the mean of eight dies
        "memory_clock_hertz": 1_300e6,
        "ecc_corrected_errors_total": 4,
        "ecc_uncorrected_errors_total": 0,
        "pcie_generation": 5,  # 32 GT/s
        "pcie_replays_total": 1,
        "throttle_power_seconds_total": 0.0,
        "throttle_thermal_seconds_total": 0.0,
        "throttle_brake_seconds_total": 0.0,
        "xgmi_rx_bytes_total": 28e6 * KIB,
        "xgmi_tx_bytes_total": 56e6 * KIB,
        "processes": 1,
    }


def test_who_a_board_is_and_what_runs_on_it():
    readings = looked(written("amd-mi300x-spx"))
    entity = entities(readings)[BUSY]
    assert (entity.host, entity.parent_key) == ("mi-01", None)
    assert entity.labels == {
        "vendor": "AMD",
        "model": "AMD_Instinct_MI300X_OAM",
        "index": "0",
        "serial": "692251000301",
        "compute_partition": "SPX",
        "memory_partition": "NPS1",
    }
    (process,) = of(DeviceProcess, readings)
    assert (process.key, process.pid, process.host) == (BUSY, 40311, "mi-01")
    users = {user.key: dict(user.labels) for user in of(DeviceUser, readings)}
    assert users == {BUSY: {"namespace": "llm", "pod": "llama-0", "container": "vllm"}, IDLE: {}}


def test_with_a_uuid_the_key_is_that_of_the_amd_source():
    uuid = "e7ff74a1-0000-1000-80b9-6a1f0c3de522"
    text = re.sub(r"(serial_number=\"692251000301\")", rf'\1,gpu_uuid="{uuid}"', written("amd-mi300x-spx"))
    assert set(entities(looked(text))) == {uuid, IDLE}


def test_partitions_have_memory_and_the_board_has_the_rest():
    readings = looked(written("amd-mi300x-cpx"))
    assert set(entities(readings)) == {BOARD, *(f"{BOARD}/{number}" for number in range(1, 8))}
    board = values(readings, BOARD)
    assert board["power_watts"] == 412.0
    assert board["energy_joules_total"] == 2_500_000.0
    assert board["utilization_ratio"] == pytest.approx(0.35)  # the mean over all dies: 0, 10, ... 70 %
    assert board["memory_used_bytes"] == 20_480 * MIB
    for number in range(1, 8):
        assert values(readings, f"{BOARD}/{number}") == {
            "memory_used_bytes": 100 * number * MIB,
            "memory_total_bytes": 49_148 * MIB,
        }
    assert sum(sample.power_watts or 0.0 for sample in of(AcceleratorSample, readings)) == 412.0
    partition = entities(readings)[f"{BOARD}/3"]
    assert (partition.parent_key, partition.labels["index"], partition.labels["partition"]) == (BOARD, "0:3", "3")
    assert entities(readings)[BOARD].labels["partition"] == "0"


def test_the_prefix_is_anybodys_choice():
    text = written("amd-mi300x-spx")
    prefixed = re.sub(r"^(# \w+ )?(gpu_|pcie_)", r"\1amd_\2", text, flags=re.MULTILINE)
    assert dialect_of(prefixed) is AMD
    assert looked(prefixed) == looked(text)


def test_boards_with_one_serial_number_are_not_lost():
    text = written("amd-mi300x-spx").replace("692251000417", "692251000301")
    assert set(entities(looked(text))) == {"mi-01/gpu 0", "mi-01/gpu 1"}
    for none in ("", "0", "N/A"):
        text = written("amd-mi300x-spx").replace("692251000417", none)
        assert set(entities(looked(text))) == {BUSY, "mi-01/gpu 1"}
        assert "serial" not in entities(looked(text))["mi-01/gpu 1"].labels


def test_zero_watts_and_zero_degrees_are_no_measurement():
    text = re.sub(
        r"^(gpu_(?:package_power|power_usage|junction_temperature|memory_temperature|energy_consumed)\{.*\}) .*$",
        r"\1 0",
        written("amd-mi300x-spx"),
        flags=re.MULTILINE,
    )
    busy = values(looked(text), BUSY)
    assert {"power_watts", "temperature_celsius", "memory_temperature_celsius", "energy_joules_total"}.isdisjoint(busy)
    assert busy["utilization_ratio"] == 0.96


def test_mi200_has_its_own_names():
    text = without(
        written("amd-mi300x-spx"),
        "gpu_package_power",
        "gpu_junction_temperature",
        "gpu_memory_temperature",
        "gpu_power_usage",
    )
    labels = 'card_model="m",gpu_id="0",gpu_partition_id="0",hostname="mi-01",serial_number="692251000301"'
    text += f"gpu_average_package_power{{{labels}}} 301\n"
    text = text.replace("# HELP gpu_package_power", "# HELP other")
    text = re.sub(r"^(gpu_edge_temperature\{.*\}) 0$", r"\1 52", text, flags=re.MULTILINE)
    text += "".join(f'gpu_hbm_temperature{{{labels},hbm_index="{n}"}} {50 + n}\n' for n in range(4))
    busy = values(looked(text), BUSY)
    assert (busy["power_watts"], busy["temperature_celsius"], busy["memory_temperature_celsius"]) == (301, 52, 53)


def test_residencies_become_time_and_reasons():
    text = written("amd-mi300x-spx")
    watched = Watched(AMD)
    watched.look(text, 1_000_000)
    later = re.sub(
        r"^(gpu_violation_current_accumulated_counter\{.*\}) 100000$", r"\1 101000", text, flags=re.MULTILINE
    )
    later = later.replace("} 2500\n", "} 2750\n")
    busy = values(watched.look(later, 1_010_000), BUSY)
    assert busy["throttle_power_seconds_total"] == pytest.approx(2.5)  # a quarter of the cycles of 10 s
    assert busy["throttle_reasons"] == int(Throttle.POWER_CAP)
    assert busy["throttle_thermal_seconds_total"] == 0.0


def test_a_page_that_repeats_itself_does_not_say_that_no_energy_was_used():
    text = written("amd-mi300x-spx")
    watched = Watched(AMD)
    watched.look(text)
    assert "energy_joules_total" not in values(watched.look(text), BUSY)
    back = values(watched.look(text.replace("4.213372036e+12", "4.213172036e+12")), BUSY)
    assert back["energy_joules_total"] == 4_213_372.036  # 200 J back is jitter


def test_blanks_are_unknown():
    text = re.sub(
        r"^(gpu_(?:used_vram|gfx_activity|umc_activity)\{.*\}) .*$",
        r"\1 65535",
        written("amd-mi300x-spx"),
        flags=re.MULTILINE,
    )
    assert {"memory_used_bytes", "utilization_ratio", "memory_activity_ratio"}.isdisjoint(values(looked(text), BUSY))
