from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.daemon import running, settings_file, until
from tests.e2e.dashboard import CHROMIUM, PAGES, chromium, free_port, serving, visit
from tests.fixtures.metrics_server import MetricsServer
from tests.pages import databases
from tests.pages.additions import add, attacked, scraped

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("network"),  # Chromium gives up what it loads when interfaces come and go
]
PAGE = (Path(__file__).parents[1] / "fixtures/serving/vllm-current-two-models.prom").read_text()


WRITTEN = """
window.written = [];
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
  if (this.canvas.closest?.("[data-testid=stVegaLiteChart]")) written.push(String(text));
  return write.call(this, text, ...at);
};
"""
"""Keeps what charts write on their canvases."""

NEVER_IDLE = "window.rest = []; window.requestIdleCallback = one => rest.push(one);"
DRAWN = "charts => charts.map(chart => Boolean(chart.querySelector('canvas')))"


def _full(path: Path) -> None:
    databases.write(path, int(time.time() * 1000))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_those_with_a_browser_share_one_worker(request: pytest.FixtureRequest):
    if not hasattr(request.config, "workerinput"):
        pytest.skip("there are no workers")
    assert request.node.nodeid.endswith("@network")


def test_a_pasted_link_opens_the_same_view_on_a_cold_server(browser: Browser, tmp_path: Path):
    config = settings_file(tmp_path, interval_seconds=10)
    _full(tmp_path / "vatio.db")
    with serving(config) as url:
        with visit(browser, f"{url}/hosts") as seen:
            seen.page.get_by_role("radio", name=re.compile("6 ?h")).or_(
                seen.page.get_by_role("button", name=re.compile("^6 ?h$"))
            ).first.click()
            seen.settle()
            link = seen.page.url
            title = seen.page.get_by_role("heading", level=1).first.inner_text()
        assert "6h" in link
    with serving(config) as url, visit(browser, url + link[link.index("/hosts") :]) as again:
        assert again.page.get_by_role("heading", level=1).first.inner_text() == title
        assert "6h" in again.page.url
        assert again.complaints == []


def test_charts_write_numbers_and_weekdays_in_the_visitors_language(browser: Browser, tmp_path: Path):
    config = settings_file(tmp_path, interval_seconds=10)
    databases.write(tmp_path / "vatio.db", int(time.time() * 1000), minutes=120)  # a step of an hour is over
    with serving(config) as url, visit(browser, f"{url}/hosts?language=es&range=7d", script=WRITTEN) as seen:
        seen.page.locator("[data-testid=stVegaLiteChart] canvas").last.wait_for()
        seen.page.wait_for_function("written.length > 20")
        labels = "\n".join(seen.page.evaluate("written"))
        assert re.search(r"^(lun|mar|mié|jue|vie|sáb|dom) \d+$", labels, re.MULTILINE), labels
        assert re.search(r"^\d+,\d$", labels, re.MULTILINE), labels
        assert not re.search(r"^\d+\.\d$", labels, re.MULTILINE), labels
        assert seen.complaints == []


def test_charts_in_the_window_are_drawn_before_those_below_it(browser: Browser, tmp_path: Path):
    config = settings_file(tmp_path, interval_seconds=10)
    _full(tmp_path / "vatio.db")
    with serving(config) as url, contextlib.closing(browser.new_page(viewport={"width": 1440, "height": 1000})) as page:
        page.add_init_script(NEVER_IDLE)
        page.goto(f"{url}/device?live=false")
        charts = page.locator("[data-testid=stVegaLiteChart]")
        charts.first.locator("canvas").wait_for(timeout=60_000)
        page.locator("[data-test-script-state=notRunning]").wait_for(timeout=60_000)
        page.wait_for_timeout(1000)
        first, *_, last = charts.evaluate_all(DRAWN)
        assert (first, last) == (True, False)
        charts.last.scroll_into_view_if_needed()
        charts.last.locator("canvas").wait_for()
        before = charts.evaluate_all(DRAWN)
        assert not all(before)  # those that were passed by
        page.evaluate("requestIdleCallback = setTimeout; rest.forEach(one => one())")
        for number in range(len(before)):
            charts.nth(number).locator("canvas").wait_for()


def test_a_browser_that_cannot_tell_when_it_is_idle_draws_all_charts(browser: Browser, tmp_path: Path):
    config = settings_file(tmp_path, interval_seconds=10)
    _full(tmp_path / "vatio.db")
    unable = "window.requestIdleCallback = undefined;"
    with serving(config) as url, visit(browser, f"{url}/device?live=false", script=unable) as seen:
        assert all(seen.page.locator("[data-testid=stVegaLiteChart]").evaluate_all(DRAWN))
        assert seen.complaints == []


