"""CPU time and memory of a process with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used over elapsed seconds, and proportional memory at the end."""

    cpu_seconds: float
    elapsed_seconds: float
    memory_mib: float

    @property
    def cpu_ratio(self) -> float:
        """Share of one core."""
        return self.cpu_seconds / self.elapsed_seconds


def cpu_seconds(root: psutil.Process) -> float:
    """User and system time of a process, its children, and those of them that ended."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mib(root: psutil.Process) -> float:
    """Proportional set size, so that pages shared between children are counted once (MiB)."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / MIB


def anonymous_mib(root: psutil.Process) -> float:
    """The same without pages of mapped files (MiB), which grow with a database and which the kernel drops at will."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss_Anon:"))
    return total / 1024


def watch(roots: Sequence[psutil.Process], seconds: float) -> Usage:
    """Measure for a while."""
    before, began = sum(map(cpu_seconds, roots)), time.monotonic()
    time.sleep(seconds)
    used = sum(map(cpu_seconds, roots)) - before
    return Usage(used, time.monotonic() - began, sum(map(memory_mib, roots)))


@contextlib.contextmanager
def running(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[psutil.Process]:
    """A program for as long as the block lasts; its output is shown only when it ends too early."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield psutil.Process(process.pid)
            if process.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"{command[0]} ended early: {output.read().decode(errors='replace')[-500:]}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
