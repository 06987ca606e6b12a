"""Amounts on pages: one currency, its rate beside it, and nothing that Markdown reads as a formula."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import Settings
from pages.shared.filters import current
from pages.shared.money import Money, money, money_at
from pages.shared.store import settings
from tests.pages.additions import configure

NOON_MS = 1_764_417_600_000  # 2025-11-29 12:00 UTC
RATES = [{"currency": "CLP", "on": day, "per_usd": rate} for day, rate in (("2025-11-01", 950), ("2025-12-01", 900))]
CLP = Money("CLP", 950.0, date(2025, 11, 1))


def test_the_currency_of_the_settings_comes_at_the_latest_rate_before_the_instant():
    wanted = Settings(cost={"currency": "CLP", "rate": RATES})  # type: ignore[arg-type]
    found = money_at(wanted, NOON_MS)
    assert found == CLP
    assert found.show(2.0) == "1,900 CLP"
    assert "950 per USD" in found.caption
    assert "2025-11-01" in found.caption


def test_without_a_rate_amounts_stay_in_dollars_and_the_caption_says_why():
    found = money_at(Settings(cost={"currency": "EUR", "rate": RATES}), NOON_MS)  # type: ignore[arg-type]
    assert found.show(2.5) == "2.50 USD"
    assert "Amounts are in USD: no exchange rate for EUR" in found.caption
    assert money_at(Settings(), NOON_MS).caption == ""


@pytest.mark.parametrize(
    ("usd", "text"),
    [(None, "unknown"), (math.nan, "unknown"), (0.0, "0.00 USD"), (0.25, "0.2500 USD"), (-1e-9, "0.00 USD")],
)
def test_small_amounts_keep_four_decimals_and_unknown_is_a_word(usd: float | None, text: str):
    assert Money().show(usd) == text


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e5))
def test_an_amount_has_no_sign_that_begins_a_formula(usd: float, per_usd: float):
    shown = Money("CLP", per_usd).show(usd)
    assert "$" not in shown
    assert shown.endswith(" CLP")
    assert not shown.startswith("-0 ")


def test_a_frame_is_converted_and_its_columns_are_called_by_the_currency():
    frame = pd.DataFrame({"who": ["a"], "total_usd": [2.0], "usd_per_million_output_tokens": [math.nan], "kwh": [3.0]})
    found = CLP.frame(frame)
    assert list(found) == ["who", "total_clp", "clp_per_million_output_tokens", "kwh"]
    assert found["total_clp"].tolist() == [1900.0]
    assert found["clp_per_million_output_tokens"].isna().all()
    assert found["kwh"].tolist() == [3.0]
    column = CLP.columns(found, {"total_usd": "Total"})["total_clp"]
    assert (column["label"], column["type_config"]["step"]) == ("Total (CLP)", 1)


def test_a_page_takes_the_rate_at_the_end_of_its_window(database: Path):
    configure(database, '[cost]\ncurrency = "CLP"\n[[cost.rate]]\ncurrency = "CLP"\non = 2025-11-01\nper_usd = 950\n')
    assert money(current(settings(), now_ms=NOON_MS)) == CLP


def test_two_amounts_beside_each_other_have_their_currency_once() -> None:
    assert Money("CLP", 950.0).pair(1.0, 4.0) == "950 · 3,800 CLP"
