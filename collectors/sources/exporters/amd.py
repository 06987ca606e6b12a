"""AMD's device-metrics-exporter.

It says what the ``amdsmi`` library says, under names of its own, which people often prefix with ``amd_``. Hence the
figures go through the same functions as those of the ``amd`` source. Releases before 1.4.0 export what a board does
not have as 0. In the modes that cut a board into partitions, power, energy, temperatures, clocks and activity are those
of partition 0, which stands for the board; the others say 0 W, and have nothing of their own but memory and processes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from collectors.scrape.exposition import Page
from collectors.sources.amd.tables import (
    ThrottleCounter,
    celsius,
    hertz,
    link_bytes,
    mebibytes,
    pcie_generation,
    ratio,
    utilization_ratio,
    watts,
    whole,
)
from collectors.sources.exporters.accelerators import Energy, Rows, Users, Values, by_device, labels_of, possible
from collectors.sources.exporters.dialect import Dialect, Look, known, machine, said
from collectors.sources.exporters.processes import process_list
from core.readings import AcceleratorSample, Entity, Reading

PREFIX = "amd_"

_POWER = ("gpu_package_power", "gpu_average_package_power", "gpu_power_usage")
_ENERGY = "gpu_energy_consumed"  # microjoules; called a gauge
_JUNCTION, _EDGE = "gpu_junction_temperature", "gpu_edge_temperature"
_MEMORY, _HBM = "gpu_memory_temperature", "gpu_hbm_temperature"
_BUSY, _DIES_BUSY, _MEMORY_BUSY = "gpu_gfx_activity", "gpu_gfx_busy_instantaneous", "gpu_umc_activity"
_USED, _TOTAL = "gpu_used_vram", "gpu_total_vram"
_CLOCK = "gpu_clock"
_RX, _TX = "gpu_xgmi_link_rx", "gpu_xgmi_link_tx"  # KB since the driver was loaded
_CORRECTED, _UNCORRECTED = "gpu_ecc_correct_total", "gpu_ecc_uncorrect_total"
_SPEED, _REPLAYS = "pcie_speed", "pcie_replay_count"
_PROCESS = "gpu_process_cu_occupancy"
_HELD = {
    "accumulation_counter": ("gpu_violation_current_accumulated_counter",),
    "ppt_residency_acc": ("gpu_violation_ppt_residency_accumulated",),
    "socket_thm_residency_acc": ("gpu_violation_socket_thermal_residency_accumulated",),
    "hbm_thm_residency_acc": ("gpu_violation_hbm_thermal_residency_accumulated",),
    "vr_thm_residency_acc": (
        "gpu_violation_vr_thermal_residency_accumulated",
        "gpu_violation_vr_thermal_tracking_accumulated",
    ),
    "prochot_residency_acc": (
        "gpu_violation_processor_hot_residency_accumulated",
        "gpu_violation_proc_hot_residency_accumulated",
    ),
}
"""Name in the library's table to the names by which newer and older releases export it."""

_SERIES = (
    *_POWER, _ENERGY, _JUNCTION, _EDGE, _MEMORY, _HBM, _BUSY, _DIES_BUSY, _MEMORY_BUSY, _USED, _TOTAL, _CLOCK, _RX,
    _TX, _CORRECTED, _UNCORRECTED, _SPEED, _REPLAYS, _PROCESS, *(name for names in _HELD.values() for name in names),
)  # fmt: skip
_TELLING = ("gpu_nodes_total", "gpu_package_power", "gpu_gfx_activity")  # no other exporter's names begin like these
_UNPARTITIONED = "SPX"


@dataclass(frozen=True, slots=True)
class _Device:
    """A board, or a partition of one."""

    host: str
    gpu: str
    partition: int
    labels: Mapping[str, str]
    rows: Rows

    @property
    def serial(self) -> str:
        return _identity(said(self.labels, "serial_number"))

    @property
    def uuid(self) -> str:
        return _identity(said(self.labels, "gpu_uuid"))

    def each(self, *names: str) -> list[float]:
        """The figures of some series, one after the other."""
        return [point.value for name in names for point in self.rows.get(name, ()) if math.isfinite(point.value)]

    def clocks(self, kind: str) -> list[float]:
        """The clocks of one kind, MHz."""
        points = self.rows.get(_CLOCK, ())
        return [point.value for point in points if point.series.labels.get("clock_type") == kind]


