"""The physics behind the simulated source, tabulated for one week that repeats.

Requests arrive by the hour of the day and the day of the week. They keep requests running, those
take time, and what does not fit waits. Running requests make the accelerators work, work draws
power, power makes heat. Every quantity at every instant follows from the seed and the time alone,
and every counter is the exact integral of its rate, so a value computed today is the value that a
backfill computes tomorrow.

Every day from 14:00 to 14:20 UTC the cooling of one accelerator (``HOT``) is too weak. It sits
at its slowdown temperature and protects itself by halving its clock; since four accelerators share
each layer of the model, all four wait for it, the queue grows, and time to first token rises.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from collectors.sources.simulated.clock import (
    TICK_SECONDS,
    WEEK_TICKS,
    Counter,
    Flags,
    Floats,
    hour_of_day,
    noise,
    wander,
)
from collectors.sources.simulated.fleet import H100_1, MACHINES, MODELS, TRAINING, Job, Machine, Model
from collectors.sources.simulated.rhythms import demand

HOT = (H100_1, 2)
INCIDENT_SECONDS = (14 * 3600, 14 * 3600 + 20 * 60)  # of the UTC day
INCIDENT_SLOWDOWN = 1.9
HEATING_SECONDS = 240  # cooling is weak this long before the clock gives way

PATIENCE_SECONDS = 12.0  # a client that waits longer goes away
INLET_CELSIUS = 27.0
WARMING_SECONDS = 120.0
IDLE_SOCKET_WATTS = 104.0
SOCKET_WATTS_PER_BUSY = 640.0


def during_incident(earlier_seconds: int = 0) -> Flags:
    """Which ticks of the week lie in the incident, or begin up to so many seconds before it."""
    second = hour_of_day() * 3600
    return (second >= INCIDENT_SECONDS[0] - earlier_seconds) & (second < INCIDENT_SECONDS[1])


def _has_hot(work: Model | Job) -> bool:
    return work.machine is HOT[0] and HOT[1] in work.accelerators


class Traffic:
    """One deployment through the week: what arrives, runs, waits, and how fast it is answered."""

    def __init__(self, model: Model, seed: int) -> None:
        self.work = self.model = model
        name = f"{model.machine.name} {model.name}"
        slowdown = np.where(during_incident() & _has_hot(model), INCIDENT_SLOWDOWN, 1.0)
        stir = 1 + 0.16 * wander(seed, name + " slow", 1_800) + 0.14 * wander(seed, name + " fast", 120)
        arriving = model.peak_requests_per_second * demand(model.rhythm) * stir
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
        self.sm_active_ratio = np.where(self.load > 0, 0.06 + 0.7 * self.load, 0.0)
        self.busy_ratio = np.where(self.load > 0, 1 - np.exp(-self.load * 40), 0.0)
        self.copied = self.requests  # into and out of accelerators


def _queue(arriving: Floats, capacity: Floats) -> tuple[Floats, Floats, Floats]:
    """Served and given up (requests/s) and waiting (requests) in each tick."""
    if (arriving <= capacity).all():
        return arriving, np.zeros(WEEK_TICKS), np.zeros(WEEK_TICKS)
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


class Training:
    """A job through the week: busy all the time but for its checkpoints."""

    def __init__(self, job: Job) -> None:
        self.work = job
        second = np.arange(WEEK_TICKS) * TICK_SECONDS
        saving = second % job.checkpoint_every_seconds < job.checkpoint_seconds
        self.load = np.where(saving, 0.1, 1.0)
        self.sm_active_ratio = job.active_ratio * self.load
        self.busy_ratio = np.where(saving, 0.3, 1.0)
        self.copied = Counter(40.0 * self.load)


class Accelerator:
    """One card through the week; ``runs`` is ``None`` while nobody is on it."""

    def __init__(self, machine: Machine, index: int, runs: Traffic | Training | None, seed: int) -> None:
        self.machine, self.index, self.runs = machine, index, runs
        card, nothing = machine.card, np.zeros(WEEK_TICKS)
        self.is_hot = (machine, index) == HOT
        self.throttled = during_incident() if self.is_hot else nothing > 0
        self.sm_active_ratio, self.busy_ratio, watts = nothing, nothing, np.full(WEEK_TICKS, card.empty_watts)
        if runs is not None:
            self.sm_active_ratio, self.busy_ratio = runs.sm_active_ratio, runs.busy_ratio
            if _has_hot(runs.work) and not self.is_hot:
                self.sm_active_ratio = self.sm_active_ratio * np.where(during_incident(), 0.6, 1.0)  # it waits
            watts = card.held_watts + card.working_watts * self.sm_active_ratio**0.8
        watts = np.where(self.throttled, card.held_watts + (watts - card.held_watts) * 0.5, watts)
        ripple = 2 * noise(seed, f"{machine.name} accelerator {index} power", np.arange(WEEK_TICKS)) - 1
        digits = 3 if card.vendor == "NVIDIA" else 0  # NVML tells milliwatts, amdsmi watts
        self.power_watts = np.minimum(watts * (1 + 0.025 * ripple), card.limit_watts).round(digits)
        place = 1 + 0.05 * np.sin(index * 2.1)  # no two slots get the same air
        warm = INLET_CELSIUS + card.celsius_per_watt * place * self.power_watts
        weak = during_incident(HEATING_SECONDS) & self.is_hot
        self.temperature_celsius = np.where(weak, card.slowdown_celsius + 8, warm)  # in the end; see _warm
        self.energy = Counter(self.power_watts)
        self.thermal_seconds = Counter(self.throttled.astype("float64"))


def _warm(parts: Sequence[Accelerator]) -> None:
    """Let temperatures follow their goals with a delay; the device holds them at its slowdown point."""
    follow = 1 - np.exp(-TICK_SECONDS / WARMING_SECONDS)
    slowdown = np.array([part.machine.card.slowdown_celsius for part in parts])
    path = np.stack([part.temperature_celsius for part in parts], axis=1)
    celsius = path[-1].copy()
    for goal in path:
        celsius = np.minimum(celsius + follow * (goal - celsius), slowdown)
        goal[:] = celsius
    for part, column in zip(parts, path.T, strict=True):
        part.temperature_celsius = column.round()  # drivers tell whole degrees


class Socket:
    """One CPU: it tokenises, schedules and copies, so it follows what the accelerators do."""

    def __init__(self, machine: Machine, index: int, load: Floats, seed: int) -> None:
        stir = 1 + 0.1 * wander(seed, f"{machine.name} socket {index}", 300)
        self.busy_ratio = ((0.025 + (0.09 if index == 0 else 0.05) * load) * stir).round(4)
        watts = IDLE_SOCKET_WATTS + SOCKET_WATTS_PER_BUSY * self.busy_ratio
        self.power_watts = np.minimum(watts, machine.cpu_limit_watts).round(2)
        self.energy = Counter(self.power_watts)


class Node:
    """One machine: its parts, and what only the whole of it has."""

    def __init__(self, machine: Machine, runs: Sequence[Traffic | Training], seed: int) -> None:
        self.machine = machine
        on = {index: one for one in runs for index in one.work.accelerators}
        self.accelerators = tuple(Accelerator(machine, index, on.get(index), seed) for index in range(machine.cards))
        load: Floats = np.mean([one.load for one in runs], axis=0)
        self.sockets = tuple(Socket(machine, index, load, seed) for index in range(machine.sockets))
        parts: tuple[Accelerator | Socket, ...] = (*self.accelerators, *self.sockets)
        silicon = np.sum([part.power_watts for part in parts], axis=0)
        around = 52.5 * machine.cards  # memory, switches, network and fans
        self.power_watts = ((silicon + around) / 0.94).round()  # loss in the supplies
        tokens = np.sum([one.tokens_per_second for one in runs if isinstance(one, Traffic)], axis=0)
        self.busy_ratio: Floats = np.mean([part.busy_ratio for part in self.sockets], axis=0).round(4)
        self.sent_bytes = Counter(2_000 + 90 * tokens)  # streamed as one event per token
        self.received_bytes = Counter(3_000 + 12 * tokens)
        self.read_bytes = Counter(np.full(WEEK_TICKS, 40_000.0))
        self.written_bytes = Counter(60_000 + 4 * tokens)


class World:
    """Everything that is simulated."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.traffics = tuple(Traffic(model, seed) for model in MODELS)
        self.training = Training(TRAINING)
        every: tuple[Traffic | Training, ...] = (*self.traffics, self.training)
        self.nodes = tuple(Node(one, [runs for runs in every if runs.work.machine is one], seed) for one in MACHINES)
        _warm([part for node in self.nodes for part in node.accelerators])
