"""A source of inference servers, a server for it to ask, and a clock that leaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from collectors.sources.serving import source as source_module
from collectors.sources.serving.source import ServingSource
from core.settings import ServerTarget
from core.units import MIB
from tests.collectors.serving.collecting import HOST
from tests.collectors.serving.pages import vllm_page
from tests.fixtures.metrics_server import MetricsServer


class Clock:
    """Stands in for ``now_ms``: real time, and leaps."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self._last = 0

    def __call__(self) -> int:
        self._last = max(time.time_ns() // 1_000_000 + self.ahead_ms, self._last + 1)
        return self._last

    def leap(self, seconds: float) -> None:
        self.ahead_ms += int(seconds * 1000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(source_module, "now_ms", clock)
    return clock


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer(vllm_page()) as server:
        server.pages["/version"] = '{"version": "0.11.0"}'
        yield server


@pytest.fixture
def build(clock: Clock) -> Iterator[Callable[..., ServingSource]]:
    with ExitStack() as stack:

        def build(
            ports: Iterable[int] = (),
            targets: Iterable[ServerTarget] = (),
            *,
            file_sd: Iterable[Path] = (),
            max_body_bytes: int = 16 * MIB,
            deadline_seconds: float = 10.0,
        ) -> ServingSource:
            source = ServingSource(
                HOST,
                ports=tuple(ports),
                targets=tuple(targets),
                file_sd=[str(path) for path in file_sd],
                max_body_bytes=max_body_bytes,
                deadline_seconds=deadline_seconds,
            )
            stack.callback(source.close)
            stack.callback(source.close)
            return source

        yield build
