"""Sensors that the kernel lists in ``/sys/class/hwmon``: package temperatures and whole-node power."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from collectors.sources.machine.kernel import read_int, read_text

Sensors = dict[int, tuple[Path, ...]]
"""Files in millidegrees per socket."""

_AMD_CHIPS = ("k10temp", "zenpower")
_AMD_LABELS = ("Tdie", "Tctl")  # Tctl may carry an offset for fan control; Tdie, where there is one, does not
_PACKAGE = re.compile(r"Package id (\d+)")
WHOLE_NODE = re.compile(r"^(system|node|chassis|total)( power)?$", re.IGNORECASE)


def package_sensors(sys: Path, sockets: Sequence[int]) -> Sensors:
    """Which files hold the temperature of which CPU socket; a socket without any is left out."""
    return _coretemp(sys, sockets) or _k10temp(sys, sockets)


def hottest_celsius(sensors: Sequence[Path]) -> float | None:
    """The highest of these temperatures; ``None`` when none can be read."""
    known = [value for path in sensors if (value := read_int(path)) is not None]
    return max(known) / 1000 if known else None


def node_power_sensor(sys: Path) -> Path | None:
    """The file (in microwatts) with the power of the whole machine; ``None`` unless exactly one says so.

    That is the meter of ACPI, if it does not name a part of the machine (as on NVIDIA Grace), or a
    sensor labelled as the system's. Meters of GPUs, CPUs and boards are passed over.
    """
    found = [path for chip in _chips(sys) for path in _node_meters(chip)]
    return found[0] if len(found) == 1 else None


def _node_meters(chip: Path) -> list[Path]:
    meters = []
    for path in sorted(chip.glob("power*_*")):
        number, _, kind = path.name.partition("_")
        if kind not in ("average", "input") or (kind == "input" and (chip / f"{number}_average").exists()):
            continue
        label = read_text(chip / f"{number}_label") or read_text(chip / f"{number}_oem_info") or ""
        whole = WHOLE_NODE.match(label) or (not label and _name(chip) == "power_meter")
        if whole:
            meters.append(path)
    return meters


def _coretemp(sys: Path, sockets: Sequence[int]) -> Sensors:
    found: dict[int, list[Path]] = defaultdict(list)
    for chip in _chips(sys, "coretemp"):
        for label in chip.glob("temp*_label"):
            package = _PACKAGE.fullmatch(read_text(label) or "")
            if package and int(package[1]) in sockets:
                found[int(package[1])].append(_input(label))
    return {socket: tuple(paths) for socket, paths in found.items()}


def _k10temp(sys: Path, sockets: Sequence[int]) -> Sensors:
    """One chip per node of a socket, in the order of their PCI addresses; no chip says which socket is its own."""
    chips = sorted(_chips(sys, *_AMD_CHIPS), key=lambda chip: ((chip / "device").resolve().name, chip.name))
    paths = [path for chip in chips if (path := _amd_sensor(chip)) is not None]
    per_socket, rest = divmod(len(paths), len(sockets)) if sockets else (0, 0)
    if not per_socket or rest:
        return {}
    nodes = iter(paths)
    return {socket: tuple(next(nodes) for _ in range(per_socket)) for socket in sorted(sockets)}


def _amd_sensor(chip: Path) -> Path | None:
    labels = {read_text(label): label for label in chip.glob("temp*_label")}
    return next((_input(labels[name]) for name in _AMD_LABELS if name in labels), None)


def _input(label: Path) -> Path:
    return label.with_name(label.name.replace("_label", "_input"))


def _chips(sys: Path, *names: str) -> list[Path]:
    chips = sorted((sys / "class/hwmon").glob("hwmon*"))
    return [chip for chip in chips if not names or _name(chip) in names]


def _name(chip: Path) -> str | None:
    return read_text(chip / "name")
