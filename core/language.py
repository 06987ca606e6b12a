"""The language that people are spoken to in: its words, and how it writes numbers.

English is the source and needs no catalogue; others are ``locales/<language>/LC_MESSAGES/vatio.po``. A region such as
``es_CL`` or ``pt_BR`` decides how numbers and dates are written. ``speak`` sets the language of the running thread,
which ``say``, ``count`` and ``core.units.show`` use; whoever says nothing speaks English.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_decimal_symbol, get_group_symbol, get_minus_sign_symbol, parse_pattern
from babel.support import NullTranslations, Translations

from core.errors import ConfigError

LOCALES = Path(__file__).parents[1] / "locales"
SOURCE = "en"


@dataclass(frozen=True, slots=True)
class Language:
    """Words and numbers of a language."""

    locale: Locale
    translations: NullTranslations
    _signs: dict[int, str] = field(init=False, repr=False, compare=False)
    """What Python's signs in a number are in the language."""

    def __post_init__(self) -> None:
        """Look the signs up once: a page has thousands of numbers."""
        group, decimal = get_group_symbol(self.locale), get_decimal_symbol(self.locale)
        signs = str.maketrans({",": group, ".": decimal, "-": get_minus_sign_symbol(self.locale)})
        object.__setattr__(self, "_signs", signs)

    def say(self, text: str, **parts: str) -> str:
        """A text in the language, with its parts filled in."""
        return self.translations.gettext(text).format(**parts) if text else ""

    def count(self, one: str, many: str, number: int, **parts: str) -> str:
        """A text about so many things; ``{number}`` in it is that number as the language writes it."""
        return self.translations.ngettext(one, many, number).format(number=self.number(number), **parts)

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with so many decimals."""
        if math.isinf(value):
            return str(parse_pattern("#").apply(value, self.locale))
        # As Babel's pattern "#,##0.0" writes it, an eighth of the time: a page has thousands of them.
        return f"{Decimal(str(value)):,.{decimals}f}".translate(self._signs)


def languages() -> tuple[str, ...]:
    """Those that there are words in."""
    return (SOURCE, *sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir()))


def language(name: str) -> Language:
    """A language such as ``es``, or with a region ``es_CL``.

    Raises:
        ConfigError: there is no such language, or no words in it.
    """
    try:
        locale = Locale.parse(name.replace("-", "_"))
    except (ValueError, UnknownLocaleError) as exc:
        raise _no_language(name) from exc
    if locale.language not in languages():
        raise _no_language(name)
    return Language(locale, _catalogue(locale.language))


def _no_language(name: str) -> ConfigError:
    named = ", ".join(languages())
    return ConfigError(f"language {name!r}: expected one of {named}, with a region or without, such as es_CL")


@cache
def _catalogue(name: str) -> NullTranslations:
    """Compiled in memory, so that no compiled file can fall behind its source."""
    if name == SOURCE:
        return NullTranslations()
    with (LOCALES / name / "LC_MESSAGES" / "vatio.po").open("rb") as file:
        compiled = io.BytesIO()
        write_mo(compiled, read_po(file, name))
    compiled.seek(0)
    return Translations(compiled)


_ENGLISH = Language(Locale(SOURCE), NullTranslations())
_SPOKEN: ContextVar[Language] = ContextVar("spoken", default=_ENGLISH)


def speak(spoken_from_now: Language) -> None:
    """Speak a language in this thread from now on."""
    _SPOKEN.set(spoken_from_now)


@contextmanager
def speaking(language_of_block: Language) -> Iterator[None]:
    """Speak a language in this thread for as long as the block lasts."""
    before = _SPOKEN.set(language_of_block)
    try:
        yield
    finally:
        _SPOKEN.reset(before)


def spoken() -> Language:
    """The language of this thread."""
    return _SPOKEN.get()


def _(text: str) -> str:
    """Marks a text for translation; it is translated where it is said."""
    return text


def say(text: str, **parts: str) -> str:
    """A text in the language of this thread."""
    return spoken().say(text, **parts)


def count(one: str, many: str, number: int, **parts: str) -> str:
    """A text about so many things in the language of this thread."""
    return spoken().count(one, many, number, **parts)
