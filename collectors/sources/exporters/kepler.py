"""Kepler, from its rewrite (0.10) on: energy of CPUs and GPUs, and power of the machine where it asks the BMC.

It adds the packages of a machine up. Only on a machine with one is that a socket's energy; on others it stands under a
name of its own, "all sockets". How it shares energy out to processes, containers and pods is an estimate, and not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from collectors.scrape.exposition import Page, Point
from collectors.sources.exporters.accelerators import Columns, Energy, by_device, column, labels_of, read, series_of
from collectors.sources.exporters.dialect import Dialect, Look, known, machine, said
from collectors.sources.exporters.nvidia import nvidia_uuid
from core.readings import AcceleratorSample, CpuSample, Entity, HostSample, Reading

_INFO = "kepler_node_cpu_info"
_JOULES, _WATTS, _BUSY = "kepler_node_cpu_joules_total", "kepler_node_cpu_watts", "kepler_node_cpu_usage_ratio"
_PLATFORM = "kepler_platform_watts"
_GPU: Columns = {
    "power_watts": (column("kepler_node_gpu_watts"),),
    "energy_joules_total": (column("kepler_node_gpu_joules_total"),),
}

_PACKAGE = re.compile(r"package(?:-(\d{1,3}))?")
_DRAM = "dram"
_WHOLE_NODE = re.compile(r"(server|system|node|chassis)\b", re.IGNORECASE)
_MOST_WATTS = 1e6
_MOST_JOULES = 1e14
_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD"}


class KeplerReader:
    """One Kepler."""

    def __init__(self) -> None:
        self._energy = Energy()

    def read(self, look: Look) -> Iterator[Reading]:
        """Sockets, GPUs and the machine."""
        names = (
            point.series.labels for name in (_JOULES, _WATTS, _PLATFORM) for point in look.page.points.get(name, ())
        )
        host = machine({"hostname": said(next(names, {}), "node_name")}, look)
        yield from _sockets(look, host)
        yield from self._gpus(look, host)
        watts = _platform_watts(look.page)
        if watts is not None:
            yield Entity(observed_at_ms=look.at_ms, family=HostSample.family, key=host, host=host)
            yield HostSample(key=host, observed_at_ms=look.at_ms, node_power_watts=watts)

    def _gpus(self, look: Look, host: str) -> Iterator[Reading]:
        gpus = by_device(look.page, sorted(series_of(_GPU)), lambda labels: nvidia_uuid(said(labels, "gpu_uuid")))
        for key, rows in gpus.items():
            labels = labels_of(rows)
            values = read(_GPU, rows)
            values["energy_joules_total"] = self._energy.joules(
                key, values.get("energy_joules_total"), values.get("power_watts")
            )
            vendor = said(labels, "vendor")
            described = {
                "vendor": _VENDORS.get(vendor.lower(), vendor),
                "model": said(labels, "gpu_name"),
                "index": said(labels, "gpu"),
            }
            yield Entity(
                observed_at_ms=look.at_ms,
                family=AcceleratorSample.family,
                key=key,
                host=host,
                labels=known(described),
            )
            yield AcceleratorSample(key=key, observed_at_ms=look.at_ms, **values)
        self._energy.keep_only(gpus)


KEPLER = Dialect(
    name="Kepler",
    marks=("\nkepler_build_info", "\nkepler_node_cpu_"),
    series=series_of(_GPU) | {_INFO, _JOULES, _WATTS, _BUSY, _PLATFORM},
    reader=KeplerReader,
)


def _sockets(look: Look, host: str) -> Iterator[Reading]:
    """What is told of CPUs: of each package, or of all together."""
    page = look.page
    infos = [point.series.labels for point in page.points.get(_INFO, ())]
    numbers = {said(labels, "physical_id") for labels in infos}
    only = numbers.pop() if len(numbers) == 1 else ""
    joules, watts = _by_package(page, _JOULES, only), _by_package(page, _WATTS, only)
    busy, dram = _one(page.points.get(_BUSY, ()), 1.0), _one(_zone(page, _JOULES, _DRAM), _MOST_JOULES)
    for socket in sorted({*joules, *watts}):
        whole = len({*joules, *watts}) == 1  # what is told of the machine is told of this one
        key = f"{host}/{socket}"
        labels = {"model": said(infos[0], "model_name") if infos else "", "energy_source": "Kepler"}
        yield Entity(observed_at_ms=look.at_ms, family=CpuSample.family, key=key, host=host, labels=known(labels))
        yield CpuSample(
            key=key,
            observed_at_ms=look.at_ms,
            utilization_ratio=busy if whole else None,
            power_watts=watts.get(socket),
            energy_joules_total=joules.get(socket),
            dram_energy_joules_total=dram if whole else None,
        )


def _by_package(page: Page, name: str, only: str) -> Mapping[str, float]:
    """A figure by package, as in ``socket 0``; all packages together are those of the only one, if there is one."""
    found: dict[str, float] = {}
    highest = _MOST_JOULES if name == _JOULES else _MOST_WATTS
    for point in page.points.get(name, ()):
        zone = _PACKAGE.fullmatch(said(point.series.labels, "zone"))
        if zone and 0 <= point.value <= highest:
            number = zone[1] or only
            found[f"socket {number}" if number else "all sockets"] = point.value
    return found


def _zone(page: Page, name: str, zone: str) -> list[Point]:
    return [point for point in page.points.get(name, ()) if said(point.series.labels, "zone") == zone]


def _platform_watts(page: Page) -> float | None:
    """Power of the machine: the only figure of the BMC, or the only one that says that it is the machine's."""
    points = page.points.get(_PLATFORM, ())
    names = ("source_name", "power_control_name")
    whole = [point for point in points if _WHOLE_NODE.match(said(point.series.labels, *names))]
    return _one(whole if len(points) > 1 else points, _MOST_WATTS) or None


def _one(points: list[Point] | tuple[()], highest: float) -> float | None:
    """The figure, if there is one and no more, and it can be."""
    return points[0].value if len(points) == 1 and 0 <= points[0].value <= highest else None
