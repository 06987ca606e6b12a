"""Which deployment runs on which device.

Sources tell who serves (``Listener``), who holds memory on each accelerator (``DeviceProcess``), whom an exporter
says it is given to (``DeviceUser``), and what the settings or another daemon know (``Assignment``). Settings win
over labels, and labels over processes. A server without any process on an accelerator runs on the host's CPUs -
but only if its processes are known, every source of this machine's accelerators has been heard, and all of them
tell their processes, by numbers that are this machine's (a container may see others).

What is said holds until something else is known, or until nothing was heard for a while: one missed tick ends
nothing. It then ends when it was last seen to be so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from collectors import workloads
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Listener,
    Reading,
)

FORGET_MS = 60_000  # what was not heard of for this long is not there any more
FORGET_INTERVALS = 3  # where ticks are far apart

Origin = Literal["settings", "labels", "processes"]
_ORIGINS: tuple[Origin, ...] = ("settings", "labels", "processes")  # the most telling first

Process = tuple[str, int]
"""A host and a number on it: numbers of two hosts have nothing in common."""


@dataclass(frozen=True, slots=True)
class _Link:
    """A deployment runs on a target, as one origin knows."""

    family: Literal["accelerator", "host"]
    key: str
    origin: Origin
    seen_at_ms: int

    @property
    def what(self) -> tuple[str, str, str]:
        """The link, whenever it was seen."""
        return self.family, self.key, self.origin


@dataclass(slots=True)
class _Device:
    """What was last told of an accelerator."""

    heard_at_ms: int
    processes: frozenset[Process] | None = None
    listed_at_ms: int | None = None  # by an exporter, at every tick; a driver lists processes now and then
    is_foreign: bool = False  # some of its processes are not this machine's, as it should be
    users: tuple[Mapping[str, str], ...] = ()
    given_at_ms: int = 0

    @property
    def processes_seen_at_ms(self) -> int:
        """When its processes were last seen to be so."""
        return self.heard_at_ms if self.listed_at_ms is None else self.listed_at_ms

    def hold(self, processes: frozenset[Process] | None, *, listed_at_ms: int | None, is_foreign: bool) -> None:
        """Note who holds memory on it."""
        self.processes, self.listed_at_ms, self.is_foreign = processes, listed_at_ms, is_foreign


@dataclass(slots=True)
class _Deployment:
    """What was last told of a deployment."""

    heard_at_ms: int
    listener: Listener | None = None
    listener_at_ms: int = 0
    told: tuple[Assignment, ...] = ()


class Assigner:
    """Collects what sources say and answers with the assignments that changed.

    Hold ``lock`` while observing and handing over the answer: what is said later must be stored later.

    Args:
        host: name of this machine.
        awaited: sources that must be heard before a server is said to run on CPUs.
        held: what the store holds open from before, each with the instant when it was last seen to be so.
            It is said again once it is confirmed, and ended if it is not within the time to forget.
        interval_seconds: between two ticks of a source.
        pid_exists: whether this machine has a process of that number.
    """

    def __init__(
        self,
        host: str,
        *,
        awaited: Iterable[str] = (),
        held: Iterable[Assignment] = (),
        interval_seconds: float = 0.0,
        pid_exists: Callable[[int], bool] = lambda pid: Path(f"/proc/{pid}").exists(),
    ) -> None:
        self.lock = threading.Lock()
        self._host = host
        self._awaited = set(awaited)
        self._forget_ms = max(FORGET_MS, round(FORGET_INTERVALS * interval_seconds * 1000))
        self._pid_exists = pid_exists
        self._last_ms = 0
        self._devices: dict[str, _Device] = {}
        self._described: dict[str, Entity] = {}  # accelerators; one that was silent is not described again
        self._deployments: dict[str, _Deployment] = {}
        self._said: dict[str, list[_Link]] = {}
        self._held = {one.deployment_key: links for one in held if (links := list(_links(one, one.observed_at_ms)))}
        self._settled_at_ms: int | None = None

    def heard(self, source: str) -> None:
        """A source has reported, or is not here."""
        self._awaited.discard(source)

    @property
    def has_heard_all(self) -> bool:
        """Whether every awaited source has been heard."""
        return not self._awaited

    def observe(self, readings: Iterable[Reading], at_ms: int) -> list[Assignment]:
        """Take in one batch; return the assignments that are new or different since they were last said."""
        at_ms = self._last_ms = max(at_ms, self._last_ms)  # a clock that was set back must not undo what was said
        if self._settled_at_ms is None:
            self._settled_at_ms = at_ms + self._forget_ms
        self._forget(at_ms)
        self._take(readings, at_ms)
        found = self._found(at_ms)
        changes = [self._change(key, found.get(key, []), at_ms) for key in {**self._held, **self._said, **found}]
        return [change for change in changes if change is not None]

    def _change(self, deployment_key: str, now: list[_Link], at_ms: int) -> Assignment | None:
        """What is to be said, if anything."""
        held = self._held.get(deployment_key)
        if held is not None:
            if at_ms < (self._settled_at_ms or 0) and _is_less(now, held):
                return None  # the rest may not have been heard yet
            del self._held[deployment_key]
        before = held or self._said.pop(deployment_key, [])
        if now:
            self._said[deployment_key] = now
        was, is_now = _what(before), _what(now)
        if held is None and is_now == was:
            return None
        ended = [link.seen_at_ms for link in before if link.what not in is_now]
        return Assignment(
            deployment_key=deployment_key,
            target_family=now[0].family if now else "accelerator",
            target_keys=tuple(sorted(link.key for link in now)),
            origin=now[0].origin if now else "processes",
            observed_at_ms=max(ended) if is_now < was else at_ms,
        )

    def _take(self, readings: Iterable[Reading], at_ms: int) -> None:
        processes: dict[str, list[DeviceProcess]] = {}
        users: dict[str, list[DeviceUser]] = {}
        told: dict[str, list[Assignment]] = {}
        for reading in readings:
            match reading:
                case AcceleratorSample():
                    device = self._device(reading.key, at_ms)
                    if reading.processes == 0:
                        device.hold(frozenset(), listed_at_ms=None, is_foreign=False)
                case Entity(family=AcceleratorSample.family):
                    self._device(reading.key, at_ms)
                    self._described[reading.key] = reading
                case DeviceProcess():
                    processes.setdefault(reading.key, []).append(reading)
                case DeviceUser():
                    users.setdefault(reading.key, []).append(reading)
                case DeploymentSample():
                    self._deployment(reading.key, at_ms)
                case Listener():
                    for key in reading.deployment_keys:
                        deployment = self._deployment(key, at_ms)
                        deployment.listener, deployment.listener_at_ms = reading, at_ms
                case Assignment():
                    told.setdefault(reading.deployment_key, []).append(reading)
        for key, several in processes.items():
            self._hold(self._device(key, at_ms), several, at_ms)
        for key, given in users.items():
            device = self._device(key, at_ms)
            device.users = tuple(user.labels for user in given if user.labels)
            device.given_at_ms = at_ms
        for key, assignments in told.items():
            self._deployment(key, at_ms).told = tuple(assignments)

    def _device(self, key: str, at_ms: int) -> _Device:
        device = self._devices.setdefault(key, _Device(at_ms))
        device.heard_at_ms = at_ms
        return device

    def _deployment(self, key: str, at_ms: int) -> _Deployment:
        deployment = self._deployments.setdefault(key, _Deployment(at_ms))
        deployment.heard_at_ms = at_ms
        return deployment

    def _hold(self, device: _Device, processes: list[DeviceProcess], at_ms: int) -> None:
        by_driver = not any(process.host for process in processes)
        device.hold(
            frozenset((process.host or self._host, process.pid) for process in processes),
            listed_at_ms=None if by_driver else at_ms,
            is_foreign=any(p.host in ("", self._host) and not self._pid_exists(p.pid) for p in processes),
        )

    def _forget(self, at_ms: int) -> None:
        """Drop what was not heard of for long."""
        oldest_ms = at_ms - self._forget_ms
        self._devices = {key: device for key, device in self._devices.items() if device.heard_at_ms >= oldest_ms}
        self._deployments = {key: one for key, one in self._deployments.items() if one.heard_at_ms >= oldest_ms}
        for device in self._devices.values():
            if device.processes_seen_at_ms < oldest_ms:
                device.hold(None, listed_at_ms=None, is_foreign=False)
            if device.given_at_ms < oldest_ms:
                device.users = ()
        for deployment in self._deployments.values():
            if deployment.listener_at_ms < oldest_ms:
                deployment.listener = None

    def _found(self, at_ms: int) -> dict[str, list[_Link]]:
        """All that is known now: of each deployment what its most telling origin says."""
        holding: dict[Process, list[str]] = {}
        given: dict[tuple[str, str], list[tuple[str, Mapping[str, str]]]] = {}
        for key, device in self._devices.items():
            for process in device.processes or ():
                holding.setdefault(process, []).append(key)
            for labels in device.users:
                for name in workloads.IDENTITIES & labels.keys():
                    given.setdefault((name, labels[name]), []).append((key, labels))
        cpus_alone = self._may_run_on_cpus()
        found = {}
        for deployment_key, deployment in self._deployments.items():
            links = list(_told(deployment))
            if deployment.listener is not None:
                links += self._by_labels(deployment, deployment.listener.labels, given)
                links += self._by_processes(deployment, deployment.listener, holding)
                if not links and cpus_alone and deployment.listener.pids and deployment.listener.host == self._host:
                    links.append(_Link("host", self._host, "processes", deployment.listener_at_ms))
            if links:
                found[deployment_key] = _strongest(links)
        return found

    def _by_labels(
        self,
        deployment: _Deployment,
        labels: Mapping[str, str],
        given: Mapping[tuple[str, str], list[tuple[str, Mapping[str, str]]]],
    ) -> Iterator[_Link]:
        named = [one for name in workloads.IDENTITIES & labels.keys() for one in given.get((name, labels[name]), ())]
        same = [(key, of_device) for key, of_device in named if workloads.is_same(labels, of_device)]
        if workloads.is_one(of_device for _, of_device in same):
            for key in dict(same):
                seen_at_ms = min(deployment.listener_at_ms, self._devices[key].given_at_ms)
                yield _Link("accelerator", key, "labels", seen_at_ms)

    def _by_processes(
        self, deployment: _Deployment, listener: Listener, holding: Mapping[Process, list[str]]
    ) -> Iterator[_Link]:
        for key in sorted({key for pid in listener.pids for key in holding.get((listener.host, pid), ())}):
            seen_at_ms = min(deployment.listener_at_ms, self._devices[key].processes_seen_at_ms)
            yield _Link("accelerator", key, "processes", seen_at_ms)

    def _may_run_on_cpus(self) -> bool:
        """Whether all processes on this machine's accelerators are known, so that who is not among them uses none."""
        if self._awaited or any(device.is_foreign for device in self._devices.values()):
            return False
        described = [self._described[key] for key in self._devices if key in self._described]
        elsewhere = {entity.key for entity in described if entity.host != self._host}
        divided = {entity.parent_key for entity in described}  # whose slices have the processes
        return all(
            device.processes is not None or key in elsewhere or key in divided for key, device in self._devices.items()
        )


def _links(said: Assignment, seen_at_ms: int) -> Iterator[_Link]:
    for key in said.target_keys:
        yield _Link(said.target_family, key, said.origin, seen_at_ms)


def _told(deployment: _Deployment) -> Iterator[_Link]:
    for said in deployment.told:
        yield from _links(said, deployment.heard_at_ms)


def _strongest(links: Iterable[_Link]) -> list[_Link]:
    """Those of the most telling origin; the host's CPUs do not count beside accelerators."""
    links = list({link.what: link for link in links}.values())
    origin = min((link.origin for link in links), key=_ORIGINS.index)
    best = [link for link in links if link.origin == origin]
    return [link for link in best if link.family == "accelerator"] or best


def _is_less(now: list[_Link], before: list[_Link]) -> bool:
    """Whether it is known worse, or of less, than before."""
    if not now or _ORIGINS.index(now[0].origin) > _ORIGINS.index(before[0].origin):
        return True
    return now[0].family == "host" != before[0].family or {link.key for link in now} < {link.key for link in before}


def _what(links: Iterable[_Link]) -> set[tuple[str, str, str]]:
    return {link.what for link in links}
