"""What ``python -m collectors`` can do: ``run``, ``once``, ``doctor``."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
import threading
import time
from dataclasses import fields

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from collectors.base import Availability, Patient, Source, now_ms
from collectors.firsthand import Firsthand
from collectors.page.render import Page
from collectors.page.server import open_page
from collectors.registry import Context, sources
from collectors.runner import Daemon, Tick, discovered, run_tick
from collectors.weekly import WeeklyCommand
from core.catalog import FAMILIES
from core.errors import StoreError, StoreLocked
from core.readings import LatencySample, Outcome, Sample
from core.settings import Settings
from core.units import show, unit_of
from storage.batch import Batch
from storage.engine import reader_engine
from storage.migrate import newest_revision
from storage.session import writing
from storage.spend import StoredSpend
from storage.spool import Spool
from storage.upkeep import Upkeep
from storage.writer import Writer

log = logging.getLogger(__name__)

SECOND_LOOK_SECONDS = 1.0
NOT_HERE = "not here"


def run(settings: Settings, config: str | None) -> int:
    """The daemon: every source on its grid until SIGINT or SIGTERM.

    Args:
        settings: as they were loaded.
        config: the file that they were asked from, for the command that it starts.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    storage = settings.storage
    spool = Spool(storage.spool, max_bytes=storage.spool_max_bytes)
    with writing(storage.address, host=settings.collectors.host_name, spool=spool) as writer:
        context = Context(settings, StoredSpend(writer))
        daemon = Daemon(
            sources(context),
            host=context.host,
            interval_seconds=settings.collectors.interval_seconds,
            writer=writer,
        )
        upkeep = Upkeep(reader_engine(storage.address), writer, storage, is_busy=daemon.is_ticking)
        if settings.simulated:
            from collectors.past import catch_up  # with pandas: 60 MB that a collector of real hardware does not need

            catch_up(settings, writer, upkeep, stop)
        page = open_page(settings.metrics, Page(daemon.latest, newest_revision()).render)
        weekly = WeeklyCommand(config)
        daemon.start()
        upkeep.start()
        if settings.summary.enabled:
            weekly.start()
        log.info("collecting every %g s into %s", settings.collectors.interval_seconds, storage.address)
        stop.wait()
        log.info("stopping")
        if page is not None:
            page.stop()
        weekly.stop()
        daemon.stop()
        upkeep.stop()
    return 0


def once(settings: Settings, *, as_json: bool) -> int:
    """One look at everything, printed and stored. Two ticks a second apart, since rates need two."""
    console = Console(stderr=as_json)
    with contextlib.ExitStack() as stack:
        writer: Writer | None = None
        try:
            writer = stack.enter_context(writing(settings.storage.address, host=settings.collectors.host_name))
        except StoreLocked as exc:
            console.print(f"not stored: {exc}", markup=False)
        all_sources = sources(Context(settings, StoredSpend(writer) if writer else _NothingToSpend()))
        found = {source.name: discovered(source) for source in all_sources}
        able = [source for source in all_sources if found[source.name].ok]
        first = {source.name: run_tick(source, settings.collectors.host_name, now_ms()) for source in able}
        time.sleep(SECOND_LOOK_SECONDS)
        for patient in (source for source in able if isinstance(source, Patient)):
            patient.wait()
        ticks = {source.name: run_tick(source, settings.collectors.host_name, now_ms()) for source in able}
        for source in all_sources:
            source.close()
        if writer:
            firsthand = Firsthand()
            for name, tick in (*first.items(), *ticks.items()):
                readings = firsthand.only(name, tick.readings, now_ms(), drivers_heard=True)
                writer.submit(Batch(readings, tick.reports))
    if as_json:
        print(json.dumps(_as_json(first, ticks), indent=2))  # noqa: T201  the command's product
    else:
        _print_table(console, ticks, found)
    return 0 if any(tick.report.outcome is Outcome.OK for tick in ticks.values()) else 1


