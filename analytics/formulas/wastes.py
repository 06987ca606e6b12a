"""When hours and tokens that were paid for count as wasted, and what could be saved. USD, tokens, requests.

The limits are project rules unless a source is named.
"""

from __future__ import annotations

from analytics.formulas.cost import weighted_tokens
from analytics.formulas.unknown import per, product

LONG_IDLE_HOURS = 24  # without a request, or without a process
LOW_USE_RATIO = 0.1
RECURRING_DAYS = 3
BLOCK_HOURS = 3  # stopping a server for less is not worth the start
COMMITMENT_USE_RATIO = 0.8  # upper waterline for commitments of resources, FinOps Foundation
IDLE_ENERGY_RATIO = 0.3
MATERIAL_RATIO = 0.05  # a smaller difference is no clear one
LEAST_REQUESTS = 100  # fewer say nothing about a share
LEAST_STEPS = 100  # fewer have no p99
_LEAST_SAVED = 0.5


def saving_usd(usd: float | None) -> tuple[float, float] | None:
    """Range (USD) of what acting on a waste could save, lowest first; negative where it would cost more."""
    if usd is None:
        return None
    low, high = sorted((usd * _LEAST_SAVED, usd))
    return low, high


def unused_commitment_usd(used_ratio: float | None, amortised_usd: float | None) -> float | None:
    """Part of a commitment (USD) that lies unused below the waterline; use above it is as it should be."""
    return None if used_ratio is None else product(max(COMMITMENT_USE_RATIO - used_ratio, 0.0), amortised_usd)


def cacheable_ratio(
    best_hit_ratio: float, prompt_tokens: float, cached_tokens: float, output_tokens: float, output_weight_ratio: float
) -> float | None:
    """Part of the work (0 to 1) that a cache as good as in the best month had spared.

    A cached token is no work, as in sharing out the cost of a device. ``None`` without any work.
    """
    work = weighted_tokens(prompt_tokens - cached_tokens, output_tokens, output_weight_ratio)
    return per(max(best_hit_ratio * prompt_tokens - cached_tokens, 0.0), work)


def one_to_spare(needed_requests: float, carried_requests: float, replicas: int) -> bool:
    """Whether one replica less would do.

    Args:
        needed_requests: running and waiting at all replicas together, at their peak.
        carried_requests: what one of them was seen to run at a time; what else it could do is not known.
        replicas: how many there are.
    """
    return carried_requests > 0 and needed_requests <= (replicas - 1) * carried_requests
