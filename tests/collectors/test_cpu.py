"""The CPU source over fake machines: sockets, shares of time, clocks, sensors, and energy."""

import pytest

from collectors.sources.machine.cpu import CpuSource
from core.errors import SourceUnavailable
from core.readings import CpuSample, Entity
from tests.collectors.machine import UJ, Clock, Machine, write


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def clock():
    return Clock()


def source_of(machine, clock=None):
    return CpuSource("node", proc=machine.proc, sys=machine.sys, powercap_root=machine.powercap, clock=clock or Clock())


def tick(source):
    """The samples of one tick by socket key, and the entities."""
    readings = list(source.collect())
    entities = [r for r in readings if isinstance(r, Entity)]
    return {r.key: r for r in readings if isinstance(r, CpuSample)}, entities


def two_sockets(machine, **cpuinfo):
    machine.cpuinfo(sockets=2, threads=2, **cpuinfo)
    machine.busy(0, 0, 0, 0)


def test_each_socket_has_its_own_utilization(machine):
    two_sockets(machine)
    source = source_of(machine)
    found = source.discover()
    assert found.ok
    assert found.entities == ("node/socket 0", "node/socket 1")
    first, _ = tick(source)
    assert {sample.utilization_ratio for sample in first.values()} == {None}, "one look makes no share"
    machine.busy(1.0, 0.1, 0.5, 0.3, ticks=1000)  # CPUs 0 and 2 sit on socket 0
    second, _ = tick(source)
    assert second["node/socket 0"].utilization_ratio == pytest.approx(0.75)
    assert second["node/socket 1"].utilization_ratio == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("ticks", "share"),
    [
        #  user nice system idle iowait irq softirq steal guest guest_nice
        ((100, 0, 0, 100, 0, 0, 0, 0, 0, 0), 0.5),
        ((100, 0, 0, 100, 0, 0, 0, 0, 100, 0), 0.5),  # guest time is inside user
        ((0, 100, 0, 100, 0, 0, 0, 0, 0, 100), 0.5),  # guest_nice is inside nice
        ((50, 0, 0, 100, 0, 0, 0, 50, 0, 0), 0.5),  # stolen: there was work, so not idle
        ((100, 0, 0, 50, 50, 0, 0, 0, 0, 0), 0.5),  # waiting for a disk is idle
        ((10, 10, 10, 60, 0, 5, 5, 0, 0, 0), 0.4),
        ((0, 0, 0, 100, 0, 0, 0, 0, 0, 0), 0.0),
        ((100, 0, 0, 0, 0, 0, 0, 0, 0, 0), 1.0),
        ((100, 0, 0, 100, -7, 0, 0, 0, 0, 0), 0.5),  # iowait may step back
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0), None),  # no time passed
    ],
)
def test_what_counts_as_time_not_idle(machine, ticks, share):
    machine.cpuinfo(sockets=1, threads=1)
    start = (500, 500, 500, 500, 500, 500, 500, 500, 500, 500)
    machine.stat({0: start})
    source = source_of(machine)
    source.discover()
    tick(source)
    machine.stat({0: tuple(a + b for a, b in zip(start, ticks, strict=True))})
    assert tick(source)[0]["node/socket 0"].utilization_ratio == share


def test_what_a_person_reads_about_a_socket(machine):
    two_sockets(machine)
    source = source_of(machine)
    source.discover()
    _, entities = tick(source)
    assert [entity.key for entity in entities] == ["node/socket 0", "node/socket 1"]
    assert {(entity.family, entity.host) for entity in entities} == {("cpu", "node")}
    labels = entities[0].labels
    assert labels["vendor"] == "AMD"
    assert labels["model"] == "AMD EPYC 9654 96-Core Processor"
    assert labels["model_known"] == "EPYC 9654"
    assert labels["family_code"] == "Genoa"
    assert labels["tdp_watts"] == "360"
    assert labels["tdp_source"]
    assert (labels["cores"], labels["threads"]) == ("96", "2")
    assert labels["cpuid"] == "family 25 model 17 stepping 1"
    assert tick(source)[1] == [], "said once"
    source.discover()
    assert len(tick(source)[1]) == 2, "and again after looking anew"


@pytest.mark.parametrize("name", ["AMD EPYC", "AMD EPYC 9R14 96-Core Processor"])
def test_a_cloud_name_has_no_tdp(machine, name):
    two_sockets(machine, name=name)
    source = source_of(machine)
    source.discover()
    labels = tick(source)[1][0].labels
    assert labels["model"] == name
    assert "model_known" not in labels
    assert "tdp_watts" not in labels


