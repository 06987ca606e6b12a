"""A server killed amid load: what was in flight is nobody's to count, and everything else is still right.

What the server had counted when it was last looked at is stored; what it did after that, a fraction of a
second, died with it. So a total lies between what was finished and seen before, and what the client could
have got at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.servers import launch
from tests.servers.client import CUT, Request, count, drive, workload
from tests.servers.install import Installed
from tests.servers.launch import Server
from tests.servers.watch import THREE_TICKS, daemon, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

CONCURRENCY = 12
LONG_TOKENS = 400
LONG = [Request(f"Count the seconds between two words. {number}", LONG_TOKENS) for number in range(200)]


@pytest.mark.parametrize("start", [launch.vllm, launch.llama_server])
def test_what_was_in_flight_may_be_lost_but_nothing_is_invented(
    start: Callable[..., AbstractContextManager[Server]], installed: Installed, tmp_path: Path
) -> None:
    port = launch.free_port()
    with daemon(tmp_path, port) as stored:
        with start(installed, tmp_path / "first.log", port=port) as server:
            before = count(drive(server.url, server.model, workload(60, seed=12), concurrency=CONCURRENCY))
            time.sleep(THREE_TICKS)
            seen = stored.increase("generation_tokens_total")
            with ThreadPoolExecutor(1) as background:
                answers = background.submit(drive, server.url, server.model, LONG, concurrency=CONCURRENCY)
                wait_until(lambda: stored.increase("generation_tokens_total") > seen, 30, "tokens of the second load")
                server.kill()
                replies = answers.result()
        with start(installed, tmp_path / "second.log", port=port) as server:
            after = count(drive(server.url, server.model, workload(40, seed=13), concurrency=CONCURRENCY))
            time.sleep(THREE_TICKS)
    cut = sum(reply.status == CUT for reply in replies)
    finished = count(reply for reply in replies if reply.ok)
    assert seen == before.output_tokens
    assert cut > 0
    exact = before.output_tokens + after.output_tokens
    in_flight = CONCURRENCY * LONG_TOKENS
    assert exact < stored.increase("generation_tokens_total") <= exact + finished.output_tokens + in_flight
    assert stored.falls("generation_tokens_total") == 1
    assert len(stored.events("restart")) == 1
    for kind in ("ttft", "e2e"):
        if (histogram := stored.latency(kind)) is not None:
            assert histogram.least >= 0
            assert before.requests + after.requests <= histogram.observations
            most = before.requests + after.requests + finished.requests + CONCURRENCY
            assert histogram.observations <= most
