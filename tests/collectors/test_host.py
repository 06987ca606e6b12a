"""The host source over fake machines: what is counted once, and what stays unknown."""

from types import SimpleNamespace

import psutil
import pytest

from collectors.sources.machine.cgroup import limits
from collectors.sources.machine.host import HostSource
from core.errors import SourceUnavailable
from core.readings import Entity, HostSample
from tests.collectors.machine import Machine, write

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that psutil sees too."""
    fake = Machine(tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(fake.proc))
    fake.cpuinfo(sockets=1, threads=2)
    fake.busy(0, 0)
    meminfo = {"MemTotal": 64, "MemFree": 10, "MemAvailable": 40, "Buffers": 1, "Cached": 20, "Shmem": 0, "Slab": 0}
    meminfo |= {"Active": 0, "Inactive": 0, "SReclaimable": 0, "SwapTotal": 8, "SwapFree": 5}
    write(fake.proc / "meminfo", "\n".join(f"{name}:  {gib * GIB // 1024} kB" for name, gib in meminfo.items()))
    write(fake.proc / "vmstat", "pswpin 1\npswpout 2")
    write(fake.proc / "zoneinfo", "")
    return fake


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests():
    psutil.disk_io_counters.cache_clear()  # type: ignore[attr-defined]
    psutil.net_io_counters.cache_clear()  # type: ignore[attr-defined]


def source_of(machine):
    source = HostSource("node", proc=machine.proc, sys=machine.sys)
    assert source.discover().ok
    return source


def sample_of(source):
    (sample,) = (r for r in source.collect() if isinstance(r, HostSample))
    return sample


def labels_of(source):
    (entity,) = (r for r in source.collect() if isinstance(r, Entity))
    assert (entity.family, entity.key, entity.host) == ("host", "node", "node")
    return entity.labels


def disk_line(name, read_sectors, written_sectors):
    return f" 259 0 {name} 10 0 {read_sectors} 5 20 0 {written_sectors} 7 0 9 12 0 0 0 0 0 0"


def disks(machine, counters, physical):
    write(machine.proc / "diskstats", "\n".join(disk_line(name, *io) for name, io in counters.items()))
    for name in physical:
        write(machine.sys / "block" / name / "device/model", "disk")


def interfaces(machine, counters, physical=(), masters=None):
    lines = [f"{name:>6}: {rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0" for name, (rx, tx) in counters.items()]
    write(machine.proc / "net/dev", "\n".join(["Inter-| Receive | Transmit", " face |bytes ...", *lines]))
    for name in physical:
        write(machine.sys / "class/net" / name / "device/vendor", "0x15b3")
    for name, master in (masters or {}).items():
        (machine.sys / "class/net" / master).mkdir(parents=True, exist_ok=True)
        (machine.sys / "class/net" / name / "master").symlink_to(f"../{master}")


def test_memory_is_total_less_available(machine):
    sample = sample_of(source_of(machine))
    assert sample.memory_total_bytes == 64 * GIB
    assert sample.memory_used_bytes == 24 * GIB
    assert sample.swap_used_bytes == 3 * GIB


def test_cpu_shares_need_two_looks(machine):
    source = source_of(machine)
    assert sample_of(source).cpu_utilization_ratio is None
    machine.stat({0: (30, 0, 10, 40, 20, 0, 0, 0, 0, 0), 1: (0, 0, 0, 100, 0, 0, 0, 0, 0, 0)})
    sample = sample_of(source)
    assert sample.cpu_utilization_ratio == pytest.approx(0.2)
    assert sample.cpu_iowait_ratio == pytest.approx(0.1)


def test_the_source_shares_no_state_with_psutil(machine):
    first, second = source_of(machine), source_of(machine)
    sample_of(first)
    machine.busy(0.5, 0.5, ticks=100)
    psutil.cpu_percent()
    assert sample_of(second).cpu_utilization_ratio is None
    assert sample_of(first).cpu_utilization_ratio == pytest.approx(0.5)


def test_disks_are_counted_once(machine):
    counters = {
        "nvme0n1": (1000, 4000),
        "nvme0n1p1": (600, 4000),
        "sda": (10, 20),
        "md0": (1010, 4020),
        "dm-0": (1000, 4000),
        "loop0": (7, 0),
        "zram0": (5, 5),
    }
    disks(machine, counters, physical=["nvme0n1", "sda"])
    sample = sample_of(source_of(machine))
    assert sample.disk_read_bytes_total == 1010 * 512
    assert sample.disk_written_bytes_total == 4020 * 512


@pytest.mark.parametrize("on_the_disk", [(0, 0), (900, 70)])
def test_a_multipath_disk_is_counted_once_whichever_side_the_kernel_counts(machine, on_the_disk):
    counters = {"nvme0n1": on_the_disk, "nvme0c0n1": (400, 50), "nvme0c1n1": (500, 20), "nvme0n1p1": (3, 3)}
    disks(machine, counters, physical=["nvme0n1", "nvme0c0n1", "nvme0c1n1"])
    sample = sample_of(source_of(machine))
    assert sample.disk_read_bytes_total == 900 * 512
    assert sample.disk_written_bytes_total == 70 * 512


def test_no_physical_disk_in_sight_is_unknown_and_not_zero(machine):
    disks(machine, {"loop0": (7, 0)}, physical=[])
    sample = sample_of(source_of(machine))
    assert sample.disk_read_bytes_total is None
    assert sample.disk_written_bytes_total is None


def test_network_leaves_out_loopback_bridges_and_tunnels(machine):
    counters = {"lo": (9, 9), "eth0": (100, 10), "eth1": (200, 20), "docker0": (50, 5), "veth1a2b": (50, 5)}
    interfaces(machine, counters | {"bond0": (300, 30), "wg0": (1, 1)}, ["eth0", "eth1"], {"eth1": "bond0"})
    sample = sample_of(source_of(machine))
    assert sample.network_rx_bytes_total == 300
    assert sample.network_tx_bytes_total == 30


def test_an_accelerated_cloud_interface_is_counted_by_its_master(machine):
    interfaces(machine, {"eth0": (100, 10), "enP1s1": (95, 9)}, ["eth0", "enP1s1"], {"enP1s1": "eth0"})
    assert sample_of(source_of(machine)).network_rx_bytes_total == 100


def test_inside_a_container_all_interfaces_but_loopback_count(machine):
    interfaces(machine, {"lo": (9, 9), "eth0": (100, 10)})
    assert sample_of(source_of(machine)).network_rx_bytes_total == 100


def test_pressure(machine):
    write(machine.proc / "pressure/cpu", "some avg10=12.50 avg60=1.20 avg300=0.58 total=8106592\nfull avg10=0.00")
    write(machine.proc / "pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0")
    sample = sample_of(source_of(machine))
    assert sample.cpu_pressure_ratio == 0.125
    assert sample.memory_pressure_ratio == 0
    assert sample.io_pressure_ratio is None, "this kernel does not say"


# --- node power -------------------------------------------------------------------------------


def test_the_acpi_meter_is_the_node(machine):
    machine.hwmon(0, "amdgpu", {"power1_average": 300_000_000})
    machine.hwmon(1, "power_meter", {"power1_average": 1_234_000_000, "power1_average_interval": 1000})
    assert sample_of(source_of(machine)).node_power_watts == 1234


def test_a_sensor_labelled_as_the_systems(machine):
    machine.hwmon(0, "ibmpowernv", {"power1_label": "System", "power1_input": 900_000_000})
    machine.hwmon(1, "ibmpowernv", {"power1_label": "Proc 0", "power1_input": 100_000_000})
    assert sample_of(source_of(machine)).node_power_watts == 900


@pytest.mark.parametrize("parts", [["CPU Power Socket 0"], ["Module Power Socket 0", "Grace Power Socket 0"]])
def test_meters_of_parts_are_not_the_node(machine, parts):
    for number, part in enumerate(parts):
        machine.hwmon(number, "power_meter", {"power1_average": 600_000_000, "power1_oem_info": part})
    assert sample_of(source_of(machine)).node_power_watts is None


def test_two_meters_are_not_added_up_nor_chosen_from(machine):
    for number in range(2):
        machine.hwmon(number, "power_meter", {"power1_average": 600_000_000})
    assert sample_of(source_of(machine)).node_power_watts is None


def test_zero_watts_means_not_measured(machine):
    machine.hwmon(0, "power_meter", {"power1_average": 0})
    assert sample_of(source_of(machine)).node_power_watts is None


def test_cray_counters_go_first_and_must_be_fresh(machine):
    machine.hwmon(0, "power_meter", {"power1_average": 0})
    meter = write(machine.sys / "cray/pm_counters/power", "495 W 1784929200356706 us")
    source = source_of(machine)
    assert sample_of(source).node_power_watts == 495
    assert sample_of(source).node_power_watts is None, "the same stamp: the counters stand still"
    write(meter, "510 W 1784929210356706 us")
    assert sample_of(source).node_power_watts == 510


# --- what a person reads ----------------------------------------------------------------------


def test_labels(machine):
    write(machine.sys / "class/dmi/id/sys_vendor", "Supermicro")
    write(machine.sys / "class/dmi/id/product_name", "AS-8125GS-TNMR2")
    source = source_of(machine)
    labels = labels_of(source)
    assert labels["model"] == "Supermicro AS-8125GS-TNMR2"
    assert labels["memory_bytes"] == str(64 * GIB)
    assert labels["booted_at"] == "2025-11-24T16:00:00+00:00"
    assert labels["kernel"]
    assert "container" not in labels
    assert "virtual_machine" not in labels
    assert "allowed_cpus" not in labels
    assert [r for r in source.collect() if isinstance(r, Entity)] == [], "said once"


def test_container_and_virtual_machine_are_told(machine):
    machine.container()
    machine.cpuinfo(sockets=1, threads=2, flags="fpu hypervisor")
    labels = labels_of(source_of(machine))
    assert (labels["container"], labels["virtual_machine"]) == ("yes", "yes")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("self/cgroup", "0::/kubepods.slice/pod1/c1"),
        ("self/mountinfo", "22 1 0:33 / / rw,relatime - overlay overlay rw,lowerdir=/l"),
        ("self/root/run/.containerenv", ""),
    ],
)
def test_signs_of_a_container(machine, file, content):
    write(machine.proc / file, content)
    assert labels_of(source_of(machine))["container"] == "yes"


def test_a_virtual_arm_machine_is_known_by_its_maker(machine):
    write(machine.proc / "cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41")
    write(machine.sys / "class/dmi/id/sys_vendor", "Amazon EC2")
    assert labels_of(source_of(machine))["virtual_machine"] == "yes"


def test_limits_of_control_groups_version_2(machine):
    root = machine.sys / "fs/cgroup"
    write(machine.proc / "self/cgroup", "0::/outer/inner")
    write(root / "outer/cpu.max", "400000 100000")
    write(root / "outer/inner/cpu.max", "max 100000")
    write(root / "outer/memory.max", 32 * GIB)
    write(root / "outer/inner/memory.max", 16 * GIB)
    labels = labels_of(source_of(machine))
    assert labels["allowed_cpus"] == "4", "of the group around it"
    assert labels["allowed_memory_bytes"] == str(16 * GIB), "the tightest"


def test_limits_of_control_groups_version_1(machine):
    root = machine.sys / "fs/cgroup"
    write(machine.proc / "self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc")
    write(root / "memory/memory.limit_in_bytes", 9223372036854771712)
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", -1)
    write(root / "cpu,cpuacct/cpu.cfs_period_us", 100000)
    assert limits(machine.proc, machine.sys) == limits(machine.proc / "none", machine.sys / "none")
    write(root / "memory/docker/abc/memory.limit_in_bytes", 8 * GIB)
    write(root / "cpu,cpuacct/docker/abc/cpu.cfs_quota_us", 250000)
    write(root / "cpu,cpuacct/docker/abc/cpu.cfs_period_us", 100000)
    found = limits(machine.proc, machine.sys)
    assert (found.cpus, found.memory_bytes) == (2.5, 8 * GIB)


# --- when things fail -------------------------------------------------------------------------


def test_one_failing_part_leaves_the_others(machine, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    sample = sample_of(source_of(machine))
    assert sample.memory_used_bytes is None
    assert sample.swap_used_bytes == 3 * GIB
    assert sample.load_1m is not None


def test_nothing_at_all_is_a_source_that_is_gone(machine, monkeypatch):
    source = source_of(machine)
    for part in ("virtual_memory", "swap_memory", "getloadavg", "disk_usage", "disk_io_counters", "net_io_counters"):
        monkeypatch.setattr(psutil, part, lambda *_, **__: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    (machine.proc / "stat").unlink()
    with pytest.raises(SourceUnavailable):
        list(source.collect())
    found = source.discover()
    assert found.ok
    assert "need Linux" in found.reason
    source.close()
    source.close()


def test_the_root_file_system(machine, monkeypatch):
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(used=3, total=10) if path == "/" else None)
    sample = sample_of(source_of(machine))
    assert (sample.disk_used_bytes, sample.disk_total_bytes) == (3, 10)


def test_the_machine_these_tests_run_on():
    source = HostSource("here")
    source.discover()
    sample_of(source)
    sample = sample_of(source)
    assert 0 < sample.memory_used_bytes < sample.memory_total_bytes
    assert sample.load_1m >= 0
