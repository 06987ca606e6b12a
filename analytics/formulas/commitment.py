"""Money or capacity promised for a term: what it costs by the month, what part was used, what a unit of it costs.

Cost is spread evenly over the term and falls due whether used or not (FOCUS: effective, not billed, cost). The part
that was not used is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from analytics.formulas.cost import MONTHS_PER_YEAR, SECONDS_PER_HOUR
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import per, product
from core.units import HOURS_PER_YEAR

HOURS_PER_MONTH = HOURS_PER_YEAR / MONTHS_PER_YEAR
KILOWATTS_PER_MEGAWATT = 1_000


@dataclass(frozen=True, slots=True)
class Tranche:
    """Capacity (MW) that is there from a month of the term on; 0 is its first month."""

    from_month: int
    megawatts: float


class Split(NamedTuple):
    """Cost (USD) of the used and of the unused part; together they are the whole."""

    used_usd: float
    unused_usd: float


def megawatts_by_month(tranches: Iterable[Tranche], months: int) -> tuple[float, ...]:
    """Capacity (MW) in each month of a term; one that ramps up has less at first."""
    delivered = list(tranches)
    return tuple(sum(one.megawatts for one in delivered if one.from_month <= month) for month in range(months))


def usd_per_month(usd: float | None, months: float) -> float | None:
    """Cost of a term by the month (USD)."""
    return per(usd, months)


def amortised_usd(usd: float | None, term: Span, window: Span) -> float | None:
    """Part of a term's cost that falls into a window (USD); nothing before the term began or after it ended."""
    overlap_ms = min(term.end_ms, window.end_ms) - max(term.start_ms, window.start_ms)
    return product(usd, per(max(overlap_ms, 0), term.end_ms - term.start_ms))


def used_and_unused(usd: float | None, used_ratio: float | None) -> Split | None:
    """Cost as used and unused rows; use beyond what was promised is not paid for here, so it counts as 1."""
    used_usd = product(usd, None if used_ratio is None else min(used_ratio, 1.0))
    return None if usd is None or used_usd is None else Split(used_usd, usd - used_usd)


def usd_per_kw_month(usd: float | None, megawatt_months: float | None) -> float | None:
    """Price of capacity (USD per kW and month) over the months in which it was there."""
    return per(usd, product(megawatt_months, KILOWATTS_PER_MEGAWATT))


def usd_per_mwh(usd: float | None, megawatt_months: float | None, used_ratio: float | None) -> float | None:
    """Price of energy (USD/MWh): of what was used, or with ``used_ratio`` 1 of what could have been."""
    return per(usd, product(megawatt_months, HOURS_PER_MONTH, used_ratio))


def tokens(
    megawatt_months: float | None, tokens_per_second_per_megawatt: float | None, used_ratio: float | None
) -> float | None:
    """Tokens that the capacity makes at a rate per facility MW, in the part of the time it is used."""
    return product(megawatt_months, HOURS_PER_MONTH, SECONDS_PER_HOUR, tokens_per_second_per_megawatt, used_ratio)
