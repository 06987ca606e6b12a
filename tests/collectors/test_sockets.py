from __future__ import annotations

from collections.abc import Iterable

from collectors.base import Availability
from collectors.sources.machine.sockets import RETRY_SECONDS, SocketsSource
from core.errors import SourceUnavailable
from core.readings import CpuSample, Entity, Outcome, Reading, TargetReport


class Told:
    """A source that says what it was told to; the real ones have tests of their own."""

    name = "told"

    def __init__(self, found: Availability, *readings: Reading) -> None:
        self.found, self.readings, self.broken, self.closed = found, readings, False, 0

    def discover(self) -> Availability:
        return self.found

    def collect(self) -> Iterable[Reading]:
        if self.broken:
            raise SourceUnavailable("HSMP went away")
        return self.readings

    def close(self) -> None:
        self.closed += 1


def sample(**values: float) -> CpuSample:
    return CpuSample(key="box/socket 0", observed_at_ms=1, **values)


def entity(**labels: str) -> Entity:
    return Entity(observed_at_ms=1, family="cpu", key="box/socket 0", host="box", labels=labels)


KERNEL = Told(
    Availability(True, "no energy counters", "do this"), entity(model="AMD EPYC 9654"), sample(utilization_ratio=0.5)
)


def esmi(found: Availability | None = None) -> Told:
    return Told(
        found or Availability(True), entity(model="EPYC", hsmp="6"), sample(power_watts=212.0, energy_joules_total=9.0)
    )


def test_one_sample_per_socket_with_both_views():
    source = SocketsSource(KERNEL, esmi())
    found = source.discover()
    assert (found.ok, found.reason) == (True, "")
    readings = list(source.collect())
    assert sample(utilization_ratio=0.5, power_watts=212.0, energy_joules_total=9.0) in readings
    assert entity(model="AMD EPYC 9654", hsmp="6") in readings
    assert sum(isinstance(reading, CpuSample) for reading in readings) == 1


def test_the_kernels_value_wins():
    kernel = Told(Availability(True), sample(power_watts=200.0, energy_joules_total=1.0))
    source = SocketsSource(kernel, esmi())
    source.discover()
    assert sample(power_watts=200.0, energy_joules_total=1.0) in list(source.collect())


def test_without_esmi_the_kernels_reason_stands():
    source = SocketsSource(KERNEL, esmi(Availability(False, "no ROCm here", absent=True)))
    assert source.discover().reason == "no energy counters"
    assert list(source.collect()) == list(KERNEL.readings)


def test_esmi_that_breaks_is_reported_and_tried_again_later():
    now = [0.0]
    second = esmi()
    source = SocketsSource(KERNEL, second, clock=lambda: now[0])
    source.discover()
    second.broken = True
    readings = list(source.collect())
    assert sample(utilization_ratio=0.5) in readings
    (report,) = (reading for reading in readings if isinstance(reading, TargetReport))
    assert (report.target, report.outcome, report.error) == ("E-SMI", Outcome.FAILED, "HSMP went away")
    second.broken = False
    assert not any(isinstance(reading, TargetReport) for reading in source.collect())
    now[0] = RETRY_SECONDS
    assert sample(utilization_ratio=0.5, power_watts=212.0, energy_joules_total=9.0) in list(source.collect())


def test_close_closes_both():
    kernel, second = Told(Availability(True)), esmi()
    SocketsSource(kernel, second).close()
    assert (kernel.closed, second.closed) == (1, 1)
