"""Languages: every text that is said anywhere has its translation, and none is left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from babel.numbers import parse_pattern
from hypothesis import given
from hypothesis import strategies as st

from charts.axis import words_of
from core.catalog import FAMILIES
from core.errors import ConfigError
from core.language import LOCALES, SOURCE, count, language, languages, say, speak, spoken
from core.units import PLAIN, UNITS, show, show_money, unit_of

ROOT = Path(__file__).parents[2]
SPEAKING = ("analytics", "charts", "core", "pages", "reports")
TRANSLATED = [name for name in languages() if name != SOURCE]
PARTS = re.compile(r"\{(\w+)\}")


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    before = spoken()
    yield
    speak(before)


def said(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Literal texts of ``say`` and ``_``, and both forms of ``count``."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        number = {"say": 1, "_": 1, "count": 2}.get(name, 0)
        texts = [
            one.value for one in call.args[:number] if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        if number and len(texts) == number and all(texts):
            yield tuple(texts)


def in_the_code() -> set[tuple[str, ...]]:
    """All of them, with words that are made from the names of metrics and units."""
    files = [file for folder in SPEAKING for file in (ROOT / folder).rglob("*.py")]
    literal = {one for file in files for one in said(ast.parse(file.read_text()))}
    metrics = [metric for family in FAMILIES.values() for metric in family.metrics]
    units = {symbol for unit in (*UNITS, PLAIN) for _, symbol in unit.steps}
    made = {*(words_of(metric.name) for metric in metrics), *(metric.help for metric in metrics), *units} - {""}
    return literal | {(text,) for text in made}


def catalogue(name: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    with (LOCALES / name / "LC_MESSAGES" / "vatio.po").open("rb") as file:
        messages = [message for message in read_po(file, name, abort_invalid=True) if message.id]
    return {_all(message.id): _all(message.string) for message in messages}


def _all(text: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def test_there_are_spanish_and_portuguese():
    assert languages() == ("en", "es", "pt")


@pytest.mark.parametrize("name", TRANSLATED)
def test_every_text_is_translated_and_none_is_left_over(name: str):
    there, wanted = catalogue(name), in_the_code()
    assert wanted - set(there) == set()
    assert set(there) - wanted == set()


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_all_forms_and_the_parts_of_its_text(name: str):
    for text, translated in catalogue(name).items():
        assert len(translated) == len(text), text
        assert all(translated), text
        for one in translated:
            assert set(PARTS.findall(one)) <= set(PARTS.findall("".join(text))), text
        assert set(PARTS.findall("".join(translated))) == set(PARTS.findall("".join(text))), text


def test_numbers_are_written_and_counted_as_in_the_language():
    speak(language("es_CL"))
    assert show(1234.5, unit_of("power_watts")) == "1,2 kW"
    assert show_money(1234.5) == "1.234,50 USD"
    assert say("unknown") == "desconocido"
    speak(language("es_MX"))
    assert show_money(1234.5) == "1,234.50 USD"
    speak(language("en"))
    assert count("{number} thing", "{number} things", 1) == "1 thing"
    assert count("{number} thing", "{number} things", 1200) == "1,200 things"


@pytest.mark.parametrize("name", ["xx", "", "de", "../es", "es_XX_YY"])
def test_what_is_no_language_of_ours_is_refused_in_a_line(name: str):
    with pytest.raises(ConfigError, match="expected one of en, es, pt"):
        language(name)


@given(
    st.one_of(st.floats(-1e20, 1e20), st.integers(-(10**9), 10**9).map(lambda n: n / 1000)),
    st.integers(0, 4),
    st.sampled_from(["en", "es", "es_CL", "es_MX", "pt", "pt_BR"]),
)
def test_numbers_are_written_as_babel_writes_them(value: float, decimals: int, name: str):
    pattern = parse_pattern("#,##0" + (f".{'0' * decimals}" if decimals else ""))
    assert language(name).number(value, decimals) == pattern.apply(value, language(name).locale)
