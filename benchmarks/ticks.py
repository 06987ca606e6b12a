"""Cost of one tick per source: the real source on this machine, or the real binding over a stub driver."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.page import serve_page
from collectors.base import Source
from collectors.child import ChildSource
from collectors.registry import Context, sources
from core.catalog import FAMILIES
from core.readings import LatencySample, Reading, Sample
from core.settings import Settings
from tests.stubs.amdsmi_host import AmdsmiHost, mi300x_host
from tests.stubs.nvml_host import NvmlHost, h100_host

TICKS = 40
PAUSE_SECONDS = 0.15  # a source may refuse to divide by too short an interval


@dataclass(frozen=True, slots=True)
class TickCost:
    """Mean over ``TICKS`` ticks."""

    source: str
    what: str
    wall_ms: float
    cpu_ms: float
    values: float


def stored_values(readings: tuple[Reading, ...]) -> int:
    """How many numbers of a tick go into the store."""
    count = 0
    for reading in readings:
        if isinstance(reading, Sample):
            count += sum(getattr(reading, m.name) is not None for m in FAMILIES[reading.family].metrics)
        elif isinstance(reading, LatencySample):
            count += len(reading.increments) + 1
    return count


def measure(source: Source, what: str) -> TickCost | None:
    """Tick a source many times; ``None`` where it is not available."""
    if not source.discover().ok:
        return None
    me = psutil.Process()
    wall = cpu = 0.0
    values = 0
    try:
        tuple(source.collect())
        for _ in range(TICKS):
            time.sleep(PAUSE_SECONDS)
            cpu_before, began = _cpu(me, source), time.perf_counter()
            readings = tuple(source.collect())
            wall += time.perf_counter() - began
            cpu += _cpu(me, source) - cpu_before
            values += stored_values(readings)
    finally:
        source.close()
    return TickCost(source.name, what, wall / TICKS * 1e3, cpu / TICKS * 1e3, values / TICKS)


def _cpu(me: psutil.Process, source: Source) -> float:
    """CPU seconds of this process, precise, plus those of the source's child, in the kernel's 10 ms steps."""
    child = 0.0
    if isinstance(source, ChildSource):
        child = sum(sum(process.cpu_times()[:2]) for process in me.children())
    return time.process_time() + child


def all_sources(scratch: Path) -> Iterator[TickCost]:
    """Every source, with what it watched."""
    with serve_page() as port:
        settings = Settings(serving={"loopback_ports": (port,)}, collectors={"host_name": "bench"})  # type: ignore[arg-type]
        here = {source.name: source for source in sources(Context(settings, ledger=None))}  # type: ignore[arg-type]
        for name, what in (("cpu", "this machine"), ("host", "this machine"), ("serving", "one vLLM page")):
            if cost := measure(here[name], what):
                yield cost
        for name, host, what in (
            ("nvidia", NvmlHost(scratch, h100_host(8)), "8 x H100, stub driver"),
            ("amd", AmdsmiHost(scratch, mi300x_host(live=1)), "8 x MI300X, stub driver"),
        ):
            before = dict(os.environ)
            os.environ.update(host.env)
            try:
                if cost := measure(here[name], what):
                    yield cost
            finally:
                os.environ.clear()
                os.environ.update(before)
