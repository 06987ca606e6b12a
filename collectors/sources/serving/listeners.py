"""Which local ports listen, and which processes stand behind them.

A server that computes on an accelerator is rarely one process: the one that accepts requests may be a child
of the one that was started, and the ones that hold device memory its siblings. ``processes_behind`` returns
all of them, so that they can be matched with the processes a driver reports for a device.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import psutil

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
    """The processes behind a port. ``started_at_seconds`` is when the first that holds it began, Unix time."""

    pids: frozenset[int]
    started_at_seconds: float


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
    """The processes that serve each port: its holders, what they were forked from, and all children.

    A port is left out when its processes may not be looked at (another user's).
    """
    holders = _holders(ports)
    every_holder = frozenset[int]().union(*holders.values())
    found = {}
    for port, pids in holders.items():
        family: set[int] = set()
        started = []
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                started.append(process.create_time())
                family |= _family(_leader(process, every_holder - pids))
        if started:
            found[port] = Behind(frozenset(family | pids), min(started))
    return found


def _holders(ports: Collection[int]) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return {}
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
            port = connection.laddr.port
            if port in ports:
                found.setdefault(port, set()).add(connection.pid)
    return {port: frozenset(pid for pid in pids if not _is_init(pid)) for port, pids in found.items()}


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