def test_cpus_switched_off_change_the_description_and_not_the_share(machine):
    two_sockets(machine)
    source = source_of(machine)
    source.discover()
    tick(source)
    machine.stat(dict.fromkeys((0, 1, 3), (100, 0, 0, 100, 0, 0, 0, 0, 0, 0)))  # 2 is off
    samples, entities = tick(source)
    assert [(e.key, e.labels["threads"]) for e in entities] == [("node/socket 0", "1")]
    assert samples["node/socket 0"].utilization_ratio is None, "other CPUs than before: no share"
    machine.stat(dict.fromkeys((0, 1, 3), (200, 0, 0, 200, 0, 0, 0, 0, 0, 0)))
    assert tick(source)[0]["node/socket 0"].utilization_ratio == 0.5


def test_without_ids_there_is_one_socket_0(machine):
    machine.cpuinfo(sockets=2, threads=2, physical_id=False)
    machine.busy(0, 0, 0, 0)
    source = source_of(machine)
    assert source.discover().entities == ("node/socket 0",)
    assert list(tick(source)[0]) == ["node/socket 0"]


def test_arm_finds_its_sockets_in_sysfs_and_its_clock_in_cpufreq(machine):
    blocks = [
        f"processor\t: {cpu}\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f"
        for cpu in range(4)
    ]
    write(machine.proc / "cpuinfo", "\n\n".join(blocks))
    for cpu in range(4):
        folder = machine.sys / f"devices/system/cpu/cpu{cpu}"
        write(folder / "topology/physical_package_id", cpu // 2)
        write(folder / "cpufreq/scaling_cur_freq", 3_000_000 + cpu * 100_000)
    machine.busy(0, 0, 0, 0)
    source = source_of(machine)
    assert source.discover().entities == ("node/socket 0", "node/socket 1")
    samples, entities = tick(source)
    assert entities[0].labels == {"vendor": "Arm", "model": "part 0xd4f", "threads": "2"}
    assert samples["node/socket 0"].frequency_hertz == pytest.approx(3.05e9)
    assert samples["node/socket 1"].frequency_hertz == pytest.approx(3.25e9)


def test_a_missing_package_id_is_socket_0(machine):
    write(machine.proc / "cpuinfo", "processor\t: 0\nCPU implementer\t: 0xc0")
    write(machine.sys / "devices/system/cpu/cpu0/topology/physical_package_id", -1)
    machine.busy(0)
    assert source_of(machine).discover().entities == ("node/socket 0",)


def test_the_clock_is_the_mean_of_the_sockets_cpus(machine):
    two_sockets(machine, megahertz=(2400.0, 3000.0, 3600.0, 3700.0))
    source = source_of(machine)
    source.discover()
    samples, _ = tick(source)
    assert samples["node/socket 0"].frequency_hertz == pytest.approx(3.0e9)
    assert samples["node/socket 1"].frequency_hertz == pytest.approx(3.35e9)


def test_a_virtual_machine_has_a_constant_for_a_clock_which_is_no_reading(machine):
    two_sockets(machine, megahertz=(2596.14,) * 4, flags="fpu hypervisor sse2")
    source = source_of(machine)
    found = source.discover()
    samples, entities = tick(source)
    assert samples["node/socket 0"].frequency_hertz is None
    assert entities[0].labels["virtual_machine"] == "yes"
    assert found.ok


def test_intel_package_temperatures(machine):
    two_sockets(machine)
    machine.hwmon(0, "nvme", {"temp1_label": "Composite", "temp1_input": 99000})
    for package, celsius in ((1, 71), (0, 54)):
        files = {"temp1_label": f"Package id {package}", "temp1_input": celsius * 1000}
        machine.hwmon(package + 1, "coretemp", files | {"temp2_label": "Core 0", "temp2_input": 88000})
    source = source_of(machine)
    source.discover()
    samples, _ = tick(source)
    assert samples["node/socket 0"].temperature_celsius == 54
    assert samples["node/socket 1"].temperature_celsius == 71


def test_amd_chips_belong_to_sockets_in_the_order_of_their_pci_addresses(machine):
    two_sockets(machine)
    machine.hwmon(0, "k10temp", {"temp1_label": "Tctl", "temp1_input": 61500}, device="0000:00:19.3")
    machine.hwmon(1, "k10temp", {"temp1_label": "Tctl", "temp1_input": 48250}, device="0000:00:18.3")
    source = source_of(machine)
    source.discover()
    samples, _ = tick(source)
    assert samples["node/socket 0"].temperature_celsius == 48.25
    assert samples["node/socket 1"].temperature_celsius == 61.5


def test_several_chips_per_socket_give_the_hottest_and_tdie_goes_before_tctl(machine):
    two_sockets(machine)
    for node, celsius in enumerate((40, 42, 50, 45)):
        files = {"temp1_label": "Tctl", "temp1_input": (celsius + 27) * 1000}
        files |= {"temp2_label": "Tdie", "temp2_input": celsius * 1000}
        machine.hwmon(node, "k10temp", files, device=f"0000:00:{18 + node}.3")
    source = source_of(machine)
    source.discover()
    samples, _ = tick(source)
    assert samples["node/socket 0"].temperature_celsius == 42
    assert samples["node/socket 1"].temperature_celsius == 50


def test_chips_that_cannot_be_told_apart_give_no_temperature(machine):
    two_sockets(machine)
    for node in range(3):
        machine.hwmon(node, "k10temp", {"temp1_label": "Tctl", "temp1_input": 50000}, device=f"0000:00:{18 + node}.3")
    source = source_of(machine)
    source.discover()
    assert {sample.temperature_celsius for sample in tick(source)[0].values()} == {None}


def test_energy_goes_to_the_socket_of_its_package(machine, clock):
    two_sockets(machine)
    machine.package(0, 50)
    machine.package(1, 70)
    source = source_of(machine, clock)
    found = source.discover()
    assert (found.ok, found.reason) == (True, "")
    first, entities = tick(source)
    assert entities[0].labels["energy_source"] == "RAPL"
    assert first["node/socket 0"].power_watts is None
    clock.advance(10)
    machine.package(0, 2050)
    machine.package(1, 3070)
    second, _ = tick(source)
    assert second["node/socket 0"].power_watts == pytest.approx(200)
    assert second["node/socket 1"].power_watts == pytest.approx(300)
    rise = second["node/socket 1"].energy_joules_total - first["node/socket 1"].energy_joules_total
    assert rise == pytest.approx(3000)


def test_intel_memory_energy_is_apart(machine, clock):
    machine.cpuinfo(sockets=1, threads=1, name="Intel(R) Xeon(R) Platinum 8480+")
    machine.busy(0)
    machine.package(0, 0, dram=0)
    source = source_of(machine, clock)
    source.discover()
    tick(source)
    clock.advance(10)
    machine.zone("intel-rapl/intel-rapl:0", "package-0", 2000 * UJ)
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram", 300 * UJ)
    sample = tick(source)[0]["node/socket 0"]
    assert sample.energy_joules_total == pytest.approx(2000)
    assert sample.dram_energy_joules_total == pytest.approx(300)
    assert sample.power_watts == pytest.approx(200), "of the package alone"


def test_hidden_energy_is_said_and_the_rest_works(machine):
    two_sockets(machine)
    machine.container()
    machine.powercap.mkdir(parents=True)
    source = source_of(machine)
    found = source.discover()
    assert found.ok
    assert "hidden" in found.reason
    assert "collectors.powercap_root" in found.remedy
    tick(source)
    machine.busy(0.5, 0.5, 0.5, 0.5, ticks=100)
    samples, entities = tick(source)
    assert entities == []
    assert samples["node/socket 0"].utilization_ratio == 0.5
    assert samples["node/socket 0"].power_watts is None
    assert samples["node/socket 0"].energy_joules_total is None


def test_without_proc_there_is_nothing(tmp_path):
    source = CpuSource("node", proc=tmp_path / "proc", sys=tmp_path / "sys", powercap_root=tmp_path / "powercap")
    found = source.discover()
    assert not found.ok
    assert found.absent
    with pytest.raises(SourceUnavailable):
        list(source.collect())
    source.close()
    source.close()


def test_the_machine_these_tests_run_on():
    source = CpuSource("here")
    assert source.discover().ok
    samples, entities = tick(source)
    assert samples
    assert len(entities) == len(samples)
    for sample in tick(source)[0].values():
        assert sample.utilization_ratio is None or 0 <= sample.utilization_ratio <= 1
