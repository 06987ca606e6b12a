"""Those who get reports: a real mail server and a real web server, which may refuse."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


@dataclass
class Mailbox:
    """What a mail server took."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)

    @property
    def url(self) -> str:
        return (
            f"mailto://watt:hunter2secret@example.org?smtp=127.0.0.1&port={self.port}&mode=insecure&to=boss@example.org"
        )

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802  its interface
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 taken"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server on a free port that lets anybody in."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        box = Mailbox(free.getsockname()[1])
    controller = Controller(
        box, hostname="127.0.0.1", port=box.port, auth_require_tls=False, authenticator=_let_in, auth_required=False
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def _let_in(*_: object) -> AuthResult:
    return AuthResult(success=True)


@dataclass
class Hook:
    """A web server that takes JSON, with the status that it is told to answer."""

    port: int = 0
    status: int = 200
    taken: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://watt:hunter2secret@127.0.0.1:{self.port}/hook-token-9876"


@contextmanager
def hook() -> Iterator[Hook]:
    """The web server, on a free port."""
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.status == 200:
                found.taken.append(json.loads(body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
