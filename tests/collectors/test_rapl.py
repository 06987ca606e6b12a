"""RAPL: what is summed, how registers wrap, and what is said where nothing can be read."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.sources.machine import rapl
from collectors.sources.machine.rapl import RaplReader
from tests.collectors.machine import UJ, Clock, Machine, write

RANGE = 65_532_610_987  # µJ, the usual 32-bit register


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def clock():
    return Clock()


def reader(machine, clock, root=None, *, container=False, virtual=False):
    found = RaplReader(root or machine.powercap, clock)
    return found, found.discover(container=container, virtual=virtual)


def test_energy_and_power_of_two_sockets(machine, clock):
    machine.package(0, 100, core=40)
    machine.package(1, 900, core=300)
    rapl_reader, access = reader(machine, clock)
    assert access.ok
    assert access.reason == ""
    first = rapl_reader.read()
    assert first[0].power_watts is None, "one reading makes no interval"
    assert first[0].energy_joules_total == 0
    clock.advance(10)
    machine.package(0, 3700, core=2000)
    machine.package(1, 2900, core=700)
    second = rapl_reader.read()
    assert second[0].energy_joules_total == pytest.approx(3600)
    assert second[0].power_watts == pytest.approx(360)
    assert second[1].power_watts == pytest.approx(200)
    assert second[0].dram_energy_joules_total is None, "AMD has no DRAM domain"


def test_dram_is_apart_and_core_uncore_psys_and_mmio_are_left_out(machine, clock):
    def at(joules):
        machine.package(0, joules, core=joules * 7, uncore=joules * 11, dram=joules / 2)
        machine.zone("intel-rapl/intel-rapl:1", "psys", joules * 13 * UJ)
        machine.zone("intel-rapl-mmio/intel-rapl-mmio:0", "package-0", joules * 17 * UJ)

    at(0)
    rapl_reader, _ = reader(machine, clock)
    assert list(rapl_reader.read()) == [0]
    clock.advance(1)
    at(300)
    energy = rapl_reader.read()[0]
    assert energy.energy_joules_total == pytest.approx(300)
    assert energy.power_watts == pytest.approx(300)
    assert energy.dram_energy_joules_total == pytest.approx(150)


def test_two_dies_are_one_socket(machine, clock):
    def at(first, second):
        machine.zone("intel-rapl/intel-rapl:0", "package-0-die-0", first * UJ)
        machine.zone("intel-rapl/intel-rapl:1", "package-0-die-1", second * UJ)

    at(10, 60_000)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    clock.advance(10)
    at(1010, 62_000)
    energy = rapl_reader.read()
    assert list(energy) == [0]
    assert energy[0].energy_joules_total == pytest.approx(3000)
    assert energy[0].power_watts == pytest.approx(300)


def test_a_wrapped_register_goes_on(machine, clock):
    machine.package(0, RANGE / UJ - 1000)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    clock.advance(10)
    machine.package(0, 2000)
    energy = rapl_reader.read()[0]
    assert energy.energy_joules_total == pytest.approx(3000)
    assert energy.power_watts == pytest.approx(300)


@pytest.mark.parametrize("seconds", [70, 300, 86_400])
def test_a_gap_in_which_it_may_have_wrapped_twice_is_unknown_and_not_guessed(machine, clock, seconds):
    machine.package(0, 100)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    clock.advance(10)
    machine.package(0, 3100)
    before = rapl_reader.read()[0]
    clock.advance(seconds)
    machine.package(0, 5000)
    after = rapl_reader.read()[0]
    assert after.power_watts is None
    assert after.energy_joules_total < before.energy_joules_total, "readers must see a restart, not a rise"
    clock.advance(10)
    machine.package(0, 8000)
    assert rapl_reader.read()[0].power_watts == pytest.approx(300), "and it goes on from there"


def test_a_register_that_was_reset_gives_no_absurd_power(machine, clock):
    machine.package(0, 1000)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    clock.advance(10)
    machine.package(0, 0)  # as a wrap this would be 6.4 kW
    energy = rapl_reader.read()[0]
    assert energy.power_watts is None
    assert energy.energy_joules_total == 0


def test_power_waits_for_a_long_enough_interval(machine, clock):
    machine.package(0, 0)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    clock.advance(0.06)
    machine.package(0, 20)
    soon = rapl_reader.read()[0]
    assert soon.power_watts is None
    assert soon.energy_joules_total == pytest.approx(20), "energy is known all the same"
    clock.advance(0.06)
    machine.package(0, 36)
    assert rapl_reader.read()[0].power_watts == pytest.approx(300)


def test_a_failing_read_is_unknown_for_that_tick_alone(machine, clock):
    machine.package(0, 0)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    energy = machine.sys / "devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
    energy.unlink()
    clock.advance(10)
    missing = rapl_reader.read()[0]
    assert (missing.energy_joules_total, missing.power_watts) == (None, None)
    clock.advance(10)
    write(energy, 4000 * UJ)
    back = rapl_reader.read()[0]
    assert back.energy_joules_total == pytest.approx(4000)
    assert back.power_watts == pytest.approx(200), "over both intervals"


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(0, RANGE - 1),
    steps=st.lists(st.tuples(st.floats(0.5, 60), st.floats(0, 900)), min_size=1, max_size=20),
)
def test_whatever_the_register_does_the_total_is_what_was_used(tmp_path_factory, start, steps):
    machine, clock = Machine(tmp_path_factory.mktemp("machine")), Clock()
    machine.zone("intel-rapl/intel-rapl:0", "package-0", start)
    rapl_reader, _ = reader(machine, clock)
    rapl_reader.read()
    used = 0
    for seconds, watts in steps:
        used += round(seconds * watts * UJ)
        clock.advance(seconds)
        machine.zone("intel-rapl/intel-rapl:0", "package-0", (start + used) % RANGE)
        energy = rapl_reader.read()[0]
        assert energy.energy_joules_total == pytest.approx(used / UJ, rel=1e-9, abs=1e-3)
        assert energy.power_watts == pytest.approx(watts, abs=1e-3)


# --- where nothing can be read ----------------------------------------------------------------


def test_root_only_counters_say_how_to_open_them(machine, clock, monkeypatch):
    machine.package(0, 100)
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    rapl_reader, access = reader(machine, clock)
    assert not access.ok
    assert "only root may read" in access.reason
    assert "CAP_DAC_READ_SEARCH" in access.remedy
    assert "tmpfiles.d" in access.remedy
    assert rapl_reader.read()[0].energy_joules_total is None
    monkeypatch.undo()
    assert rapl_reader.read()[0].energy_joules_total == 0, "works as soon as the permission is given"


def test_links_without_what_they_lead_to_are_a_mask(machine, clock):
    machine.powercap.mkdir(parents=True)
    (machine.powercap / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    _, access = reader(machine, clock, container=True)
    assert not access.ok
    assert "hidden" in access.reason
    assert "/sys/devices/virtual/powercap" in access.remedy
    assert "collectors.powercap_root" in access.remedy


def test_an_empty_folder_in_a_container_is_a_mask(machine, clock):
    machine.powercap.mkdir(parents=True)
    _, access = reader(machine, clock, container=True)
    assert "hidden" in access.reason


@pytest.mark.parametrize("folder", [True, False])
def test_a_virtual_machine_has_none(machine, clock, folder, monkeypatch):
    monkeypatch.setattr(rapl, "DEFAULT_ROOT", machine.powercap)
    if folder:
        machine.powercap.mkdir(parents=True)
    _, access = reader(machine, clock, container=folder, virtual=True)
    assert not access.ok
    assert "virtual machine" in access.reason
    assert "stays unknown" in access.remedy


def test_a_kernel_without_the_driver_says_which_one(machine, clock, monkeypatch):
    monkeypatch.setattr(rapl, "DEFAULT_ROOT", machine.powercap)
    _, access = reader(machine, clock)
    assert "the kernel offers no CPU energy counters" in access.reason
    assert "modprobe intel_rapl_msr" in access.remedy


def test_a_wrong_root_is_the_settings_fault(machine, clock, tmp_path):
    rapl_reader, access = reader(machine, clock, root=tmp_path / "elsewhere", virtual=True)
    assert f"there is no {tmp_path / 'elsewhere'}" in access.reason
    assert "collectors.powercap_root" in access.remedy
    assert rapl_reader.read() == {}


def test_the_devices_folder_works_as_root_too(machine, clock):
    machine.package(0, 100, dram=10)
    rapl_reader, access = reader(machine, clock, root=machine.sys / "devices/virtual/powercap")
    assert access.ok
    rapl_reader.read()
    clock.advance(1)
    machine.package(0, 400, dram=60)
    energy = rapl_reader.read()[0]
    assert energy.power_watts == pytest.approx(300)
    assert energy.dram_energy_joules_total == pytest.approx(50)
