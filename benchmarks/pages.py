"""How long pages take until they are drawn, in a real Chromium, on a scaled fleet that is ticking.

Drawn: the script has ended, nothing on the page is from the run before, every chart and table has its picture, and
neither the document nor a canvas changed any more for a while; the time is that of the last change. Charts below the
window come after it, so there are two times: that of what stands in the window, and that of all. What a table keeps
inside its canvas for screen readers follows 200 ms after its picture, is not drawn, and does not count.
Cold is a server that has just begun to listen and a browser that has never been there, from the begin of the
navigation. New is such a browser on a server that has been asked for other pages before. Warm is a click on another
range or filter of an open page, each answer asked for the first time; "Live" is off meanwhile, so that no refresh lies
in between. CPU is the server's own. Bytes are those of messages over the WebSocket, unpacked.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psutil
from playwright.sync_api import Browser, Page, TimeoutError, WebSocket
from rich.table import Table

from benchmarks.fleet import Fleet
from benchmarks.peers import Prometheus, Server, VictoriaMetrics
from benchmarks.processes import cpu_seconds, running
from benchmarks.scaled import ROOT, Scaled
from tests.e2e.daemon import until
from tests.e2e.dashboard import PAGES, chromium, free_port

COLD_STARTS, PEER_VISITS = 3, 5
PATIENCE_MS = 60_000
LOOK_MS = 250  # how often it is asked whether all is drawn, not how exactly: the page notes when; asking costs it time
STILL = {"weekly"}  # has weeks instead of ranges
GAUGE, STEP_SECONDS = "accelerator_power_watts", 1_800  # a week as Vatio's own pages cut it

_WATCH = """() => {
  const seen = window.seen = {changed: 0, all: 0, painted: false, clicked: 0, ended: 0, ran: false};
  const unseen = "[data-testid=stStatusWidget], [data-testid=stToolbar], canvas";
  const pictures = "[data-testid=stVegaLiteChart], [data-testid=stDataFrame]";
  const below = new WeakSet();
  const window_ = new IntersectionObserver(entries => {
    for (const {isIntersecting, target} of entries) isIntersecting ? below.delete(target) : below.add(target);
  });
  const containerOf = element => element?.closest?.("[data-testid=stElementContainer]");
  const change = container => {
    seen.all = performance.now();
    if (!below.has(container)) seen.changed = seen.all;
  };
  new MutationObserver(records => {
    for (const {target, attributeName} of records) {
      if (attributeName === "data-test-script-state") {
        if (target.dataset.testScriptState === "running") seen.ran = true;
        else seen.ended = performance.now();
      } else {
        const element = target.closest ? target : target.parentElement;
        if (!element?.closest(unseen)) change(containerOf(element));
      }
    }
    for (const one of document.querySelectorAll(pictures)) window_.observe(containerOf(one));
  }).observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  let canvas, container;  // looked up once for all that is drawn after each other
  for (const name of ["fillRect", "clearRect", "fillText", "stroke", "fill"]) {
    const draw = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...given) {
      seen.painted = true;
      if (canvas !== this.canvas) [canvas, container] = [this.canvas, null];
      change(container ??= containerOf(canvas));
      return draw.apply(this, given);
    };
  }
  addEventListener("click", () => { seen.clicked = performance.now(); seen.ran = false; }, true);
}"""
_DRAWN = """() => {
  const app = document.querySelector("[data-testid=stApp]");
  if (app?.dataset.testScriptState !== "notRunning" || !seen.ran || !document.querySelector("h1")) return null;
  if (document.querySelector("[data-stale=true], [data-testid=stSkeleton], [data-testid=stSpinner]")) return null;
  for (const one of document.querySelectorAll("[data-testid=stVegaLiteChart], [data-testid=stDataFrame]"))
    if (one.checkVisibility() && !one.querySelector("canvas, svg")) return null;
  return performance.now() - seen.all > 400 ? [seen.changed, seen.all, seen.ended].map(at => at - seen.clicked) : null;
}"""
_PEER_DRAWN = """lines => (seen.painted || document.querySelectorAll("svg path").length >= lines)
  && performance.now() - seen.changed > 400 ? seen.changed : null"""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A page was drawn: seconds until its window was, until all was, and until the script had ended; CPU of the server;
    bytes of messages.
    """

    what: str
    seconds: float
    all_seconds: float
    script_seconds: float
    cpu_seconds: float
    bytes: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class PageSpeed:
    """One page, opened on fresh servers and on one that runs, and changed while it is open there.

    ``note`` says what went wrong.
    """

    name: str
    cold: tuple[Drawing, ...] = ()
    new: Drawing | None = None
    warm: tuple[Drawing, ...] = ()
    note: str = ""


