"""Emissions by the Green Software Foundation's SCI: (energy x grid factor + embodied) per functional unit. Grams CO2e.

Operational and embodied emissions stay apart. Energy is that of all hardware reserved, used or not.
"""

from __future__ import annotations

from analytics.formulas.unknown import per, product, total
from core.units import HOURS_PER_YEAR


def operational_grams(facility_kwh: float | None, grams_per_kwh: float | None) -> float | None:
    """Emissions of the energy used (g), by the location's grid factor; contracts and offsets do not count."""
    return product(facility_kwh, grams_per_kwh)


def embodied_grams(
    device_grams: float | None, reserved_hours: float, life_years: float, reserved_ratio: float = 1.0
) -> float | None:
    """The window's part of what making the hardware emitted (g); unknown, not 0, where that is not known.

    Args:
        device_grams: of the whole device over its whole life (SCI: TE).
        reserved_hours: for which it was reserved (TiR).
        life_years: it is expected to last (EL).
        reserved_ratio: part of the device that was reserved, 0 to 1 (RR/ToR).
    """
    return product(device_grams, per(reserved_hours, life_years * HOURS_PER_YEAR), reserved_ratio)


def sci_grams(operational: float | None, embodied: float | None, units: float | None) -> float | None:
    """Emissions (g) per functional unit, such as a million tokens; ``None`` when a part is unknown or units are 0."""
    return per(total(operational, embodied), units)
