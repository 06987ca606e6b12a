"""Who may read the daemon's page, and what readers cannot do to it. Real sockets on loopback."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from collectors.page import server as page_server
from collectors.page.server import CONNECTIONS, PageServer, open_page
from core.settings import ExpositionSettings
from tests.e2e.daemon import until

BODY = b"up 1\n"


@pytest.fixture(autouse=True)
def stops_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_server, "LOOK_SECONDS", 0.02)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve(free_port: int) -> Iterator[Callable[..., PageServer]]:
    with ExitStack() as stack:

        def start(render: Callable[[], bytes] = lambda: BODY, **settings: Any) -> PageServer:
            server = PageServer(ExpositionSettings(listen=f"127.0.0.1:{free_port}", **settings), render)
            stack.callback(server.stop)
            return server

        yield start


def ask(
    port: int, path: str = "/metrics", method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_page_is_served_as_prometheus_text_and_the_root_points_to_it(serve: Callable[..., PageServer]):
    port = serve().port
    status, body, headers = ask(port)
    assert (status, body) == (200, BODY)
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "Python" not in headers["Server"]
    assert ask(port, "/")[:2] == (200, b"Vatio: see /metrics\n")
    assert ask(port, "/metrics?name=up")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/metrics", 501),
        ("DELETE", "/", 501),
        ("TRACE", "/", 501),
    ],
)
def test_nothing_else_is_there(serve: Callable[..., PageServer], method: str, path: str, status: int):
    assert ask(serve().port, path, method)[0] == status


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Bearer s3cret", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("bearer s3cret", 401),
        ("Basic s3cret", 401),
        ("Bearer \xff", 401),
        (None, 401),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/"])
def test_with_a_token_only_its_holder_reads(
    serve: Callable[..., PageServer], monkeypatch: pytest.MonkeyPatch, path: str, said: str | None, status: int
):
    monkeypatch.setenv("VATIO_HUB_TOKEN", "s3cret\n")
    port = serve(token_env="VATIO_HUB_TOKEN").port
    answered, body, headers = ask(port, path, headers={} if said is None else {"Authorization": said})
    assert answered == status
    assert (body == b"a token is needed\n") == (status == 401) == ("WWW-Authenticate" in headers)


def test_a_token_that_is_not_set_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free_port: int
):
    monkeypatch.setenv("VATIO_HUB_TOKEN", " ")
    settings = ExpositionSettings(listen=f"127.0.0.1:{free_port}", token_env="VATIO_HUB_TOKEN")
    assert open_page(settings, lambda: BODY) is None
    assert caplog.messages == ["no metrics page: environment variable VATIO_HUB_TOKEN is not set"]
    with pytest.raises(ConnectionRefusedError):
        ask(free_port)


def test_a_port_that_is_taken_is_one_line_in_the_log(
    serve: Callable[..., PageServer], caplog: pytest.LogCaptureFixture
):
    port = serve().port
    assert open_page(ExpositionSettings(listen=f"127.0.0.1:{port}"), lambda: BODY) is None
    assert caplog.messages == [
        f"no metrics page: cannot listen on 127.0.0.1:{port} (Address already in use); set metrics.listen"
    ]
    assert ask(port)[0] == 200


def test_switched_off_it_says_and_does_nothing(free_port: int, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert open_page(ExpositionSettings(listen=f"127.0.0.1:{free_port}", enabled=False), lambda: BODY) is None
    assert caplog.messages == []
    with pytest.raises(ConnectionRefusedError):
        ask(free_port)


def test_stopping_leaves_no_thread_and_no_port_whoever_hangs_on(free_port: int):
    before = set(threading.enumerate())
    server = open_page(ExpositionSettings(listen=f"127.0.0.1:{free_port}"), lambda: b"x" * (64 << 20))
    assert server is not None
    with (
        socket.create_connection(("127.0.0.1", free_port)) as silent,
        socket.create_connection(("127.0.0.1", free_port)) as slow,
    ):
        slow.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert slow.recv(10) == b"HTTP/1.0 2"
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5, "it does not wait for the 30 s that a reader has"
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) <= before
    server = open_page(ExpositionSettings(listen=f"127.0.0.1:{free_port}"), lambda: BODY)
    assert server is not None, "the port is free again"
    server.stop()


def opened(port: int, count: int, stack: ExitStack) -> list[socket.socket]:
    sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(count)]
    for one in sockets:
        one.sendall(b"GET /metr")
    return sockets


def test_connections_beyond_the_bound_are_closed_and_cost_no_thread(serve: Callable[..., PageServer]):
    port = serve().port
    before = threading.active_count()
    with ExitStack() as stack:
        sockets = opened(port, CONNECTIONS, stack)
        (one_more,) = opened(port, 1, stack)
        assert one_more.recv(1) == b""
        assert threading.active_count() <= before + CONNECTIONS
        sockets[0].sendall(b"ics HTTP/1.0\r\n\r\n")
        assert sockets[0].recv(12) == b"HTTP/1.0 200", "those that are inside are served"


def test_slow_readers_are_cut_off_when_their_time_is_over(
    serve: Callable[..., PageServer], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page_server, "LONGEST_SECONDS", 0.3)
    port = serve().port
    with ExitStack() as stack:
        sockets = opened(port, CONNECTIONS, stack)
        for one in sockets:
            assert one.recv(1) == b""
        # A thread that was cut off may take a moment to end.
        assert until(lambda: ask(port)[0] == 200), "there is room again"


def test_a_page_that_cannot_be_made_is_told_in_the_log_and_the_next_one_is_tried(
    serve: Callable[..., PageServer], caplog: pytest.LogCaptureFixture
):
    answers: list[Exception | bytes] = [ZeroDivisionError("a defect"), BODY]

    def render() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    port = serve(render).port
    with pytest.raises(http.client.RemoteDisconnected):
        ask(port)
    assert ask(port)[1] == BODY
    assert caplog.messages == ["the metrics page cannot be made"]
