"""Who is in the simulated fleet: machines, what they are made of, and what runs where.

Figures of devices are those of their makers as far as a driver would show them (memory, power limit); powers and
speeds under load are of the right size and invented. What is wasted on purpose stands in ``truth``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A kind of accelerator as its driver describes it, and how it draws power and gets warm."""

    vendor: str
    model: str
    driver: str
    memory_bytes: int
    limit_watts: float
    empty_watts: float  # nobody is on it
    held_watts: float  # a model is loaded and nothing runs
    working_watts: float  # more, with all units busy
    slowdown_celsius: float
    celsius_per_watt: float
    core_hertz: float
    idle_hertz: float
    memory_hertz: float
    link: str  # to its neighbours: "nvlink", "xgmi", or nothing


H100 = Card(
    vendor="NVIDIA",
    model="NVIDIA H100 80GB HBM3",
    driver="590.48.01",
    memory_bytes=80 * GIB,
    limit_watts=700.0,
    empty_watts=70.0,
    held_watts=116.0,
    working_watts=560.0,
    slowdown_celsius=87.0,
    celsius_per_watt=0.056,
    core_hertz=1980e6,
    idle_hertz=345e6,
    memory_hertz=2619e6,
    link="nvlink",
)
L40S = Card(
    vendor="NVIDIA",
    model="NVIDIA L40S",
    driver="590.48.01",
    memory_bytes=48 * GIB,
    limit_watts=350.0,
    empty_watts=34.0,
    held_watts=84.0,
    working_watts=250.0,
    slowdown_celsius=90.0,
    celsius_per_watt=0.13,
    core_hertz=2520e6,
    idle_hertz=210e6,
    memory_hertz=9001e6,
    link="",
)
MI300X = Card(
    vendor="AMD",
    model="AMD Instinct MI300X",
    driver="6.14.14",
    memory_bytes=192 * GIB,
    limit_watts=750.0,
    empty_watts=132.0,
    held_watts=158.0,
    working_watts=570.0,
    slowdown_celsius=100.0,
    celsius_per_watt=0.058,
    core_hertz=2100e6,
    idle_hertz=132e6,
    memory_hertz=1300e6,
    link="xgmi",
)
MI300X_RENTED = replace(
    MI300X, model="AMD Instinct MI300X VF"
)  # of a virtual machine; by this name it has its own price


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One host; ``name`` comes behind the name of the whole fleet."""

    name: str
    kind: str
    card: Card
    cards: int
    sockets: int
    cpu: str
    threads: int
    cpu_limit_watts: float
    memory_bytes: int


_GENOA = "AMD EPYC 9654 96-Core Processor"
H100_1, H100_2, MI300X_1, EDGE, CLOUD = MACHINES = (
    *(
        Machine(
            name=f"mx-h100-{number}",
            kind="8-GPU server",
            card=H100,
            cards=8,
            sockets=2,
            cpu=_GENOA,
            threads=384,
            cpu_limit_watts=360.0,
            memory_bytes=1536 * GIB,
        )
        for number in (1, 2)
    ),
    Machine(
        name="mx-mi300x-1",
        kind="8-GPU server",
        card=MI300X,
        cards=8,
        sockets=2,
        cpu=_GENOA,
        threads=384,
        cpu_limit_watts=360.0,
        memory_bytes=2304 * GIB,
    ),
    Machine(
        name="cl-edge-1",
        kind="2-GPU edge server",
        card=L40S,
        cards=2,
        sockets=1,
        cpu="AMD EPYC 9354P 32-Core Processor",
        threads=64,
        cpu_limit_watts=280.0,
        memory_bytes=384 * GIB,
    ),
    Machine(
        name="br-cloud-1",
        kind="rented 8-GPU machine",
        card=MI300X_RENTED,
        cards=8,
        sockets=2,
        cpu=_GENOA,
        threads=192,
        cpu_limit_watts=360.0,
        memory_bytes=1850 * GIB,
    ),
)


class Rhythm(Enum):
    """When requests come; the curves are in ``rhythms``."""

    OFFICE = "by day over the Americas, a little at night, less at weekends"
    CLOSED_AT_NIGHT = "the same for offices in Brazil, and nothing while they are closed"
    STEADY = "shops: mornings to evenings, every day alike"
    EVENING_BATCH = "one run each evening in Mexico, single documents at other times"
    NEVER = "nobody asks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One vLLM server as its operator would describe it."""

    name: str
    machine: Machine
    port: int
    accelerators: tuple[int, ...]
    pid: int
    held_bytes: int  # on each accelerator
    rhythm: Rhythm
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


