"""Which logical CPUs sit in which socket, what the socket is, and how fast it runs (``/proc/cpuinfo``)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collectors.sources.machine.kernel import read_int, read_text
from core.hardware.catalogue import match_cpu

Block = Mapping[str, str]
"""What ``/proc/cpuinfo`` says of one logical CPU."""

_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel", "HygonGenuine": "Hygon"}
_ARM_IMPLEMENTERS = {"0x41": "Arm", "0x48": "HiSilicon", "0x4e": "NVIDIA", "0x61": "Apple", "0xc0": "Ampere"}
_IDENTITY = {"family": "cpu family", "model": "model", "stepping": "stepping"}
_NUMBER = re.compile(rb"\nprocessor\s*:\s*(\d+)")  # literal beginnings keep the search of a long file fast
_MEGAHERTZ = re.compile(rb"\ncpu MHz\s*:\s*([\d.]+)")


@dataclass(frozen=True, slots=True)
class Socket:
    """One CPU package: its physical id, its logical CPUs, and what a person reads about it."""

    number: int
    cpus: tuple[int, ...]
    labels: Mapping[str, str]


def sockets(proc: Path, sys: Path, cpus: Sequence[int]) -> tuple[Socket, ...]:
    """The sockets that hold these logical CPUs; one socket 0 where the machine does not tell them apart."""
    blocks = _blocks(read_text(proc / "cpuinfo") or "")
    by_socket: dict[int, list[int]] = defaultdict(list)
    for cpu in sorted(cpus):
        by_socket[_socket_of(cpu, blocks.get(cpu, {}), sys)].append(cpu)
    return tuple(
        Socket(number, tuple(members), socket_labels([blocks.get(cpu, {}) for cpu in members]))
        for number, members in sorted(by_socket.items())
    )


def clocks(proc: Path, sys: Path, cpus: Sequence[int]) -> dict[int, float]:
    """Clock in hertz per logical CPU, where the kernel measures it.

    x86 in one file, since older kernels need 10 ms per CPU for ``scaling_cur_freq``; others from there.
    """
    measured = _cpuinfo_clocks(proc)
    if measured:
        return measured
    paths = {cpu: sys / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus}
    return {cpu: kilohertz * 1e3 for cpu, path in paths.items() if (kilohertz := read_int(path)) is not None}


def _cpuinfo_clocks(proc: Path) -> dict[int, float]:
    try:
        content = b"\n" + (proc / "cpuinfo").read_bytes()
    except OSError:
        return {}
    numbers, megahertz = _NUMBER.findall(content), _MEGAHERTZ.findall(content)
    if len(numbers) != len(megahertz):
        return {}
    return {int(cpu): float(value) * 1e6 for cpu, value in zip(numbers, megahertz, strict=True)}


def _blocks(cpuinfo: str) -> dict[int, Block]:
    blocks: dict[int, Block] = {}
    for paragraph in cpuinfo.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        block = {key.strip(): value.strip() for key, _, value in pairs}
        if block.get("processor", "").isdigit():
            blocks[int(block["processor"])] = block
    return blocks


def _socket_of(cpu: int, block: Block, sys: Path) -> int:
    if block.get("physical id", "").isdigit():
        return int(block["physical id"])
    package = read_int(sys / f"devices/system/cpu/cpu{cpu}/topology/physical_package_id")
    return max(package or 0, 0)  # -1 where firmware does not say


def socket_labels(blocks: Sequence[Block]) -> dict[str, str]:
    """What a person reads about a socket, from the blocks of its logical CPUs."""
    first = blocks[0]
    name = first.get("model name", "")
    labels = {
        "vendor": _vendor(first),
        "model": name or (f"part {first['CPU part']}" if "CPU part" in first else ""),
        "cpuid": " ".join(f"{word} {first[key]}" for word, key in _IDENTITY.items() if key in first),
        "cores": first.get("cpu cores", ""),
        "threads": str(len(blocks)),
    }
    known = match_cpu(name)
    if known is not None:
        labels |= {
            "model_known": known.model,
            "family_code": known.family_code,
            "tdp_watts": f"{known.tdp_watts:g}",
            "tdp_source": known.source,
        }
    return {label: value for label, value in labels.items() if value}


def _vendor(block: Block) -> str:
    vendor, implementer = block.get("vendor_id", ""), block.get("CPU implementer", "")
    return _VENDORS.get(vendor, vendor) or _ARM_IMPLEMENTERS.get(implementer, implementer)
