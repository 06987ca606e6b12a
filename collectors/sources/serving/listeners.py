"""Which local ports listen, and which processes stand behind them.

A server that computes on an accelerator is rarely one process: the one that accepts requests may be a child
of the one that was started, and the ones that hold device memory its siblings. ``processes_behind`` returns
all of them, so that they can be matched with the processes a driver reports for a device.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import psutil

from collectors.sources.serving.containers import Published, container_of, is_forwarder, members, served_by
from collectors.sources.serving.namespaces import other_networks

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_HEADER = struct.Struct("=IHHII")
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE = 3
_TCP_LISTEN = 10

_INIT = frozenset(("systemd", "init"))  # holds ports for services that have not begun


@dataclass(frozen=True, slots=True)
class Behind:
    """The processes behind a port.

    Attributes:
        pids: none where the port is forwarded and it is not certain to whom.
        started_at_seconds: when the first that listens began, Unix time.
        unclear: why there are no processes, in words.
    """

    pids: frozenset[int]
    started_at_seconds: float | None
    unclear: str = ""


def listening(ports: Collection[int]) -> dict[int, frozenset[int]] | None:
    """Which of the ports listen, each with the identity (inodes) of its sockets.

    Asks the kernel for listening TCP sockets alone (sock_diag(7)) and takes some 0.05 ms; ``/proc/net/tcp``
    would walk through all connections, and psutil through all files of all processes as well.
    ``None`` where the kernel does not answer (not Linux, or a sandbox).
    """
    found: dict[int, set[int]] = {}
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            for port, inode in _listening_sockets(family):
                if port in ports:
                    found.setdefault(port, set()).add(inode)
    except (OSError, AttributeError):  # AF_NETLINK is Linux's alone
        return None
    return {port: frozenset(inodes) for port, inodes in found.items()}


def _listening_sockets(family: int) -> Iterator[tuple[int, int]]:
    request = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, 1 << _TCP_LISTEN)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + request)
        while True:
            messages = kernel.recv(1 << 16)
            while messages:
                length, kind, *_ = _HEADER.unpack_from(messages)
                if kind == _DONE:
                    return
                if kind != _SOCK_DIAG_BY_FAMILY:
                    raise OSError("the kernel does not list sockets")
                (port,) = struct.unpack_from(">H", messages, _HEADER.size + 4)
                (inode,) = struct.unpack_from("=I", messages, _HEADER.size + 68)
                yield port, inode
                messages = messages[(length + 3) & ~3 :]


def processes_behind(ports: Collection[int]) -> dict[int, Behind]:
    """The processes that serve each port: its holders, what they were forked from, all children, their container.

    A port is left out when its processes may not be looked at (another user's), or when nobody here serves it.
    """
    seen = _users(ports)
    forwarders = {port: frozenset(filter(is_forwarder, users.holders)) for port, users in seen.items()}
    published = {port for port, users in seen.items() if users.holders == forwarders[port]}
    networks = other_networks() if published else []
    found = {
        port: served_by(port, forwarders[port], users.clients, networks)
        if port in published
        else Published(users.holders - forwarders[port])
        for port, users in seen.items()
    }
    every_server = frozenset[int]().union(*(one.pids for one in found.values()))
    behind = {}
    for port, one in found.items():
        started = _started_at_seconds(one.pids)
        if one.unclear or started is not None:
            behind[port] = Behind(_belonging(one.pids, every_server - one.pids), started, one.unclear)
    return behind


@dataclass(slots=True)
class _Users:
    """Whoever has to do with a port: who holds it, and from which ports this machine is connected to it."""

    holders: frozenset[int] = frozenset()
    clients: frozenset[int] = frozenset()
    listens: bool = False


def _users(ports: Collection[int]) -> dict[int, _Users]:
    """Of each port whose holders are known: nobody where none listens here, and it may yet lead elsewhere."""
    found = {port: _Users() for port in ports}
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return {}
    for connection in connections:
        here, there, pid = connection.laddr, connection.raddr, connection.pid
        if connection.status == psutil.CONN_LISTEN and here and here.port in found:
            found[here.port].listens = True
            if pid and not _is_init(pid):
                found[here.port].holders |= {pid}
        elif here and there and there.ip == here.ip and there.port in found:
            found[there.port].clients |= {here.port}
    return {port: users for port, users in found.items() if users.holders or not users.listens}


def _started_at_seconds(pids: Collection[int]) -> float | None:
    """When the first of the processes began, Unix time."""
    started = []
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            started.append(psutil.Process(pid).create_time())
    return min(started, default=None)


def _belonging(pids: frozenset[int], strangers: frozenset[int]) -> frozenset[int]:
    """The whole server of which these processes listen.

    What shares its container is a part of it, unless other servers do, or whoever looks.
    """
    found = set(pids)
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            found |= _family(_leader(psutil.Process(pid), strangers))
    containers = {container for pid in pids if (container := container_of(pid))}
    for container in containers - {container_of(os.getpid())}:
        inside = members(container)
        if inside.isdisjoint(strangers):
            found |= inside
    return frozenset(found)


def _is_init(pid: int) -> bool:
    try:
        return pid == 1 and psutil.Process(1).name() in _INIT
    except psutil.Error:
        return True


def _leader(process: psutil.Process, strangers: Collection[int]) -> psutil.Process:
    """The topmost process that this one was forked from; a launcher or shell above it is not part of the server.

    Args:
        process: one that holds the port.
        strangers: the holders of other servers' ports; whoever is above one of them launched both.
    """
    while (parent := process.parent()) is not None:
        if not _forked(process, parent) or _family(parent) & frozenset(strangers):
            break
        process = parent
    return process


def _forked(child: psutil.Process, parent: psutil.Process) -> bool:
    """Whether both run one program: a fork, a ``multiprocessing`` child, or a worker titled like ``VLLM::Worker``."""
    try:
        if child.exe() != parent.exe():
            return False
        words = child.cmdline()
        return words == parent.cmdline() or any("multiprocessing" in w for w in words) or "::" in "".join(words[:1])
    except (psutil.Error, OSError):
        return False


def _family(process: psutil.Process) -> set[int]:
    return {process.pid, *(child.pid for child in process.children(recursive=True))}
