"""What drivers, kernels and servers of the simulated fleet say: metrics of one thing at many instants at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from collectors.sources.simulated.clock import ORIGIN_MS, Floats, Position
from collectors.sources.simulated.world import Accelerator, Node, Socket, Traffic
from core.readings import Throttle

Columns = Mapping[str, Floats]
"""Metric to one value per instant."""


def accelerator(part: Accelerator, where: Position) -> Columns:
    """As NVML and amdsmi tell it, each in its own resolution."""
    card, tick, used = part.machine.card, where.tick, part.runs is not None
    throttled, celsius = part.throttled[tick], part.temperature_celsius[tick]
    slowed = int(Throttle.HARDWARE_SLOWDOWN | Throttle.HARDWARE_THERMAL)
    busy = part.busy_ratio[tick]
    own = _nvidia(part, where) if card.vendor == "NVIDIA" else _amd(part, where)
    said: dict[str, Floats | float] = {
        "utilization_ratio": busy.round(2),  # whole percent
        "memory_activity_ratio": (busy * 0.62).round(2),
        "memory_used_bytes": part.runs.work.held_bytes if part.runs is not None else 0,
        "memory_total_bytes": card.memory_bytes,
        "power_watts": part.power_watts[tick],
        "power_limit_watts": card.limit_watts,
        "energy_joules_total": part.energy.at(where).round(3),
        "temperature_celsius": celsius,
        "core_clock_hertz": np.where(throttled, card.core_hertz / 2, card.core_hertz if used else card.idle_hertz),
        "memory_clock_hertz": card.memory_hertz,
        "throttle_reasons": np.where(throttled, slowed, 0 if used else int(Throttle.IDLE)),
        "throttle_thermal_seconds_total": part.thermal_seconds.at(where).round(3),
        "throttle_power_seconds_total": 0.0,
        "ecc_corrected_errors_total": 0,
        "ecc_uncorrected_errors_total": 0,
        "pcie_generation": 5 if card.link else 4,
        "pcie_lanes": 16,
        "pcie_replays_total": 0,
        "processes": 1 if used else 0,
        **own,
    }
    return _columns(said, where)


def _columns(said: Mapping[str, Floats | float], where: Position) -> Columns:
    """What never changes, at every instant."""
    nothing = np.zeros(len(where.tick))
    return {name: value + nothing for name, value in said.items()}


def _nvidia(part: Accelerator, where: Position) -> dict[str, Floats | float]:
    card, tick = part.machine.card, where.tick
    celsius, active = part.temperature_celsius[tick], part.sm_active_ratio[tick]
    said: dict[str, Floats | float] = {
        "sm_active_ratio": active.round(4),
        "dram_active_ratio": (active * 0.55).round(4),
        "temperature_margin_celsius": card.slowdown_celsius - celsius,
        "performance_state": 0,
        "throttle_brake_seconds_total": 0.0,
        "remapped_rows_total": 0,
        "row_remap_state": 0,
        "recovery_action": 0,
        **_copied(part, where, "pcie", 2.2e6),
    }
    if card.link:
        said |= _copied(part, where, card.link, 4.1e8)
        said["memory_temperature_celsius"] = (celsius * 0.95 + 9).round()  # of HBM alone
    return said


def _amd(part: Accelerator, where: Position) -> dict[str, Floats | float]:
    celsius = part.temperature_celsius[where.tick]
    return {
        "memory_temperature_celsius": (celsius * 0.9 + 6).round(),
        "retired_pages_total": 0,
        **_copied(part, where, part.machine.card.link, 4.1e8),
    }


def _copied(part: Accelerator, where: Position, link: str, bytes_per_request: float) -> dict[str, Floats]:
    times = np.zeros(len(where.tick)) if part.runs is None else part.runs.copied.at(where)
    received = np.floor(times * bytes_per_request)
    return {f"{link}_rx_bytes_total": received, f"{link}_tx_bytes_total": np.floor(received * 0.8)}


def socket(part: Socket, limit_watts: float, where: Position) -> Columns:
    """As RAPL, k10temp and the kernel's scheduler tell it."""
    busy, watts = part.busy_ratio[where.tick], part.power_watts[where.tick]
    said: dict[str, Floats | float] = {
        "utilization_ratio": busy,
        "power_watts": watts,
        "power_limit_watts": limit_watts,
        "energy_joules_total": part.energy.at(where).round(6),
        "temperature_celsius": (30 + watts * 0.14).round(),
        "frequency_hertz": (2.4e9 + 1.1e9 * (1 - busy)).round(-6),
    }
    return _columns(said, where)


def machine(node: Node, where: Position) -> Columns:
    """As the kernel and the board's controller tell it."""
    busy = node.busy_ratio[where.tick]
    said: dict[str, Floats | float] = {
        "cpu_utilization_ratio": busy,
        "cpu_iowait_ratio": 0.001,
        "load_1m": (busy * node.machine.threads).round(2),
        "memory_used_bytes": ((0.2 + 0.03 * busy) * node.machine.memory_bytes).round(),
        "memory_total_bytes": node.machine.memory_bytes,
        "swap_used_bytes": 0,
        "disk_used_bytes": 1_180 * 10**9,
        "disk_total_bytes": 3_840 * 10**9,
        "disk_read_bytes_total": np.floor(node.read_bytes.at(where)),
        "disk_written_bytes_total": np.floor(node.written_bytes.at(where)),
        "network_rx_bytes_total": np.floor(node.received_bytes.at(where)),
        "network_tx_bytes_total": np.floor(node.sent_bytes.at(where)),
        "cpu_pressure_ratio": 0.0,
        "memory_pressure_ratio": 0.0,
        "io_pressure_ratio": 0.0,
        "node_power_watts": node.power_watts[where.tick],
    }
    return _columns(said, where)


def deployment(traffic: Traffic, where: Position) -> Columns:
    """As vLLM tells it."""
    model, requests, tick = traffic.model, traffic.requests.at(where), where.tick
    prompt = np.floor(requests * model.prompt_tokens)
    cached = np.floor(prompt * model.cached_ratio)
    said: dict[str, Floats | float] = {
        "running_requests": traffic.running[tick].round(),
        "waiting_requests": traffic.waiting[tick].round(),
        "kv_cache_usage_ratio": traffic.kv_ratio[tick].round(5),
        "prompt_tokens_total": prompt,
        "cached_prompt_tokens_total": cached,
        "generation_tokens_total": np.floor(requests * model.output_tokens),
        "succeeded_requests_total": np.floor(requests),
        "failed_requests_total": np.floor(traffic.failed.at(where)),
        "aborted_requests_total": np.floor(traffic.aborted.at(where)),
        "preemptions_total": np.floor(traffic.preempted.at(where)),
        "prefix_cache_queries_tokens_total": prompt,
        "prefix_cache_hits_tokens_total": cached,
        "process_started_at_seconds": ORIGIN_MS / 1000,
    }
    return _columns(said, where)
