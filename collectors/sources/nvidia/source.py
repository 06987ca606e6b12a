"""NVIDIA GPUs and MIG instances, through NVML and its binding ``pynvml`` (nvidia-ml-py).

This file decides when to look and what to do when a GPU is gone; ``nvml`` sorts the driver's errors,
``identity`` says who is there, ``device`` reads values, ``gpm`` profiles, ``xid``
listens for errors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from collectors.base import Availability, now_ms
from collectors.sources.nvidia.device import Device
from collectors.sources.nvidia.identity import open_gpus, refresh_slices
from collectors.sources.nvidia.nvml import DeviceGone, DriverGone, Nvml
from collectors.sources.nvidia.xid import XidWatch
from core.errors import SourceUnavailable
from core.readings import AcceleratorSample, Entity, Event, Reading, Severity

_SLACK_SECONDS = 0.5  # ticks come a little early or late
_LONGEST_RETRY_SECONDS = 600.0


class NvidiaSource:
    """Reads every GPU each tick, and what changes slowly or costs time every ``slow_interval_seconds``.

    Args:
        host: name of this machine.
        slow_interval_seconds: pace of limits, errors, links and processes.
        retry_seconds: first pause before a lost GPU is looked for again; it doubles up to 10 minutes.
    """

    name = "nvidia"

    def __init__(self, host: str, slow_interval_seconds: float = 60, retry_seconds: float = 30) -> None:
        self._host = host
        self._slow_interval_seconds = slow_interval_seconds
        self._first_retry_seconds = retry_seconds
        self._nvml: Nvml | None = None
        self._watch: XidWatch | None = None
        self._gpus: list[Device] = []
        self._problems: list[str] = []
        self._lost: set[str] = set()
        self._announced: dict[str, dict[str, str]] = {}
        self._news: list[Event] = []
        self._warned: set[str] = set()
        self._slow_due = self._retry_due = 0.0
        self._retry_seconds = retry_seconds

    def discover(self) -> Availability:
        """Open the driver and list the GPUs; says what is missing and what to do about it."""
        self.close()
        self._announced.clear()
        self._retry_seconds = self._first_retry_seconds
        self._retry_due = time.monotonic() + self._retry_seconds
        try:
            self._open()
        except ImportError:
            return Availability(
                False, "the Python package nvidia-ml-py is not installed", "run: pip install -r requirements.txt"
            )
        except DriverGone as exc:
            self.close()
            return Availability(False, exc.reason, exc.remedy, absent=exc.absent)
        problems = "; ".join(self._problems)
        if not self._gpus:
            self.close()
            return Availability(
                False,
                problems or "the NVIDIA driver runs but shows no GPU",
                "run nvidia-smi; in a container, hand the GPUs to it (--gpus all)",
            )
        keys = tuple(device.key for gpu in self._gpus for device in (gpu, *gpu.slices))
        remedy = "look for NVRM lines in the kernel log (dmesg); reset the GPU or reboot" if problems else ""
        return Availability(True, problems, remedy, keys)

    def collect(self) -> list[Reading]:
        """One tick: entities that are new or changed, a sample per device, processes, events.

        Raises:
            SourceUnavailable: the driver, or the last GPU, is gone.
        """
        if self._nvml is None:
            raise SourceUnavailable("the NVIDIA driver is not open")
        try:
            readings = self._tick(time.monotonic())
        except DriverGone as exc:
            self.close()
            raise SourceUnavailable(exc.reason) from exc
        if not readings and not self._gpus:
            self.close()
            raise SourceUnavailable("no GPU is left: " + ("; ".join(self._problems) or "all were lost"))
        return readings

    def close(self) -> None:
        """Stop the event thread, free the devices and shut the library down."""
        nvml, self._nvml = self._nvml, None
        if nvml is None:
            return
        stopped = self._watch.close() if self._watch else True
        if self._watch:
            self._news += self._watch.drain()
            self._watch = None
        for gpu in self._gpus:
            gpu.close()
        self._gpus = []
        if stopped:
            nvml.close()

    def _open(self) -> None:
        self._nvml = Nvml()
        self._gpus, self._problems = open_gpus(self._nvml)
        self._watch = XidWatch(self._nvml, self._gpus)
        self._slow_due = float("-inf")

    def _tick(self, now: float) -> list[Reading]:
        began_at_ms = now_ms()
        if (self._lost or self._problems) and now >= self._retry_due:
            self._look_again(now)
        slow = now >= self._slow_due
        if slow:
            self._slow_due = now + self._slow_interval_seconds - _SLACK_SECONDS
        readings: list[Reading] = []
        for gpu in tuple(self._gpus):
            readings += self._read(gpu, slow=slow)
        entities = [entity for gpu in self._gpus for entity in self._changed(gpu, began_at_ms)]
        return [*entities, *readings, *self._events()]

    def _look_again(self, now: float) -> None:
        """Open the driver anew, for only that finds a GPU that came back; the pauses grow."""
        self.close()
        self._open()
        self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)
        self._retry_due = now + self._retry_seconds

    def _read(self, gpu: Device, *, slow: bool) -> list[Reading]:
        try:
            if slow:
                refresh_slices(gpu)
            sample, processes = gpu.read(slow=slow)
        except DeviceGone as exc:
            self._lose(gpu, str(exc))
            return []
        if gpu.key in self._lost:
            self._lost.remove(gpu.key)
            self._report("device-back", Severity.INFO, gpu, "answers again")
        readings: list[Reading] = [sample, *processes]
        for device in tuple(gpu.slices):
            try:
                sample, processes = device.read(slow=slow)
            except DeviceGone:  # reconfigured; the next slow tick sees what took its place
                gpu.slices.remove(device)
                device.close()
            else:
                readings += [sample, *processes]
        return readings

    def _lose(self, gpu: Device, why: str) -> None:
        self._gpus.remove(gpu)
        gpu.close()
        if gpu.key not in self._lost:
            self._lost.add(gpu.key)
            self._report("device-lost", Severity.CRITICAL, gpu, f"is lost: {why}")
            self._retry_seconds = self._first_retry_seconds
            self._retry_due = time.monotonic() + self._retry_seconds

    def _report(self, kind: str, severity: Severity, gpu: Device, what: str) -> None:
        who = f"GPU {gpu.labels['index']} ({gpu.labels.get('pci', gpu.key)})"
        self._news.append(
            Event(
                observed_at_ms=now_ms(),
                kind=kind,
                severity=severity,
                message=f"{who} {what}",
                family=AcceleratorSample.family,
                key=gpu.key,
            )
        )

    def _events(self) -> list[Event]:
        """What happened since the last tick: XIDs, GPUs lost and found, refusals (once per metric)."""
        news, self._news = self._news, []
        if self._nvml and self._watch:
            news += self._watch.drain()
            for metric in sorted(self._nvml.forbidden - self._warned):
                self._warned.add(metric)
                message = f"{metric}: not readable by this user; the other metrics are"
                news.append(
                    Event(observed_at_ms=now_ms(), kind="permission", severity=Severity.WARNING, message=message)
                )
        return sorted(news, key=lambda event: event.observed_at_ms)

    def _changed(self, gpu: Device, at_ms: int) -> Iterator[Entity]:
        """Descriptions that differ from those last sent."""
        for device in (gpu, *gpu.slices):
            labels = _labels(device)
            if self._announced.get(device.key) != labels:
                self._announced[device.key] = labels
                yield Entity(
                    family=AcceleratorSample.family,
                    key=device.key,
                    host=self._host,
                    observed_at_ms=at_ms,
                    parent_key=device.parent_key,
                    labels=labels,
                )


def _labels(device: Device) -> dict[str, str]:
    labels = dict(device.labels)
    if device.slices:
        labels["mig"] = f"{len(device.slices)} instances"
    if device.counts_reservation:
        labels["memory_used"] = "includes the driver's own share"
    return labels
