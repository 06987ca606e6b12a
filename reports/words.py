"""Words, numbers, amounts and dates of the weekly summary: what turns keys and numbers into what people read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import get_currency_precision

from analytics.formulas.local_time import local
from analytics.weekly import Exchange
from core.language import Language, language

_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Words(Language):
    """A language, the zone that times are told in, and the currency that amounts are."""

    zone: ZoneInfo
    currency: str = "USD"
    per_usd: float = 1.0

    @classmethod
    def of(cls, spoken: Language, zone: ZoneInfo, exchange: Exchange | None) -> Self:
        """A language with the zone that times are told in and the currency of amounts; USD where there is no rate."""
        known = cls(spoken.locale, spoken.translations, zone)
        if exchange is None or exchange.per_usd is None:
            return known
        return replace(known, currency=exchange.currency, per_usd=exchange.per_usd)

    def significant(self, value: float) -> str:
        """A number with three significant digits."""
        size = abs(value)
        return self.number(value, 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 or not size else 3)

    def scaled(self, value: float) -> str:
        """A count with three significant digits: ``3.02 M``."""
        factor, symbol = next(((f, s) for f, s in _SCALES if abs(value) >= f), (1.0, ""))
        return f"{self.significant(value / factor)} {symbol}".rstrip() if symbol else self.number(value)

    def money(self, usd: float) -> str:
        """An amount in the currency of the reader, with four decimals below one."""
        amount = self._amount(usd)
        decimals = 4 if 0 < abs(amount) < 1 else get_currency_precision(self.currency)
        return f"{self.number(amount, decimals)} {self.currency}"

    def moved(self, usd: float) -> str:
        """A difference of amounts, with its sign."""
        return f"{'+' if self._amount(usd) > 0 else ''}{self.money(usd)}"

    def _amount(self, usd: float) -> float:
        return round(usd * self.per_usd, 4) or 0.0  # there is no minus zero

    def percent(self, ratio: float) -> str:
        """A share with one decimal."""
        return f"{self.number(ratio * 100, 1)} %"

    def date(self, at_ms: int) -> str:
        """The day of an instant."""
        return format_date(local(at_ms, self.zone).date(), "medium", self.locale)

    def weekday(self, at_ms: int) -> str:
        """Its short name and the day of the month."""
        return format_date(local(at_ms, self.zone).date(), "EEE d", self.locale)

    def time(self, at_ms: int) -> str:
        """Day and time of an instant with the offset from UTC."""
        at = local(at_ms, self.zone)
        return f"{self.date(at_ms)}, {at:%H:%M} (UTC{at.isoformat()[-6:]})"


def words(name: str, zone: ZoneInfo, exchange: Exchange | None = None) -> Words:
    """The words of a language such as ``es`` or ``es_CL``; see ``Words.of``.

    Raises:
        ConfigError: there is no such language, or no words in it.
    """
    return Words.of(language(name), zone, exchange)
