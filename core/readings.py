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
        "Share of the sample period with at least one kernel resident (busy time, not efficiency).", "nvidia amd"
    )
    memory_activity_ratio: float | None = gauge(
        "Share of time in which device memory was read or written; not how full it is.", "nvidia amd"
    )
    sm_active_ratio: float | None = gauge("Share of cycles in which an SM held a warp, mean over SMs (GPM).", "nvidia")
    sm_occupancy_ratio: float | None = gauge("Resident warps over the maximum (GPM).", "nvidia")
    tensor_active_ratio: float | None = gauge("Share of cycles in which a tensor pipe was active (GPM).", "nvidia")
    dram_active_ratio: float | None = gauge("Device memory bandwidth used over peak (GPM).", "nvidia")
    encoder_ratio: float | None = gauge("Video encoder busy time.", "nvidia")
    decoder_ratio: float | None = gauge("Video decoder busy time.", "nvidia")
    memory_used_bytes: int | None = gauge("Device memory held, without the driver's own reservation.", "nvidia amd")
    memory_total_bytes: int | None = gauge("Device memory installed or given to this slice.", "nvidia amd")
    power_watts: float | None = gauge(
        "Board or module power. NVIDIA: 1 s average, instantaneous on GA100 and older. AMD: socket power.",
        "nvidia amd",
    )
    memory_power_watts: float | None = gauge("The part of board power drawn by device memory.", "nvidia")
    power_limit_watts: float | None = gauge("The cap in force; a setting, not the TDP.", "nvidia amd")
    energy_joules_total: float | None = counter(
        "Energy since the driver was loaded, by the device's own counter.", "nvidia amd"
    )
    temperature_celsius: float | None = gauge("Core (NVIDIA) or hotspot/junction (AMD) temperature.", "nvidia amd")
    memory_temperature_celsius: float | None = gauge("Hottest memory sensor.", "nvidia amd")
    temperature_margin_celsius: float | None = gauge("Degrees left before the device slows down by itself.", "nvidia")
    core_clock_hertz: float | None = gauge("SM (NVIDIA) or mean graphics (AMD) clock.", "nvidia amd")
    memory_clock_hertz: float | None = gauge("Memory clock.", "nvidia amd")
    performance_state: int | None = state("P-state: 0 is the fastest.", "nvidia")
    throttle_reasons: int | None = state("Why clocks are held down right now (bits of Throttle).", "nvidia amd")
    throttle_power_seconds_total: float | None = counter("Time held down by a power limit.", "nvidia amd")
    throttle_thermal_seconds_total: float | None = counter("Time held down by temperature.", "nvidia amd")
    throttle_brake_seconds_total: float | None = counter(
        "Time held down by an external power brake or PROCHOT.", "nvidia amd"
    )
    ecc_corrected_errors_total: int | None = counter("Corrected memory errors since driver load.", "nvidia amd")
    ecc_uncorrected_errors_total: int | None = counter("Uncorrected memory errors since driver load.", "nvidia amd")
    remapped_rows_total: int | None = counter("Memory rows replaced by spares.", "nvidia")
    retired_pages_total: int | None = counter("Memory pages taken out of use.", "nvidia amd")
    row_remap_state: int | None = state(
        "Bit 0: a reset is pending; bit 1: remapping failed (replace the board).", "nvidia"
    )
    recovery_action: int | None = state(
        "What the driver asks for: 0 nothing, 1 GPU reset, 2 node reboot, 3-7 see docs.", "nvidia"
    )
    pcie_rx_bytes_total: float | None = counter("Bytes received over PCIe.", "nvidia")
    pcie_tx_bytes_total: float | None = counter("Bytes sent over PCIe.", "nvidia")
    pcie_rx_bytes_per_second: float | None = gauge("PCIe receive rate sampled by the driver.", "nvidia")
    pcie_tx_bytes_per_second: float | None = gauge("PCIe send rate sampled by the driver.", "nvidia")
    pcie_generation: int | None = state("PCIe generation in use; drops at idle, which is no fault.", "nvidia amd")
    pcie_lanes: int | None = state("PCIe lanes in use.", "nvidia amd")
    pcie_replays_total: int | None = counter("PCIe packets sent again.", "nvidia amd")
    nvlink_rx_bytes_total: float | None = counter("Bytes received over all NVLinks.", "nvidia")
    nvlink_tx_bytes_total: float | None = counter("Bytes sent over all NVLinks.", "nvidia")
    xgmi_rx_bytes_total: float | None = counter("Bytes read over all XGMI links.", "amd")
    xgmi_tx_bytes_total: float | None = counter("Bytes written over all XGMI links.", "amd")
    processes: int | None = gauge("Processes that hold memory on the device.", "nvidia amd")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSample:
    """One CPU socket at one instant, keyed ``host/socket N``."""

    family: ClassVar[str] = "cpu"
    key: str
    observed_at_ms: int

    utilization_ratio: float | None = gauge("Share of time not idle, over the socket's logical CPUs.", "cpu")
    power_watts: float | None = gauge("Package power over the last interval, or as the socket reports it.", "cpu")
    energy_joules_total: float | None = counter("Package energy, wrap-around removed (RAPL or E-SMI).", "cpu")
    dram_energy_joules_total: float | None = counter("DRAM domain energy where the socket has one (not on AMD).", "cpu")
    power_limit_watts: float | None = gauge("Socket power cap in force.", "cpu")
    temperature_celsius: float | None = gauge("Package temperature (coretemp, k10temp or E-SMI).", "cpu")
    frequency_hertz: float | None = gauge("Mean clock of the socket's cores.", "cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """One machine at one instant, keyed by host name."""

    family: ClassVar[str] = "host"
    key: str
    observed_at_ms: int

    cpu_utilization_ratio: float | None = gauge("Share of time not idle, over all logical CPUs.", "host")
    cpu_iowait_ratio: float | None = gauge("Share of time idle while waiting for disks.", "host")
    load_1m: float | None = gauge("Runnable tasks, 1 minute mean.", "host")
    memory_used_bytes: int | None = gauge("Total less available memory.", "host")
    memory_total_bytes: int | None = gauge("Installed memory.", "host")
    swap_used_bytes: int | None = gauge("Swap in use.", "host")
    disk_used_bytes: int | None = gauge("Used space of the file system that holds the root.", "host")
    disk_total_bytes: int | None = gauge("Size of the file system that holds the root.", "host")
    disk_read_bytes_total: float | None = counter("Bytes read from all disks.", "host")
    disk_written_bytes_total: float | None = counter("Bytes written to all disks.", "host")
    network_rx_bytes_total: float | None = counter("Bytes received over all interfaces but loopback.", "host")
    network_tx_bytes_total: float | None = counter("Bytes sent over all interfaces but loopback.", "host")
    cpu_pressure_ratio: float | None = gauge(
        "Share of the last 10 s in which some task waited for a CPU (PSI).", "host"
    )
    memory_pressure_ratio: float | None = gauge(
        "Share of the last 10 s in which some task waited for memory (PSI).", "host"
    )
    io_pressure_ratio: float | None = gauge("Share of the last 10 s in which some task waited for I/O (PSI).", "host")
    node_power_watts: float | None = gauge("Whole-node power at the supply (hwmon power meter or BMC).", "host")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSample:
    """One model on one server at one instant, keyed ``server URL + space + model``."""

    family: ClassVar[str] = "deployment"
    key: str
    observed_at_ms: int

    running_requests: float | None = gauge("Requests being computed.", "serving")
    waiting_requests: float | None = gauge("Requests in the queue.", "serving")
    kv_cache_usage_ratio: float | None = gauge("Share of the KV cache in use.", "serving")
    prompt_tokens_total: float | None = counter("Prompt tokens processed, cached ones included.", "serving")
    cached_prompt_tokens_total: float | None = counter("Prompt tokens answered from the prefix cache.", "serving")
    generation_tokens_total: float | None = counter("Output tokens, reasoning included.", "serving")
    succeeded_requests_total: float | None = counter("Requests that ended by stop or length.", "serving")
    failed_requests_total: float | None = counter("Requests that ended by error.", "serving")
    aborted_requests_total: float | None = counter("Requests cancelled by the client.", "serving")
    preemptions_total: float | None = counter("Requests pushed out of the KV cache.", "serving")
    prefix_cache_queries_tokens_total: float | None = counter("Tokens looked up in the prefix cache.", "serving")
    prefix_cache_hits_tokens_total: float | None = counter("Tokens found in the prefix cache.", "serving")
    prefill_seconds_total: float | None = counter("Time spent on prompts, where the server only counts it.", "serving")
    decode_seconds_total: float | None = counter("Time spent generating, where the server only counts it.", "serving")
    process_started_at_seconds: float | None = gauge("Unix time at which the server process began.", "serving")
    rejected_requests_total: float | None = counter(
        "Requests refused before they began: not valid, or the server was full.", "serving"
    )
    reasoning_tokens_total: float | None = counter("The part of the output tokens that was reasoning.", "serving")
    model_memory_bytes: float | None = gauge(
        "Accelerator memory that the loaded model holds, as the server says.", "serving"
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

    ttft_seconds: float | None = gauge("Request sent to first chunk with text, reasoning included.", "probe")
    ttfo_seconds: float | None = gauge("Request sent to first chunk of the answer, reasoning left out.", "probe")
    itl_seconds: float | None = gauge("Mean gap between chunks; a chunk may hold several tokens.", "probe")
    tpot_seconds: float | None = gauge("(last token - first token) / (output tokens - 1).", "probe")
    e2e_seconds: float | None = gauge("Request sent to end of stream.", "probe")
    prompt_tokens: int | None = gauge("Prompt tokens as billed.", "probe")
    output_tokens: int | None = gauge("Output tokens as billed, reasoning included.", "probe")
    reasoning_tokens: int | None = gauge("The part of the output that was reasoning.", "probe")
    cost_usd: float | None = gauge("Price of this request by the prices in the settings.", "probe")
    cached_prompt_tokens: float | None = gauge(
        "The part of the prompt that the endpoint answered from a cache.", "probe"
    )
    chunks: float | None = gauge("Chunks with text; output tokens over this is how many a chunk holds.", "probe")
    connect_seconds: float | None = gauge("Name lookup, TCP and TLS; in no other latency.", "probe")
    server_queue_seconds: float | None = gauge("Time in the endpoint's queue, by its own clock.", "probe")
    server_prefill_seconds: float | None = gauge("Time spent on the prompt, by the endpoint's own clock.", "probe")
    server_decode_seconds: float | None = gauge("Time spent generating, by the endpoint's own clock.", "probe")
    server_e2e_seconds: float | None = gauge("The whole request, by the endpoint's own clock.", "probe")


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
