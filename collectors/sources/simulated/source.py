"""A source without hardware: one host with eight H100, two EPYC sockets and two vLLM servers.

For the demo and for tests. What it says is a pure function of seed and time (``world``,
which also tells the incident that is planted every day), so 24 hours of history can be laid down in
seconds and the live ticks continue it without a seam. GPU 7 has no work at all: a waste to be seen.
Everything it describes is labelled ``simulated``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from collectors.base import Availability, now_ms
from collectors.sources.simulated.world import (
    HOT_ACCELERATOR,
    INCIDENT_SECONDS,
    LIMIT_WATTS,
    ORIGIN_MS,
    SLOWDOWN_CELSIUS,
    SOCKET_LIMIT_WATTS,
    Accelerator,
    Floats,
    Integers,
    Position,
    Socket,
    Traffic,
    World,
    noise,
    position,
)
from core.readings import (
    AcceleratorSample,
    Assignment,
    CpuSample,
    DeploymentSample,
    DeviceProcess,
    Entity,
    Event,
    HostSample,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
    Sample,
    Severity,
    Throttle,
)

S = TypeVar("S", bound=Sample)

SEED = 20_261_123
CHUNK = 1_000  # instants computed at once; bounds memory, changes no value
SLOW_MS = 60_000  # processes and the probe come once a minute
LONGEST_STEP_MS = 300_000  # after a longer silence, increments cover only this much
GIB = 1 << 30

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


class SimulatedSource:
    """The demo's only source.

    Args:
        host: name of the machine that is made up.
        interval_seconds: how long one live tick covers when nothing came before it.
        seed: another seed, another week.
    """

    name = "simulated"

    def __init__(self, host: str = "demo-host", interval_seconds: float = 10.0, *, seed: int = SEED) -> None:
        self._host = host
        self._interval_ms = round(interval_seconds * 1000)
        self._world = World(seed)
        self._uuids = [f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{host}/{seed}/{i}')}" for i in range(8)]
        self._probe = f"{host} chat"
        self._described = False
        self._collected_at_ms: int | None = None

    def discover(self) -> Availability:
        """Always there."""
        self._described = False
        return Availability(ok=True, entities=(self._host,))

    def collect(self) -> Iterable[Reading]:
        """The world now; latency and events since the last tick."""
        at_ms = now_ms()
        before_ms = self._collected_at_ms if self._collected_at_ms is not None else at_ms - self._interval_ms
        self._collected_at_ms = at_ms
        readings = self.at(at_ms, max(before_ms, at_ms - LONGEST_STEP_MS))
        if not self._described:
            readings = (*self._description(at_ms), *readings)
            self._described = True
        return readings

    def close(self) -> None:
        """Nothing to release."""

    def at(self, at_ms: int, before_ms: int | None = None) -> tuple[Reading, ...]:
        """What there is to read at an instant (Unix ms).

        Args:
            at_ms: the instant.
            before_ms: the reading before it, from which latency and events are counted; one interval by default.
        """
        before_ms = at_ms - self._interval_ms if before_ms is None else before_ms
        return next(self._readings(np.array([at_ms]), np.array([before_ms])))[1]

    def history(self, start_ms: int, end_ms: int, step_ms: int) -> Iterator[tuple[int, tuple[Reading, ...]]]:
        """Every tick of ``[start, end)``; the first one also describes what there is.

        Ticks lie on whole multiples of the step, so that history laid down twice is the same history.

        Yields:
            The instant (Unix ms) and its readings.
        """
        start_ms = -(-start_ms // step_ms) * step_ms
        for first in range(start_ms, end_ms, CHUNK * step_ms):
            at = np.arange(first, min(first + CHUNK * step_ms, end_ms), step_ms)
            for at_ms, readings in self._readings(at, at - step_ms):
                known = () if at_ms > start_ms else self._description(at_ms)
                yield at_ms, (*known, *readings)

    def _readings(self, at: Integers, before: Integers) -> Iterator[tuple[int, tuple[Reading, ...]]]:
        where, since = position(at), position(before)
        samples: list[Sequence[Reading]] = [
            *(self._accelerator(part, at, where) for part in self._world.accelerators),
            *(self._socket(number, part, at, where) for number, part in enumerate(self._world.sockets)),
            self._machine(at, where),
            *(self._deployment(traffic, at, where) for traffic in self._world.traffics),
        ]
        for traffic in self._world.traffics:
            samples += self._latencies(traffic, at, where, since)
        for at_ms, before_ms, *row in zip(at.tolist(), before.tolist(), *samples, strict=True):
            yield at_ms, (*row, *self._now_and_then(at_ms, before_ms))

    def _accelerator(self, part: Accelerator, at: Integers, where: Position) -> list[AcceleratorSample]:
        used, tick = part.traffic is not None, where.tick
        throttled, celsius = part.throttled[tick], np.round(part.temperature_celsius[tick])
        copied = part.traffic.requests.at(where) * 2.2e6 if part.traffic else np.zeros(len(at))
        slowed = int(Throttle.HARDWARE_SLOWDOWN | Throttle.HARDWARE_THERMAL)
        return _samples(
            AcceleratorSample,
            self._uuids[part.index],
            at,
            {
                "utilization_ratio": np.round(part.busy_ratio[tick], 2),  # the driver gives whole percent
                "memory_activity_ratio": np.round(part.busy_ratio[tick] * 0.62, 2),
                "sm_active_ratio": part.sm_active_ratio[tick],
                "dram_active_ratio": part.sm_active_ratio[tick] * 0.55,
                "power_watts": part.power_watts[tick],
                "energy_joules_total": part.energy.at(where),
                "temperature_celsius": celsius,
                "memory_temperature_celsius": np.round(celsius * 0.95 + 9),
                "temperature_margin_celsius": SLOWDOWN_CELSIUS - celsius,
                "core_clock_hertz": np.where(throttled, 990e6, 1980e6 if used else 345e6),
                "throttle_reasons": np.where(throttled, slowed, 0 if used else int(Throttle.IDLE)),
                "throttle_thermal_seconds_total": part.thermal_seconds.at(where),
                "pcie_rx_bytes_total": copied,
                "pcie_tx_bytes_total": copied * 0.8,
            },
            memory_used_bytes=round(73.4 * GIB) if used else 0,
            memory_total_bytes=80 * GIB,
            power_limit_watts=LIMIT_WATTS,
            memory_clock_hertz=2619e6,
            performance_state=0,
            throttle_power_seconds_total=0.0,
            throttle_brake_seconds_total=0.0,
            ecc_corrected_errors_total=0,
            ecc_uncorrected_errors_total=0,
            remapped_rows_total=0,
            row_remap_state=0,
            recovery_action=0,
            pcie_generation=5,
            pcie_lanes=16,
            pcie_replays_total=0,
            processes=1 if used else 0,
        )

    def _socket(self, number: int, part: Socket, at: Integers, where: Position) -> list[CpuSample]:
        busy, watts = part.busy_ratio[where.tick], part.power_watts[where.tick]
        return _samples(
            CpuSample,
            f"{self._host}/socket {number}",
            at,
            {
                "utilization_ratio": busy,
                "power_watts": watts,
                "energy_joules_total": part.energy.at(where),
                "temperature_celsius": np.round(30 + watts * 0.14),
                "frequency_hertz": 2.4e9 + 1.1e9 * (1 - busy),
            },
            power_limit_watts=SOCKET_LIMIT_WATTS,
        )

    def _machine(self, at: Integers, where: Position) -> list[HostSample]:
        world = self._world
        busy: Floats = np.mean([part.busy_ratio[where.tick] for part in world.sockets], axis=0)
        return _samples(
            HostSample,
            self._host,
            at,
            {
                "cpu_utilization_ratio": busy,
                "load_1m": np.round(busy * 384, 2),
                "memory_used_bytes": np.round((310 + 40 * busy) * GIB).astype("int64"),
                "disk_read_bytes_total": world.read_bytes.at(where),
                "disk_written_bytes_total": world.written_bytes.at(where),
                "network_rx_bytes_total": world.received_bytes.at(where),
                "network_tx_bytes_total": world.sent_bytes.at(where),
                "node_power_watts": world.node_watts[where.tick],
            },
            cpu_iowait_ratio=0.001,
            memory_total_bytes=1536 * GIB,
            swap_used_bytes=0,
            disk_used_bytes=1_180 * 10**9,
            disk_total_bytes=3_840 * 10**9,
            cpu_pressure_ratio=0.0,
            memory_pressure_ratio=0.0,
            io_pressure_ratio=0.0,
        )

    def _deployment(self, traffic: Traffic, at: Integers, where: Position) -> list[DeploymentSample]:
        model, requests = traffic.model, traffic.requests.at(where)
        prompt = np.floor(requests * model.prompt_tokens)
        cached = np.floor(prompt * model.cached_ratio)
        return _samples(
            DeploymentSample,
            model.key,
            at,
            {
                "running_requests": np.round(traffic.running[where.tick]),
                "waiting_requests": np.round(traffic.waiting[where.tick]),
                "kv_cache_usage_ratio": traffic.kv_ratio[where.tick],
                "prompt_tokens_total": prompt,
                "cached_prompt_tokens_total": cached,
                "generation_tokens_total": np.floor(requests * model.output_tokens),
                "succeeded_requests_total": np.floor(requests),
                "failed_requests_total": np.floor(traffic.failed.at(where)),
                "aborted_requests_total": np.floor(traffic.aborted.at(where)),
                "preemptions_total": np.floor(traffic.preempted.at(where)),
                "prefix_cache_queries_tokens_total": prompt,
                "prefix_cache_hits_tokens_total": cached,
            },
            process_started_at_seconds=ORIGIN_MS / 1000,
        )

    def _latencies(
        self, traffic: Traffic, at: Integers, where: Position, since: Position
    ) -> Iterator[list[LatencySample]]:
        model, tick = traffic.model, where.tick
        answered = np.floor(traffic.requests.at(where)) - np.floor(traffic.requests.at(since))
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
            luck = noise(self._world.seed, f"{model.name} {kind}", at)
            counts, sums = _histogram(BOUNDS[kind], _SHAPE[kind], observations, median, luck)
            yield [
                LatencySample(
                    key=model.key,
                    kind=kind,
                    observed_at_ms=at_ms,
                    upper_bounds_seconds=BOUNDS[kind],
                    increments=tuple(row),
                    sum_seconds=total,
                )
                for at_ms, row, total in zip(at.tolist(), counts.tolist(), sums.tolist(), strict=True)
            ]

    def _now_and_then(self, at_ms: int, before_ms: int) -> Iterator[Reading]:
        """What does not come with every tick: processes, the probe, and the two ends of the incident."""
        if at_ms // SLOW_MS != before_ms // SLOW_MS:
            for traffic in self._world.traffics:
                for rank, index in enumerate(traffic.model.accelerators):
                    yield DeviceProcess(
                        key=self._uuids[index],
                        observed_at_ms=at_ms,
                        pid=traffic.model.pid + rank,
                        name=f"VLLM::Worker_{rank}",
                        memory_used_bytes=round(73.1 * GIB),
                    )
            yield self._asked(at_ms)
        ends = ((INCIDENT_SECONDS[0], "began", Severity.WARNING), (INCIDENT_SECONDS[1], "ended", Severity.INFO))
        for second, what, severity in ends:
            if _passes(before_ms, at_ms, second):
                yield Event(
                    observed_at_ms=at_ms,
                    kind="throttle",
                    severity=severity,
                    message=f"thermal slowdown {what} (simulated)",
                    family="accelerator",
                    key=self._uuids[HOT_ACCELERATOR],
                )

    def _asked(self, at_ms: int) -> ProbeSample:
        """One probe of the chat model: a client's clock, so a little more than the server's."""
        traffic = self._world.traffics[0]
        where, now = position(np.array([at_ms])), np.array([at_ms])
        first, gap = float(traffic.ttft_seconds[where.tick][0]), float(traffic.step_seconds[where.tick][0])
        first = first * (0.9 + 0.35 * float(noise(self._world.seed, "probe", now)[0])) + 0.006
        tokens = 16
        if first > 10:
            return ProbeSample(
                key=self._probe, observed_at_ms=at_ms, outcome=Outcome.FAILED, error="no token within 10 s"
            )
        return ProbeSample(
            key=self._probe,
            observed_at_ms=at_ms,
            outcome=Outcome.OK,
            ttft_seconds=first,
            ttfo_seconds=first,
            itl_seconds=gap,
            tpot_seconds=gap,
            e2e_seconds=first + gap * (tokens - 1),
            prompt_tokens=14,
            output_tokens=tokens,
            reasoning_tokens=0,
        )

    def _description(self, at_ms: int) -> Iterator[Reading]:
        def entity(family: str, key: str, **labels: str) -> Entity:
            labels["simulated"] = "yes"
            return Entity(observed_at_ms=at_ms, family=family, key=key, host=self._host, labels=labels)

        yield entity("host", self._host, vendor="simulated", model="8-GPU server", kernel="6.8.0")
        for number in range(len(self._world.sockets)):
            yield entity("cpu", f"{self._host}/socket {number}", vendor="AMD", model="AMD EPYC 9654 96-Core Processor")
        for index, key in enumerate(self._uuids):
            yield entity(
                "accelerator",
                key,
                vendor="NVIDIA",
                model="NVIDIA H100 80GB HBM3",
                index=str(index),
                driver="590.48.01",
                pci=f"0000:{0x1B + index * 0x11:02x}:00.0",
            )
        for traffic in self._world.traffics:
            model = traffic.model
            yield entity("deployment", model.key, model=model.name, url=model.server, engine="vLLM", version="0.32.0")
            yield Assignment(
                deployment_key=model.key,
                target_family="accelerator",
                target_keys=tuple(self._uuids[i] for i in model.accelerators),
                origin="settings",
                observed_at_ms=at_ms,
            )
        probed = self._world.traffics[0].model
        yield entity("probe", self._probe, url=probed.server, model=probed.name, price="not set")


def _samples(
    sample_type: Callable[..., S], key: str, at: Integers, changing: Mapping[str, NDArray[Any]], **constant: float
) -> list[S]:
    """One sample per instant, from columns."""
    rows = zip(*(column.tolist() for column in changing.values()), strict=True)
    return [
        sample_type(key=key, observed_at_ms=at_ms, **constant, **dict(zip(changing, row, strict=True)))
        for at_ms, row in zip(at.tolist(), rows, strict=True)
    ]


def _histogram(
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
    return counts, np.clip(observations * mean, lower, upper)


def _passes(before_ms: int, at_ms: int, second_of_day: int) -> bool:
    """Whether a second of the UTC day lies in ``(before, at]``."""
    day_ms, shift_ms = 86_400_000, second_of_day * 1000
    return (at_ms - shift_ms) // day_ms != (before_ms - shift_ms) // day_ms
