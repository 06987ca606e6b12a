"""Who is there: the AMD boards, dies and partitions that the library lists, and what a person reads about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.sources.amd.device import Device, Scope
from collectors.sources.amd.rocm import Binding, text
from collectors.sources.amd.tables import power_cap_watts, whole

_ARCHITECTURES = {"gfx908": "CDNA", "gfx90a": "CDNA 2", "gfx942": "CDNA 3", "gfx950": "CDNA 4"}
_WHOLE = "SPX"  # the mode in which a board is one device
_TWO_DIES = "MI250"  # and MI250X: two dies on one board, each a device of its own


@dataclass(frozen=True)
class _Identity:
    handle: Any
    uuid: str
    pci: str
    partition: int

    @property
    def slot(self) -> str:
        """The PCI address without its function: partitions of a board differ in the function alone."""
        return self.pci.rpartition(".")[0]


def open_devices(binding: Binding, host: str) -> list[Device]:
    """Every handle of the library that says who it is, boards before their partitions.

    A board is keyed by its UUID. Partitions are keyed by UUID and partition number, since releases before 7.12
    give all partitions of a board the same UUID.
    """
    slots: dict[str, list[_Identity]] = {}
    for handle in binding.ask("amdsmi_get_processor_handles") or ():
        identity = _identity(binding, handle)
        if identity.uuid or identity.pci:
            slots.setdefault(identity.slot or identity.uuid, []).append(identity)
    groups = [sorted(group, key=lambda identity: identity.partition) for group in slots.values()]
    uses = Counter(group[0].uuid for group in groups)
    about_driver = {"rocm": binding.rocm, "library": binding.library}
    devices: list[Device] = []
    for index, (board, *partitions) in enumerate(groups):
        # A guest may see no UUID, or one of zeros on every board: then the PCI address has to do.
        key = board.uuid if uses[board.uuid] == 1 and board.uuid else f"{host}/{board.pci}"
        labels = _labels(binding, board, str(index)) | about_driver
        devices.append(Device(binding, board.handle, key, _known(labels)))
        for partition in partitions:
            labels = _known(_labels(binding, partition, f"{index}:{partition.partition}") | about_driver)
            part = f"{key}/{partition.partition}"
            devices.append(Device(binding, partition.handle, part, labels, scope=Scope.PARTITION, parent_key=key))
    _pair_dies(devices)
    return devices


def _identity(binding: Binding, handle: Any) -> _Identity:  # noqa: ANN401
    """UUID, PCI address and partition number; the number is the PCI function where the driver does not tell."""
    uuid = text(binding.ask("amdsmi_get_gpu_device_uuid", handle))
    pci = text(binding.ask("amdsmi_get_gpu_device_bdf", handle))
    partition = whole(binding.table("amdsmi_get_gpu_kfd_info", handle).get("current_partition_id"))
    if partition is None:
        partition = int(pci.rpartition(".")[2] or "0", 16)
    return _Identity(handle, uuid if uuid.strip("0-") else "", pci, partition)


def _labels(binding: Binding, identity: _Identity, index: str) -> dict[str, str]:
    handle = identity.handle
    asic = binding.table("amdsmi_get_gpu_asic_info", handle)
    board = binding.table("amdsmi_get_gpu_board_info", handle)
    vbios = binding.table("amdsmi_get_gpu_vbios_info", handle)
    driver = binding.table("amdsmi_get_gpu_driver_info", handle)
    caps = {} if identity.partition else binding.table("amdsmi_get_power_cap_info", handle)
    mode = text(binding.ask("amdsmi_get_gpu_compute_partition", handle))
    graphics = text(asic.get("target_graphics_version"))
    return {
        "vendor": "AMD",
        "model": _model(text(asic.get("market_name")), text(board.get("product_name"))),
        "index": index,
        "pci": identity.pci,
        "architecture": _ARCHITECTURES.get(graphics, "" if graphics == "gfx0" else graphics),
        "serial": _serial(text(asic.get("asic_serial"))),
        "board": _serial(text(board.get("product_serial"))),
        "vbios": text(vbios.get("part_number")) or text(vbios.get("version")),
        "driver": _driver(text(driver.get("driver_version"))),
        "oam": text(asic.get("oam_id")),
        "compute_units": text(asic.get("num_compute_units")),
        "compute_partition": mode,
        "memory_partition": text(binding.ask("amdsmi_get_gpu_memory_partition", handle)),
        "partition": "" if mode in ("", _WHOLE) else str(identity.partition),
        "power_limit_min_watts": _watts(caps.get("min_power_cap")),
        "power_limit_max_watts": _watts(caps.get("max_power_cap")),
        "power_limit_default_watts": _watts(caps.get("default_power_cap")),
    }


def _model(market_name: str, board_name: str) -> str:
    """A name that people know; an unnamed ASIC has its device number there (``0x74a1``)."""
    return next((name for name in (market_name, board_name) if name and not name.startswith("0x")), market_name)


def _serial(serial: str) -> str:
    """A serial number; boards without one say 0."""
    return serial if serial.removeprefix("0x").strip("0") else ""


def _driver(version: str) -> str:
    """The version of amdgpu; the driver inside the kernel gives the kernel's whole banner without blanks instead."""
    banner = re.match(r"Linux\s?version\s?([^\s(]+)", version)
    return f"in-tree, Linux {banner[1]}" if banner else version


def _watts(cap: object) -> str:
    limit = power_cap_watts(cap)
    return "" if limit is None else f"{limit:g}"


def _known(labels: dict[str, str]) -> dict[str, str]:
    return {label: value for label, value in labels.items() if value}


def _pair_dies(devices: Sequence[Device]) -> None:
    """Make the die that reports no power a part of the one that reports it for the whole board.

    The dies of a board share its serial number; where that is hidden they follow each other on the bus. Which
    of the two reports is seen from the readings, since either may come first.
    """
    dies = [device for device in devices if _TWO_DIES in device.labels.get("model", "")]
    for pair in _pairs(dies):
        reporting = [die for die in pair if die.watts() is not None]
        if len(reporting) != 1:
            continue
        first = reporting[0]
        second = next(die for die in pair if die is not first)
        second.scope, second.parent_key = Scope.SECOND_DIE, first.key
        first.labels |= {"die": "1 of 2", "power_scope": "both dies"}
        second.labels |= {"die": "2 of 2"}


def _pairs(dies: Sequence[Device]) -> Iterable[tuple[Device, Device]]:
    boards: dict[str, list[Device]] = {}
    for number, die in enumerate(dies):
        boards.setdefault(die.labels.get("board") or f"pair {number // 2}", []).append(die)
    return [(pair[0], pair[1]) for pair in boards.values() if len(pair) == 2]
