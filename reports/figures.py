"""Figures of the weekly summary as people read them, and text from outside made safe to stand beside them."""

from __future__ import annotations

import re
from typing import NamedTuple

from analytics.formulas.energy import Quality
from analytics.weekly import Figure, Headline, Unit, Why
from reports import phrases
from reports.words import Words

MOST_TEXT = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069]+")


class Tile(NamedTuple):
    """A headline: what it is called, its value or why there is none, the change, and what stands small below.

    tone: "good" or "bad" where a clear change is one of them.
    """

    label: str
    value: str
    change: str
    notes: tuple[str, ...]
    tone: str
    is_known: bool


def one_line(text: str, limit: int = MOST_TEXT) -> str:
    """Text from outside on one line of bounded length."""
    line = _CONTROL.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def value(figure: Figure, words: Words) -> str:
    """A figure as people read it: a number, a range, or why there is none."""
    low, high = (None if end is None else amount(end, figure.unit, words) for end in (figure.low, figure.high))
    if low is not None and high is not None and low != high:
        return words.say("{low} to {high}", low=low, high=high)
    if figure.value is not None:
        mark = "~" if figure.quality is Quality.ESTIMATED else ""
        return mark + amount(figure.value, figure.unit, words)
    return low or ("" if figure.why is None else why(figure.why, words))


def amount(number: float, unit: Unit, words: Words) -> str:
    """A number with its unit."""
    match unit:
        case Unit.USD | Unit.USD_PER_MILLION_TOKENS:
            return words.money(number)
        case Unit.TOKENS | Unit.REQUESTS:
            return words.scaled(number)
        case Unit.RATIO:
            return words.percent(number)
        case Unit.SECONDS:
            return f"{words.significant(number)} s" if number >= 1 else f"{words.number(number * 1000)} ms"
        case Unit.GPU_HOURS:
            return f"{words.number(number)} h"
        case Unit.KWH:
            return f"{words.significant(number)} kWh"
        case Unit.JOULES_PER_TOKEN:
            return f"{words.significant(number)} J"
        case Unit.GRAMS_PER_MILLION_TOKENS:
            return f"{words.significant(number)} g"


def why(of: Why, words: Words) -> str:
    """A reason, and what it is about."""
    about = ", ".join(one_line(part) for part in (of.currency, of.about) if part)
    said = words.say(phrases.REASONS[of.reason])
    return f"{said} ({about})" if about else said


def change(figure: Figure, words: Words) -> str:
    """A change against the week before; empty where there is none to tell."""
    if figure.change is None:
        return ""
    if figure.unit is Unit.RATIO:
        moved = words.say("{points} pp", points=_signed(figure.change * 100, words))
    elif figure.change_ratio is None:
        moved = amount(figure.change, figure.unit, words)
    else:
        moved = f"{_signed(figure.change_ratio * 100, words)} %"
    return moved if figure.is_clear else words.say("no clear change ({moved})", moved=moved)


def _signed(number: float, words: Words) -> str:
    shown = round(number, 1) or 0.0  # there is no minus zero, and no plus zero either
    return f"{'+' if shown > 0 else ''}{words.number(shown, 1)}"


def tile(headline: Headline, words: Words) -> Tile:
    """A headline as it stands on the first page."""
    main, *rest = headline.figures
    moved = main.change or 0.0
    tone = ""
    if main.is_clear and main.better:
        tone = "good" if (moved > 0) == (main.better == "up") else "bad"
    notes = [f"{value(one, words)} {words.say(phrases.FIGURES[one.key])}" for one in rest if _is_known(one)]
    unknown = [one for one in rest if not _is_known(one) and one.why != main.why]  # nobody needs it twice
    notes += [f"{words.say(phrases.FIGURES[one.key])}: {value(one, words)}" for one in unknown]
    if _is_known(main):
        notes += [why(main.why, words)] if main.why is not None else []
        notes.append(words.say(phrases.QUALITIES[main.quality]))
    return Tile(
        label=words.say(phrases.FIGURES[main.key]),
        value=value(main, words),
        change=change(main, words),
        notes=tuple(dict.fromkeys(notes)),
        tone=tone,
        is_known=_is_known(main),
    )


def _is_known(figure: Figure) -> bool:
    return figure.value is not None or figure.low is not None
