"""The weekly summary as a PDF, set by Typst with the fonts that it brings: no browser, no system library."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import typst

from analytics.weekly import WeeklySummary
from reports.as_json import plain
from reports.document import document
from reports.pictures import pictures
from reports.words import Words

TEMPLATE = Path(__file__).with_name("weekly.typ")
_FONT = "Libertinus Serif"
_INK = "#222222"


def file(summary: WeeklySummary, words: Words) -> bytes:
    """The content of the file."""
    return pages(summary, words, "pdf")[0]


def pages(summary: WeeklySummary, words: Words, kind: Literal["pdf", "png"]) -> list[bytes]:
    """All of it as one PDF, or each page as a PNG.

    Texts reach Typst as data and never as markup, so no name can act on the page.
    """
    drawn = pictures(summary, words, ink=_INK, font=_FONT)
    content = {"said": plain(document(summary, words)), "pictures": plain(drawn)}
    inputs = {"font": _FONT, "language": words.locale.language, "content": json.dumps(content)}
    made = typst.compile(
        TEMPLATE.read_bytes(),
        format=kind,
        ignore_system_fonts=True,  # the same pages on every machine
        sys_inputs=inputs,
        timestamp=datetime.fromtimestamp(summary.span.end_ms / 1000, UTC),
    )
    several = cast("bytes | list[bytes]", made)  # of PNGs a list where there are some, which its stubs do not say
    return several if isinstance(several, list) else [several]
