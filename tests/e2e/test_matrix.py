"""Every page as people see it: whatever the store holds, in each language, light and dark, wide and narrow.

And what can be done with the demo's pages: links, files.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.sync_api import Browser

from collectors.past import lay_down, missing
from collectors.sources.simulated.source import SimulatedSource
from core.language import Language, language
from core.settings import StorageSettings
from storage import queries
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.session import writing
from storage.upkeep import Upkeep
from tests.e2e.daemon import ROOT, running, settings_file, until
from tests.e2e.dashboard import CHROMIUM, PAGES, Visit, chromium, serving, visit
from tests.pages import databases

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)"),
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("network"),  # as the other tests with Chromium
]
STEP_MS = 10_000

NOT_OURS = (  # rule of axe, where, why it stays
    ("list", "[data-testid=stSidebarNavItems]", "Streamlit groups pages by <div> between <ul> and <li>"),
    ("listitem", "[data-testid=stSidebarNavItems]", "the same"),
    ("svg-img-alt", ".role-mark:empty", "Vega names marks by what they show; these show nothing"),
    (
        "color-contrast",
        ":is(.stSelectbox, .stCheckbox, .stNumberInput):has(input:disabled)",
        "WCAG 1.4.3 leaves out what is switched off",
    ),
)
AXE = """known => axe.run(document, {resultTypes: ['violations'], elementRef: true}).then(found => found.violations
    .filter(one => ['serious', 'critical'].includes(one.impact))
    .flatMap(one => one.nodes
        .filter(node => !known.some(([rule, where]) => rule == one.id && node.element.closest(where)))
        .map(node => `${one.id}: ${node.element.innerText || node.html} (${node.any[0]?.message})`)))"""
CUT = """() => [...document.querySelectorAll('[data-testid=stMain] :not(canvas *)')]
    .filter(one => one.clientWidth && one.scrollWidth > one.clientWidth + 1 && one.innerText?.trim()
        && ['hidden', 'clip'].includes(getComputedStyle(one).overflowX))
    .map(one => one.innerText)"""
BRIGHTNESS = "getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/[0-9]+/g)[0]"


def _nothing(path: Path) -> None:
    """No database at all: the daemon was never started."""


def _empty(path: Path) -> None:
    engine = writer_engine(path)
    upgrade(engine)
    engine.dispose()


def _stale(path: Path) -> None:
    databases.write(path, int(time.time() * 1000) - 600_000)


STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (_nothing, "en"),
    "empty": (_empty, "es"),
    "stale": (_stale, "pt"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``make demo``, with two weeks behind it in place of eight."""
    folder = tmp_path_factory.mktemp("demo")
    config, path = folder / "demo.toml", folder / "demo.db"
    written = (ROOT / "demo.toml").read_text().replace("var/demo-fleet.db", str(path))
    config.write_text(f"{written}\n[metrics]\nenabled = false\n")
    end_ms = int(time.time() * 1000) // STEP_MS * STEP_MS
    with writing(path, host="simulated") as writer:
        source, reader = SimulatedSource(), reader_engine(path)
        for stretch in missing(None, end_ms, STEP_MS, weeks=2):
            lay_down(writer, source, stretch)
        Upkeep(reader, writer, StorageSettings()).account(end_ms)
        reader.dispose()
    subprocess.run([sys.executable, "-m", "reports", "due", "--config", str(config)], cwd=ROOT, check=True)
    with running(config), serving(config) as url:
        reader = reader_engine(path)
        assert until(lambda: (queries.newest_sample_at_ms(reader) or 0) > end_ms + STEP_MS, 90), "it does not tick live"
        reader.dispose()
        yield url


def faults(seen: Visit, spoken: Language, heading: str, *, audited: bool) -> Iterator[str]:
    """What is wrong with a page that was opened light and wide, and then gets less wide, dark, and narrow."""
    page = seen.page
    said = page.locator("body").inner_text()  # Streamlit's own words, and the document's language, stay English
    yield from (f"not said: {text}" for text in (heading, "Overview") if spoken.say(text) not in said)
    if audited:
        page.evaluate(AXE_SCRIPT)
        yield from (f"light: {found}" for found in page.evaluate(AXE, NOT_OURS))
    yield from (f"wide: {text!r} is cut" for text in page.evaluate(CUT))
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_timeout(300)
    yield from (f"on a small laptop: {text!r} is cut" for text in page.evaluate(CUT))
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{BRIGHTNESS} < 128")
    page.wait_for_timeout(300)
    if audited:
        yield from (f"dark: {found}" for found in page.evaluate(AXE, NOT_OURS))
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    yield from (f"narrow: {text!r} is cut" for text in page.evaluate(CUT))
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        yield "narrow: wider than the screen"
    if page.locator("[data-testid=stException]").count():
        yield "an exception"
    yield from seen.complaints


