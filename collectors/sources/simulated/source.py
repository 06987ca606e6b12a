"""A source without hardware: three sites of a made-up company, for the demo and for tests.

What it says is a pure function of seed and time (``world``), so weeks of history can be laid down as columns
in seconds and the live ticks continue them without a seam. Who is there is ``fleet``; what is wasted on purpose,
``truth``. Everything it describes is labelled ``simulated``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from collectors.base import Availability, now_ms
from collectors.sources.simulated import columns
from collectors.sources.simulated.clock import Integers, noise, position
from collectors.sources.simulated.columns import Columns
from collectors.sources.simulated.fleet import (
    HOSTED,
    HOSTED_TOKENS_PER_SECOND,
    HOSTED_TTFT_SECONDS,
    Endpoint,
    Job,
    Machine,
    Model,
)
from collectors.sources.simulated.latency import BOUNDS, Increments, increments
from collectors.sources.simulated.world import HOT, INCIDENT_SECONDS, World
from core.catalog import FAMILIES
from core.readings import (
    Assignment,
    DeviceProcess,
    Entity,
    Event,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
    Sample,
    Severity,
)

SEED = 20_261_123
SLOW_MS = 300_000  # between two requests of a probe, and two looks at processes
LONGEST_STEP_MS = 300_000  # after a longer silence, increments cover only this much
PROMPT_TOKENS, ANSWER_TOKENS = 14, 16
_DAY_MS = 86_400_000


class Series(NamedTuple):
    """Metrics of one thing at many instants."""

    family: str
    key: str
    values: Columns


class SimulatedSource:
    """The demo's only source.

    Args:
        fleet: what the names of all machines begin with.
        interval_seconds: between two ticks; they are stamped with whole multiples of it, as history is.
        seed: another seed, another week.
    """

    name = "simulated"

    def __init__(self, fleet: str = "simulated", interval_seconds: float = 10.0, *, seed: int = SEED) -> None:
        self._fleet = fleet
        self._interval_ms = round(interval_seconds * 1000)
        self._world = _world(seed)
        chat = self._world.traffics[0].model
        self._own = Endpoint(
            name=f"{fleet} chat",
            url=self._url(chat),
            model=chat.name,
            output_tokens=ANSWER_TOKENS,
            usd_per_million_tokens=None,
        )
        self._described = False
        self._collected_at_ms: int | None = None

    def discover(self) -> Availability:
        """Always there."""
        self._described = False
        return Availability(ok=True, entities=tuple(self._host(node.machine) for node in self._world.nodes))

    def collect(self) -> list[Reading]:
        """The world now; latency, events and probes since the last tick."""
        at_ms = now_ms() // self._interval_ms * self._interval_ms
        before_ms = self._collected_at_ms if self._collected_at_ms is not None else at_ms - self._interval_ms
        self._collected_at_ms = at_ms
        readings = self.at(at_ms, max(before_ms, at_ms - LONGEST_STEP_MS))
        if not self._described:
            readings = [*self.description(at_ms), *readings]
            self._described = True
        return readings

    def close(self) -> None:
        """Nothing to release."""

    def at(self, at_ms: int, before_ms: int | None = None) -> list[Reading]:
        """What there is to read at an instant (Unix ms).

        Args:
            at_ms: the instant.
            before_ms: the reading before it, from which latency and events are counted; one interval by default.
        """
        before_ms = at_ms - self._interval_ms if before_ms is None else before_ms
        at, before = np.array([at_ms]), np.array([before_ms])
        readings: list[Reading] = [_sample(one, at_ms) for one in self.series(at)]
        for key, grown in self.increments(at, before):
            readings.append(
                LatencySample(
                    key=key,
                    kind=grown.kind,
                    observed_at_ms=at_ms,
                    upper_bounds_seconds=BOUNDS[grown.kind],
                    increments=tuple(grown.counts[0].tolist()),
                    sum_seconds=float(grown.sum_seconds[0]),
                )
            )
        readings += self.between(before_ms, at_ms)
        if at_ms // SLOW_MS != before_ms // SLOW_MS:
            readings += self.processes(at_ms)
        return readings

    def series(self, at: Integers) -> Iterator[Series]:
        """All metrics of everything at some instants (Unix ms)."""
        where = position(at)
        for node in self._world.nodes:
            host, machine = self._host(node.machine), node.machine
            yield Series("host", host, columns.machine(node, where))
            for number, part in enumerate(node.sockets):
                values = columns.socket(part, machine.cpu_limit_watts, where)
                yield Series("cpu", self._socket(machine, number), values)
            for card in node.accelerators:
                yield Series("accelerator", self._uuid(machine, card.index), columns.accelerator(card, where))
        for traffic in self._world.traffics:
            yield Series("deployment", self._deployment(traffic.model), columns.deployment(traffic, where))

    def increments(self, at: Integers, before: Integers) -> Iterator[tuple[str, Increments]]:
        """Latency histograms of every deployment, by its key, for requests that ended in ``(before, at]`` (Unix ms)."""
        for traffic in self._world.traffics:
            for grown in increments(traffic, self._world.seed, at, before):
                yield self._deployment(traffic.model), grown

    def between(self, before_ms: int, at_ms: int) -> Iterator[Reading]:
        """Probes and events of ``(before, at]`` (Unix ms)."""
        for slow_ms in range(before_ms // SLOW_MS * SLOW_MS + SLOW_MS, at_ms + 1, SLOW_MS):
            yield self._asked_own(slow_ms)
            yield self._asked_hosted(slow_ms)
        hot = self._uuid(*HOT)
        for day_ms in range(before_ms // _DAY_MS * _DAY_MS, at_ms + 1, _DAY_MS):
            for second, what, severity in zip(
                INCIDENT_SECONDS, ("began", "ended"), (Severity.WARNING, Severity.INFO), strict=True
            ):
                if before_ms < day_ms + second * 1000 <= at_ms:
                    yield Event(
                        observed_at_ms=day_ms + second * 1000,
                        kind="throttle",
                        severity=severity,
                        message=f"thermal slowdown {what} (simulated)",
                        family="accelerator",
                        key=hot,
                    )

    def processes(self, at_ms: int) -> Iterator[DeviceProcess]:
        """Who holds memory on which accelerator."""
        for traffic in self._world.traffics:
            yield from self._workers(traffic.model, "VLLM::Worker_{}", at_ms)
        yield from self._workers(self._world.training.work, self._world.training.work.name, at_ms)

    def description(self, at_ms: int) -> Iterator[Reading]:
        """Everything there is, and what runs on what."""

        def entity(machine: Machine, family: str, key: str, **labels: str) -> Entity:
            labels["simulated"] = "yes"
            return Entity(observed_at_ms=at_ms, family=family, key=key, host=self._host(machine), labels=labels)

        for node in self._world.nodes:
            machine, card = node.machine, node.machine.card
            yield entity(machine, "host", self._host(machine), vendor="simulated", model=machine.kind, kernel="6.8.0")
            for number in range(machine.sockets):
                yield entity(machine, "cpu", self._socket(machine, number), vendor="AMD", model=machine.cpu)
            for index in range(machine.cards):
                yield entity(
                    machine,
                    "accelerator",
                    self._uuid(machine, index),
                    vendor=card.vendor,
                    model=card.model,
                    index=str(index),
                    driver=card.driver,
                    pci=f"0000:{0x1B + index * 0x11:02x}:00.0",
                )
        for model in (traffic.model for traffic in self._world.traffics):
            key, url = self._deployment(model), self._url(model)
            yield entity(model.machine, "deployment", key, model=model.name, url=url, engine="vLLM", version="0.32.0")
            yield Assignment(
                deployment_key=key,
                target_family="accelerator",
                target_keys=tuple(self._uuid(model.machine, index) for index in model.accelerators),
                origin="settings",
                observed_at_ms=at_ms,
            )
        for asked in (self._own, HOSTED):
            charged = asked.usd_per_million_tokens
            price = "not set" if charged is None else "{:g} / {:g} USD per million tokens".format(*charged)
            yield entity(HOT[0], "probe", asked.name, url=asked.url, model=asked.model, price=price)

    def _workers(self, work: Model | Job, called: str, at_ms: int) -> Iterator[DeviceProcess]:
        for rank, index in enumerate(work.accelerators):
            yield DeviceProcess(
                key=self._uuid(work.machine, index),
                observed_at_ms=at_ms,
                pid=work.pid + rank,
                name=called.format(rank),
                memory_used_bytes=work.held_bytes,
            )

    def _asked_own(self, at_ms: int) -> ProbeSample:
        """The chat model by a client's clock, so a little slower than by the server's."""
        traffic, now = self._world.traffics[0], np.array([at_ms])
        tick = position(now).tick
        first, gap = float(traffic.ttft_seconds[tick][0]), float(traffic.step_seconds[tick][0])
        first = first * (0.9 + 0.35 * self._chance("probe", now)) + 0.006
        if first > 10:
            return ProbeSample(
                key=self._own.name, observed_at_ms=at_ms, outcome=Outcome.FAILED, error="no token within 10 s"
            )
        return _answered(self._own, at_ms, first, gap)

    def _asked_hosted(self, at_ms: int) -> ProbeSample:
        """The endpoint on wafer-scale hardware: no queue to be seen, and many tokens a second."""
        now = np.array([at_ms])
        first = HOSTED_TTFT_SECONDS * (0.85 + 0.5 * self._chance("hosted", now) ** 3)
        gap = (0.9 + 0.3 * self._chance("hosted gap", now)) / HOSTED_TOKENS_PER_SECOND
        return _answered(HOSTED, at_ms, first, gap)

    def _chance(self, name: str, now: Integers) -> float:
        return float(noise(self._world.seed, name, now)[0])

    # --- names ---

    def _host(self, machine: Machine) -> str:
        return f"{self._fleet}-{machine.name}"

    def _socket(self, machine: Machine, number: int) -> str:
        return f"{self._host(machine)}/socket {number}"

    def _uuid(self, machine: Machine, index: int) -> str:
        return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{self._host(machine)}/{self._world.seed}/{index}')}"

    def _url(self, model: Model) -> str:
        return f"http://{self._host(model.machine)}:{model.port}"

    def _deployment(self, model: Model) -> str:
        """As the serving source names it."""
        return f"{self._url(model)} {model.name}"


@lru_cache(maxsize=1)
def _world(seed: int) -> World:
    """Its tables take some time and 130 MB, and nobody changes them: history and live ticks share one."""
    return World(seed)


def _sample(one: Series, at_ms: int) -> Sample:
    family = FAMILIES[one.family]
    values: dict[str, Any] = {name: column.item() for name, column in one.values.items()}
    whole = {
        metric.name: int(values[metric.name]) for metric in family.metrics if metric.integer and metric.name in values
    }
    return family.sample_type(key=one.key, observed_at_ms=at_ms, **{**values, **whole})


def _answered(asked: Endpoint, at_ms: int, first_seconds: float, gap_seconds: float) -> ProbeSample:
    charged = asked.usd_per_million_tokens
    tokens = (PROMPT_TOKENS, asked.output_tokens)
    return ProbeSample(
        key=asked.name,
        observed_at_ms=at_ms,
        outcome=Outcome.OK,
        ttft_seconds=first_seconds,
        ttfo_seconds=first_seconds,
        itl_seconds=gap_seconds,
        tpot_seconds=gap_seconds,
        e2e_seconds=first_seconds + gap_seconds * (asked.output_tokens - 1),
        prompt_tokens=PROMPT_TOKENS,
        output_tokens=asked.output_tokens,
        reasoning_tokens=0,
        cost_usd=None if charged is None else sum(n * usd for n, usd in zip(tokens, charged, strict=True)) / 1e6,
    )
