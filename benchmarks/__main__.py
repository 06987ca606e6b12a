"""``make bench``: ticks, whole monitors and whole stores side by side, the store under load, and how fast pages are."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import pages, scaled, scrapes, sessions, stores, upkeep, weeks
from benchmarks.fleet import Fleet
from benchmarks.monitors import Monitor, all_monitors
from benchmarks.peers import peers
from benchmarks.ticks import all_sources
from benchmarks.vatio_store import VatioOnPostgreSQL, VatioStore


def _ticks_table(scratch: Path) -> Table:
    table = Table(
        "source", "watching", "ms per tick", "CPU ms", "CPU at 1 s", "CPU at 10 s", "values", title="one tick"
    )
    for cost in all_sources(scratch):
        shares = [f"{cost.cpu_ms / 10 / interval:.2f} %" for interval in (1, 10)]
        table.add_row(
            cost.source, cost.what, f"{cost.wall_ms:.1f}", f"{cost.cpu_ms:.1f}", *shares, f"{cost.values:.0f}"
        )
    return table


def _monitor_row(row: Monitor) -> tuple[str, ...]:
    if row.usage is None:
        return row.name, f"{row.interval_seconds:g} s", "", "", "", "", row.note
    per_sample = f"{row.usage.cpu_seconds / row.samples * 1e6:.1f}" if row.samples else "no samples"
    return (
        row.name,
        f"{row.interval_seconds:g} s",
        f"{row.usage.cpu_ratio:.2%}",
        f"{row.usage.memory_mib:.0f}",
        f"{row.samples / row.usage.elapsed_seconds:.0f}",
        per_sample,
        row.note,
    )


def _ticks(console: Console, folder: Path, _given: argparse.Namespace) -> None:
    console.print(_ticks_table(folder))


def _monitors(console: Console, folder: Path, given: argparse.Namespace) -> None:
    columns = ("monitor", "every", "CPU of one core", "memory MiB", "samples/s", "CPU µs/sample", "note")
    table = Table(*columns, title="a whole monitor: this machine and one vLLM server")
    for interval in given.interval or (1.0, 10.0):
        with console.status(f"watching monitors at {interval:g} s"):
            for row in all_monitors(folder, interval, given.seconds):
                table.add_row(*_monitor_row(row))
    console.print(table)


def _stores(console: Console, _folder: Path, _given: argparse.Namespace) -> None:
    fleet = Fleet()
    with console.status("loading and reading a week of a fleet"):
        rows = list(stores.all_stores([VatioStore(), VatioOnPostgreSQL(), *peers()], fleet))
    console.print(stores.table(rows, fleet))
    console.print(stores.ratios(rows))


def _weeks(console: Console, folder: Path, _given: argparse.Namespace) -> None:
    table = Table("weeks begin in", "ms", title="energy and state seconds of 1,000 accelerators, 8 weeks by week")
    with console.status("filling accounts"), weeks.filled(folder / "weeks.db"):
        for one in weeks.read(folder / "weeks.db"):
            table.add_row(one.zone, f"{one.milliseconds:.0f}")
    console.print(table)


def _upkeep(console: Console, _folder: Path, _given: argparse.Namespace) -> None:
    columns = ("ticks", "missed", "rows sealed", "accounts", "longest write lock, ms", "memory MiB")
    table = Table(*columns, title="sealing an hour of 1,000 accelerators while they are written every 10 s")
    with console.status("keeping a store in order"):
        of = upkeep.measure()
    cells = (of.ticks, of.ticks_missed, of.rows_sealed, of.accounts)
    table.add_row(*map(str, cells), f"{of.longest_lock_ms:.0f}", f"{of.memory_mib:.0f}")
    console.print(table)


def _scrapes(console: Console, folder: Path, given: argparse.Namespace) -> None:
    columns = (
        "monitor",
        "minutes",
        "requests",
        "late by p50 / p99 / max, s",
        "CPU of one core",
        "memory MiB, without mapped files",
        "note",
    )
    table = Table(*columns, title="500 scrape targets every 15 s, 10 dead and 10 hanging among them")
    for watch, seconds in ((scrapes.vatio, given.scrape_seconds), (scrapes.prometheus, given.scrape_seconds / 6)):
        with console.status(f"{watch.__name__}: scraping for {seconds / 60:.0f} minutes"):
            one = watch(_made(folder / watch.__name__), seconds)
        late = f"{one.late_p50_seconds:.2f} / {one.late_p99_seconds:.2f} / {one.late_max_seconds:.2f}"
        requests, memory = (
            f"{one.requests} of {one.expected}",
            f"{one.memory_first_mib:.0f} to {one.memory_last_mib:.0f}",
        )
        table.add_row(one.name, f"{one.seconds / 60:.0f}", requests, late, f"{one.cpu_ratio:.1%}", memory, one.note)
    console.print(table)


def _pages(console: Console, folder: Path, given: argparse.Namespace) -> None:
    with console.status("laying down eight weeks of 1,000 accelerators"):
        fleet = scaled.made(given.scaled)
    with console.status("opening pages"), scaled.ticking(fleet):
        rows = [*pages.measured(fleet), pages.bare(fleet)]
    with console.status("opening the peers' graph pages"):
        rows += pages.peers(folder)
    console.print(pages.table(rows, fleet))


def _sessions(console: Console, _folder: Path, given: argparse.Namespace) -> None:
    with console.status("laying down eight weeks of 1,000 accelerators"):
        fleet = scaled.made(given.scaled)
    with console.status(f"keeping pages open for {given.minutes:g} minutes"), scaled.ticking(fleet):
        found = sessions.measured(fleet, given.minutes)
    console.print(sessions.table(found, fleet))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


PARTS = {
    "ticks": _ticks,
    "monitors": _monitors,
    "stores": _stores,
    "weeks": _weeks,
    "upkeep": _upkeep,
    "scrapes": _scrapes,
    "pages": _pages,
    "sessions": _sessions,
}


def main() -> None:
    """Run everything, or the parts asked for, and print a table for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each monitor is watched")
    parser.add_argument("--interval", type=float, action="append", help="seconds between looks (default: 1 and 10)")
    parser.add_argument("--scrape-seconds", type=float, default=3600.0, help="how long 500 targets are scraped")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long 50 live pages are kept open")
    cache = Path(tempfile.gettempdir()) / "vatio-bench-scaled"
    parser.add_argument(
        "--scaled", type=Path, default=cache, help=f"folder that keeps 1,000 accelerators for an hour ({cache})"
    )
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="vatio-bench-") as folder:
            PARTS[part](console, Path(folder), given)


if __name__ == "__main__":
    main()
