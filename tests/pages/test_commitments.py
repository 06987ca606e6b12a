"""cost/commitments: the worst contract first, what went unused in money, and what is said without data or terms."""

from __future__ import annotations

import html
import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.readings import AcceleratorSample, Assignment, DeploymentSample, Entity, HostSample, Reading
from core.settings import Settings, StorageSettings
from storage.engine import reader_engine, writer_engine
from storage.upkeep import Upkeep
from storage.writer import Writer
from tests.pages.additions import add, configure, metric, said, tick
from tests.pages.conftest import Open

CONTRACTS = "cost/commitments"
HOUR_MS = 3_600_000
DAYS = 9
STEP_MS = 600_000
Contract = Callable[..., str]


@pytest.fixture
def weeks(empty: Path, now_ms: int) -> Path:
    """A card of 500 W that a deployment has held for nine days, and what it makes of accounts."""
    add(empty, *_history(now_ms), ticks=[tick("host", now_ms)])
    writer = Writer(writer_engine(empty), host="box", flush_seconds=0.0)
    writer.start()
    Upkeep(reader_engine(empty), writer, StorageSettings()).account(now_ms)
    writer.stop()
    return empty


def _history(now_ms: int) -> list[Reading]:
    begin_ms = now_ms - DAYS * 24 * HOUR_MS
    served = {"model": "llama", "url": "http://box:8000", "engine": "vLLM"}
    readings: list[Reading] = [
        Entity(observed_at_ms=begin_ms, family="accelerator", key="0", host="box", labels={"model": "MI300X"}),
        Entity(observed_at_ms=begin_ms, family="deployment", key="a", host="box", labels=served),
        Assignment(
            deployment_key="a",
            target_family="accelerator",
            target_keys=("0",),
            origin="processes",
            observed_at_ms=begin_ms,
        ),
        HostSample(key="box", observed_at_ms=now_ms),
    ]
    for at_ms in range(begin_ms, now_ms, STEP_MS):
        seconds = (at_ms - begin_ms) / 1000
        readings += [
            AcceleratorSample(key="0", observed_at_ms=at_ms, processes=1, energy_joules_total=500.0 * seconds),
            DeploymentSample(key="a", observed_at_ms=at_ms, generation_tokens_total=10.0 * seconds),
        ]
    return readings


@pytest.fixture
def contract() -> Contract:
    """The lines of a contract for one kilowatt, thirty days long, that began ten days ago."""

    def lines(name: str = "hall", begins: int = -10, ends: int = 20, **changes: object) -> str:
        today = datetime.now(UTC).date()
        terms = {"unit": '"megawatts"', "amount": 0.001, "price": 3000} | changes
        days = f"begins = {today + timedelta(days=begins)}\nends = {today + timedelta(days=ends)}\n"
        return f'[[cost.contract]]\nname = "{name}"\n{days}' + "".join(f"{k} = {v}\n" for k, v in terms.items())

    return lines


def computed(test: AppTest) -> dict[str, str]:
    """What the first contract's figures are made of; of what stands there twice, that of the window."""
    inputs = next(one.value for one in test.dataframe if "Input" in one.value).drop_duplicates("Input")
    return dict(zip(inputs["Input"], inputs["Value"], strict=True))


def test_without_contracts_the_page_shows_lines_that_are_accepted(empty: Path, open_page: Open):
    test = open_page(CONTRACTS)
    assert "No contract is known." in said(test)
    (example,) = test.code
    assert Settings(**tomllib.loads(example.value)).cost.contract[0].name == "capacity 2027"


def test_half_of_the_power_used_is_half_of_the_money_unused(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract())
    test = open_page(CONTRACTS, range="7d")
    text = said(test)
    assert metric(test, "Used") == "50.0%"
    assert metric(test, "Unused") == "350.00 USD"
    assert metric(test, "Per MWh used") == "8,333.33 USD"
    assert metric(test, "Forecast of use") == "50%"
    assert "hall: 50.0% of what was there was used; 350.00 USD went unused." in text
    assert "mean 500 W of 1.0 kW" in text


def test_a_short_range_shows_a_whole_day(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract())
    assert metric(open_page(CONTRACTS, range="15m"), "Unused") == "50.00 USD"


