"""Weekly summaries that are kept, and who got them: on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from core.errors import StoreError
from core.readings import CpuSample
from storage import summaries
from storage.batch import Batch
from storage.engine import Address
from storage.session import writing
from storage.summaries import Kept, Made, State
from tests.analytics.weeks import HOUR_MS, MONDAY_MS, WEEK, account, fleet
from tests.conftest import Store

FIRST = Kept(
    week="2026-W46",
    version=1,
    made_at_ms=1_763_000_000_000,
    host="node-1",
    reason=Made.CLOSED,
    settings_digest="a",
    accounts_digest="b",
)


@pytest.fixture
def engine(address: Address) -> Iterator[Engine]:
    with writing(address, host="node-1"), summaries.writing(address, "here") as engine:
        yield engine


def test_a_version_is_kept_as_it_is_while_the_daemon_writes(address: Address):
    with writing(address, host="node-1") as daemon, summaries.writing(address, "here") as engine:
        assert summaries.keep(engine, FIRST, '{"a": 1}')
        daemon.submit(Batch((CpuSample(key="node-1/socket 0", observed_at_ms=1, power_watts=1.0),)))
        assert not summaries.keep(engine, FIRST, '{"a": 2}')
        assert summaries.keep(engine, replace(FIRST, version=2, reason=Made.SETTINGS), '{"a": 3}')
        assert [summaries.content(engine, "2026-W46", version) for version in (1, 2, 3)] == [
            '{"a": 1}',
            '{"a": 3}',
            None,
        ]


def test_weeks_are_listed_newest_first(engine: Engine):
    second, later = replace(FIRST, version=2, reason=Made.DATA), replace(FIRST, week="2027-W01")
    for one in (FIRST, later, second):
        summaries.keep(engine, one, "{}")
    assert summaries.kept(engine) == [later, second, FIRST]
    assert summaries.kept(engine, "2026-W46") == [second, FIRST]


def test_what_other_settings_make_too_is_noted(engine: Engine):
    summaries.keep(engine, FIRST, "{}")
    summaries.confirm(engine, FIRST, "c", "d")
    assert summaries.kept(engine) == [replace(FIRST, settings_digest="c", accounts_digest="d")]


def claim(engine: Engine, now_ms: int, *, again: bool = False) -> bool:
    return summaries.claim(engine, "2026-W46", "managers", 1, now_ms, again=again)


def test_only_one_sends_it_and_never_twice(engine: Engine):
    assert [claim(engine, now_ms) for now_ms in (1, 2)] == [True, False]
    summaries.settle(engine, "2026-W46", "managers", "", None)
    assert not claim(engine, 10**15)
    (found,) = summaries.deliveries(engine)
    assert (found.state, found.attempts, found.error) == (State.DELIVERED, 1, "")


def test_what_failed_is_tried_again_when_its_time_has_come(engine: Engine):
    assert claim(engine, 1)
    summaries.settle(engine, "2026-W46", "managers", "no route", 100)
    assert [claim(engine, now_ms) for now_ms in (99, 100, 101)] == [False, True, False]
    summaries.settle(engine, "2026-W46", "managers", "no route", None)
    assert not claim(engine, 10**15)  # given up
    (found,) = summaries.deliveries(engine)
    assert (found.state, found.attempts, found.error) == (State.FAILED, 2, "no route")


def test_a_person_may_send_it_again(engine: Engine):
    assert claim(engine, 1)
    summaries.settle(engine, "2026-W46", "managers", "", None)
    assert claim(engine, 2, again=True)


def test_accounts_that_change_have_another_digest(store: Store):
    whole = (MONDAY_MS, MONDAY_MS + WEEK * HOUR_MS)
    account(store, MONDAY_MS + 100 * HOUR_MS, *fleet(100))
    before = summaries.accounts_digest(store.reader, *whole)
    assert before == summaries.accounts_digest(store.reader, *whole)
    account(store, MONDAY_MS + 190 * HOUR_MS, *fleet(70, begin=120))
    assert summaries.accounts_digest(store.reader, *whole) != before
    assert summaries.accounts_digest(store.reader, 0, HOUR_MS) == "0 0 0 0"


def test_no_database_is_made_for_it(tmp_path: Path):
    with (
        pytest.raises(StoreError, match=r"no database at .*here\.db"),
        summaries.writing(tmp_path / "here.db", "here.db"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
