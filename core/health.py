"""How the collectors themselves fare: stored like any other data, shown on ops/health."""

from __future__ import annotations

from dataclasses import dataclass

from core.readings import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """One tick of one source (``target`` empty) or of one of its targets."""

    host: str
    source: str
    target: str
    scheduled_at_ms: int
    outcome: Outcome
    duration_seconds: float
    readings: int = 0
    ticks_missed: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """What the last discovery of a source said; ``absent`` means that nothing of its kind is here."""

    host: str
    source: str
    available: bool
    absent: bool
    reason: str
    remedy: str
    checked_at_ms: int
