"""A figure of the first page: its unit, its value or why there is none, and what it was before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from analytics.formulas.energy import Quality
from analytics.weekly.reasons import Why


class Unit(StrEnum):
    """What a figure is counted in."""

    USD = "usd"
    USD_PER_MILLION_TOKENS = "usd_per_million_tokens"
    TOKENS = "tokens"
    REQUESTS = "requests"
    RATIO = "ratio"
    SECONDS = "seconds"
    GPU_HOURS = "gpu_hours"
    KWH = "kwh"
    JOULES_PER_TOKEN = "joules_per_token"  # noqa: S105  a unit
    GRAMS_PER_MILLION_TOKENS = "grams_per_million_tokens"


MONEY = (Unit.USD, Unit.USD_PER_MILLION_TOKENS)


class Value(NamedTuple):
    """A figure of one week by itself."""

    value: float | None
    quality: Quality = Quality.MEASURED
    why: Why | None = None
    covered_ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure. ``value`` is ``None`` where it is unknown; then ``why`` says why, or ``low`` and ``high`` bound it.

    better: "up" or "down" where one of them is good.
    previous: that of the same hours of the week before.
    change: against ``previous``; of what adds up over time, against as many hours of it. A difference, in the unit.
    change_ratio: the same over what was; ``None`` of shares, which differ in percentage points.
    is_clear: more than 5 %, and more than weeks usually differ.
    covered_ratio: part of the devices' time that was seen; ``None`` where counters tell, which go on unseen.
    history: of the eight weeks before, oldest first, over as many hours.
    """

    key: str
    unit: Unit
    better: str
    value: float | None
    low: float | None
    high: float | None
    previous: float | None
    change: float | None
    change_ratio: float | None
    is_clear: bool
    quality: Quality
    covered_ratio: float | None
    why: Why | None
    history: tuple[float | None, ...]


class Headline(NamedTuple):
    """A figure of the first page, and what stands small beside it."""

    key: str
    figures: tuple[Figure, ...]
