"""NVIDIA's dcgm-exporter: figures read off the pages by a person, and every trap of them."""

from __future__ import annotations

import pytest

from collectors.sources.exporters.dcgm import DCGM
from core.readings import AcceleratorSample, DeviceUser, Event, Severity, Throttle
from tests.collectors.exporters.pages import HOST, Watched, dialect_of, entities, looked, of, values, written

MIB = 1 << 20
BUSY, IDLE = "GPU-6f1d2c3b-0a4e-4b7f-9c55-2f0de1a7c901", "GPU-91e8b0d4-77c2-4f60-8a13-5b9d4c2e6f02"
CUT, UNCUT = "GPU-3c0f9a71-5d28-4e16-b1c4-7788e0a95d33", "GPU-8d41b6ce-2b90-4c07-a6ab-1f3c5e7092d4"
T4 = "GPU-07aa51be-9d30-46b2-8f7e-c2d1e4b3a605"


def test_every_figure_of_a_busy_h100():
    assert dialect_of(written("dcgm-h100")) is DCGM
    assert values(looked(written("dcgm-h100")), BUSY) == {
        "utilization_ratio": 0.98,
        "memory_activity_ratio": 0.47,
        "sm_active_ratio": 0.7134,
        "sm_occupancy_ratio": 0.25,
        "tensor_active_ratio": 0.4025,
        "dram_active_ratio": 0.375,
        "encoder_ratio": 0.0,
        "decoder_ratio": 0.12,
        "memory_used_bytes": 71_678 * MIB,
        "memory_total_bytes": 81_559 * MIB,
        "power_watts": 655.317,
        "power_limit_watts": 700.0,
        "energy_joules_total": pytest.approx(8_123_456_789.012),
        "temperature_celsius": 62.0,
        "memory_temperature_celsius": 71.0,
        "core_clock_hertz": 1_755e6,
        "memory_clock_hertz": 2_619e6,
        "performance_state": 0,
        "throttle_reasons": int(Throttle.POWER_CAP),
        "throttle_power_seconds_total": 9.5,
        "throttle_thermal_seconds_total": 0.25,
        "ecc_corrected_errors_total": 5,
        "ecc_uncorrected_errors_total": 0,
        "remapped_rows_total": 3,
        "row_remap_state": 1,  # a reset is pending, nothing failed
        "pcie_rx_bytes_per_second": 64e9,
        "pcie_tx_bytes_per_second": 1.25e9,  # a rate, though the page calls it a counter
        "pcie_generation": 5,
        "pcie_lanes": 16,
        "pcie_replays_total": 3,
    }


def test_what_is_blank_is_unknown_and_what_is_zero_is_zero():
    idle = values(looked(written("dcgm-h100")), IDLE)
    assert {
        *("memory_temperature_celsius", "power_limit_watts", "ecc_corrected_errors_total", "sm_active_ratio"),
        "throttle_power_seconds_total",
    }.isdisjoint(idle)
    assert idle["utilization_ratio"] == 0.0
    assert idle["pcie_replays_total"] == 0
    assert idle["power_watts"] == 71.204


@pytest.mark.parametrize("blank", ["2147483632", "2147483647", "9223372036854775794", "1.8446744073709552e+19", "NaN"])
@pytest.mark.parametrize(
    ("series", "metric"),
    [
        ("DEV_GPU_UTIL", "utilization_ratio"),
        ("DEV_GPU_TEMP", "temperature_celsius"),
        ("DEV_POWER_USAGE", "power_watts"),
        ("DEV_SM_CLOCK", "core_clock_hertz"),
        ("PROF_DRAM_ACTIVE", "dram_active_ratio"),
        ("DEV_PCIE_REPLAY_COUNTER", "pcie_replays_total"),
    ],
)
def test_dcgm_has_many_ways_to_say_nothing(series: str, metric: str, blank: str):
    text = "".join(
        line.rpartition(" ")[0] + f" {blank}\n" if line.startswith(f"DCGM_FI_{series}{{") else line
        for line in written("dcgm-t4-2021").splitlines(keepends=True) + written("dcgm-h100").splitlines(keepends=True)
    )
    expected = {"utilization_ratio": 0.981254}.get(metric)  # else the profiler tells
    assert values(looked(text), BUSY).get(metric) == expected


def test_a_blank_part_of_the_memory_is_not_added():
    text = written("dcgm-h100").replace("} 500\n", "} 2147483632\n")
    assert values(looked(text), BUSY)["memory_total_bytes"] == (71_678 + 9_381) * MIB


def test_who_a_gpu_is():
    entity = entities(looked(written("dcgm-h100")))[BUSY]
    assert (entity.host, entity.parent_key) == ("gpu-a1", None)
    assert entity.labels == {
        "vendor": "NVIDIA",
        "model": "NVIDIA H100 80GB HBM3",
        "index": "0",
        "pci": "0000:1b:00.0",
        "driver": "570.86.15",
    }


