"""Keep the weeks that are over: each when it closes, and once more where prices or late data change what it says.

The running week is kept as well, hour by hour in the place of the hour before, so that nobody waits for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta

from analytics.formulas.local_time import MS_PER_HOUR, local
from analytics.weekly import begun_ms_of, kept, weekly_summary
from analytics.weekly.week import week_span
from core.settings import Settings
from storage import queries, summaries
from storage.engine import Store
from storage.summaries import SO_FAR, Kept, Made

PATIENCE_HOURS = 24
"""A week is made without its last hours where accounts have not reached its end by then."""
LATE_WEEKS = 5
"""So far back it is looked whether data came late."""


def keep_weeks(engine: Store, settings: Settings, now_ms: int) -> Iterator[Kept]:
    """Make what is missing, oldest first, since a week refers to the one before; yields what was kept.

    Args:
        engine: from ``summaries.writing``.
        settings: with prices, promises, owners and what is muted.
        now_ms: the time.
    """
    mondays = closed_weeks(engine, settings, now_ms)
    newest = {one.week: one for one in reversed(summaries.kept(engine))}
    of_settings = settings_digest(settings)
    for number, monday in enumerate(mondays, start=1):
        year, week, _ = monday.isocalendar()
        span, name = week_span(year, week, settings), f"{monday:%G-W%V}"
        have = newest.get(name)
        is_recent = len(mondays) - number < LATE_WEEKS
        of_accounts = summaries.accounts_digest(engine, *span) if have is None or is_recent else have.accounts_digest
        if have is not None:
            if have.host != settings.collectors.host_name:
                continue  # one that has other prices would make it again and again
            if (have.settings_digest, have.accounts_digest) == (of_settings, of_accounts):
                continue
        text = kept.to_text(weekly_summary(engine, settings, year, week, now_ms))
        if have is not None and summaries.content(engine, name, have.version) == text:
            summaries.confirm(engine, have, of_settings, of_accounts)
            continue
        made = Kept(
            week=name,
            version=1 if have is None else have.version + 1,
            made_at_ms=now_ms,
            host=settings.collectors.host_name,
            reason=_reason(have, of_settings),
            settings_digest=of_settings,
            accounts_digest=of_accounts,
        )
        if summaries.keep(engine, made, text):
            yield made


def keep_so_far(engine: Store, settings: Settings, now_ms: int) -> None:
    """Make the running week as far as it has come, where an hour was accounted for or a price changed since."""
    monday = local(now_ms, settings.site.zone).date()
    year, week, _ = monday.isocalendar()
    accounted_ms = max(queries.accounted_until(engine).values(), default=0)
    if accounted_ms <= week_span(year, week, settings).start_ms:
        return
    made = Kept(
        week=f"{year}-W{week:02}",
        version=SO_FAR,
        made_at_ms=now_ms,
        host=settings.collectors.host_name,
        reason=Made.HOUR,
        settings_digest=settings_digest(settings),
        accounts_digest=str(accounted_ms),
    )
    have = summaries.kept_so_far(engine)
    if have is not None and have.week == made.week and have.host != made.host:
        return  # as for the weeks that are over
    if have is None or _rests_on(have) != _rests_on(made):
        text = kept.to_text(weekly_summary(engine, settings, year, week, now_ms))
        summaries.keep_so_far(engine, made, text)


def _rests_on(one: Kept) -> tuple[str, ...]:
    return one.week, one.settings_digest, one.accounts_digest


def closed_weeks(engine: Store, settings: Settings, now_ms: int) -> list[date]:
    """Mondays of all weeks that are over and accounted for, from the first that has anything, oldest first."""
    begun_ms = begun_ms_of(engine)
    accounted_ms = max(queries.accounted_until(engine).values(), default=None)
    if begun_ms is None or accounted_ms is None:
        return []
    found: list[date] = []
    monday = local(begun_ms, settings.site.zone).date()
    monday -= timedelta(days=monday.weekday())
    while True:
        year, week, _ = monday.isocalendar()
        end_ms = week_span(year, week, settings).end_ms
        if end_ms > now_ms or (end_ms > accounted_ms and now_ms < end_ms + PATIENCE_HOURS * MS_PER_HOUR):
            return found
        found.append(monday)
        monday += timedelta(weeks=1)


def settings_digest(settings: Settings) -> str:
    """What tells whether settings that a summary depends on have changed."""
    hosted = [(one.name, one.usd_per_million_input_tokens, one.usd_per_million_output_tokens) for one in settings.probe]
    told = (
        settings.site.model_dump_json(),
        settings.cost.model_dump_json(),
        repr(settings.serving.objective),
        repr((settings.summary.owner, settings.summary.muted)),
        repr(hosted),
    )
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _reason(have: Kept | None, of_settings: str) -> Made:
    if have is None:
        return Made.CLOSED
    return Made.SETTINGS if have.settings_digest != of_settings else Made.DATA
