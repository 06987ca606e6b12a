"""summary/weekly: the week as it was kept, the running one, versions, languages, files, and who got it."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.settings import load
from reports.due import due
from storage import summaries
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.writer import Writer
from tests.analytics.weeks import HOUR_MS, MONDAY_MS, WEEK, account, fleet
from tests.conftest import Store
from tests.pages.additions import said
from tests.pages.conftest import Open
from tests.pages.databases import HOSTILE

PAGE = "summary/weekly"
PRICED = """
usd_per_kwh = 0.1
[collectors]
host_name = "box"
[[cost.hardware]]
kind = "owned"
applies_to = "accelerator"
capex = {capex}
life_years = 4
"""


def configure(database: Path, capex: float = 35_040.0, more: str = "") -> None:
    config = database.with_name("vatio.toml")
    begin = f'[storage]\nurl = "sqlite:///{database}"\n[site]\ntime_zone = "America/Santiago"\n'
    config.write_text(begin + PRICED.format(capex=capex) + more)


def keep(database: Path, now_ms: int = MONDAY_MS + 2 * WEEK * HOUR_MS + 12 * HOUR_MS) -> list[str]:
    """What the daemon's command does."""
    return list(due(load(database.with_name("vatio.toml")), now_ms))


@pytest.fixture(scope="session")
def two_weeks(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with accounts of two weeks; its model has a name that means something to Markdown and HTML."""
    path = tmp_path_factory.mktemp("weeks") / "vatio.db"
    engine = writer_engine(path)
    upgrade(engine)
    writer = Writer(engine, host="box", flush_seconds=0.01)
    writer.start()
    reader = reader_engine(path)
    account(Store(path, path, writer, reader), MONDAY_MS + 2 * WEEK * HOUR_MS, *fleet(2 * WEEK, model=HOSTILE))
    writer.stop()
    reader.dispose()
    return path.read_bytes()


@pytest.fixture
def kept(database: Path, two_weeks: bytes) -> Path:
    database.write_bytes(two_weeks)
    configure(database)
    assert len(keep(database)) == 2
    return database


def values(test: AppTest) -> dict[str, str]:
    return {html.unescape(one.label): html.unescape(one.value) for one in test.metric}


def test_without_a_database_it_says_what_to_start(database: Path, open_page: Open):
    assert "Nothing has been measured yet" in said(open_page(PAGE))


def test_an_hour_has_to_be_over(empty: Path, full: Path, open_page: Open):
    test = open_page(PAGE)
    assert not test.exception
    assert "There is no week to tell of yet" in said(test)


def test_it_opens_on_the_last_week_that_is_kept(kept: Path, open_page: Open):
    test = open_page(PAGE)
    assert not test.exception
    assert test.selectbox(key="week").value == "2026-W41"
    summary = reader_engine(kept)
    assert len(summaries.kept(summary)) == 2
    summary.dispose()
    assert values(test)["Total cost"] == "341.88 USD"
    assert len(test.metric) == 12
    assert "for 2 weeks" in str(test.table[0].value)
    assert "Last week" in said(test)
    assert "not kept yet" not in said(test)


def test_another_week_and_language(kept: Path, open_page: Open):
    test = open_page(PAGE, language="es")
    test.selectbox(key="week").select("2026-W40").run()
    assert not test.exception
    assert "Costo total" in values(test)
    assert "Resumen semanal de eficiencia, 2026" in said(test).replace("&#45;", "-")
    assert "nuevo" in str(test.table[0].value)


def test_no_name_is_read_as_markup(kept: Path, open_page: Open):
    test = open_page(PAGE)
    texts = [one.value for kind in (test.markdown, test.caption, test.info) for one in kind]
    cells = [str(cell) for table in test.table for cell in table.value.to_numpy().ravel()]
    named = [text for text in (*texts, *cells) if "javascript" in text]
    assert named
    for text in named:
        assert not any(mark in text for mark in ("<script>", "](", "*x*", "$y$", ":red["))


def test_an_earlier_version_stays_readable(kept: Path, open_page: Open):
    before = values(open_page(PAGE))["Total cost"]
    configure(kept, capex=2 * 35_040.0)
    assert len(keep(kept)) == 2
    st.cache_data.clear()
    test = open_page(PAGE)
    assert values(test)["Total cost"].startswith("67")
    assert "2 versions of this week are kept" in said(test)
    test.selectbox(key="version-2026-W41").select(1).run()
    assert values(test)["Total cost"] == before


def test_the_running_week_is_made_as_it_is_so_far(kept: Path, open_page: Open):
    test = open_page(PAGE)
    running = test.selectbox(key="week").options[0]
    test.selectbox(key="week").select(running).run()
    assert not test.exception
    assert "This week is not kept yet" in said(test)
    assert values(test)["Total cost"] == "—"  # nothing was seen since


def test_who_got_it_and_who_did_not(kept: Path, open_page: Open):
    configure(kept, more='[[summary.deliver]]\nname = "managers"\nurl_env = "NOT_SET"\n')
    assert keep(kept) == ["week 2026-W41 was not sent to managers: the environment has no NOT_SET"]
    test = open_page(PAGE)
    (row,) = test.dataframe[0].value.to_dict("records")
    assert (row["recipient"], row["state"]) == ("managers", "failed")
    assert row["what was said"] == "the environment has no NOT_SET"
    assert row["next try"]
    assert "python -m reports weekly --week 2026-W41 --deliver" in said(test)
