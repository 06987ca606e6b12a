"""Serves the page over HTTP to whoever may read it, within bounds.

A thread per connection, few of them; each connection brings one answer and is over after ``LONGEST_SECONDS``,
however slowly its client reads or writes.
"""

from __future__ import annotations

import hmac
import logging
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from core.errors import ConfigError
from core.settings import ExpositionSettings

log = logging.getLogger(__name__)

PATH = "/metrics"
CONNECTIONS = 16  # at once; one more is closed unheard
LONGEST_SECONDS = 30.0  # a page of 4 MB at 1 Mbit/s
LOOK_SECONDS = 0.5  # how often for connections that are overdue, and for the end


class PageServer:
    """Listens from its making until ``stop``.

    Args:
        settings: where to listen, and who may read.
        render: makes the page.

    Raises:
        ConfigError: the variable with the token is not set.
        OSError: it cannot listen there.
    """

    def __init__(self, settings: ExpositionSettings, render: Callable[[], bytes]) -> None:
        self._server = _Server((settings.host, settings.port), render, _token(settings.token_env))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_SECONDS,), name="vatio-page", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, cut what is under way, and wait for the threads."""
        self._server.shutdown()
        self._thread.join()
        self._server.cut(overdue_seconds=0.0)
        self._server.server_close()


def open_page(settings: ExpositionSettings, render: Callable[[], bytes]) -> PageServer | None:
    """The server, if the settings want one and it can be had; the reason why not is one line in the log."""
    if not settings.enabled:
        return None
    try:
        server = PageServer(settings, render)
    except ConfigError as exc:
        log.warning("no metrics page: %s", exc)
        return None
    except OSError as exc:
        log.warning("no metrics page: cannot listen on %s (%s); set metrics.listen", settings.listen, exc.strerror)
        return None
    log.info("metrics page on http://%s%s", settings.listen, PATH)
    return server


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(f"environment variable {variable} is not set")
    return token


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(self, address: tuple[str, int], page: Callable[[], bytes], token: str | None) -> None:
        self.page, self.token = page, token
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        ((self.address_family, *_, where), *_) = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        super().__init__(where, _Handler)  # type: ignore[arg-type]  # of any family

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  as the base class has it
        with self._lock:
            room = len(self._open) < CONNECTIONS
            if room:
                self._open[request] = time.monotonic()
        if room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self.cut(overdue_seconds=LONGEST_SECONDS)

    def cut(self, *, overdue_seconds: float) -> None:
        """End the connections that have been open for so long; their threads notice."""
        with self._lock:
            for request, began in self._open.items():
                if time.monotonic() - began >= overdue_seconds:
                    _shut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        failure = sys.exception()
        if isinstance(failure, OSError):  # the client left, or was cut off
            log.debug("a reader of the metrics page was not answered: %s", failure)
        else:
            log.error("the metrics page cannot be made", exc_info=failure)


def _shut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client was faster
        return


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = LONGEST_SECONDS

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not self._may_read():
            self._answer(HTTPStatus.UNAUTHORIZED, b"a token is needed\n", {"WWW-Authenticate": "Bearer"})
        elif path == PATH:
            self._answer(HTTPStatus.OK, self.server.page(), {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
        elif path == "/":
            self._answer(HTTPStatus.OK, f"Vatio: see {PATH}\n".encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"not here\n")

    def _may_read(self) -> bool:
        if self.server.token is None:
            return True
        said = self.headers.get("Authorization", "")
        return hmac.compare_digest(said.encode(errors="replace"), f"Bearer {self.server.token}".encode())

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "Vatio"

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
