"""The protocol between sources and the runner.

A source knows one library or endpoint and answers three questions: are you there (``discover``),
what do you see (``collect``), let go (``close``). It returns readings and imports neither storage
nor pandas nor Streamlit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from core.readings import Reading


def now_ms() -> int:
    """Unix time in milliseconds, UTC; the clock that every reading is stamped with."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a source can work here. Absence is a value: it is shown verbatim on ops/health.

    ``ok`` with a ``reason`` means "works, but": part of it is missing and ``remedy`` says what to do.
    ``absent`` means that nothing of this kind is here (no such driver, nothing configured): no fault.
    """

    ok: bool
    reason: str = ""
    remedy: str = ""
    entities: tuple[str, ...] = ()
    absent: bool = False


class Source(Protocol):
    """What every file in ``collectors/sources`` offers."""

    name: str
    """Key in the registry and on ops/health."""

    def discover(self) -> Availability:
        """Look for the library, devices or endpoints. Never raises; may be called again later."""

    def collect(self) -> Iterable[Reading]:
        """One tick. The first call after ``discover`` also reports an ``Entity`` per thing found.

        Raises:
            NoData: nothing to report, no fault.
            SourceUnavailable: discover again.
            CollectorError: this tick failed.
        """

    def close(self) -> None:
        """Release everything. Safe to call twice."""


@runtime_checkable
class Patient(Protocol):
    """A source that asks in one tick and hands over what came back in a later one."""

    def wait(self) -> None:
        """Until what it has asked for is there or timed out."""


def next_tick(now_ns: int, interval_ns: int, phase_ns: int) -> int:
    """First grid instant strictly after ``now_ns``; integers, so rounding cannot repeat a tick."""
    return phase_ns + ((now_ns - phase_ns) // interval_ns + 1) * interval_ns
