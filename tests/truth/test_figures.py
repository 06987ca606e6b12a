"""Figures as a visitor reads them, against the same worked out from raw samples by another, plainer way.

Each has to agree to half a unit of the last digit that is shown. The other way knows neither ``analytics`` nor
``storage.queries``: ``raw`` reads blocks with SQL and pcodec, ``reckoned`` prices them by ``demo.toml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from core.readings import Latency
from tests.e2e.dashboard import CHROMIUM, chromium
from tests.truth.demo import DAY, DAY_IN_ADDRESS, WEEK, WEEK_IN_ADDRESS, served
from tests.truth.raw import Raw
from tests.truth.reckoned import hall, quantile
from tests.truth.shown import Number, Shown, number, opened
from tests.truth.truth import CHAT, RENTED, SEEN, Truth, device_joules, kwh, mxn, total

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("network"),  # Chromium gives up what it loads when interfaces come and go
]


@dataclass(frozen=True, slots=True)
class Figure:
    """Where a figure stands and what it ought to be.

    label: the line before it. pattern: what it looks like there; by default the next line.
    cell: table and column of a CSV, in the row that has ``label`` somewhere.
    """

    page: str
    label: str
    truth: Callable[[Truth], float]
    pattern: str = r"\A(.*)"
    cell: tuple[str, str] | None = None

    def read(self, shown: Shown) -> Number:
        """The number that stands there, and what it may be off by."""
        if self.cell is None:
            return number(shown.after(self.label, self.pattern))
        table, column = self.cell
        (row,) = (one for one in shown.files[table] if self.label in one.values())
        value = float(row[column])
        return Number(value, abs(value) * 1e-9)  # a file is not rounded


BILL = "The bill of all devices"
MONEY = r"([\d,]+\.\d\d MXN)"
FIGURES = (
    Figure("overview", "Accelerator power", lambda t: t.now("accelerator")),
    Figure("overview", "Host CPU busy", lambda t: t.mean("host", "cpu_utilization_ratio")),
    Figure("overview", "Cost per million output tokens", lambda t: total(t.held(DAY)) / t.output(DAY) * 1e6),
    Figure("accelerators", "Busy time, mean", lambda t: t.mean("accelerator", "utilization_ratio")),
    Figure(
        "accelerators",
        "Memory held",
        lambda t: t.now("accelerator", "memory_used_bytes") / t.now("accelerator", "memory_total_bytes"),
    ),
    Figure("accelerators", "Hottest", lambda t: t.hottest()),
    Figure("device", "Power", lambda t: t.raw.newest_of(t.hot(), "accelerator", "power_watts")),
    Figure("device", "Busy time", lambda t: t.raw.newest_of(t.hot(), "accelerator", "utilization_ratio")),
    Figure("hosts", "CPU package power", lambda t: t.now("cpu")),
    Figure("hosts", "Node power", lambda t: t.now("host", "node_power_watts")),
    Figure("hosts", "Not accelerators", lambda t: 1 - t.now("accelerator") / t.now("host", "node_power_watts")),
    Figure("latency", "TTFT p50", lambda t: t.chat(0.5, Latency.TTFT)),
    Figure("latency", "TTFT p95", lambda t: t.chat(0.95, Latency.TTFT)),
    Figure("latency", "TTFT p99", lambda t: t.chat(0.99, Latency.TTFT)),
    Figure("latency", "ITL p50", lambda t: t.chat(0.5, Latency.ITL)),
    Figure("latency", "E2E p95", lambda t: t.chat(0.95, Latency.E2E)),
    Figure("latency", "E2E p95", lambda t: t.observed(Latency.E2E), r"n = ([\d,]+)"),
    Figure("latency", "E2E within 20.0 s", lambda t: t.in_time(Latency.E2E, 20)),
    Figure("latency", "Prefix cache hits", lambda t: t.cached(SEEN, model=CHAT)),
    Figure("latency", "Failed", lambda t: t.counted("failed_requests_total", SEEN, model=CHAT)),
    Figure(
        "latency", "Output tokens/s", lambda t: t.counted("generation_tokens_total", SEEN, model=CHAT) / (24 * 3600)
    ),
    Figure("compare", RENTED, lambda t: t.speed(), cell=("compare-points", "tokens_per_second")),
    Figure(
        "compare",
        RENTED,
        lambda t: t.rented_joules_per_token(),
        cell=("compare-points", "joules_per_output_token"),
    ),
    Figure("power", "Energy at devices", lambda t: sum(t.device_kwh(SEEN).values())),
    Figure("power", "At the meter", lambda t: sum(t.device_kwh(SEEN, to_meter=True).values())),
    Figure("power", "Energy while idle", lambda t: t.idle_kwh()),
    Figure(
        "power", "Energy while idle", lambda t: t.idle_kwh() / sum(t.device_kwh(DAY).values()), r"· ([\d.]+ %) of their"
    ),
    Figure("power", "Operational CO2e", lambda t: t.device_grams()),
    Figure("tokens", "MXN per million output tokens", lambda t: total(t.held(DAY)) / t.output(DAY) * 1e6),
    Figure("tokens", "MXN per million tokens, blended", lambda t: total(t.held(DAY)) / t.tokens(DAY) * 1e6),
    Figure("tokens", "Cost", lambda t: total(t.held(DAY))),
    Figure(
        "tokens",
        "MXN per completed request",
        lambda t: total(t.held(DAY)) / t.counted("succeeded_requests_total", DAY),
    ),
    Figure("tokens", "Energy per output token", lambda t: device_joules(t.held(DAY)) / t.output(DAY)),
    Figure("tokens", "Energy", lambda t: device_joules(t.held(DAY))),
    Figure("tokens", "Output tokens", lambda t: t.output(DAY)),
    Figure("tokens", "Prompt tokens", lambda t: t.counted("prompt_tokens_total", DAY)),
    Figure("tokens", BILL, lambda t: total(t.bill(DAY)), MONEY),
    Figure("tokens", BILL, lambda t: mxn(sum(r.hardware_usd for r in t.bill(DAY))), rf"= {MONEY}"),
    Figure("tokens", BILL, lambda t: mxn(sum(r.active_usd for r in t.bill(DAY))), rf"= \S+ MXN \+ {MONEY}"),
    Figure("tokens", BILL, lambda t: mxn(sum(r.idle_usd for r in t.bill(DAY))), rf"\+ {MONEY} \+ \S+ MXN \("),
    Figure("tokens", BILL, lambda t: mxn(sum(r.overhead_usd for r in t.bill(DAY))), rf"\+ {MONEY} \("),
    Figure("commitments", "Used", lambda t: t.hall_ratio(DAY)),
    Figure("commitments", "Used", lambda t: kwh(hall(t.bill(DAY))) / 24 * 1000, r"mean ([\d.]+ kW)"),
    Figure("commitments", "Per MWh used", lambda t: t.hall_mxn_per_mwh()),
    Figure("weekly", "Total cost", lambda t: total(t.bill(WEEK))),
    Figure("weekly", "Cost per million output tokens", lambda t: total(t.bill(WEEK)) / t.output(WEEK) * 1e6),
    Figure("weekly", "Output tokens", lambda t: t.output(WEEK)),
    Figure("weekly", "Output tokens", lambda t: t.cached(WEEK), r"([\d.]+ %) of prompt"),
    Figure("weekly", "Time to first token, p95", lambda t: quantile(0.95, t.histogram(Latency.TTFT, WEEK))),
    Figure("weekly", "GPU-hours used", lambda t: sum(r.active_hours for r in t.bill(WEEK)) / len(t.bill(WEEK))),
    Figure("weekly", "GPU-hours used", lambda t: len(t.held(WEEK)), r"([\d,]+ h) allocated"),
    Figure("weekly", "Cost while idle", lambda t: t.idle_mxn(WEEK)),
    Figure("weekly", "Energy", lambda t: kwh(t.bill(WEEK))),
    Figure("weekly", "Operational CO2e per million output tokens", lambda t: t.grams(WEEK) / t.output(WEEK) * 1e6),
    Figure("weekly", "Commitments used", lambda t: t.hall_ratio(WEEK)),
    Figure("health", "Store", lambda t: t.raw.size_bytes),
    Figure("health", "accelerator_sample", lambda t: t.raw.sealed("accelerator"), cell=("health-store", "sealed")),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Truth, Callable[[str], Shown]]]:
    """The store of a demo, and its pages, each opened once."""
    folder = tmp_path_factory.mktemp("truth")
    with served(folder) as (path, url), chromium() as browser:
        raw = Raw(path)
        truth = Truth(raw)

        @cache
        def page(name: str) -> Shown:
            query = WEEK_IN_ADDRESS if name == "weekly" else DAY_IN_ADDRESS
            more = f"&device={truth.hot().key}" if name == "device" else ""
            these = [one for one in FIGURES if one.page == name]
            labels = [one.label for one in these if one.cell is None]
            tables = {one.cell[0] for one in these if one.cell is not None}
            return opened(browser, f"{url}/{name.removeprefix('overview')}?{query}{more}", labels, tables, folder)

        yield truth, page
        raw.close()


@pytest.mark.parametrize("figure", FIGURES, ids=lambda one: f"{one.page}: {one.label} {one.pattern}")
def test_a_figure_is_true_to_the_last_digit_shown(demo: tuple[Truth, Callable[[str], Shown]], figure: Figure):
    truth, page = demo
    shown, expected = figure.read(page(figure.page)), figure.truth(truth)
    assert abs(shown.value - expected) <= shown.tolerance * (1 + 1e-9), f"shown {shown}, ought to be {expected}"
