"""The weekly summary as a workbook: numbers that can be computed with, under heads that stay in sight."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from analytics.formulas.unknown import product
from analytics.ledger import LINES
from analytics.weekly import MONEY, Figure, Unit, WeeklySummary, why_unknown
from reports import phrases
from reports.document import document
from reports.figures import one_line, why
from reports.findings import where
from reports.words import Words

_MOST_WIDE = 60
_FORMATS = {
    Unit.TOKENS: "#,##0",
    Unit.REQUESTS: "#,##0",
    Unit.SECONDS: '0.000" s"',
    Unit.GPU_HOURS: '#,##0.0" h"',
    Unit.KWH: '#,##0.0" kWh"',
    Unit.JOULES_PER_TOKEN: '#,##0.00" J"',
    Unit.GRAMS_PER_MILLION_TOKENS: '#,##0" g"',
}
_HOURS, _KWH = _FORMATS[Unit.GPU_HOURS], _FORMATS[Unit.KWH]
_PERCENT = "0.0%"


class _Number(NamedTuple):
    """A number and how the cell shows it; unknown is an empty cell."""

    value: float | None
    shown: str


_Cell = str | _Number


def file(summary: WeeklySummary, words: Words) -> bytes:
    """The content of the file."""
    book = Workbook()
    first = book.active
    if first is not None:
        book.remove(first)
    _told(book.create_sheet(words.say("Week")), summary, words)
    say = words.say
    _sheet(book, say("Figures"), _figure_heads(words), _figures(summary, words))
    waste_heads = [
        say("What was wasted"),
        say("Where"),
        say("Cost in the week"),
        say("Free for other work"),
        say("Label"),
    ]
    _sheet(book, say("Largest wastes"), waste_heads, _wastes(summary, words))
    action_heads = [say("Action"), say("Saving, low"), say("Saving, high"), say("Free for other work"), say("Effort")]
    _sheet(book, say("What could be done"), action_heads, _actions(summary, words))
    model_heads = [say("Model"), say("Cost"), say("kWh"), say("Output tokens"), say("Cost per million output tokens")]
    _sheet(book, say("By model"), model_heads, _models(summary, words))
    lines = [say(phrases.COST_LINES[line]) for line in LINES]
    row_heads = [say("Site"), say("Model"), say("Server"), say("Device-hours"), say("Cost"), *lines, say("Label")]
    _sheet(book, say("Who pays"), row_heads, _rows(summary, words))
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _told(sheet: Worksheet, summary: WeeklySummary, words: Words) -> None:
    said = document(summary, words)
    lines = [said.title, said.subtitle, *said.notices, *said.verdict]
    for section in (*said.first, *said.second):
        lines += ["", section.title, *section.lines] if section.lines else []
    for line in lines:
        _append(sheet, [line])
    sheet.column_dimensions["A"].width = 2 * _MOST_WIDE
    sheet["A1"].font = Font(bold=True)


def _sheet(book: Workbook, title: str, heads: Sequence[str], rows: Iterable[Sequence[_Cell]]) -> None:
    sheet = book.create_sheet(title)
    _append(sheet, heads)
    for row in rows:
        _append(sheet, row)
    for cell in sheet[1]:
        cell.font, cell.alignment = Font(bold=True), Alignment(wrap_text=True, vertical="top")
    for number in range(1, len(heads) + 1):
        letter = get_column_letter(number)
        widest = max(len(str(cell.value or "")) for cell in sheet[letter])
        sheet.column_dimensions[letter].width = min(max(widest + 2, 12), _MOST_WIDE)
    sheet.freeze_panes = "A2"


def _append(sheet: Worksheet, row: Sequence[_Cell]) -> None:
    number = sheet.max_row + 1 if sheet.max_row > 1 or sheet["A1"].value is not None else 1
    for column, given in enumerate(row, 1):
        cell = sheet.cell(number, column)
        if isinstance(given, _Number):
            cell.value, cell.number_format = given.value, given.shown
        else:
            cell.value = given
            cell.data_type = "s"  # text from outside may begin like a formula


def _money(usd: float | None, words: Words) -> _Number:
    return _Number(product(usd, words.per_usd), f'#,##0.00##" {words.currency}"')


def _figure_heads(words: Words) -> list[str]:
    say = words.say
    return [
        say("Figure"),
        say("Value"),
        say("Low"),
        say("High"),
        say("Week before"),
        say("Change"),
        say("Change, %"),
        say("Clear"),
        say("Label"),
        say("Data coverage"),
        say("Remark"),
    ]


def _figures(summary: WeeklySummary, words: Words) -> Iterator[list[_Cell]]:
    for headline in summary.headlines:
        main = headline.figures[0]
        for one in headline.figures:
            label = words.say(phrases.FIGURES[one.key])
            yield [
                label if one is main else f"{words.say(phrases.FIGURES[main.key])}: {label}",
                *(_amount(number, one, words) for number in (one.value, one.low, one.high, one.previous)),
                _points(one) if one.unit is Unit.RATIO else _amount(one.change, one, words),
                _Number(one.change_ratio, _PERCENT),
                "" if one.change is None else words.say("yes") if one.is_clear else words.say("no"),
                words.say(phrases.QUALITIES[one.quality]),
                _Number(one.covered_ratio, _PERCENT),
                "" if one.why is None else why(one.why, words),
            ]


def _amount(number: float | None, of: Figure, words: Words) -> _Number:
    if of.unit in MONEY:
        return _money(number, words)
    return _Number(number, _PERCENT if of.unit is Unit.RATIO else _FORMATS[of.unit])


def _points(of: Figure) -> _Number:
    return _Number(product(of.change, 100.0), '+0.0" pp";-0.0" pp";0.0" pp"')


def _wastes(summary: WeeklySummary, words: Words) -> Iterator[list[_Cell]]:
    for one in summary.wastes:
        reason = why_unknown(one)
        yield [
            f"{words.say(phrases.WASTES[one.kind])}: {one_line(one.what)}",
            where(one, words),
            _money(one.cost_usd, words) if reason is None else why(reason, words),
            _Number(one.freed_gpu_hours, _HOURS),
            words.say(phrases.QUALITIES[one.quality]),
        ]


def _actions(summary: WeeklySummary, words: Words) -> Iterator[list[_Cell]]:
    for one in summary.actions:
        low, high = one.saving_usd
        yield [
            words.say(phrases.ACTIONS[one.waste.kind], what=one_line(one.waste.what)),
            _money(low, words),
            _money(high, words),
            _Number(one.freed_gpu_hours, _HOURS),
            one.effort.size,
        ]


def _models(summary: WeeklySummary, words: Words) -> Iterator[list[_Cell]]:
    for one in summary.models:
        yield [
            one_line(one.model) or words.say("held by nobody"),
            _money(one.usd, words),
            _Number(one.kwh, _KWH),
            _Number(one.output_tokens, _FORMATS[Unit.TOKENS]),
            _money(one.usd_per_million_output_tokens, words),
        ]


def _rows(summary: WeeklySummary, words: Words) -> Iterator[list[_Cell]]:
    for one in summary.rows:
        yield [
            one_line(one.site),
            one_line(one.model) or words.say("held by nobody"),
            one_line(one.server),
            _Number(one.device_hours, _HOURS),
            _money(one.bill.total_usd, words),
            *(_money(getattr(one.bill, line), words) for line in LINES),
            words.say(phrases.QUALITIES[one.bill.quality]),
        ]
