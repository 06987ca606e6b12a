"""Pages recorded from real exporters, where ``VATIO_SAMPLES`` names a folder that holds them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from core.catalog import FAMILIES
from core.hardware.catalogue import match_accelerator
from core.readings import AcceleratorSample, Sample
from tests.collectors.exporters.pages import dialect_of, entities, looked, of, samples, values

FOLDER = os.environ.get("VATIO_SAMPLES")
EXPORTERS = {
    "dcgm": "NVIDIA DCGM exporter",
    "device-metrics-exporter": "AMD device-metrics-exporter",
    "nvidia_gpu_exporter": "nvidia_gpu_exporter",
    "node_exporter": "node_exporter",
}
PAGES = [path for name in EXPORTERS for path in sorted(Path(FOLDER or "/nowhere", name).glob("*.prom"))]
MIB = 1 << 20

pytestmark = pytest.mark.skipif(not PAGES, reason="VATIO_SAMPLES names no folder with pages of exporters")

IDENTITY = {"dcgm": "UUID", "device-metrics-exporter": "gpu_id", "nvidia_gpu_exporter": "uuid"}
"""The label by which a person counts the accelerators of a page."""

READ_OFF: dict[str, dict[str, Any]] = {
    "dcgm-exporter-t4-excerpt": {
        "power_watts": 8.969,
        "energy_joules_total": 128_996.013,
        "memory_total_bytes": 15_109 * MIB,
        "core_clock_hertz": 300e6,
    },
    "docs-excerpt-clock-xgmi": {"core_clock_hertz": 132e6, "memory_clock_hertz": 900e6},
    "nvidia-h100-80gb-hbm3-590.48.01-idle": {"power_watts": 69.85, "memory_used_bytes": 0, "utilization_ratio": 0.0},
    "nvidia-h100-80gb-hbm3-590.48.01-load": {
        "power_watts": 631.95,
        "memory_used_bytes": 20_780_679_168,
        "utilization_ratio": 1.0,
        "memory_activity_ratio": 0.11,
        "processes": 3,
    },
    "nvidia-h100-mig-590.48.01-idle": {
        "power_watts": 71.15,
        "memory_used_bytes": 61_865_984,
        "core_clock_hertz": 345e6,
    },
    "nvidia-h100-mig-590.48.01-load": {"power_watts": 433.78, "temperature_celsius": 53.0, "processes": 3},
    "nvidia-h200-590.48.01-idle": {"power_watts": 77.71, "temperature_celsius": 28.0},
    "nvidia-h200-590.48.01-load": {"power_watts": 627.4, "memory_used_bytes": 33_934_016_512},
    "node_exporter-1.5.0": {
        "load_1m": 1.71,
        "memory_used_bytes": 25_276_502_016 - 24_370_012_160,
        "disk_used_bytes": 270_553_174_016 - 231_696_605_184,
        "disk_written_bytes_total": 17_598_214_144.0,
        "network_rx_bytes_total": 2_785_127_330.0,
    },
    "node_exporter-fixture-rapl-hwmon": {"energy_joules_total": 0.0, "temperature_celsius": 55.0},
}
"""Figures of one thing on each page."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_recorded_page(path: Path):
    text = path.read_text()
    assert dialect_of(text).name == EXPORTERS[path.parent.name]
    readings = looked(text)
    shown = [values(readings, sample.key) for sample in samples(readings)]
    assert any(holds(one, READ_OFF[path.stem]) for one in shown)
    assert lost(path, text, of(AcceleratorSample, readings)) == 0
    for sample in samples(readings):
        check_bounds(sample, entities(readings)[sample.key].labels.get("model", ""))


def holds(shown: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(shown.get(name) == pytest.approx(value, rel=1e-9) for name, value in expected.items())


def lost(path: Path, text: str, seen: list[AcceleratorSample]) -> int:
    """How many accelerators are on the page and not among the samples."""
    label = IDENTITY.get(path.parent.name)
    return len(set(re.findall(rf'[{{,]{label}="([^"]*)"', text))) - len(seen) if label else 0


def check_bounds(sample: Sample, model: str) -> None:
    """No figure is a thousand times too large or small: every unit has its physical bounds."""
    bounds = {"_watts": (1, 1_500), "_celsius": (5, 110), "_hertz": (1e7, 2e10), "_ratio": (0, 1)}
    for metric in FAMILIES[sample.family].metrics:
        value = getattr(sample, metric.name)
        if value is not None and metric.unit.suffix in bounds and "margin" not in metric.name:
            low, high = bounds[metric.unit.suffix]
            assert low <= value <= high, metric.name
    known = match_accelerator(model)
    if isinstance(sample, AcceleratorSample) and known is not None and sample.memory_total_bytes is not None:
        assert sample.memory_total_bytes == pytest.approx(known.memory_bytes, rel=0.15)
