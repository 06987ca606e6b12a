"""What became of wastes from week to week."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from analytics.wastes.waste import Kind, Waste
from analytics.weekly import WeeklySummary, follow, weekly_summary
from analytics.weekly.kept import to_text
from core.summary import Muted, Owner, SummarySettings
from storage import summaries
from storage.summaries import Kept, Made
from tests.analytics.weeks import HOUR_MS, MONDAY_MS, OWNED, WEEK, account, fleet, settings
from tests.conftest import Store

MONDAY = date(2026, 9, 28)
BOOK: dict[str, Any] = {"hardware": [OWNED]}


@pytest.fixture
def week(store: Store) -> WeeklySummary:
    account(store, MONDAY_MS + WEEK * HOUR_MS, *fleet(WEEK + 2))
    return weekly_summary(store.reader, settings(), 2026, 40, MONDAY_MS + WEEK * HOUR_MS)


def kinds(week: WeeklySummary) -> list[Kind]:
    return [one.kind for one in week.records]


def test_a_waste_grows_older_while_it_is_found(week: WeeklySummary):
    assert {(one.since, one.weeks) for one in week.records} == {("2026-W40", 1)}
    again = follow.records(week.wastes, week, SummarySettings(), "2026-W41", MONDAY)
    assert {(one.since, one.weeks) for one in again} == {("2026-W40", 2)}
    elsewhere = [replace(one, sites=("another",)) for one in week.wastes]
    assert {one.weeks for one in follow.records(elsewhere, week, SummarySettings(), "2026-W41", MONDAY)} == {1}


def test_owners_and_mutes_are_found_by_pattern(week: WeeklySummary):
    of = SummarySettings(
        owner=(
            Owner(match="nobody-*", owner="x"),
            Owner(match="BO*", owner="team search"),
            Owner(match="*", owner="y"),
        ),
        muted=(Muted(kind="free*", match="*", reason="spare", until=date(2026, 10, 5)),),
    )
    found = follow.records(week.wastes, None, of, "2026-W40", MONDAY)
    assert {one.owner for one in found} == {"team search"}
    assert {one.kind: one.muted for one in found}[Kind.FREE] == "spare"
    assert [one.muted for one in found if one.kind is not Kind.FREE] == [""] * (len(found) - 1)
    over = follow.records(week.wastes, None, of, "2026-W41", date(2026, 10, 5))
    assert {one.muted for one in over} == {""}


def test_what_is_muted_leaves_the_list_and_its_actions(store: Store, week: WeeklySummary):
    assert Kind.FREE in {one.kind for one in week.wastes}
    muted = {"muted": [{"kind": "free accelerator", "match": "*", "reason": "spare", "until": "2027-01-01"}]}
    at_ms = MONDAY_MS + WEEK * HOUR_MS
    found = weekly_summary(store.reader, settings(summary=muted), 2026, 40, at_ms)
    assert Kind.FREE not in {one.kind for one in found.wastes}
    assert Kind.FREE not in {one.waste.kind for one in found.actions}
    assert kinds(found) == kinds(week)


def followed(before: WeeklySummary, now: list[Waste], **more: Any) -> dict[Kind, tuple[bool | None, float | None]]:
    recorded = follow.records(now, before, SummarySettings(), "2026-W41", MONDAY)
    options = {"hours": before.elapsed_hours, "is_observed": True, **more}
    found = follow.followed(before, recorded, options.pop("hours"), **options)
    return {one.kind: (one.is_done, one.effect_usd) for one in found}


def test_an_action_is_done_where_its_waste_is_gone(week: WeeklySummary):
    action = week.actions[0].waste
    assert action.cost_usd is not None
    left = [one for one in week.wastes if one.kind is not action.kind]
    assert followed(week, left)[action.kind] == (True, pytest.approx(action.cost_usd))
    half = [*left, replace(action, cost_usd=action.cost_usd / 2)]
    assert followed(week, half)[action.kind] == (False, pytest.approx(action.cost_usd / 2))


def test_half_a_week_is_compared_with_half_of_it(week: WeeklySummary):
    action = week.actions[0].waste
    assert action.cost_usd is not None
    found = followed(week, [], hours=week.elapsed_hours / 2)
    assert found[action.kind] == (True, pytest.approx(action.cost_usd / 2))


def test_what_was_not_seen_is_not_called_done(week: WeeklySummary):
    assert set(followed(week, [], is_observed=False).values()) == {(None, None)}


def test_the_week_before_is_the_one_that_was_kept(store: Store, week: WeeklySummary):
    account(store, MONDAY_MS + 2 * WEEK * HOUR_MS, *fleet(WEEK + 2, begin=WEEK))
    at_ms = MONDAY_MS + 2 * WEEK * HOUR_MS
    alone = weekly_summary(store.reader, settings(), 2026, 41, at_ms)
    assert {one.weeks for one in alone.records} == {1}
    assert alone.followed == ()
    one = Kept(
        week="2026-W40",
        version=1,
        made_at_ms=at_ms,
        host="box",
        reason=Made.CLOSED,
        settings_digest="",
        accounts_digest="",
    )
    store.writer.call(lambda connection: None)
    summaries.keep(store.writer.engine, one, to_text(week))
    found = weekly_summary(store.reader, settings(), 2026, 41, at_ms)
    assert {record.weeks for record in found.records if record.kind in kinds(week)} == {2}
    assert [of.is_done for of in found.followed] == [False] * len(week.actions)
