"""``make bench``: cost of a tick per source, and of whole monitors side by side."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.monitors import Monitor, all_monitors
from benchmarks.ticks import all_sources


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


def main() -> None:
    """Run everything and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each monitor is watched")
    parser.add_argument("--interval", type=float, action="append", help="seconds between looks (default: 1 and 10)")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory(prefix="vatio-bench-") as folder:
        console.print(_ticks_table(Path(folder)))
        columns = ("monitor", "every", "CPU of one core", "memory MiB", "samples/s", "CPU µs/sample", "note")
        table = Table(*columns, title="a whole monitor: this machine and one vLLM server")
        for interval in given.interval or (1.0, 10.0):
            with console.status(f"watching monitors at {interval:g} s"):
                for row in all_monitors(Path(folder), interval, given.seconds):
                    table.add_row(*_monitor_row(row))
        console.print(table)


if __name__ == "__main__":
    main()
