"""What hardware and electricity cost, and what that makes per token and per request. USD, hours, joules."""

from __future__ import annotations

from typing import NamedTuple

from analytics.formulas.unknown import per, product, total
from core.units import HOURS_PER_YEAR

MONTHS_PER_YEAR = 12
MILLION = 1e6
SECONDS_PER_HOUR = 3_600
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


def owned_usd(fixed_usd_per_hour: float | None, hours: float, electricity_usd: float | None) -> float | None:
    """Owned hardware over a window (USD): the fixed part by the hour, in use or not, and its electricity.

    Where hosting includes the electricity, that is 0, not unknown.
    """
    return total(product(fixed_usd_per_hour, hours), electricity_usd)


def rented_usd(usd_per_gpu_hour: float | None, billed_gpu_hours: float | None) -> float | None:
    """Rented hardware over a window (USD): hours billed count, not hours busy; electricity is inside the rent."""
    return product(usd_per_gpu_hour, billed_gpu_hours)


def electricity_usd(facility_kwh: float | None, usd_per_kwh: float | None) -> float | None:
    """Price of energy at the meter (USD)."""
    return product(facility_kwh, usd_per_kwh)


def idle_usd(cost_usd: float | None, used_ratio: float | None) -> float | None:
    """What was paid for the time without work (USD); OpenCost: cost of the asset less that of the workload."""
    return None if used_ratio is None else product(cost_usd, 1.0 - used_ratio)


def usd_per_million(cost_usd: float | None, tokens: float | None) -> float | None:
    """Unit price (USD per million tokens of the class counted); ``None`` for unknown cost or no tokens."""
    return product(per(cost_usd, tokens), MILLION)


class UnitPrices(NamedTuple):
    """Prices (USD per million tokens) of input and of output that together make the cost, no more and no less."""

    input_usd_per_million: float
    output_usd_per_million: float


def weighted_usd_per_million(
    cost_usd: float | None, input_tokens: float | None, output_tokens: float | None, output_weight_ratio: float
) -> UnitPrices | None:
    """The pair in which an output token costs ``output_weight_ratio`` times an input token.

    It is the only pair with that ratio that sums back to the cost. ``None`` where a side is unknown or no tokens.
    """
    if input_tokens is None or output_tokens is None:
        return None
    price = usd_per_million(cost_usd, weighted_tokens(input_tokens, output_tokens, output_weight_ratio))
    return None if price is None else UnitPrices(price, price * output_weight_ratio)


def usd_per_million_at_full_use(usd_per_hour: float | None, tokens_per_second: float | None) -> float | None:
    """Price of capacity (USD per million tokens): as if hardware always ran at its rate while busy.

    Args:
        usd_per_hour: of the hardware in scope.
        tokens_per_second: of the same hardware, over its busy time only.
    """
    return usd_per_million(usd_per_hour, product(tokens_per_second, SECONDS_PER_HOUR))


def realised_usd_per_million(full_use_usd_per_million: float | None, used_ratio: float | None) -> float | None:
    """What a token really cost (USD per million) when the hardware worked a part of the time, 0 to 1."""
    return per(full_use_usd_per_million, used_ratio)


def usd_per_request(cost_usd: float | None, requests: float | None) -> float | None:
    """Unit price of a completed request (USD)."""
    return per(cost_usd, requests)


def usd_per_good_request(
    cost_usd: float | None, requests: float | None, attainment_ratio: float | None
) -> float | None:
    """Unit price of a request that kept every objective (USD); the others are paid for, but count for nothing."""
    return per(cost_usd, product(requests, attainment_ratio))


def weighted_tokens(uncached_input_tokens: float, output_tokens: float, output_weight_ratio: float) -> float:
    """Tokens in units of input work, the key by which deployments share a device."""
    return uncached_input_tokens + output_weight_ratio * output_tokens


def shares(weights: list[float]) -> list[float]:
    """Parts that sum to 1; equal parts when no weight is above zero."""
    total_weight = sum(weights)
    if total_weight <= 0:
        return [1 / len(weights)] * len(weights)
    return [weight / total_weight for weight in weights]
