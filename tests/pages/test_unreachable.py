"""Pages over a PostgreSQL server that is not there, or not any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st

from tests.fixtures.postgresql import PostgreSQL
from tests.pages.conftest import Open

NOTHING = "Nothing has been measured yet."


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write an address into the settings."""

    def write(url: str) -> None:
        (tmp_path / "vatio.toml").write_text(f'[storage]\nurl = "{url}"\n')
        monkeypatch.setenv("VATIO_CONFIG", str(tmp_path / "vatio.toml"))

    return write


def test_a_server_that_is_not_there(choose: Callable[[str], None], open_page: Open) -> None:
    choose("postgresql+psycopg://vatio@127.0.0.1:1/vatio")
    page = open_page("fleet/overview")
    assert not page.exception
    assert page.info[0].value == NOTHING
    assert "Connection refused" in page.text[0].value


def test_a_server_that_goes_away_and_comes_back(
    choose: Callable[[str], None], open_page: Open, postgresql: PostgreSQL, new_database: Callable[..., str]
) -> None:
    choose(new_database())
    page = open_page("fleet/overview")
    assert not page.exception
    assert not page.info or page.info[0].value != NOTHING
    postgresql.stop()
    try:
        st.cache_data.clear()  # what was read a moment ago would be shown a little longer
        page.run()
        assert not page.exception
        assert page.info[0].value == NOTHING
    finally:
        postgresql.start()
    page.run()
    assert not page.exception
    assert not page.info or page.info[0].value != NOTHING
