"""Languages of reports: numbers, amounts and dates are those of the place."""

from __future__ import annotations

import pytest

from analytics.formulas.local_time import iso_week
from analytics.weekly import Exchange
from core.errors import ConfigError
from reports.words import words
from tests.analytics.weeks import settings

ZONE = settings().site.zone


@pytest.mark.parametrize(
    ("language", "number", "amount", "share"),
    [
        ("en", "1,234.5", "1,234.50 USD", "12.5 %"),
        ("es_CL", "1.234,5", "1.234,50 USD", "12,5 %"),
        ("es-MX", "1,234.5", "1,234.50 USD", "12.5 %"),
        ("pt_BR", "1.234,5", "1.234,50 USD", "12,5 %"),
    ],
)
def test_numbers_are_written_as_in_the_place(language: str, number: str, amount: str, share: str):
    of = words(language, ZONE)
    assert (of.number(1234.5, 1), of.money(1234.5), of.percent(0.125)) == (number, amount, share)


def test_amounts_have_the_decimals_of_their_size_and_currency():
    dollars, pesos = words("en", ZONE), words("en", ZONE, Exchange("CLP", 900.0, None))
    assert (dollars.money(0.05), dollars.money(-1e-9), dollars.money(0)) == ("0.0500 USD", "0.00 USD", "0.00 USD")
    assert pesos.money(2.5) == "2,250 CLP"
    assert words("en", ZONE, Exchange("CLP", None, None)).money(1.0) == "1.00 USD"


def test_days_and_times_are_those_of_the_zone():
    monday_ms = iso_week(2026, 40, ZONE).start_ms
    assert words("es", ZONE).date(monday_ms) == "28 sept 2026"
    assert words("en", ZONE).time(monday_ms) == "Sep 28, 2026, 00:00 (UTC-03:00)"


@pytest.mark.parametrize(
    ("count", "shown"), [(0.0, "0"), (999.0, "999"), (3.024e6, "3.02 M"), (45_600.0, "45.6 k"), (1e12, "1.00 T")]
)
def test_counts_have_three_significant_digits(count: float, shown: str):
    assert words("en", ZONE).scaled(count) == shown


@pytest.mark.parametrize("language", ["xx", "", "../es", "de", "es_"])
def test_a_language_without_words_is_refused(language: str):
    with pytest.raises(ConfigError, match="en, es, pt"):
        words(language, ZONE)


@pytest.mark.parametrize(("usd", "shown"), [(12.3, "+12,30 USD"), (-0.5, "-0,5000 USD"), (0.00001, "0,00 USD")])
def test_a_difference_has_its_sign_unless_nothing_is_left_of_it(usd: float, shown: str):
    assert words("es", ZONE).moved(usd) == shown
