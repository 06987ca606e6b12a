"""Words, numbers, amounts and dates of a language: what turns keys and numbers into what people read.

Catalogues are ``locales/<language>/LC_MESSAGES/vatio.po``; English is the source and needs none. A region such as
``es_CL`` or ``pt_BR`` decides how numbers and dates are written.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, get_currency_precision
from babel.support import NullTranslations, Translations

from analytics.formulas.local_time import local
from analytics.weekly import Exchange
from core.errors import ConfigError

LOCALES = Path(__file__).parents[1] / "locales"
SOURCE = "en"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def languages() -> tuple[str, ...]:
    """Those that there are words in."""
    return (SOURCE, *sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir()))


@dataclass(frozen=True, slots=True)
class Words:
    """A language, the zone that times are told in, and the currency that amounts are."""

    locale: Locale
    translations: NullTranslations
    zone: ZoneInfo
    currency: str = "USD"
    per_usd: float = 1.0

    def say(self, text: str, **parts: str) -> str:
        """A text in the language, with its parts filled in."""
        return self.translations.gettext(text).format(**parts) if text else ""

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with so many decimals."""
        pattern = "#,##0" + (f".{'0' * decimals}" if decimals else "")
        return format_decimal(value, pattern, self.locale)

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
        amount = round(usd * self.per_usd, 4) or 0.0  # there is no minus zero
        decimals = 4 if 0 < abs(amount) < 1 else get_currency_precision(self.currency)
        return f"{self.number(amount, decimals)} {self.currency}"

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


def words(language: str, zone: ZoneInfo, exchange: Exchange | None = None) -> Words:
    """The words of a language.

    Args:
        language: ``es``, or with a region ``es_CL``.
        zone: that times are told in.
        exchange: the currency of amounts; USD where there is no rate.

    Raises:
        ConfigError: there is no such language, or no words in it.
    """
    try:
        locale = Locale.parse(language.replace("-", "_"))
    except (ValueError, UnknownLocaleError) as exc:
        raise _no_language(language) from exc
    if locale.language not in languages():
        raise _no_language(language)
    known = Words(locale, _catalogue(locale.language), zone)
    if exchange is None or exchange.per_usd is None:
        return known
    return Words(locale, known.translations, zone, exchange.currency, exchange.per_usd)


def _no_language(language: str) -> ConfigError:
    named = ", ".join(languages())
    return ConfigError(f"--language {language!r}: expected one of {named}, with a region or without, such as es_CL")


@cache
def _catalogue(language: str) -> NullTranslations:
    """Compiled in memory, so that no compiled file can fall behind its source."""
    if language == SOURCE:
        return NullTranslations()
    with (LOCALES / language / "LC_MESSAGES" / "vatio.po").open("rb") as file:
        compiled = io.BytesIO()
        write_mo(compiled, read_po(file, language))
    compiled.seek(0)
    return Translations(compiled)
