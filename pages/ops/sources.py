"""How each source and target of the collectors fares, in words."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd

from core.language import _, count, say, spoken
from core.readings import Outcome, Severity
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.verdict import Finding

Row = dict[Hashable, Any]

WELL, QUIET = _("✓ well"), _("✓ well, nothing to report")
PARTLY, ABSENT, WAITING = _("◐ works in part"), _("○ not here"), _("… not ticked yet")
FAILED, UNAVAILABLE, SILENT = _("✕ failed"), _("✕ not available"), _("✕ silent")
BAD = {FAILED: _("{who} failed"), UNAVAILABLE: _("{who} is not available"), SILENT: _("{who} is silent")}
WORST_FIRST = (*BAD, PARTLY, WAITING, WELL, QUIET, ABSENT)
SHORT = 80  # characters of a reason within the verdict


def states(view: View) -> list[Row]:
    """Every source and target, worst first: the columns of ``queries.health`` and ``state``."""
    health = loaders.health(view.start_ms)
    if view.host is not None:
        health = health[health["host"] == view.host]
    rows = [row | {"state": state(row, view)} for row in health.to_dict("records")]
    return sorted(rows, key=lambda row: WORST_FIRST.index(row["state"]))


def state(row: Row, view: View) -> str:
    """A sign and words, to be said. A source that is absent has not failed: there is nothing for it to read."""
    if row["absent"] == 1:
        return ABSENT
    if row["available"] == 0:
        return UNAVAILABLE
    if not _known(row["last_tick_at"]):
        return WAITING
    if row["outcome"] == Outcome.FAILED.value:
        return FAILED
    if (view.now - row["last_tick_at"]).total_seconds() * 1000 > view.stale_after_ms:
        return SILENT
    if row["outcome"] == Outcome.NO_DATA.value:
        return QUIET
    return PARTLY if row["reason"] and not row["target"] else WELL


def _known(value: object) -> bool:
    """Whether a cell holds anything: not ``None``, NaN or NaT."""
    return not pd.isna(pd.Series([value], dtype="object")).any()


def own(rows: list[Row]) -> list[Row]:
    """Sources as a whole, without their targets."""
    return [row for row in rows if not row["target"]]


def summary(rows: list[Row]) -> str:
    """``5 of 7 sources well; amd: no amdgpu device``."""
    mine = own(rows)
    others = [row for row in mine if row["state"] not in (WELL, QUIET)]
    well, all_ = spoken().number(len(mine) - len(others)), spoken().number(len(mine))
    why = (f"{row['source']}: {words.one_line(row['reason'] or say(row['state']), limit=SHORT)}" for row in others)
    return "; ".join([say("{part} of {all} sources well", part=well, all=all_), *why])


def findings(rows: list[Row], dropped: int, waiting: int, clock: pd.DataFrame) -> list[Finding]:
    """What is wrong with the monitor itself.

    Args:
        rows: ``states``.
        dropped: batches that were lost.
        waiting: batches in the spool.
        clock: events (as ``queries.events`` gives them) of a clock that was set.
    """
    several = len({row["host"] for row in rows}) > 1
    found = []
    for row in rows:
        if row["state"] in BAD:
            who = f"{row['source']} {row['target']}".strip()
            text = say(BAD[row["state"]], who=say("{who} on {host}", who=who, host=row["host"]) if several else who)
            why = row["error"] if row["state"] == FAILED else row["reason"]
            since = row["last_success_at"] if _known(row["last_success_at"]) else None
            found.append(Finding(Severity.WARNING, f"{text}: {why}" if isinstance(why, str) and why else text, since))
    if waiting:
        text = count(
            "the database cannot be written: {number} batch waits on disk until it can",
            "the database cannot be written: {number} batches wait on disk until it can",
            waiting,
        )
        found.append(Finding(Severity.WARNING, text))
    for at, message in zip(clock["observed_at"], clock["message"], strict=True):
        found.append(Finding(Severity.WARNING, message, at))
    if dropped:
        text = count(
            "{number} batch was dropped: the store could not be written",
            "{number} batches were dropped: the store could not be written",
            dropped,
        )
        found.append(Finding(Severity.CRITICAL, text))
    return found
