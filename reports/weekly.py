"""The weekly summary as files: one per format, each from the same data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from analytics.formulas.local_time import MS_PER_HOUR, local
from analytics.weekly import WeeklySummary, kept, week_span, weekly_summary
from core.errors import ConfigError
from core.settings import Settings
from reports import as_csv, as_html, as_json, as_pdf, as_xlsx
from reports.words import Words
from storage import maintenance, summaries

FORMATS: Mapping[str, Callable[[WeeklySummary, Words], bytes]] = {
    "json": as_json.file,
    "csv": as_csv.file,
    "html": as_html.file,
    "xlsx": as_xlsx.file,
    "pdf": as_pdf.file,
}
"""What makes the content of a file of each format."""
_WEEK = re.compile(r"(\d{4})-W(\d{2})")


def week_of(text: str | None, settings: Settings, now_ms: int) -> tuple[int, int]:
    """Year and number of a week such as ``2026-W46``; ``None`` means the last whole one.

    Raises:
        ConfigError: there is no such week, or it has not begun.
    """
    zone = settings.site.zone
    if text is None:
        year, week, _ = (local(now_ms, zone) - timedelta(weeks=1)).isocalendar()
        return year, week
    named = _WEEK.fullmatch(text)
    try:
        year, week = (int(part) for part in named.groups()) if named else (0, 0)
        span = week_span(year, week, settings)
    except (ValueError, OverflowError) as exc:
        raise ConfigError(f"--week {text!r}: expected a week of ISO 8601 such as 2026-W46") from exc
    if span.start_ms > now_ms - MS_PER_HOUR:
        begins = datetime.fromtimestamp(span.start_ms / 1000, zone)
        raise ConfigError(
            f"--week {text}: begins on {begins:%Y-%m-%d %H:%M %Z}; expected one that has an hour to tell of"
        )
    return year, week


def read(settings: Settings, week: tuple[int, int], now_ms: int) -> WeeklySummary:
    """The summary made from the accounts, at the prices of the settings.

    Raises:
        StoreError: the store cannot be read.
    """
    with maintenance.reading(settings.storage.address, settings.storage.place) as reader:
        return weekly_summary(reader, settings, *week, now_ms)


def read_as_kept(settings: Settings, week: tuple[int, int], version: int | None = None) -> WeeklySummary | None:
    """The summary as it was kept when the week was over; ``None`` where it is not kept.

    Args:
        settings: with the store.
        week: year and number.
        version: one of them; ``None``: the newest that this release can read.

    Raises:
        ConfigError: there is no such version.
        StoreError: the store cannot be read, or that version cannot.
    """
    name = f"{week[0]}-W{week[1]:02}"
    with maintenance.reading(settings.storage.address, settings.storage.place) as reader:
        if version is None:
            return kept.newest_kept(reader, name)
        found = kept.read_kept(reader, name, version)
        if found is None:
            known = ", ".join(str(one.version) for one in reversed(summaries.kept(reader, name))) or "none"
            raise ConfigError(f"--version {version}: week {name} has no such version; kept: {known}")
        return found


def file_name(summary: WeeklySummary, extension: str) -> str:
    """What a file of a week is called."""
    return f"vatio-{'simulated-' if summary.is_simulated else ''}{summary.name}.{extension}"


def write(summary: WeeklySummary, formats: Iterable[str], folder: Path, words: Words) -> list[Path]:
    """Write a file for each format into a folder, made where it lacks; a file is there whole or not at all.

    Raises:
        OSError: folder or file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        file = folder / file_name(summary, name)
        content = FORMATS[name](summary, words)
        part = file.with_name(f".{file.name}.part")
        try:
            part.write_bytes(content)
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
        written.append(file)
    return written
