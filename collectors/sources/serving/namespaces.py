"""What listens in the other network namespaces of this machine, where containers have ports of their own.

The kernel shows the sockets of a namespace below each of its processes: ``/proc/<pid>/net/tcp`` and ``tcp6``
(proc_pid_net(5)). These files are the namespace's own, so that their inode tells one from another without any
right to look at the process, which reading ``/proc/<pid>/ns/net`` would need.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROC = Path("/proc")
MAX_TABLE_BYTES = 4 << 20  # some 28,000 sockets; those that listen come first

_ESTABLISHED, _LISTEN = b"01", b"0A"  # net/tcp_states.h
_LOCAL_IPV4 = re.compile(r"\|-- (\S+)\s+/32 host LOCAL")  # of /proc/<pid>/net/fib_trie


@dataclass(frozen=True, slots=True)
class Sockets:
    """TCP of one namespace, by port.

    Attributes:
        listening: the identities (inodes) of the sockets that listen.
        clients: ports at the other end of the connections to those.
    """

    listening: Mapping[int, frozenset[int]]
    clients: Mapping[int, frozenset[int]]


@dataclass(frozen=True)
class Network:
    """One network namespace, as its processes show it. What is looked at is remembered."""

    pids: tuple[int, ...]

    @cached_property
    def sockets(self) -> Sockets:
        """What listens, and to whom it talks."""
        listening: dict[int, set[int]] = {}
        clients: dict[int, set[int]] = {}
        rows = [line.split() for name in ("net/tcp", "net/tcp6") for line in self._read(name).splitlines()[1:]]
        for _, here, there, state, *rest in filter(_is_whole, rows):
            if state == _LISTEN:
                listening.setdefault(_port(here), set()).add(int(rest[5]))
            elif state == _ESTABLISHED:
                clients.setdefault(_port(here), set()).add(_port(there))
        return Sockets(
            {port: frozenset(inodes) for port, inodes in listening.items()},
            {port: frozenset(clients.get(port, ())) for port in listening},
        )

    @cached_property
    def addresses(self) -> frozenset[str]:
        """Of its interfaces, IPv4 and IPv6."""
        words = (line.split() for line in self._read("net/if_inet6").decode().splitlines())
        ipv6 = (str(ipaddress.IPv6Address(bytes.fromhex(word[0]))) for word in words)
        return frozenset((*_LOCAL_IPV4.findall(self._read("net/fib_trie").decode()), *ipv6))

    def holders(self, port: int) -> frozenset[int]:
        """The processes that hold a listening socket of the port, as far as they may be looked at."""
        names = {f"socket:[{inode}]" for inode in self.sockets.listening.get(port, ())}
        return frozenset(pid for pid in self.pids if not names.isdisjoint(_open_files(pid)))

    def _read(self, name: str) -> bytes:
        """A file that is the same for all its processes: from the first that still runs."""
        for pid in self.pids:
            with contextlib.suppress(OSError), (PROC / str(pid) / name).open("rb") as file:
                return file.read(MAX_TABLE_BYTES)
        return b""


def other_networks() -> list[Network]:
    """All network namespaces in which processes run, but our own."""
    members: dict[int, list[int]] = {}
    for pid in every_pid():
        with contextlib.suppress(OSError):  # it is gone
            members.setdefault((PROC / str(pid) / "net/tcp").stat().st_ino, []).append(pid)
    members.pop((PROC / "self/net/tcp").stat().st_ino, None)
    return [Network(tuple(pids)) for pids in members.values()]


def every_pid() -> list[int]:
    """The numbers of all processes that /proc shows."""
    return [int(name) for name in os.listdir(PROC) if name.isdecimal()]


def _is_whole(row: list[bytes]) -> bool:
    return len(row) > 9  # the last one may be cut off


def _port(address: bytes) -> int:
    return int(address.rpartition(b":")[2], 16)


def _open_files(pid: int) -> Iterator[str]:
    """What the open files of a process are."""
    with contextlib.suppress(OSError), os.scandir(PROC / str(pid) / "fd") as files:
        for file in files:
            with contextlib.suppress(OSError):
                yield os.readlink(file.path)
