"""Latency histograms as vLLM has them, drawn from the state of a simulated server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from collectors.sources.simulated.clock import Floats, Integers, noise, position
from collectors.sources.simulated.world import Traffic
from core.readings import Latency

# The bounds that vLLM ships with.
_INF = float("inf")
_REQUEST = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680, _INF)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, _INF)
BOUNDS: dict[Latency, tuple[float, ...]] = {
    Latency.TTFT: (*_FIRST, 2560, _INF),
    Latency.ITL: _TOKEN,
    Latency.TPOT: _TOKEN,
    Latency.E2E: _REQUEST,
    Latency.QUEUE: _REQUEST,
}
# Log-logistic shape of each: the larger, the closer the tail is to the median. p99 = median * 99 ** (1 / shape).
_SHAPE = {Latency.TTFT: 4.0, Latency.ITL: 6.0, Latency.TPOT: 9.0, Latency.E2E: 2.6, Latency.QUEUE: 3.0}


@dataclass(frozen=True, slots=True)
class Increments:
    """What one histogram grew by: a row of counts (one per bound) and a sum (s) for each instant."""

    kind: Latency
    counts: Floats
    sum_seconds: Floats


def increments(traffic: Traffic, seed: int, at: Integers, before: Integers) -> Iterator[Increments]:
    """Of every kind, for requests that ended in ``(before, at]`` (Unix ms)."""
    model, where = traffic.model, position(at)
    tick = where.tick
    answered = np.floor(traffic.requests.at(where)) - np.floor(traffic.requests.at(position(before)))
    gaps = np.round(answered * (model.output_tokens - 1))
    first, gap = traffic.ttft_seconds[tick], traffic.step_seconds[tick]
    whole = first + 0.78 * model.output_tokens * gap  # the median answer is shorter than the mean
    medians = {
        Latency.TTFT: (answered, first),
        Latency.ITL: (gaps, gap),
        Latency.TPOT: (answered, gap),
        Latency.E2E: (answered, whole),
        Latency.QUEUE: (answered, traffic.wait_seconds[tick]),
    }
    for kind, (observations, median) in medians.items():
        luck = noise(seed, f"{model.machine.name} {model.name} {kind}", at)
        yield Increments(kind, *_drawn(BOUNDS[kind], _SHAPE[kind], observations, median, luck))


def _drawn(
    bounds: tuple[float, ...], shape: float, observations: Floats, median: Floats, luck: Floats
) -> tuple[Floats, Floats]:
    """Whole counts per bucket, and the sum, of so many draws from a log-logistic distribution.

    One draw in each of ``observations`` equal slices of probability, all shifted by ``luck``: over many
    ticks the counts add up to the true distribution, tail included.
    """
    finite = np.array(bounds[:-1])
    below = 1 / (1 + (median[:, None] / finite) ** shape)
    cumulative = np.floor(observations[:, None] * below + luck[:, None])
    counts = np.diff(cumulative, axis=1, prepend=0.0, append=observations[:, None])
    mean = median * (np.pi / shape) / np.sin(np.pi / shape)
    lower = counts @ np.array([0.0, *finite])
    upper = np.where(counts[:, -1] > 0, np.inf, counts[:, :-1] @ finite)
    return counts, np.round(np.clip(observations * mean, lower, upper), 9)
