"""CPU sockets of this machine: utilization, clock, temperature, and energy where the kernel shows it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from collectors.base import Availability, now_ms
from collectors.sources.machine.hwmon import Sensors, hottest_celsius, package_sensors
from collectors.sources.machine.kernel import cpu_times, in_container, is_virtual, summed, time_shares
from collectors.sources.machine.rapl import DEFAULT_ROOT, RaplReader, SocketEnergy
from collectors.sources.machine.topology import Socket, clocks, sockets
from core.errors import SourceUnavailable
from core.readings import CpuSample, Entity, Reading

_NO_ENERGY = SocketEnergy(None, None, None)


class CpuSource:
    """Every socket of this machine, from ``/proc`` and ``/sys``.

    Args:
        host: the name this machine goes by.
        proc: where procfs is.
        sys: where sysfs is.
        powercap_root: where the energy counters are; elsewhere in a container.
        clock: seconds that never step back, for power.
    """

    name = "cpu"

    def __init__(
        self,
        host: str,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        powercap_root: Path = DEFAULT_ROOT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._proc = proc
        self._sys = sys
        self._rapl = RaplReader(powercap_root, clock)
        self._forget()

    def _forget(self) -> None:
        self._sockets: tuple[Socket, ...] = ()
        self._cpus: frozenset[int] = frozenset()
        self._sensors: Sensors = {}
        self._virtual = False
        self._energy_readable = False
        self._before: Mapping[int, tuple[int, ...]] = {}  # clock ticks by socket at the last tick
        self._described: dict[str, Mapping[str, str]] = {}

    def discover(self) -> Availability:
        """Find the sockets. Energy that cannot be read is said in ``reason``, and the rest still works."""
        self._forget()
        try:
            times = cpu_times(self._proc)
        except OSError:
            return Availability(False, f"no {self._proc / 'stat'}: CPU readings need Linux", absent=True)
        self._virtual = is_virtual(self._proc, self._sys)
        self._look_at(_numbers(times))
        energy = self._rapl.discover(container=in_container(self._proc), virtual=self._virtual)
        self._energy_readable = energy.ok
        return Availability(True, energy.reason, energy.remedy, tuple(self._key(s) for s in self._sockets))

    def collect(self) -> Iterator[Reading]:
        """One sample per socket. Utilization and power need an earlier tick to count from.

        Raises:
            SourceUnavailable: ``/proc`` is gone.
        """
        try:
            times = cpu_times(self._proc)
        except OSError as exc:
            raise SourceUnavailable(f"cannot read {self._proc / 'stat'}: {exc.strerror}") from exc
        at_ms = now_ms()
        if _numbers(times) != self._cpus:  # CPUs were switched on or off
            self._look_at(_numbers(times))
        ticks = {socket.number: summed(times, socket.cpus) for socket in self._sockets}
        energies = self._rapl.read()
        hertz = {} if self._virtual else clocks(self._proc, self._sys, sorted(self._cpus))
        for socket in self._sockets:
            yield from self._description(socket, at_ms)
            energy = energies.get(socket.number, _NO_ENERGY)
            known = [hertz[cpu] for cpu in socket.cpus if cpu in hertz]
            before = self._before.get(socket.number)
            yield CpuSample(
                key=self._key(socket),
                observed_at_ms=at_ms,
                utilization_ratio=time_shares(before, ticks[socket.number])[0] if before else None,
                power_watts=energy.power_watts,
                energy_joules_total=energy.energy_joules_total,
                dram_energy_joules_total=energy.dram_energy_joules_total,
                temperature_celsius=hottest_celsius(self._sensors.get(socket.number, ())),
                frequency_hertz=statistics.fmean(known) if known else None,
            )
        self._before = ticks

    def close(self) -> None:
        """Nothing is held open."""

    def _look_at(self, cpus: frozenset[int]) -> None:
        self._cpus = cpus
        self._sockets = sockets(self._proc, self._sys, sorted(cpus))
        self._sensors = package_sensors(self._sys, [socket.number for socket in self._sockets])
        self._before = {}

    def _key(self, socket: Socket) -> str:
        return f"{self._host}/socket {socket.number}"

    def _description(self, socket: Socket, at_ms: int) -> Iterator[Entity]:
        key, labels = self._key(socket), dict(socket.labels)
        if self._energy_readable:
            labels["energy_source"] = "RAPL"
        if self._virtual:
            labels["virtual_machine"] = "yes"
        if self._described.get(key) != labels:
            self._described[key] = labels
            yield Entity(observed_at_ms=at_ms, family="cpu", key=key, host=self._host, labels=labels)


def _numbers(times: Mapping[str, object]) -> frozenset[int]:
    return frozenset(int(name.removeprefix("cpu")) for name in times if name != "cpu")
