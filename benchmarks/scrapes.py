"""Five hundred scrape targets every 15 s, ten of them dead and ten hanging: Vatio, and Prometheus after it.

Lateness is seen from the targets: how long after its instant of the grid a request comes in. Vatio's grid is known
(``collectors.runner.phase_ns``). Prometheus gives each target an instant of its own, which is not told: there the
earliest request of a target, taken modulo the interval, stands for it, so its lateness can only look smaller.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.processes import anonymous_mib, cpu_seconds, running
from benchmarks.targets import addresses
from collectors.runner import NS, phase_ns

ROOT = Path(__file__).parent.parent
HOST, INTERVAL_SECONDS, DEADLINE_SECONDS = "bench", 15.0, 5.0
WARM_UP_SECONDS = 60.0
LOOK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """How one monitor did. Times are of requests to targets that answer."""

    name: str
    note: str = ""
    seconds: float = 0.0
    requests: int = 0
    expected: int = 0
    late_p50_seconds: float = 0.0
    late_p99_seconds: float = 0.0
    late_max_seconds: float = 0.0
    cpu_ratio: float = 0.0
    memory_first_mib: float = 0.0
    memory_last_mib: float = 0.0


def vatio(folder: Path, seconds: float) -> Scraped:
    """The daemon with nothing but its serving source; targets from a file, as a large fleet lists them."""
    with ExitStack() as stack:
        port, log = _targets(stack, folder)
        answering, hanging, dead = addresses()
        listed = [f"{address}:{port}" for address in (*answering, *hanging)]
        (folder / "targets.json").write_text(json.dumps([{"targets": [*listed, *(f"{a}:1" for a in dead)]}]))
        config = folder / "vatio.toml"
        config.write_text(
            f'[storage]\nurl = "sqlite:///{folder / "vatio.db"}"\n'
            f'[collectors]\nhost_name = "{HOST}"\ninterval_seconds = {INTERVAL_SECONDS}\n'
            f"deadline_seconds = {DEADLINE_SECONDS}\n"
            'disabled = ["nvidia", "amd", "cpu", "host", "exporters", "probe"]\n'
            f'[serving]\ndiscover = false\nfile_sd = ["{folder / "targets.json"}"]\n'
            "[metrics]\nenabled = false\n"
        )
        command = [sys.executable, "-m", "collectors", "--config", str(config), "run"]
        root = stack.enter_context(running(command, cwd=ROOT))
        phase = phase_ns(HOST, "serving", round(INTERVAL_SECONDS * NS)) / NS
        row = _watched("Vatio", root, log, seconds, grid=dict.fromkeys(answering, phase))
        with closing(sqlite3.connect(f"file:{folder / 'vatio.db'}?mode=ro", uri=True)) as connection:
            (missed,) = connection.execute(
                "SELECT sum(ticks_missed) FROM collector_tick WHERE target = '' AND scheduled_at_ms > ?",
                ((time.time() - row.seconds) * 1000,),
            ).fetchone()
            (failing,) = connection.execute(
                "SELECT count(DISTINCT target) FROM collector_tick WHERE target <> '' AND outcome = 'failed'"
            ).fetchone()
        return replace(row, note=f"{missed} ticks missed, {failing} targets reported as failing")


def prometheus(folder: Path, seconds: float) -> Scraped:
    """Prometheus with the same targets, interval and deadline."""
    program = shutil.which("prometheus")
    if program is None:
        return Scraped("Prometheus", "not installed (Debian: apt install prometheus)")
    with ExitStack() as stack:
        port, log = _targets(stack, folder)
        answering, hanging, dead = addresses()
        listed = [*(f"{address}:{port}" for address in (*answering, *hanging)), *(f"{a}:1" for a in dead)]
        config = {
            "global": {"scrape_interval": f"{INTERVAL_SECONDS:g}s", "scrape_timeout": f"{DEADLINE_SECONDS:g}s"},
            "scrape_configs": [{"job_name": "servers", "static_configs": [{"targets": listed}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        root = stack.enter_context(running([program, *arguments, f"--web.listen-address=127.0.0.1:{_free_port()}"]))
        return _watched("Prometheus", root, log, seconds, grid={})


def _targets(stack: ExitStack, folder: Path) -> tuple[int, Path]:
    port, log = _free_port(), folder / "requests.txt"
    command = [sys.executable, "-m", "benchmarks.targets", str(port), str(log)]
    stack.enter_context(running(command, cwd=ROOT))
    while True:
        with closing(socket.socket()) as client:
            if client.connect_ex((addresses()[0][0], port)) == 0:
                return port, log
        time.sleep(0.1)


def _watched(name: str, root: psutil.Process, log: Path, seconds: float, grid: dict[str, float]) -> Scraped:
    time.sleep(WARM_UP_SECONDS)
    first_mib, used, began, began_at = anonymous_mib(root), cpu_seconds(root), time.monotonic(), time.time()
    while (elapsed := time.monotonic() - began) < seconds:
        time.sleep(min(LOOK_SECONDS, seconds - elapsed))
        if not root.is_running():
            break
    ratio = (cpu_seconds(root) - used) / (time.monotonic() - began)
    ended_at = time.time()
    time.sleep(1.5)  # the last requests are on their way to the file
    answering = frozenset(addresses()[0])
    late, periods = [], int((ended_at - began_at) / INTERVAL_SECONDS)
    for address, at in _requests(log, began_at, ended_at):
        if address in answering:
            phases = at % INTERVAL_SECONDS
            start = grid.get(address, _earliest(phases))
            late.append((phases - start) % INTERVAL_SECONDS)
    every: NDArray[np.float64] = np.concatenate(late) if late else np.array([np.nan])
    p50, p99 = np.quantile(every, [0.5, 0.99])
    return Scraped(
        name,
        seconds=ended_at - began_at,
        requests=len(every),
        expected=periods * len(answering),
        late_p50_seconds=float(p50),
        late_p99_seconds=float(p99),
        late_max_seconds=float(every.max()),
        cpu_ratio=ratio,
        memory_first_mib=first_mib,
        memory_last_mib=anonymous_mib(root),
    )


def _earliest(phases: NDArray[np.float64]) -> float:
    """The earliest of instants on a circle: where the longest stretch without any ends."""
    ordered = np.sort(phases)
    gaps = np.diff(ordered, append=ordered[0] + INTERVAL_SECONDS)
    return float(ordered[(int(np.argmax(gaps)) + 1) % len(ordered)])


def _requests(log: Path, begin: float, end: float) -> Iterator[tuple[str, NDArray[np.float64]]]:
    by_address: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        address, at = line.split()
        if begin <= float(at) < end:
            by_address.setdefault(address, []).append(float(at))
    for address, instants in by_address.items():
        yield address, np.array(instants)


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
