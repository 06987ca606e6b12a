"""What the daemon starts every few minutes: keep the weeks, and send the last one that is over when it is time.

Whatever happens in between (a week switched off, two daemons, a crash), a week is sent once to each recipient: sending
is claimed in the store first. A delivery that failed is tried again, later each time, until the next week is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, time, timedelta

from analytics.formulas.local_time import instant_ms
from analytics.weekly import WeeklySummary
from analytics.weekly.kept import read_kept
from core.errors import ConfigError
from core.settings import Settings
from core.sites import WEEKDAYS
from core.summary import Delivery
from reports import deliver
from reports.keep import closed_weeks, keep_so_far, keep_weeks
from reports.words import words
from storage import summaries
from storage.engine import Store

RETRY_MS = 600_000
LONGEST_RETRY_MS = 12 * 3_600_000


def due(settings: Settings, now_ms: int) -> Iterator[str]:
    """Do what is due; yields a line for each thing done.

    Raises:
        StoreError: the store cannot be used.
    """
    if not settings.summary.enabled:
        return
    with summaries.writing(settings.storage.address, settings.storage.place) as engine:
        for one in keep_weeks(engine, settings, now_ms):
            yield f"kept week {one.week}, version {one.version} ({one.reason.value})"
        mondays = closed_weeks(engine, settings, now_ms)
        if mondays and now_ms >= due_ms(settings, mondays[-1]):
            for recipient in settings.summary.deliver:
                for line, _ in send(engine, settings, f"{mondays[-1]:%G-W%V}", recipient, now_ms):
                    yield line
        keep_so_far(engine, settings, now_ms)


def send_again(settings: Settings, week: tuple[int, int], now_ms: int) -> Iterator[tuple[str, bool]]:
    """Send a week that is kept to everybody, since a person asked; yields what became of each, and whether it went.

    Raises:
        ConfigError: there is nobody to send it to, or the week is not kept.
        StoreError: the store cannot be used.
    """
    if not settings.summary.deliver:
        raise ConfigError("--deliver: nobody to send it to; add a [[summary.deliver]], see vatio.example.toml")
    name = f"{week[0]}-W{week[1]:02}"
    with summaries.writing(settings.storage.address, settings.storage.place) as engine:
        if not summaries.kept(engine, name):
            raise ConfigError(
                f"--deliver: week {name} is not kept yet; python -m reports due keeps weeks that are over"
            )
        for recipient in settings.summary.deliver:
            yield from send(engine, settings, name, recipient, now_ms, again=True)


def due_ms(settings: Settings, monday: date) -> int:
    """When the week that begins on a Monday is to be sent: the first such day and hour after its end (Unix ms)."""
    day = monday + timedelta(weeks=1, days=WEEKDAYS.index(settings.summary.weekday))
    return instant_ms(day, time(settings.summary.hour), settings.site.zone)


def send(
    engine: Store, settings: Settings, week: str, to: Delivery, now_ms: int, *, again: bool = False
) -> Iterator[tuple[str, bool]]:
    """Send a week that is kept to somebody, unless that was done or is not due; yields how that went."""
    newest = next(iter(summaries.kept(engine, week)), None)
    summary = None if newest is None else read_kept(engine, week, newest.version)
    if summary is None or newest is None:
        return
    if not summaries.claim(engine, week, to.name, newest.version, now_ms, again=again):
        return
    error = _sent(summary, settings, to)
    (tried,) = (one for one in summaries.deliveries(engine) if (one.week, one.recipient) == (week, to.name))
    pause_ms = min(RETRY_MS * 2 ** (tried.attempts - 1), LONGEST_RETRY_MS)
    summaries.settle(engine, week, to.name, error, now_ms + pause_ms if error else None)
    yield (f"week {week} was not sent to {to.name}: {error}" if error else f"sent week {week} to {to.name}"), not error


def _sent(summary: WeeklySummary, settings: Settings, to: Delivery) -> str:
    """Why it could not be sent; empty where it was."""
    url = os.environ.get(to.url_env, "")
    if not url:
        return f"the environment has no {to.url_env}"
    try:
        return deliver.send(summary, to, url, words(to.language, settings.site.zone, summary.exchange))
    except ConfigError as exc:
        return str(exc)
    except Exception as exc:  # noqa: BLE001  what is claimed must be settled, or it would never be tried again
        return f"making or sending it failed ({type(exc).__name__})"
