"""Laying down the past of the simulated fleet, so that a demo opens with eight weeks behind it.

Only what is missing is laid down: the store remembers up to where it was done, and live ticks tell the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from collectors.base import now_ms
from collectors.sources.simulated.clock import Integers
from collectors.sources.simulated.latency import BOUNDS
from collectors.sources.simulated.source import SimulatedSource
from core.settings import Settings
from storage import queries
from storage.batch import Batch
from storage.bulk import Bulk
from storage.engine import Store, reader_engine
from storage.schema import DAY_MS, SPAN_MS
from storage.upkeep import Upkeep
from storage.writer import Writer, read_fact, write_fact

WEEKS = 8
FINE_DAYS = 1  # nearly as close as live ticks; before that, minute by minute
FINE_MS, COARSE_MS = 10_000, 60_000
PART_MS = 4 * DAY_MS
LAID_DOWN = "simulated_until_ms"
"""Fact of a store: the last instant (Unix ms) up to which the past was laid down."""


class Stretch(NamedTuple):
    """What is laid down at once: instants (Unix ms), and the last one that is known before them."""

    after_ms: int
    at_ms: Integers


def catch_up(settings: Settings, writer: Writer, upkeep: Upkeep, stop: threading.Event) -> None:
    """Give a store all of the simulated past that it lacks, with accounts, and show how far that is.

    Args:
        settings: of a simulated fleet.
        writer: of the store.
        upkeep: of the store, not started yet: without accounts a demo would open with unknown bills.
        stop: leave off when it is set; what is missing then is laid down the next time.
    """
    source = SimulatedSource(settings.collectors.host_name, settings.collectors.interval_seconds)
    reader = reader_engine(settings.storage.address)
    step_ms = max(round(settings.collectors.interval_seconds * 1000), FINE_MS)
    console = Console(stderr=True)
    bar = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*bar, console=console, disable=not console.is_terminal) as progress, ExitStack() as stack:
        stack.callback(reader.dispose)
        for _ in range(2):  # once more for the time that the first round took
            end_ms = now_ms() // step_ms * step_ms
            stretches = list(missing(known_until_ms(writer, reader), end_ms, step_ms))
            if not stretches:
                break
            days = (end_ms - stretches[0].after_ms) / DAY_MS
            if days > 1 and not console.is_terminal:
                console.print(f"laying down {days:.0f} days of simulated past, in a database of its own")
            for stretch in progress.track(stretches, description="simulated past"):
                if stop.is_set():
                    return
                lay_down(writer, source, stretch)
            writer.submit(Batch(tuple(source.processes(end_ms))))
            task = progress.add_task("accounts", total=days * 24 * len(list(source.series(np.array([end_ms])))))
            upkeep.account(now_ms(), progress=partial(progress.advance, task))


def known_until_ms(writer: Writer, reader: Store) -> int | None:
    """Up to where the fleet is known: laid down, then told live (Unix ms); ``None`` where it never was."""
    laid_down = writer.call(lambda connection: read_fact(connection, LAID_DOWN))
    return None if laid_down is None else max(int(laid_down), queries.newest_sample_at_ms(reader) or 0)


def missing(known_until_ms: int | None, end_ms: int, step_ms: int, weeks: int = WEEKS) -> Iterator[Stretch]:
    """What to lay down up to and with an instant, some days at a time and no block of the store twice.

    Args:
        known_until_ms: up to and with this all is there already; ``None``: nothing is.
        end_ms: the newest instant.
        step_ms: between two live ticks; the days before the last have coarser steps.
        weeks: how far back to begin.
    """
    fine_ms = (end_ms - FINE_DAYS * DAY_MS) // SPAN_MS * SPAN_MS
    begin_ms = (end_ms - weeks * 7 * DAY_MS) // SPAN_MS * SPAN_MS
    after_ms = begin_ms - 1 if known_until_ms is None else max(known_until_ms, begin_ms - 1)
    for since_ms, until_ms, step in ((begin_ms, fine_ms, max(step_ms, COARSE_MS)), (fine_ms, end_ms + 1, step_ms)):
        at_ms = np.arange(-(-since_ms // step), -(-until_ms // step)) * step
        at_ms = at_ms[at_ms > after_ms]
        for part in np.split(at_ms, np.flatnonzero(np.diff(at_ms // PART_MS)) + 1):
            if len(part):
                yield Stretch(after_ms, part)
                after_ms = int(part[-1])


def lay_down(writer: Writer, source: SimulatedSource, what: Stretch) -> None:
    """Store a stretch of the past; the store then says that it is simulated, and up to where."""
    at, last_ms = what.at_ms, int(what.at_ms[-1])
    before = np.concatenate(([what.after_ms], at[:-1]))
    writer.submit(Batch((*source.description(int(at[0])), *source.between(what.after_ms, last_ms))))
    writer.call(lambda connection: write_fact(connection, "simulated", "true"))  # and things are described by then
    bulk = Bulk(writer)
    for family, key, values in source.series(at):
        bulk.load(family, key, at, values)
    for key, grown in source.increments(at, before):
        bulk.load_latency(key, grown.kind.value, BOUNDS[grown.kind], at, grown.counts.T, grown.sum_seconds)
    writer.call(lambda connection: write_fact(connection, LAID_DOWN, str(last_ms)))
