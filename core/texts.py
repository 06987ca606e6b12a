"""Texts that are made before anybody's language is known, such as in an answer that all visitors share."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from core.language import say, spoken

Part: TypeAlias = "str | float | Text"


@dataclass(frozen=True, slots=True)
class Text:
    """A text marked for translation and its parts; ``str`` says it in the language of the thread.

    A part that is such a text is said as well, a whole number is written in full, any other as ``significant`` does.
    """

    marked: str
    parts: tuple[tuple[str, Part], ...] = ()

    def __str__(self) -> str:
        """The text in the language of the thread."""
        return say(self.marked, **{name: _written(part) for name, part in self.parts})


def text(marked: str, **parts: Part) -> Text:
    """A text to be said where it is read."""
    return Text(marked, tuple(parts.items()))


def significant(value: float, digits: int = 6) -> str:
    """A number with up to so many significant digits, as the language of the thread writes it."""
    rounded = Decimal(f"{value:.{digits}g}").normalize()
    return spoken().number(float(rounded), max(-int(rounded.as_tuple().exponent), 0))


def _written(part: Part) -> str:
    if isinstance(part, int):
        return spoken().number(part)
    return significant(part) if isinstance(part, float) else str(part)
