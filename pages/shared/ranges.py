"""Spans of time that can be looked at: those that end now, and one between two instants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from core.language import _, say

CUSTOM = "custom"
DEFAULT_RANGE = "1h"
SETTLE_MS = 5_000  # the newest samples are written by then, so a finished step stays as it is
SAMPLES_PER_STEP = 2  # with one, a sample that comes a little late would leave its step empty
MOST_STEPS = 180  # of a span between two instants, as of the relative ones: a point for every three or four px
_STEPS_SECONDS = (20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)


@dataclass(frozen=True, slots=True)
class Range:
    """A span of time up to now and the step that suits a screen."""

    seconds: int
    step_seconds: int
    words: str


RANGES = {
    "15m": Range(900, 20, _("last 15 minutes")),
    "1h": Range(3_600, 30, _("last hour")),
    "6h": Range(21_600, 120, _("last 6 hours")),
    "24h": Range(86_400, 600, _("last 24 hours")),
    "7d": Range(604_800, 3_600, _("last 7 days")),
    "4w": Range(2_419_200, 14_400, _("last 4 weeks")),
    "8w": Range(4_838_400, 28_800, _("last 8 weeks")),
}


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of finished steps (Unix ms), in words as well; ``is_fixed``: it does not end now."""

    start_ms: int
    end_ms: int
    step_ms: int
    words: str
    is_fixed: bool = False


def until_now(name: str, now_ms: int, interval_ms: int) -> Window:
    """A relative range; of two samples a step at least."""
    chosen = RANGES[name]
    step_ms = max(chosen.step_seconds * 1000, SAMPLES_PER_STEP * interval_ms)
    end_ms = (now_ms - SETTLE_MS) // step_ms * step_ms
    return Window(end_ms - chosen.seconds * 1000, end_ms, step_ms, say(chosen.words))


def between(one: datetime, other: datetime, zone: ZoneInfo, now_ms: int, interval_ms: int) -> Window:
    """The time between two clock times of a zone, whichever comes first, as far as it has passed."""
    begin, end = sorted((one, other))
    bounds = [round(at.replace(tzinfo=zone).timestamp() * 1000) for at in (begin, end)]
    start_ms, end_ms = min(bounds[0], now_ms - SETTLE_MS), min(bounds[1], now_ms - SETTLE_MS)
    wanted_ms = max((end_ms - start_ms) / MOST_STEPS, SAMPLES_PER_STEP * interval_ms)
    step_ms = next((1000 * step for step in _STEPS_SECONDS if 1000 * step >= wanted_ms), 1000 * _STEPS_SECONDS[-1])
    start_ms = start_ms // step_ms * step_ms
    end_ms = max(end_ms // step_ms * step_ms, start_ms + step_ms)
    words = say("{begin} to {end}", begin=f"{begin:%Y-%m-%d %H:%M}", end=f"{end:%Y-%m-%d %H:%M}")
    return Window(start_ms, end_ms, step_ms, words, is_fixed=True)


def yesterday_to_now(now: datetime) -> tuple[datetime, datetime]:
    """What two clock times stand at before anybody sets them (without a zone, whole quarters of an hour)."""
    end = now.replace(tzinfo=None, second=0, microsecond=0, minute=now.minute // 15 * 15)
    return end - timedelta(days=1), end
