"""Kepler and omnistat: figures read off the pages by a person."""

from __future__ import annotations

import re

from collectors.sources.exporters.kepler import KEPLER
from collectors.sources.exporters.omnistat import OMNISTAT
from core.readings import CpuSample
from tests.collectors.exporters.pages import HOST, Watched, dialect_of, entities, looked, of, values, written

GPU = "GPU-b0a1c2d3-1111-4222-8333-444455556666"


def test_every_figure_of_kepler():
    assert dialect_of(written("kepler")) is KEPLER
    readings = looked(written("kepler"))
    assert values(readings, "cpu-21/socket 0") == {
        "utilization_ratio": 0.375,
        "power_watts": 214.5,
        "energy_joules_total": 123_456.75,
        "dram_energy_joules_total": 23_456.5,
    }
    assert values(readings, GPU) == {"power_watts": 410.0, "energy_joules_total": 5_000.5}
    assert values(readings, "cpu-21") == {"node_power_watts": 1_480.0}
    assert entities(readings)[GPU].labels == {"vendor": "NVIDIA", "model": "NVIDIA H200", "index": "0"}
    assert {entity.host for entity in entities(readings).values()} == {"cpu-21"}


def test_packages_that_kepler_adds_up_are_no_sockets():
    text = written("kepler").replace('physical_id="0",processor="1"', 'physical_id="1",processor="1"')
    assert [sample.key for sample in of(CpuSample, looked(text))] == ["cpu-21/all sockets"]


def test_packages_that_kepler_tells_apart_are_sockets():
    text = written("kepler").replace('zone="package"', 'zone="package-1"')
    assert [sample.key for sample in of(CpuSample, looked(text))] == ["cpu-21/socket 1"]


def test_of_two_figures_of_the_bmc_that_say_nothing_none_is_the_machines():
    text = written("kepler").replace("Server Power Control", "PC1")
    assert "cpu-21" not in entities(looked(text))
    alone = "\n".join(line for line in text.splitlines() if "Sub-system" not in line) + "\n"
    assert values(looked(alone), "cpu-21") == {"node_power_watts": 1_480.0}


def test_every_figure_of_omnistat():
    assert dialect_of(written("omnistat")) is OMNISTAT
    readings = looked(written("omnistat"))
    assert values(readings, f"{HOST}/card 0") == {
        "utilization_ratio": 0.88,
        "memory_used_bytes": 32 << 30,
        "memory_total_bytes": 128 << 30,
        "power_watts": 512.0,
        "energy_joules_total": 1_234_567.5,
        "temperature_celsius": 71.0,
    }
    assert values(readings, f"{HOST}/card 1") == {"utilization_ratio": 0.0, "power_watts": 140.0}
    assert entities(readings)[f"{HOST}/card 1"].labels == {"vendor": "AMD", "index": "1"}


def test_a_counter_that_stood_still_under_power_is_unknown():
    for page, key in (("kepler", GPU), ("omnistat", f"{HOST}/card 0")):
        text = written(page)
        watched = Watched(dialect_of(text))
        watched.look(text)
        assert "energy_joules_total" not in values(watched.look(text), key)
        moved = re.sub(r"(5000\.5|1234567\.5)$", "1300000", text, flags=re.MULTILINE)
        assert values(watched.look(moved), key)["energy_joules_total"] == 1_300_000
