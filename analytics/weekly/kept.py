"""Weeks as they were kept when they were over: their form in the store, and reading them back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from pydantic import TypeAdapter, ValidationError

from analytics.weekly.summary import WeeklySummary
from core.errors import StoreError
from storage import summaries
from storage.engine import Store


@cache
def _form() -> TypeAdapter[WeeklySummary]:
    return TypeAdapter(WeeklySummary)


def to_text(summary: WeeklySummary) -> str:
    """A summary as JSON. Hours of single devices are left out: accounts have them."""
    wastes = tuple(replace(one, stretches=()) for one in summary.wastes)
    actions = tuple(one._replace(waste=replace(one.waste, stretches=())) for one in summary.actions)
    return _form().dump_json(replace(summary, wastes=wastes, actions=actions)).decode()


def from_text(text: str) -> WeeklySummary:
    """A summary as it was; ``ValueError`` where the text is none."""
    return _form().validate_json(text)


def read_kept(engine: Store, week: str, version: int) -> WeeklySummary | None:
    """A version of a week as it was made; ``None``: there is no such version.

    Raises:
        StoreError: it is there, and cannot be read.
    """
    text = summaries.content(engine, week, version)
    if text is None:
        return None
    try:
        return from_text(text)
    except ValidationError as exc:
        raise StoreError(
            f"version {version} of week {week} was kept by a Vatio that this one cannot read: "
            f"python -m reports weekly --week {week} makes it from the accounts"
        ) from exc


def newest_kept(engine: Store, week: str) -> WeeklySummary | None:
    """The newest version of a week; ``None`` where none is kept that this release can read."""
    newest = next(iter(summaries.kept(engine, week)), None)
    try:
        return None if newest is None else read_kept(engine, week, newest.version)
    except StoreError:
        return None
