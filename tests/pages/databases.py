"""Databases for page tests, written the way the collector daemon writes them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from core.health import SourceStatus, TickReport
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
    Reading,
    Severity,
    Throttle,
)
from storage.batch import Batch
from storage.engine import writer_engine
from storage.migrate import upgrade
from storage.writer import Writer, write_fact

HOST = "node-1"
NVIDIA, AMD = "GPU-1111-2222", "AMD-3333-4444"
SOCKETS = (f"{HOST}/socket 0", f"{HOST}/socket 1")
DEPLOYMENT = "http://127.0.0.1:8000 llama"
HOSTILE = "[bold](javascript:alert(1)) <script>*x* $y$ :red[z] =1+1"
INTERVAL_MS = 10_000
BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, math.inf)


def write(
    path: Path,
    now_ms: int,
    *,
    minutes: int = 20,
    accelerators: bool = True,
    serving: bool = True,
    simulated: bool = False,
    cpu_power: bool = True,
    amd_silent_minutes: int = 0,
    failing: tuple[str, str] = ("", ""),
) -> None:
    """A host with two sockets, two accelerators and a server, seen for some minutes up to ``now_ms``."""
    engine = writer_engine(path)
    upgrade(engine)
    writer = Writer(engine, host=HOST, flush_seconds=0.0)
    writer.start()
    try:
        writer.submit(
            Batch(_things(now_ms - minutes * 60_000, accelerators, serving), (), _statuses(now_ms, accelerators))
        )
        for at_ms in range(now_ms - minutes * 60_000, now_ms + 1, INTERVAL_MS):
            samples = _samples(at_ms, accelerators, serving, cpu_power)
            if at_ms > now_ms - amd_silent_minutes * 60_000:
                samples = tuple(s for s in samples if not (isinstance(s, AcceleratorSample) and s.key == AMD))
            ticks = _ticks(at_ms, accelerators, serving)
            if at_ms == now_ms:
                ticks = tuple(_failed(tick, failing[1]) if tick.source == failing[0] else tick for tick in ticks)
            writer.submit(Batch(samples, ticks))
        if simulated:
            writer.call(lambda connection: write_fact(connection, "simulated", "true"))
    finally:
        writer.stop()


def _things(at_ms: int, accelerators: bool, serving: bool) -> tuple[Reading, ...]:
    cpu = {"vendor": "AMD", "model": "EPYC 9654"}
    things: list[Reading] = [
        Entity(observed_at_ms=at_ms, family="host", key=HOST, host=HOST, labels={"os": "Debian 12"}),
        *(Entity(observed_at_ms=at_ms, family="cpu", key=k, host=HOST, parent_key=HOST, labels=cpu) for k in SOCKETS),
    ]
    if accelerators:
        labels = {
            "vendor": "NVIDIA",
            "model": "H100 80GB HBM3",
            "driver": "590.48",
            "pci": "0000:01:00.0",
            "name": HOSTILE,
        }
        things += [
            Entity(observed_at_ms=at_ms, family="accelerator", key=NVIDIA, host=HOST, parent_key=HOST, labels=labels),
            Entity(
                observed_at_ms=at_ms,
                family="accelerator",
                key=AMD,
                host=HOST,
                parent_key=HOST,
                labels={"vendor": "AMD", "model": "Instinct MI300X", "driver": "6.12"},
            ),
        ]
    if serving:
        labels = {"model": "llama", "engine": "vllm", "url": "http://127.0.0.1:8000", "version": "0.32.0"}
        things.append(Entity(observed_at_ms=at_ms, family="deployment", key=DEPLOYMENT, host=HOST, labels=labels))
        things.append(
            Assignment(
                deployment_key=DEPLOYMENT,
                target_family="accelerator" if accelerators else "host",
                target_keys=(NVIDIA,) if accelerators else (HOST,),
                origin="processes",
                observed_at_ms=at_ms,
            )
        )
    return tuple(things)


def _samples(at_ms: int, accelerators: bool, serving: bool, cpu_power: bool) -> tuple[Reading, ...]:
    seconds = at_ms / 1000
    wave = (1 + math.sin(seconds / 90)) / 2
    samples: list[Reading] = [
        HostSample(
            key=HOST,
            observed_at_ms=at_ms,
            cpu_utilization_ratio=0.2 + 0.5 * wave,
            cpu_iowait_ratio=0.01,
            load_1m=8.0,
            memory_used_bytes=40 << 30,
            memory_total_bytes=128 << 30,
            swap_used_bytes=0,
            disk_used_bytes=200 << 30,
            disk_total_bytes=900 << 30,
            disk_read_bytes_total=seconds * 1e5,
            disk_written_bytes_total=seconds * 2e5,
            network_rx_bytes_total=seconds * 3e6,
            network_tx_bytes_total=seconds * 1e6,
            cpu_pressure_ratio=0.02,
            memory_pressure_ratio=0.0,
            io_pressure_ratio=0.0,
            node_power_watts=1800.0 if accelerators else None,
        ),
        CpuSample(
            key=SOCKETS[0],
            observed_at_ms=at_ms,
            utilization_ratio=0.1 + 0.8 * wave,
            power_watts=120.0 + 100 * wave if cpu_power else None,
            energy_joules_total=seconds * 180 if cpu_power else None,
            temperature_celsius=60.0,
            frequency_hertz=3.1e9,
            power_limit_watts=360.0,
        ),
        CpuSample(key=SOCKETS[1], observed_at_ms=at_ms, utilization_ratio=0.0, frequency_hertz=2.4e9),
    ]
    if accelerators:
        samples += [
            AcceleratorSample(
                key=NVIDIA,
                observed_at_ms=at_ms,
                utilization_ratio=0.5 + 0.5 * wave,
                sm_active_ratio=0.4,
                memory_used_bytes=60 << 30,
                memory_total_bytes=80 << 30,
                power_watts=400 + 250 * wave,
                power_limit_watts=700.0,
                energy_joules_total=seconds * 500,
                temperature_celsius=66.0,
                core_clock_hertz=1.7e9,
                throttle_reasons=int(Throttle.HARDWARE_THERMAL | Throttle.POWER_CAP),
                ecc_uncorrected_errors_total=0,
                ecc_corrected_errors_total=3,
                processes=1,
            ),
            AcceleratorSample(
                key=AMD,
                observed_at_ms=at_ms,
                utilization_ratio=0.0,
                memory_used_bytes=0,
                memory_total_bytes=192 << 30,
                power_watts=130.0,
                power_limit_watts=750.0,
                temperature_celsius=41.0,
                throttle_reasons=0,
                processes=0,
            ),
            DeviceProcess(key=NVIDIA, observed_at_ms=at_ms, pid=4242, name=HOSTILE, memory_used_bytes=58 << 30),
        ]
        if at_ms % 600_000 < INTERVAL_MS:
            samples.append(
                Event(
                    observed_at_ms=at_ms,
                    kind="xid",
                    severity=Severity.WARNING,
                    message=f"XID 79 {HOSTILE}",
                    family="accelerator",
                    key=NVIDIA,
                    code=79,
                )
            )
    if serving:
        samples.append(
            DeploymentSample(
                key=DEPLOYMENT,
                observed_at_ms=at_ms,
                running_requests=4.0,
                waiting_requests=1.0,
                kv_cache_usage_ratio=0.5,
                prompt_tokens_total=seconds * 400,
                generation_tokens_total=seconds * 250,
                succeeded_requests_total=seconds * 2,
                failed_requests_total=0.0,
                preemptions_total=0.0,
            )
        )
        samples += [
            LatencySample(
                key=DEPLOYMENT,
                kind=kind,
                observed_at_ms=at_ms,
                upper_bounds_seconds=BOUNDS,
                increments=(2.0, 8.0, 6.0, 3.0, 1.0, 0.0),
                sum_seconds=4.0,
            )
            for kind in (Latency.TTFT, Latency.ITL, Latency.E2E, Latency.QUEUE)
        ]
    return tuple(samples)


def _ticks(at_ms: int, accelerators: bool, serving: bool) -> tuple[TickReport, ...]:
    sources = ["host", "cpu", *(["nvidia", "amd"] if accelerators else []), *(["serving"] if serving else [])]
    return tuple(
        TickReport(
            host=HOST,
            source=source,
            target="",
            scheduled_at_ms=at_ms,
            outcome=Outcome.OK,
            duration_seconds=0.01,
            readings=2,
            ticks_missed=0,
            error="",
        )
        for source in sources
    )


def _failed(tick: TickReport, error: str) -> TickReport:
    return replace(tick, outcome=Outcome.FAILED, readings=0, error=error)


def _statuses(at_ms: int, accelerators: bool) -> tuple[SourceStatus, ...]:
    def status(source: str, available: bool, reason: str = "", remedy: str = "") -> SourceStatus:
        return SourceStatus(
            host=HOST,
            source=source,
            available=available,
            absent=not available,
            reason=reason,
            remedy=remedy,
            checked_at_ms=at_ms,
        )

    if accelerators:
        devices = (status("nvidia", True), status("amd", True))
    else:
        devices = (
            status("nvidia", False, "libnvidia-ml.so.1 was not found", "install the NVIDIA driver"),
            status("amd", False, "no amdgpu device", "load the amdgpu driver"),
        )
    energy = ("energy of socket 1 cannot be read", "give the daemon read access to powercap")
    return (status("host", True), status("cpu", True, *energy), status("serving", True), *devices)