def test_the_worst_contract_comes_first_and_a_good_one_is_no_warning(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract("good", amount=0.00055) + contract("bad", amount=0.01))
    test = open_page(CONTRACTS, range="7d")
    headings = [one.value for one in test.markdown if one.value.startswith("####") and "#####" not in one.value]
    assert headings == ["#### bad", "#### good", "#### All contracts"]
    (listed,) = [one.value for one in test.dataframe if "unused_usd" in one.value]
    assert listed["contract"].tolist() == ["bad", "good"]
    assert (listed["used_usd"] + listed["unused_usd"]).round(2).tolist() == listed["amortised_usd"].tolist()


def test_all_well_is_said_in_one_sentence(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract(amount=0.00055, ends=90, price=10_000))
    (sentence,) = open_page(CONTRACTS, range="7d").success
    assert html.unescape(sentence.value) == "hall: 90.9% of what was there was used; 63.64 USD went unused."


def test_a_contract_that_ended_in_the_window_says_when(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract(ends=-2))
    last = datetime.now(UTC).date() - timedelta(days=3)
    text = said(open_page(CONTRACTS, range="7d"))
    assert f"It ended on {last:%A, %Y-%m-%d}." in text
    assert "Days left = 0" in text


def test_a_contract_to_come_and_one_without_a_rate_are_told_in_words(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract("later", 5) + contract("abroad", currency='"CLP"', unit='"tokens"', amount=1e9))
    test = open_page(CONTRACTS, range="7d")
    text = said(test)
    assert "later: begins on" in text
    assert "Not known: no exchange rate for CLP." in text
    assert metric(test, "Unused") == "unknown"


def test_amounts_are_in_the_currency_of_the_settings_and_terms_in_that_of_the_contract(
    weeks: Path, open_page: Open, contract: Contract
):
    configure(weeks, '[cost]\ncurrency = "CLP"\n[[cost.rate]]\ncurrency = "CLP"\non = 2020-01-01\nper_usd = 900')
    configure(weeks, contract())
    test = open_page(CONTRACTS, range="7d")
    text = said(test)
    assert metric(test, "Unused") == "315,000 CLP"
    assert metric(test, "Per MWh used") == "7,500,000 CLP"
    assert "hall: 50.0% of what was there was used; 315,000 CLP went unused." in text
    assert "Amounts are in CLP at the exchange rate of 2020-01-01, 900 per USD." in text
    (listed,) = [one.value for one in test.dataframe if "unused_usd" in one.value]
    assert listed[["unused_usd", "unused_clp"]].iloc[0].tolist() == pytest.approx([350.0, 315_000.0])
    weekly = json.loads(test.get("vega_lite_chart")[1].proto.spec)
    assert weekly["layer"][0]["encoding"]["y"]["title"] == "CLP"
    inputs = computed(test)
    assert inputs["price of the term"] == "3,000.00 USD"
    assert inputs["exchange rate"] == "900 CLP per USD"
    assert inputs["cost of the unused part"] == "315,000 CLP"


def test_without_a_rate_amounts_are_in_dollars_and_that_is_said(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, f'[cost]\ncurrency = "EUR"\n{contract()}')
    test = open_page(CONTRACTS, range="7d")
    assert metric(test, "Unused") == "350.00 USD"
    assert "Amounts are in USD: no exchange rate for EUR" in said(test)


def test_the_forecast_and_the_days_left_open_to_what_they_are_made_of(weeks: Path, open_page: Open, contract: Contract):
    configure(weeks, contract())
    test = open_page(CONTRACTS, range="7d")
    inputs = computed(test)
    used, delivered = (float(inputs[name].split()[0]) for name in ("use by the end of the term", "delivered by then"))
    assert f"{used / delivered:.0%}" == metric(test, "Forecast of use") == "50%"
    assert inputs["days left"] == metric(test, "Days left")


def test_nothing_is_said_of_use_before_anything_was_accounted(full: Path, open_page: Open, contract: Contract):
    configure(full, contract("<b>*x*"))
    test = open_page(CONTRACTS)
    assert "use is not known" in said(test)
    assert metric(test, "Used") == "unknown"
    assert metric(test, "Forecast of use") == "unknown"
