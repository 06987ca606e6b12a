"""What one NVIDIA GPU or MIG instance says: a fast group every tick, a slow one now and then.

Each function names the NVML call it stands on; units become SI here and nowhere else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from collectors.base import now_ms
from collectors.sources.nvidia import fields as ids
from collectors.sources.nvidia import gpm as profile
from collectors.sources.nvidia.gpm import Gpm
from collectors.sources.nvidia.nvml import Field, Nvml, known
from core.readings import AcceleratorSample, DeviceProcess, Throttle
from core.units import KIB, MIB

Values = dict[str, Any]

_SM_CLOCK, _MEMORY_CLOCK = 1, 2  # clock types
_CORRECTED, _UNCORRECTED, _VOLATILE = 0, 1, 0  # ECC error and counter types
_PCIE_TX, _PCIE_RX = 0, 1  # directions of nvmlDeviceGetPcieThroughput, KB/s
_SLOWEST_PERFORMANCE_STATE = 15  # 32 stands for unknown
_LONGEST_PROCESS_NAME = 256
_NANO = 1_000_000_000
_ENERGY_TOLERANCE = 1.1  # a board may pass its limit for a moment

_THROTTLE_BITS: Final = (
    (0x1, Throttle.IDLE),
    (0x2, Throttle.USER_CLOCKS),
    (0x4, Throttle.POWER_CAP),
    (0x8, Throttle.HARDWARE_SLOWDOWN),
    (0x10, Throttle.SYNC_BOOST),
    (0x20, Throttle.SOFTWARE_THERMAL),
    (0x40, Throttle.HARDWARE_THERMAL),
    (0x80, Throttle.POWER_BRAKE),
    (0x100, Throttle.DISPLAY),
)


class Device:
    """A handle, and what must be remembered from one sample to the next."""

    def __init__(
        self,
        nvml: Nvml,
        key: str,
        handle: Any,  # noqa: ANN401
        labels: dict[str, str],
        *,
        parent_key: str | None = None,
        max_power_watts: float | None = None,
        gpm: Gpm | None = None,
    ) -> None:
        self.nvml = nvml
        self.key = key
        self.handle = handle
        self.labels = labels
        self.parent_key = parent_key
        self.slices: list[Device] = []
        self.gpm = gpm
        self._max_power_watts = max_power_watts
        self._energy: tuple[float, float] | None = None  # J and the monotonic second it was read
        self._settings: Values = {}

    def read(self, *, slow: bool) -> tuple[AcceleratorSample, list[DeviceProcess]]:
        """One sample, with the processes when ``slow``.

        Between two slow readings their values are ``None``, but the power limit and the memory
        size, which are settings: the last known ones hold.
        """
        observed_at_ms = now_ms()
        values = self._slice() if self.parent_key else self._fast()
        processes: list[DeviceProcess] = []
        if slow:
            if not self.parent_key:
                values |= self._slow(values)
            if not self.slices:  # a partitioned GPU leaves its processes to the instances
                processes, values["processes"] = self._processes(observed_at_ms)
        for setting in ("power_limit_watts", "memory_total_bytes"):
            if values.get(setting) is not None:
                self._settings[setting] = values[setting]
        return AcceleratorSample(key=self.key, observed_at_ms=observed_at_ms, **(values | self._settings)), processes

    def close(self) -> None:
        """Free what the driver keeps for this device."""
        for device in (self, *self.slices):
            if device.gpm:
                device.gpm.close()

    @property
    def counts_reservation(self) -> bool:
        """Whether memory in use includes the driver's own share (drivers before 510)."""
        return self.nvml.refuses(self.key, "memory")

    def ask(self, metric: str, *ways: Callable[[], Any]) -> Any:  # noqa: ANN401
        """``Nvml.ask`` about this device."""
        return self.nvml.ask(self.key, metric, *ways)

    def _slice(self) -> Values:
        """A MIG instance answers for its memory and, through its parent, GPM; nothing else is measured."""
        return self._memory() | _activity(self.gpm.read() if self.gpm else {})

    def _fast(self) -> Values:
        fields = self.nvml.fields(self.key, self.handle, ids.FAST)
        gpm = self.gpm.read() if self.gpm else {}
        return {
            **self._utilization(),
            **self._memory(),
            **self._power(fields),
            **self._temperature(fields),
            **self._clocks(),
            **self._throttle(fields),
            **self._links(fields, gpm),
            **_activity(gpm),
            "recovery_action": _whole(fields.get(ids.RECOVERY_ACTION)),
        }

    def _slow(self, fast: Values) -> Values:
        return self._errors() | self._pcie(fast) | {"power_limit_watts": self._power_limit()}

    def _utilization(self) -> Values:
        """``nvmlDeviceGetUtilizationRates``, ``...EncoderUtilization``, ``...DecoderUtilization``, in %."""
        api, handle = self.nvml.api, self.handle
        rates = self.ask("utilization", lambda: api.nvmlDeviceGetUtilizationRates(handle))
        encoder = self.ask("encoder", lambda: api.nvmlDeviceGetEncoderUtilization(handle)[0])
        decoder = self.ask("decoder", lambda: api.nvmlDeviceGetDecoderUtilization(handle)[0])
        return {
            "utilization_ratio": _ratio(rates and rates.gpu),
            "memory_activity_ratio": _ratio(rates and rates.memory),
            "encoder_ratio": _ratio(encoder),
            "decoder_ratio": _ratio(decoder),
        }

    def _memory(self) -> Values:
        """``nvmlDeviceGetMemoryInfo_v2``; version 1, on old drivers, counts the driver's share as used."""
        api, handle = self.nvml.api, self.handle
        memory = self.ask(
            "memory",
            lambda: api.nvmlDeviceGetMemoryInfo(handle, api.nvmlMemory_v2),
            lambda: api.nvmlDeviceGetMemoryInfo(handle),
        )
        total = memory and known(memory.total)
        used = memory and known(memory.used)
        return {
            "memory_total_bytes": total or None,
            "memory_used_bytes": used if total and used is not None and used <= total else None,
        }

    def _power(self, fields: dict[Field, float]) -> Values:
        """``nvmlDeviceGetPowerUsage`` (mW), ``...TotalEnergyConsumption`` (mJ) and field 185."""
        api, handle = self.nvml.api, self.handle
        milliwatts = self.ask("power", lambda: known(api.nvmlDeviceGetPowerUsage(handle), 32))
        millijoules = self.ask("energy", lambda: known(api.nvmlDeviceGetTotalEnergyConsumption(handle)))
        memory = fields.get(ids.MEMORY_POWER)
        if memory is not None and milliwatts is not None and memory >= milliwatts:
            memory = None  # a driver that ignores the scope repeats the power of the board
        return {
            "power_watts": _scaled(milliwatts, divisor=1_000),
            "memory_power_watts": _scaled(memory, divisor=1_000),
            "energy_joules_total": self._plausible(_scaled(millijoules, divisor=1_000)),
        }

    def _plausible(self, joules: float | None) -> float | None:
        """The energy counter, unless it grew by more than the board can draw; a fall is a reset and passes."""
        now = time.monotonic()
        if joules is None:
            return None
        if self._energy and self._max_power_watts:
            before, read_at = self._energy
            span_seconds = now - read_at + 1  # the counter itself is updated in steps
            if joules - before > _ENERGY_TOLERANCE * self._max_power_watts * span_seconds:
                return None
        self._energy = joules, now
        return joules

    def _power_limit(self) -> float | None:
        """``nvmlDeviceGetEnforcedPowerLimit`` (mW): what holds, after all other limits."""
        api = self.nvml.api
        milliwatts = self.ask("power limit", lambda: known(api.nvmlDeviceGetEnforcedPowerLimit(self.handle), 32))
        return _scaled(milliwatts, divisor=1_000)

    def _temperature(self, fields: dict[Field, float]) -> Values:
        """``nvmlDeviceGetTemperatureV``, ``...MarginTemperature`` and field 82; 0 there means no sensor."""
        api, handle = self.nvml.api, self.handle
        core = self.ask(
            "temperature",
            lambda: api.nvmlDeviceGetTemperatureV(handle, 0),
            lambda: known(api.nvmlDeviceGetTemperature(handle, 0), 32),
        )
        margin = self.ask("temperature margin", lambda: api.nvmlDeviceGetMarginTemperature(handle))
        return {
            "temperature_celsius": _scaled(core),
            "memory_temperature_celsius": _scaled(fields.get(ids.MEMORY_TEMPERATURE) or None),
            "temperature_margin_celsius": _scaled(margin),
        }

    def _clocks(self) -> Values:
        """``nvmlDeviceGetClockInfo`` (MHz) and ``nvmlDeviceGetPerformanceState``."""
        api, handle = self.nvml.api, self.handle
        core = self.ask("core clock", lambda: known(api.nvmlDeviceGetClockInfo(handle, _SM_CLOCK), 32))
        memory = self.ask("memory clock", lambda: known(api.nvmlDeviceGetClockInfo(handle, _MEMORY_CLOCK), 32))
        state = self.ask("performance state", lambda: api.nvmlDeviceGetPerformanceState(handle))
        return {
            "core_clock_hertz": _scaled(core, 1_000_000),
            "memory_clock_hertz": _scaled(memory, 1_000_000),
            "performance_state": state if state is not None and state <= _SLOWEST_PERFORMANCE_STATE else None,
        }

    def _throttle(self, fields: dict[Field, float]) -> Values:
        """``nvmlDeviceGetCurrentClocksEventReasons`` (bits) and fields 74, 75, 269 to 271 (ns)."""
        api, handle = self.nvml.api, self.handle
        reasons = self.ask(
            "throttle reasons",
            lambda: api.nvmlDeviceGetCurrentClocksEventReasons(handle),
            lambda: api.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        )
        thermal = fields.get(ids.THERMAL_THROTTLE)
        if self.nvml.refuses(self.key, ids.THERMAL_THROTTLE.metric):
            thermal = _sum(fields.get(ids.SOFTWARE_THERMAL_THROTTLE), fields.get(ids.HARDWARE_THERMAL_THROTTLE))
        return {
            "throttle_reasons": None if reasons is None else throttle_of(reasons),
            "throttle_power_seconds_total": _scaled(fields.get(ids.POWER_THROTTLE), divisor=_NANO),
            "throttle_thermal_seconds_total": _scaled(thermal, divisor=_NANO),
            "throttle_brake_seconds_total": _scaled(fields.get(ids.BRAKE_THROTTLE), divisor=_NANO),
        }

    def _links(self, fields: dict[Field, float], gpm: dict[int, float]) -> Values:
        """Fields 138/139 (KiB) or 202/204 (bytes), 197/198 (bytes), or the PCIe rates of GPM (MiB/s)."""
        values = {
            "nvlink_tx_bytes_total": self._either(fields, ids.NVLINK_TX_KIB, ids.NVLINK_TX_BYTES),
            "nvlink_rx_bytes_total": self._either(fields, ids.NVLINK_RX_KIB, ids.NVLINK_RX_BYTES),
            "pcie_tx_bytes_total": _scaled(fields.get(ids.PCIE_TX_BYTES)),
            "pcie_rx_bytes_total": _scaled(fields.get(ids.PCIE_RX_BYTES)),
        }
        if self.nvml.refuses(self.key, ids.PCIE_TX_BYTES.metric):
            values["pcie_tx_bytes_per_second"] = _scaled(gpm.get(profile.PCIE_TX), MIB)
            values["pcie_rx_bytes_per_second"] = _scaled(gpm.get(profile.PCIE_RX), MIB)
        return values

    def _either(self, fields: dict[Field, float], kibibytes: Field, octets: Field) -> float | None:
        """One counter for good: two that count differently must not take turns."""
        if self.nvml.refuses(self.key, kibibytes.metric):
            return _scaled(fields.get(octets))
        return _scaled(fields.get(kibibytes), KIB)

    def _errors(self) -> Values:
        """``nvmlDeviceGetTotalEccErrors`` (since driver load), ``...RemappedRows``, fields 29 and 30."""
        api, handle = self.nvml.api, self.handle
        rows = self.ask("remapped rows", lambda: api.nvmlDeviceGetRemappedRows(handle))
        pages = self.nvml.fields(self.key, handle, ids.SLOW)
        return {
            "ecc_corrected_errors_total": self._ecc("corrected errors", _CORRECTED),
            "ecc_uncorrected_errors_total": self._ecc("uncorrected errors", _UNCORRECTED),
            "remapped_rows_total": rows and rows[0] + rows[1],
            "row_remap_state": rows and int(rows[2] > 0) | int(rows[3] > 0) << 1,
            "retired_pages_total": _whole(_sum(pages.get(ids.RETIRED_SINGLE), pages.get(ids.RETIRED_DOUBLE))),
        }

    def _ecc(self, metric: str, kind: int) -> int | None:
        api, handle = self.nvml.api, self.handle
        errors: int | None = self.ask(metric, lambda: known(api.nvmlDeviceGetTotalEccErrors(handle, kind, _VOLATILE)))
        return errors

    def _pcie(self, fast: Values) -> Values:
        """Link state, and rates (``nvmlDeviceGetPcieThroughput``, KB/s) where nothing cheaper tells.

        That call blocks for 20 ms in each direction, hence only here and only if needed.
        """
        api, handle = self.nvml.api, self.handle
        values = {
            "pcie_generation": self.ask("PCIe generation", lambda: api.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
            "pcie_lanes": self.ask("PCIe lanes", lambda: api.nvmlDeviceGetCurrPcieLinkWidth(handle)),
            "pcie_replays_total": self.ask("PCIe replays", lambda: api.nvmlDeviceGetPcieReplayCounter(handle)),
        }
        if fast["pcie_tx_bytes_total"] is None and fast.get("pcie_tx_bytes_per_second") is None:
            sent = self.ask("PCIe send rate", lambda: known(api.nvmlDeviceGetPcieThroughput(handle, _PCIE_TX), 32))
            received = self.ask("PCIe rate", lambda: known(api.nvmlDeviceGetPcieThroughput(handle, _PCIE_RX), 32))
            values["pcie_tx_bytes_per_second"] = _scaled(sent, 1_000)
            values["pcie_rx_bytes_per_second"] = _scaled(received, 1_000)
        return values

    def _processes(self, observed_at_ms: int) -> tuple[list[DeviceProcess], int | None]:
        """``nvmlDeviceGetComputeRunningProcesses``, ``...Graphics...``, ``...MPSCompute...`` and how many.

        A process in several lists is one process; NVML repeats its whole memory in each.
        """
        api, handle = self.nvml.api, self.handle
        memory_by_pid: dict[int, int | None] = {}
        answered = False
        for kind in ("MPSCompute", "Graphics", "Compute"):
            calls = [getattr(api, f"nvmlDeviceGet{kind}RunningProcesses_v{version}") for version in (3, 2)]
            ways = [lambda call=call: call(handle) for call in calls]
            listed = self.ask(f"{kind} processes", *ways)
            answered |= listed is not None
            for process in listed or ():
                if process.usedGpuMemory is not None or process.pid not in memory_by_pid:
                    memory_by_pid[process.pid] = process.usedGpuMemory
        processes = [
            DeviceProcess(
                key=self.key,
                observed_at_ms=observed_at_ms,
                pid=pid,
                name=self._process_name(pid),
                memory_used_bytes=memory,
            )
            for pid, memory in sorted(memory_by_pid.items())
        ]
        return processes, len(processes) if answered else None

    def _process_name(self, pid: int) -> str:
        """``nvmlSystemGetProcessName``; empty for a process of another pid namespace."""
        name = self.nvml.ask(self.key, "process name", lambda: self.nvml.api.nvmlSystemGetProcessName(pid))
        return (name or "")[:_LONGEST_PROCESS_NAME]


def throttle_of(reasons: int) -> int:
    """NVML's clocks-event bits in the vocabulary of ``core.readings.Throttle``."""
    result = Throttle(0)
    for bit, meaning in _THROTTLE_BITS:
        if reasons & bit:
            result |= meaning
    return int(result)


def _activity(gpm: dict[int, float]) -> Values:
    return {
        "sm_active_ratio": _ratio(gpm.get(profile.SM_ACTIVE)),
        "sm_occupancy_ratio": _ratio(gpm.get(profile.SM_OCCUPANCY)),
        "tensor_active_ratio": _ratio(gpm.get(profile.TENSOR_ACTIVE)),
        "dram_active_ratio": _ratio(gpm.get(profile.DRAM_ACTIVE)),
    }


def _ratio(percent: float | None) -> float | None:
    """Percent as a share; rounding may pass 100 by a hair, anything else outside is no measurement."""
    if percent is None or not 0 <= percent < 101:  # false for NaN as well
        return None
    return min(percent / 100, 1.0)


def _scaled(value: float | None, factor: int = 1, divisor: int = 1) -> float | None:
    return None if value is None or not math.isfinite(value) else value * factor / divisor


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
