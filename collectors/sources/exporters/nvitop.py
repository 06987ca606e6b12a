"""nvitop-exporter: GPUs and MIG devices with a series for each figure, and the processes on them.

What a device does not have is NaN. It also exports some of its machine's figures, which node_exporter has better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from collectors.sources.exporters.accelerators import Columns, by_device, column, labels_of, read, series_of
from collectors.sources.exporters.dialect import Dialect, Look, known, machine, said
from collectors.sources.exporters.processes import process_list
from core.readings import AcceleratorSample, Entity, Reading
from core.units import MIB

_COLUMNS: Columns = {
    "utilization_ratio": (column("gpu_utilization_Percentage", divisor=100),),
    "memory_activity_ratio": (column("gpu_memory_utilization_Percentage", divisor=100),),
    "encoder_ratio": (column("gpu_encoder_utilization_Percentage", divisor=100),),
    "decoder_ratio": (column("gpu_decoder_utilization_Percentage", divisor=100),),
    "memory_used_bytes": (column("gpu_memory_used_MiB", factor=MIB),),
    "memory_total_bytes": (column("gpu_memory_total_MiB", factor=MIB),),
    "power_watts": (column("gpu_power_usage_W"),),
    "power_limit_watts": (column("gpu_power_limit_W"),),
    "temperature_celsius": (column("gpu_temperature_C"),),
    "core_clock_hertz": (column("gpu_clock_sm_MHz", factor=1_000_000),),
    "memory_clock_hertz": (column("gpu_clock_memory_MHz", factor=1_000_000),),
    "pcie_rx_bytes_per_second": (column("gpu_pcie_rx_throughput_MiBps", factor=MIB),),
    "pcie_tx_bytes_per_second": (column("gpu_pcie_tx_throughput_MiBps", factor=MIB),),
}
_PROCESS, _PROCESS_INFO = "process_gpu_memory_MiB", "process_info_info"
_VERSIONS = "nvitop_info"
_SLICE = frozenset(("memory_used_bytes", "memory_total_bytes"))
"""What a MIG device has of its own; the rest is its GPU's, or not known."""


class NvitopReader:
    """One nvitop-exporter."""

    def read(self, look: Look) -> Iterator[Reading]:
        """Every GPU and MIG device of the page."""
        devices = by_device(look.page, sorted(series_of(_COLUMNS)), lambda labels: said(labels, "uuid"))
        labels = {key: labels_of(rows) for key, rows in devices.items()}
        indices = {key: said(about, "index") for key, about in labels.items()}
        gpus = {index: key for key, index in indices.items()}
        cut = {index.partition(":")[0] for index in indices.values() if ":" in index}
        listed = by_device(look.page, (_PROCESS,), lambda labels: said(labels, "uuid"))
        commands = {
            said(point.series.labels, "pid"): said(point.series.labels, "command")
            for point in look.page.points.get(_PROCESS_INFO, ())
        }
        versions = look.page.points.get(_VERSIONS)
        for key, rows in devices.items():
            about = labels[key]
            host = machine(about, look)
            gpu, colon, _ = indices[key].partition(":")
            values = read(_COLUMNS, rows)
            if colon:
                values = {name: value for name, value in values.items() if name in _SLICE}
            points = listed.get(key, {}).get(_PROCESS, ())
            processes = process_list(key, points, host, look.at_ms, bytes_each=MIB, names=commands)
            yield Entity(
                observed_at_ms=look.at_ms,
                family=AcceleratorSample.family,
                key=key,
                host=host,
                parent_key=gpus.get(gpu) if colon else None,
                labels=_labels(about, versions[0].series.labels if versions else {}),
            )
            if indices[key] not in cut:  # a partitioned GPU leaves its processes to the instances
                values["processes"] = len(processes)
            yield AcceleratorSample(key=key, observed_at_ms=look.at_ms, **values)
            yield from processes


NVITOP = Dialect(
    name="nvitop-exporter",
    marks=("\ngpu_utilization_Percentage{", "\ngpu_power_usage_W{"),
    series=series_of(_COLUMNS) | {_PROCESS, _PROCESS_INFO, _VERSIONS},
    reader=NvitopReader,
)


def _labels(device: Mapping[str, str], versions: Mapping[str, str]) -> dict[str, str]:
    model, _, profile = said(device, "devicename").partition(" MIG ")
    return known(
        {
            "vendor": "NVIDIA",
            "model": model,
            "index": said(device, "index"),
            "profile": profile,
            "driver": said(versions, "driver_version"),
            "cuda": said(versions, "cuda_driver_version"),
        }
    )
