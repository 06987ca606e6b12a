"""NVIDIA's dcgm-exporter.

Its list of fields is a file that people edit, so any may be absent. With MIG only the instances have rows, and the
figures of the whole GPU are repeated on each of them: those are taken once, for the parent, and never added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from collectors.scrape.exposition import Page
from collectors.sources.exporters.accelerators import (
    Columns,
    Energy,
    Rows,
    Users,
    Values,
    by_device,
    column,
    labels_of,
    possible,
    read,
    series_of,
    single,
)
from collectors.sources.exporters.dialect import Dialect, Look, known, machine, said
from collectors.sources.exporters.nvidia import nvidia_uuid, pci_address, row_remap_state, throttle_reasons
from collectors.sources.nvidia.xid import XIDS
from core.readings import AcceleratorSample, Entity, Event, Reading, Severity
from core.units import MIB

_DEV = "DCGM_FI_DEV_"
_PROF = "DCGM_FI_PROF_"

_OWN: Columns = {
    "utilization_ratio": (column(f"{_PROF}GR_ENGINE_ACTIVE"),),
    "sm_active_ratio": (column(f"{_PROF}SM_ACTIVE"),),
    "sm_occupancy_ratio": (column(f"{_PROF}SM_OCCUPANCY"),),
    "tensor_active_ratio": (column(f"{_PROF}PIPE_TENSOR_ACTIVE"),),
    "dram_active_ratio": (column(f"{_PROF}DRAM_ACTIVE"),),
    "memory_used_bytes": (column(f"{_DEV}FB_USED", factor=MIB),),
    "memory_total_bytes": (
        column(f"{_DEV}FB_TOTAL", factor=MIB),
        column(f"{_DEV}FB_USED", f"{_DEV}FB_FREE", f"{_DEV}FB_RESERVED", factor=MIB),
        column(f"{_DEV}FB_USED", f"{_DEV}FB_FREE", factor=MIB),
    ),
    "pcie_rx_bytes_per_second": (column(f"{_PROF}PCIE_RX_BYTES"),),  # a rate, also where the page calls it a counter
    "pcie_tx_bytes_per_second": (column(f"{_PROF}PCIE_TX_BYTES"),),
}
"""What each MIG instance has of its own."""

_BOARD: Columns = {
    "utilization_ratio": (column(f"{_DEV}GPU_UTIL", divisor=100),),
    "memory_activity_ratio": (column(f"{_DEV}MEM_COPY_UTIL", divisor=100),),
    "encoder_ratio": (column(f"{_DEV}ENC_UTIL", divisor=100),),
    "decoder_ratio": (column(f"{_DEV}DEC_UTIL", divisor=100),),
    "power_watts": (column(f"{_DEV}POWER_USAGE"),),
    "power_limit_watts": (column(f"{_DEV}ENFORCED_POWER_LIMIT"), column(f"{_DEV}POWER_MGMT_LIMIT")),
    "energy_joules_total": (column(f"{_DEV}TOTAL_ENERGY_CONSUMPTION", divisor=1000),),
    "temperature_celsius": (column(f"{_DEV}GPU_TEMP"),),
    "memory_temperature_celsius": (column(f"{_DEV}MEMORY_TEMP"),),
    "core_clock_hertz": (column(f"{_DEV}SM_CLOCK", factor=1_000_000),),
    "memory_clock_hertz": (column(f"{_DEV}MEM_CLOCK", factor=1_000_000),),
    "performance_state": (column(f"{_DEV}PSTATE"),),
    "ecc_corrected_errors_total": (column(f"{_DEV}ECC_SBE_VOL_TOTAL"),),
    "ecc_uncorrected_errors_total": (column(f"{_DEV}ECC_DBE_VOL_TOTAL"),),
    "remapped_rows_total": (column(f"{_DEV}CORRECTABLE_REMAPPED_ROWS", f"{_DEV}UNCORRECTABLE_REMAPPED_ROWS"),),
    "retired_pages_total": (column(f"{_DEV}RETIRED_SBE", f"{_DEV}RETIRED_DBE"),),
    "pcie_generation": (column(f"{_DEV}PCIE_LINK_GEN"),),
    "pcie_lanes": (column(f"{_DEV}PCIE_LINK_WIDTH"),),
    "pcie_replays_total": (column(f"{_DEV}PCIE_REPLAY_COUNTER"),),
}
"""What a whole GPU has once."""

_VIOLATIONS = {
    "throttle_power_seconds_total": f"{_DEV}POWER_VIOLATION",
    "throttle_thermal_seconds_total": f"{_DEV}THERMAL_VIOLATION",
}
_PER_SECOND = {"(in ns)": 1e9, "(in us)": 1e6}
"""Under one name older releases count microseconds and newer ones nanoseconds; the help text says which."""

_REASONS = (f"{_DEV}CLOCKS_EVENT_REASONS", f"{_DEV}CLOCK_THROTTLE_REASONS")
_XID = f"{_DEV}XID_ERRORS"
_PENDING, _FAILED = f"{_DEV}ROW_REMAP_PENDING", f"{_DEV}ROW_REMAP_FAILURE"

_SERIES = series_of(_OWN) | series_of(_BOARD) | {*_VIOLATIONS.values(), *_REASONS, _XID, _PENDING, _FAILED}
_HIGHEST_XID = 2**16


class DcgmReader:
    """One dcgm-exporter."""

    def __init__(self) -> None:
        self._energy = Energy()
        self._users = Users()
        self._xids: dict[str, frozenset[int]] = {}

    def read(self, look: Look) -> Iterator[Reading]:
        """Every GPU of the page and its instances."""
        gpus = by_device(look.page, _SERIES, lambda labels: _gpu(labels, look))
        tenants: dict[str, Rows] = {}
        for key, rows in gpus.items():
            own, instances = _instances(rows)
            labels = labels_of(rows)
            host = machine(labels, look)
            described = _labels(labels)
            mig = {"mig": f"{len(instances)} instances"} if instances else {}
            yield _entity(key, host, described | mig, look)
            yield AcceleratorSample(key=key, observed_at_ms=look.at_ms, **self._values(key, own, rows, look.page))
            yield from self._events(key, rows, look.at_ms)
            tenants[key] = own
            for number, part in instances.items():
                slice_key = f"{key}/{number}"
                yield _entity(slice_key, host, _slice_labels(described, labels_of(part), number), look, parent=key)
                yield AcceleratorSample(key=slice_key, observed_at_ms=look.at_ms, **read(_OWN, part))
                tenants[slice_key] = part
        yield from self._users.of(tenants, look.at_ms, federated=look.federated)
        self._energy.keep_only(gpus)
        self._xids = {key: seen for key, seen in self._xids.items() if key in gpus}

    def _values(self, key: str, own: Rows, rows: Rows, page: Page) -> Values:
        values = read(_OWN, own) | read(_BOARD, rows)
        for name, series in _VIOLATIONS.items():
            values[name] = possible(name, _seconds(single(rows, series), page.helps.get(series, "")))
        values["throttle_reasons"] = throttle_reasons(rows, _REASONS)
        values["row_remap_state"] = row_remap_state(rows, _PENDING, _FAILED)
        values["energy_joules_total"] = self._energy.joules(
            key, values.get("energy_joules_total"), values.get("power_watts")
        )
        return values

    def _events(self, key: str, rows: Rows, at_ms: int) -> Iterator[Event]:
        """XIDs that were not there at the look before: a series stays at the last one as long as the exporter lives.

        Newer releases have a series for each, with a label that says what it means.
        """
        codes = frozenset(int(p.value) for p in rows.get(_XID, ()) if 0 < p.value < _HIGHEST_XID)
        before = self._xids.get(key)
        self._xids[key] = codes
        for xid in sorted(codes - before) if before is not None else ():
            severity, meaning = XIDS.get(xid, (Severity.WARNING, "see NVIDIA's XID catalogue"))
            yield Event(
                observed_at_ms=at_ms,
                kind="xid",
                severity=severity,
                message=f"XID {xid}: {meaning}",
                family=AcceleratorSample.family,
                key=key,
                code=xid,
            )


DCGM = Dialect(name="NVIDIA DCGM exporter", marks=("\nDCGM_FI_",), series=_SERIES, reader=DcgmReader)


def _gpu(labels: Mapping[str, str], look: Look) -> str:
    """The key of the whole GPU that a series is about."""
    number = said(labels, "gpu")
    return nvidia_uuid(said(labels, "UUID", "uuid")) or (number and f"{machine(labels, look)}/gpu {number}")


def _instances(rows: Rows) -> tuple[Rows, dict[str, Rows]]:
    """The points of a GPU that are about it as a whole, and those of each MIG instance by its number."""
    own: Rows = {}
    instances: dict[str, Rows] = {}
    for name, points in rows.items():
        for point in points:
            number = said(point.series.labels, "GPU_I_ID")
            part = instances.setdefault(number, {}) if number else own
            part.setdefault(name, []).append(point)
    return own, dict(sorted(instances.items()))


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    cuda = said(labels, "DCGM_FI_CUDA_DRIVER_VERSION")
    return known(
        {
            "vendor": "NVIDIA",
            "model": said(labels, "modelName", "DCGM_FI_DEV_NAME"),
            "index": said(labels, "gpu"),
            "pci": pci_address(said(labels, "pci_bus_id", "DCGM_FI_DEV_PCI_BUSID")),
            "serial": said(labels, "DCGM_FI_DEV_SERIAL"),
            "vbios": said(labels, "DCGM_FI_DEV_VBIOS_VERSION"),
            "driver": said(labels, "DCGM_FI_DRIVER_VERSION"),
            "cuda": f"{int(cuda) // 1000}.{int(cuda) % 1000 // 10}" if cuda.isdecimal() and len(cuda) < 7 else "",
        }
    )


def _slice_labels(gpu: Mapping[str, str], labels: Mapping[str, str], number: str) -> dict[str, str]:
    own = {
        **{name: gpu.get(name, "") for name in ("vendor", "model", "driver", "cuda")},
        "index": f"{gpu.get('index', '')}:{number}",
        "profile": said(labels, "GPU_I_PROFILE"),
        "gpu_instance": number,
    }
    return known(own)


def _entity(key: str, host: str, labels: Mapping[str, str], look: Look, parent: str | None = None) -> Entity:
    return Entity(
        observed_at_ms=look.at_ms,
        family=AcceleratorSample.family,
        key=key,
        host=host,
        parent_key=parent,
        labels=labels,
    )


def _seconds(value: float | None, help_text: str) -> float | None:
    per_second = next((count for words, count in _PER_SECOND.items() if words in help_text), None)
    return None if value is None or per_second is None else value / per_second
