"""EPYC sockets, through the E-SMI part of AMD SMI: power, cap, energy and temperature.

Needs the HSMP driver, mostly also root. The keys are those of ``CpuSource``, which reads the same
sockets through the kernel; ``sockets.py`` makes one source of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.base import Availability, now_ms
from collectors.sources.amd import rocm
from core.errors import SourceUnavailable
from core.readings import CpuSample, Entity

_NOT_EPYC = 44
_HSMP = (
    "run: sudo modprobe amd_hsmp (hsmp_acpi on EPYC 9005), and let the collector read and write /dev/hsmp; it mostly "
    "has to run as root"
)
_ENERGY = "load amd_energy (out of tree) or run: sudo modprobe msr, and run the collector as root"
_OBSTACLES = {
    rocm.NO_PERMISSION: ("the HSMP driver refuses this user", _HSMP),
    _NOT_EPYC: ("this machine has no AMD EPYC CPU", ""),
    45: ("the energy driver is not loaded", _ENERGY),
    46: ("the MSR driver is not loaded", _ENERGY),
    47: ("the HSMP driver is not loaded", _HSMP),
    48: ("this machine has no HSMP, or its BIOS switched it off", "enable HSMP in the BIOS"),
    51: ("neither the HSMP nor the energy driver is loaded", _HSMP),
}
_POWER = "amdsmi_get_cpu_socket_power"
_LARGEST_CELSIUS = 150
_LARGEST_JOULES = 1e12
_MILLI = 1000


@dataclass(frozen=True)
class _Socket:
    handle: Any
    key: str
    labels: dict[str, str]


class EpycSource:
    """Reads every EPYC socket each tick.

    Args:
        host: name of this machine.
        rocm_roots: directories that may hold a ROCm, best first; ``None`` looks in the usual places.
        device_file: what the HSMP driver shows once it is loaded.
    """

    name = "epyc"

    def __init__(
        self,
        host: str,
        rocm_roots: Sequence[Path] | None = None,
        device_file: Path = Path("/dev/hsmp"),
    ) -> None:
        self._host = host
        self._roots = rocm_roots
        self._device_file = device_file
        self._binding: rocm.Binding | None = None
        self._sockets: list[_Socket] = []
        self._announced = False

    def discover(self) -> Availability:
        """Open the library and ask each socket; says which driver is missing and how to load it."""
        self.close()
        try:
            self._open()
        except rocm.Unusable as exc:
            self.close()
            return exc.availability
        reason, remedy = self._without_energy()
        return Availability(True, reason, remedy, tuple(socket.key for socket in self._sockets))

    def collect(self) -> list[CpuSample | Entity]:
        """One tick: a sample per socket.

        Raises:
            SourceUnavailable: no socket answers any more.
        """
        if self._binding is None:
            raise SourceUnavailable("the AMD library is not open")
        samples = [self._read(self._binding, socket) for socket in self._sockets]
        if all(sample.power_watts is None and sample.temperature_celsius is None for sample in samples):
            raise SourceUnavailable("no EPYC socket answers any more: the HSMP driver was unloaded")
        news = [] if self._announced else [self._entity(socket) for socket in self._sockets]
        self._announced = True
        return [*news, *samples]

    def close(self) -> None:
        """Forget the handles and shut the library down."""
        binding, self._binding = self._binding, None
        self._sockets = []
        self._announced = False
        if binding is not None:
            binding.stop()

    def _open(self) -> None:
        binding = rocm.load(self._roots, self._device_file)
        status = binding.start("INIT_AMD_CPUS")
        self._binding = binding
        handles, listed = binding.call("amdsmi_get_cpusocket_handles") if status == rocm.OK else ([], status)
        _insist(listed)
        self._sockets = [_socket(binding, handle, index, self._host) for index, handle in enumerate(handles)]
        if not self._sockets:
            _insist(_NOT_EPYC)
        _insist(binding.call(_POWER, self._sockets[0].handle)[1])

    def _without_energy(self) -> tuple[str, str]:
        """Why no energy is counted, when that is a fault, and what to do."""
        if self._binding is None:
            return "", ""
        status = self._binding.call("amdsmi_get_cpu_socket_energy", self._sockets[0].handle)[1]
        if status == rocm.OK:
            return "", ""
        reason, remedy = _OBSTACLES.get(status, (f"status {status}", _ENERGY))
        return f"no energy counter: {reason}", remedy

    def _read(self, binding: rocm.Binding, socket: _Socket) -> CpuSample:
        """Strings with a unit, such as ``102500 mW``; a socket that runs this code draws more than 0 W."""

        def quantity(function: str) -> float | None:
            return leading_number(binding.ask(function, socket.handle))

        at = now_ms()
        return CpuSample(
            key=socket.key,
            observed_at_ms=at,
            power_watts=_scaled(quantity(_POWER), _from_milli),
            power_limit_watts=_scaled(quantity("amdsmi_get_cpu_socket_power_cap"), _from_milli),
            energy_joules_total=_joules(quantity("amdsmi_get_cpu_socket_energy")),
            temperature_celsius=_scaled(quantity("amdsmi_get_cpu_socket_temperature"), _celsius),
        )

    def _entity(self, socket: _Socket) -> Entity:
        return Entity(
            observed_at_ms=now_ms(),
            family=CpuSample.family,
            key=socket.key,
            host=self._host,
            labels=socket.labels,
        )


def leading_number(answer: object) -> float | None:
    """The number that E-SMI strings begin with; ``None`` for N/A and for all ones."""
    match = re.match(r"\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)", answer) if isinstance(answer, str) else None
    return rocm.known(float(match[1])) if match else None


def _scaled(number: float | None, scale: Callable[[float], float]) -> float | None:
    return scale(number) if number else None


def _joules(number: float | None) -> float | None:
    """The binding turned all ones into J before it printed them: more than any socket uses in its life."""
    return number if number and number < _LARGEST_JOULES else None


def _from_milli(number: float) -> float:
    return number / _MILLI


def _celsius(number: float) -> float:
    """The binding prints "Degrees C" after what E-SMI counts in thousandths; both are told apart by size."""
    return number / _MILLI if number > _LARGEST_CELSIUS else number


def _insist(status: int) -> None:
    if status != rocm.OK:
        reason, remedy = _OBSTACLES.get(status, (f"the sockets cannot be asked (status {status})", _HSMP))
        raise rocm.Unusable(reason, remedy, absent=status == _NOT_EPYC)


def _socket(binding: rocm.Binding, handle: Any, index: int, host: str) -> _Socket:  # noqa: ANN401
    number = rocm.text(binding.ask("amdsmi_get_processor_info", handle))
    firmware = binding.table("amdsmi_get_cpu_smu_fw_version", handle)
    parts = [firmware.get(f"smu_fw_{part}_ver_num") for part in ("major", "minor", "debug")]
    labels = {
        "vendor": "AMD",
        "model": _model(binding.ask("amdsmi_get_cpu_model_name", handle)),
        "firmware": ".".join(map(str, parts)) if None not in parts else "",
        "hsmp": rocm.text(binding.ask("amdsmi_get_cpu_hsmp_proto_ver", handle)),
    }
    key = f"{host}/socket {int(number) if number.isdecimal() else index}"
    return _Socket(handle, key, {label: value for label, value in labels.items() if value})


def _model(name: object) -> str:
    """The model; release 7.0 prints the bytes object around it."""
    return re.sub(r"^b['\"](.*)['\"]$", r"\1", rocm.text(name)).strip()