def faults_of_every_page(browser: Browser, url: str, name: str, *, audited: bool = True) -> str:
    found, spoken = [], language(name)
    for page, heading in PAGES.items():
        with visit(browser, f"{url}/{page}?language={name}&live=false") as seen:  # what is drawn anew is grey meanwhile
            found += [f"/{page}: {fault}" for fault in faults(seen, spoken, heading, audited=audited)]
    return "\n".join(found)


@pytest.mark.parametrize("name", ["en", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("es", "pt"))])
def test_no_page_of_the_demo_has_a_fault(name: str, browser: Browser, demo: str):
    assert faults_of_every_page(browser, demo, name, audited=name == "en") == ""


@pytest.mark.parametrize("state", list(STATES))
def test_no_page_has_a_fault_where_there_is_nothing_to_show(state: str, browser: Browser, tmp_path: Path):
    config = settings_file(tmp_path, interval_seconds=10)
    write, name = STATES[state]
    write(tmp_path / "vatio.db")
    with serving(config) as url:
        assert faults_of_every_page(browser, url, name) == ""
    assert "Traceback" not in (tmp_path / "web.log").read_text()


def choose(seen: Visit, key: str, option: str | None) -> None:
    """Pick from a list that opens; ``None``: the last."""
    box = seen.page.locator(f".st-key-{key}").get_by_role("combobox")
    box.scroll_into_view_if_needed()
    seen.page.wait_for_timeout(500)  # a list that opens while the page scrolls closes again
    box.click()
    seen.page.get_by_role("option", name=option, exact=True).last.click()
    seen.page.wait_for_url(f"**{key}=*")


def chosen(seen: Visit) -> list[str]:
    """What all lists stand at."""
    return [one.input_value() for one in seen.page.get_by_role("combobox").all()]


def test_a_link_opens_the_same_view_in_another_browser(browser: Browser, demo: str):
    """Language, range, filter and week, chosen by hand; none of them is a default."""
    with visit(browser, demo) as seen:
        page = seen.page
        choose(seen, "language", "es")
        page.get_by_role("heading", level=1, name="Resumen", exact=True).wait_for()
        choose(seen, "host", "simulated-mx-h100-1")
        page.locator(".st-key-range").get_by_text("6h").click()
        page.get_by_text("últimas 6 horas").first.wait_for()
        page.get_by_role("link", name="Semana", exact=True).click()
        choose(seen, "week", None)
        seen.settle()
        link, shown = page.url, chosen(seen)
    assert re.fullmatch(r".*/weekly\?host=simulated-mx-h100-1&language=es&range=6h&week=2\d{3}-W\d\d", link)
    with visit(browser, link) as again:
        assert chosen(again) == shown
        assert again.page.get_by_role("heading", level=4, name=link[-8:]).is_visible()
        again.page.get_by_role("link", name="Potencia", exact=True).click()
        again.page.get_by_text("últimas 6 horas").first.wait_for()
        assert chosen(again)[:6] == shown[:6]
        assert seen.complaints == again.complaints == []


def downloaded(seen: Visit, name: str) -> bytes:
    """What a button hands over."""
    with seen.page.expect_download(timeout=60_000) as file:
        seen.page.locator("[data-testid=stDownloadButton]").get_by_role("button", name=name).first.click()
    return Path(file.value.path()).read_bytes()


def test_files_are_what_their_buttons_say(browser: Browser, demo: str):
    with visit(browser, f"{demo}/accelerators") as seen:
        head, *rows = downloaded(seen, "CSV").decode().splitlines()
        assert {"name", "utilization_ratio", "power_watts", "host"} < set(head.split(","))
        assert len(rows) == 34
    with visit(browser, f"{demo}/weekly") as seen:
        assert downloaded(seen, "PDF").startswith(b"%PDF-")
        assert downloaded(seen, "XLSX").startswith(b"PK\x03\x04")
        assert seen.complaints == []