def test_an_old_release_in_a_container():
    """No PCI address, a container's id for a host name, microseconds, no memory sensor."""
    readings = looked(written("dcgm-t4-2021"))
    assert entities(readings)[T4].host == HOST
    assert entities(readings)[T4].labels == {"vendor": "NVIDIA", "model": "Tesla T4", "index": "0"}
    t4 = values(readings, T4)
    assert t4["throttle_power_seconds_total"] == 1.5
    assert t4["memory_total_bytes"] == 15_109 * MIB
    assert t4["energy_joules_total"] == 55_500.25
    assert "memory_temperature_celsius" not in t4


def test_without_a_word_on_their_unit_violations_are_unknown():
    text = "\n".join(line for line in written("dcgm-h100").splitlines() if not line.startswith("#"))
    assert "throttle_power_seconds_total" not in values(looked(text), BUSY)


# --- MIG ---


def test_what_belongs_to_the_whole_gpu_is_taken_once():
    readings = looked(written("dcgm-a100-mig"))
    assert values(readings, CUT) == {
        "power_watts": 204.1,  # the largest of three repetitions
        "energy_joules_total": 77_000_123.456,
        "temperature_celsius": 48.0,
        "memory_temperature_celsius": 55.0,
        "core_clock_hertz": 1_410e6,
        "memory_clock_hertz": 1_593e6,
    }
    assert sum(sample.power_watts or 0.0 for sample in of(AcceleratorSample, readings)) == pytest.approx(204.1 + 58.0)


def test_what_an_instance_has_of_its_own():
    readings = looked(written("dcgm-a100-mig"))
    assert values(readings, f"{CUT}/1") == {
        "utilization_ratio": 0.9,
        "tensor_active_ratio": 0.5,
        "dram_active_ratio": 0.31,
        "memory_used_bytes": 30_000 * MIB,
        "memory_total_bytes": 40_192 * MIB,
    }
    entity = entities(readings)[f"{CUT}/13"]
    assert (entity.parent_key, entity.host) == (CUT, "gpu-b7")  # the label is "hostname" now
    assert entity.labels == {
        "vendor": "NVIDIA",
        "model": "NVIDIA A100-SXM4-80GB",
        "driver": "535.161.08",
        "index": "2:13",
        "profile": "1g.10gb",
        "gpu_instance": "13",
    }
    assert entities(readings)[CUT].labels["mig"] == "3 instances"
    assert "mig" not in entities(readings)[UNCUT].labels
    assert set(entities(readings)) == {CUT, f"{CUT}/1", f"{CUT}/5", f"{CUT}/13", UNCUT}


# --- users ---


def test_kubernetes_says_who_a_gpu_is_given_to():
    users = {user.key: dict(user.labels) for user in of(DeviceUser, looked(written("dcgm-h100")))}
    assert users == {BUSY: {"namespace": "llm", "pod": "chat-70b-0", "container": "server"}, IDLE: {}}
    pods = {user.key: user.labels.get("pod") for user in of(DeviceUser, looked(written("dcgm-a100-mig")))}
    assert pods == {CUT: None, UNCUT: None, f"{CUT}/1": "embed-0", f"{CUT}/5": None, f"{CUT}/13": "rerank-3"}


def test_an_exporter_that_knows_of_no_scheduler_says_nothing_about_users():
    assert of(DeviceUser, looked(written("dcgm-t4-2021"))) == []


def test_once_a_user_was_told_nobody_is_told_too():
    text = written("dcgm-h100")
    watched = Watched(DCGM)
    watched.look(text)
    gone = watched.look(text.replace('container="server",namespace="llm",pod="chat-70b-0"', 'container=""'))
    assert [user.labels for user in of(DeviceUser, gone)] == [{}, {}]


def test_old_label_names_slurm_and_several_pods_on_one_gpu():
    base = written("dcgm-h100")
    old = base.replace('container="server",namespace="llm",pod="chat-70b-0"', 'pod_name="a-1",pod_namespace="n"')
    assert of(DeviceUser, looked(old))[0].labels == {"namespace": "n", "pod": "a-1"}
    slurm = base.replace('container="server",namespace="llm",pod="chat-70b-0"', 'hpc_job="4711"')
    assert of(DeviceUser, looked(slurm))[0].labels == {"job": "4711"}
    shared = base + "".join(
        line.replace("chat-70b-0", "chat-8b-0") + "\n"
        for line in base.splitlines()
        if line.startswith("DCGM_FI_DEV_GPU_UTIL{")
    )
    pods = [user.labels["pod"] for user in of(DeviceUser, looked(shared)) if user.key == BUSY]
    assert pods == ["chat-70b-0", "chat-8b-0"]


