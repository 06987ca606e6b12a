"""What ``python -m storage`` can do, as people and programs see it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.errors import ConfigError, StoreError
from core.settings import Settings
from core.units import show, unit_of
from storage import maintenance, postgres
from storage.inventory import Holding, Inventory, Outlook, take
from storage.schema import DAY_MS
from storage.session import writing
from storage.soundness import iso

BYTES = unit_of("x_bytes")
PIPED_WIDTH = 160


def info(settings: Settings, given: argparse.Namespace) -> int:
    """What the store holds and how it grows."""
    storage, now_ms = settings.storage, _now_ms()
    with maintenance.reading(storage.address, storage.place) as reader:
        with reader.connect() as connection:
            revision = maintenance.revision(connection) or ""
        found = take(reader, storage, now_ms)
    if given.json:
        print(json.dumps(_as_json(settings, found, revision, now_ms), indent=2))  # noqa: T201  the command's product
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        console.print(_holdings(found))
        for name, words in _told(settings, found, revision, now_ms):
            console.print(f"[bold]{name:16}[/]{escape(words)}", soft_wrap=True)
    return 0


def _holdings(found: Inventory) -> Table:
    title = "bytes are those of whole pages" if found.whole_pages else "bytes are those of values, without their pages"
    table = Table(title=title, title_justify="left")
    for name in (
        "kind",
        "rows",
        "in blocks",
        "as rows",
        "as blocks",
        "figures",
        "bytes each",
        "a day",
        "first",
        "last",
    ):
        table.add_column(name, justify="left" if name in ("kind", "first", "last") else "right", no_wrap=True)
    for one in found.holdings:
        times = (one.first_at_ms, one.last_at_ms)
        table.add_row(
            one.kind,
            f"{one.rows:,}",
            f"{one.sealed:,}" if one.sealed else "",
            *(show(size, BYTES) if size else "" for size in (one.row_bytes, one.block_bytes, one.aggregate_bytes)),
            "" if one.bytes_per_fact is None else f"{one.bytes_per_fact:,.1f}",
            show(one.bytes_per_day, BYTES),
            *("" if at_ms is None else iso(at_ms // 1000 * 1000) for at_ms in times),
        )
    return table


def _told(settings: Settings, found: Inventory, revision: str, now_ms: int) -> Iterator[tuple[str, str]]:
    storage = settings.storage
    yield "database", storage.place + (" (simulated: nothing in it was measured)" if found.simulated else "")
    yield "schema", f"revision {revision}"
    yield "size", show(found.file_bytes, BYTES)
    yield "unused pages", "given back by the server" if found.free_bytes is None else _unused(found)
    yield "growth", _growth(found.outlook)
    yield (
        "free disk",
        "not known here: it is the server's" if found.disk_free_bytes is None else show(found.disk_free_bytes, BYTES),
    )
    if found.outlook is not None:
        yield "outlook", _future(found, found.outlook, now_ms)
    yield (
        "spool",
        f"{found.spool.batches:,} batches wait, {show(found.spool.bytes, BYTES)}, in {storage.spool.resolve()}",
    )
    yield "dropped", f"{found.batches_dropped:,} batches ever"
    yield (
        "kept",
        f"samples {storage.keep_samples_days:g} days, events and probes {storage.keep_events_days:g} days, "
        f"ticks and processes {storage.keep_ticks_days:g} days, accounts for ever",
    )


def _unused(found: Inventory) -> str:
    size = show(found.free_bytes, BYTES)
    return f"{size}, which compact gives back" if found.free_bytes else size


def _growth(outlook: Outlook | None) -> str:
    if outlook is None:
        return "unknown: less than a day of data"
    return f"{show(outlook.bytes_per_day, BYTES)} a day, as the last days with data took"


def _future(found: Inventory, outlook: Outlook, now_ms: int) -> str:
    if outlook.full_in_days is not None and outlook.settled_bytes is None:
        return f"the disk is full on {_date(now_ms, outlook.full_in_days)}: shorten storage.keep_*_days, or make room"
    accounts = sum(one.bytes_per_day or 0.0 for one in found.holdings if one.keep_days is None)
    settled = (
        f"settles at {show(outlook.settled_bytes, BYTES)} on {_date(now_ms, outlook.settles_in_days or 0.0)}, "
        f"when as much is removed as comes; accounts then add {show(accounts * 365, BYTES)} a year"
    )
    full = outlook.full_in_days
    return settled if full is None else f"{settled}; the disk is full on {_date(now_ms, full)}"


def _date(now_ms: int, days: float) -> str:
    return iso(round(now_ms + days * DAY_MS))[:10]


def _as_json(settings: Settings, found: Inventory, revision: str, now_ms: int) -> dict[str, object]:
    storage, outlook = settings.storage, found.outlook

    def day(days: float | None) -> str | None:
        return None if days is None else _date(now_ms, days)

    return {
        "database": storage.place,
        "schema_revision": revision,
        "simulated": found.simulated,
        "size_bytes": found.file_bytes,
        "unused_bytes": found.free_bytes,
        "disk_free_bytes": found.disk_free_bytes,
        "whole_pages": found.whole_pages,
        "facts": [_holding_as_json(one) for one in found.holdings],
        "growth_bytes_per_day": None if outlook is None else outlook.bytes_per_day,
        "disk_full_on": None if outlook is None else day(outlook.full_in_days),
        "settled_bytes": None if outlook is None else outlook.settled_bytes,
        "settled_on": None if outlook is None else day(outlook.settles_in_days),
        "spool": {
            "folder": str(storage.spool.resolve()),
            "batches_waiting": found.spool.batches,
            "bytes": found.spool.bytes,
        },
        "batches_dropped": found.batches_dropped,
        "keep_samples_days": storage.keep_samples_days,
        "keep_events_days": storage.keep_events_days,
        "keep_ticks_days": storage.keep_ticks_days,
    }


def _holding_as_json(one: Holding) -> dict[str, object]:
    return {
        "kind": one.kind,
        "rows": one.rows,
        "in_blocks": one.sealed,
        "row_bytes": one.row_bytes,
        "block_bytes": one.block_bytes,
        "aggregate_bytes": one.aggregate_bytes,
        "bytes_each": one.bytes_per_fact,
        "bytes_per_day": one.bytes_per_day,
        "first_at": None if one.first_at_ms is None else iso(one.first_at_ms),
        "last_at": None if one.last_at_ms is None else iso(one.last_at_ms),
    }


def check(settings: Settings, _given: argparse.Namespace) -> int:
    """Whether everything stored is what was written; 1 when not."""
    storage, findings = settings.storage, 0
    with maintenance.reading(storage.address, storage.place, any_revision=True) as reader, _progress() as bar:
        for finding in maintenance.check(reader, bar.told):
            findings += 1
            bar.print(finding.line)
    postgresql = " (the tables themselves were not looked at: PostgreSQL does that)" * isinstance(storage.address, str)
    count = "1 finding" if findings == 1 else f"{findings:,} findings"
    verdict = count if findings else f"{storage.place} is sound{postgresql}"
    print(verdict, file=sys.stderr)  # noqa: T201
    return 1 if findings else 0


def backup(settings: Settings, given: argparse.Namespace) -> int:
    """Copy the store into one file."""
    storage = settings.storage
    if not isinstance(storage.address, Path):
        raise ConfigError(maintenance.PG_DUMP)
    with maintenance.reading(storage.address, storage.place, any_revision=True) as reader, _progress() as bar:
        size = maintenance.backup(reader, given.file, force=given.force, told=bar.told)
    print(f"{given.file}: {show(size, BYTES)}, checked")  # noqa: T201
    return 0


def export(settings: Settings, given: argparse.Namespace) -> int:
    """Write a table."""
    from storage import export as tables  # with pyarrow, which no other command needs
    from storage.export_columns import Wanted, left_out

    zone, storage = settings.site.zone, settings.storage
    wanted = Wanted(
        family=given.family,
        start_ms=instant_ms(given.start, zone, "--from"),
        end_ms=instant_ms(given.end, zone, "--to"),
        metrics=tuple(name.strip() for name in (given.metrics or "").split(",") if name.strip()),
        keys=tuple(given.entity),
        step_seconds=given.step,
    )
    own = storage.address if isinstance(storage.address, Path) else None
    taken = [] if own is None else [own.with_name(own.name + end) for end in ("", "-wal", "-shm", "-journal", ".lock")]
    with maintenance.reading(storage.address, storage.place) as reader, _progress() as bar:
        rows = tables.export(reader, wanted, given.output, given.format, taken=taken, told=bar.told)
    if states := left_out(wanted):
        print(f"left out, since states have no mean: {', '.join(states)}", file=sys.stderr)  # noqa: T201
    print(f"{'standard output' if given.output == '-' else given.output}: {rows:,} rows", file=sys.stderr)  # noqa: T201
    return 0


def compact(settings: Settings, _given: argparse.Namespace) -> int:
    """Do all upkeep now."""
    with _progress() as bar:
        before, after = maintenance.compact(settings.storage, settings.collectors.host_name, _now_ms(), bar.told)
    print(f"{settings.storage.place}: {show(before, BYTES)} before, {show(after, BYTES)} after")  # noqa: T201
    return 0


def rebuild_accounts(settings: Settings, given: argparse.Namespace) -> int:
    """Make accounts again."""
    zone = settings.site.zone
    start_ms = 0 if given.start is None else instant_ms(given.start, zone, "--from")
    end_ms = None if given.end is None else instant_ms(given.end, zone, "--to")
    if end_ms is not None and start_ms >= end_ms:
        raise ConfigError(f"--to {given.end} is not after --from {given.start}: name a later --to")
    with _progress() as bar:
        hours = maintenance.rebuild_accounts(
            settings.storage, settings.collectors.host_name, _now_ms(), start_ms, end_ms, bar.told
        )
    print(f"{settings.storage.place}: accounts of {hours:,} entity-hours made again")  # noqa: T201
    return 0


def distribute(settings: Settings, _given: argparse.Namespace) -> int:
    """Spread the tables over a Citus cluster."""
    if isinstance(settings.storage.address, Path):
        raise ConfigError("distribute is for PostgreSQL with the Citus extension: storage.url names a SQLite file")
    with writing(settings.storage.address, host=settings.collectors.host_name) as writer:
        if not writer.call(postgres.distribute, timeout_seconds=3600.0):
            raise StoreError(f"{settings.storage.place} has no Citus extension: CREATE EXTENSION citus, then again")
    print("distributed by entity")  # noqa: T201
    return 0


COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    "info": info,
    "check": check,
    "backup": backup,
    "export": export,
    "compact": compact,
    "rebuild-accounts": rebuild_accounts,
    "distribute": distribute,
}


def instant_ms(text: str, zone: ZoneInfo, argument: str) -> int:
    """A date or date and time in ISO 8601 as Unix ms; without a zone of its own it is in the site's.

    Raises:
        ConfigError: it is neither.
    """
    try:
        try:
            at = datetime.combine(date.fromisoformat(text), datetime.min.time())
        except ValueError:
            at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=zone) if at.tzinfo is None else at
        return round(at.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        raise ConfigError(f"{argument} {text!r}: expected a date such as 2026-11-25 or 2026-11-25T08:30Z") from exc


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Bar:
    """One bar for each thing that is done; nothing at all where nobody looks."""

    progress: Progress
    tasks: dict[str, TaskID]

    def told(self, what: str, done: int, total: int) -> None:
        """As ``maintenance.Told``."""
        if what not in self.tasks:
            for task in self.tasks.values():
                self.progress.update(task, visible=False)
            self.tasks[what] = self.progress.add_task(what, total=None)
        self.progress.update(self.tasks[what], completed=done, total=total or None)

    def print(self, line: str) -> None:
        """A line on standard output, with the bar out of its way."""
        self.progress.stop()
        print(line, flush=True)  # noqa: T201
        self.progress.start()


@contextmanager
def _progress() -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with Progress(
        *columns, console=console, transient=True, disable=hidden, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield _Bar(progress, {})
