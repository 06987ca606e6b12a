"""Figures of a week against the same hours of the eight weeks before, and what of a change is more than noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from analytics.formulas.local_time import MIDNIGHT, Span, instant_ms
from analytics.formulas.unknown import per, product
from analytics.weekly.figure import MONEY, Figure, Headline, Unit, Value
from analytics.weekly.history import Read
from core.settings import Settings


class Spec(NamedTuple):
    """A figure: where it stands, its unit, what is good, and whether it adds up over time."""

    headline: str
    key: str
    unit: Unit
    better: str = ""
    adds_up: bool = False


SPECS = (
    Spec("cost", "total_usd", Unit.USD, adds_up=True),
    Spec("unit_price", "usd_per_million_output_tokens", Unit.USD_PER_MILLION_TOKENS, "down"),
    Spec("unit_price", "usd_per_million_tokens", Unit.USD_PER_MILLION_TOKENS, "down"),
    Spec("tokens", "output_tokens", Unit.TOKENS, adds_up=True),
    Spec("tokens", "prompt_tokens", Unit.TOKENS, adds_up=True),
    Spec("tokens", "cached_ratio", Unit.RATIO, "up"),
    Spec("service", "attained_ratio", Unit.RATIO, "up"),
    Spec("service", "requests", Unit.REQUESTS, adds_up=True),
    Spec("latency", "ttft_p95_seconds", Unit.SECONDS, "down"),
    Spec("latency", "tpot_p95_seconds", Unit.SECONDS, "down"),
    Spec("gpu_hours", "used_ratio", Unit.RATIO, "up"),
    Spec("gpu_hours", "used_gpu_hours", Unit.GPU_HOURS, adds_up=True),
    Spec("gpu_hours", "allocated_gpu_hours", Unit.GPU_HOURS, adds_up=True),
    Spec("gpu_hours", "available_gpu_hours", Unit.GPU_HOURS, adds_up=True),
    Spec("idle", "idle_usd", Unit.USD, "down", adds_up=True),
    Spec("idle", "idle_ratio", Unit.RATIO, "down"),
    Spec("energy", "kwh", Unit.KWH, "down", adds_up=True),
    Spec("energy", "joules_per_output_token", Unit.JOULES_PER_TOKEN, "down"),
    Spec("carbon", "grams_per_million_output_tokens", Unit.GRAMS_PER_MILLION_TOKENS, "down"),
    Spec("commitment", "commitment_used_ratio", Unit.RATIO, "up"),
    Spec("forecast", "month_end_usd", Unit.USD),
    Spec("coverage", "covered_ratio", Unit.RATIO, "up"),
)


def headlines(
    values: Mapping[str, Value], hours: float, before: Sequence[Read | None], is_broken: bool
) -> Iterator[Headline]:
    """All figures, under what they stand with. Money is not compared where ``is_broken``: its tariff is another."""
    by_headline: dict[str, list[Figure]] = {}
    for spec in SPECS:
        figure = _figure(spec, values[spec.key], hours, before, is_broken and spec.unit in MONEY)
        by_headline.setdefault(spec.headline, []).append(figure)
    for key, figures in by_headline.items():
        yield Headline(key, tuple(figures))


def _figure(spec: Spec, now: Value, hours: float, before: Sequence[Read | None], is_broken: bool) -> Figure:
    history = [_comparable(spec, one, hours) for one in before]
    was = history[-1] if history and not is_broken else None
    moved = None if was is None or now.value is None else now.value - was
    read = before[-1] if before else None
    return Figure(
        key=spec.key,
        unit=spec.unit,
        better=spec.better,
        value=now.value,
        low=now.low,
        high=now.high,
        previous=None if read is None or spec.key not in read.values else read.values[spec.key].value,
        change=moved,
        change_ratio=None if spec.unit is Unit.RATIO else per(moved, was),
        is_clear=moved is not None and is_clear(was, now.value, usual_change(history)),
        quality=now.quality,
        covered_ratio=now.covered_ratio,
        why=now.why,
        history=tuple(history),
    )


def _comparable(spec: Spec, read: Read | None, hours: float) -> float | None:
    """A figure of a week before; of what adds up, as if that week had had as many hours."""
    if read is None or spec.key not in read.values or not read.week.hours:
        return None
    value = read.values[spec.key].value
    if not spec.adds_up:
        return value
    return product(value, hours / read.week.hours) if read.was_there else None


def tariff_changes(settings: Settings, span: Span) -> tuple[int, ...]:
    """When a new version of any site's tariff begins within a span (Unix ms)."""
    days = [(one.valid_from, site.zone) for site in (settings.site, *settings.site.other) for one in site.tariff]
    cuts = {instant_ms(day, MIDNIGHT, zone) for day, zone in days if day is not None}
    return tuple(sorted(cut for cut in cuts if span.start_ms < cut < span.end_ms))


CLEAR_RATIO = 0.05
"""A change up to this is not called one (summary rule)."""


def is_clear(before: float | None, after: float | None, wobble: float | None) -> bool:
    """Whether a change is more than noise: over 5 % of what was, and over the usual change from week to week.

    Args:
        before: last week's figure.
        after: this week's.
        wobble: median absolute change between the weeks before (``usual_change``); ``None``: too few of them.
    """
    if before is None or after is None:
        return False
    moved = abs(after - before)
    return moved > CLEAR_RATIO * abs(before) and (wobble is None or moved > wobble)


def usual_change(figures: list[float | None]) -> float | None:
    """Median absolute change from week to week, oldest first; ``None`` where fewer than three changes are known."""
    steps = [abs(b - a) for a, b in pairwise(figures) if a is not None and b is not None]
    return float(np.median(steps)) if len(steps) >= 3 else None
