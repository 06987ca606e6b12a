"""AMD Instinct GPUs, through AMD SMI and the ``amdsmi`` binding that ships with ROCm.

This file decides when to look and what to do when a GPU is gone; ``rocm`` finds and guards the binding,
``identity`` says who is there, ``device`` reads values, ``tables`` turns them into SI units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from collectors.base import Availability, now_ms
from collectors.sources.amd import rocm
from collectors.sources.amd.device import Device, Scope, Stale
from collectors.sources.amd.identity import open_devices
from core.errors import SourceUnavailable
from core.readings import AcceleratorSample, Entity, Event, Reading, Severity

_SLACK_SECONDS = 0.5  # ticks come a little early or late
_RETRY_SECONDS = 600.0
_RIGHTS = "add the user to the groups video and render and log in again; in a container hand in /dev/kfd and /dev/dri"
_OBSTACLES = {
    rocm.NO_PERMISSION: ("the AMD driver refuses this user", _RIGHTS),
    rocm.DRIVER_NOT_LOADED: ("the amdgpu driver is not loaded", "run: sudo modprobe amdgpu"),
}


class AmdSource:
    """Reads every GPU each tick, and what changes slowly or costs time every ``slow_interval_seconds``.

    Args:
        host: name of this machine.
        slow_interval_seconds: pace of limits, errors, links and processes.
        rocm_roots: directories that may hold a ROCm, best first; ``None`` looks in the usual places.
        device_file: what the amdgpu driver shows once it is loaded.
        clock: seconds of a monotonic clock.
    """

    name = "amd"

    def __init__(
        self,
        host: str,
        slow_interval_seconds: float = 60,
        rocm_roots: Sequence[Path] | None = None,
        device_file: Path = Path("/dev/kfd"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._slow_interval_seconds = slow_interval_seconds
        self._roots = rocm_roots
        self._device_file = device_file
        self._clock = clock
        self._binding: rocm.Binding | None = None
        self._devices: list[Device] = []
        self._seen: dict[str, str] = {}  # boards that ever answered: key and index
        self._lost: set[str] = set()
        self._announced = False
        self._slow_due = self._retry_due = float("-inf")

    def discover(self) -> Availability:
        """Open the library and list the GPUs; says what is missing and what to do about it."""
        self.close()
        try:
            self._open()
        except rocm.Unusable as exc:
            self.close()
            return exc.availability
        return Availability(True, entities=tuple(device.key for device in self._devices))

    def collect(self) -> list[Reading]:
        """One tick: entities after a discovery, a sample per device, processes, events.

        Raises:
            SourceUnavailable: no GPU answers, since the driver was reloaded, or the partition mode changed.
        """
        if self._binding is None:
            raise SourceUnavailable("the AMD library is not open")
        now = self._clock()
        if self._lost and now >= self._retry_due:
            self._look_again(now)
        slow = now >= self._slow_due
        if slow and self._announced:
            self._check_partitions()
        readings: list[Reading] = []
        for device in tuple(self._devices):
            try:
                readings += device.read(now, slow=slow)
            except Stale:
                self._devices.remove(device)
        if not readings:
            raise SourceUnavailable("no AMD GPU answers: the driver was unloaded or reloaded")
        if slow:
            self._slow_due = now + self._slow_interval_seconds - _SLACK_SECONDS
        news: list[Reading] = [] if self._announced else [*self._entities()]
        self._announced = True
        return [*news, *readings, *self._lost_and_back(now)]

    def close(self) -> None:
        """Forget the handles and shut the library down."""
        binding, self._binding = self._binding, None
        self._devices = []
        self._announced = False
        self._slow_due = float("-inf")
        if binding is not None:
            binding.stop()

    def _open(self) -> None:
        binding = rocm.load(self._roots, self._device_file)
        status = binding.start("INIT_AMD_GPUS")
        self._binding = binding
        if status != rocm.OK:
            unknown = (f"the AMD library does not start (status {status})", "run amd-smi list to see what it reports")
            raise rocm.Unusable(*_OBSTACLES.get(status, unknown))
        self._devices = open_devices(binding, self._host)
        if not self._devices:  # without rights the library starts as if nothing were wrong
            absent = not self._device_file.exists()
            raise rocm.Unusable("the AMD library runs but shows no GPU", _RIGHTS, absent=absent)

    def _look_again(self, now: float) -> None:
        """Open the library anew, which alone finds a board that came back under another handle."""
        self._retry_due = now + _RETRY_SECONDS
        found = self.discover()
        if not found.ok:
            raise SourceUnavailable(found.reason)

    def _check_partitions(self) -> None:
        """A new partition mode makes other devices of the same board; the library lists them once it is reopened."""
        for device in self._devices:
            if device.parent_key is None:
                before = device.labels.get("compute_partition"), device.labels.get("memory_partition")
                now = device.mode
                if any(mode and mode != was for mode, was in zip(now, before, strict=True)):
                    raise SourceUnavailable(f"GPU {device.labels['index']} changed to partition mode {' '.join(now)}")

    def _entities(self) -> list[Entity]:
        return [
            Entity(
                observed_at_ms=now_ms(),
                family=AcceleratorSample.family,
                key=device.key,
                host=self._host,
                parent_key=device.parent_key,
                labels=device.labels,
            )
            for device in self._devices
        ]

    def _lost_and_back(self, now: float) -> list[Event]:
        """Boards that ever answered and do not any more, and those of them that are back."""
        answering = {d.key: d.labels["index"] for d in self._devices if d.scope is Scope.BOARD and d.answers}
        lost, back = self._seen.keys() - answering.keys() - self._lost, self._lost & answering.keys()
        self._seen |= answering
        self._lost = self._lost - back | lost
        if lost:
            self._retry_due = now + _RETRY_SECONDS
        return [
            *(self._event("device-lost", Severity.CRITICAL, key, "is lost: it no longer answers") for key in lost),
            *(self._event("device-back", Severity.INFO, key, "answers again") for key in back),
        ]

    def _event(self, kind: str, severity: Severity, key: str, what: str) -> Event:
        return Event(
            observed_at_ms=now_ms(),
            kind=kind,
            severity=severity,
            message=f"GPU {self._seen[key]} {what}",
            family=AcceleratorSample.family,
            key=key,
        )
