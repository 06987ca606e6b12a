"""Servers behind published ports, in real network namespaces and control groups.

Docker itself is not needed: what it does to a port is done here with the same means. ``docker-proxy`` and the
other forwarders are stand-ins of that name that forward as the real ones do.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from collectors.sources.serving import containers
from collectors.sources.serving.containers import container_of, members
from collectors.sources.serving.listeners import processes_behind
from collectors.sources.serving.namespaces import other_networks

pytestmark = pytest.mark.xdist_group("network")  # beside a browser, which minds interfaces that come and go
SERVER = """
    import http.server, os, subprocess, sys

    if len(sys.argv) > 2:  # a worker that nothing ties to its parent
        worker = subprocess.run(
            ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True
        ).stdout.strip()
    else:
        worker = 0

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Answer)
    print(server.server_port, os.getpid(), worker, flush=True)
    server.serve_forever()
"""

FORWARDER = """#!{python}
    import argparse, os, socket, subprocess, sys, threading

    known = argparse.ArgumentParser()
    known.add_argument("-host-port", type=int, default=0)
    known.add_argument("-container-ip")
    known.add_argument("-container-port", type=int)
    known.add_argument("-run", nargs=argparse.REMAINDER, default=[])
    given, _ = known.parse_known_args()

    def pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    server = socket.create_server(("127.0.0.1", given.host_port))
    child = subprocess.Popen(given.run, stdout=subprocess.DEVNULL).pid if given.run else 0
    print(server.getsockname()[1], os.getpid(), child, flush=True)
    while True:
        client, _ = server.accept()
        inner = socket.create_connection((given.container_ip, given.container_port))
        for pair in ((client, inner), (inner, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
"""

_numbers = itertools.count()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Machine:
    """What a test starts on it ends with the test."""

    folder: Path
    stack: ExitStack

    def network(self, address: str | None = None) -> str:
        """A new network namespace, joined to ours by a pair of interfaces where it has an address."""
        number = next(_numbers)
        name = f"vatio{os.getpid()}n{number}"
        ip("netns", "add", name)
        self.stack.callback(ip, "netns", "del", name)
        ip("-n", name, "link", "set", "lo", "up")
        if address is not None:
            outer, inner = f"v{os.getpid()}o{number}", f"v{os.getpid()}i{number}"
            ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
            ip("addr", "add", address.rpartition(".")[0] + ".1/24", "dev", outer)
            ip("link", "set", outer, "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", inner)
            ip("-n", name, "link", "set", inner, "up")
        return name

    def start(self, *command: str) -> tuple[int, int, int]:
        """A program; port, process and child as it tells them."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.stack.callback(self._end, process)
        assert process.stdout is not None
        port, pid, child = map(int, process.stdout.readline().split())
        return port, pid, child

    def server(self, network: str | None = None, port: int = 0, *options: str) -> tuple[int, int, int]:
        inside = ("ip", "netns", "exec", network) if network else ()
        return self.start(*inside, sys.executable, self._program("server.py", SERVER), str(port), *options)

    def forwarder(self, name: str, *options: str) -> tuple[int, int, int]:
        return self.start(self._program(name, FORWARDER.replace("{python}", sys.executable)), *options)

    def _program(self, name: str, text: str) -> str:
        file = self.folder / name
        file.write_text(textwrap.dedent(text.replace("#!", "    #!")).lstrip())
        file.chmod(0o755)
        return str(file)

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        yield Machine(tmp_path, stack)


@pytest.fixture
def network(machine: Machine) -> Callable[..., str]:
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and iproute2")
    try:
        machine.network()
    except (subprocess.CalledProcessError, OSError) as exc:
        pytest.skip(f"network namespaces cannot be made here: {getattr(exc, 'stderr', None) or exc}")
    return machine.network


def free_subnet(number: int) -> str:
    """An address that no other test run on this machine uses at the same time."""
    return f"10.{os.getpid() % 200 + 20}.{number}.2"


def claimed(port: int) -> frozenset[int]:
    return processes_behind([port])[port].pids


def unclear(port: int) -> str:
    behind = processes_behind([port])[port]
    assert behind.pids == frozenset()
    assert behind.started_at_seconds is None
    return behind.unclear


def test_docker_proxy_says_where_it_forwards_to(machine, network):
    inside, other = network(free_subnet(1)), network(free_subnet(2))
    inner, server, _ = machine.server(inside)
    machine.server(other, inner)
    outer, proxy, _ = machine.forwarder(
        "docker-proxy", "-proto", "tcp", "-container-ip", free_subnet(1), "-container-port", str(inner)
    )
    assert urllib.request.urlopen(f"http://127.0.0.1:{outer}/").read() == b"here"
    assert claimed(outer) == {server}
    assert proxy not in claimed(outer)
    behind = processes_behind([outer])[outer]
    assert behind.started_at_seconds == psutil.Process(server).create_time()


def test_docker_proxy_to_a_container_that_is_not_seen(machine):
    port, _, _ = machine.forwarder("docker-proxy", "-container-ip", "192.0.2.7", "-container-port", "8000")
    assert unclear(port) == f"no container is found behind port {port}"


def test_two_containers_with_one_address_are_not_told_apart(machine, network):
    names = [network(), network()]
    for name in names:
        ip("-n", name, "addr", "add", "10.9.8.7/24", "dev", "lo")
    inner, *_ = machine.server(names[0])
    machine.server(names[1], inner)
    port, *_ = machine.forwarder("docker-proxy", "-container-ip", "10.9.8.7", "-container-port", str(inner))
    assert unclear(port) == f"port {port} listens in 2 containers, and nothing tells which is meant"


def test_a_port_that_nobody_holds_is_looked_for_in_other_namespaces(machine, network):
    port, server, _ = machine.server(network())
    assert claimed(port) == {server}


def test_a_port_in_two_namespaces_is_not_claimed(machine, network):
    port, *_ = machine.server(network())
    machine.server(network(), port)
    assert unclear(port) == f"port {port} listens in 2 containers, and nothing tells which is meant"


@contextmanager
def connected_as_if_rewritten(port: int, container: tuple[str, int]) -> Iterator[None]:
    """A client of a local port that nobody holds, and the same client's connection as the container sees it.

    So it looks from both sides where the kernel rewrites addresses: the client's port is the same.
    """
    with socket.create_server(("127.0.0.1", port)) as stand_in, ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        stack.enter_context(stand_in.accept()[0])
        seen = stack.enter_context(socket.socket())
        seen.bind((container[0].rpartition(".")[0] + ".1", client.getsockname()[1]))
        seen.connect(container)
        stand_in.close()
        yield


def test_a_connection_tells_which_of_two_containers_is_meant_and_on_which_port(machine, network):
    one, two = network(free_subnet(3)), network(free_subnet(4))
    inner, *_ = machine.server(one)
    _, server, _ = machine.server(two, inner)
    decoy, *_ = machine.server(one)
    assert unclear(inner)
    with connected_as_if_rewritten(decoy, (free_subnet(4), inner)):
        assert claimed(decoy) == {server}


def test_a_forwarder_that_tells_nothing(machine, network):
    inside = network()
    port, *_ = machine.forwarder("rootlessport")
    machine.server(inside)
    assert unclear(port) == f"no container is found behind port {port}"
    _, server, _ = machine.server(inside, port)
    assert claimed(port) == {server}


def test_a_forwarder_of_a_forwarder_is_not_the_server(machine, network):
    inside, between = network(free_subnet(5)), network()
    inner, server, _ = machine.server(inside)
    port, *_ = machine.forwarder("rootlesskit")
    machine.start(
        *("ip", "netns", "exec", between),
        *(str(machine.folder / "docker-proxy") for _ in [machine.forwarder("docker-proxy")]),
        *("-host-port", str(port)),
    )
    assert unclear(port) == f"no container is found behind port {port}"
    machine.server(inside, port)
    assert len(claimed(port)) == 1
    assert server not in claimed(port)
    assert inner != port


def test_podmans_monitor_keeps_the_ports_of_its_container(machine, network):
    inside, other = network(), network()
    machine.server(other, 18_431)
    port, monitor, child = machine.forwarder(
        "conmon", "-run", "ip", "netns", "exec", inside, sys.executable, machine._program("server.py", SERVER), "18431"
    )
    deadline = time.monotonic() + 5
    while not any(child in n.pids and n.sockets.listening for n in other_networks()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert unclear(port) == f"no container is found behind port {port}"  # it listens on another port, for all we know
    machine.server(inside, port)
    assert monitor not in claimed(port)
    assert len(claimed(port)) == 1


@pytest.mark.parametrize("name", ["ssh", "kubectl", "nginx"])
def test_what_a_proxy_leads_to_may_be_anywhere(machine, name):
    port, *_ = machine.forwarder(name)
    assert unclear(port) == f"{name} forwards port {port}, and may forward it to another machine"


def test_too_many_namespaces_are_not_looked_into(machine, network, monkeypatch):
    port, *_ = machine.server(network())
    monkeypatch.setattr(containers, "MAX_NETWORKS", 0)
    assert unclear(port) == f"port {port} is published by one of more than 0 network namespaces"


IDENTITY = "3f" * 32


@pytest.mark.parametrize(
    ("groups", "container"),
    [
        (f"0::/system.slice/docker-{IDENTITY}.scope\n", f"/system.slice/docker-{IDENTITY}.scope"),
        (f"12:pids:/docker/{IDENTITY}\n11:cpu,cpuacct:/docker/{IDENTITY}\n0::/\n", f"/docker/{IDENTITY}"),
        (f"0::/machine.slice/libpod-{IDENTITY}.scope/container\n", f"/machine.slice/libpod-{IDENTITY}.scope"),
        (
            f"0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-{IDENTITY}.scope\n",
            f"/kubepods.slice/kubepods-pod7.slice/cri-containerd-{IDENTITY}.scope",
        ),
        (f"1:name=systemd:/kubepods/burstable/pod7/{IDENTITY}\n", f"/kubepods/burstable/pod7/{IDENTITY}"),
        (f"0::/../docker-{IDENTITY}.scope\n", f"/../docker-{IDENTITY}.scope"),
        (f"0::/kubepods-pod7.slice:cri-containerd:{IDENTITY}\n", f"/kubepods-pod7.slice:cri-containerd:{IDENTITY}"),
        (f"0::/docker/{'0' * 64}/docker/{IDENTITY}/init\n", f"/docker/{'0' * 64}/docker/{IDENTITY}"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/system.slice/vllm.service\n", None),
        ("0::/system.slice/slurmstepd.scope/job_71/step_0/user/task_0\n", None),
        (f"0::/system.slice/build-{'a' * 40}.service\n", None),
        ("9:name=systemd:/\n0::/\n", None),
        ("", None),
    ],
)
def test_a_container_is_told_by_its_control_group(groups, container):
    found = containers._CONTAINER.search(groups)
    assert (found and found[1]) == container


@pytest.fixture
def group(machine: Machine) -> Path:
    """A control group named as Docker would name it: whatever is written into it, moves there."""
    roots = [
        root for root in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")) if (root / "cgroup.procs").exists()
    ]
    if not roots:
        pytest.skip("there are no control groups of version 2 here")
    folder = roots[0] / f"docker-{os.getpid():064x}.scope"
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"control groups cannot be made here: {exc}")

    def remove() -> None:
        move(roots[0] / "cgroup.procs", *map(int, (folder / "cgroup.procs").read_text().split()))
        folder.rmdir()

    machine.stack.callback(remove)
    return folder / "cgroup.procs"


def move(procs: Path, *pids: int) -> None:
    for pid in pids:
        procs.write_text(str(pid))


def test_what_shares_the_servers_container_belongs_to_it(machine, group):
    port, server, worker = machine.server(None, 0, "worker")
    assert claimed(port) == {server}
    move(group, server, worker)
    assert container_of(server) == container_of(worker)
    assert claimed(port) == {server, worker} == members(container_of(server) or "")


def test_what_shares_a_container_with_two_servers_belongs_to_neither(machine, group):
    (port, server, worker), (other_port, other, _) = machine.server(None, 0, "worker"), machine.server()
    move(group, server, worker, other)
    found = processes_behind([port, other_port])
    assert (found[port].pids, found[other_port].pids) == ({server}, {other})


def test_who_looks_from_within_a_container_does_not_take_it_for_the_servers(machine, group, monkeypatch):
    port, server, worker = machine.server(None, 0, "worker")
    move(group, server, worker)
    monkeypatch.setattr(os, "getpid", lambda: worker)
    assert claimed(port) == {server}


def test_a_proxy_inside_a_container_is_a_part_of_its_server(machine, group):
    port, proxy, _ = machine.forwarder("nginx")
    move(group, proxy)
    assert unclear(port)
    _, server, _ = machine.server()
    move(group, server)
    assert claimed(port) == {proxy, server}