def test_hostile_names_make_no_element_and_run_nothing(browser: Browser, tmp_path: Path):
    """Charts and tables are drawn by JavaScript, so only a browser can tell."""
    config = settings_file(tmp_path, interval_seconds=10)
    _full(tmp_path / "vatio.db")
    with ThreadPoolExecutor(1) as another:  # Playwright's loop runs in this one
        found = another.submit(scraped).result()
    add(tmp_path / "vatio.db", *attacked(int(time.time() * 1000) - 20_000), *found)
    with serving(config) as url:
        for page in ("latency", "compare", "health", ""):
            with visit(browser, f"{url}/{page}") as seen:
                opened: list[str] = []
                asked: list[str] = []
                seen.page.on("dialog", lambda dialog, opened=opened: (opened.append(dialog.message), dialog.dismiss()))
                seen.page.on("request", lambda request, asked=asked: asked.append(request.url))
                seen.page.reload()
                seen.settle()
                for chart in seen.page.locator("[data-testid=stVegaLiteChart]").all()[:3]:
                    chart.hover()  # tooltips are HTML
                    seen.page.wait_for_timeout(200)
                assert opened == [], page
                assert seen.page.locator("[data-testid=stException]").count() == 0, page
                for made in (
                    "img[src='x']",
                    "a[href^='javascript']",
                    "[data-testid=stMain] script",
                    "img[src*='p.png']",
                ):
                    assert seen.page.locator(made).count() == 0, (page, made)
                assert not [address for address in asked if "p.png" in address], page
                assert seen.page.locator("h1").count() == 1, page
                assert seen.complaints == [], page


def test_no_page_file_opens_without_the_frame(browser: Browser, tmp_path: Path):
    """A page directly in pages/ would be served by a cold server without app.py, sign-in included."""
    config = settings_file(tmp_path, interval_seconds=10)
    with serving(config) as url, visit(browser, f"{url}/health") as seen:
        assert seen.page.get_by_text("Accelerators", exact=True).first.is_visible(), "the navigation is there"


KEPT_SECRET = {"node-1", "llama", "Accelerators", "USD", "Overview"}
SECRETS = """
[auth]
redirect_uri = "http://127.0.0.1:8501/oauth2callback"
cookie_secret = "a secret of this test alone"
client_id = "vatio"
client_secret = "none"
server_metadata_url = "http://127.0.0.1:9/.well-known/openid-configuration"
"""


def test_who_has_not_signed_in_sees_nothing_not_even_on_a_cold_server(browser: Browser, tmp_path: Path):
    config = settings_file(tmp_path, interval_seconds=10)
    _full(tmp_path / "vatio.db")
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(SECRETS)
    for asked in (("tokens", *PAGES), ("health",)):  # the first is what a new server is asked for
        with serving(config, secrets) as url:
            for page in asked:
                with visit(browser, f"{url}/{page}") as seen:
                    shown = seen.page.locator("body").inner_text()
                    assert "Sign in" in shown, page
                    assert not KEPT_SECRET & set(re.findall(r"[\w-]+", shown)), page
    with serving(config, secrets) as url:
        context = browser.new_context()
        for nested in ("fleet/overview", "pages/cost/tokens"):  # as the files lie
            opened = context.new_page()
            opened.goto(f"{url}/{nested}")
            opened.wait_for_timeout(3_000)
            assert not KEPT_SECRET & set(re.findall(r"[\w-]+", opened.locator("body").inner_text())), nested
        context.close()


def test_an_open_page_recovers_from_a_restart_by_itself(browser: Browser, tmp_path: Path):
    """What is written meanwhile stands there afterwards, and nobody has clicked."""
    config, port = settings_file(tmp_path, interval_seconds=10), free_port()
    with contextlib.ExitStack() as stopped:
        url = stopped.enter_context(serving(config, port=port))
        with visit(browser, f"{url}/hosts?range=15m") as seen:
            assert seen.page.get_by_text("Nothing has been measured yet").is_visible()
            stopped.close()
            _full(tmp_path / "vatio.db")
            with serving(config, port=port):
                seen.page.get_by_text("last sample").first.wait_for(timeout=30_000)
                assert seen.page.url == f"{url}/hosts?range=15m"
                assert seen.page.locator("[data-testid=stException]").count() == 0


def test_this_machine_and_a_server_that_appears_are_seen_live(browser: Browser, tmp_path: Path):
    with MetricsServer(PAGE) as server:
        server.stop()
        config = settings_file(tmp_path, interval_seconds=1, ports=(server.port,))
        with running(config), serving(config) as url:
            time.sleep(4)
            with visit(browser, f"{url}/") as seen:
                first = seen.page.locator("body").inner_text()
                assert "not been seen" not in first
                server.start()
                moved = until(lambda: seen.page.locator("body").inner_text() != first, 45)  # a step of 30 s, and a look
                assert moved, "the live strip moves by itself"
                assert seen.complaints == []
            with visit(browser, f"{url}/latency") as seen:
                assert "acme/tiny-1b" in seen.page.locator("body").inner_text()
                assert seen.complaints == []
