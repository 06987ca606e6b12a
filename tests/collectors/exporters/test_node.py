"""node_exporter: figures read off the pages by a person, what grew between two looks, and the real program."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from collectors.sources.exporters.node import NODE
from collectors.sources.exporters.node_cpu import RAPL_RANGES_JOULES
from collectors.sources.exporters.source import ExportersSource
from core.readings import CpuSample, HostSample, Reading
from core.settings import ExporterTarget
from tests.collectors.exporters.pages import Watched, dialect_of, entities, looked, of, values, written

ONE, TWO = "cpu-07/socket 0", "cpu-07/socket 1"
PROGRAM = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")


def with_values(text: str, **changed: float) -> str:
    """A page with other values of the series whose names (and a part of their labels, after ``__``) are given."""
    for name, value in changed.items():
        series, _, label = name.partition("__")
        pattern = rf"^({series}(?:\{{[^\n]*{label}[^\n]*\}})?) .*$"
        text, count = re.subn(pattern, rf"\g<1> {value!r}", text, flags=re.MULTILINE)
        assert count, name
    return text


def later(text: str, seconds: float, **changed: float) -> str:
    """The page some time later."""
    (now,) = re.findall(r"^node_time_seconds (.*)$", text, re.MULTILINE)
    return with_values(text, node_time_seconds=float(now) + seconds, **changed)


def test_every_figure_of_a_host():
    assert dialect_of(written("node-two-sockets")) is NODE
    assert values(looked(written("node-two-sockets")), "cpu-07") == {
        "load_1m": 12.5,
        "memory_used_bytes": 811_270_144_000 - 600_000_000_000,
        "memory_total_bytes": 811_270_144_000,
        "swap_used_bytes": 0,
        "disk_used_bytes": 750_000_000_000,
        "disk_total_bytes": 1_000_000_000_000,
        "disk_read_bytes_total": 95_000.0,  # two disks; no partition, nothing stacked
        "disk_written_bytes_total": 4_700.0,
        "network_rx_bytes_total": 3_000.0,  # two ports; neither their bond, nor a VLAN, a bridge or a container
        "network_tx_bytes_total": 300.0,
        "node_power_watts": 840.0,
    }


def test_who_the_host_is():
    entity = entities(looked(written("node-two-sockets")))["cpu-07"]
    assert entity.labels == {
        "hostname": "cpu-07",
        "os": "Ubuntu 24.04.1 LTS",
        "kernel": "6.8.0-45-generic",
        "architecture": "x86_64",
        "model": "Supermicro AS-2125HS-TNR",
        "cpus": "4",
        "memory_bytes": "811270144000",
        "booted_at": "2025-09-27T19:08:20+00:00",
    }


def test_every_figure_of_a_socket():
    readings = looked(written("node-two-sockets"))
    assert values(readings, ONE) == {
        "energy_joules_total": 0.0,  # counted from the first look
        "temperature_celsius": 61.5,
        "frequency_hertz": 2.45e9,
    }
    assert values(readings, TWO) == {
        "energy_joules_total": 0.0,
        "dram_energy_joules_total": 0.0,  # by its path, below the second package
        "temperature_celsius": 58.25,
        "frequency_hertz": pytest.approx(2.65e9),
    }
    labels = entities(readings)[TWO].labels
    assert labels["model"] == "AMD EPYC 9654 96-Core Processor"
    assert (labels["vendor"], labels["cores"], labels["threads"], labels["energy_source"]) == ("AMD", "2", "2", "RAPL")
    assert (labels["model_known"], labels["tdp_watts"]) == ("EPYC 9654", "360")


def test_shares_of_time_are_what_grew():
    text = written("node-two-sockets")
    watched = Watched(NODE)
    watched.look(text)
    after = later(
        text,
        10,
        **{
            'node_cpu_seconds_total__cpu="0",mode="user"': 508.0,
            'node_cpu_seconds_total__cpu="0",mode="idle"': 1002.0,
            'node_cpu_seconds_total__cpu="1",mode="idle"': 1010.0,
            'node_cpu_seconds_total__cpu="2",mode="iowait"': 15.0,
            'node_cpu_seconds_total__cpu="2",mode="idle"': 1005.0,
            'node_cpu_seconds_total__cpu="3",mode="idle"': 1010.0,
        },
        node_pressure_cpu_waiting_seconds_total=101.5,
    )
    readings = watched.look(after)
    host = values(readings, "cpu-07")
    assert (host["cpu_utilization_ratio"], host["cpu_iowait_ratio"]) == (0.2, 0.125)
    assert host["cpu_pressure_ratio"] == 0.15
    assert host["io_pressure_ratio"] == 0.0
    assert values(readings, ONE)["utilization_ratio"] == 0.4
    assert values(readings, TWO)["utilization_ratio"] == 0.0


def rapl(first: float, second: float) -> dict[str, float]:
    return {'node_rapl_package_joules_total__index="0"': first, 'node_rapl_package_joules_total__index="1"': second}


def test_energy_over_the_end_of_its_range():
    text = written("node-two-sockets")  # 65,000.5 and 1,000.25 J
    watched = Watched(NODE)
    watched.look(text)
    readings = watched.look(later(text, 10, **rapl(2_467.889013, 3_500.25)))
    assert values(readings, ONE)["energy_joules_total"] == pytest.approx(3_000)
    assert values(readings, ONE)["power_watts"] == pytest.approx(300)
    assert (values(readings, TWO)["energy_joules_total"], values(readings, TWO)["power_watts"]) == (2_500, 250)
    readings = watched.look(later(text, 20, **rapl(5_467.889013, 3_500.25)))
    assert values(readings, ONE)["energy_joules_total"] == pytest.approx(6_000)
    assert values(readings, TWO)["power_watts"] == 0


def test_the_longer_range_is_known_by_the_value():
    text = with_values(written("node-two-sockets"), **rapl(RAPL_RANGES_JOULES[1] - 1_000, 0.0))
    watched = Watched(NODE)
    watched.look(text)
    assert values(watched.look(later(text, 10, **rapl(500.0, 0.0))), ONE)["power_watts"] == pytest.approx(150)


@pytest.mark.parametrize(
    ("seconds", "first"),
    [
        (10, 90_000.0),  # more than any socket draws
        (10, 64_000.0),  # a step back that no range explains
        (80, 65_500.0),  # so long that a range may have been passed unseen
        (-5, 65_100.0),  # the clock was set back
    ],
)
def test_what_cannot_be_told_begins_again_at_zero(seconds: float, first: float):
    text = written("node-two-sockets")
    watched = Watched(NODE)
    watched.look(text)
    watched.look(later(text, 10, **rapl(65_400.5, 1_100.25)))
    socket_one = values(watched.look(later(text, 10 + seconds, **rapl(first, 1_200.25))), ONE)
    assert socket_one["energy_joules_total"] == 0.0
    assert "power_watts" not in socket_one


def test_a_machine_that_was_started_anew_is_not_counted_from():
    text = written("node-two-sockets")
    watched = Watched(NODE)
    watched.look(text)
    readings = watched.look(later(text, 60, node_boot_time_seconds=1_760_000_130.0, **rapl(600.0, 600.0)))
    assert "cpu_utilization_ratio" not in values(readings, "cpu-07")
    assert "power_watts" not in values(readings, ONE)


def test_the_same_page_again_says_the_same_again():
    watched = Watched(NODE)
    text = written("node-two-sockets")
    watched.look(text)
    busy = watched.look(later(text, 10, **rapl(65_400.5, 1_100.25)))
    assert watched.look(later(text, 10, **rapl(65_400.5, 1_100.25))) == busy


def test_mmio_zones_count_the_same_energy_again():
    text = written("node-two-sockets")
    text += 'node_rapl_package_joules_total{index="0",path="/sys/class/powercap/intel-rapl-mmio:0"} 7\n'
    watched = Watched(NODE)
    watched.look(text)
    readings = watched.look(later(text, 10, **rapl(65_400.5, 1_100.25)))
    assert values(readings, ONE)["power_watts"] == pytest.approx(40)


def test_two_dies_of_one_package_are_one_socket():
    text = written("node-vm")
    for die, joules in ((0, 100.0), (1, 200.0)):
        text += f'node_rapl_package_0_die_joules_total{{index="{die}"}} {joules}\n'
    watched = Watched(NODE)
    watched.look(text)
    changed = later(text, 10, **{'node_rapl_package_0_die_joules_total__index="0"': 1_100.0})
    assert values(watched.look(changed), "edge-3/socket 0")["power_watts"] == 100


def test_a_virtual_machine_without_energy_is_one_socket():
    text = written("node-vm")
    watched = Watched(NODE)
    first = watched.look(text)
    assert values(first, "edge-3/socket 0") == {}
    assert entities(first)["edge-3/socket 0"].labels == {}
    after = later(
        text,
        10,
        **{
            'node_cpu_seconds_total__cpu="0",mode="user"': 9.0,
            'node_cpu_seconds_total__cpu="0",mode="idle"': 95.0,
            'node_cpu_seconds_total__cpu="1",mode="idle"': 100.0,
        },
    )
    readings = watched.look(after)
    assert values(readings, "edge-3/socket 0") == {"utilization_ratio": 0.25}
    assert values(readings, "edge-3")["cpu_utilization_ratio"] == 0.25
    assert "node_power_watts" not in values(readings, "edge-3")


def test_sockets_whose_cpus_nobody_tells_have_no_utilization():
    """Without ``--collector.cpu.info`` energy still tells that there are two."""
    text = "\n".join(line for line in written("node-two-sockets").splitlines() if "node_cpu_info" not in line) + "\n"
    watched = Watched(NODE)
    watched.look(text)
    readings = watched.look(later(text, 10, **{'node_cpu_seconds_total__cpu="0",mode="user"': 510.0}))
    assert {sample.key for sample in of(CpuSample, readings)} == {ONE, TWO}
    assert {"utilization_ratio", "frequency_hertz"}.isdisjoint(values(readings, ONE))
    assert values(readings, "cpu-07")["cpu_utilization_ratio"] == 1.0


def test_intel_names_its_package_sensors():
    text = written("node-vm")
    for number, celsius in ((0, 71.0), (1, 66.0)):
        chip = f"platform_coretemp_{number}"
        text += f'node_hwmon_temp_celsius{{chip="{chip}",sensor="temp1"}} {celsius}\n'
        text += f'node_hwmon_temp_celsius{{chip="{chip}",sensor="temp2"}} 99\n'
        text += f'node_hwmon_sensor_label{{chip="{chip}",label="Package id {number}",sensor="temp1"}} 1\n'
        text += f'node_hwmon_sensor_label{{chip="{chip}",label="Core 0",sensor="temp2"}} 1\n'
    readings = looked(text)
    assert values(readings, "edge-3/socket 0") == {"temperature_celsius": 71.0}
    assert values(readings, "edge-3/socket 1") == {"temperature_celsius": 66.0}


@pytest.mark.parametrize(
    "meter",
    [
        'node_hwmon_power_average_watt{chip="other",sensor="power1"} 300\n',  # nobody says what it measures
        'node_hwmon_power_average_watt{chip="acpi",sensor="power1"} 300\n'
        'node_hwmon_chip_names{chip="acpi",chip_name="power_meter"} 1\n'
        'node_hwmon_sensor_label{chip="acpi",label="CPU Power Socket 0",sensor="power1"} 1\n',
        'node_hwmon_power_average_watt{chip="acpi",sensor="power1"} 0\n'
        'node_hwmon_chip_names{chip="acpi",chip_name="power_meter"} 1\n',
    ],
)
def test_only_a_meter_of_the_whole_machine_is_its_power(meter: str):
    assert "node_power_watts" not in values(looked(written("node-vm") + meter), "edge-3")


def test_in_a_container_all_interfaces_count():
    text = written("node-vm").replace('device="eth0"', 'device="veth7"')
    assert values(looked(text), "edge-3")["network_rx_bytes_total"] == 3_000


@pytest.mark.parametrize("bad", ["NaN", "-1", "+Inf", "1e400"])
def test_impossible_figures_are_unknown(bad: str):
    text = re.sub(
        r"^(node_(?!exporter|uname|time|boot)\w+(?:\{.*\})?) .*$",
        rf"\1 {bad}",
        written("node-two-sockets"),
        flags=re.MULTILINE,
    )
    readings = looked(text)
    assert of(HostSample, readings) == []
    assert values(readings, ONE) == {}


@pytest.fixture
def real_exporter() -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("needs node_exporter (Debian: apt install prometheus-node-exporter)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [
            PROGRAM,
            f"--web.listen-address={address}",
            "--collector.disable-defaults",
            "--collector.cpu",
            "--collector.cpu.info",
            "--collector.meminfo",
            "--collector.loadavg",
            "--collector.filesystem",
            "--collector.diskstats",
            "--collector.netdev",
            "--collector.uname",
            "--collector.time",
            "--collector.stat",
            "--collector.pressure",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        host, _, port = address.partition(":")
        for _ in range(100):
            with socket.socket() as probe:
                if not probe.connect_ex((host, int(port))):
                    break
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def test_a_real_node_exporter_agrees_with_the_host_source(real_exporter: str):
    source = ExportersSource(
        "hub", targets=(ExporterTarget(url=real_exporter),), file_sd=(), max_body_bytes=16 << 20, deadline_seconds=5
    )
    assert source.discover().entities == (f"node_exporter at {real_exporter}",)
    first: list[Reading] = source.collect()
    time.sleep(0.3)
    second = source.collect()
    source.close()
    (host,) = of(HostSample, second)
    memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
    assert host.memory_total_bytes == memory.total
    assert host.memory_used_bytes == pytest.approx(memory.total - memory.available, rel=0.2, abs=256 << 20)
    assert host.disk_total_bytes == disk.total
    assert host.disk_used_bytes == pytest.approx(disk.used, rel=0.05)
    assert 0 <= host.cpu_utilization_ratio <= 1
    assert host.load_1m >= 0
    sockets = of(CpuSample, second)
    assert [sample.key for sample in sockets] == [sample.key for sample in of(CpuSample, first)]
    assert all(0 <= sample.utilization_ratio <= 1 for sample in sockets)
    (entity,) = (entity for entity in entities(first).values() if entity.family == "host")
    assert entity.labels["cpus"] == str(psutil.cpu_count())
