"""What stands on a page, as text and as the numbers that a reader takes from it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

PATIENCE_MS = 90_000
STILL_MS = 1_000
FACTORS = {
    "": 1.0,
    "MXN": 1.0,
    "%": 0.01,
    "ms": 1e-3,
    "s": 1.0,
    "h": 1.0,
    "W": 1.0,
    "kW": 1e3,
    "kWh": 1.0,
    "J": 1.0,
    "MJ": 1e6,
    "°C": 1.0,
    "g": 1.0,
    "kg CO2e": 1e3,
    "MiB": 2.0**20,
    "tokens/s": 1.0,
    "k tokens/s": 1e3,
    "tokens": 1.0,
    "M tokens": 1e6,
    "G tokens": 1e9,
    "M": 1e6,
    "G": 1e9,
    "G prompt tokens": 1e9,
    "M requests": 1e6,
}
"""What one of each unit is in the base unit; kWh stay kWh."""
_NUMBER = re.compile(r"~?(-?[\d,]+(?:\.(\d+))?) ?(.*)")


@dataclass(frozen=True, slots=True)
class Number:
    """A number in its base unit, and half a unit of its last digit."""

    value: float
    tolerance: float


def number(text: str) -> Number:
    """Of a text such as ``18,313.87 MXN``.

    Raises:
        LookupError: it is no number with a known unit.
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None or found[3] not in FACTORS:
        raise LookupError(text)
    factor, decimals = FACTORS[found[3]], len(found[2] or "")
    return Number(float(found[1].replace(",", "")) * factor, 0.5 * 10.0**-decimals * factor)


@dataclass(frozen=True, slots=True)
class Shown:
    """The text of a page, and the files that its tables hand out."""

    text: str
    files: dict[str, list[dict[str, str]]]

    def after(self, label: str, pattern: str) -> str:
        """The first match of a pattern after a line that is a label."""
        _, found, rest = self.text.partition(f"\n{label}\n")
        assert found, f"no {label!r} on the page"
        match = re.search(pattern, rest)
        assert match, f"nothing like {pattern!r} after {label!r}"
        return match[1]


def opened(browser: Browser, address: str, labels: Iterable[str], tables: Iterable[str], folder: Path) -> Shown:
    """Open a page, wait for what is to be read, and take its text and the CSV of some tables."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    try:
        page.goto(address)
        for label in labels:
            page.get_by_text(label, exact=True).first.wait_for()
        files = {}
        for key in tables:
            with page.expect_download() as download:
                page.locator(f".st-key-{key}-csv").get_by_role("button", name="CSV").first.click()
            download.value.save_as(folder / f"{key}.csv")
            files[key] = list(csv.DictReader(io.StringIO((folder / f"{key}.csv").read_text("utf-8"))))
        page.locator("[data-testid=stStatusWidget]").wait_for(state="detached")
        lines = _settled(page).splitlines()
    finally:
        context.close()
    return Shown("\n".join(line.strip() for line in lines if line.strip()), files)


def _settled(page: Page) -> str:
    """The text of the page when it has stood still for a second: a busy machine draws it piece by piece."""
    main, before = page.locator("[data-testid=stMain]"), ""
    for _ in range(PATIENCE_MS // STILL_MS):
        text = main.inner_text()
        if text == before:
            return text
        before = text
        page.wait_for_timeout(STILL_MS)
    return before
