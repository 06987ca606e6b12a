"""Sources for tests of what surrounds them. Importable, since a child process builds them by name."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from pathlib import Path

from collectors.base import Availability, now_ms
from core.errors import NoData, SourceUnavailable
from core.readings import HostSample, Outcome, Reading, TargetReport


class Scripted:
    """Does what a file says, so that a test can change its mind while it runs."""

    name = "scripted"

    def __init__(self, script: Path) -> None:
        self._script = script
        self.closed = 0

    def discover(self) -> Availability:
        return Availability(False, "no driver", "install it") if self._what() == "absent" else Availability(True)

    def collect(self) -> Iterable[Reading]:
        what = self._what()
        if what == "hang":
            time.sleep(3600)
        if what == "segfault":
            ctypes.string_at(0)
        if what == "exit":
            os._exit(3)
        if what == "bug":
            raise ZeroDivisionError("a defect")
        if what == "nothing":
            raise NoData("no traffic")
        if what in ("gone", "absent"):
            raise SourceUnavailable("the device fell off the bus")
        if what == "target fails":
            yield TargetReport(target="http://a", outcome=Outcome.FAILED, duration_seconds=0.1, error="HTTP 500")
        print("noise on stdout must not disturb the protocol")
        yield HostSample(key=str(os.getpid()), observed_at_ms=now_ms(), load_1m=1.0)

    def close(self) -> None:
        self.closed += 1

    def _what(self) -> str:
        return self._script.read_text().strip()
