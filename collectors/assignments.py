"""Which deployment runs on which device: the process on the device is the one that listens.

Told by the sources: who holds memory on each accelerator (``DeviceProcess``) and which processes stand
behind a server (``Listener``). What the settings say wins over what processes show. A server without
any process on an accelerator runs on the host's CPUs - but only once every source of accelerators has
been heard, and unless the processes on the devices cannot be matched to this machine's (another pid
namespace): then nothing is claimed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from core.readings import AcceleratorSample, Assignment, DeviceProcess, Listener, Reading

FORGET_MS = 60_000  # a server not heard of for this long runs nowhere any more
ACCELERATOR_SOURCES = frozenset(("nvidia", "amd"))


class Assigner:
    """Collects what sources say and answers with the assignments that changed.

    Hold ``lock`` while observing and handing over the answer: what is said later must be stored later.

    Args:
        host: name of this machine.
        awaited: sources that must be heard before a server is said to run on CPUs.
        pid_exists: whether this machine has a process of that number.
    """

    def __init__(
        self,
        host: str,
        *,
        awaited: Iterable[str] = (),
        pid_exists: Callable[[int], bool] = lambda pid: Path(f"/proc/{pid}").exists(),
    ) -> None:
        self.lock = threading.Lock()
        self._host = host
        self._awaited = set(awaited)
        self._last_ms = 0
        self._pid_exists = pid_exists
        self._on_device: dict[str, frozenset[int]] = {}
        self._behind: dict[str, Listener] = {}
        self._configured: dict[str, Assignment] = {}
        self._said: dict[str, Assignment] = {}

    def heard(self, source: str) -> None:
        """A source has reported, or is not here."""
        self._awaited.discard(source)

    def observe(self, readings: Iterable[Reading], at_ms: int) -> list[Assignment]:
        """Take in one batch; return the assignments that are new or different since they were last said."""
        at_ms = self._last_ms = max(at_ms, self._last_ms)  # a clock that was set back must not undo what was said
        self._take(readings)
        changed = []
        for key in {*self._behind, *self._configured, *self._said}:
            now = self._of(key, at_ms)
            before = self._said.get(key)
            if now is not None and (before is None or _what(now) != _what(before)):
                self._said[key] = now
                changed.append(now)
        return changed

    def _take(self, readings: Iterable[Reading]) -> None:
        held: dict[str, set[int]] = {}
        for reading in readings:
            if isinstance(reading, AcceleratorSample) and reading.processes == 0:
                self._on_device[reading.key] = frozenset()
            elif isinstance(reading, DeviceProcess):
                held.setdefault(reading.key, set()).add(reading.pid)
            elif isinstance(reading, Listener):
                for key in reading.deployment_keys:
                    self._behind[key] = reading
            elif isinstance(reading, Assignment):
                self._configured[reading.deployment_key] = reading
        self._on_device.update({key: frozenset(pids) for key, pids in held.items()})

    def _of(self, deployment_key: str, at_ms: int) -> Assignment | None:
        configured = self._configured.get(deployment_key)
        if configured is not None:
            return configured
        listener = self._behind.get(deployment_key)
        if listener is None or at_ms - listener.observed_at_ms > FORGET_MS:
            return _nowhere(deployment_key, at_ms)
        devices = tuple(sorted(key for key, pids in self._on_device.items() if pids & listener.pids))
        if not devices and (self._awaited or self._foreign_processes()):
            return _nowhere(deployment_key, at_ms) if deployment_key in self._said else None
        return Assignment(
            deployment_key=deployment_key,
            target_family="accelerator" if devices else "host",
            target_keys=devices or (self._host,),
            origin="processes",
            observed_at_ms=at_ms,
        )

    def _foreign_processes(self) -> bool:
        """Whether some device is held by a process that this machine's /proc does not show."""
        return any(not self._pid_exists(pid) for pids in self._on_device.values() for pid in pids)


def _nowhere(deployment_key: str, at_ms: int) -> Assignment:
    return Assignment(
        deployment_key=deployment_key,
        target_family="accelerator",
        target_keys=(),
        origin="processes",
        observed_at_ms=at_ms,
    )


def _what(assignment: Assignment) -> tuple[str, tuple[str, ...], str]:
    return assignment.target_family, assignment.target_keys, assignment.origin
