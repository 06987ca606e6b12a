"""Under which names the daemon's metrics page shows what Vatio knows. Written by it and read back by these names.

OpenTelemetry's conventions (``hw.*``, ``gen_ai.*``; status "development") name some quantities; those appear under
the Prometheus form of these names, all others as ``vatio_<family>_<metric>``. A quantity has one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from core.catalog import FAMILIES
from core.metric import Kind, Metric
from core.readings import Latency

ID_LABELS: Mapping[str, str] = {
    "accelerator": "hw_id",
    "cpu": "hw_id",
    "host": "hw_id",
    "deployment": "deployment",
    "probe": "probe",
}
"""Family to the label that holds the key; the same on all series of an entity, so that they can be joined."""

HOST = "host"
PARENT = "parent"
LABEL_PREFIX = "label_"
"""Before the labels of an entity, whose names are anyone's, so that none can pass for one of the page's own."""

_LABEL = re.compile(r"[a-zA-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class Exposed:
    """The series of one metric: its name, and the labels that tell it from others of that name."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ", ".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}}" if labels else self.name


_GPU, _CPU = {"hw_type": "gpu"}, {"hw_type": "cpu"}
_CONVENTIONS: Mapping[tuple[str, str], Exposed] = {
    ("accelerator", "utilization_ratio"): Exposed("hw_gpu_utilization_ratio", {"hw_gpu_task": "general"}),
    ("accelerator", "encoder_ratio"): Exposed("hw_gpu_utilization_ratio", {"hw_gpu_task": "encoder"}),
    ("accelerator", "decoder_ratio"): Exposed("hw_gpu_utilization_ratio", {"hw_gpu_task": "decoder"}),
    ("accelerator", "memory_used_bytes"): Exposed("hw_gpu_memory_usage_bytes"),
    ("accelerator", "memory_total_bytes"): Exposed("hw_gpu_memory_limit_bytes"),
    ("accelerator", "power_watts"): Exposed("hw_power_watts", _GPU),
    ("accelerator", "energy_joules_total"): Exposed("hw_energy_joules_total", _GPU),
    ("accelerator", "temperature_celsius"): Exposed("hw_temperature_celsius", _GPU),
    ("cpu", "power_watts"): Exposed("hw_power_watts", _CPU),
    ("cpu", "energy_joules_total"): Exposed("hw_energy_joules_total", _CPU),
    ("cpu", "temperature_celsius"): Exposed("hw_temperature_celsius", _CPU),
    ("host", "node_power_watts"): Exposed("hw_host_power_watts"),
}


def exposed(metric: Metric) -> Exposed:
    """How a metric appears on the page."""
    convention = _CONVENTIONS.get((metric.family, metric.name))
    return convention or Exposed(f"vatio_{metric.family}_{metric.name}")


LATENCIES: Mapping[Latency, str] = {kind: f"vatio_latency_{kind}_seconds" for kind in Latency} | {
    Latency.TTFT: "gen_ai_server_time_to_first_token_seconds",
    Latency.TPOT: "gen_ai_server_time_per_output_token_seconds",
    Latency.E2E: "gen_ai_server_request_duration_seconds",
}
"""Kind of latency to the name of its histogram."""


@dataclass(frozen=True, slots=True)
class Series:
    """One name of the page: its type in the exposition format and what it means."""

    name: str
    type: str
    help: str


INFO: Mapping[str, Series] = {
    family: Series(f"vatio_{family}_info", "gauge", f"Each {family} that there is: its host and its labels.")
    for family in FAMILIES
}
ASSIGNMENT = Series("vatio_assignment_info", "gauge", "What a deployment runs on, and how that is known.")
PROCESS = Series("vatio_device_process_info", "gauge", "A process that holds memory on an accelerator.")
PROCESS_MEMORY = Series("vatio_device_process_memory_bytes", "gauge", "Device memory that a process holds.")
USER = Series("vatio_device_user_info", "gauge", "Who an accelerator is given to; no labels: nobody.")
PROBE_RESULT = Series("vatio_probe_result_info", "gauge", "How the last request of a probe ended.")
EVENTS = Series("vatio_events_total", "counter", "Events since the daemon began.")
BUILD = Series("vatio_build_info", "gauge", "The release, and the revision of its tables.")
COLLECTOR_SUCCESS = Series("vatio_collector_success", "gauge", "Whether the last tick went well (1) or failed (0).")
COLLECTOR_DURATION = Series("vatio_collector_duration_seconds", "gauge", "How long the last tick took.")
COLLECTOR_MISSED = Series("vatio_collector_ticks_missed_total", "counter", "Ticks skipped since the daemon began.")
OWN: tuple[Series, ...] = (
    *(ASSIGNMENT, PROCESS, PROCESS_MEMORY, USER, PROBE_RESULT, EVENTS),
    *(COLLECTOR_SUCCESS, COLLECTOR_DURATION, COLLECTOR_MISSED, BUILD),
)
"""What the page tells besides metrics, latencies and descriptions."""


def _metrics_by_name() -> dict[str, list[Metric]]:
    by_name: dict[str, list[Metric]] = {}
    for family in FAMILIES.values():
        for metric in family.metrics:
            by_name.setdefault(exposed(metric).name, []).append(metric)
    return by_name


METRICS: Mapping[str, list[Metric]] = _metrics_by_name()
"""Name of a series to the metrics that share it."""


def described(name: str) -> Series:
    """Type and help of a name in ``METRICS``; where several metrics share it, what it is for each."""
    metrics = METRICS[name]
    type_ = "counter" if metrics[0].kind is Kind.COUNTER else "gauge"
    if len(metrics) == 1:
        return Series(name, type_, metrics[0].help)
    return Series(name, type_, " ".join(f"{one.family} {one.title}: {one.help}" for one in metrics))


def metric_of(name: str, labels: Mapping[str, str]) -> Metric | None:
    """The metric that a series of the page shows; ``None`` where it is none of the catalog's."""
    for metric in METRICS.get(name, ()):
        if all(labels.get(label) == value for label, value in exposed(metric).labels.items()):
            return metric
    return None


def labels_shown(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """An entity's labels as the page names them; one whose name no series can carry is left out."""
    for name, value in labels.items():
        if _LABEL.fullmatch(name):
            yield LABEL_PREFIX + name, value


def labels_read(labels: Mapping[str, str]) -> dict[str, str]:
    """The way back from ``labels_shown``, given all labels of a series."""
    return {name.removeprefix(LABEL_PREFIX): value for name, value in labels.items() if name.startswith(LABEL_PREFIX)}
