"""HTML, spreadsheet and PDF: every week in every language, and what no name may do to them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from html import unescape
from html.parser import HTMLParser

import openpyxl
import pytest

from analytics.formulas.change import UnitPriceEffects
from analytics.weekly import Followed, WeeklySummary
from core.language import languages
from reports import as_html, as_pdf, as_xlsx
from reports.document import document
from reports.words import Words, words
from tests.analytics.weeks import settings
from tests.reports.conftest import CASES, NASTY

Summaries = Callable[[str], WeeklySummary]
EVERY = pytest.mark.parametrize(("case", "language"), [(case, one) for case in CASES for one in languages()])
NO_NUMBER = re.compile(r"\b([Nn]a[Nn]|inf|Infinity|None|null|Traceback)\b|∞")
VOID = {"meta", "br"}


def spoken(summary: WeeklySummary, language: str = "en") -> Words:
    return words(language, settings().site.zone, summary.exchange)


def html(summary: WeeklySummary, language: str = "en") -> str:
    return as_html.file(summary, spoken(summary, language)).decode()


def text(page: str) -> str:
    """What people read of a page; of pictures too."""
    return unescape(re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]))


class Balanced(HTMLParser):
    """Collects tags, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


@EVERY
def test_html_stands_alone_and_says_no_odd_number(summaries: Summaries, case: str, language: str):
    page = html(summaries(case), language)
    parsed = Balanced()
    parsed.feed(page)
    assert parsed.open == []
    assert parsed.seen.isdisjoint({"script", "link", "img", "iframe", "b>", "strong"})
    assert not [value for name, value in parsed.attributes if name in ("href", "src") and not value.startswith("#")]
    assert "@import" not in page
    assert not NO_NUMBER.search(text(page))


def test_names_are_text_and_not_markup(summaries: Summaries):
    page = html(summaries("whole"))
    assert NASTY not in page
    assert NASTY in text(page)


@pytest.mark.parametrize(
    ("case", "language", "said"),
    [
        ("whole", "en", "Simulated: nothing in it was measured."),
        ("whole", "en", "hall ended in this week; only its days are counted."),
        ("whole", "es", "Costo por millón de tokens de salida"),
        ("nothing", "en", "What the week cost is not known: no data."),
        ("nothing", "pt", "Nenhum dispositivo foi visto nesta semana."),
        ("half", "en", "totals are lower bounds"),
        ("half", "en", "less than half of the time was seen"),
        ("no prices", "en", "no hardware price: set one (MI300X A on box)"),
        ("no prices", "es", "No se sabe cuánto costó la semana: sin precio de hardware"),
        ("no tokens", "en", "No tokens were served."),
        ("no rate", "en", "No exchange rate for CLP is set, so amounts are in USD."),
        ("no rate", "en", "no exchange rate: set one (CLP, MI300X A on box)"),
        ("pesos", "en", "Amounts in CLP at the rate of 2026-09-01."),
    ],
)
def test_what_is_missing_is_said_in_words(summaries: Summaries, case: str, language: str, said: str):
    assert said in text(html(summaries(case), language))


def test_a_week_without_data_has_no_tile_with_a_number(summaries: Summaries):
    summary = summaries("nothing")
    tiles = document(summary, spoken(summary)).tiles
    assert len(tiles) == 12
    assert not [tile for tile in tiles if tile.is_known or re.search(r"\d", tile.value)]


def test_a_week_that_is_not_over_says_so(summaries: Summaries):
    so_far = replace(summaries("whole"), elapsed_hours=49.0)
    said = document(so_far, spoken(so_far))
    assert said.subtitle.startswith("So far, 49 of 168 hours from Sep 28, 2026, 00:00 (UTC-03:00), America/Santiago")
    assert said.verdict[0] == "So far it cost 343.06 USD."


def test_a_change_says_by_how_much_and_why(summaries: Summaries):
    whole = summaries("whole")
    of = whole.figures["usd_per_million_output_tokens"]
    fell = replace(of, previous=200.0, change=(of.value or 0) - 200, change_ratio=-0.43, is_clear=True)
    headlines = tuple(
        one._replace(figures=(fell, *one.figures[1:])) if one.key == "unit_price" else one for one in whole.headlines
    )
    effects = UnitPriceEffects(hourly_price_usd=1.0, utilization_usd=3.0, throughput_usd=-90.0)
    told = document(replace(whole, headlines=headlines, unit_price_effects=effects), spoken(whole))
    assert any(
        line.endswith("fell 43.0 %, from 200.00 USD to 113.44 USD; most of it is more tokens in a used GPU-hour.")
        for line in told.verdict
    )
    assert [tile.tone for tile in told.tiles if tile.tone] == ["good"]


@EVERY
def test_a_pdf_has_two_pages(summaries: Summaries, case: str, language: str):
    summary = summaries(case)
    assert len(as_pdf.pages(summary, spoken(summary, language), "png")) == 2


def test_a_pdf_of_long_lists_has_two_pages_as_well(summaries: Summaries):
    whole = summaries("whole")
    name = "a-model-with-a-long-name " * 4
    waste = replace(whole.wastes[0], what=name, hosts=(name,) * 9)
    record = replace(whole.record(whole.wastes[0]), what=name, owner=name)
    muted = replace(record, what="standby", muted=name, muted_until=date(2027, 1, 1))
    long = replace(
        whole,
        records=(record, *[muted] * 9),
        followed=(Followed(waste.kind, name, True, 1234.5),) * 3,
        models=tuple(whole.models[0]._replace(model=f"{number} {name}") for number in range(40)),
        sites=tuple((f"{number} {name}", whole.sites[0][1]) for number in range(40)),
        wastes=(waste,) * 5,
        actions=tuple(whole.actions[0] for _ in range(3)),
    )
    assert len(as_pdf.pages(long, spoken(long), "png")) == 2


def test_a_pdf_of_the_same_week_is_the_same(summaries: Summaries):
    summary = summaries("whole")
    first, second = (as_pdf.file(summary, spoken(summary)) for _ in range(2))
    assert first.startswith(b"%PDF")
    assert first == second


def workbook(summary: WeeklySummary, language: str = "en") -> openpyxl.Workbook:
    return openpyxl.load_workbook(io.BytesIO(as_xlsx.file(summary, spoken(summary, language))))


@EVERY
def test_a_workbook_has_heads_that_stay_and_no_formula(summaries: Summaries, case: str, language: str):
    book = workbook(summaries(case), language)
    assert len(book.sheetnames) == 6
    for sheet in book.worksheets[1:]:
        assert sheet.freeze_panes == "A2"
    cells = [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row]
    assert "f" not in {cell.data_type for cell in cells}


def test_a_workbook_has_numbers_to_compute_with(summaries: Summaries):
    summary = summaries("pesos")
    book = workbook(summary)
    total = summary.figures["total_usd"].value
    assert total is not None
    cost, _, _ = (row[1] for row in list(book["Figures"].iter_rows())[1:4])
    assert cost.value == pytest.approx(total * 900)
    assert "CLP" in cost.number_format
    heads = [cell.value for cell in book["Who pays"][1]]
    paid = [row[heads.index("Cost")].value for row in list(book["Who pays"].iter_rows())[1:]]
    assert sum(paid) == pytest.approx(total * 900)


def test_what_is_unknown_is_an_empty_cell_with_a_remark(summaries: Summaries):
    first = list(workbook(summaries("no prices"))["Figures"].iter_rows(values_only=True))[1]
    assert first[0] == "Total cost"
    assert first[1] is None
    assert "no hardware price" in str(first[-1])
