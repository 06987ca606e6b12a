"""Texts that are made early and said late: in the language of who reads them, numbers too."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.language import _, language, speak
from core.texts import significant, text


@pytest.fixture
def spanish() -> Iterator[None]:
    speak(language("es_CL"))
    yield
    speak(language("en"))


def test_a_text_is_said_when_it_is_read_and_so_are_its_parts(spanish: None):
    made = text(
        _("{begins} to {ends}, {hours} hours, {zone}"), begins=text(_("hardware")), ends="b", hours=1234.5, zone="c"
    )
    assert str(made) == "hardware a b, 1.234,5 horas, c"
    speak(language("en"))
    assert str(made) == "hardware to b, 1,234.5 hours, c"


def test_texts_with_the_same_words_and_parts_are_one():
    first, again = (text(_("{hours} h"), hours=2) for _turn in range(2))
    assert first == again == pickle.loads(pickle.dumps(first))
    assert len({first, again}) == 1


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(0.36, 6, "0.36"), (2.0, 6, "2"), (1234567.8, 6, "1,234,570"), (0.000123456, 3, "0.000123"), (0.0, 6, "0")],
)
def test_a_number_has_up_to_so_many_significant_digits(value: float, digits: int, said: str):
    assert significant(value, digits) == said


@given(st.floats(-1e12, 1e12), st.integers(1, 9))
def test_rounding_takes_no_more_than_half_of_the_last_digit(value: float, digits: int):
    assert math.isclose(float(significant(value, digits).replace(",", "")), value, rel_tol=0.51 * 10 ** (1 - digits))
