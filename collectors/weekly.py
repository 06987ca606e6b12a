"""Starts the weekly summary's own command every quarter of an hour: it knows what is due, and does it.

A process of its own, because a summary of a large fleet takes seconds and half a gigabyte that ticks must not wait for,
and because collectors do not know reports.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "reports", "due")
FIRST_SECONDS = 20.0  # after the daemon's start, when the first ticks are stored
PERIOD_SECONDS = 900.0  # on whole quarters of the clock, so that also zones with half hours are served on time
LONGEST_SECONDS = 1800.0
FINISH_SECONDS = 10.0
LOWER_PRIORITY = 10
_LOOK_SECONDS = 0.2


class WeeklyCommand:
    """Runs it from ``start`` to ``stop``.

    Args:
        config: the settings file that the daemon was given; ``None``: what it found by itself.
        command: what is run.
    """

    def __init__(self, config: str | None, command: Sequence[str] = COMMAND) -> None:
        self._command = [*command, *(("--config", config) if config else ())]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vatio-weekly", daemon=True)

    def start(self) -> None:
        """Begin; the first run comes soon, in case something was due while no daemon ran."""
        self._thread.start()

    def stop(self) -> None:
        """End; a run that is under way has a while to finish, since what it was sending would be left in doubt."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        pause_seconds = FIRST_SECONDS
        while not self._stop.wait(pause_seconds):
            try:
                self._run()
            except OSError as exc:
                log.warning("the weekly summary cannot be started: %s", exc)
            pause_seconds = PERIOD_SECONDS - time.time() % PERIOD_SECONDS

    def _run(self) -> None:
        child = subprocess.Popen(  # noqa: S603  our own command
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the daemon
        )
        with child:
            with contextlib.suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, child.pid, os.getpriority(os.PRIO_PROCESS, 0) + LOWER_PRIORITY)
            ends, said = time.monotonic() + LONGEST_SECONDS, ""
            while child.poll() is None:
                try:
                    said, _ = child.communicate(timeout=_LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    if self._stop.is_set():
                        ends = min(ends, time.monotonic() + FINISH_SECONDS)
                    if time.monotonic() > ends:
                        child.kill()
            for line in said.splitlines():
                log.log(logging.INFO if child.returncode == 0 else logging.WARNING, "weekly summary: %s", line)
