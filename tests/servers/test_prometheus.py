"""Prometheus as the judge: a real one and Vatio read the same hour off the same endpoint, and are asked the same.

Both count what grew between samples. ``increase()`` then stretches that to the window's edges, since it looks at
the samples inside the window alone: by the time between edge and sample, or by half the mean spacing of samples
where the edge is farther away than 1.1 times that; and at the start never by more than takes the counter back to
zero. Vatio stretches nothing: what grew between two samples belongs to the window that holds the later one. So
here Vatio is asked from just after the window's first sample, and Prometheus' stretch is undone; its ``rate()`` is
``increase()`` by the window's length. In a window that begins with a sample all buckets are stretched alike, so
quantiles need no undoing.

A new process is where the two know different things. Prometheus sees a count that fell; Vatio reads when the
process began, and puts a zero there. In a window that holds samples of both processes the figures are the same,
as long as no count had passed its old value by the first look, which the recording is asserted to be free of.
In a window that begins after the end of one process and before the first sample of the next one, Vatio also
counts what that sample shows, and Prometheus does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from sqlalchemy import Engine

from analytics.formulas.latency import LEAST_FOR_P99
from storage.engine import reader_engine
from tests.fixtures.metrics_server import MetricsServer
from tests.quantiles import quantiles
from tests.servers.hour import Hour, Page
from tests.servers.prometheus import PROGRAM, Prometheus, prometheus
from tests.servers.record import RECORDED
from tests.servers.replay import replay, shifted
from tests.servers.test_hour import increases
from tests.servers.walk import COUNTERS, HISTOGRAMS, Series, Walk, Window, windows

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

AGO_SECONDS = 300  # the hour's end, by Prometheus' own clock
SIZE = 200
THRESHOLD_RATIO = 1.1
QUANTILES = (0.5, 0.95, 0.99)
LANDING_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Replayed:
    """The hour as it was shown, and the two that watched it."""

    hour: Hour
    walk: Walk
    prometheus: Prometheus
    vatio: Engine


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    if PROGRAM is None:
        pytest.fail("prometheus is missing: install it (Debian: apt install prometheus)")
    directory = tmp_path_factory.mktemp("prometheus")
    recorded = Hour.load(RECORDED / "vllm-0.32.0-cpu")
    hour = shifted(recorded, int(time.time()) - AGO_SECONDS - recorded.pages[-1].at_ms // 1000)
    with MetricsServer("") as endpoint, prometheus(directory, endpoint.port) as asked:

        def landed(page: Page) -> None:
            """Wait until Prometheus has a page; it stores all of one or nothing."""
            until = time.monotonic() + LANDING_SECONDS
            while asked.value("timestamp(vllm:num_requests_running)", page.at_ms) * 1000 != page.at_ms:
                assert time.monotonic() < until, f"Prometheus did not take the page of {page.at_ms}"
                time.sleep(0.01)

        replay(hour, endpoint, directory / "vatio.db", landed)
        engine = reader_engine(directory / "vatio.db")
        yield Replayed(hour, Walk(hour), asked, engine)
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Sampled:
    """A window and the samples of one series in it, of which there are at least two."""

    window: Window
    first_ms: int
    last_ms: int
    first_value: float
    spacing_ms: float

    def measured(self, increase: float) -> float:
        """What Prometheus stretched to ``increase``: its rule, solved for what grew between the samples."""
        between, threshold = self.last_ms - self.first_ms, THRESHOLD_RATIO * self.spacing_ms
        to_start, to_end = self.first_ms - self.window.start_ms, self.window.end_ms - self.last_ms
        at_start, at_end = (edge if edge < threshold else self.spacing_ms / 2 for edge in (to_start, to_end))
        found = increase * between / (between + at_start + at_end)
        to_zero = between * self.first_value / found if found else math.inf
        if to_zero < min(to_start, threshold):
            return (increase - self.first_value) * between / (between + at_end)
        return found


def sampled(series: Series, window: Window) -> Sampled | None:
    """``None`` where a series has too few samples for an answer."""
    pages = series.within(Window(window.start_ms, window.end_ms + 1))  # Prometheus 2 looks at both edges
    at_ms, values = series.at_ms[pages], series.values[pages]
    if len(at_ms) < 2:
        return None
    return Sampled(window, at_ms[0], at_ms[-1], values[0], (at_ms[-1] - at_ms[0]) / (len(at_ms) - 1))


def range_of(window: Window) -> str:
    return f"[{window.end_ms - window.start_ms}ms]"


def over(name: str, window: Window) -> str:
    return f"increase({name}{range_of(window)})"


def test_prometheus_has_every_sample_of_every_page(replayed: Replayed) -> None:
    hour = replayed.hour
    whole = Window(hour.pages[0].at_ms, hour.pages[-1].at_ms)
    found = replayed.prometheus.samples(f'{{__name__=~"vllm:.*"}}{range_of(whole)}', whole.end_ms)
    shown = [
        list(zip(series.at_ms, series.values, strict=True))
        for text, series in replayed.walk.series.items()
        if text.startswith("vllm:")
    ]
    assert sorted(found) == sorted(shown)


def test_no_restart_is_hidden_from_prometheus(replayed: Replayed) -> None:
    walk = replayed.walk
    every = [series for metric in COUNTERS for series in walk.counter(metric)]
    every += [series for kind in HISTOGRAMS for series in walk.buckets(kind)]
    assert [series.labels for series in every if series.hidden_restarts] == []


def test_increases_and_rates_of_two_hundred_windows(replayed: Replayed) -> None:
    compared = 0
    for window in windows(replayed.hour, SIZE, seed=23):
        seconds = (window.end_ms - window.start_ms) / 1000
        for metric, name in COUNTERS.items():
            series = replayed.walk.counter(metric)
            if (seen := sampled(series[0], window)) is None:
                assert math.isnan(replayed.prometheus.value(f"sum({over(name, window)})", window.end_ms))
                continue
            vatio = increases(replayed.vatio, Window(seen.first_ms + 1, window.end_ms + 1))[metric]
            assert vatio == pytest.approx(total(replayed, over(name, window), series, window), rel=1e-9), (window, name)
            rate = total(replayed, f"rate({name}{range_of(window)}) * {seconds!r}", series, window)
            assert vatio / seconds == pytest.approx(rate / seconds, rel=1e-9), (window, name)
            compared += 1
    assert compared > 0.9 * SIZE * len(COUNTERS)


def total(replayed: Replayed, expression: str, series: list[Series], window: Window) -> float:
    """What Prometheus says of each series, its stretch undone, added up."""
    of = {tuple(sorted(one.labels.items())): one for one in series}
    parts = []
    for labels, increase in replayed.prometheus.vector(expression, window.end_ms):
        own = tuple(
            sorted((name, text) for name, text in labels.items() if name not in ("instance", "job", "__name__"))
        )
        seen = sampled(of[own], window)
        assert seen is not None
        parts.append(seen.measured(increase))
    assert len(parts) == len(series)
    return math.fsum(parts)


def test_quantiles_of_two_hundred_windows(replayed: Replayed) -> None:
    compared = 0
    for window in windows_from_a_page(replayed.hour):
        for kind, name in HISTOGRAMS.items():
            frame = quantiles(replayed.vatio, None, kind, window.start_ms + 1, window.end_ms + 1)
            row = frame.iloc[0].to_dict() if len(frame) else {}
            stretched = f"sum by (le) ({over(name + '_bucket', window)})"
            for q in QUANTILES:
                if q == 0.99 and 0 < row.get("observations", 0) < LEAST_FOR_P99:
                    continue
                asked = replayed.prometheus.value(f"histogram_quantile({q}, {stretched})", window.end_ms)
                ours = row.get(f"p{q * 100:.0f}_seconds", math.nan)
                assert ours == pytest.approx(asked, rel=1e-9, nan_ok=True), (window, kind, q)
                compared += not math.isnan(ours)
    assert compared > 0.8 * SIZE * len(HISTOGRAMS) * len(QUANTILES)


def windows_from_a_page(hour: Hour) -> Iterator[Window]:
    """Windows like the others that begin with a sample."""
    at_ms = [page.at_ms for page in hour.pages if page.lines is not None]
    for window in windows(hour, SIZE, seed=31):
        yield Window(next(at for at in at_ms if at >= window.start_ms), window.end_ms)


def test_the_windows_lie_on_both_sides_of_a_restart_and_a_stop(replayed: Replayed) -> None:
    series = replayed.walk.counter("generation_tokens_total")[0]
    looks = pairwise(zip(series.at_ms, series.lives, strict=True))
    first_looks = [at_ms for (_, life), (at_ms, other) in looks if life != other]
    for every in (list(windows(replayed.hour, SIZE, seed=23)), list(windows_from_a_page(replayed.hour))):
        assert [sum(w.start_ms < at < w.end_ms for w in every) > SIZE / 4 for at in first_looks] == [True, True]


def test_a_window_from_between_two_processes_holds_what_the_first_look_saw(replayed: Replayed) -> None:
    """The one difference: since the process began inside the window, Vatio counts its first page too."""
    pages, compared = replayed.hour.pages, 0
    for before, page in pairwise(pages):
        if before.lines is not None or page.lines is None:
            continue
        window = Window(before.at_ms - 15_000, page.at_ms + 300_000)
        for metric, name in COUNTERS.items():
            series = replayed.walk.counter(metric)
            first = math.fsum(one.values[one.at_ms.index(page.at_ms)] for one in series)
            asked = total(replayed, over(name, window), series, window)
            vatio = increases(replayed.vatio, Window(window.start_ms, window.end_ms + 1))[metric]
            assert vatio == pytest.approx(asked + first, rel=1e-9), (window, metric)
            compared += first > 0
    assert compared > 0
