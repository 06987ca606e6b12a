"""What sections of the settings are made of: their base, and the kinds of values that several of them have."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """Base of every section: frozen, and no unknown key at any depth."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def like(pattern: str, words: str) -> AfterValidator:
    """Text of a certain form; the refusal says the form in words and does not repeat the text."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {words}")
        return text

    return AfterValidator(check)


def _number(value: object) -> object:
    """``"10s"`` or ``true`` in a number's place is a slip worth naming; ``"10"`` is how the environment says 10."""
    if isinstance(value, bool) or (isinstance(value, str) and not _is_number(value)):
        raise ValueError("expected a plain number in the unit that the key names")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _day(value: object) -> date:
    """A date, or its text in JSON. Pydantic alone would also read a number, as seconds since 1970."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as exc:
        raise ValueError("expected a date such as 2026-07-01") from exc


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Ratio = Annotated[Number, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Day = Annotated[date, BeforeValidator(_day)]
Currency = Annotated[str, like(r"[A-Z]{3}", "a currency code of ISO 4217 such as USD")]
VariableName = Annotated[
    str, like(r"[A-Z][A-Z0-9_]*", "the NAME of an environment variable such as OPENAI_API_KEY, not the key itself")
]
