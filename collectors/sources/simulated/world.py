"""The physics behind the simulated source: one week that repeats, tabulated every ten seconds.

Requests arrive by the hour of the day and the day of the week. They keep requests running, those
take time, and what does not fit waits. Running requests make the accelerators work, work draws
power, power makes heat. Every quantity at every instant follows from the seed and the time alone,
and every counter is the exact integral of its rate, so a value computed today is the value that a
backfill computes tomorrow.

The planted truth: every day from 14:00 to 14:20 UTC the cooling of accelerator 2 is too weak. It sits
at its slowdown temperature and protects itself by halving its clock; since four accelerators share
each layer of the model, all four wait for it, the queue grows, and time to first token rises.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

TICK_SECONDS = 10
DAY_TICKS = 86_400 // TICK_SECONDS
WEEK_TICKS = 7 * DAY_TICKS
ORIGIN_MS = 1_704_067_200_000  # Monday 2024-01-01 00:00 UTC: here every counter began

HOT_ACCELERATOR = 2
INCIDENT_SECONDS = (14 * 3600, 14 * 3600 + 20 * 60)  # of the UTC day
INCIDENT_SLOWDOWN = 1.9
HEATING_SECONDS = 240  # cooling is weak this long before the clock gives way
SLOWDOWN_CELSIUS = 87.0

PATIENCE_SECONDS = 12.0  # a client that waits longer goes away
INLET_CELSIUS = 27.0
CELSIUS_PER_WATT = 0.056
WARMING_SECONDS = 120.0
EMPTY_WATTS = 70.0  # no context on the device
HELD_WATTS = 116.0  # a model is loaded and nothing runs
LIMIT_WATTS = 700.0
SOCKET_LIMIT_WATTS = 360.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One deployment as its operator would describe it."""

    name: str
    server: str
    accelerators: tuple[int, ...]
    pid: int
    peak_requests_per_second: float
    prompt_tokens: float  # per request
    output_tokens: float
    cached_ratio: float  # of the prompt, found in the prefix cache
    context_tokens: float  # held in the KV cache by a running request
    kv_tokens: float  # that fit
    most_running: float
    step_seconds: float  # of one token, alone
    step_seconds_per_request: float  # more for each that runs beside it
    prefill_tokens_per_second: float

    @property
    def key(self) -> str:
        """As the serving source names it."""
        return f"{self.server} {self.name}"


MODELS = (
    Model(
        name="meta-llama/Llama-2-70b-chat-hf",
        server="http://127.0.0.1:8000",
        accelerators=(0, 1, 2, 3),
        pid=41_001,
        peak_requests_per_second=9.5,
        prompt_tokens=870,
        output_tokens=256,
        cached_ratio=0.34,
        context_tokens=1_010,
        kv_tokens=400_000,
        most_running=128,
        step_seconds=0.017,
        step_seconds_per_request=0.00014,
        prefill_tokens_per_second=11_000,
    ),
    Model(
        name="deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
        server="http://127.0.0.1:8001",
        accelerators=(4, 5, 6),
        pid=52_001,
        peak_requests_per_second=0.81,
        prompt_tokens=420,
        output_tokens=1_750,
        cached_ratio=0.12,
        context_tokens=2_100,
        kv_tokens=175_000,
        most_running=80,
        step_seconds=0.023,
        step_seconds_per_request=0.00028,
        prefill_tokens_per_second=6_500,
    ),
)
ACCELERATORS = 8
SOCKETS = 2


@dataclass(frozen=True, slots=True)
class Position:
    """Instants as whole weeks since the origin, tick within the week, and fraction of that tick."""

    weeks: Floats
    tick: Integers
    fraction: Floats


def position(at_ms: Integers) -> Position:
    """Where instants (Unix ms) lie in the table."""
    weeks, within = np.divmod(at_ms - ORIGIN_MS, WEEK_TICKS * TICK_SECONDS * 1000)
    tick, rest = np.divmod(within, TICK_SECONDS * 1000)
    return Position(weeks.astype("float64"), tick, rest / (TICK_SECONDS * 1000))


class Counter:
    """A total since the origin; its rate (per second) is constant within a tick."""

    def __init__(self, per_second: Floats) -> None:
        self._before = np.concatenate(([0.0], np.cumsum(per_second * TICK_SECONDS)))

    def at(self, where: Position) -> Floats:
        """The total at each instant."""
        start, end = self._before[where.tick], self._before[where.tick + 1]
        total: Floats = where.weeks * self._before[-1] + start + (end - start) * where.fraction
        return total