class _NothingToSpend:
    """The ledger of a look without a store: no probe is sent."""

    def reserve(self, endpoint: str, month: str, worst_case_usd: float, cap_usd: float) -> bool:
        raise StoreError("the store is not open, so no probe is sent")

    def settle(self, endpoint: str, month: str, reserved_usd: float, actual_usd: float) -> None:
        raise StoreError("the store is not open")


def _values(sample: Sample) -> dict[str, float]:
    """The metrics a sample really has."""
    names = (metric.name for metric in FAMILIES[sample.family].metrics)
    return {name: value for name in names if (value := getattr(sample, name)) is not None}


def _as_json(first: dict[str, Tick], ticks: dict[str, Tick]) -> list[dict[str, object]]:
    answer: list[dict[str, object]] = []
    for name, tick in ticks.items():
        described = [reading for reading in first[name].readings if not isinstance(reading, Sample | LatencySample)]
        for reading in (*described, *tick.readings):
            if isinstance(reading, Sample):
                answer += _metrics_as_json(name, reading)
            else:
                content = {f.name: _plain(getattr(reading, f.name)) for f in fields(reading)}
                answer.append({"source": name, "reading": type(reading).__name__, **content})
    return answer


def _metrics_as_json(source: str, sample: Sample) -> list[dict[str, object]]:
    return [
        {
            "source": source,
            "family": sample.family,
            "key": sample.key,
            "observed_at_ms": sample.observed_at_ms,
            "metric": metric,
            "value": value,
            "unit": "1" if metric.endswith("_ratio") else unit_of(metric).symbol,
        }
        for metric, value in _values(sample).items()
    ]


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _print_table(console: Console, ticks: dict[str, Tick], found: dict[str, Availability]) -> None:
    table = Table("source", "what", "metric", "value")
    for name, tick in ticks.items():
        for sample in (reading for reading in tick.readings if isinstance(reading, Sample)):
            for metric, value in _values(sample).items():
                table.add_row(name, sample.key, metric, show(value, unit_of(metric)))
    console.print(table)
    for name, tick in ticks.items():
        for report in tick.reports:
            if report.error:
                console.print(f"{name} {report.target}: {report.error}", markup=False)
    for name, availability in found.items():
        if not availability.ok:
            console.print(f"{name}: {availability.reason}", markup=False)


def doctor(settings: Settings) -> int:
    """A line per source: PASS, WARN or FAIL, the reason and the remedy. 0 when at least one works."""
    console = Console(soft_wrap=True, highlight=False)
    works = False
    for source in sources(Context(settings, _NothingToSpend())):
        verdict, reason, remedy = _examine(source, settings)
        works |= verdict == "PASS" or (verdict == "WARN" and not reason.startswith(NOT_HERE))
        colour = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}[verdict]
        remedy = f" -> {remedy}" if remedy else ""
        console.print(f"[{colour}]{verdict}[/] {source.name:8} {escape(reason + remedy)}")
    return 0 if works else 1


def _examine(source: Source, settings: Settings) -> tuple[str, str, str]:
    found = discovered(source)
    try:
        if found.absent:
            return "WARN", f"{NOT_HERE}: {found.reason}", found.remedy
        if not found.ok:
            return "FAIL", found.reason, found.remedy
        tick = run_tick(source, settings.collectors.host_name, now_ms())
        if isinstance(source, Patient):
            source.wait()
            tick = run_tick(source, settings.collectors.host_name, now_ms())
        report, *targets = tick.reports
    finally:
        source.close()
    if report.outcome is Outcome.FAILED:
        return "FAIL", report.error, found.remedy
    for target in targets:
        if target.outcome is Outcome.FAILED:
            return "WARN", f"{target.target}: {target.error}", found.remedy or "see what answers there"
    seen = f"{report.readings} readings in {report.duration_seconds * 1000:.0f} ms"
    return ("WARN", found.reason, found.remedy) if found.reason else ("PASS", seen, "")
