"""A vendor's library in a process of its own, since drivers segfault, hang and leak.

The parent side is a source like any other; it asks over a socket and waits no longer than the
deadline. What does not answer is killed and started anew at the next discovery. The child is told
what to build as a pickled call, so it imports that one source and nothing of the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collectors.base import Availability, Source
from core.errors import CollectorError, DeadlineExceeded, SourceUnavailable
from core.readings import Reading

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0  # loading a driver and listing its devices is slow the first time
KILL_SECONDS = 2.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildSource:
    """Runs ``build()`` in a child process and passes the protocol's calls through."""

    def __init__(
        self, name: str, build: Callable[[], Source], *, deadline_seconds: float, start_seconds: float = START_SECONDS
    ) -> None:
        self.name = name
        self._build = build
        self._deadline_seconds = deadline_seconds
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def discover(self) -> Availability:
        """Start the child if there is none and ask it; without devices it is let go again."""
        if self._process is not None and self._pipe is None:
            return self._stuck()
        try:
            if self._pipe is None:
                self._start()
            found = self._ask("discover", self._start_seconds)
        except CollectorError as exc:
            return Availability(False, str(exc), "see the driver's log (dmesg); the source is tried again by itself")
        if not isinstance(found, Availability):
            raise TypeError(f"{self.name}: discover() answered {type(found).__name__}")
        if not found.ok:
            self.close()
        return found

    def collect(self) -> Iterable[Reading]:
        """One tick of the child, within the deadline."""
        if self._pipe is None:
            raise SourceUnavailable(f"{self.name}: its process is not running")
        readings: tuple[Reading, ...] = self._ask("collect", self._deadline_seconds)
        return readings

    def close(self) -> None:
        """Ask the child to end; kill it when it does not."""
        if self._pipe is not None:
            with contextlib.suppress(CollectorError):  # it may be gone already, which is what was wanted
                self._ask("close", KILL_SECONDS)
            self._end()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", "collectors.child", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send_bytes(pickle.dumps(self._build))

    def _ask(self, what: str, seconds: float) -> Any:  # noqa: ANN401  whatever the protocol's call returns
        pipe = self._pipe
        if pipe is None:
            raise SourceUnavailable(f"{self.name}: its process is not running")
        try:
            pipe.send(what)
            if not pipe.poll(seconds):
                self._end()
                raise DeadlineExceeded(f"{self.name}: no answer within {seconds:g} s; its process was killed")
            answer = pipe.recv()
        except (EOFError, OSError) as exc:
            raise SourceUnavailable(f"{self.name}: {self._end()}") from exc
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _end(self) -> str:
        """Kill the child and say how it ended. A child that cannot die is kept in mind: no second one."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        process = self._process
        if process is None:
            return "its process is not running"
        ended_by_itself = process.poll() is not None or _waited(process, 0.2)
        if not ended_by_itself:
            process.kill()
            if not _waited(process, KILL_SECONDS):
                return self._stuck().reason
        self._process = None
        code = process.returncode
        if not ended_by_itself:
            return "its process was killed"
        return (
            f"its process died of {signal.Signals(-code).name}" if code < 0 else f"its process ended with code {code}"
        )

    def _stuck(self) -> Availability:
        process = self._process
        if process is not None and process.poll() is not None:
            self._process = None  # it did die in the end
            return self.discover()
        pid = process.pid if process else 0
        return Availability(
            False,
            f"process {pid} is stuck in the driver and cannot be killed; no second one is started",
            "the device needs a reset or the machine a reboot",
        )


def _waited(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def serve(pipe: Connection) -> None:
    """The child's side: build the source, answer until told to close or until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both may reach the whole group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    # A driver call may hang while the parent is killed: the kernel then ends this process too.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    source: Source = pickle.loads(pipe.recv_bytes())()  # noqa: S301  from our own parent, over a private socket
    calls: dict[str, Callable[[], object]] = {
        "discover": source.discover,
        "collect": lambda: tuple(source.collect()),
        "close": source.close,
    }
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            source.close()
            return
        try:
            answer = calls[what]()
        except CollectorError as exc:
            answer = exc
        except Exception:  # noqa: BLE001  a defect of the source: the parent records it as such
            answer = RuntimeError(traceback.format_exc())
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return
        if what == "close":
            return


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as parent:
        serve(parent)
