"""Who is there: the GPUs that NVML opens, their MIG instances, and what a person reads about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from collectors.sources.nvidia import gpm
from collectors.sources.nvidia.device import Device
from collectors.sources.nvidia.gpm import Gpm
from collectors.sources.nvidia.nvml import DeviceGone, Nvml, known

_ARCHITECTURES = {
    2: "Kepler", 3: "Maxwell", 4: "Pascal", 5: "Volta", 6: "Turing", 7: "Ampere", 8: "Ada", 9: "Hopper",
    10: "Blackwell", 13: "Rubin",
}  # fmt: skip
_AMPERE, _HOPPER = 7, 9
_GA100_DEVICES = 0x20  # high byte of the PCI device id of A100, A30 and A800


def open_gpus(nvml: Nvml) -> tuple[list[Device], list[str]]:
    """Every GPU with its instances, and a sentence per GPU that does not open.

    Raises:
        DriverGone: no GPU can be asked at all.
    """
    gpus: list[Device] = []
    problems: list[str] = []
    about_driver = _driver_labels(nvml)
    for index in range(nvml.ask("", "device count", nvml.api.nvmlDeviceGetCount) or 0):
        try:
            gpu = _open_gpu(nvml, index, about_driver)
        except DeviceGone as exc:
            problems.append(f"GPU {index}: {exc}")
            continue
        if gpu is None:
            problems.append(f"GPU {index}: the driver does not open it")
        else:
            gpus.append(gpu)
    return gpus, problems


def refresh_slices(gpu: Device) -> None:
    """Bring ``gpu.slices`` up to date; instances die and change their handles on reconfiguration.

    Raises:
        DeviceGone: the whole GPU.
    """
    slots = _occupied_slots(gpu)
    if slots is None:
        return
    tenants = Counter(slot.instance for slot in slots)
    before = {device.key: device for device in gpu.slices}
    after = [before.get(slot.key) or _slice(gpu, slot, alone=tenants[slot.instance] == 1) for slot in slots]
    for slot, device in zip(slots, after, strict=True):
        device.handle = slot.handle
    gpu.slices = after
    keys = {device.key for device in after}
    for key in before.keys() - keys:
        before[key].close()
    if before.keys() != keys:
        gpu.nvml.forget(gpu.key)  # what a GPU can tell depends on its partition


def _open_gpu(nvml: Nvml, index: int, about_driver: dict[str, str]) -> Device | None:
    api = nvml.api
    key = f"GPU {index}"  # until its UUID is known
    handle = nvml.ask(key, "handle", lambda: api.nvmlDeviceGetHandleByIndex(index))
    uuid = handle and nvml.ask(key, "uuid", lambda: api.nvmlDeviceGetUUID(handle))
    if not uuid:
        return None

    def ask(metric: str, function: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        return nvml.ask(uuid, metric, lambda: function(handle))

    architecture = ask("architecture", lambda handle: known(api.nvmlDeviceGetArchitecture(handle), 32))
    pci = ask("PCI address", api.nvmlDeviceGetPciInfo)
    limits = ask("power limits", api.nvmlDeviceGetPowerManagementLimitConstraints) or (None, None)
    labels = {
        "vendor": "NVIDIA",
        "model": ask("model", api.nvmlDeviceGetName),
        "index": str(index),
        "pci": pci and f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0",
        "architecture": _ARCHITECTURES.get(architecture),
        "serial": ask("serial", api.nvmlDeviceGetSerial),
        "board": ask("board", api.nvmlDeviceGetBoardPartNumber),
        "vbios": ask("VBIOS", api.nvmlDeviceGetVbiosVersion),
        "power_window": _power_window(architecture, pci),
        "power_limit_min_watts": _watts(limits[0]),
        "power_limit_max_watts": _watts(limits[1]),
        "power_limit_default_watts": _watts(ask("default limit", api.nvmlDeviceGetPowerManagementDefaultLimit)),
    }
    gpm = Gpm(nvml, uuid, handle) if _has_gpm(nvml, uuid, handle, architecture) else None
    max_power_watts = limits[1] / 1000 if limits[1] else None
    gpu = Device(nvml, uuid, handle, about_driver | _present(labels), max_power_watts=max_power_watts, gpm=gpm)
    refresh_slices(gpu)
    return gpu


class _Slot(NamedTuple):
    """A MIG device: where it stands in its parent."""

    number: int
    handle: Any
    key: str
    instance: int | None  # GPU instance
    compute_instance: int | None


def _occupied_slots(gpu: Device) -> list[_Slot] | None:
    """``nvmlDeviceGetMigDeviceHandleByIndex`` over all slots; the list has holes. ``None`` when not known."""
    api, nvml = gpu.nvml.api, gpu.nvml
    mode = gpu.ask("MIG mode", lambda: api.nvmlDeviceGetMigMode(gpu.handle)[0])
    if mode is None:
        return None
    if not mode:
        return []
    slots = []
    for index in range(gpu.ask("MIG slots", lambda: api.nvmlDeviceGetMaxMigDeviceCount(gpu.handle)) or 0):
        handle = gpu.ask("MIG handle", partial(api.nvmlDeviceGetMigDeviceHandleByIndex, gpu.handle, index))
        key = handle and gpu.ask("MIG uuid", partial(api.nvmlDeviceGetUUID, handle))
        if key:
            instance = nvml.ask(key, "GPU instance", partial(api.nvmlDeviceGetGpuInstanceId, handle))
            compute = nvml.ask(key, "compute instance", partial(api.nvmlDeviceGetComputeInstanceId, handle))
            slots.append(_Slot(index, handle, key, instance, compute))
    return slots


def _slice(gpu: Device, slot: _Slot, *, alone: bool) -> Device:
    """A MIG device; GPM counts per GPU instance, so one that is shared has none of its own."""
    nvml = gpu.nvml
    model = nvml.ask(slot.key, "model", lambda: nvml.api.nvmlDeviceGetName(slot.handle)) or ""
    labels = {
        **{label: gpu.labels.get(label) for label in ("vendor", "model", "architecture", "driver", "cuda")},
        "index": f"{gpu.labels['index']}:{slot.number}",
        "profile": model.partition("MIG ")[2] or _profile(gpu, slot),
        "gpu_instance": None if slot.instance is None else str(slot.instance),
        "compute_instance": None if slot.compute_instance is None else str(slot.compute_instance),
    }
    gpm = None
    if alone and slot.instance is not None and gpu.gpm is not None:
        gpm = Gpm(nvml, slot.key, gpu.handle, slot.instance)
    return Device(nvml, slot.key, slot.handle, _present(labels), parent_key=gpu.key, gpm=gpm)


def _profile(gpu: Device, slot: _Slot) -> str | None:
    """``3g.40gb`` from ``nvmlDeviceGetAttributes_v2``, for drivers that do not put it in the name."""
    api = gpu.nvml.api
    size = gpu.nvml.ask(slot.key, "attributes", lambda: api.nvmlDeviceGetAttributes(slot.handle))
    return size and f"{size.gpuInstanceSliceCount}g.{math.ceil(size.memorySizeMB / 1024)}gb"


def _driver_labels(nvml: Nvml) -> dict[str, str]:
    """Versions: ``nvmlSystemGetDriverVersion`` and ``...CudaDriverVersion`` (13010 is 13.1)."""
    driver = nvml.ask("", "driver version", nvml.api.nvmlSystemGetDriverVersion)
    cuda = nvml.ask("", "CUDA version", nvml.api.nvmlSystemGetCudaDriverVersion_v2)
    return _present({"driver": driver, "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}"})


def _has_gpm(nvml: Nvml, key: str, handle: Any, architecture: int | None) -> bool:  # noqa: ANN401
    return architecture is not None and architecture >= _HOPPER and gpm.supported(nvml, key, handle)


def _power_window(architecture: int | None, pci: Any) -> str | None:  # noqa: ANN401
    """What ``nvmlDeviceGetPowerUsage`` averages over: nothing on GA100 and older, 1 s on newer."""
    if architecture is None:
        return None
    is_ga100 = architecture == _AMPERE and pci is not None and pci.pciDeviceId >> 24 == _GA100_DEVICES
    return "instantaneous" if architecture < _AMPERE or is_ga100 else "1 s average"


def _watts(milliwatts: int | None) -> str | None:
    return None if milliwatts is None else f"{milliwatts / 1000:g}"


def _present(labels: dict[str, str | None]) -> dict[str, str]:
    return {label: text for label, text in labels.items() if text}