CHAT, REASONING = "meta-llama/Llama-2-70b-chat-hf", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"
BATCH, FORGOTTEN = "Qwen/Qwen2.5-72B-Instruct", "mistralai/Mixtral-8x7B-Instruct-v0.1"
MODELS = (
    Model(
        name=CHAT,
        machine=H100_1,
        port=8000,
        accelerators=(0, 1, 2, 3),
        pid=41_001,
        held_bytes=round(73.4 * GIB),
        rhythm=Rhythm.OFFICE,
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
        name=REASONING,
        machine=H100_1,
        port=8001,
        accelerators=(4, 5),
        pid=52_001,
        held_bytes=round(73.4 * GIB),
        rhythm=Rhythm.OFFICE,
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
    Model(
        name=FORGOTTEN,
        machine=H100_2,
        port=8000,
        accelerators=(6, 7),
        pid=61_001,
        held_bytes=round(72.1 * GIB),
        rhythm=Rhythm.NEVER,
        peak_requests_per_second=0.0,
        prompt_tokens=600,
        output_tokens=220,
        cached_ratio=0.2,
        context_tokens=800,
        kv_tokens=350_000,
        most_running=128,
        step_seconds=0.011,
        step_seconds_per_request=0.0001,
        prefill_tokens_per_second=24_000,
    ),
    Model(
        name=CHAT,
        machine=MI300X_1,
        port=8000,
        accelerators=(0, 1),
        pid=23_001,
        held_bytes=round(171.0 * GIB),
        rhythm=Rhythm.OFFICE,
        peak_requests_per_second=8.5,
        prompt_tokens=870,
        output_tokens=256,
        cached_ratio=0.31,
        context_tokens=1_010,
        kv_tokens=520_000,
        most_running=128,
        step_seconds=0.019,
        step_seconds_per_request=0.00018,
        prefill_tokens_per_second=9_000,
    ),
    Model(
        name=REASONING,
        machine=MI300X_1,
        port=8001,
        accelerators=(2, 3),
        pid=34_001,
        held_bytes=round(171.0 * GIB),
        rhythm=Rhythm.OFFICE,
        peak_requests_per_second=0.9,
        prompt_tokens=420,
        output_tokens=1_750,
        cached_ratio=0.12,
        context_tokens=2_100,
        kv_tokens=520_000,
        most_running=96,
        step_seconds=0.021,
        step_seconds_per_request=0.00022,
        prefill_tokens_per_second=7_500,
    ),
    Model(
        name=BATCH,
        machine=MI300X_1,
        port=8002,
        accelerators=(4, 5, 6, 7),
        pid=45_001,
        held_bytes=round(171.0 * GIB),
        rhythm=Rhythm.EVENING_BATCH,
        peak_requests_per_second=18.0,
        prompt_tokens=2_400,
        output_tokens=180,
        cached_ratio=0.08,
        context_tokens=2_520,
        kv_tokens=1_100_000,
        most_running=192,
        step_seconds=0.02,
        step_seconds_per_request=0.0001,
        prefill_tokens_per_second=48_000,
    ),
    Model(
        name="meta-llama/Llama-3.1-8B-Instruct",
        machine=EDGE,
        port=8000,
        accelerators=(0, 1),
        pid=9_001,
        held_bytes=round(42.5 * GIB),
        rhythm=Rhythm.STEADY,
        peak_requests_per_second=8.0,
        prompt_tokens=600,
        output_tokens=150,
        cached_ratio=0.45,
        context_tokens=690,
        kv_tokens=60_000,
        most_running=48,
        step_seconds=0.012,
        step_seconds_per_request=0.0003,
        prefill_tokens_per_second=14_000,
    ),
    Model(
        name="deepseek-ai/DeepSeek-R1",
        machine=CLOUD,
        port=8000,
        accelerators=(0, 1, 2, 3, 4, 5, 6, 7),
        pid=71_001,
        held_bytes=round(176.0 * GIB),
        rhythm=Rhythm.CLOSED_AT_NIGHT,
        peak_requests_per_second=1.05,
        prompt_tokens=900,
        output_tokens=1_900,
        cached_ratio=0.22,
        context_tokens=2_300,
        kv_tokens=700_000,
        most_running=160,
        step_seconds=0.03,
        step_seconds_per_request=0.00018,
        prefill_tokens_per_second=9_500,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that serves nobody: processes that keep accelerators busy, and no tokens."""

    name: str
    machine: Machine
    accelerators: tuple[int, ...]
    pid: int
    held_bytes: int
    active_ratio: float
    checkpoint_every_seconds: int
    checkpoint_seconds: int


TRAINING = Job(
    name="python train.py",
    machine=H100_2,
    accelerators=(0, 1, 2, 3, 4, 5),
    pid=88_001,
    held_bytes=round(77.2 * GIB),
    active_ratio=0.93,
    checkpoint_every_seconds=3_600,
    checkpoint_seconds=60,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model is asked from outside, as a client."""

    name: str
    url: str
    model: str
    output_tokens: int
    usd_per_million_tokens: tuple[float, float] | None  # of prompt and answer; nothing is charged for an own server


HOSTED = Endpoint(
    name="cerebras (simulated)",
    url="https://cerebras.simulated.example/v1",
    model="deepseek-r1-distill-llama-70b",
    output_tokens=96,
    usd_per_million_tokens=(2.2, 6.0),
)
HOSTED_TOKENS_PER_SECOND = 1_500.0
HOSTED_TTFT_SECONDS = 0.21
