"""Records an hour of a real vLLM under a gentle, varying load; with one restart and one stop.

    python -m tests.servers.record_hour [FOLDER]

Runs for an hour and some minutes. FOLDER is where ``hour.json.xz`` and ``hour.json`` go (``hour.py`` says what
they are), without one over the recorded fixture. The server is drained before it is stopped, so that the books
and the pages can be equal to the last token.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from itertools import dropwhile
from pathlib import Path

import httpx

from tests.servers import launch
from tests.servers.client import count, drive, workload
from tests.servers.hour import Burst, Hour, Page, kept_lines
from tests.servers.install import Installed, default_directory
from tests.servers.record import RECORDED

INTERVAL_SECONDS = 10.0
LIVES_SECONDS = ((1680, 0), (780, 240), (720, 0))  # each: under load, and stopped after it
DRAIN_SECONDS = 2.5 * INTERVAL_SECONDS  # so that two pages show the last answer
SIZES = (1, 3, 8, 16, 24, 120)  # of a burst; the last one takes about as long as an interval
QUIET_RATIO = 0.12  # of the pauses are minutes long
SEED = 31


class Recorder:
    """Takes a page on every full interval, from a thread of its own, until told to stop."""

    def __init__(self, port: int) -> None:
        self.pages: list[Page] = []
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._record)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _record(self) -> None:
        with httpx.Client(timeout=INTERVAL_SECONDS / 2, trust_env=False) as client:
            while not self._over.wait(INTERVAL_SECONDS - time.time() % INTERVAL_SECONDS):
                at_ms = time.time_ns() // 1_000_000
                try:
                    lines = kept_lines(client.get(self._url).raise_for_status().text)
                except httpx.HTTPError:
                    lines = None
                self.pages.append(Page(at_ms, lines))


def send_bursts(server: launch.Server, dice: random.Random, until: float) -> list[Burst]:
    """Short loads of every size with pauses between them, a few of which are minutes long."""
    bursts = []
    while time.monotonic() < until:
        size, concurrency = dice.choice(SIZES), dice.choice((1, 2, 4, 8, 12))
        requests = workload(size, seed=dice.getrandbits(32), output_tokens=dice.choice((8, 48, 160)))
        began_at_ms = time.time_ns() // 1_000_000
        counted = count(drive(server.url, server.model, requests, concurrency=concurrency))
        bursts.append(Burst(began_at_ms, time.time_ns() // 1_000_000, counted))
        pause = dice.uniform(120, 300) if dice.random() < QUIET_RATIO else dice.expovariate(1 / 25)
        time.sleep(max(0.0, min(pause, until - time.monotonic())))
    return bursts


def record(installed: Installed, logs: Path) -> Hour:
    dice, port = random.Random(SEED), launch.free_port()
    bursts: list[Burst] = []
    with Recorder(port) as recorder:
        for load_seconds, stopped_seconds in LIVES_SECONDS:
            with launch.vllm(installed, logs / "vllm.log", port=port) as server:
                bursts += send_bursts(server, dice, time.monotonic() + load_seconds)
                time.sleep(DRAIN_SECONDS)
            time.sleep(stopped_seconds)
    return Hour(list(dropwhile(lambda page: page.lines is None, recorder.pages)), bursts)


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else RECORDED / "vllm-0.32.0-cpu"
    os.nice(10)
    with tempfile.TemporaryDirectory() as logs:
        record(Installed(default_directory()), Path(logs)).save(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
