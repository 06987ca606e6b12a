"""XID: the numbered errors by which the NVIDIA driver tells what went wrong on a GPU.

They arrive through an event set, on which one thread waits; only what happens after registration is
heard. Meanings follow NVIDIA's public XID catalogue.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from collectors.base import now_ms
from collectors.sources.nvidia.device import Device
from collectors.sources.nvidia.nvml import DRIVER_GONE, Code, DeviceGone, DriverGone, Nvml
from core.readings import AcceleratorSample, Event, Severity

_INFO, _WARNING, _CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL

XIDS: Final[dict[int, tuple[Severity, str]]] = {
    13: (_INFO, "a program caused an engine exception"),
    31: (_INFO, "a program touched memory it does not own (MMU fault)"),
    43: (_INFO, "a program's channel was reset"),
    45: (_INFO, "a program's work was cleaned up before its end"),
    48: (_CRITICAL, "uncorrectable memory error (double-bit ECC)"),
    61: (_CRITICAL, "an internal microcontroller stopped at a breakpoint"),
    62: (_CRITICAL, "an internal microcontroller halted"),
    63: (_WARNING, "a memory page was retired or a row remapped"),
    64: (_CRITICAL, "retiring a page or remapping a row failed"),
    74: (_CRITICAL, "NVLink error"),
    79: (_CRITICAL, "the GPU fell off the bus"),
    92: (_WARNING, "many corrected memory errors"),
    94: (_WARNING, "uncorrectable memory error, contained to one program"),
    95: (_CRITICAL, "uncorrectable memory error, not contained"),
    109: (_WARNING, "a context switch took too long"),
    119: (_CRITICAL, "the GPU's system processor (GSP) does not answer"),
    120: (_CRITICAL, "error in the GPU's system processor (GSP)"),
    136: (_CRITICAL, "NVLink training failed"),
    140: (_CRITICAL, "uncorrectable memory error without recovery"),
    143: (_CRITICAL, "the GPU did not initialise"),
    144: (_CRITICAL, "NVLink error seen by software"),
    145: (_CRITICAL, "NVLink error in the link layer (RLW)"),
    149: (_CRITICAL, "NVLink error in the network interface (NETIR)"),
    150: (_CRITICAL, "NVLink error in the management engine (MSE)"),
    154: (_WARNING, "the recovery action that the driver asks for changed"),
    155: (_CRITICAL, "NVLink error defined by software"),
    156: (_WARNING, "a resource was retired"),
    157: (_CRITICAL, "retiring a resource failed"),
    158: (_CRITICAL, "the GPU hit a fatal timeout"),
    160: (_WARNING, "a memory channel was retired"),
    161: (_CRITICAL, "retiring a memory channel failed"),
    167: (_CRITICAL, "PCIe hit a fatal timeout"),
    171: (_CRITICAL, "uncorrectable DRAM error"),
    172: (_CRITICAL, "uncorrectable SRAM error"),
}

_XID_EVENTS = 0x8
_WAIT_MS = 100  # how long closing may have to wait
_PAUSE_SECONDS = 1.0  # after an error that would otherwise repeat at once
_MOST_EVENTS = 1000  # between two ticks; a storm adds nothing new
_NO_INSTANCE = 0xFFFF_FFFF


class XidWatch:
    """A thread that waits for XIDs of the GPUs that can report them."""

    def __init__(self, nvml: Nvml, gpus: Sequence[Device]) -> None:
        self._nvml = nvml
        self._keys = {_address(gpu.handle): gpu.key for gpu in gpus}
        self._events: queue.Queue[Event] = queue.Queue(_MOST_EVENTS)
        self._dropped = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._set = nvml.ask("", "event set", nvml.api.nvmlEventSetCreate)
        if self._set is not None and [gpu for gpu in gpus if self._register(gpu)]:
            self._thread = threading.Thread(target=self._run, name="nvidia-xid", daemon=True)
            self._thread.start()

    def drain(self) -> list[Event]:
        """The events since the last call."""
        events = []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        dropped, self._dropped = self._dropped, 0
        if dropped:
            message = f"{dropped} more XID events came than were kept"
            events.append(Event(observed_at_ms=now_ms(), kind="xid", severity=_WARNING, message=message))
        return events

    def close(self) -> bool:
        """Stop the thread; ``False`` when it hangs in the driver, which then must not be shut down."""
        self._stop.set()
        if self._thread:
            self._thread.join(_WAIT_MS / 1000 + _PAUSE_SECONDS)
            if self._thread.is_alive():
                return False
            self._thread = None
        if self._set is not None:
            event_set, self._set = self._set, None
            try:
                self._nvml.ask("", "event set", partial(self._nvml.api.nvmlEventSetFree, event_set))
            except (DeviceGone, DriverGone):
                return True  # and the set with it
        return True

    def _register(self, gpu: Device) -> bool:
        api = self._nvml.api
        try:
            kinds = gpu.ask("XID events", lambda: api.nvmlDeviceGetSupportedEventTypes(gpu.handle))
            if not kinds or not kinds & _XID_EVENTS:
                return False
            return bool(gpu.ask("XID events", lambda: self._registered(gpu.handle)))
        except DeviceGone:
            return False

    def _registered(self, handle: Any) -> bool:  # noqa: ANN401
        self._nvml.api.nvmlDeviceRegisterEvents(handle, _XID_EVENTS, self._set)
        return True

    def _run(self) -> None:
        """Wait in the driver, not through ``Nvml.ask``: that keeps books and belongs to the polling thread."""
        api = self._nvml.api
        while not self._stop.is_set():
            try:
                data = api.nvmlEventSetWait_v2(self._set, _WAIT_MS)
            except api.NVMLError as exc:
                if exc.value in DRIVER_GONE:
                    return
                if exc.value != Code.TIMEOUT:
                    self._stop.wait(_PAUSE_SECONDS)
                continue
            try:
                self._events.put_nowait(self._event(data))
            except queue.Full:
                self._dropped += 1

    def _event(self, data: Any) -> Event:  # noqa: ANN401
        xid = int(data.eventData)
        severity, meaning = XIDS.get(xid, (_WARNING, "see NVIDIA's XID catalogue"))
        where = "" if data.gpuInstanceId == _NO_INSTANCE else f" (GPU instance {data.gpuInstanceId})"
        return Event(
            observed_at_ms=now_ms(),
            kind="xid",
            severity=severity,
            message=f"XID {xid}: {meaning}{where}",
            family=AcceleratorSample.family,
            key=self._keys.get(_address(data.device), ""),
            code=xid,
        )


def _address(handle: Any) -> int | None:  # noqa: ANN401
    return ctypes.cast(handle, ctypes.c_void_p).value