def test_prometheus_own_labels_are_not_the_users():
    plain = written("dcgm-h100")
    own = 'container="exporter",namespace="monitoring",pod="dcgm-exporter-x7k2p",job="dcgm"'
    handed_on = plain.replace("container=", "exported_container=").replace("namespace=", "exported_namespace=")
    handed_on = handed_on.replace("pod=", "exported_pod=").replace("gpu=", f"{own},gpu=")
    users = {user.key: dict(user.labels) for user in of(DeviceUser, looked(handed_on, federated=True))}
    assert users == {BUSY: {"namespace": "llm", "pod": "chat-70b-0", "container": "server"}, IDLE: {}}
    idle = written("dcgm-t4-2021").replace("gpu=", f"{own},gpu=")
    assert of(DeviceUser, looked(idle, federated=True)) == []


# --- from one look to the next ---


def test_an_xid_is_an_event_when_it_changes_and_not_at_first_sight():
    text = written("dcgm-h100")
    line = next(line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_XID_ERRORS{") and IDLE in line)
    watched = Watched(DCGM)
    assert of(Event, watched.look(text)) == []  # 31 is there since who knows when
    assert of(Event, watched.look(text)) == []
    (event,) = of(Event, watched.look(text.replace(line, line.replace(" 31", " 79"))))
    assert (event.key, event.code, event.severity, event.kind) == (IDLE, 79, Severity.CRITICAL, "xid")
    assert event.message == "XID 79: the GPU fell off the bus"
    (event,) = of(Event, watched.look(text))
    assert event.code == 31


def test_newer_releases_have_a_series_for_each_xid():
    text = written("dcgm-h100")
    line = next(line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_XID_ERRORS{") and IDLE in line)
    more = line.replace(" 31", " 94").replace("gpu=", 'err_code="94",err_msg="Contained, \\"bad\\" {ECC}",gpu=')
    watched = Watched(DCGM)
    watched.look(text)
    assert [event.code for event in of(Event, watched.look(f"{text}{more}\n"))] == [94]
    assert of(Event, watched.look(f"{text}{more}\n")) == []


def test_an_xid_on_instances_is_one_event_of_the_gpu():
    text = written("dcgm-a100-mig")
    watched = Watched(DCGM)
    watched.look(text)
    bad = "\n".join(
        line[:-1] + "48" if line.startswith("DCGM_FI_DEV_XID_ERRORS{") else line for line in text.splitlines()
    )
    assert [(event.key, event.code) for event in of(Event, watched.look(bad))] == [(CUT, 48)]


def test_a_page_that_repeats_itself_does_not_say_that_no_energy_was_used():
    text = written("dcgm-h100")
    watched = Watched(DCGM)
    first = values(watched.look(text), BUSY)["energy_joules_total"]
    again = values(watched.look(text), BUSY)
    assert "energy_joules_total" not in again  # the exporter has not looked since
    assert again["power_watts"] == 655.317
    later = values(watched.look(text.replace(" 8123456789012", " 8123476789012")), BUSY)
    assert later["energy_joules_total"] - first == pytest.approx(20_000)


def test_an_energy_counter_that_starts_again_is_passed_on_and_a_jitter_held():
    text = written("dcgm-h100")
    watched = Watched(DCGM)
    first = values(watched.look(text), BUSY)["energy_joules_total"]
    assert values(watched.look(text.replace(" 8123456789012", " 8123456700000")), BUSY)["energy_joules_total"] == first
    assert values(watched.look(text.replace(" 8123456789012", " 5000")), BUSY)["energy_joules_total"] == 5.0


# --- hostile and incomplete pages ---


def test_zeros_for_a_uuid_are_nobodys_and_fields_may_be_missing():
    text = 'DCGM_FI_DEV_POWER_USAGE{gpu="4",UUID="GPU-00000000-0000-0000-0000-000000000000",Hostname="n1"} 100\n'
    assert values(looked(text), "n1/gpu 4") == {"power_watts": 100.0}
    assert looked("DCGM_FI_DEV_POWER_USAGE 100\n") == []


def test_types_do_not_matter_but_names_do():
    text = written("dcgm-h100")
    wrong = "".join(
        f"{line.rpartition(' ')[0]} {'gauge' if line.endswith('counter') else 'counter'}\n"
        if line.startswith("# TYPE")
        else f"{line}\n"
        for line in text.splitlines()
    )
    assert looked(wrong) == looked(text)


def test_label_values_are_tidied():
    nasty = r"a\nb\"<script>\\ {x=\"1\"}," + "y" * 5000
    text = written("dcgm-h100").replace("NVIDIA H100 80GB HBM3", nasty)
    model = entities(looked(text))[BUSY].labels["model"]
    assert model.startswith('ab"<script>\\ {x="1"},yyy')
    assert len(model) == 200
