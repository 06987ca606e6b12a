"""The one door to NVML: every call of the NVIDIA source passes ``Nvml.ask`` or ``Nvml.fields``.

NVML says "not measured" with an error code. There are five kinds, and each is answered in one place:

    not supported      remembered per device and metric, not asked again until the next ``Nvml``
    not this time      ``None`` for this sample; every code that is not named below
    no permission      ``None``, and the metric is listed in ``forbidden``
    device gone        ``DeviceGone``
    driver gone        ``DriverGone``
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple


class Code(IntEnum):
    """The NVML return codes that lead to different actions."""

    UNINITIALIZED = 1
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13  # the driver is older than the function
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    VGPU_ECC_NOT_SUPPORTED = 22
    FREQ_NOT_SUPPORTED = 24
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    GPU_NOT_FOUND = 28


_UNSUPPORTED = frozenset(
    {
        Code.NOT_SUPPORTED,
        Code.FUNCTION_NOT_FOUND,
        Code.VGPU_ECC_NOT_SUPPORTED,
        Code.FREQ_NOT_SUPPORTED,
        Code.ARGUMENT_VERSION_MISMATCH,
        Code.DEPRECATED,
    }
)
_DEVICE_GONE: dict[int, str] = {
    Code.GPU_IS_LOST: "it fell off the bus",
    Code.RESET_REQUIRED: "it needs a reset",
    Code.GPU_NOT_FOUND: "the driver no longer finds it",
}
DRIVER_GONE = frozenset(
    {Code.UNINITIALIZED, Code.DRIVER_NOT_LOADED, Code.LIBRARY_NOT_FOUND, Code.LIB_RM_VERSION_MISMATCH}
)

_OBSTACLES: dict[int, tuple[str, str]] = {
    Code.UNINITIALIZED: ("the NVIDIA driver was reloaded", "nothing to do: it is opened anew by itself"),
    Code.LIBRARY_NOT_FOUND: (
        "no NVIDIA driver here: libnvidia-ml.so.1 is not installed",
        "nothing to do without an NVIDIA GPU; with one, install its driver, or in a container start it with the "
        "NVIDIA container toolkit (--gpus all)",
    ),
    Code.DRIVER_NOT_LOADED: (
        "the NVIDIA driver is installed but its kernel module is not loaded",
        "run: sudo modprobe nvidia; if that fails after a kernel update, reinstall the driver",
    ),
    Code.LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA kernel module and the driver library are of different versions, as after an upgrade",
        "reboot, or unload and load the nvidia kernel modules",
    ),
    Code.NO_PERMISSION: (
        "the NVIDIA driver refuses this user",
        "let the user read and write /dev/nvidiactl and /dev/nvidia0, /dev/nvidia1, ...",
    ),
    Code.FUNCTION_NOT_FOUND: ("the NVIDIA driver is too old", "install driver 470 or newer"),
}


class DeviceGone(Exception):
    """The device fell off the bus or waits for a reset; others may be well."""


class DriverGone(Exception):
    """The library cannot be used (any more)."""

    def __init__(self, code: int) -> None:
        reason, remedy = _OBSTACLES.get(
            code, (f"the NVIDIA driver does not start (NVML error {code})", "run nvidia-smi to see what it reports")
        )
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.absent = code == Code.LIBRARY_NOT_FOUND


class Field(NamedTuple):
    """An entry of the field API: what it measures, its id, and its scope (all links, a power scope).

    ``wide`` asks for 64 bits: a byte counter of 32 bits wraps several times between two ticks, so
    it is treated as not supported.
    """

    metric: str
    id: int
    scope: int = 0
    wide: bool = False


# Member of the value union and its width, by NVML's value type.
_VALUE_MEMBERS = (("dVal", 0), ("uiVal", 32), ("ulVal", 64), ("ullVal", 64), ("sllVal", 0), ("siVal", 0), ("usVal", 16))


def known(value: int, bits: int = 64) -> int | None:
    """The value, or ``None`` where the driver fills all bits to say that it has none."""
    return None if value == (1 << bits) - 1 else value


class Nvml:
    """NVML, initialised. What a device refused once is remembered until ``close``.

    Raises:
        DriverGone: the library is missing or does not start.
    """

    def __init__(self) -> None:
        import pynvml  # nothing of NVIDIA's is loaded before a source asks for it

        self.api: Any = pynvml
        self.forbidden: set[str] = set()
        self._refused: Counter[tuple[str, str]] = Counter()  # by device and metric: how many ways were tried in vain
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as exc:
            raise DriverGone(exc.value) from exc

    def ask(self, key: str, metric: str, *ways: Callable[[], Any]) -> Any:  # noqa: ANN401  what NVML returns
        """The answer of the first way that the device supports; ``None`` when unknown.

        Args:
            key: the device, ``""`` for the driver itself.
            metric: what is asked for, in words.
            ways: calls of ``api``, best first; a later one is used only where the earlier are not supported.

        Raises:
            DeviceGone: see there.
            DriverGone: see there.
        """
        while (tried := self._refused[key, metric]) < len(ways):
            try:
                return ways[tried]()
            except self.api.NVMLError as exc:
                if not self._unsupported(metric, exc.value):
                    return None
            except self.api.NVMLLibraryMismatchError:  # no NVMLError, and it means: function not found
                pass
            except UnicodeDecodeError:  # a name that is no text
                return None
            self._refused[key, metric] += 1
        return None

    def fields(self, key: str, handle: Any, wanted: Iterable[Field]) -> dict[Field, float]:  # noqa: ANN401
        """Many values in one call (``nvmlDeviceGetFieldValues``); those unknown are left out."""
        asked = [field for field in wanted if not self.refuses(key, field.metric)]
        if not asked:
            return {}
        ids = [(field.id, field.scope) for field in asked]
        answers = self.ask(key, "field values", lambda: self.api.nvmlDeviceGetFieldValues(handle, ids))
        values = {}
        for field, answer in zip(asked, answers or (), strict=False):
            if answer.nvmlReturn == 0 and (not field.wide or _bits(answer) == 64):
                if (value := _field_value(answer)) is not None:
                    values[field] = value
            elif answer.nvmlReturn == 0 or self._unsupported(field.metric, answer.nvmlReturn):
                self._refused[key, field.metric] += 1
        return values

    def refuses(self, key: str, metric: str) -> bool:
        """Whether the device turned out not to support the best way to a metric."""
        return self._refused[key, metric] > 0

    def forget(self, key: str) -> None:
        """Ask a device again for everything, since its partition changed."""
        for refusal in [refusal for refusal in self._refused if refusal[0] == key]:
            del self._refused[refusal]

    def close(self) -> None:
        """Shut the library down; a driver that is already gone is no reason to fail."""
        try:
            self.api.nvmlShutdown()
        except self.api.NVMLError:
            return

    def _unsupported(self, metric: str, code: int) -> bool:
        """Sort an error code: raise, note a missing permission, or say whether to stop asking."""
        if code in DRIVER_GONE:
            raise DriverGone(code)
        if code in _DEVICE_GONE:
            raise DeviceGone(_DEVICE_GONE[code])
        if code == Code.NO_PERMISSION:
            self.forbidden.add(metric)
        return code in _UNSUPPORTED


def _bits(answer: Any) -> int:  # noqa: ANN401
    return _VALUE_MEMBERS[answer.valueType][1] if answer.valueType < len(_VALUE_MEMBERS) else 0


def _field_value(answer: Any) -> float | None:  # noqa: ANN401
    if answer.valueType >= len(_VALUE_MEMBERS):
        return None
    member, bits = _VALUE_MEMBERS[answer.valueType]
    value: float = getattr(answer.value, member)
    if bits:
        return known(int(value), bits)
    return value if math.isfinite(value) else None
