"""Rows of a bill: who pays for reserved hardware, for what stands idle beside it, and for overhead.

Money is in whole cents, so that the rows sum to the bill. What nobody reserved is a row of its own and stays one
unless it is shared on purpose (OpenCost's rule).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from analytics.formulas.cost import shares

IDLE = "__idle__"
CENTS_PER_USD = 100


class IdleRule(StrEnum):
    """Who pays for hardware that nobody reserved: nobody, all by what they reserved, or all alike."""

    APART = "apart"
    PROPORTIONAL = "proportional"
    EVEN = "even"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one owner, a model or tenant, pays (cents)."""

    owner: str
    direct_cents: int
    idle_cents: int
    overhead_cents: int

    @property
    def total_cents(self) -> int:
        """All three together."""
        return self.direct_cents + self.idle_cents + self.overhead_cents


def in_cents(usd: float) -> int:
    """Money to the nearest cent."""
    return round(usd * CENTS_PER_USD)


def reserved_gpu_hours(requested: float | None, used: float | None) -> float | None:
    """Hours an owner answers for: what was asked for, or what was used where that was more (OpenCost)."""
    return max((hours for hours in (requested, used) if hours is not None), default=None)


def shared_gpu_hours(gpu_hours: float, weighted_tokens: Mapping[str, float]) -> dict[str, float]:
    """Hours of a server that several owners use, by their tokens in units of input work (``cost.weighted_tokens``)."""
    parts = shares(list(weighted_tokens.values())) if weighted_tokens else []
    return {owner: gpu_hours * part for owner, part in zip(weighted_tokens, parts, strict=True)}


def split_cents(cents: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Money by weight, in equal parts when no weight is above zero, each to the nearest cent.

    What rounding leaves over falls to the largest row; a row that has too little to bear it passes the rest on.
    """
    parts = {owner: round(cents * part) for owner, part in zip(weights, shares(list(weights.values())), strict=True)}
    left = cents - sum(parts.values())
    for owner in sorted(parts, key=lambda one: parts[one], reverse=True):
        borne = max(left, -parts[owner])
        parts[owner] += borne
        left -= borne
    return parts


def bill(
    hardware_cents: int,
    overhead_cents: int,
    reserved: Mapping[str, float],
    available: float,
    idle_rule: IdleRule = IdleRule.APART,
) -> tuple[Row, ...]:
    """A row for each owner and one for what is idle; their totals sum to hardware and overhead, to the cent.

    Args:
        hardware_cents: cost of all hardware, reserved or not.
        overhead_cents: network, storage, staff: falls to owners as their direct cost does.
        reserved: by each owner, in GPU-hours; where prices differ, GPU-hours times the price of one.
        available: in the same unit; where more was reserved than there is, nothing is idle.
        idle_rule: who pays for the rest. With no one to share it, it stays apart.
    """
    owners = {owner: amount for owner, amount in reserved.items() if owner != IDLE}
    unreserved = max(available - sum(owners.values()), 0.0)
    sharing = {owner: amount for owner, amount in owners.items() if amount > 0}
    nobody = {IDLE: 1.0}
    direct = split_cents(hardware_cents, {**sharing, IDLE: unreserved} if sharing else nobody)
    idle_weights = {
        IdleRule.APART: nobody,
        IdleRule.PROPORTIONAL: sharing or nobody,
        IdleRule.EVEN: dict.fromkeys(sharing, 1.0) or nobody,
    }[idle_rule]
    idle = split_cents(direct.pop(IDLE), idle_weights)
    overhead = split_cents(overhead_cents, sharing or nobody)
    return tuple(
        Row(
            owner=owner,
            direct_cents=direct.get(owner, 0),
            idle_cents=idle.get(owner, 0),
            overhead_cents=overhead.get(owner, 0),
        )
        for owner in (*owners, IDLE)
    )