def noise(seed: int, name: str, indices: Integers) -> Floats:
    """Evenly spread over [0, 1), the same for the same seed, name and index (SplitMix64)."""
    x = indices.astype("uint64") + np.uint64((seed << 32) ^ zlib.crc32(name.encode()))
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: Floats = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype("float64") / float(1 << 53)
    return spread


def _wander(seed: int, name: str, knot_seconds: int) -> Floats:
    """A smooth line through one random knot after the other, within [-1, 1]; it closes over the week."""
    knots = np.arange(WEEK_TICKS * TICK_SECONDS // knot_seconds)
    heights = 2 * noise(seed, name, knots) - 1
    at = np.arange(WEEK_TICKS) * TICK_SECONDS / knot_seconds
    line: Floats = np.interp(at, np.append(knots, len(knots)), np.append(heights, heights[0]))
    return line


def _rhythm() -> Floats:
    """Demand as a share of the weekday peak: an office day over the Americas, quiet weekends."""
    hour = np.arange(WEEK_TICKS) * TICK_SECONDS / 3600
    of_day = 0.14 + 0.86 * np.exp(2.2 * (np.cos((hour - 15.5) * 2 * np.pi / 24) - 1))
    of_week = np.array([0.97, 1.0, 1.0, 0.98, 0.93, 0.62, 0.55])
    around = np.concatenate((of_week[-1:], of_week, of_week[:1]))
    share: Floats = of_day * np.interp(hour / 24 - 0.5, np.arange(-1, 8), around)
    return share


def during_incident(earlier_seconds: int = 0) -> NDArray[np.bool_]:
    """Which ticks of the week lie in the incident, or begin up to so many seconds before it."""
    second = np.arange(WEEK_TICKS) * TICK_SECONDS % 86_400
    return (second >= INCIDENT_SECONDS[0] - earlier_seconds) & (second < INCIDENT_SECONDS[1])


class Traffic:
    """One deployment through the week: what arrives, runs, waits, and how fast it is answered."""

    def __init__(self, model: Model, seed: int) -> None:
        self.model = model
        slowdown = np.where(during_incident() & (HOT_ACCELERATOR in model.accelerators), INCIDENT_SLOWDOWN, 1.0)
        demand = 1 + 0.16 * _wander(seed, model.name + " slow", 1_800) + 0.14 * _wander(seed, model.name + " fast", 120)
        arriving = model.peak_requests_per_second * _rhythm() * demand
        step_when_full = model.step_seconds + model.step_seconds_per_request * model.most_running
        capacity = model.most_running / (model.output_tokens * step_when_full * slowdown)
        served, self.waiting, given_up = _queue(arriving, capacity)
        # Little's law with a step that grows with what runs: running = rate * tokens * (step + more * running)
        alone = served * model.output_tokens * model.step_seconds * slowdown
        crowding = served * model.output_tokens * model.step_seconds_per_request * slowdown
        running = alone / np.maximum(1 - crowding, 0.05)
        self.running = np.where(self.waiting > 0, model.most_running, np.minimum(running, model.most_running))
        self.load = self.running / model.most_running
        self.kv_ratio = np.minimum(self.running * model.context_tokens / model.kv_tokens, 0.985)
        self.step_seconds = (model.step_seconds + model.step_seconds_per_request * self.running) * slowdown
        self.wait_seconds = 0.004 + self.waiting / capacity
        prefill = model.prompt_tokens * (1 - model.cached_ratio) / model.prefill_tokens_per_second
        self.ttft_seconds = self.wait_seconds + (prefill + model.step_seconds) * slowdown * (1 + 0.9 * self.load**2)
        self.tokens_per_second = served * model.output_tokens
        self.requests = Counter(served)
        self.aborted = Counter(given_up + 0.002 * served)
        self.failed = Counter(0.0004 * served)
        self.preempted = Counter(0.25 * np.maximum(self.kv_ratio - 0.9, 0) / 0.1)


def _queue(arriving: Floats, capacity: Floats) -> tuple[Floats, Floats, Floats]:
    """Served and given up (requests/s) and waiting (requests) in each tick."""
    waiting = 0.0
    rows = []
    for rate, most in zip(arriving.tolist(), capacity.tolist(), strict=True):
        there = waiting / TICK_SECONDS + rate
        served = min(there, most)
        left = (there - served) * TICK_SECONDS
        waiting = min(left, PATIENCE_SECONDS * most)
        rows.append((served, waiting, (left - waiting) / TICK_SECONDS))
    served_rates, queue, given_up = np.array(rows).T
    return served_rates, queue, given_up


class Accelerator:
    """One H100 through the week; ``traffic`` is ``None`` while no model is on it."""

    def __init__(self, index: int, traffic: Traffic | None, seed: int) -> None:
        self.index, self.traffic = index, traffic
        self.throttled = during_incident() & (index == HOT_ACCELERATOR)
        slow = during_incident() & (traffic is not None and HOT_ACCELERATOR in traffic.model.accelerators)
        load = np.zeros(WEEK_TICKS) if traffic is None else traffic.load
        self.sm_active_ratio = np.where(load > 0, 0.06 + 0.7 * load, 0.0) * np.where(slow & ~self.throttled, 0.6, 1.0)
        work = self.sm_active_ratio**0.8
        watts = EMPTY_WATTS + np.where(load > 0, HELD_WATTS - EMPTY_WATTS + 560 * work, 0)
        watts = np.where(self.throttled, HELD_WATTS + (watts - HELD_WATTS) * 0.5, watts)
        ripple = 2 * noise(seed, f"accelerator {index} power", np.arange(WEEK_TICKS)) - 1
        self.power_watts = np.minimum(watts * (1 + 0.025 * ripple), LIMIT_WATTS)
        self.busy_ratio = np.where(load > 0, 1 - np.exp(-load * 40), 0.0)
        place = 1 + 0.05 * np.sin(index * 2.1)  # no two slots get the same air
        goal = INLET_CELSIUS + CELSIUS_PER_WATT * place * self.power_watts
        hot = during_incident(HEATING_SECONDS) & (index == HOT_ACCELERATOR)
        self.temperature_celsius = _warm(np.where(hot, SLOWDOWN_CELSIUS + 8, goal))
        self.energy = Counter(self.power_watts)
        self.thermal_seconds = Counter(self.throttled.astype("float64"))


def _warm(goal_celsius: Floats) -> Floats:
    """Temperature that follows its goal with a delay and is held at the slowdown point by the device."""
    celsius = float(goal_celsius[-1])
    follow = 1 - np.exp(-TICK_SECONDS / WARMING_SECONDS)
    path = []
    for goal in goal_celsius.tolist():
        celsius = min(celsius + follow * (goal - celsius), SLOWDOWN_CELSIUS)
        path.append(celsius)
    return np.array(path)


class Socket:
    """One EPYC 9654: it tokenises, schedules and copies, so it follows the requests."""

    def __init__(self, index: int, traffics: Sequence[Traffic], seed: int) -> None:
        load = np.mean([traffic.load for traffic in traffics], axis=0)
        stir = 1 + 0.1 * _wander(seed, f"socket {index}", 300)
        self.busy_ratio = (0.025 + (0.09 if index == 0 else 0.05) * load) * stir
        self.power_watts = np.minimum(104 + 640 * self.busy_ratio, SOCKET_LIMIT_WATTS)
        self.energy = Counter(self.power_watts)


class World:
    """Everything on the simulated machine."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.traffics = tuple(Traffic(model, seed) for model in MODELS)
        on = {index: traffic for traffic in self.traffics for index in traffic.model.accelerators}
        self.accelerators = tuple(Accelerator(i, on.get(i), seed) for i in range(ACCELERATORS))
        self.sockets = tuple(Socket(i, self.traffics, seed) for i in range(SOCKETS))
        parts: tuple[Accelerator | Socket, ...] = (*self.accelerators, *self.sockets)
        silicon = np.sum([part.power_watts for part in parts], axis=0)
        self.node_watts = (silicon + 420) / 0.94  # memory, switches, network and fans; loss in the supplies
        tokens = np.sum([traffic.tokens_per_second for traffic in self.traffics], axis=0)
        self.sent_bytes = Counter(2_000 + 90 * tokens)  # streamed as one event per token
        self.received_bytes = Counter(3_000 + 12 * tokens)
        self.read_bytes = Counter(np.full(WEEK_TICKS, 40_000.0))
        self.written_bytes = Counter(60_000 + 4 * tokens)
