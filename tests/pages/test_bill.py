"""cost/tokens by accounts: the bill, deployments as parts of it, what if, and what is said where it is unknown."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from babel import Locale

from core.language import Language
from core.readings import AcceleratorSample, Assignment, DeploymentSample, Entity, Reading
from core.settings import StorageSettings
from pages.shared import language
from storage.engine import reader_engine
from storage.session import writing
from storage.upkeep import Upkeep
from tests.pages.additions import add, configure, metric, said
from tests.pages.conftest import Open
from tests.pages.databases import HOST
from tests.pages.test_language import Brackets, left_in_english

TOKENS = "cost/tokens"
HOUR_MS = 3_600_000
PRICES = """
[[cost.hardware]]
kind = "owned"
applies_to = "accelerator"
capex = 35_040
life_years = 4
[[cost.overhead]]
name = "staff"
per_month = 730
"""
TARIFF = "usd_per_kwh = 1.0\n"  # follows [site], the last section of the fixture
LINES = ["hardware_usd", "electricity_active_usd", "electricity_idle_usd", "overhead_usd"]


@pytest.fixture
def hours(empty: Path, now_ms: int) -> Path:
    """Four whole hours of a card that serves at 500 W and one that nobody holds at 100 W."""
    end_ms = now_ms // HOUR_MS * HOUR_MS
    readings: list[Reading] = [
        Assignment(
            deployment_key="d",
            target_family="accelerator",
            target_keys=("A",),
            origin="processes",
            observed_at_ms=end_ms - 4 * HOUR_MS,
        )
    ]
    for at_ms in range(end_ms - 4 * HOUR_MS, end_ms + 120_001, 60_000):
        s = at_ms / 1000
        readings += [
            AcceleratorSample(key="A", observed_at_ms=at_ms, energy_joules_total=500 * s, processes=1),
            AcceleratorSample(key="B", observed_at_ms=at_ms, energy_joules_total=100 * s, processes=0),
            DeploymentSample(
                key="d",
                observed_at_ms=at_ms,
                generation_tokens_total=10 * s,
                prompt_tokens_total=30 * s,
                succeeded_requests_total=s / 10,
                running_requests=1.0,
            ),
        ]
    labels = {"vendor": "NVIDIA", "model": "H100"}
    things = [
        Entity(
            observed_at_ms=end_ms - 4 * HOUR_MS, family="accelerator", key=key, host=HOST, labels=labels | {"index": n}
        )
        for key, n in (("A", "0"), ("B", "1"))
    ]
    server = {"model": "llama", "url": "http://127.0.0.1:8000", "engine": "vLLM"}
    things.append(Entity(observed_at_ms=end_ms - 4 * HOUR_MS, family="deployment", key="d", host=HOST, labels=server))
    add(empty, *things, *readings)
    with writing(empty, host=HOST) as writer:
        reader = reader_engine(empty)
        Upkeep(reader, writer, StorageSettings()).account(end_ms + HOUR_MS // 2)
        reader.dispose()
    return empty


def open_bill(open_page: Open, by: str | None = None):
    test = open_page(TOKENS, range="6h")
    if by is not None:
        test.segmented_control(key="bill-by").set_value(by).run()
    return test


def rows(test) -> pd.DataFrame:
    return next(one.value for one in test.dataframe if "electricity_idle_usd" in one.value).set_index("who")


def test_four_lines_add_up_to_the_bill_whoever_they_are_shown_by(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES)
    test = open_bill(open_page)
    text = said(test)
    assert "14.40 USD** = 8.00 USD + 2.00 USD + 0.4000 USD + 4.00 USD" in text
    assert "every device, whatever the filters say" in text
    by_owner = rows(test)
    assert by_owner.loc["held by nobody", "electricity_idle_usd"] == pytest.approx(0.4)
    assert by_owner.loc["llama @ http://127.0.0.1:8000", "total_usd"] == pytest.approx(round(OWN_USD, 2))
    for by in ("site", "host", "vendor", "model", "name"):
        frame = rows(open_bill(open_page, by))
        assert frame["total_usd"].sum() == pytest.approx(14.4)
        assert frame[LINES].sum(axis=1).tolist() == pytest.approx(frame["total_usd"].tolist())


def test_without_a_price_each_device_is_named(hours: Path, open_page: Open):
    text = said(open_bill(open_page))
    assert "unknown** = unknown + unknown + unknown + 0" in text
    assert "H100 0 on node-1: no hardware price" in text
    assert rows(open_bill(open_page))["total_usd"].isna().all()


def test_a_window_without_an_accounted_hour_says_so(full: Path, open_page: Open):
    test = open_page(TOKENS, range="15m")
    assert "No accounted hour lies in this window" in said(test)


PRICE = "USD per million output tokens"
OWN_USD = 4.0 + 2.0 + 4.0 * 6.0 / 10.4  # hardware, electricity and its part of the overhead
TOKENS_MADE = 4 * 3600 * 10
HOSTED = """
[[cost.hosted]]
model = "*llama*"
per_million_input = 20.0
per_million_output = 40.0
[[cost.hosted]]
model = "other"
per_million_input = 0.01
per_million_output = 0.01
"""


def slider(test, label: str):
    return next(one for one in test.slider if one.label.startswith(label))


def shown(usd: float) -> str:
    return f"{usd / TOKENS_MADE * 1e6:,.2f} USD"


def test_the_page_and_the_bill_tell_one_truth_to_the_cent(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES)
    test = open_bill(open_page)
    assert metric(test, PRICE) == shown(OWN_USD)
    assert metric(test, "Cost") == f"{OWN_USD:.2f} USD"
    by_owner = rows(test)["total_usd"]
    assert by_owner["llama @ http://127.0.0.1:8000"] == pytest.approx(round(OWN_USD, 2))
    lines = next(one.value for one in test.dataframe if "cost_usd" in one.value).set_index("part")["cost_usd"]
    assert lines.drop("Cost of the deployments").sum() == pytest.approx(round(OWN_USD, 2))
    free = next(one.value for one in test.dataframe if "hours" in one.value)
    assert free["total_usd"].sum() + round(OWN_USD, 2) == pytest.approx(14.4)
    assert free["name"].tolist() == ["H100 1"]
    assert metric(test, "USD per completed request") == f"{OWN_USD / 1440:.4f} USD"


def test_an_hours_view_shows_the_last_whole_hour_and_the_course_of_a_day(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES)
    text = said(open_page(TOKENS, range="1h"))
    assert "in the hour to" in text
    assert "1 h steps of the bill, the last 24 h" in text


def test_trying_begins_at_the_price_of_the_page_and_a_slider_changes_that_alone(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES)
    test = open_bill(open_page)
    assert metric(test, "Measured") == metric(test, "By the sliders") == metric(test, PRICE)
    slider(test, "Hardware price").set_value(2.0).run()
    assert metric(test, "By the sliders") == shown(OWN_USD + 4.0)
    slider(test, "Electricity price").set_value(0.5).run()
    assert metric(test, "By the sliders") == shown(OWN_USD + 4.0 - 1.0)
    assert metric(test, "Measured") == metric(test, PRICE) == shown(OWN_USD)
    test.button(key="what-if-reset").click().run()
    assert metric(test, "By the sliders") == shown(OWN_USD)


def test_paying_for_what_nobody_held_leads_to_the_whole_bill_and_use_brings_it_down(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES)
    test = open_bill(open_page)
    test.checkbox(key="what-if-unheld").check().run()
    assert metric(test, "Measured") == shown(14.4)
    test.button(key="what-if-full").click().run()
    # twice the tokens, both cards at 500 W, hardware and overhead as they were
    assert metric(test, "By the sliders") == shown((8.0 + 4.0 + 4.0) / 2)
    assert metric(test, "By the sliders, at full use") == metric(test, "By the sliders")


def test_break_even_is_a_utilization_or_never_in_words(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES + HOSTED)
    test = open_bill(open_page)
    said(test)
    offers = next(one.value for one in test.dataframe if "break_even" in one.value).set_index("offer")
    # three prompt tokens to each of output
    assert offers.loc["*llama*", "usd_per_million_output_tokens"] == pytest.approx(3 * 20.0 + 40.0)
    assert offers.loc["*llama*", "break_even"].startswith("from ")
    assert offers.loc["other", "break_even"].startswith("never")
    assert "Break-even with ***llama***: from" in said(test)
    assert {"hosted", "published"} == set(offers["kind"])


def test_amounts_are_in_the_currency_of_the_settings(hours: Path, open_page: Open):
    rate = '[[cost.rate]]\ncurrency = "CLP"\non = 2020-01-01\nper_usd = 1000\n'
    configure(hours, TARIFF + '[cost]\ncurrency = "CLP"\n' + PRICES + rate)
    test = open_bill(open_page)
    text = said(test)
    assert "Amounts are in CLP at the exchange rate of 2020-01-01" in text
    assert "14,400 CLP** = 8,000 CLP" in text
    assert metric(test, "Cost") == f"{OWN_USD * 1000:,.0f} CLP"
    assert "$" not in text


def test_no_word_is_left_in_english(hours: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch):
    configure(hours, TARIFF + PRICES + HOSTED)
    monkeypatch.setattr(language, "language", lambda _: Language(Locale("en"), Brackets()))
    test = open_bill(open_page)
    assert not test.exception
    assert left_in_english(test) == set()
    terms = next(one.value for one in test.dataframe if "⟦Input⟧" in one.value)["⟦Input⟧"]
    assert terms.str.startswith("⟦").all()
    assert rows(test)["label"].str.startswith("⟦").all()
