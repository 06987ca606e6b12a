"""The processes on a device, as exporters list them: a series for each, numbered as on the exporter's machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from collectors.scrape.exposition import Point
from collectors.sources.exporters.dialect import said
from core.readings import DeviceProcess

_HIGHEST_PID = 2**22  # of a 64-bit Linux
_MOST_BYTES = 2.0**44


def process_list(
    key: str,
    points: Iterable[Point],
    host: str,
    at_ms: int,
    *,
    label: str = "pid",
    bytes_each: float | None = None,
    names: Mapping[str, str] | None = None,
) -> list[DeviceProcess]:
    """Each process once.

    Args:
        key: of the device.
        points: one or more for each process.
        host: whose process numbers these are.
        at_ms: when they were listed.
        label: that holds the number.
        bytes_each: how many bytes one unit of a point's value is; ``None`` when that is no memory.
        names: number to name, where the points do not tell.
    """
    found = {}
    for point in points:
        number = said(point.series.labels, label)
        if number.isdecimal() and len(number) < 10 and int(number) <= _HIGHEST_PID:
            found[int(number)] = DeviceProcess(
                key=key,
                observed_at_ms=at_ms,
                pid=int(number),
                name=said(point.series.labels, "process_name") or (names or {}).get(number, ""),
                memory_used_bytes=_bytes(point.value, bytes_each),
                host=host,
            )
    return [found[pid] for pid in sorted(found)]


def _bytes(value: float, bytes_each: float | None) -> int | None:
    if bytes_each is None or not math.isfinite(value):
        return None
    size = value * bytes_each
    return round(size) if 0 <= size <= _MOST_BYTES else None
