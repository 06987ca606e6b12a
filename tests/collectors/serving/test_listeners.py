from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from collectors.sources.serving import listeners
from collectors.sources.serving.listeners import listening, processes_behind


def test_ports_that_listen_and_their_sockets():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port = server.getsockname()[1]
        assert listening({port, client.getsockname()[1]}) == {port: frozenset((os.fstat(server.fileno()).st_ino,))}
    assert listening({port}) == {}


def test_another_socket_on_a_port_is_another_identity():
    seen = []
    port = 0
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)) as server:
            port = server.getsockname()[1]
            found = listening({port})
            assert found is not None
            seen.append(found[port])
    assert seen[0] != seen[1]


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_servers_on_all_addresses_and_many_of_them():
    servers = [socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) for _ in range(500)]
    ports = {server.getsockname()[1] for server in servers}
    found = listening(ports)
    for server in servers:
        server.close()
    assert found is not None
    assert set(found) == ports


def test_a_kernel_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(listeners, "_NETLINK_SOCK_DIAG", 31)  # no such protocol
    assert listening({1}) is None


SERVER = """
    import multiprocessing, os, socket, sys, time

    def listen(pipe):
        server = socket.create_server(("127.0.0.1", 0))
        pipe.send(server.getsockname()[1])
        time.sleep(60)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        mine, theirs = context.Pipe()
        workers = [context.Process(target=listen, args=(theirs,)), context.Process(target=time.sleep, args=(60,))]
        if sys.argv[2:]:
            workers.append(context.Process(target=listen, args=(theirs,)))
        for worker in workers:
            worker.start()
        ports = [mine.recv() for _ in workers[1:]]
        print(*ports, os.getpid(), *(worker.pid for worker in workers), flush=True)
        time.sleep(60)
"""

LAUNCHER = """
    import subprocess, sys, time

    started = [subprocess.Popen([sys.executable, *sys.argv[1:]]) for _ in range(2)]
    time.sleep(60)
"""


@contextmanager
def running(*command: str, lines: int = 1):
    """The numbers that a program prints, while it and all its children run."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        yield process.pid, [[int(word) for word in process.stdout.readline().split()] for _ in range(lines)]
    finally:
        os.killpg(process.pid, 9)
        process.stdout.close()
        process.wait()


@pytest.fixture
def scripts(tmp_path):
    for name, text in (("server.py", SERVER), ("launcher.py", LAUNCHER)):
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_all_processes_of_a_server_are_found_from_the_one_that_listens(scripts, method):
    with running(sys.executable, str(scripts / "server.py"), method) as (_, [[port, main, listener, worker]]):
        found = processes_behind([port])[port]
        assert {main, listener, worker} <= found.pids
        assert os.getpid() not in found.pids
        assert time.time() - 30 < found.started_at_seconds <= time.time() + 2


def test_what_launched_two_servers_belongs_to_neither(scripts):
    command = (sys.executable, str(scripts / "launcher.py"), str(scripts / "server.py"), "spawn")
    with running(*command, lines=2) as (launcher, [[port, main, *_], [other_port, other_main, *_]]):
        found = processes_behind([port, other_port])
        assert main in found[port].pids
        assert other_main in found[other_port].pids
        assert not found[port].pids & found[other_port].pids
        assert launcher not in found[port].pids | found[other_port].pids


def test_a_program_that_forks_two_servers_belongs_to_neither(scripts):
    with running(sys.executable, str(scripts / "server.py"), "fork", "two") as (_, [[*ports, main, one, _, two]]):
        found = processes_behind(ports)
        assert sorted(found[port].pids for port in ports) in ([{one}, {two}], [{two}, {one}])
        assert main not in found[ports[0]].pids | found[ports[1]].pids
        assert main in processes_behind(ports[:1])[ports[0]].pids  # as far as is known there is but one


def test_a_titled_worker_was_not_forked_from_another_program():
    def process(exe: str, *words: str) -> Any:
        return SimpleNamespace(exe=lambda: exe, cmdline=lambda: list(words))

    worker = process("/usr/bin/python3", "ray::Worker")
    assert listeners._forked(worker, process("/usr/bin/python3", "python3", "serve.py"))
    assert not listeners._forked(worker, process("/opt/raylet", "raylet"))


def test_a_shell_is_not_part_of_the_server(scripts):
    server = f"{sys.executable} {scripts / 'server.py'} spawn & wait"
    with running("sh", "-c", server) as (shell, [[port, main, *_]]):
        assert main in processes_behind([port])[port].pids
        assert shell not in processes_behind([port])[port].pids


def test_nobody_behind_a_port():
    assert processes_behind([1]) == {}
    assert processes_behind([]) == {}


def test_processes_that_may_not_be_seen_are_left_out(monkeypatch):
    def denied(*_: object) -> None:
        raise psutil.AccessDenied

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in processes_behind([port])
        with monkeypatch.context() as patch:
            patch.setattr(psutil.Process, "create_time", denied)
            assert processes_behind([port]) == {}
        monkeypatch.setattr(psutil, "net_connections", denied)
        assert processes_behind([port]) == {}


def test_init_holds_ports_for_services_that_do_not_run_yet(monkeypatch):
    class Init:
        def name(self) -> str:
            return "systemd"

    monkeypatch.setattr(psutil, "Process", lambda pid: Init())
    assert listeners._is_init(1)
    assert not listeners._is_init(2)
