"""What Linux says through small files: a number or nothing, CPU time, and what kind of machine this is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

IDLE, IOWAIT = 3, 4  # columns of a cpu line in /proc/stat
_ALL_TIME = 8  # user to steal; guest and guest_nice follow and are already inside user and nice

_CONTAINER_FILES = (".dockerenv", "run/.containerenv", "var/run/secrets/kubernetes.io")
_CONTAINER_GROUP = re.compile(r"docker|kubepods|containerd|libpod|lxc", re.IGNORECASE)
_OVERLAY_ROOT = re.compile(r"^\S+ \S+ \S+ \S+ / .* - (overlay|fuse-overlayfs) ", re.MULTILINE)
_VIRTUAL_PRODUCT = re.compile(r"KVM|QEMU|VMware|VirtualBox|Virtual Machine|Amazon EC2|Google Compute", re.IGNORECASE)


def read_text(path: Path) -> str | None:
    """A file's content without white space around it; ``None`` when it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The whole number in a file; ``None`` when there is none."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def cpu_times(proc: Path) -> dict[str, tuple[int, ...]]:
    """Clock ticks since boot per ``cpu`` (all) and ``cpu0``, ``cpu1``, … from ``/proc/stat``.

    Raises:
        OSError: there is no such file.
    """
    times: dict[str, tuple[int, ...]] = {}
    with (proc / "stat").open(encoding="ascii", errors="replace") as file:
        for line in file:
            if not line.startswith("cpu"):
                break
            name, *ticks = line.split()
            times[name] = tuple(map(int, ticks[:_ALL_TIME]))
    return times


def summed(times: Mapping[str, Sequence[int]], cpus: Sequence[int]) -> tuple[int, ...]:
    """Clock ticks of several CPUs together."""
    return tuple(map(sum, zip(*(times[f"cpu{cpu}"] for cpu in cpus), strict=True)))


def time_shares(before: Sequence[int], after: Sequence[int]) -> tuple[float | None, float | None]:
    """Shares of time not idle, and of time idle while waiting for a disk; ``None`` when no time passed.

    Time stolen by a hypervisor is not idle: there was work to do. Idle time may step back by a few
    ticks, which counts as no time at all.
    """
    spent = [max(now - then, 0) for then, now in zip(before, after, strict=True)]
    total, waiting = sum(spent), spent[IOWAIT]
    if not total:
        return None, None
    return (total - spent[IDLE] - waiting) / total, waiting / total


def in_container(proc: Path) -> bool:
    """Whether this process looks at the machine from inside a container."""
    if any(os.path.exists(proc / "self/root" / name) for name in _CONTAINER_FILES):
        return True
    group, mounts = read_text(proc / "self/cgroup") or "", read_text(proc / "self/mountinfo") or ""
    return bool(_CONTAINER_GROUP.search(group) or _OVERLAY_ROOT.search(mounts))


def is_virtual(proc: Path, sys: Path) -> bool:
    """Whether this machine runs on a hypervisor (CPU flag on x86, maker's name elsewhere)."""
    flags = re.search(r"^flags\s*:.*$", read_text(proc / "cpuinfo") or "", re.MULTILINE)
    if flags:
        return " hypervisor" in flags.group()
    return bool(_VIRTUAL_PRODUCT.search(machine_model(sys) or ""))


def machine_model(sys: Path) -> str | None:
    """Maker and product of the machine by its firmware: ``Supermicro AS-8125GS-TNMR2``."""
    parts = (read_text(sys / "class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    return " ".join(part for part in parts if part) or None
