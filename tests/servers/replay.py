"""The recorded hour once more, page after page, read by Vatio's own source into a real database.

One thing is not real: the source's clock is replaced by the time at which each page was recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from collectors.runner import run_tick
from collectors.sources.serving import source as source_module
from collectors.sources.serving.source import ServingSource
from core.settings import ServerTarget
from storage.batch import Batch
from storage.session import writing
from tests.fixtures.metrics_server import MetricsServer
from tests.servers.hour import Hour, Page

PROCESS_START = "process_start_time_seconds"


def shifted(hour: Hour, by_seconds: int) -> Hour:
    """The same hour at another time; whole seconds, so that no figure is rounded."""
    return Hour([_shifted(page, by_seconds) for page in hour.pages], hour.bursts)


def _shifted(page: Page, by_seconds: int) -> Page:
    lines = page.lines
    if lines is not None:
        lines = lines | {PROCESS_START: repr(float(lines[PROCESS_START]) + by_seconds)}
    return Page(page.at_ms + by_seconds * 1000, lines)


def replay(
    hour: Hour, endpoint: MetricsServer, database: Path, shown: Callable[[Page], None] = lambda page: None
) -> None:
    """Show each page with its time stamps, call ``shown``, and let Vatio read it."""
    target, host = ServerTarget(url=endpoint.url), "here"
    source = ServingSource(host, ports=(), targets=[target], max_body_bytes=1 << 20, deadline_seconds=5)
    try:
        with writing(database, host=host) as writer, pytest.MonkeyPatch.context() as patch:
            for page in hour.pages:
                endpoint.mode = "500" if page.lines is None else ""
                if page.lines is not None:
                    endpoint.show("".join(f"{text} {value} {page.at_ms}\n" for text, value in page.lines.items()))
                    shown(page)
                patch.setattr(source_module, "now_ms", lambda at_ms=page.at_ms: at_ms)
                tick = run_tick(source, host, page.at_ms)
                assert not tick.report.error, tick.report.error
                writer.submit(Batch(tick.readings, tick.reports))
    finally:
        source.close()
