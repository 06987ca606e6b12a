"""omnistat, AMD's monitor for clusters: a few figures per card, numbered as HIP does; cards have no other name here."""

from __future__ import annotations

from collections.abc import Iterator

from collectors.sources.exporters.accelerators import (
    Columns,
    Energy,
    by_device,
    column,
    possible,
    read,
    series_of,
    single,
)
from collectors.sources.exporters.dialect import Dialect, Look, said
from core.readings import AcceleratorSample, Entity, Reading

_COLUMNS: Columns = {
    "utilization_ratio": (column("rocm_utilization_percentage", divisor=100),),
    "memory_total_bytes": (column("rocm_vram_total_bytes"),),
    "power_watts": (column("rocm_average_socket_power_watts"),),
    "energy_joules_total": (column("rocm_energy_joules"),),
    "temperature_celsius": (column("rocm_temperature_celsius"),),  # of several places the hottest
}
_MEMORY_HELD = "rocm_vram_used_percentage"


class OmnistatReader:
    """One omnistat."""

    def __init__(self) -> None:
        self._energy = Energy()

    def read(self, look: Look) -> Iterator[Reading]:
        """Every card of the page."""
        cards = by_device(look.page, sorted({*series_of(_COLUMNS), _MEMORY_HELD}), lambda labels: said(labels, "card"))
        keys = {card: f"{look.host}/card {card}" for card in cards}
        for card, rows in cards.items():
            key, values = keys[card], read(_COLUMNS, rows)
            held, total = single(rows, _MEMORY_HELD), values.get("memory_total_bytes")
            if held is not None and total is not None:
                values["memory_used_bytes"] = possible("memory_used_bytes", held / 100 * total)
            values["energy_joules_total"] = self._energy.joules(
                key, values.get("energy_joules_total"), values.get("power_watts")
            )
            yield Entity(
                observed_at_ms=look.at_ms,
                family=AcceleratorSample.family,
                key=key,
                host=look.host,
                labels={"vendor": "AMD", "index": card},
            )
            yield AcceleratorSample(key=key, observed_at_ms=look.at_ms, **values)
        self._energy.keep_only(keys.values())


OMNISTAT = Dialect(
    name="omnistat",
    marks=("\nrocm_utilization_percentage{", "\nrocm_average_socket_power_watts{"),
    series=series_of(_COLUMNS) | {_MEMORY_HELD},
    reader=OmnistatReader,
)
