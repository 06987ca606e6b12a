"""The real daemon as a user starts it, with settings of a test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def settings_file(folder: Path, *, interval_seconds: float = 0.5, ports: tuple[int, ...] = (), more: str = "") -> Path:
    """A ``vatio.toml`` with its database beside it."""
    file = folder / "vatio.toml"
    file.write_text(
        f'[storage]\nurl = "sqlite:///{folder}/vatio.db"\n'
        f'[collectors]\ninterval_seconds = {interval_seconds}\nhost_name = "box"\n'
        f"[serving]\nloopback_ports = {json.dumps(list(ports))}\n{more}"
    )
    return file


def command(config: Path, *words: str) -> list[str]:
    """``python -m collectors`` with these settings."""
    return [sys.executable, "-m", "collectors", *words, "--config", str(config)]


def run(config: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        command(config, *words), cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=60
    )


@contextlib.contextmanager
def running(config: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon for as long as the block lasts; its log lies beside the settings."""
    with (config.parent / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            command(config, "run"), cwd=ROOT, env={**os.environ, **(env or {})}, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Exception):
            if true():
                return True
        time.sleep(0.05)
    return False
