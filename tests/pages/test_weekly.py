"""summary/weekly: the week as it was kept, the running one, versions, languages, files, and who got it."""

from __future__ import annotations

import html
import re
import sqlite3
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from analytics.weekly import Figure
from analytics.weekly.kept import newest_kept
from analytics.weekly.week import week_span
from core.settings import load
from pages.shared import weeks
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

PROMISED = """
[[cost.overhead]]
name = "staff"
per_month = 730.0
[[cost.contract]]
name = "hall"
unit = "gpu_hours"
amount = 3_000.0
price = 1_000.0
hosts = ["box"]
begins = 2026-09-01
ends = 2026-11-01
[[serving.objective]]
model = "alert"
ttft_seconds = 0.3
target_ratio = 0.9
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


def inputs(test: AppTest) -> list[dict[str, tuple[float, ...]]]:
    """The numbers of each table of terms, by what they are of."""
    found = (one.value.map(html.unescape) for one in test.table)
    return [
        {row["Input"]: tuple(map(_number, re.findall(r"\d[\d,.]*", row["Value"]))) for _, row in table.iterrows()}
        for table in found
        if "Input" in table
    ]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


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
    assert "for 2 weeks" in str([one.value for one in test.table])
    assert "Last week" in said(test)
    assert "not kept yet" not in said(test)


def test_another_week_and_language(kept: Path, open_page: Open):
    test = open_page(PAGE, language="es")
    test.selectbox(key="week").select("2026-W40").run()
    assert not test.exception
    assert "Costo total" in values(test)
    assert "Resumen semanal de eficiencia, 2026" in said(test).replace("&#45;", "-")
    assert "nuevo" in str([one.value for one in test.table])


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


def test_the_running_week_is_that_of_the_last_hour_where_it_is_kept(
    database: Path, open_page: Open, now_ms: int, monkeypatch: pytest.MonkeyPatch
):
    configure(database)
    engine = writer_engine(database)
    upgrade(engine)
    writer = Writer(engine, host="box", flush_seconds=0.01)
    writer.start()
    reader = reader_engine(database)
    monday = datetime.fromtimestamp(now_ms / 1000, ZoneInfo("America/Santiago")).date()
    begin_ms = week_span(*monday.isocalendar()[:2], load(database.with_name("vatio.toml"))).start_ms
    if now_ms - begin_ms < 2 * HOUR_MS:
        pytest.skip("the week has no whole hour yet")
    hour = (now_ms - begin_ms) // HOUR_MS - 1 + WEEK * ((begin_ms - MONDAY_MS) // (WEEK * HOUR_MS))
    account(Store(database, database, writer, reader), now_ms, *fleet(1, begin=hour))
    writer.stop()
    reader.dispose()
    keep(database, now_ms)

    def no_more(*of: object) -> None:
        raise AssertionError("it is kept")

    monkeypatch.setattr(weeks, "weekly_summary", no_more)
    test = open_page(PAGE)
    test.selectbox(key="week").select(test.selectbox(key="week").options[0]).run()
    assert not test.exception
    assert "not kept yet" in said(test)
    configure(database, 70_080.0)  # other prices: what is kept does not hold
    st.cache_resource.clear()
    assert open_page(PAGE).exception


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


@pytest.fixture
def promised(kept: Path) -> Path:
    """With a PUE, a grid factor, overhead, a contract and an objective: every figure has a value."""
    config = kept.with_name("vatio.toml")
    configure(kept, more=PROMISED)
    site = "usd_per_kwh = 0.1\npue_ratio = 1.2\ngrid_gco2e_per_kwh = 250"
    config.write_text(config.read_text().replace("usd_per_kwh = 0.1", site))
    keep(kept)
    return kept


def kept_figures(database: Path) -> dict[str, Figure]:
    engine = reader_engine(database)
    summary = newest_kept(engine, "2026-W41")
    engine.dispose()
    assert summary is not None
    return summary.figures


def test_each_figure_follows_from_the_terms_beside_it(promised: Path, open_page: Open):
    test = open_page(PAGE)
    assert not test.exception
    of, shown = kept_figures(promised), inputs(test)
    assert len(shown) == 12
    cost, unit, tokens, _, _, gpus, idle, energy, carbon, _, month, coverage = (
        {name: numbers[0] for name, numbers in one.items() if numbers} for one in shown
    )
    output, dollars = unit["Output tokens"], unit["Total cost"]
    computed = {
        "total_usd": sum(list(cost.values())[:4]),
        "usd_per_million_output_tokens": dollars / output * 1e6,
        "usd_per_million_tokens": dollars / (output + unit["Prompt tokens"]) * 1e6,
        "output_tokens": tokens["Output tokens"],
        "used_ratio": gpus["GPU-hours used"] / gpus["GPU-hours available"],
        "idle_usd": idle["hardware while idle"] + idle["electricity while idle"],
        "idle_ratio": (idle["hardware while idle"] + idle["electricity while idle"]) / idle["Total cost"],
        "kwh": energy["energy while active"] + energy["energy while idle"],
        "joules_per_output_token": energy["Energy"] * 3.6e6 / energy["Output tokens"],
        "grams_per_million_output_tokens": carbon["energy, this site"]
        * carbon["grid factor, this site"]
        / carbon["Output tokens"]
        * 1e6,
        "covered_ratio": coverage["device-hours observed"] / coverage["device-hours"],
    }
    assert computed == pytest.approx({key: of[key].value for key in computed}, rel=1e-3)
    assert energy["PUE of this site"] == 1.2
    spent, left, mean, deviation, days = list(month.values())[:5]
    error = 2 * deviation * (left + left**2 / days) ** 0.5
    ends = [of["month_end_usd"].low, of["month_end_usd"].high]
    assert ends == pytest.approx([spent + max(mean * left - error, 0), spent + mean * left + error], rel=1e-3)


def test_shares_and_percentiles_follow_from_their_terms(promised: Path, open_page: Open):
    of, shown = kept_figures(promised), inputs(open_page(PAGE))
    attained, contract = of["attained_ratio"], shown[9]
    ends = shown[3][f"{HOSTILE}: within the objective"]  # of one model, so of all requests
    assert [attained.low, attained.high] == pytest.approx([end / 100 for end in ends], abs=1e-4)
    (used,), (delivered,) = contract["hall: used"], contract["hall: delivered"]
    assert of["commitment_used_ratio"].value == pytest.approx(used / delivered, rel=1e-3)
    total, *upto = (shown[4][f"TTFT: {what}"][-1] for what in ("observations", "up to 0.1 s", "up to 0.5 s"))
    inside = (0.95 * total - upto[0]) / (upto[1] - upto[0])
    assert of["ttft_p95_seconds"].value == pytest.approx(0.1 + inside * (0.5 - 0.1), rel=1e-3)


def test_a_week_kept_before_its_inputs_were_still_opens(promised: Path, open_page: Open):
    with sqlite3.connect(promised) as connection:
        connection.execute("UPDATE weekly_summary SET content = json_remove(content, '$.inputs')")
    test = open_page(PAGE)
    assert not test.exception
    assert "the week was kept before its inputs were" in str([one.value for one in test.table])
    shown = inputs(test)
    assert sum(numbers[0] for numbers in list(shown[0].values())[:4]) == pytest.approx(
        shown[0]["Total cost"][0], abs=0.02
    )


def test_what_is_unknown_says_so_among_its_terms(kept: Path, open_page: Open):
    test = open_page(PAGE, language="es")
    unknown = next(one.value for one in test.table if "Compromisos usados" in list(one.value["Dato"]))
    assert unknown.to_numpy().tolist() == [["Compromisos usados", "sin contrato", "desconocido"]]
