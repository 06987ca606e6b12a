"""The real dashboard in a real Chromium."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, TimeoutError, sync_playwright

from tests.e2e.daemon import ROOT, until

CHROMIUM = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
FLAGS = (
    "--no-sandbox",  # as root, in CI
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES = {  # by address: its heading, marked for translation
    "": "Overview",
    "accelerators": "Accelerators",
    "device": "Device",
    "hosts": "Hosts",
    "latency": "Latency",
    "compare": "Compare",
    "power": "Power and energy",
    "tokens": "Cost per million tokens",
    "commitments": "Contracts",
    "capacity": "Capacity",
    "weekly": "Weekly summary",
    "health": "Health",
}


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(config: Path, secrets: Path | None = None, *, port: int | None = None) -> Iterator[str]:
    """``streamlit run app.py`` with these settings and Streamlit's secrets; yields its address."""
    url = f"http://127.0.0.1:{port or free_port()}"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", url.rpartition(":")[2]]
    command += ["--secrets.files", str(secrets)] if secrets else []
    with (config.parent / "web.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "VATIO_CONFIG": str(config)}, stdout=log, stderr=log
        )
        try:
            assert until(lambda: urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).status == 200, 60)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that is installed here."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that was opened, and what the browser complained about meanwhile."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Every error."""
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def settle(self) -> None:
        """Wait until the script has run and the pictures are drawn."""
        self.page.get_by_role("heading", level=1).first.wait_for(timeout=60_000)
        self.page.locator("[data-test-script-state=notRunning]").wait_for(timeout=60_000)
        for awaited in ("[data-testid=stSkeleton]", ".stVegaLiteChart:not([data-turn=come])"):
            self.page.locator(awaited).first.wait_for(state="detached", timeout=60_000)
        self.page.wait_for_timeout(400)


@contextlib.contextmanager
def visit(
    browser: Browser, address: str, *, dark: bool = False, phone: bool = False, script: str = ""
) -> Iterator[Visit]:
    """Open an address in a fresh window, in which a script may run first, and wait until it is drawn."""
    size = {"width": 390, "height": 844} if phone else {"width": 1440, "height": 1000}
    context = browser.new_context(color_scheme="dark" if dark else "light", viewport=size)  # type: ignore[arg-type]
    found = Visit(context.new_page())
    found.page.add_init_script(script)
    found.page.on("console", found.hear)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        found.page.goto(address)
        try:
            found.settle()
        except TimeoutError as exc:
            raise AssertionError(f"{address} is not drawn: {found.complaints}") from exc
        yield found
    finally:
        context.close()
