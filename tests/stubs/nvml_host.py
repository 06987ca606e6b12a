"""Machines with NVIDIA GPUs, played by the stub library ``nvml.c``.

A scenario is a dictionary of the stub's lines (see the head of ``nvml.c``); figures are of the
order that real cards report. ``NvmlHost`` writes it where the stub looks, gives the environment in
which a new process finds the stub as its driver, and changes the world while that process runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from collectors.base import Availability
from collectors.sources.nvidia.source import NvidiaSource
from core.readings import Reading
from tests.stubs.build import shared_library

MIB = 1 << 20
ALL_LINKS = 0xFFFF_FFFF
GPU_IS_LOST = 15

Scenario = dict[str, object]

_DRIVER: Scenario = {
    "nvmlInitWithFlags": "ok",
    "nvmlSystemGetDriverVersion": "590.48.01",
    "nvmlSystemGetCudaDriverVersion_v2": 13010,
    "nvmlEventSetCreate": "ok",
    "nvmlDeviceGetHandleByIndex_v2": "ok",
    "nvmlDeviceGetFieldValues": "ok",
}

_H100: Scenario = {
    "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetArchitecture": 9,
    "nvmlDeviceGetBoardPartNumber": "692-2G520-0200-000",
    "nvmlDeviceGetVbiosVersion": "96.00.A5.00.01",
    "nvmlDeviceGetMigMode": "0 0",
    "nvmlDeviceGetMaxMigDeviceCount": 0,
    "nvmlDeviceGetEncoderUtilization": "0 167000",
    "nvmlDeviceGetDecoderUtilization": "0 167000",
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetPowerManagementLimitConstraints": "200000 700000",
    "nvmlDeviceGetTotalEnergyConsumption": 123_456_789_000,
    "nvmlDeviceGetTotalEccErrors.0.0": 3,
    "nvmlDeviceGetTotalEccErrors.1.0": 0,
    "nvmlDeviceGetRemappedRows": "2 1 0 0",
    "nvmlDeviceGetCurrPcieLinkGeneration": 5,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetPcieReplayCounter": 9,
    "nvmlDeviceGetSupportedEventTypes": 0x8,
    "nvmlDeviceRegisterEvents": "ok",
    "nvmlGpmQueryDeviceSupport": 1,
    "nvmlGpmSampleGet": "ok",
    "field.74.0": "3 2000000000",
    "field.75.0": "3 500000000",
    "field.271.0": "3 0",
    f"field.138.{ALL_LINKS}": "3 1048576",
    f"field.139.{ALL_LINKS}": "3 2097152",
    "field.197.0": "3 4217000000",
    "field.198.0": "3 8691000000",
    "field.230.0": "1 0",
}

IDLE: Scenario = {
    "nvmlDeviceGetUtilizationRates": "0 0",
    "nvmlDeviceGetPowerUsage": 69_900,
    "nvmlDeviceGetMemoryInfo_v2": f"{81559 * MIB} {479 * MIB} {81080 * MIB} 0",
    "nvmlDeviceGetTemperatureV": 28,
    "nvmlDeviceGetMarginTemperature": 59,
    "nvmlDeviceGetClockInfo.1": 345,
    "nvmlDeviceGetClockInfo.2": 2619,
    "nvmlDeviceGetPerformanceState": 0,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
    "nvmlDeviceGetComputeRunningProcesses_v3": "",
    "nvmlDeviceGetGraphicsRunningProcesses_v3": "",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": "",
    "field.82.0": "1 32",
    "field.185.2": "1 46560",
    "gpm.2": 0.0,
    "gpm.3": 0.0,
    "gpm.5": 0.0,
    "gpm.10": 0.0,
}

LOADED: Scenario = {
    "nvmlDeviceGetUtilizationRates": "100 7",
    "nvmlDeviceGetPowerUsage": 627_320,
    "nvmlDeviceGetMemoryInfo_v2": f"{81559 * MIB} {479 * MIB} {49308 * MIB} {31772 * MIB}",
    "nvmlDeviceGetTemperatureV": 52,
    "nvmlDeviceGetMarginTemperature": 35,
    "nvmlDeviceGetClockInfo.1": 1980,
    "nvmlDeviceGetClockInfo.2": 2619,
    "nvmlDeviceGetPerformanceState": 0,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
    "nvmlDeviceGetComputeRunningProcesses_v3": f"10291:{2566 * MIB} 10309:{28234 * MIB}",
    "nvmlDeviceGetGraphicsRunningProcesses_v3": "",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": "",
    "nvmlSystemGetProcessName.10291": "/usr/bin/python3",
    "nvmlSystemGetProcessName.10309": "VLLM::EngineCore",
    "field.82.0": "1 41",
    "field.185.2": "1 97690",
    "gpm.2": 87.5,
    "gpm.3": 25.0,
    "gpm.5": 62.5,
    "gpm.10": 50.0,
}


def uuid(gpu: int) -> str:
    """The UUID of a GPU of every scenario."""
    return f"GPU-00000000-0000-0000-0000-{gpu:012d}"


def mig_uuid(slot: int) -> str:
    """The UUID of a MIG instance of ``mig_host``."""
    return f"MIG-00000000-0000-0000-0000-{slot:012d}"


def h100_host(gpus: int = 8, load: Scenario = LOADED) -> Scenario:
    """A server of eight H100 SXM, all loaded alike."""
    return {"nvmlDeviceGetCount_v2": gpus, **_each(gpus), **_DRIVER, **_H100, **load}


def mig_host() -> Scenario:
    """One H100 in MIG mode: 3g.40gb (GPU instance 2), nothing in slot 1, two 1g.10gb (9 and 10)."""
    gpu = {**IDLE, "nvmlDeviceGetMigMode": "1 1", "nvmlDeviceGetMaxMigDeviceCount": 7}
    parent: Scenario = {
        "gpu0.nvmlDeviceGetUtilizationRates": "error 3",
        "gpu0.nvmlDeviceGetRemappedRows": "error 3",
        "gpu0.nvmlDeviceGetPowerUsage": 98_000,
        "gpu0.nvmlGpmMigSampleGet": "ok",
    }
    slices: Scenario = {}
    sizes = ((0, 2, "3g.40gb", 40448, 26, 60.0), (2, 9, "1g.10gb", 9984, 9, 16.0), (3, 10, "1g.10gb", 9984, 9, 0.0))
    for slot, instance, profile, total, used, busy in sizes:
        slices |= {
            f"gpu0.nvmlDeviceGetMigDeviceHandleByIndex.{slot}": "ok",
            f"gpu0.mig{slot}.nvmlDeviceGetUUID": mig_uuid(slot),
            f"gpu0.mig{slot}.nvmlDeviceGetName": f"NVIDIA H100 80GB HBM3 MIG {profile}",
            f"gpu0.mig{slot}.nvmlDeviceGetGpuInstanceId": instance,
            f"gpu0.mig{slot}.nvmlDeviceGetComputeInstanceId": 0,
            f"gpu0.mig{slot}.nvmlDeviceGetMemoryInfo_v2": f"{total * MIB} 0 {(total - used) * MIB} {used * MIB}",
            f"gpu0.mig{slot}.nvmlDeviceGetComputeRunningProcesses_v3": f"{500 + slot}:{used * MIB}",
            f"gpu0.gi{instance}.gpm.2": busy,
        }
    return {"nvmlDeviceGetCount_v2": 1, **_each(1), **_DRIVER, **_H100, **gpu, **parent, **slices}


def modest_host() -> Scenario:
    """One card of the kind that answers "not supported" to about half of the questions."""
    refused = (
        "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetTotalEccErrors.0.0", "nvmlDeviceGetTotalEccErrors.1.0",
        "nvmlDeviceGetRemappedRows", "nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetMigMode", "nvmlDeviceGetSupportedEventTypes", "nvmlGpmQueryDeviceSupport",
        "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimitConstraints",
        "field.185.2", "field.74.0", "field.75.0", "field.271.0", f"field.138.{ALL_LINKS}", f"field.139.{ALL_LINKS}",
        "field.197.0", "field.198.0", "field.230.0",
    )  # fmt: skip
    card: Scenario = {
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetArchitecture": 8,
        "nvmlDeviceGetPcieThroughput.0": 4217,
        "nvmlDeviceGetPcieThroughput.1": 8691,
        "field.82.0": "1 0",  # a board without the sensor
    }
    lines = h100_host(1) | card
    return {key: answer for key, answer in lines.items() if key not in refused and not key.endswith("GetSerial")}


def old_host() -> Scenario:
    """One A100 with a driver that lacks the newer functions; goes with ``old_driver=True``."""
    card: Scenario = {
        "nvmlDeviceGetName": "NVIDIA A100-SXM4-80GB",
        "nvmlDeviceGetArchitecture": 7,
        "gpu0.nvmlDeviceGetPciInfo_v3": f"0 7 0 {0x20B2_10DE}",
        "nvmlDeviceGetMemoryInfo": f"{81920 * MIB} 500 {70000 * MIB} 1000",
        "nvmlDeviceGetTemperature.0": 44,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x20,
        "nvmlDeviceGetComputeRunningProcesses_v2": "77:1048576",
        "nvmlDeviceGetPcieThroughput.0": 4217,
        "nvmlDeviceGetPcieThroughput.1": 8691,
    }
    lines = h100_host(1) | card
    return {key: answer for key, answer in lines.items() if key not in ("field.197.0", "field.198.0")}


def driver_that_does_not_start(code: int) -> Scenario:
    """A library whose initialisation fails: 9 module not loaded, 18 kernel/user mismatch, 4 no permission."""
    return {"nvmlInitWithFlags": f"error {code}"}


def _each(gpus: int) -> Scenario:
    lines: Scenario = {}
    for gpu in range(gpus):
        lines |= {
            f"gpu{gpu}.nvmlDeviceGetUUID": uuid(gpu),
            f"gpu{gpu}.nvmlDeviceGetSerial": f"16500000000{gpu:02d}",
            f"gpu{gpu}.nvmlDeviceGetPciInfo_v3": f"0 {0x0F + gpu} 0 {0x2330_10DE}",
        }
    return lines


class NvmlHost:
    """A world that the stub sees, and that a test may change at any time.

    Args:
        folder: where the world's file is written, usually ``tmp_path``.
        scenario: lines of the stub; ``h100_host()`` and its neighbours.
        old_driver: leave out the symbols that an old driver lacks.
    """

    def __init__(self, folder: Path, scenario: Scenario, *, old_driver: bool = False) -> None:
        source = Path(__file__).with_name("nvml.c")
        library = shared_library(source, "libnvidia-ml.so.1", *(["-DOLD_DRIVER"] if old_driver else []))
        self._file = folder / "nvml-world"
        self._lines = {"boot": time.monotonic_ns()} | scenario
        self._xids = 0
        self.env = {"LD_LIBRARY_PATH": str(library.parent), "NVML_STUB": str(self._file)}
        self.change({})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let processes that are started from now on find the stub as their driver."""
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)

    def change(self, lines: Mapping[str, object]) -> None:
        """Set lines; ``None`` takes one out, which means "not supported"."""
        self._lines |= lines
        content = "".join(f"{key}={answer}\n" for key, answer in self._lines.items() if answer is not None)
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(content, "utf-8")
        unfinished.replace(self._file)

    def xid(self, gpu: int, code: int) -> None:
        """Let the driver report an XID."""
        self._xids += 1
        self.change({f"xid.{self._xids}": f"{gpu} {code}"})

    def lose(self, gpu: int) -> None:
        """A GPU falls off the bus: XID 79, and every call about it fails from now on."""
        self.change({f"gpu{gpu}": f"error {GPU_IS_LOST}"})
        self.xid(gpu, 79)

    def restore(self, gpu: int) -> None:
        """A lost GPU answers again."""
        self.change({f"gpu{gpu}": None})

    def hang(self, function: str = "nvmlDeviceGetPowerUsage") -> None:
        """A call never returns."""
        self.change({function: "hang"})

    def crash(self, function: str = "nvmlDeviceGetPowerUsage") -> None:
        """A call takes the process down."""
        self.change({function: "crash"})


class FreshNvidia:
    """A source for one long-lived child process, in which every test gets an ``NvidiaSource`` of its own.

    Args:
        order: file with the arguments, as JSON; when it changed, discovery builds a new source.
    """

    name = "nvidia"

    def __init__(self, order: Path) -> None:
        self._order = order
        self._built = ""
        self._source = NvidiaSource("nobody")

    def discover(self) -> Availability:
        """Of a new source after a new order, else once more of the same."""
        order = self._order.read_text("utf-8")
        if order != self._built:
            self._source.close()
            self._source = NvidiaSource(**json.loads(order)["arguments"])
            self._built = order
        return self._source.discover()

    def collect(self) -> list[Reading]:
        """Of the source in use."""
        return self._source.collect()

    def close(self) -> None:
        """Of the source in use."""
        self._source.close()
