from __future__ import annotations

import time

import pytest

from collectors.scrape.fetch import Answer
from collectors.sources.serving.listeners import Behind
from collectors.sources.serving.recognition import keep
from collectors.sources.serving.server import MAX_REMEMBERED, Server, Start, _local_start
from core.readings import LatencySample, Reading
from tests.collectors.serving.pages import vllm_page


def scrape(server: Server, page: str, now_ms: int, watched_since_ms: int = 0) -> list[Reading]:
    opened = server.open(Answer(keep(page.encode()), {}, 0.0), now_ms)
    return server.readings(opened, now_ms, watched_since_ms=watched_since_ms, behind=None)


def test_models_without_end_do_not_fill_the_memory_and_are_not_counted_twice():
    server = Server("http://s", "h")

    def page(*models: str, requests: int) -> str:
        return "".join(vllm_page(model=model, started=2.0, ttft=(requests, requests, requests)) for model in models)

    first = scrape(server, page("first", requests=5), now_ms=10_000)
    assert [reading.observations for reading in first if isinstance(reading, LatencySample)] == [5]
    for tick in range(1, 25):
        scrape(server, page(*(f"{tick}-{n}" for n in range(60)), requests=0), now_ms=10_000 + tick)
    assert len(server._deployments) <= MAX_REMEMBERED + 60
    again = scrape(server, page("first", requests=6), now_ms=20_000)
    assert not [reading for reading in again if isinstance(reading, LatencySample)]


@pytest.mark.parametrize(
    ("age", "holder_age", "known"),
    [
        (100.0, 200.0, True),  # the process loaded its model, then counted
        (100.0, 100.0, True),
        (100.0, 10.0, False),  # older than the process that holds the port: a forwarded one
        (-100.0, 200.0, False),  # in the future: another machine's uptime
    ],
)
def test_an_uptime_is_an_instant_only_on_this_machine(age, holder_age, known):
    start = Start("token", None, time.monotonic() - age)
    began = _local_start(start, Behind(frozenset((7,)), time.time() - holder_age))
    assert (began is not None) == known
    assert not known or began == pytest.approx(time.time() - age, abs=1)


def test_an_uptime_without_a_known_process_says_nothing():
    assert _local_start(Start("token", None, time.monotonic() - 1), None) is None
