"""nvidia_gpu_exporter: what ``nvidia-smi`` says, a series per field; names and versions stand in a series of their own.

It writes UUIDs without ``GPU-``, and knows nothing of MIG instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from collectors.sources.exporters.accelerators import (
    Columns,
    Rows,
    Values,
    by_device,
    column,
    read,
    series_of,
    single,
)
from collectors.sources.exporters.dialect import Dialect, Look, known, said
from collectors.sources.exporters.nvidia import nvidia_uuid, pci_address, row_remap_state, throttle_reasons
from collectors.sources.exporters.processes import process_list
from core.readings import AcceleratorSample, Entity, Reading

_SMI = "nvidia_smi_"
_HELD = f"{_SMI}clocks_event_reasons_counters_"

_COLUMNS: Columns = {
    "utilization_ratio": (column(f"{_SMI}utilization_gpu_ratio"),),
    "memory_activity_ratio": (column(f"{_SMI}utilization_memory_ratio"),),
    "encoder_ratio": (column(f"{_SMI}utilization_encoder_ratio"),),
    "decoder_ratio": (column(f"{_SMI}utilization_decoder_ratio"),),
    "memory_used_bytes": (column(f"{_SMI}memory_used_bytes"),),
    "memory_total_bytes": (column(f"{_SMI}memory_total_bytes"),),
    "power_watts": (
        column(f"{_SMI}power_draw_watts"),
        column(f"{_SMI}power_draw_average_watts"),
        column(f"{_SMI}power_draw_instant_watts"),
    ),
    "power_limit_watts": (column(f"{_SMI}enforced_power_limit_watts"), column(f"{_SMI}power_limit_watts")),
    "temperature_celsius": (column(f"{_SMI}temperature_gpu"),),
    "memory_temperature_celsius": (column(f"{_SMI}temperature_memory"),),
    "temperature_margin_celsius": (column(f"{_SMI}temperature_gpu_tlimit"),),
    "core_clock_hertz": (column(f"{_SMI}clocks_current_sm_clock_hz"),),
    "memory_clock_hertz": (column(f"{_SMI}clocks_current_memory_clock_hz"),),
    "performance_state": (column(f"{_SMI}pstate"),),
    "throttle_power_seconds_total": (column(f"{_HELD}sw_power_cap_seconds"),),
    "throttle_thermal_seconds_total": (
        column(f"{_HELD}sw_thermal_slowdown_seconds", f"{_HELD}hw_thermal_slowdown_seconds"),
    ),
    "throttle_brake_seconds_total": (column(f"{_HELD}hw_power_brake_slowdown_seconds"),),
    "ecc_corrected_errors_total": (column(f"{_SMI}ecc_errors_corrected_volatile_total"),),
    "ecc_uncorrected_errors_total": (column(f"{_SMI}ecc_errors_uncorrected_volatile_total"),),
    "remapped_rows_total": (column(f"{_SMI}remapped_rows_correctable", f"{_SMI}remapped_rows_uncorrectable"),),
    "recovery_action": (column(f"{_SMI}gpu_recovery_action"),),
    "pcie_generation": (column(f"{_SMI}pcie_link_gen_current"),),
    "pcie_lanes": (column(f"{_SMI}pcie_link_width_current"),),
    "processes": (column(f"{_SMI}compute_apps"),),
}
_REASONS = (f"{_SMI}clocks_event_reasons_active", f"{_SMI}clocks_throttle_reasons_active")
_PENDING, _FAILED = f"{_SMI}remapped_rows_pending", f"{_SMI}remapped_rows_failure"
_INFO, _MIG, _PROCESS = f"{_SMI}gpu_info", f"{_SMI}mig_mode_current", f"{_SMI}compute_app_used_memory_bytes"

_SERIES = series_of(_COLUMNS) | {*_REASONS, _PENDING, _FAILED, _INFO, _MIG, _PROCESS}


class NvidiaSmiReader:
    """One nvidia_gpu_exporter."""

    def read(self, look: Look) -> Iterator[Reading]:
        """Every GPU of the page."""
        gpus = by_device(look.page, sorted(_SERIES), lambda labels: said(labels, "uuid"))
        for uuid, rows in gpus.items():
            about = rows[_INFO][0].series.labels if _INFO in rows else {}
            key = nvidia_uuid(uuid) or f"{look.host}/{pci_address(said(about, 'pci_bus_id')) or 'gpu'}"
            yield Entity(
                observed_at_ms=look.at_ms,
                family=AcceleratorSample.family,
                key=key,
                host=look.host,
                labels=_labels(about, mig=single(rows, _MIG) == 1),
            )
            yield AcceleratorSample(key=key, observed_at_ms=look.at_ms, **_values(rows))
            yield from process_list(key, rows.get(_PROCESS, ()), look.host, look.at_ms, bytes_each=1)


NVIDIA_SMI = Dialect(name="nvidia_gpu_exporter", marks=(f"\n{_SMI}",), series=_SERIES, reader=NvidiaSmiReader)


def _values(rows: Rows) -> Values:
    values = read(_COLUMNS, rows)
    values["throttle_reasons"] = throttle_reasons(rows, _REASONS)
    values["row_remap_state"] = row_remap_state(rows, _PENDING, _FAILED)
    return values


def _labels(about: Mapping[str, str], *, mig: bool) -> dict[str, str]:
    return known(
        {
            "vendor": "NVIDIA",
            "model": said(about, "name"),
            "index": said(about, "index"),
            "pci": pci_address(said(about, "pci_bus_id")),
            "serial": _told(said(about, "serial")),
            "vbios": _told(said(about, "vbios_version")),
            "driver": said(about, "driver_version"),
            "cuda": _told(said(about, "cuda_version")),
            "mig": "on" if mig else "",
        }
    )


def _told(text: str) -> str:
    """A text of nvidia-smi, which has ``[N/A]`` and zeros where it has none."""
    return "" if text.startswith("[") or not text.strip("0") else text
