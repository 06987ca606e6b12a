"""Contracts over a week: what was used of them all together, and of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from analytics import commitments
from analytics.commitments import Standing
from analytics.formulas.energy import Quality, worst
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import per, total
from analytics.wastes.waste import Commitment
from analytics.weekly.figure import Value
from analytics.weekly.reasons import Reason, Why, why_of
from analytics.weekly.summary import ContractAmounts, ContractUse
from core.settings import Settings


def commitments_used(standings: Sequence[Standing]) -> Value:
    """Of all contracts together by what they cost; of one alone by its own amounts."""
    if not standings:
        return Value(None, Quality.MISSING, Why(Reason.NO_CONTRACT))
    lacking = [why_of(one.reason, one.contract.name) for one in standings if one.used_ratio is None]
    if len(standings) == 1 and not lacking:
        return Value(standings[0].used_ratio, standings[0].quality)
    lacking += [why_of(one.money_reason, one.contract.name) for one in standings if one.rows is None]
    if lacking:
        return Value(None, Quality.MISSING, lacking[0])
    usd = total(*(one.usd for one in standings))
    used = total(*(one.rows.used_usd for one in standings if one.rows is not None))
    return Value(per(used, usd), worst(*(one.quality for one in standings)))


def commitment(of: Standing) -> Commitment:
    """What the search for wastes is told of a contract."""
    return Commitment(of.contract.name, of.used_ratio, of.usd, of.quality)


def amounts(of: Standing) -> ContractAmounts:
    """What the share that is used was computed from."""
    unit = of.contract.currency if of.contract.unit == "money" else of.contract.unit
    return ContractAmounts(of.contract.name, unit, of.used, of.delivered)


def contract(of: Standing, settings: Settings, week: Span) -> ContractUse:
    """A contract as the summary lists it."""
    reason = of.reason or of.money_reason
    return ContractUse(
        name=of.contract.name,
        last_day=of.contract.ends - timedelta(days=1),
        ends_in_week=commitments.term(of.contract, settings).end_ms < week.end_ms,
        used_ratio=of.used_ratio,
        usd=of.usd,
        unused_usd=None if of.rows is None else of.rows.unused_usd,
        quality=of.quality,
        why=why_of(reason, of.contract.name) if reason else None,
    )
