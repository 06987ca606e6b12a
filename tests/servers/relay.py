"""A second clock on one and the same request: a relay between a client and a server that notes when bytes pass.

What a client times begins before its request reaches the relay and ends after the answer has left it. So by a
clock that both read, the relay's span lies inside the client's, however busy the machine is; and by how much it is
shorter is all that the client's own reading can have added.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CHUNK_BYTES = 64 << 10


@dataclass(slots=True)
class Passed:
    """One connection: when its first byte came from the client, and what came from the server when."""

    began_at: float = 0.0
    chunks: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def ttft_seconds(self) -> float:
        """Until the chunk that completed the first event with text."""
        return next(at for at, data in self._events() if data != b"[DONE]" and _has_text(json.loads(data)))

    @property
    def e2e_seconds(self) -> float:
        """Until the chunk that completed the event that ends the stream."""
        return next(at for at, data in self._events() if data == b"[DONE]")

    def _events(self) -> Iterator[tuple[float, bytes]]:
        rest = b""
        for at, chunk in self.chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    yield at - self.began_at, line.removeprefix(b"data: ").strip()


def _has_text(event: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in event["choices"])


@dataclass(frozen=True, slots=True)
class Relay:
    """``url`` to ask instead of the server's; ``passed`` has every connection that was made, in order."""

    url: str
    passed: list[Passed]


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """Stand in front of a loopback port, one connection at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stand_in = Relay(f"http://127.0.0.1:{listener.getsockname()[1]}", [])

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:  # the listener was shut down
                    return
                with client, socket.create_connection(("127.0.0.1", port)) as server:
                    passed = Passed()
                    stand_in.passed.append(passed)
                    _pass_on(client, server, passed)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield stand_in
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _pass_on(client: socket.socket, server: socket.socket, passed: Passed) -> None:
    """Pass bytes both ways until either side closes."""
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_READ, server)
        ready.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in ready.select():
                source, sink = key.fileobj, key.data
                try:
                    chunk = source.recv(CHUNK_BYTES)
                except ConnectionResetError:  # closed as well, by one who had not read all
                    return
                at = time.perf_counter()
                if not chunk:
                    return
                if source is server:
                    passed.chunks.append((at, chunk))
                elif not passed.began_at:
                    passed.began_at = at
                sink.sendall(chunk)
