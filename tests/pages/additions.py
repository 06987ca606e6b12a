"""More than ``databases`` lays down: further readings, ticks and statuses, and settings to go with them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.health import SourceStatus, TickReport
from core.readings import Outcome, Reading
from storage.batch import Batch
from storage.engine import writer_engine
from storage.writer import Writer, write_fact
from tests.pages.databases import HOST


def add(
    path: Path,
    *readings: Reading,
    ticks: Sequence[TickReport] = (),
    statuses: Sequence[SourceStatus] = (),
    facts: dict[str, str] | None = None,
) -> None:
    """Write to a database that is there already."""
    writer = Writer(writer_engine(path), host=HOST, flush_seconds=0.0)
    writer.start()
    try:
        writer.submit(Batch(readings, tuple(ticks), tuple(statuses)))
        for name, value in (facts or {}).items():
            writer.call(partial(write_fact, name=name, value=value))
    finally:
        writer.stop()


def tick(source: str, at_ms: int, *, target: str = "", error: str = "", missed: int = 0) -> TickReport:
    """One tick, failed if it has an error."""
    return TickReport(
        host=HOST,
        source=source,
        target=target,
        scheduled_at_ms=at_ms,
        outcome=Outcome.FAILED if error else Outcome.OK,
        duration_seconds=0.25,
        readings=1,
        ticks_missed=missed,
        error=error,
    )


def configure(database: Path, toml: str) -> None:
    """Add to the settings that ``database`` made."""
    file = database.with_name("vatio.toml")
    file.write_text(f"{file.read_text()}\n{toml}\n")


def said(test: AppTest) -> str:
    """Every text of a page, as people read it."""
    assert not test.exception, test.exception
    parts = [*test.success, *test.info, *test.warning, *test.error, *test.markdown, *test.caption, *test.text]
    metrics = [f"{metric.label} = {metric.value}" for metric in test.metric]
    return html.unescape("\n".join([*(part.value for part in parts), *metrics]))


def metric(test: AppTest, label: str) -> str:
    """The large text of the first tile with that label."""
    return next(str(one.value) for one in test.metric if html.unescape(one.label) == label)
