"""Amounts as pages show them: in the currency of the settings, at one exchange rate, and said so.

Everything is computed in USD. An amount ends with the code of its currency, never with a sign: ``$`` would begin a
formula in Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

import pandas as pd
from babel.numbers import get_currency_precision

from analytics import prices
from core.language import say, spoken
from core.settings import Settings
from core.texts import significant
from core.units import Unit
from pages.shared.columns import number
from pages.shared.filters import View
from pages.shared.reasons import cost_reason
from pages.shared.store import settings

BASE = "USD"
SMALL_DECIMALS = 4  # below one


class Money(NamedTuple):
    """The currency of a page, what a US dollar costs in it, and the day of that rate; ``reason``: why it is USD."""

    currency: str = BASE
    per_usd: float = 1.0
    rate_on: date | None = None
    reason: str = ""

    @property
    def caption(self) -> str:
        """What is to be said beside amounts; empty where they are in USD because that is what is wanted."""
        if self.reason:
            why = cost_reason(self.reason)
            return say("Amounts are in {base}: {why} in the settings ([[cost.rate]]).", base=BASE, why=why)
        if self.rate_on is None:
            return ""
        return say(
            "Amounts are in {currency} at the exchange rate of {date}, {rate} per {base}.",
            currency=self.currency,
            date=str(self.rate_on),
            rate=significant(self.per_usd),
            base=BASE,
        )

    def show(self, usd: float | None, unknown: str = "unknown") -> str:
        """An amount (USD) as text; four decimals below one. What is unknown is a word, never a zero."""
        if usd is None or pd.isna(usd):
            return say(unknown)
        amount = round(usd * self.per_usd, SMALL_DECIMALS) or 0.0  # there is no minus zero
        return f"{spoken().number(amount, self._decimals(abs(amount)))} {self.currency}"

    def pair(self, one_usd: float, other_usd: float) -> str:
        """Two amounts (USD) as text, their currency once."""
        return f"{self.show(one_usd).removesuffix(f' {self.currency}')} · {self.show(other_usd)}"

    def column(self, usd: pd.Series[float]) -> pd.Series[float]:
        """Amounts (USD) in the currency; what is unknown stays NaN."""
        return usd * self.per_usd

    def name(self, column: str) -> str:
        """What a column of amounts is called: ``total_usd`` becomes ``total_clp``."""
        return "_".join(self.currency.lower() if part == "usd" else part for part in column.split("_"))

    def frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with every column whose name says USD in the currency, and called so."""
        amounts = [column for column in frame.columns if "usd" in column.split("_")]
        converted = frame.assign(**{column: self.column(frame[column]) for column in amounts})
        return converted.rename(columns={column: self.name(column) for column in amounts})

    def columns(self, converted: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Any]:
        """How amounts of such a frame look in a table.

        Args:
            converted: as ``frame`` gives it.
            titles: words for a column by its name with ``usd``, marked for translation; the currency is put behind.
        """
        return {
            self.name(column): number(f"{say(title)} ({self.currency})", self._least(converted[self.name(column)]))
            for column, title in titles.items()
        }

    @property
    def unit(self) -> Unit:
        """What amounts are in on an axis."""
        return Unit("", self.currency, ((1, self.currency),), get_currency_precision(self.currency))

    def _decimals(self, amount: float) -> int:
        return SMALL_DECIMALS if 0 < amount < 1 else get_currency_precision(self.currency)

    def _least(self, amounts: pd.Series[float]) -> int:
        """Decimals that leave something of the smallest amount."""
        seen = amounts.abs()[amounts.abs() > 0]
        return self._decimals(float(seen.min()) if len(seen) else 0.0)


def money_at(the_settings: Settings, at_ms: int) -> Money:
    """The currency that the settings ask for at an instant's rate; USD where none is known."""
    currency = the_settings.cost.currency
    rate = prices.to_currency(the_settings, 1.0, BASE, currency, at_ms)
    return Money(reason=rate.reason) if rate.amount is None else Money(currency, rate.amount, rate.rate_on)


def money(view: View) -> Money:
    """The same at the end of the window."""
    return money_at(settings(), view.end_ms - 1)