class AmdReader:
    """One device-metrics-exporter."""

    def __init__(self) -> None:
        self._energy = Energy()
        self._users = Users()
        self._throttle: dict[str, ThrottleCounter] = {}

    def read(self, look: Look) -> Iterator[Reading]:
        """Every board of the page and its partitions."""
        tenants: dict[str, Rows] = {}
        for board, devices in _boards(_devices(look)).items():
            for device in devices:
                key = f"{board}/{device.partition}" if device.partition else board
                tenants[key] = device.rows
                values = _memory(device)
                if not device.partition:
                    values |= self._board(board, device, devices, look.at_ms)
                yield Entity(
                    observed_at_ms=look.at_ms,
                    family=AcceleratorSample.family,
                    key=key,
                    host=device.host,
                    parent_key=board if device.partition else None,
                    labels=_labels(device, devices[0].gpu),
                )
                processes = process_list(
                    key, device.rows.get(_PROCESS, ()), device.host, look.at_ms, label="process_id"
                )
                values["processes"] = len(processes) or None  # exported on demand: none may be seen, or looked for
                sample: Values = {name: possible(name, value) for name, value in values.items()}
                yield AcceleratorSample(key=key, observed_at_ms=look.at_ms, **sample)
                yield from processes
        yield from self._users.of(tenants, look.at_ms, federated=look.federated)
        self._energy.keep_only(tenants)
        self._throttle = {key: counter for key, counter in self._throttle.items() if key in tenants}

    def _board(self, key: str, device: _Device, partitions: Iterable[_Device], at_ms: int) -> Values:
        power = watts(*device.each(*_POWER))
        held = {name: max(found) for name, names in _HELD.items() if (found := device.each(*names))}
        throttling = self._throttle.setdefault(key, ThrottleCounter()).update(held, at_ms / 1000)
        busy = {
            "average_gfx_activity": _first(device.each(_BUSY)),
            "xcp_stats.gfx_busy_inst": [partition.each(_DIES_BUSY) for partition in partitions],
        }
        microjoules = _first(device.each(_ENERGY))
        return {
            "utilization_ratio": utilization_ratio(busy),
            "memory_activity_ratio": ratio(_first(device.each(_MEMORY_BUSY))),
            "power_watts": power,
            "energy_joules_total": self._energy.joules(key, microjoules and microjoules / 1e6, power),
            "temperature_celsius": celsius(*device.each(_JUNCTION)) or celsius(*device.each(_EDGE)),
            "memory_temperature_celsius": celsius(*device.each(_MEMORY, _HBM)),
            "core_clock_hertz": hertz(*device.clocks("system")),
            "memory_clock_hertz": hertz(*device.clocks("memory")),
            "throttle_reasons": throttling.reasons,
            "throttle_power_seconds_total": throttling.power_seconds,
            "throttle_thermal_seconds_total": throttling.thermal_seconds,
            "throttle_brake_seconds_total": throttling.brake_seconds,
            "ecc_corrected_errors_total": whole(_first(device.each(_CORRECTED))),
            "ecc_uncorrected_errors_total": whole(_first(device.each(_UNCORRECTED))),
            "pcie_generation": pcie_generation((_first(device.each(_SPEED)) or 0.0) * 1000),
            "pcie_replays_total": whole(_first(device.each(_REPLAYS))),
            "xgmi_rx_bytes_total": link_bytes(device.each(_RX)),
            "xgmi_tx_bytes_total": link_bytes(device.each(_TX)),
        }


AMD = Dialect(
    name="AMD device-metrics-exporter",
    marks=('card_model="', *(f"\n{prefix}{name}" for name in _TELLING for prefix in ("", PREFIX))),
    series=frozenset(prefix + name for name in _SERIES for prefix in ("", PREFIX)),
    reader=AmdReader,
)


def _devices(look: Look) -> list[_Device]:
    """Every board and partition of a page."""
    page = Page({name.removeprefix(PREFIX): points for name, points in look.page.points.items()})

    def place(labels: Mapping[str, str]) -> str:
        gpu = said(labels, "gpu_id")
        return gpu and f"{machine(labels, look)}/{gpu}/{_partition(labels)}"

    found = []
    for rows in by_device(page, _SERIES, place).values():
        labels = labels_of(rows)
        found.append(_Device(machine(labels, look), said(labels, "gpu_id"), _partition(labels), labels, rows))
    return found


def _boards(devices: Iterable[_Device]) -> dict[str, list[_Device]]:
    """The devices of each board by the board's key, partition 0 first.

    A serial number ties the partitions of a board together, unless several boards say the same one. The UUID, which
    is exported on demand, is the key under which the ``amd`` source knows the board.
    """
    devices = list(devices)
    alike = Counter((device.host, device.serial) for device in devices if not device.partition)
    groups: dict[str, list[_Device]] = {}
    for device in devices:
        unique = device.serial and alike[device.host, device.serial] <= 1
        name = f"{device.host}/{device.serial if unique else f'gpu {device.gpu}'}"
        groups.setdefault(name, []).append(device)
    ordered = {name: sorted(group, key=lambda device: device.partition) for name, group in groups.items()}
    uuids = Counter(group[0].uuid for group in ordered.values())
    return {
        group[0].uuid if group[0].uuid and uuids[group[0].uuid] == 1 else name: group for name, group in ordered.items()
    }


def _partition(labels: Mapping[str, str]) -> int:
    number = said(labels, "gpu_partition_id")
    return int(number) if number.isdecimal() and len(number) < 4 else 0


def _labels(device: _Device, board_index: str) -> dict[str, str]:
    labels = device.labels
    mode = said(labels, "gpu_compute_partition_type").upper()
    names = (said(labels, "card_series"), said(labels, "card_model"))
    return known(
        {
            "vendor": "AMD",
            "model": next((name for name in names if name and not name.startswith("0x")), names[1]),
            "index": f"{board_index}:{device.partition}" if device.partition else device.gpu,
            "serial": device.serial,
            "vbios": said(labels, "vbios_version"),
            "driver": said(labels, "driver_version"),
            "compute_partition": mode,
            "memory_partition": said(labels, "gpu_memory_partition_type").upper(),
            "partition": "" if mode in ("", _UNPARTITIONED) else str(device.partition),
        }
    )


def _memory(device: _Device) -> Values:
    return {
        "memory_used_bytes": mebibytes(_first(device.each(_USED))),
        "memory_total_bytes": mebibytes(_first(device.each(_TOTAL))),
    }


def _identity(text: str) -> str:
    """A number that tells a board from others; those without one say 0 or N/A."""
    return "" if text.upper() == "N/A" else text if text.removeprefix("0x").strip("0-") else ""


def _first(values: Iterable[float]) -> float | None:
    return next(iter(values), None)
