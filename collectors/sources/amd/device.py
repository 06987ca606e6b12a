"""What one AMD GPU, die or partition says: a fast group every tick, a slow one now and then.

Each function names the call it stands on. Never called here: ``amdsmi_get_gpu_pci_throughput``, which takes a
second, and ``amdsmi_get_violation_status``, which waits for two firmware snapshots.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from collectors.base import now_ms
from collectors.sources.amd import rocm
from collectors.sources.amd.rocm import Binding
from collectors.sources.amd.tables import (
    EnergyCounter,
    Table,
    ThrottleCounter,
    celsius,
    core_clock_hertz,
    hertz,
    independent_reasons,
    link_bytes,
    mebibytes,
    memory_celsius,
    pcie_generation,
    power_cap_watts,
    ratio,
    retired_pages,
    utilization_ratio,
    watts,
    whole,
)
from core.readings import AcceleratorSample, DeviceProcess, Event, Severity

Values = dict[str, Any]

_SETTINGS = ("power_limit_watts", "memory_total_bytes")


class Stale(Exception):
    """A device that answered before does not know its handle any more."""


class Scope(Enum):
    """How much of a board a handle stands for."""

    BOARD = auto()
    SECOND_DIE = auto()  # MI250 and MI250X: everything of its own but power, which the first die has for both
    PARTITION = auto()  # DPX, QPX, CPX, but the first: memory and processes; the first has the rest for all


class Device:
    """A handle, and what must be remembered from one sample to the next."""

    def __init__(
        self,
        binding: Binding,
        handle: Any,  # noqa: ANN401
        key: str,
        labels: Mapping[str, str],
        *,
        scope: Scope = Scope.BOARD,
        parent_key: str | None = None,
    ) -> None:
        self.binding = binding
        self.handle = handle
        self.key = key
        self.labels = dict(labels)
        self.scope = scope
        self.parent_key = parent_key
        self.answers = False
        self._statuses: list[int] = []
        self._settings: Values = {}
        self._energy = EnergyCounter()
        self._throttle = ThrottleCounter()
        self._uncorrected: int | None = None

    def read(self, seconds: float, *, slow: bool) -> list[AcceleratorSample | DeviceProcess | Event]:
        """A sample made at ``seconds`` of a monotonic clock, with processes and events when ``slow``.

        Between two slow readings their values are ``None``, but the power limit and the memory size, which are
        settings: the last known ones hold. A device that says nothing at all gives no sample.

        Raises:
            Stale: see there.
        """
        self._statuses.clear()
        at = now_ms()
        values = self._memory()
        if self.scope is not Scope.PARTITION:
            values |= self._board(seconds)
        if rocm.OK not in self._statuses:
            if self.answers and not rocm.GONE.isdisjoint(self._statuses):
                raise Stale
            return []
        self.answers = True
        events: list[Event] = []
        processes: list[DeviceProcess] = []
        if slow:
            if self.scope is not Scope.PARTITION:
                values |= self._slow()
                events = self._ras(values["ecc_uncorrected_errors_total"], at)
            processes, values["processes"] = self._processes(values["memory_used_bytes"], at)
        for setting in _SETTINGS:
            if values.get(setting) is not None:
                self._settings[setting] = values[setting]
        return [AcceleratorSample(key=self.key, observed_at_ms=at, **(values | self._settings)), *processes, *events]

    def watts(self) -> float | None:
        """The power that this handle reports, whatever it covers."""
        return self._power(self._table("amdsmi_get_gpu_metrics_info"))

    @property
    def mode(self) -> tuple[str, str]:
        """Compute and memory partition mode now: SPX … CPX, NPS1 … NPS8; empty where there is none."""
        calls = ("amdsmi_get_gpu_compute_partition", "amdsmi_get_gpu_memory_partition")
        compute, memory = (rocm.text(self._ask(call)) for call in calls)
        return compute, memory

    def _ask(self, function: str, *arguments: object) -> Any:  # noqa: ANN401
        answer, status = self.binding.call(function, self.handle, *arguments)
        self._statuses.append(status)
        return answer

    def _table(self, function: str, *arguments: object) -> Table:
        answer = self._ask(function, *arguments)
        return answer if isinstance(answer, dict) else {}

    def _memory(self) -> Values:
        """``amdsmi_get_gpu_vram_usage``: of the board, or of the partition's own memory domain."""
        usage = self._table("amdsmi_get_gpu_vram_usage")
        return {
            "memory_used_bytes": mebibytes(usage.get("vram_used")),
            "memory_total_bytes": mebibytes(usage.get("vram_total")) or None,
        }

    def _board(self, seconds: float) -> Values:
        """One firmware snapshot (``amdsmi_get_gpu_metrics_info``) and the energy counter."""
        table = self._table("amdsmi_get_gpu_metrics_info") or self._piecewise()
        power_watts = energy_joules = None
        if self.scope is Scope.BOARD:
            power_watts = self._power(table)
            energy_joules = self._energy.joules(self._table("amdsmi_get_energy_count"), power_watts)
        throttling = self._throttle.update(table, seconds)
        return {
            "utilization_ratio": utilization_ratio(table),
            "memory_activity_ratio": ratio(table.get("average_umc_activity")),
            "power_watts": power_watts,
            "energy_joules_total": energy_joules,
            "temperature_celsius": celsius(table.get("temperature_hotspot")),
            "memory_temperature_celsius": memory_celsius(table),
            "core_clock_hertz": core_clock_hertz(table),
            "memory_clock_hertz": hertz(table.get("current_uclk")),
            "throttle_reasons": self._older_reasons(table) if throttling.reasons is None else throttling.reasons,
            "throttle_power_seconds_total": throttling.power_seconds,
            "throttle_thermal_seconds_total": throttling.thermal_seconds,
            "throttle_brake_seconds_total": throttling.brake_seconds,
            "xgmi_rx_bytes_total": link_bytes(table.get("xgmi_read_data_acc")),
            "xgmi_tx_bytes_total": link_bytes(table.get("xgmi_write_data_acc")),
        }

    def _power(self, table: Table) -> float | None:
        """MI300 and later fill the current, MI200 and older the average power; ``amdsmi_get_power_info`` last."""
        power = watts(table.get("current_socket_power"), table.get("average_socket_power"))
        if power is not None:
            return power
        info = self._table("amdsmi_get_power_info")
        return watts(*(info.get(key) for key in ("current_socket_power", "average_socket_power", "socket_power")))

    def _older_reasons(self, table: Table) -> int | None:
        flag = table.get("indep_throttle_status")
        if not isinstance(flag, bool):
            return None
        bits = self.binding.throttler_bits(self.handle) if flag else 0
        return None if bits is None else int(independent_reasons(bits))

    def _piecewise(self) -> Table:
        """The same keys from single calls, for a board or guest without the metrics table."""
        activity = self._table("amdsmi_get_gpu_activity")
        return {
            "average_gfx_activity": activity.get("gfx_activity"),
            "average_umc_activity": activity.get("umc_activity"),
            "temperature_hotspot": self._sensor("HOTSPOT"),
            "temperature_mem": self._sensor("VRAM"),
            "current_gfxclk": self._clock("GFX"),
            "current_uclk": self._clock("MEM"),
        }

    def _sensor(self, place: str) -> object:
        kinds = self.binding.constant("AmdSmiTemperatureType", place)
        return self._ask("amdsmi_get_temp_metric", kinds, self.binding.constant("AmdSmiTemperatureMetric", "CURRENT"))

    def _clock(self, domain: str) -> object:
        return self._table("amdsmi_get_clock_info", self.binding.constant("AmdSmiClkType", domain)).get("clk")

    def _slow(self) -> Values:
        """Power cap, memory errors, retired pages and the PCIe link."""
        errors = self._table("amdsmi_get_gpu_total_ecc_count")
        pages = self._ask("amdsmi_get_gpu_bad_page_info")
        pcie = self._table("amdsmi_get_pcie_info").get("pcie_metric", {})
        cap = self._table("amdsmi_get_power_cap_info") if self.scope is Scope.BOARD else {}
        return {
            "power_limit_watts": power_cap_watts(cap.get("power_cap")),
            "ecc_corrected_errors_total": whole(errors.get("correctable_count")),
            "ecc_uncorrected_errors_total": whole(errors.get("uncorrectable_count")),
            "retired_pages_total": retired_pages(pages, self.binding.constant("AmdSmiMemoryPageStatus", "RESERVED")),
            "pcie_generation": pcie_generation(pcie.get("pcie_speed")),
            "pcie_lanes": whole(pcie.get("pcie_width")),
            "pcie_replays_total": whole(pcie.get("pcie_replay_count")),
        }

    def _ras(self, uncorrected: int | None, at: int) -> list[Event]:
        """An event when uncorrectable errors were added since the last slow reading."""
        before = self._uncorrected
        if uncorrected is not None:
            self._uncorrected = uncorrected
        if uncorrected is None or before is None or uncorrected <= before:
            return []
        message = f"{uncorrected - before} new uncorrectable memory errors, {uncorrected} since the driver was loaded"
        return [
            Event(
                observed_at_ms=at,
                kind="ras",
                severity=Severity.CRITICAL,
                message=message,
                family=AcceleratorSample.family,
                key=self.key,
            )
        ]

    def _processes(self, used_bytes: int | None, at: int) -> tuple[list[DeviceProcess], int | None]:
        """``amdsmi_get_gpu_process_list``: who holds memory here, and how many.

        The list is known to carry processes that are over, that only opened the driver (this one, too), and that
        work on another GPU. Those with no memory, or with more than the device holds in all, are left out; when
        nothing is left of a list, who is there is unknown.
        """
        listed = self._ask("amdsmi_get_gpu_process_list")
        if not isinstance(listed, list):
            return [], None
        others = [entry for entry in listed if entry["pid"] != os.getpid()]
        processes = [
            DeviceProcess(
                key=self.key,
                observed_at_ms=at,
                pid=entry["pid"],
                name=rocm.text(entry["name"]),
                memory_used_bytes=held,
            )
            for entry in others
            if (held := whole(entry.get("memory_usage", {}).get("vram_mem")))
            and (used_bytes is None or held <= used_bytes)
        ]
        return processes, None if others and not processes else len(processes)
