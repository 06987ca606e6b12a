"""Hundreds of inference servers on loopback, played by one process: ``python -m benchmarks.targets PORT FILE``.

Each target is an address of its own in 127/8, so that a monitor sees as many hosts. Answers are prepared, since
the two cores are the monitors' to use: every target shows a recorded vLLM page whose counters go on rising. Some
targets take the connection and never answer. When each request for a page came in is written to FILE, a line
per request.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

from benchmarks.page import PAGE

ANSWERING, HANGING, DEAD = 480, 10, 10
VARIANTS = 64  # of the page, one after the other; then the counters begin again, as after a restart
VERSION = b'{"version": "0.32.0"}'
_COUNTED = re.compile(rb"^(\S*(?:_total|_bucket|_count|_sum)(?:\{[^\n]*\})?) ([0-9.e+]+)$", re.MULTILINE)


def addresses() -> tuple[list[str], list[str], list[str]]:
    """Those that answer, those that hang, and those where nothing listens (on another port, that is)."""
    every = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(ANSWERING + HANGING + DEAD)]
    return every[:ANSWERING], every[ANSWERING : ANSWERING + HANGING], every[ANSWERING + HANGING :]


def pages() -> list[bytes]:
    """The page again and again, all that is counted having risen."""
    body = PAGE.read_bytes()

    def risen(by: int) -> bytes:
        def one(match: re.Match[bytes]) -> bytes:
            value = float(match[2])
            return b"%s %s" % (match[1], repr(value + by if value else value).encode())

        return _COUNTED.sub(one, body)

    return [risen(number) for number in range(VARIANTS)]


class _Target(asyncio.Protocol):
    """One connection: requests are told apart by their empty line."""

    def __init__(self, pages: list[bytes], hanging: frozenset[str], log: list[tuple[str, float]]) -> None:
        self._pages, self._hanging, self._log = pages, hanging, log
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        *requests, self._got = (self._got + data).split(b"\r\n\r\n")
        for request in requests:
            at = time.time()
            if not request.startswith(b"GET /metrics "):
                self._transport.write(_answer("application/json", VERSION))
                continue
            self._log.append((self._address, at))
            if self._address not in self._hanging:
                self._transport.write(self._pages[int(at / 15) % VARIANTS])


def _answer(media_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _serve(port: int, file: Path) -> None:
    answers = [_answer("text/plain; version=0.0.4", page) for page in pages()]
    log: list[tuple[str, float]] = []
    hanging = frozenset(addresses()[1])
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: _Target(answers, hanging, log), "0.0.0.0", port, backlog=1024)
    with file.open("w") as out:
        while True:
            await asyncio.sleep(1)
            out.writelines(f"{address} {at!r}\n" for address, at in log)
            out.flush()
            log.clear()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
