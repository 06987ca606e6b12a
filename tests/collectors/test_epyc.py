"""The EPYC source, with the real binding over the stub library, in a process of its own."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from collectors.child import ChildSource
from collectors.sources.amd.epyc import EpycSource, leading_number
from core.catalog import FAMILIES
from core.errors import SourceUnavailable
from core.metric import Kind
from core.readings import CpuSample, Entity
from tests.stubs.amdsmi_host import (
    NO_HSMP_DRIVER,
    NO_PERMISSION,
    NOT_SUPPORTED,
    AmdsmiHost,
    Bench,
    Scenario,
    epyc_host,
    rocm_is_here,
)

ABSENT = Path("/nonexistent")
POWER, ENERGY, CAP = "amdsmi_get_cpu_socket_power", "amdsmi_get_cpu_socket_energy", "amdsmi_get_cpu_socket_power_cap"

Open = Callable[..., Bench]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("epyc"))
    yield bench
    bench.end()


@pytest.fixture
def begin(bench: Bench) -> Iterator[Open]:
    """Shows a machine to a new source that has discovered it."""

    def begin(scenario: Scenario) -> Bench:
        bench.host.show(scenario)
        bench.build("epyc", host="node-1")
        found = bench.discover()
        assert found.ok, found
        return bench

    yield begin
    bench.close()


def samples(readings: list) -> list[CpuSample]:
    return [r for r in readings if isinstance(r, CpuSample)]


def measured(sample: CpuSample) -> dict[str, float]:
    identity = {"key", "observed_at_ms"}
    return {name: value for name, value in asdict(sample).items() if value is not None and name not in identity}


def test_two_sockets(begin: Open) -> None:
    bench = begin(epyc_host())
    readings = bench.collect()
    assert [(s.key, measured(s)) for s in samples(readings)] == [
        (
            f"node-1/socket {socket}",
            {
                "power_watts": 212.5 + socket / 1000,
                "power_limit_watts": 360.0,
                "energy_joules_total": pytest.approx(1_234.56789 + socket / 1e6, abs=1e-9),
                "temperature_celsius": 51.125 + socket,
            },
        )
        for socket in range(2)
    ]
    assert bench.discover().reason == ""


def test_describes_each_socket_once(begin: Open) -> None:
    bench = begin(epyc_host())
    described = [r for r in bench.collect() if isinstance(r, Entity)]
    assert [(e.family, e.key, e.host, e.parent_key) for e in described] == [
        ("cpu", "node-1/socket 0", "node-1", None),
        ("cpu", "node-1/socket 1", "node-1", None),
    ]
    assert described[0].labels == {
        "vendor": "AMD",
        "model": "AMD EPYC 9654 96-Core Processor",
        "firmware": "71.81.0",
        "hsmp": "6",
    }
    assert len(samples(bench.collect())) == len(bench.collect()) == 2


def test_what_a_socket_does_not_tell_is_unknown(begin: Open) -> None:
    bench = begin(epyc_host(1))
    bench.host.change({f"fail.{CAP}": NOT_SUPPORTED, "cpu0.temperature": None, "cpu0.microjoules": None})
    assert measured(samples(bench.collect())[0]) == {"power_watts": 212.5}


@pytest.mark.parametrize("nothing", [0, "ones"])
def test_zero_and_all_ones_are_no_readings(begin: Open, nothing: object) -> None:
    bench = begin(epyc_host(2))
    fields = {"milliwatts": 32, "cap_milliwatts": 32, "microjoules": 64, "temperature": 32}
    bench.host.change({f"cpu1.{field}": nothing if nothing == 0 else (1 << bits) - 1 for field, bits in fields.items()})
    other = samples(bench.collect())[1]
    assert measured(other) == {}


@pytest.mark.parametrize(("raw", "celsius"), [(51_125, 51.125), (51, 51.0), (150, 150.0)])
def test_temperature_in_degrees_or_thousandths(begin: Open, raw: int, celsius: float) -> None:
    bench = begin(epyc_host(1) | {"cpu0.temperature": raw})
    assert samples(bench.collect())[0].temperature_celsius == celsius


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("212500 mW", 212_500.0),
        ("1234.5 J", 1234.5),
        ("1e+16 J", 1e16),
        ("1.5e-05 J", 1.5e-05),
        ("0 mW", 0.0),
        ("51 Degrees C", 51.0),
        ("N/A", None),
        ("", None),
        ("4294967295 mW", None),
        (None, None),
        (17, None),
    ],
)
def test_numbers_in_strings(text: object, number: float | None) -> None:
    assert leading_number(text) == number


@pytest.mark.parametrize(
    ("scenario", "reason", "remedy"),
    [
        ({"fail.amdsmi_init": NO_HSMP_DRIVER}, "HSMP driver is not loaded", "modprobe amd_hsmp"),
        (epyc_host() | {f"fail.{POWER}": NO_HSMP_DRIVER}, "HSMP driver is not loaded", "/dev/hsmp"),
        (epyc_host() | {f"fail.{POWER}": NO_PERMISSION}, "refuses this user", "root"),
        ({"fail.amdsmi_get_cpu_handles": 45}, "energy driver is not loaded", "amd_energy"),
        ({"fail.amdsmi_init": 46}, "MSR driver is not loaded", "modprobe msr"),
        ({"fail.amdsmi_init": 48}, "no HSMP", "BIOS"),
        ({"fail.amdsmi_init": 51}, "neither the HSMP nor the energy driver", "modprobe amd_hsmp"),
        (epyc_host() | {f"fail.{POWER}": 12}, "status 12", "amd_hsmp"),
        (epyc_host() | {"library.major": 25}, "but this one is 25.0.2", "pip install"),
    ],
)
def test_what_stands_in_the_way_is_said_with_its_remedy(
    bench: Bench, scenario: Scenario, reason: str, remedy: str
) -> None:
    bench.host.show(scenario)
    bench.build("epyc", host="node-1")
    found = bench.discover()
    assert (found.ok, found.absent, found.entities) == (False, False, ())
    assert reason in found.reason
    assert remedy in found.remedy
    with pytest.raises(SourceUnavailable):
        bench.collect()


@pytest.mark.parametrize("scenario", [{"fail.amdsmi_init": 44}, {"cpus": 0}])
def test_another_cpu_is_no_fault(bench: Bench, scenario: Scenario) -> None:
    bench.host.show(scenario)
    bench.build("epyc", host="node-1")
    found = bench.discover()
    assert (found.ok, found.absent, found.reason) == (False, True, "this machine has no AMD EPYC CPU")


def test_works_without_the_energy_driver_but_says_so(begin: Open) -> None:
    bench = begin(epyc_host() | {f"fail.{ENERGY}": 45})
    found = bench.discover()
    assert found.ok
    assert found.reason == "no energy counter: the energy driver is not loaded"
    assert "amd_energy" in found.remedy
    sample = samples(bench.collect())[0]
    assert (sample.energy_joules_total, sample.power_watts) == (None, 212.5)


def test_an_unloaded_driver_is_discovered_again(begin: Open) -> None:
    bench = begin(epyc_host())
    bench.collect()
    bench.host.change({"cpu.fail": NO_HSMP_DRIVER})
    with pytest.raises(SourceUnavailable, match="HSMP driver was unloaded"):
        bench.collect()
    assert not bench.discover().ok
    bench.host.change({"cpu.fail": None})
    assert bench.discover().entities == ("node-1/socket 0", "node-1/socket 1")
    assert len(bench.collect()) == 4


def test_values_keep_the_promises_of_the_catalogue(begin: Open) -> None:
    declared = {metric.name: metric for metric in FAMILIES["cpu"].metrics}
    bench = begin(epyc_host())
    before = 0.0
    for tick in range(3):
        bench.host.change({"cpu0.microjoules": 10**9 + 10**8 * tick})
        for name, value in measured(samples(bench.collect())[0]).items():
            assert "cpu" in declared[name].sources
            assert isinstance(value, float)
            if declared[name].kind is Kind.COUNTER:
                assert value > before
                before = value
    bench.close()
    bench.close()


def test_as_the_daemon_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = AmdsmiHost(tmp_path, epyc_host())
    host.install(monkeypatch)
    source = ChildSource("epyc", partial(EpycSource, "node-1"), deadline_seconds=5)
    try:
        assert source.discover().ok
        assert len(tuple(source.collect())) == 4
        host.crash(POWER)
        with pytest.raises(SourceUnavailable, match="SIGSEGV"):
            source.collect()
    finally:
        source.close()


@pytest.mark.skipif(rocm_is_here(), reason="this machine has a ROCm")
def test_here_without_rocm(capfd: pytest.CaptureFixture[str]) -> None:
    source = EpycSource("node-1", rocm_roots=[ABSENT], device_file=ABSENT)
    found = source.discover()
    assert (found.ok, found.absent) == (False, True)
    assert found.remedy
    source.close()
    source.close()
    assert tuple(capfd.readouterr()) == ("", "")
