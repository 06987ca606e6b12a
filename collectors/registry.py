"""Which sources there are: a dict of name -> factory. Nothing registers itself.

Sources are imported inside their factories: a daemon loads what it runs, and a vendor's source is
imported in its child alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from collectors.base import Source
from collectors.child import ChildSource
from core.settings import Settings

if TYPE_CHECKING:
    from collectors.sources.probe.source import SpendLedger


@dataclass(frozen=True, slots=True)
class Context:
    """What factories build from."""

    settings: Settings
    ledger: SpendLedger

    @property
    def host(self) -> str:
        """The name this machine goes by."""
        return self.settings.collectors.host_name


def _nvidia(context: Context) -> Source:
    from collectors.sources.nvidia.source import NvidiaSource

    return _child("nvidia", context, partial(NvidiaSource, context.host, _slow(context)))


def _amd(context: Context) -> Source:
    from collectors.sources.amd.source import AmdSource

    return _child("amd", context, partial(AmdSource, context.host, _slow(context)))


def _cpu(context: Context) -> Source:
    from collectors.sources.amd.epyc import EpycSource
    from collectors.sources.machine.cpu import CpuSource
    from collectors.sources.machine.sockets import SocketsSource

    kernel = CpuSource(context.host, powercap_root=context.settings.collectors.powercap_root)
    return SocketsSource(kernel, _child("epyc", context, partial(EpycSource, context.host)))


def _host(context: Context) -> Source:
    from collectors.sources.machine.host import HostSource

    return HostSource(context.host)


def _serving(context: Context) -> Source:
    from collectors.sources.serving.source import ServingSource

    serving, collectors = context.settings.serving, context.settings.collectors
    return ServingSource(
        context.host,
        ports=serving.loopback_ports if serving.discover else (),
        targets=serving.server,
        file_sd=serving.file_sd,
        max_body_bytes=serving.max_body_bytes,
        deadline_seconds=collectors.tick_deadline_seconds,
    )


def _exporters(context: Context) -> Source:
    from collectors.sources.exporters.source import ExportersSource

    exporters, collectors = context.settings.exporters, context.settings.collectors
    return ExportersSource(
        context.host,
        targets=exporters.target,
        file_sd=exporters.file_sd,
        max_body_bytes=exporters.max_body_bytes,
        deadline_seconds=collectors.tick_deadline_seconds,
        own_families={"cpu", "host"} - set(collectors.disabled),
    )


def _probe(context: Context) -> Source:
    from collectors.sources.probe.source import ProbeSource

    return ProbeSource(context.settings.probe, context.host, context.ledger)


def _simulated(context: Context) -> Source:
    from collectors.sources.simulated.source import SimulatedSource

    return SimulatedSource(context.host, context.settings.collectors.interval_seconds)


def _child(name: str, context: Context, build: Callable[[], Source]) -> Source:
    return ChildSource(name, build, deadline_seconds=context.settings.collectors.tick_deadline_seconds)


def _slow(context: Context) -> float:
    return context.settings.collectors.slow_interval_seconds


FACTORIES: dict[str, Callable[[Context], Source]] = {
    "nvidia": _nvidia,
    "amd": _amd,
    "cpu": _cpu,
    "host": _host,
    "serving": _serving,
    "exporters": _exporters,
    "probe": _probe,
}


def sources(context: Context) -> list[Source]:
    """Every source that is not disabled; the simulated one alone where the settings ask for it."""
    if context.settings.simulated:
        return [_simulated(context)]
    return [build(context) for name, build in FACTORIES.items() if name not in context.settings.collectors.disabled]
