"""Which price of the settings applies to a device, and what it makes per hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analytics.formulas.cost import owned_usd_per_hour
from core.settings import CostSettings, OwnedPrice, RentedPrice


@dataclass(frozen=True, slots=True)
class HourlyPrice:
    """Fixed cost per hour (USD/h) and whether electricity comes on top of it."""

    usd_per_hour: float
    electricity_on_top: bool
    source: str


def hourly_price(cost: CostSettings, applies_to: Literal["accelerator", "host"], name: str) -> HourlyPrice | None:
    """The first price whose ``match`` is part of the device's name; ``None`` when no price was given."""
    for index, price in enumerate(cost.hardware):
        if price.applies_to == applies_to and price.match.casefold() in name.casefold():
            return _hourly(price, f"settings: cost.hardware.{index} ({price.kind})")
    return None


def _hourly(price: RentedPrice | OwnedPrice, source: str) -> HourlyPrice:
    if isinstance(price, RentedPrice):
        return HourlyPrice(price.usd_per_hour, False, source)
    fixed = owned_usd_per_hour(
        capex_usd=price.capex_usd,
        residual_usd=price.residual_usd,
        life_years=price.life_years,
        capital_cost_ratio=price.capital_cost_ratio,
        maintenance_ratio=price.maintenance_ratio,
        hosting_usd_per_kw_month=price.hosting_usd_per_kw_month,
        contracted_kilowatts=price.contracted_watts / 1000,
    )
    return HourlyPrice(fixed, not price.hosting_includes_electricity, source)