@dataclass(slots=True)
class Open:
    """A page in a browser window, with what came over its WebSocket so far (B)."""

    page: Page
    server: psutil.Process
    received: list[int] = field(default_factory=list)

    def hear(self, socket: WebSocket) -> None:
        """Count what comes."""
        socket.on("framereceived", lambda content: self.received.append(len(content)))

    def drawn(self, what: str, act: str = "", *, address: str = "") -> Drawing:
        """Go to an address, or click what a selector names, and wait until that is drawn."""
        used, received = cpu_seconds(self.server), len(self.received)
        if address:
            self.page.goto(address, wait_until="commit")
        else:
            self.page.locator(act).click()
        drawn, whole, ended = self.page.wait_for_function(_DRAWN, polling=LOOK_MS, timeout=PATIENCE_MS).json_value()
        spent = cpu_seconds(self.server) - used
        failed = self.page.locator("[data-testid=stException]").count() > 0
        seconds = (max(drawn, ended) / 1e3, max(whole, ended) / 1e3, ended / 1e3)
        return Drawing(what, *seconds, spent, sum(self.received[received:]), failed)


@contextmanager
def serving(config: Path, app: str = "app.py") -> Iterator[tuple[str, psutil.Process]]:
    """The dashboard, or another app, with these settings: its address, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", app, "--server.port", str(port)]
    with running(command, env={"VATIO_CONFIG": str(config)}, cwd=ROOT) as process:
        health = f"http://127.0.0.1:{port}/_stcore/health"
        until(lambda: urllib.request.urlopen(health, timeout=1).status == 200, 60)
        yield f"http://127.0.0.1:{port}", process


def measured(scaled: Scaled, names: Iterable[str] = PAGES, cold_starts: int = COLD_STARTS) -> Iterator[PageSpeed]:
    """Each page of the dashboard."""
    with chromium() as browser, serving(scaled.config) as (warm_url, warm_server):
        for name in names:
            cold: list[Drawing] = []
            warm: list[Drawing] = []
            new, note = None, ""
            try:
                for _ in range(cold_starts):
                    cold.append(_cold(scaled, browser, name))  # noqa: PERF401  what was measured before a failure stays
                with _window(browser, warm_server) as window:
                    new = window.drawn("first visit", address=f"{warm_url}/{name}?live=false")
                    for one in _warm(window, name):
                        warm.append(one)  # noqa: PERF402
            except TimeoutError:
                last = (warm or cold)[-1].what if warm or cold else "nothing"
                note = f"what came after {last} was not drawn within {PATIENCE_MS / 1000:.0f} s"
            yield PageSpeed(name, tuple(cold), new, tuple(warm), note)


@contextmanager
def _window(browser: Browser, server: psutil.Process) -> Iterator[Open]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    with closing(context):
        found = Open(context.new_page(), server)
        found.page.add_init_script(f"({_WATCH})()")
        found.page.on("websocket", lambda socket: found.hear(socket))
        yield found


def bare(scaled: Scaled, cold_starts: int = COLD_STARTS) -> PageSpeed:
    """A page by Streamlit alone, opened on fresh servers."""
    with chromium() as browser:
        starts = tuple(_cold(scaled, browser, "", "benchmarks/bare.py") for _ in range(cold_starts))
    return PageSpeed("two charts and a table by Streamlit alone", cold=starts)


def _cold(scaled: Scaled, browser: Browser, name: str, app: str = "app.py") -> Drawing:
    with serving(scaled.config, app) as (url, server), _window(browser, server) as window:
        return window.drawn("first visit", address=f"{url}/{name}?live=false")


def _warm(window: Open, name: str) -> Iterator[Drawing]:
    """Every range, then those of one vendor again; of weeks, one after the other."""
    if name in STILL:
        for number in range(len(_options(window, "week"))):
            yield _pick(window, "week", number)
        return
    ranges = window.page.locator(".st-key-range [role=radio]").all_inner_texts()
    for one in (one for one in ranges if one not in ("1h", "custom")):
        yield window.drawn(one, f'.st-key-range [role=radio]:has-text("{one}")')
    yield _pick(window, "vendor", 1)
    for one in (one for one in reversed(ranges[:-2]) if one != "custom"):
        yield window.drawn(f"{one} of a vendor", f'.st-key-range [role=radio]:has-text("{one}")')


def _options(window: Open, key: str) -> list[str]:
    """What a select box offers; it is open then."""
    window.page.locator(f".st-key-{key} input").click()
    window.page.locator("[role=option]").first.wait_for()
    return window.page.locator("[role=option]").all_inner_texts()


def _pick(window: Open, key: str, number: int) -> Drawing:
    if not window.page.locator("[role=option]").count():
        _options(window, key)
    return window.drawn(f"{key} {number}", f"[role=option] >> nth={number}")


def peers(folder: Path) -> Iterator[PageSpeed]:
    """The graph pages of Prometheus and VictoriaMetrics: one line for each of 64 accelerators over a week."""
    fleet = Fleet()
    for server, path in ((Prometheus(), _prometheus_graph), (VictoriaMetrics(), _victoria_metrics_graph)):
        if reason := server.missing():
            yield PageSpeed(server.name, note=reason)
            continue
        try:
            with server.opened(folder), chromium() as browser:
                server.load(fleet)
                yield PageSpeed(server.name, warm=tuple(_peer_visits(browser, server, path(fleet), fleet.accelerators)))
        except (RuntimeError, OSError, http.client.HTTPException, TimeoutError) as exc:
            yield PageSpeed(server.name, note=f"did not run: {str(exc).partition(chr(10))[0]}")


def _peer_visits(browser: Browser, server: Server, path: str, lines: int) -> Iterator[Drawing]:
    """The browser has been there before, so that only drawing counts."""
    with _window(browser, server.process) as window:
        for visit in range(PEER_VISITS + 1):
            used = cpu_seconds(server.process)
            window.page.goto("about:blank")
            answer = window.page.goto(f"http://127.0.0.1:{server.port}{path}", wait_until="commit")
            if answer is None or not answer.ok:
                raise RuntimeError("this build has no graph page")
            found = window.page.wait_for_function(_PEER_DRAWN, arg=lines, polling=LOOK_MS, timeout=PATIENCE_MS)
            if visit:
                seconds = found.json_value() / 1e3
                yield Drawing("opened again", seconds, seconds, 0.0, cpu_seconds(server.process) - used, 0)


def _prometheus_graph(fleet: Fleet) -> str:
    end = _end(fleet).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"/graph?g0.expr={quote(_mean())}&g0.tab=0&g0.range_input={fleet.days}d"
        f"&g0.end_input={quote(end)}&g0.step_input={STEP_SECONDS}"
    )


def _victoria_metrics_graph(fleet: Fleet) -> str:
    end = _end(fleet).strftime("%Y-%m-%dT%H:%M:%S")
    return (
        f"/vmui/?#/?g0.expr={quote(_mean())}&g0.range_input={fleet.days}d"
        f"&g0.end_input={quote(end)}&g0.step_input={STEP_SECONDS}s&g0.tab=chart"
    )


def _mean() -> str:
    return f"avg_over_time({GAUGE}[{STEP_SECONDS}s])"


def _end(fleet: Fleet) -> datetime:
    return datetime.fromtimestamp(fleet.end_ms / 1000, UTC)


def table(rows: Sequence[PageSpeed], scaled: Scaled) -> Table:
    """The rows as people read them; seconds as median and worst."""
    columns = (
        "page",
        "cold, s",
        "all",
        "CPU",
        "new, s",
        "warm, s",
        "all",
        "script",
        "CPU",
        "slowest",
        "kB at first",
        "at most",
        "note",
    )
    out = Table(*columns, title=f"pages on {scaled.words}")
    for row in rows:
        wrong = ", ".join(dict.fromkeys(one.what for one in (*row.cold, *row.warm) if one.failed))
        notes = [row.note, f"an error stood on the page: {wrong}" if wrong else ""]
        out.add_row(row.name or "overview", *_cells(row), "; ".join(filter(None, notes)))
    return out


def _cells(row: PageSpeed) -> Iterator[str]:
    yield _middle_and_worst([one.seconds for one in row.cold])
    yield _middle([one.all_seconds for one in row.cold])
    yield _middle([one.cpu_seconds for one in row.cold])
    yield f"{row.new.seconds:.2f}" if row.new else ""
    yield _middle_and_worst([one.seconds for one in row.warm])
    yield _middle([one.all_seconds for one in row.warm])
    yield _middle([one.script_seconds for one in row.warm])
    yield _middle([one.cpu_seconds for one in row.warm])
    yield max(row.warm, key=lambda one: one.seconds).what if row.warm else ""
    for drawings in (row.cold, row.warm):
        yield f"{max(one.bytes for one in drawings) / 1e3:.0f}" if drawings else ""


def _middle_and_worst(seconds: Sequence[float]) -> str:
    return f"{_middle(seconds)} / {max(seconds):.2f}" if seconds else ""


def _middle(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f}" if seconds else ""
