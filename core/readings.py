"""What a source may report. Frozen, typed, in base units; ``None`` means "not known", 0 is measured.

A *sample* is one entity at one instant, wide; each of its metrics is declared here and nowhere else
(``core.metric``). Besides samples there are records of what exists (``Entity``), of what happened
(``Event``), of who uses a device (``DeviceProcess``, ``DeviceUser``), of who serves (``Listener``, ``Assignment``)
and of how a target answered (``TargetReport``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from typing import ClassVar, Literal

from core.metric import counter, gauge, state


class Throttle(IntFlag):
    """Why a clock is held down; one vocabulary for both vendors, stored as a bit mask."""

    IDLE = 1
    POWER_CAP = 2
    HARDWARE_SLOWDOWN = 4
    SOFTWARE_THERMAL = 8
    HARDWARE_THERMAL = 16
    POWER_BRAKE = 32
    SYNC_BOOST = 64
    USER_CLOCKS = 128
    DISPLAY = 256
    MEMORY_THERMAL = 512
    REGULATOR_THERMAL = 1024
    PROCHOT = 2048


ALARMING_THROTTLE = (
    Throttle.HARDWARE_SLOWDOWN
    | Throttle.HARDWARE_THERMAL
    | Throttle.POWER_BRAKE
    | Throttle.MEMORY_THERMAL
    | Throttle.REGULATOR_THERMAL
    | Throttle.PROCHOT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorSample:
    """One accelerator (GPU, MIG instance or partition) at one instant, keyed by its UUID.

    Slices of a device report only what the driver measures per slice; power, energy, temperature
    and clocks belong to the parent and are never divided.
    """

    family: ClassVar[str] = "accelerator"
    key: str
    observed_at_ms: int

    utilization_ratio: float | None = gauge(
        "Share of the sample period with at least one kernel resident (busy time, not efficiency).",
        "nvidia amd exporters",
    )
    memory_activity_ratio: float | None = gauge(
        "Share of time in which device memory was read or written; not how full it is.", "nvidia amd exporters"
    )
    sm_active_ratio: float | None = gauge(
        "Share of cycles in which an SM held a warp, mean over SMs (GPM).", "nvidia exporters"
    )
    sm_occupancy_ratio: float | None = gauge("Resident warps over the maximum (GPM).", "nvidia exporters")
    tensor_active_ratio: float | None = gauge(
        "Share of cycles in which a tensor pipe was active (GPM).", "nvidia exporters"
    )
    dram_active_ratio: float | None = gauge("Device memory bandwidth used over peak (GPM).", "nvidia exporters")
    encoder_ratio: float | None = gauge("Video encoder busy time.", "nvidia exporters")
    decoder_ratio: float | None = gauge("Video decoder busy time.", "nvidia exporters")
    memory_used_bytes: int | None = gauge(
        "Device memory held, without the driver's own reservation.", "nvidia amd exporters"
    )
    memory_total_bytes: int | None = gauge("Device memory installed or given to this slice.", "nvidia amd exporters")
    power_watts: float | None = gauge(
        "Board or module power. NVIDIA: 1 s average, instantaneous on GA100 and older. AMD: socket power.",
        "nvidia amd exporters",
    )
    memory_power_watts: float | None = gauge("The part of board power drawn by device memory.", "nvidia exporters")
    power_limit_watts: float | None = gauge("The cap in force; a setting, not the TDP.", "nvidia amd exporters")
    energy_joules_total: float | None = counter(
        "Energy since the driver was loaded, by the device's own counter.", "nvidia amd exporters"
    )
    temperature_celsius: float | None = gauge(
        "Core (NVIDIA) or hotspot/junction (AMD) temperature.", "nvidia amd exporters"
    )
    memory_temperature_celsius: float | None = gauge("Hottest memory sensor.", "nvidia amd exporters")
    temperature_margin_celsius: float | None = gauge(
        "Degrees left before the device slows down by itself.", "nvidia exporters"
    )
    core_clock_hertz: float | None = gauge("SM (NVIDIA) or mean graphics (AMD) clock.", "nvidia amd exporters")
    memory_clock_hertz: float | None = gauge("Memory clock.", "nvidia amd exporters")
    performance_state: int | None = state("P-state: 0 is the fastest.", "nvidia exporters")
    throttle_reasons: int | None = state(
        "Why clocks are held down right now (bits of Throttle).", "nvidia amd exporters"
    )
    throttle_power_seconds_total: float | None = counter("Time held down by a power limit.", "nvidia amd exporters")
    throttle_thermal_seconds_total: float | None = counter("Time held down by temperature.", "nvidia amd exporters")
    throttle_brake_seconds_total: float | None = counter(
        "Time held down by an external power brake or PROCHOT.", "nvidia amd exporters"
    )
    ecc_corrected_errors_total: int | None = counter(
        "Corrected memory errors since driver load.", "nvidia amd exporters"
    )
    ecc_uncorrected_errors_total: int | None = counter(
        "Uncorrected memory errors since driver load.", "nvidia amd exporters"
    )
    remapped_rows_total: int | None = counter("Memory rows replaced by spares.", "nvidia exporters")
    retired_pages_total: int | None = counter("Memory pages taken out of use.", "nvidia amd exporters")
    row_remap_state: int | None = state(
        "Bit 0: a reset is pending; bit 1: remapping failed (replace the board).", "nvidia exporters"
    )
    recovery_action: int | None = state(
        "What the driver asks for: 0 nothing, 1 GPU reset, 2 node reboot, 3-7 see docs.", "nvidia exporters"
    )
    pcie_rx_bytes_total: float | None = counter("Bytes received over PCIe.", "nvidia exporters")
    pcie_tx_bytes_total: float | None = counter("Bytes sent over PCIe.", "nvidia exporters")
    pcie_rx_bytes_per_second: float | None = gauge("PCIe receive rate sampled by the driver.", "nvidia exporters")
    pcie_tx_bytes_per_second: float | None = gauge("PCIe send rate sampled by the driver.", "nvidia exporters")
    pcie_generation: int | None = state(
        "PCIe generation in use; drops at idle, which is no fault.", "nvidia amd exporters"
    )
    pcie_lanes: int | None = state("PCIe lanes in use.", "nvidia amd exporters")
    pcie_replays_total: int | None = counter("PCIe packets sent again.", "nvidia amd exporters")
    nvlink_rx_bytes_total: float | None = counter("Bytes received over all NVLinks.", "nvidia exporters")
    nvlink_tx_bytes_total: float | None = counter("Bytes sent over all NVLinks.", "nvidia exporters")
    xgmi_rx_bytes_total: float | None = counter("Bytes read over all XGMI links.", "amd exporters")
    xgmi_tx_bytes_total: float | None = counter("Bytes written over all XGMI links.", "amd exporters")
    processes: int | None = gauge("Processes that hold memory on the device.", "nvidia amd exporters")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSample:
    """One CPU socket at one instant, keyed ``host/socket N``."""

    family: ClassVar[str] = "cpu"
    key: str
    observed_at_ms: int

    utilization_ratio: float | None = gauge("Share of time not idle, over the socket's logical CPUs.", "cpu exporters")
    power_watts: float | None = gauge(
        "Package power over the last interval, or as the socket reports it.", "cpu exporters"
    )
    energy_joules_total: float | None = counter("Package energy, wrap-around removed (RAPL or E-SMI).", "cpu exporters")
    dram_energy_joules_total: float | None = counter(
        "DRAM domain energy where the socket has one (not on AMD).", "cpu exporters"
    )
    power_limit_watts: float | None = gauge("Socket power cap in force.", "cpu exporters")
    temperature_celsius: float | None = gauge("Package temperature (coretemp, k10temp or E-SMI).", "cpu exporters")
    frequency_hertz: float | None = gauge("Mean clock of the socket's cores.", "cpu exporters")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """One machine at one instant, keyed by host name."""

    family: ClassVar[str] = "host"
    key: str
    observed_at_ms: int

    cpu_utilization_ratio: float | None = gauge("Share of time not idle, over all logical CPUs.", "host exporters")
    cpu_iowait_ratio: float | None = gauge("Share of time idle while waiting for disks.", "host exporters")
    load_1m: float | None = gauge("Runnable tasks, 1 minute mean.", "host exporters")
    memory_used_bytes: int | None = gauge("Total less available memory.", "host exporters")
    memory_total_bytes: int | None = gauge("Installed memory.", "host exporters")
    swap_used_bytes: int | None = gauge("Swap in use.", "host exporters")
    disk_used_bytes: int | None = gauge("Used space of the file system that holds the root.", "host exporters")
    disk_total_bytes: int | None = gauge("Size of the file system that holds the root.", "host exporters")
    disk_read_bytes_total: float | None = counter("Bytes read from all disks.", "host exporters")
    disk_written_bytes_total: float | None = counter("Bytes written to all disks.", "host exporters")
    network_rx_bytes_total: float | None = counter("Bytes received over all interfaces but loopback.", "host exporters")
    network_tx_bytes_total: float | None = counter("Bytes sent over all interfaces but loopback.", "host exporters")
    cpu_pressure_ratio: float | None = gauge(
        "Share of the last 10 s in which some task waited for a CPU (PSI).", "host exporters"
    )
    memory_pressure_ratio: float | None = gauge(
        "Share of the last 10 s in which some task waited for memory (PSI).", "host exporters"
    )
    io_pressure_ratio: float | None = gauge(
        "Share of the last 10 s in which some task waited for I/O (PSI).", "host exporters"
    )
    node_power_watts: float | None = gauge(
        "Whole-node power at the supply (hwmon power meter or BMC).", "host exporters"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSample:
    """One model on one server at one instant, keyed ``server URL + space + model``."""

    family: ClassVar[str] = "deployment"
    key: str
    observed_at_ms: int

    running_requests: float | None = gauge("Requests being computed.", "serving exporters")
    waiting_requests: float | None = gauge("Requests in the queue.", "serving exporters")
    kv_cache_usage_ratio: float | None = gauge("Share of the KV cache in use.", "serving exporters")
    prompt_tokens_total: float | None = counter("Prompt tokens processed, cached ones included.", "serving exporters")
    cached_prompt_tokens_total: float | None = counter(
        "Prompt tokens answered from the prefix cache.", "serving exporters"
    )
    generation_tokens_total: float | None = counter("Output tokens, reasoning included.", "serving exporters")
    succeeded_requests_total: float | None = counter("Requests that ended by stop or length.", "serving exporters")
    failed_requests_total: float | None = counter("Requests that ended by error.", "serving exporters")
    aborted_requests_total: float | None = counter("Requests cancelled by the client.", "serving exporters")
    preemptions_total: float | None = counter("Requests pushed out of the KV cache.", "serving exporters")
    prefix_cache_queries_tokens_total: float | None = counter(
        "Tokens looked up in the prefix cache.", "serving exporters"
    )
    prefix_cache_hits_tokens_total: float | None = counter("Tokens found in the prefix cache.", "serving exporters")
    prefill_seconds_total: float | None = counter(
        "Time spent on prompts, where the server only counts it.", "serving exporters"
    )
    decode_seconds_total: float | None = counter(
        "Time spent generating, where the server only counts it.", "serving exporters"
    )
    process_started_at_seconds: float | None = gauge(
        "Unix time at which the server process began.", "serving exporters"
    )
    rejected_requests_total: float | None = counter(
        "Requests refused before they began: not valid, or the server was full.", "serving exporters"
    )
    reasoning_tokens_total: float | None = counter(
        "The part of the output tokens that was reasoning.", "serving exporters"
    )
    model_memory_bytes: float | None = gauge(
        "Accelerator memory that the loaded model holds, as the server says.", "serving exporters"
    )


class Latency(StrEnum):
    """What a histogram measures; definitions in docs/numbers.md."""

    TTFT = "ttft"
    ITL = "itl"
    TPOT = "tpot"
    E2E = "e2e"
    QUEUE = "queue"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySample:
    """Requests of one deployment that fell into each bucket during the interval that ends here.

    ``upper_bounds_seconds`` ascends and ends with ``inf``; ``increments`` has one plain (not
    cumulative) count per bound. ``increments`` summed is ``observations``.
    """

    family: ClassVar[str] = "latency"
    key: str  # of the deployment
    kind: Latency
    observed_at_ms: int
    upper_bounds_seconds: tuple[float, ...]
    increments: tuple[float, ...]
    sum_seconds: float | None

    @property
    def observations(self) -> float:
        """How many requests (or gaps, or iterations) were seen."""
        return sum(self.increments)


class Outcome(StrEnum):
    """How a tick, a scrape or a probe ended."""

    OK = "ok"
    NO_DATA = "no data"
    FAILED = "failed"
    REFUSED = "refused"  # not even tried: the spend cap would be passed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSample:
    """One active request to an endpoint, keyed ``probe name``."""

    family: ClassVar[str] = "probe"
    key: str
    observed_at_ms: int
    outcome: Outcome
    error: str = ""
    token_count_estimated: bool = False  # the endpoint sent no usage block

    ttft_seconds: float | None = gauge("Request sent to first chunk with text, reasoning included.", "probe exporters")
    ttfo_seconds: float | None = gauge(
        "Request sent to first chunk of the answer, reasoning left out.", "probe exporters"
    )
    itl_seconds: float | None = gauge("Mean gap between chunks; a chunk may hold several tokens.", "probe exporters")
    tpot_seconds: float | None = gauge("(last token - first token) / (output tokens - 1).", "probe exporters")
    e2e_seconds: float | None = gauge("Request sent to end of stream.", "probe exporters")
    prompt_tokens: int | None = gauge("Prompt tokens as billed.", "probe exporters")
    output_tokens: int | None = gauge("Output tokens as billed, reasoning included.", "probe exporters")
    reasoning_tokens: int | None = gauge("The part of the output that was reasoning.", "probe exporters")
    cost_usd: float | None = gauge("Price of this request by the prices in the settings.", "probe exporters")
    cached_prompt_tokens: float | None = gauge(
        "The part of the prompt that the endpoint answered from a cache.", "probe exporters"
    )
    chunks: float | None = gauge(
        "Chunks with text; output tokens over this is how many a chunk holds.", "probe exporters"
    )
    connect_seconds: float | None = gauge("Name lookup, TCP and TLS; in no other latency.", "probe exporters")
    server_queue_seconds: float | None = gauge("Time in the endpoint's queue, by its own clock.", "probe exporters")
    server_prefill_seconds: float | None = gauge(
        "Time spent on the prompt, by the endpoint's own clock.", "probe exporters"
    )
    server_decode_seconds: float | None = gauge(
        "Time spent generating, by the endpoint's own clock.", "probe exporters"
    )
    server_e2e_seconds: float | None = gauge("The whole request, by the endpoint's own clock.", "probe exporters")


Sample = AcceleratorSample | CpuSample | HostSample | DeploymentSample | ProbeSample
SAMPLE_TYPES: tuple[type[Sample], ...] = (AcceleratorSample, CpuSample, HostSample, DeploymentSample, ProbeSample)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Something that exists: sent at discovery and whenever its description changes.

    ``labels`` is what a person reads: vendor, model, driver, PCI address, partition mode, version,
    url. Never a secret. A changed ``driver`` or ``version`` becomes an event in the store.
    """

    observed_at_ms: int
    family: str
    key: str
    host: str
    parent_key: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class Severity(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: XID, RAS error, restart, driver change, device lost."""

    observed_at_ms: int
    kind: str
    severity: Severity
    message: str
    family: str = ""
    key: str = ""
    code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProcess:
    """A process that holds memory on a device. ``pid`` is as the driver sees it (host namespace)."""

    key: str  # of the accelerator
    observed_at_ms: int
    pid: int
    name: str = ""
    memory_used_bytes: int | None = None
    host: str = ""  # whose process numbers these are; empty: the machine that collects


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUser:
    """Who an exporter says a device is given to: ``namespace``, ``pod``, ``container``, ``job``; empty: nobody."""

    key: str  # of the accelerator
    observed_at_ms: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who serves: the processes behind a local inference server, or the labels by which exporters know it.

    ``pids`` are the listener, its ancestors' group and its children; empty for a server elsewhere.
    """

    deployment_keys: tuple[str, ...]
    host: str
    observed_at_ms: int
    pids: frozenset[int] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Everything a deployment runs on: accelerators or, without any, a host's CPUs; replaces what was said before.

    No targets means that it runs nowhere that is known any more.
    """

    deployment_key: str
    target_family: Literal["accelerator", "host"]
    target_keys: tuple[str, ...]
    origin: Literal["processes", "labels", "settings"]
    observed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """How one target of a source with many targets answered this tick."""

    target: str
    outcome: Outcome
    duration_seconds: float
    error: str = ""


Reading = Sample | LatencySample | Entity | Event | DeviceProcess | DeviceUser | Listener | Assignment | TargetReport
