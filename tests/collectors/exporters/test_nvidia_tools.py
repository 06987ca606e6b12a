"""nvidia_gpu_exporter and nvitop-exporter: figures read off the pages by a person, and every trap of them."""

from __future__ import annotations

import pytest

from collectors.sources.exporters.nvidia_smi import NVIDIA_SMI
from collectors.sources.exporters.nvitop import NVITOP
from core.readings import AcceleratorSample, DeviceProcess, Throttle
from tests.collectors.exporters.pages import HOST, dialect_of, entities, looked, of, values, written

MIB = 1 << 20
L40S = "GPU-5e2b90c4-13d7-4a8e-b6f0-92c4d1e7a806"
A100, SLICE = "GPU-c4e90b1d-68a2-47f3-95dd-0b7a2e8f1c07", "MIG-1a9d7c30-4b5e-5f86-b2c1-d0e3f4a59608"


def test_every_figure_of_nvidia_smi():
    assert dialect_of(written("nvidia-smi-l40s")) is NVIDIA_SMI
    assert values(looked(written("nvidia-smi-l40s")), L40S) == {
        "utilization_ratio": 0.87,
        "memory_activity_ratio": 0.55,
        "encoder_ratio": 0.0,
        "decoder_ratio": 0.04,
        "memory_used_bytes": 28 * 1024 * MIB,
        "memory_total_bytes": 46_068 * MIB,
        "power_watts": 291.44,
        "power_limit_watts": 300.0,  # the one in force
        "temperature_celsius": 83.0,
        "temperature_margin_celsius": -2.0,
        "core_clock_hertz": 2.52e9,
        "memory_clock_hertz": 9.001e9,
        "performance_state": 2,
        "throttle_reasons": int(Throttle.SOFTWARE_THERMAL),
        "throttle_power_seconds_total": 1.5,
        "throttle_thermal_seconds_total": 21.0,
        "throttle_brake_seconds_total": 0.0,
        "ecc_corrected_errors_total": 7,
        "ecc_uncorrected_errors_total": 0,
        "remapped_rows_total": 1,
        "row_remap_state": 2,  # a remapping failed
        "recovery_action": 0,
        "pcie_generation": 4,
        "pcie_lanes": 16,
        "processes": 2,
    }


def test_names_stand_in_a_series_of_their_own():
    readings = looked(written("nvidia-smi-l40s"))
    entity = entities(readings)[L40S]
    assert entity.host == HOST
    assert entity.labels == {
        "vendor": "NVIDIA",
        "model": "NVIDIA L40S",
        "index": "0",
        "pci": "0000:3d:00.0",
        "serial": "1324522000117",
        "vbios": "95.02.66.00.02",
        "driver": "550.54.15",
        "cuda": "12.4",
    }
    processes = {process.pid: process for process in of(DeviceProcess, readings)}
    assert processes[2201].memory_used_bytes == 28_000_000_000
    assert (processes[2310].name, processes[2310].host, processes[2310].key) == ("ffmpeg", HOST, L40S)


def test_masked_numbers_are_nobodys():
    masked = written("nvidia-smi-l40s").replace(L40S.removeprefix("GPU-"), "00000000-0000-0000-0000-000000000000")
    masked = masked.replace("1324522000117", "0000000000000").replace('"12.4"', '"[N/A]"')
    (entity,) = entities(looked(masked)).values()
    assert entity.key == f"{HOST}/0000:3d:00.0"
    assert {"serial", "cuda"}.isdisjoint(entity.labels)


def test_mig_is_said():
    text = written("nvidia-smi-l40s")
    line = next(line for line in text.splitlines() if "mig_mode_current" in line)
    assert entities(looked(text.replace(line, f"{line[:-1]}1")))[L40S].labels["mig"] == "on"


def test_every_figure_of_nvitop():
    assert dialect_of(written("nvitop-a100-mig")) is NVITOP
    readings = looked(written("nvitop-a100-mig"))
    assert values(readings, A100) == {
        "memory_activity_ratio": 0.12,
        "encoder_ratio": 0.0,
        "decoder_ratio": 0.0,
        "memory_used_bytes": 21_500 * MIB + MIB // 2,
        "memory_total_bytes": 81_920 * MIB,
        "power_watts": 166.125,
        "power_limit_watts": 300.0,
        "temperature_celsius": 49.0,
        "core_clock_hertz": 1_410e6,
        "memory_clock_hertz": 1_512e6,
        "pcie_rx_bytes_per_second": 0.25 * MIB,
        "pcie_tx_bytes_per_second": 2.5 * MIB,
    }
    assert values(readings, SLICE) == {
        "memory_used_bytes": 7_000 * MIB + MIB // 4,
        "memory_total_bytes": 19_968 * MIB,
        "processes": 1,
    }
    assert sum(sample.power_watts or 0.0 for sample in of(AcceleratorSample, readings)) == 166.125


def test_who_nvitop_sees():
    readings = looked(written("nvitop-a100-mig"))
    assert entities(readings)[SLICE].parent_key == A100
    assert entities(readings)[SLICE].labels == {
        "vendor": "NVIDIA",
        "model": "NVIDIA A100 80GB PCIe",
        "index": "0:1",
        "profile": "2g.20gb",
        "driver": "550.90.07",
        "cuda": "12.4",
    }
    (process,) = of(DeviceProcess, readings)
    assert (process.key, process.pid, process.name, process.host) == (SLICE, 991, "python -m serve", "lab-ws")
    assert process.memory_used_bytes == 6_900 * MIB + MIB // 2


def test_nvitop_may_call_itself_by_an_address():
    text = written("nvitop-a100-mig").replace("lab-ws", "192.168.7.20")
    assert {entity.host for entity in entities(looked(text)).values()} == {HOST}


@pytest.mark.parametrize("pid", ["-1", "abc", "99999999999999999999", "", "4194305", "1.5"])
def test_impossible_process_numbers_are_left_out(pid: str):
    text = written("nvidia-smi-l40s").replace('pid="2310"', f'pid="{pid}"')
    assert [process.pid for process in of(DeviceProcess, looked(text))] == [2201]
