"""What the control group of this process may use; the rest of Vatio always shows the whole machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from collectors.sources.machine.kernel import read_int, read_text

_NO_LIMIT_V1 = 1 << 60  # version 1 says "no limit" with the largest number of whole pages


@dataclass(frozen=True, slots=True)
class Limits:
    """The tightest limit on the way from the process's group up to the root; ``None`` where there is none."""

    cpus: float | None
    memory_bytes: int | None


def limits(proc: Path, sys: Path) -> Limits:
    """The limits of this process, by version 2 of control groups or else version 1."""
    groups = _groups(proc)
    root = sys / "fs/cgroup"
    unified = list(_upwards(root, groups.get("", "/")))
    cpu = [folder for name in ("cpu", "cpu,cpuacct") for folder in _upwards(root / name, groups.get("cpu", "/"))]
    memory = _upwards(root / "memory", groups.get("memory", "/"))
    cpus = [_cpu_max(folder) for folder in unified] + [_cpu_quota(folder) for folder in cpu]
    sizes = [read_int(folder / "memory.max") for folder in unified] + [_memory_limit(folder) for folder in memory]
    return Limits(
        min((limit for limit in cpus if limit is not None), default=None),
        min((limit for limit in sizes if limit is not None), default=None),
    )


def _groups(proc: Path) -> dict[str, str]:
    """Path of the group per controller; version 2 has one for all, under an empty name."""
    lines = [line.split(":", 2) for line in (read_text(proc / "self/cgroup") or "").splitlines()]
    return {name: line[2] for line in lines if len(line) == 3 for name in line[1].split(",")}


def _upwards(root: Path, group: str) -> Iterator[Path]:
    path = PurePosixPath(group.lstrip("/"))
    yield from (root / part for part in (path, *path.parents) if ".." not in part.parts)


def _cpu_max(folder: Path) -> float | None:
    quota, _, period = (read_text(folder / "cpu.max") or "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _cpu_quota(folder: Path) -> float | None:
    quota, period = read_int(folder / "cpu.cfs_quota_us"), read_int(folder / "cpu.cfs_period_us")
    return quota / period if quota and quota > 0 and period else None


def _memory_limit(folder: Path) -> int | None:
    limit = read_int(folder / "memory.limit_in_bytes")
    return limit if limit is not None and limit < _NO_LIMIT_V1 else None
