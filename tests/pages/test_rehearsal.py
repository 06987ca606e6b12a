"""What a server does before it listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pages.shared import rehearsal
from pages.shared.filters import View
from storage import queries
from tests.e2e.dashboard import serving
from tests.pages import databases
from tests.pages.conftest import Open


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The families that the store was asked about."""
    families: list[str | None] = []
    ask = queries.entities

    def noted(engine: Any, family: str | None = None) -> Any:
        families.append(family)
        return ask(engine, family)

    monkeypatch.setattr(queries, "entities", noted)
    return families


@pytest.mark.usefixtures("full")
def test_the_first_visitor_gets_what_was_read_in_the_rehearsal(asked: list[str | None], open_page: Open):
    rehearsal.rehearse()
    assert asked
    asked.clear()
    assert not open_page("fleet/overview").exception
    assert asked == []


@pytest.mark.parametrize("store", ["stale", "empty"])
def test_what_is_not_told_yet_is_not_kept(store: str, asked: list[str | None], request: pytest.FixtureRequest):
    """Else the first visitors would see for minutes what was missing when the server started."""
    request.getfixturevalue(store)
    rehearsal.rehearse()
    assert asked == []


def test_what_comes_right_after_the_start_is_seen(stale: Path, now_ms: int, open_page: Open):
    rehearsal.rehearse()
    databases.write(stale, now_ms)
    assert "Stale" not in "".join(box.value for box in open_page("fleet/accelerators").warning)


def test_a_server_says_nothing_of_its_rehearsal(full: Path):
    with serving(full.parent / "vatio.toml"):
        pass
    lines = map(str.strip, (full.parent / "web.log").read_text().splitlines())
    assert [line for line in lines if line and not line.startswith(("You can now view", "URL:"))] == []


@pytest.mark.parametrize("store", ["database", "empty"])
def test_where_nothing_can_be_read_yet_a_server_starts(
    store: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
):
    request.getfixturevalue(store)
    rehearsal.rehearse()
    assert [record for record in caplog.records if record.name == rehearsal.__name__] == []


def test_settings_that_cannot_be_used_keep_no_server_from_starting(database: Path, caplog: pytest.LogCaptureFixture):
    """The page tells which key is wrong; the log has no traceback of it."""
    (database.parent / "vatio.toml").write_text("[sit]\n")
    rehearsal.rehearse()
    assert [record for record in caplog.records if record.name == rehearsal.__name__] == []


@pytest.mark.usefixtures("full")
def test_a_page_that_fails_is_told_and_the_server_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(view: View) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rehearsal, "_DRAWN", (broken,))
    rehearsal.rehearse()
    assert "could not be drawn before the first visit" in caplog.text
