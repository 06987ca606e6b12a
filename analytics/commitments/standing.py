"""How contracts stand: promised against used, what that makes a unit cost, and where it leads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from analytics.commitments.terms import (
    amortised,
    committed,
    days,
    delivered,
    midnight_ms,
    term,
    weeks,
    within,
)
from analytics.commitments.use import Use, together
from analytics.formulas.commitment import HOURS_PER_MONTH, Split, usd_per_kw_month, used_and_unused
from analytics.formulas.cost import usd_per_million
from analytics.formulas.energy import ENOUGH_COVERAGE, LEAST_COVERAGE, Quality, worst
from analytics.formulas.forecast import month_end_usd
from analytics.formulas.local_time import Span
from analytics.formulas.objectives import Between
from analytics.formulas.unknown import per, product
from core.language import _
from core.prices import Contract
from core.settings import Settings

SEEN_LITTLE = _("too little of the time was seen")
_DAY_HOURS = 24


class Effective(NamedTuple):
    """What units really cost (USD) over a stretch: the contract's own as available and as used, and others."""

    usd_per_kw_month: float | None
    usd_per_available: float | None
    usd_per_used: float | None
    usd_per_gpu_hour: float | None
    usd_per_million_output_tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A contract over the part of its term that lies in a window.

    ``committed`` is as if all of it were there from the first day, ``delivered`` what was: tranches from their day on.
    ``used`` stands for the whole window: gaps, where they are few, at the mean of what was seen. ``rows`` are the used
    and unused part of ``usd`` and add up to it to the cent. Reasons are marked for translation; only
    that of a missing exchange rate names a currency.
    """

    contract: Contract
    use: Use
    committed: float
    delivered: float
    used: float | None
    used_ratio: float | None
    usd: float | None
    rows: Split | None
    effective: Effective
    quality: Quality
    reason: str
    money_reason: str

    @property
    def unused(self) -> float | None:
        """What was delivered and not used; use beyond it leaves nothing."""
        return None if self.used is None else max(self.delivered - self.used, 0.0)


class Forecast(NamedTuple):
    """Use from the first day seen to the end of the term as a range, beside what will have been delivered then."""

    span: Span
    used: Between
    delivered: float


def standing(contract: Contract, settings: Settings, of: Iterable[Use], window: Span) -> Standing | None:
    """A contract over a window; ``None`` where its term does not reach in.

    Below ``LEAST_COVERAGE`` nothing is said of the whole window, below ``ENOUGH_COVERAGE`` it is an estimate.
    """
    part = within(window, term(contract, settings))
    if part is None:
        return None
    use = together(of, part)
    there = delivered(contract, settings, part)
    factor = None
    if use.covered_ratio >= LEAST_COVERAGE:
        factor = 1.0 if use.covered_ratio >= ENOUGH_COVERAGE else 1 / use.covered_ratio
    used = product(use.used, factor)
    ratio = per(used, there)
    money = amortised(contract, settings, part)
    usd = None if money.amount is None else round(money.amount, 2)
    split = used_and_unused(usd, ratio)
    estimated = contract.estimate or use.is_estimated or factor != 1.0
    return Standing(
        contract=contract,
        use=use,
        committed=committed(contract, settings, part),
        delivered=there,
        used=used,
        used_ratio=ratio,
        usd=usd,
        rows=None if split is None or usd is None else _to_the_cent(usd, split),
        effective=_effective(contract, money.amount, there, used, use, factor),
        quality=Quality.MISSING if used is None else worst(Quality.DERIVED, *([Quality.ESTIMATED] * estimated)),
        reason="" if used is not None else use.reason or SEEN_LITTLE,
        money_reason=money.reason,
    )


def _to_the_cent(usd: float, split: Split) -> Split:
    used = round(split.used_usd, 2)
    return Split(used, round(usd - used, 2))


def _effective(
    contract: Contract, usd: float | None, there: float, used: float | None, use: Use, factor: float | None
) -> Effective:
    def price(amount: float | None) -> float | None:
        return usd_per_million(usd, amount) if contract.unit == "tokens" else per(usd, amount)

    months = there / HOURS_PER_MONTH if contract.unit == "megawatts" else None
    return Effective(
        usd_per_kw_month=usd_per_kw_month(usd, months),
        usd_per_available=price(there),
        usd_per_used=price(used),
        usd_per_gpu_hour=per(usd, product(use.gpu_hours, factor)),
        usd_per_million_output_tokens=usd_per_million(usd, product(use.output_tokens, factor)),
    )


def since_ms(of: Iterable[Use]) -> int | None:
    """When the first stretch began of which something is known (Unix ms)."""
    return min((one.span.start_ms for one in of if one.covered_ratio), default=None)


def forecast(contract: Contract, settings: Settings, of: Sequence[Use]) -> Forecast | None:
    """Use at the end of the term if the days to come are like those seen.

    ``None`` under seven whole days of data, and when the term is over.

    Time before the first sight of what the contract pays for is left out, on both sides.
    """
    first_ms = since_ms(of)
    if first_ms is None:
        return None
    whole = term(contract, settings)
    span, seen = Span(first_ms, whole.end_ms), Span(first_ms, max(one.span.end_ms for one in of))
    if seen.end_ms >= span.end_ms:
        return None
    full_days = set(days(whole, settings))
    by_day = [together(of, day) for day in days(seen, settings) if day in full_days]
    daily = [one.used for one in by_day if one.used is not None and one.covered_ratio >= ENOUGH_COVERAGE]
    others = max(span.hours / _DAY_HOURS - len(daily), 0.0)
    found = month_end_usd(sum(daily), others, daily)  # its arithmetic is the same in every unit
    return None if found is None else Forecast(span, found, delivered(contract, settings, span))


BURN = ("at", "delivered", "used", "low", "high")


def burn(contract: Contract, settings: Settings, of: Sequence[Use]) -> pd.DataFrame:
    """Amounts that have added up since the first day seen, week by week, and where they lead.

    Returns:
        at (UTC), delivered (to the end of the term), used (as far as it was seen), low and high (the forecast's range;
        from the last day seen to the end).
    """
    first_ms = since_ms(of)
    if first_ms is None:
        return pd.DataFrame(columns=list(BURN)).astype(
            {"at": "datetime64[ms, UTC]"} | dict.fromkeys(BURN[1:], "float64")
        )
    end_ms, last_ms = term(contract, settings).end_ms, max(one.span.end_ms for one in of)
    totals = {first_ms: 0.0}
    for week in weeks(Span(first_ms, last_ms), settings):
        totals[week.end_ms] = totals[week.start_ms] + (together(of, week).used or 0.0)
    ahead = forecast(contract, settings, of)
    low = {} if ahead is None else {last_ms: totals[last_ms], end_ms: ahead.used.lower}
    high = {} if ahead is None else low | {end_ms: ahead.used.upper}
    begins = {at_ms for one in contract.tranche if (at_ms := midnight_ms(one.begins, settings)) > first_ms}
    edges = pd.Series(sorted({*totals, *begins, end_ms}))
    return pd.DataFrame(
        {
            "at": pd.to_datetime(edges, unit="ms", utc=True),
            "delivered": [delivered(contract, settings, Span(first_ms, at)) for at in edges],
            "used": edges.map(totals).astype("float64"),
            "low": edges.map(low).astype("float64"),
            "high": edges.map(high).astype("float64"),
        }
    )
