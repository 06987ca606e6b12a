"""Nothing on a page is left in English: in a language that brackets what is said, no word stands outside brackets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel import Locale
from babel.support import NullTranslations
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ButtonGroup, Selectbox

from core.hardware.planning import models
from core.language import Language
from pages.shared import language
from tests.pages.conftest import Open

PAGES = (
    *("fleet/overview", "fleet/accelerators", "fleet/device", "fleet/hosts", "serving/latency", "serving/compare"),
    *("energy/power", "cost/tokens", "cost/commitments", "cost/capacity", "summary/weekly", "ops/health"),
)
NAMES = re.compile(
    r"node-1|energy of socket 1 cannot be read|\bcpu\b|"
    r"socket \d|GPU-1111-2222|AMD-3333-4444|llama|vLLM|NVIDIA|AMD|Instinct|H100|MI300X|EPYC|HBM3|CSV|PNG|SVG|http\S*|"
    r"(?m:^\[+[\w.]+\]+$|^\w+ = [^#\n]*)|"  # of the settings
    r":material/\w+:|:\w+\[|`[^`]*`|America/Santiago|UTC|TTFT|TPOT|ITL|E2E|\bp\d\d\b|"
    rf"{'|'.join(re.escape(one.model) for one in models())}|\b(mxfp4|int4|int8)\b|"
    r"\b(kWh|Wh|kW|MW|GiB|MiB|TiB|KiB|GHz|MHz|tokens|req|min|ms|USD|CO2e|PUE|SLO|KV|PCIe|XGMI|NVLink|ECC|CPU|GPU)\b"
)
"""What is the same in every language: names of things in the test's database, units, terms of the field."""
WORD = re.compile(r"[A-Za-zÀ-ÿ]{3,}")
SAID = re.compile(r"⟦[^⟦⟧]*⟧")


class Brackets(NullTranslations):
    """Says everything in English, in brackets."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧" if message else ""

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        return self.gettext(singular if number == 1 else plural)


@pytest.fixture(autouse=True)
def _bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "language", lambda _: Language(Locale("en"), Brackets()))


def texts(test: AppTest) -> Iterator[str]:
    """Every text that Streamlit was asked to show, charts and titles of columns included."""
    for one in test.main:
        yield from _of(one)
    for one in test.sidebar:
        yield from _of(one)


def _of(one: object) -> Iterator[str]:
    proto = getattr(one, "proto", None)
    if isinstance(one, ButtonGroup | Selectbox):  # what it shows are its options; its value is only kept
        yield from (one.label, one.help, *one.options)
        return
    for name in ("label", "body", "help", "value", "placeholder", "icon", "caption"):
        text = getattr(proto, name, None) or getattr(one, name, None)
        if isinstance(text, str) and name != "icon":
            yield text
    columns = getattr(proto, "columns", "")
    if isinstance(columns, str) and columns.startswith("{"):
        labelled = (each for each in json.loads(columns).values() if isinstance(each, dict) and each.get("label"))
        yield from (str(each["label"]) for each in labelled)
    spec = getattr(getattr(proto, "vega_lite_chart", proto), "spec", "")
    if isinstance(spec, str) and spec.startswith("{"):
        yield from _titles(json.loads(spec))


def _titles(spec: object) -> Iterator[str]:
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key == "title" and isinstance(value, str):
                yield value
            else:
                yield from _titles(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _titles(value)


def left_in_english(test: AppTest) -> set[str]:
    found = set()
    for text in texts(test):
        rest = text
        while SAID.search(rest):  # one text may be a part of another
            rest = SAID.sub(" ", rest)
        if WORD.search(NAMES.sub(" ", rest)):
            found.add(text)
    return found


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", ["empty", "full", "stale"])
def test_no_word_is_left_in_english(request: pytest.FixtureRequest, open_page: Open, page: str, state: str):
    database: Path = request.getfixturevalue(state)
    assert database.exists()
    test = open_page(page)
    assert not test.exception
    assert left_in_english(test) == set()
