"""Accelerators that a driver of this machine reports: what an exporter says of the same ones is left out.

Both go by the device's UUID. Two courses in one series would make counters fall and grow again, of which every
change looks like a restart. Whom a device is given to is kept: that the exporter alone knows.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.readings import AcceleratorSample, DeviceProcess, DeviceUser, Entity, Event, Reading

DRIVERS = frozenset(("nvidia", "amd"))
HANDED_ON_MS = 600_000  # what its driver has not reported for so long, an exporter may


class Firsthand:
    """Which devices drivers report. One for all sources of a daemon; not thread-safe."""

    def __init__(self) -> None:
        self._seen_at_ms: dict[str, int] = {}
        self._withheld: dict[str, tuple[Reading, ...]] = {}  # by source

    def only(self, source: str, readings: Iterable[Reading], at_ms: int, *, drivers_heard: bool) -> tuple[Reading, ...]:
        """Readings of one tick without those that are a driver's to say.

        Args:
            source: whose they are.
            readings: of its tick.
            at_ms: now.
            drivers_heard: whether every driver has said what it has. Until then what others say of accelerators
                waits for their next tick, but for processes and users, which are told at every tick.
        """
        readings = tuple(readings)
        if source in DRIVERS:
            self._seen_at_ms.update((one.key, at_ms) for one in readings if isinstance(one, AcceleratorSample))
            return readings
        if not drivers_heard:
            about = [one for one in readings if _device(one) is not None]
            waiting = (one for one in about if not isinstance(one, DeviceProcess | DeviceUser))
            self._withheld[source] = (*self._withheld.get(source, ()), *waiting)
            return tuple(one for one in readings if _device(one) is None)
        readings = (*self._withheld.pop(source, ()), *readings)
        return tuple(one for one in readings if not self._is_drivers(one, at_ms))

    def _is_drivers(self, reading: Reading, at_ms: int) -> bool:
        key = _device(reading)
        if key is None:
            return False
        if self._is_reported(key, at_ms):
            return not isinstance(reading, DeviceUser)
        return self._is_reported(key.rpartition("/")[0], at_ms)  # a slice, which its driver calls otherwise

    def _is_reported(self, key: str, at_ms: int) -> bool:
        seen_at_ms = self._seen_at_ms.get(key)
        return seen_at_ms is not None and at_ms - seen_at_ms <= HANDED_ON_MS


def _device(reading: Reading) -> str | None:
    """The accelerator that a reading is about."""
    match reading:
        case AcceleratorSample() | DeviceProcess() | DeviceUser():
            return reading.key
        case Entity(family=AcceleratorSample.family) | Event(family=AcceleratorSample.family):
            return reading.key
        case _:
            return None
