"""What hardware and electricity cost, and what that makes per million tokens. USD, hours, joules."""

from __future__ import annotations

from core.units import HOURS_PER_YEAR

MONTHS_PER_YEAR = 12
MILLION = 1e6
SMALL_SAMPLE_TOKENS = 1_000  # below: shown, but not ranked


def owned_usd_per_hour(
    *,
    capex_usd: float,
    residual_usd: float,
    life_years: float,
    capital_cost_ratio: float,
    maintenance_ratio: float,
    hosting_usd_per_kw_month: float,
    contracted_kilowatts: float,
) -> float:
    """Fixed cost of owned hardware per hour: depreciation, capital on the mean balance, upkeep, hosting (USD/h)."""
    depreciation = (capex_usd - residual_usd) / (life_years * HOURS_PER_YEAR)
    capital = capital_cost_ratio * (capex_usd + residual_usd) / 2 / HOURS_PER_YEAR
    maintenance = maintenance_ratio * capex_usd / HOURS_PER_YEAR
    hosting = hosting_usd_per_kw_month * contracted_kilowatts * MONTHS_PER_YEAR / HOURS_PER_YEAR
    return depreciation + capital + maintenance + hosting


def electricity_usd(facility_kwh: float | None, usd_per_kwh: float | None) -> float | None:
    """Price of energy at the meter (USD)."""
    if facility_kwh is None or usd_per_kwh is None:
        return None
    return facility_kwh * usd_per_kwh


def usd_per_million(cost_usd: float | None, tokens: float | None) -> float | None:
    """Unit price (USD per million tokens of the class counted); ``None`` for unknown cost or no tokens."""
    if cost_usd is None or not tokens:
        return None
    return cost_usd / tokens * MILLION


def weighted_tokens(uncached_input_tokens: float, output_tokens: float, output_weight_ratio: float) -> float:
    """Tokens in units of input work, the key by which deployments share a device."""
    return uncached_input_tokens + output_weight_ratio * output_tokens


def shares(weights: list[float]) -> list[float]:
    """Parts that sum to 1; equal parts when no weight is above zero."""
    total = sum(weights)
    if total <= 0:
        return [1 / len(weights)] * len(weights)
    return [weight / total for weight in weights]
