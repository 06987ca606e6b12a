"""What electricity costs and emits in a country on average: stands in where the settings name no more than the country.

Prices are business rates by globalpetrolprices.com. Grid factors are yearly lifecycle averages of what is generated in
the country, without imports, by Ember through Our World in Data (read as PyPI carbontracker 2.4.7 ships them). Both
are estimates of what a site really pays and emits. An empty cell is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from core.hardware.catalogue import rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A country by its code of ISO 3166, alpha-2. Money in USD/kWh, emissions in g CO2e per kWh."""

    code: str
    country: str
    usd_per_kwh: float | None
    price_period: str
    price_source: str
    grid_gco2e_per_kwh: float
    grid_year: int
    grid_source: str
    notes: str


@cache
def regions() -> Mapping[str, Region]:
    """Every row of ``regions.csv`` by its code."""
    return {row["code"]: _region(row) for row in rows("regions.csv")}


def _region(row: Mapping[str, str]) -> Region:
    return Region(
        code=row["code"],
        country=row["country"],
        usd_per_kwh=float(row["usd_per_kwh"]) if row["usd_per_kwh"] else None,
        price_period=row["price_period"],
        price_source=row["price_source"],
        grid_gco2e_per_kwh=float(row["grid_gco2e_per_kwh"]),
        grid_year=int(row["grid_year"]),
        grid_source=row["grid_source"],
        notes=row["notes"],
    )
