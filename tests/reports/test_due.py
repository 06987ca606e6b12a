"""What is due: weeks are kept once and again only where they say something else, and sent once to each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics.weekly.kept import read_kept
from core.settings import Settings
from reports.due import RETRY_MS, due, due_ms
from reports.keep import PATIENCE_HOURS, closed_weeks
from storage import summaries
from storage.summaries import SO_FAR, State
from tests.analytics.weeks import HOUR_MS, MONDAY_MS, OWNED, WEEK, account, fleet, settings
from tests.conftest import Store
from tests.reports.receiving import Hook, hook
from tests.reports.test_command import run

SECOND_MS = MONDAY_MS + WEEK * HOUR_MS
THIRD_MS = SECOND_MS + WEEK * HOUR_MS
SEVEN_MS = 7 * HOUR_MS


@pytest.fixture
def two_weeks(store: Store) -> Store:
    """A store with two whole weeks of accounts, and three hours of the next."""
    account(store, THIRD_MS + 3 * HOUR_MS, *fleet(2 * WEEK + 3))
    return store


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with hook() as found:
        monkeypatch.setenv("HOOK_URL", found.url)
        yield found


def of(store: Store, **more: Any) -> Settings:
    return settings(storage={"url": url(store)}, collectors={"host_name": "box"}, **more)


def url(store: Store) -> str:
    return store.address if isinstance(store.address, str) else f"sqlite:///{store.address}"


def to(name: str = "ops", **more: Any) -> dict[str, Any]:
    return {"deliver": [{"name": name, "url_env": "HOOK_URL", "format": [], **more}]}


def do(the_settings: Settings, now_ms: int) -> list[str]:
    return list(due(the_settings, now_ms))


def test_each_week_is_kept_once_when_it_is_over(two_weeks: Store):
    assert do(of(two_weeks), THIRD_MS - 1) == ["kept week 2026-W40, version 1 (closed)"]
    assert do(of(two_weeks), THIRD_MS) == ["kept week 2026-W41, version 1 (closed)"]
    assert do(of(two_weeks), THIRD_MS + 1) == []
    kept = read_kept(two_weeks.reader, "2026-W41", 1)
    assert kept is not None
    assert {one.weeks for one in kept.records} == {2}  # it knows the week before


def test_the_running_week_is_kept_as_far_as_it_has_come_and_made_anew_each_hour(store: Store):
    account(store, THIRD_MS + 3 * HOUR_MS, *fleet(2 * WEEK + 3))
    do(of(store), THIRD_MS + 3 * HOUR_MS)
    first, early = summaries.kept_so_far(store.reader), read_kept(store.reader, "2026-W42", SO_FAR)
    assert first is not None
    assert early is not None
    assert (first.week, early.is_whole, early.elapsed_hours) == ("2026-W42", False, 3)
    assert "2026-W42" not in {one.week for one in summaries.kept(store.reader)}
    do(of(store), THIRD_MS + 3 * HOUR_MS + 900_000)
    assert summaries.kept_so_far(store.reader) == first
    account(store, THIRD_MS + 5 * HOUR_MS, *fleet(2, begin=2 * WEEK + 3))
    do(of(store), THIRD_MS + 5 * HOUR_MS)
    later = read_kept(store.reader, "2026-W42", SO_FAR)
    assert later is not None
    assert later.elapsed_hours == 5
    dearer = of(store, cost={"hardware": [{**OWNED, "capex": 2 * OWNED["capex"]}]})
    do(dearer, THIRD_MS + 5 * HOUR_MS + 1)
    again = read_kept(store.reader, "2026-W42", SO_FAR)
    assert again is not None
    assert again.figures["total_usd"].value > later.figures["total_usd"].value  # type: ignore[operator]


def test_another_price_makes_another_version_and_the_old_one_stays(two_weeks: Store):
    do(of(two_weeks), THIRD_MS)
    before = summaries.content(two_weeks.reader, "2026-W40", 1)
    dearer = of(two_weeks, cost={"hardware": [{**OWNED, "capex": 2 * OWNED["capex"]}]})
    assert do(dearer, THIRD_MS + 1) == [f"kept week 2026-W{week}, version 2 (settings)" for week in (40, 41)]
    assert do(dearer, THIRD_MS + 2) == []
    assert summaries.content(two_weeks.reader, "2026-W40", 1) == before
    one, two = (read_kept(two_weeks.reader, "2026-W40", version) for version in (1, 2))
    assert one is not None
    assert two is not None
    assert two.figures["total_usd"].value > 1.5 * one.figures["total_usd"].value  # type: ignore[operator]


def test_a_price_of_days_to_come_makes_no_version(two_weeks: Store):
    do(of(two_weeks), THIRD_MS)
    later = {"hardware": [{**OWNED, "valid_to": "2027-01-01"}, {**OWNED, "capex": 1.0, "valid_from": "2027-01-01"}]}
    assert do(of(two_weeks, cost=later), THIRD_MS + 1) == []
    assert do(of(two_weeks, cost=later), THIRD_MS + 2) == []


def test_data_that_come_late_make_another_version(store: Store):
    account(store, THIRD_MS + 3 * HOUR_MS, *fleet(WEEK + 50), *fleet(3, begin=2 * WEEK))
    do(of(store), THIRD_MS)
    account(store, THIRD_MS + 3 * HOUR_MS, *fleet(60, begin=WEEK + 60))
    assert do(of(store), THIRD_MS + 1) == ["kept week 2026-W41, version 2 (data)"]
    one, two = (read_kept(store.reader, "2026-W41", version) for version in (1, 2))
    assert one is not None
    assert two is not None
    assert two.figures["kwh"].value > one.figures["kwh"].value  # type: ignore[operator]


def test_another_host_with_other_prices_does_not_make_it_again(two_weeks: Store):
    do(of(two_weeks), THIRD_MS)
    other = settings({}, storage={"url": url(two_weeks)}, collectors={"host_name": "edge"})
    assert do(other, THIRD_MS + 1) == []
    do(of(two_weeks), THIRD_MS + 3 * HOUR_MS)
    mine = summaries.kept_so_far(two_weeks.reader)
    assert mine is not None
    do(other, THIRD_MS + 3 * HOUR_MS + 1)
    assert summaries.kept_so_far(two_weeks.reader) == mine


def test_a_week_waits_for_its_accounts_but_not_for_ever(store: Store):
    account(store, SECOND_MS - 5 * HOUR_MS, *fleet(WEEK - 5))
    assert closed_weeks(store.reader, of(store), SECOND_MS + HOUR_MS) == []
    late = SECOND_MS + PATIENCE_HOURS * HOUR_MS
    assert [str(monday) for monday in closed_weeks(store.reader, of(store), late)] == ["2026-09-28"]


def test_it_is_sent_at_its_hour_and_once(two_weeks: Store, server: Hook):
    the_settings = of(two_weeks, summary=to())
    assert due_ms(the_settings, closed_weeks(two_weeks.reader, the_settings, THIRD_MS)[-1]) == THIRD_MS + SEVEN_MS
    do(the_settings, THIRD_MS + SEVEN_MS - 1)
    assert server.taken == []
    assert do(the_settings, THIRD_MS + SEVEN_MS) == ["sent week 2026-W41 to ops"]
    assert do(the_settings, THIRD_MS + SEVEN_MS + 1) == []
    assert [one["title"] for one in server.taken] == ["Weekly efficiency summary, 2026-W41"]


def test_after_weeks_of_silence_only_the_last_one_is_sent(two_weeks: Store, server: Hook):
    made = do(of(two_weeks, summary=to()), THIRD_MS + 40 * HOUR_MS)
    assert made[-1] == "sent week 2026-W41 to ops"
    assert len(server.taken) == 1


def test_another_day_and_hour_and_language(two_weeks: Store, server: Hook):
    the_settings = of(two_weeks, summary={"weekday": "wed", "hour": 18, **to(language="pt_BR")})
    wednesday = THIRD_MS + (48 + 18) * HOUR_MS
    do(the_settings, wednesday - 1)
    assert server.taken == []
    do(the_settings, wednesday)
    assert [one["title"] for one in server.taken] == ["Resumo semanal de eficiência, 2026-W41"]


def test_what_failed_is_tried_again_later_each_time_and_never_lost(two_weeks: Store, server: Hook):
    the_settings, at_ms = of(two_weeks, summary=to()), THIRD_MS + SEVEN_MS
    server.status = 500
    (said,) = do(the_settings, at_ms)[-1:]
    assert said.startswith("week 2026-W41 was not sent to ops: ")
    assert do(the_settings, at_ms + RETRY_MS - 1) == []
    assert len(do(the_settings, at_ms + RETRY_MS)) == 1
    assert do(the_settings, at_ms + 2 * RETRY_MS) == []  # longer now
    server.status = 200
    assert do(the_settings, at_ms + 3 * RETRY_MS) == ["sent week 2026-W41 to ops"]
    (found,) = summaries.deliveries(two_weeks.reader)
    assert (found.state, found.attempts, found.error) == (State.DELIVERED, 3, "")
    assert len(server.taken) == 1


def test_one_who_cannot_be_reached_costs_no_other(two_weeks: Store, server: Hook):
    both = {"deliver": [{"name": "a", "url_env": "NOT_SET", "format": []}, *to("b")["deliver"]]}
    said = do(of(two_weeks, summary=both), THIRD_MS + SEVEN_MS)
    assert said[-2:] == [
        "week 2026-W41 was not sent to a: the environment has no NOT_SET",
        "sent week 2026-W41 to b",
    ]


def test_nothing_is_done_where_it_is_switched_off(two_weeks: Store):
    assert do(of(two_weeks, summary={"enabled": False}), THIRD_MS) == []
    assert summaries.kept(two_weeks.reader) == []


def config(store: Store, folder: Path, more: str = "") -> Path:
    file = folder / "vatio.toml"
    zone = 'time_zone = "America/Santiago"\n'
    file.write_text(f'[site]\n{zone}[storage]\nurl = "{url(store)}"\n[collectors]\nhost_name = "box"\n{more}')
    return file


DELIVER = '[[summary.deliver]]\nname = "ops"\nurl_env = "HOOK_URL"\nformat = []\n'


@pytest.fixture
def command(two_weeks: Store, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    file = config(two_weeks, tmp_path, DELIVER)

    def typed(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run(*words, "--config", str(file), **env)

    return typed


def test_the_commands_as_the_daemon_and_a_person_type_them(
    command: Callable[..., subprocess.CompletedProcess[str]], two_weeks: Store, server: Hook, tmp_path: Path
):
    assert command("weekly", "--week", "2026-W41", "--deliver").returncode == 2  # not kept yet
    first = command("due")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[:2] == [f"kept week 2026-W{week}, version 1 (closed)" for week in (40, 41)]
    again = command("weekly", "--week", "2026-W41", "--deliver")
    assert (again.returncode, again.stdout) == (0, "sent week 2026-W41 to ops\n")
    server.status = 500
    failed = command("weekly", "--week", "2026-W41", "--deliver")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "hunter2" not in failed.stderr
    written = command("weekly", "--week", "2026-W40", "--format", "json", "--version", "1", "--output", str(tmp_path))
    assert written.returncode == 0, written.stderr
    wrong = command("weekly", "--week", "2026-W40", "--format", "json", "--version", "7")
    assert (wrong.returncode, wrong.stderr) == (2, "--version 7: week 2026-W40 has no such version; kept: 1\n")
