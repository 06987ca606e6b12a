"""When a probe asks: at once, then on a grid with some chance, one request at a time."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors import commands
from collectors.base import next_tick
from collectors.registry import FACTORIES
from collectors.sources.probe.endpoint import Endpoint
from collectors.sources.probe.endpoint import endpoint as fresh
from collectors.sources.probe.source import ProbeSource
from core.readings import Outcome, ProbeSample
from core.settings import CollectorSettings, Settings, StorageSettings
from tests.collectors.probing import START_NS, WORST, Bench, Ledger, about, bench, endpoint, priced
from tests.fixtures.openai_server import OpenAiServer, answer

NS = 10**9
NOBODY = "http://127.0.0.1:1"


def starts(a_bench: Bench, server: OpenAiServer, seconds: float, tick_seconds: float = 0.5) -> list[int]:
    """The instants at which requests began; an answer takes no time on the bench's clock."""
    found: list[int] = []
    for _ in range(round(seconds / tick_seconds)):
        before = len(server.received)
        a_bench.source.collect()
        while a_bench.source._endpoints[0].request is not None:
            a_bench.source.collect()
            time.sleep(0.001)
        if len(server.received) > before:
            found.append(a_bench.now_ns)
        a_bench.now_ns += round(tick_seconds * NS)
    return found


def begun(an_endpoint: Endpoint, count: int, chance: Callable[[], float], tick_ns: int = NS) -> list[int]:
    """The same for an endpoint alone, looked at every ``tick_ns``: when it was found due."""
    found: list[int] = []
    now_ns = START_NS
    while len(found) < count:
        if an_endpoint.due(now_ns):
            found.append(now_ns)
            an_endpoint.schedule(now_ns, chance)
        now_ns += tick_ns
    return found


def test_the_first_request_begins_at_once_and_the_others_on_the_grid() -> None:
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url, interval_seconds=60)) as a_bench:
        first, *others = starts(a_bench, server, seconds=200)
        phase_ns = a_bench.source._endpoints[0].phase_ns
    assert first == START_NS
    assert 3 <= len(others) <= 4
    assert {b - a for a, b in itertools.pairwise(others)} == {60 * NS}
    assert all((start - phase_ns) % (60 * NS) < NS // 2 for start in others)


def test_the_first_request_is_under_the_cap_too() -> None:
    with OpenAiServer(answer("a")) as server, bench(priced(server.url, monthly_cap_usd=WORST / 2)) as a_bench:
        (sample,) = [r for r in a_bench.source.collect() if isinstance(r, ProbeSample)]
        assert sample.outcome is Outcome.REFUSED
        assert server.received == []


@pytest.mark.parametrize("chance", [0.0, 0.4, 0.999])
def test_chance_makes_a_request_late_by_a_share_of_the_interval(chance: float) -> None:
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url, jitter_ratio=0.5)) as a_bench:
        a_bench.chance = chance
        _, *others = starts(a_bench, server, seconds=1000, tick_seconds=1)
        phase_ns = a_bench.source._endpoints[0].phase_ns
    late_ns = round(chance * 150 * NS)
    assert len(others) >= 2
    assert all(0 <= (start - phase_ns - late_ns) % (300 * NS) < NS for start in others)


def test_chance_is_drawn_anew_and_adds_up_to_no_drift() -> None:
    an_endpoint = fresh(endpoint(NOBODY, interval_seconds=100, jitter_ratio=0.5), phase=7 * NS)
    source = random.Random(4)
    _, *others = begun(an_endpoint, 400, source.random)
    late = [(start - 7 * NS) % (100 * NS) / NS for start in others]
    assert (others[-1] - others[0]) / (100 * NS) == pytest.approx(len(others) - 1, abs=0.5)  # none left out, none extra
    assert 0 <= min(late) < 3
    assert 47 < max(late) <= 51
    assert sum(late) / len(late) == pytest.approx(25, abs=3)


def test_a_late_look_leaves_out_what_it_missed() -> None:
    an_endpoint = fresh(endpoint(NOBODY, interval_seconds=10, timeout_seconds=5), phase=0)
    found = begun(an_endpoint, 5, lambda: 0.0, tick_ns=35 * NS)
    assert {b - a for a, b in itertools.pairwise(found)} == {35 * NS}


def test_no_jitter_is_the_grid_that_the_runner_knows() -> None:
    an_endpoint = fresh(endpoint(NOBODY, jitter_ratio=0), phase=123_456_789)
    an_endpoint.schedule(START_NS, lambda: 1.0)
    assert an_endpoint.next_ns == next_tick(START_NS, 300 * NS, 123_456_789)
    assert not an_endpoint.due(START_NS)
    assert not an_endpoint.due(an_endpoint.next_ns - 1)
    assert an_endpoint.due(an_endpoint.next_ns)


def test_the_phase_is_a_hash_and_stays_over_restarts() -> None:
    def phases(host: str) -> list[int]:
        endpoints = [endpoint(NOBODY, name=f"p{i}") for i in range(20)]
        source = ProbeSource(endpoints, host, Ledger())
        return [e.phase_ns for e in source._endpoints]

    assert phases("host-a") == phases("host-a")
    assert phases("host-a") != phases("host-b")
    assert len(set(phases("host-a"))) == 20
    assert all(0 <= phase < 300 * NS for phase in phases("host-a"))


def test_a_clock_set_back_does_not_stop_the_probe() -> None:
    with OpenAiServer(answer("a")) as server, bench(endpoint(server.url)) as a_bench:
        a_bench.samples()
        a_bench.now_ns -= 3600 * NS
        assert len([r for r in a_bench.collect_until(1) if isinstance(r, ProbeSample)]) == 1
        a_bench.source.collect()
        assert len(server.received) == 2


def test_a_little_back_makes_it_wait_for_what_it_had_chosen() -> None:
    an_endpoint = fresh(endpoint(NOBODY, jitter_ratio=0.5), phase=0)
    an_endpoint.schedule(START_NS, lambda: 1.0)  # up to one and a half intervals ahead
    assert an_endpoint.next_ns == START_NS + 450 * NS
    assert not an_endpoint.due(START_NS)
    assert an_endpoint.due(START_NS - NS)


def test_one_look_at_everything_waits_for_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "SECOND_LOOK_SECONDS", 0.0)
    with OpenAiServer(answer("a", seconds_before=0.3)) as server:
        settings = Settings(
            storage=StorageSettings(url=f"sqlite:///{tmp_path}/vatio.db"),
            collectors=CollectorSettings(disabled=tuple(name for name in FACTORIES if name != "probe")),
            probe=(priced(server.url),),
        )
        assert commands.once(settings, as_json=True) == 0
    printed = {entry["metric"]: entry["value"] for entry in json.loads(capsys.readouterr().out) if "metric" in entry}
    assert about(printed["ttft_seconds"], 0.3)
    assert printed["cost_usd"] == pytest.approx((10 * 100 + 1000) / 1e6)
