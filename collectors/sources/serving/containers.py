"""Servers in containers: who serves a published port, and what runs in the same container.

A port that Docker, Podman, containerd or Kubernetes publish is held on this side by a program that forwards it,
or by nobody where the kernel rewrites addresses; the server listens in a network namespace of its own, maybe on
another port. Whom a port leads to is told by, in this order,

1. the arguments of ``docker-proxy``;
2. connections: where the kernel forwards them, both ends see the client's port;
3. the port's number, where it listens in a single other namespace.

What none of these tells is not claimed.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from collectors.sources.serving.namespaces import Network, every_pid

MAX_NETWORKS = 256  # to look into: the kernel walks through all its connections for each
MAX_CGROUP_BYTES = 1 << 16

_DOCKER_PROXY = "docker-proxy"
_PODMAN_MONITOR = "conmon"  # keeps the ports of its container, or pod, from being taken by others
_PUBLISHERS = frozenset((_DOCKER_PROXY, _PODMAN_MONITOR, "containers-rootlessport", "passt", "pasta", "rootlesskit"))
_PUBLISHERS |= {"pasta.avx2", "rootlessport", "slirp4netns"}
_PROXIES = frozenset(("caddy", "envoy", "haproxy", "kube-proxy", "kubectl", "nginx", "pilot-agent", "socat", "ssh"))
_PROXIES |= {"sshd", "systemd-socket-proxyd", "traefik"}  # what they lead to may be on another machine
_CONTAINER = re.compile(r"^\d+:[^:]*:(.*[/:-][0-9a-f]{64}(?:\.scope)?)(?:/|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Published:
    """The processes that listen behind a port that others hold. ``unclear`` says why there are none."""

    pids: frozenset[int] = frozenset()
    unclear: str = ""


def is_forwarder(pid: int) -> bool:
    """Whether a process holds ports for somebody else's server.

    A proxy inside a server's container is a part of that server.
    """
    names = _names(pid)
    if not names.isdisjoint(_PROXIES):
        container = container_of(pid)
        return container is None or all(not _PROXIES.isdisjoint(_names(other)) for other in members(container))
    return not names.isdisjoint(_PUBLISHERS)


def served_by(
    port: int, forwarders: Collection[int], clients: frozenset[int], networks: Sequence[Network]
) -> Published:
    """Who listens behind a port that is published.

    Args:
        port: on this side.
        forwarders: the programs that hold it; none where the kernel forwards it.
        clients: ports from which this machine is connected to it.
        networks: the other network namespaces.
    """
    programs = {pid: _names(pid) for pid in forwarders}
    leading_anywhere = {name for names in programs.values() for name in names & _PROXIES}
    if leading_anywhere:
        return Published(unclear=f"{min(leading_anywhere)} forwards port {port}, and may forward it to another machine")
    told = {to for pid, names in programs.items() if _DOCKER_PROXY in names and (to := _docker_target(pid))}
    if told:
        places = {(n, to) for n in networks for ip, to in told if ip in n.addresses and to in n.sockets.listening}
    else:
        if monitored := [_children(pid) for pid, names in programs.items() if _PODMAN_MONITOR in names]:
            inside = frozenset[int]().union(*monitored)
            networks = [network for network in networks if not inside.isdisjoint(network.pids)]
        if len(networks) > MAX_NETWORKS:
            return Published(unclear=f"port {port} is published by one of more than {MAX_NETWORKS} network namespaces")
        places = _connected(clients, networks) or {(n, port) for n in networks if port in n.sockets.listening}
    servers = {place: place[0].holders(place[1]) for place in places}
    servers = {place: pids for place, pids in servers.items() if not pids or not all(map(is_forwarder, pids))}
    if len(servers) > 1:
        return Published(unclear=f"port {port} listens in {len(servers)} containers, and nothing tells which is meant")
    if not servers:
        return Published(unclear=f"no container is found behind port {port}" if forwarders else "")
    (pids,) = servers.values()
    return Published(pids, "" if pids else f"the processes behind port {port} may not be looked at")


def container_of(pid: int) -> str | None:
    """The innermost container of a process, as its control group names it, with versions 1 and 2 of these alike.

    Container engines name groups by an identity of 64 hexadecimal digits; sessions, services and jobs have no such.
    """
    try:
        with Path(f"/proc/{pid}/cgroup").open("rb") as file:
            groups = file.read(MAX_CGROUP_BYTES).decode(errors="replace")
    except OSError:
        return None
    found = _CONTAINER.search(groups)
    return found and found[1]


def members(container: str) -> frozenset[int]:
    """All processes of a container."""
    return frozenset(pid for pid in every_pid() if container_of(pid) == container)


def _connected(clients: frozenset[int], networks: Sequence[Network]) -> set[tuple[Network, int]]:
    """Where the other ends of the clients' connections are."""
    return {(n, port) for n in networks for port, others in n.sockets.clients.items() if others & clients}


def _docker_target(pid: int) -> tuple[str, int] | None:
    """Address and port of ``docker-proxy ... -container-ip 172.17.0.2 -container-port 8000``."""
    told = dict(itertools.pairwise(_command(pid)))
    try:
        return str(ipaddress.ip_address(told["-container-ip"])), int(told["-container-port"])
    except (KeyError, ValueError):
        return None


def _names(pid: int) -> frozenset[str]:
    """What a program is called: by the kernel, and by itself where it has a title."""
    try:
        called = psutil.Process(pid).name()
    except (psutil.Error, OSError):
        called = ""
    return frozenset((called, *(os.path.basename(word).partition(":")[0] for word in _command(pid)[:1])))


def _command(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return []


def _children(pid: int) -> frozenset[int]:
    try:
        return frozenset(child.pid for child in psutil.Process(pid).children(recursive=True))
    except (psutil.Error, OSError):
        return frozenset()
