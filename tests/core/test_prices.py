"""The price book: what is refused at start, in one line that names the key, and which price holds on which day."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from analytics.formulas.tariff import Band, holes
from core.errors import ConfigError
from core.prices import RentedPrice
from core.settings import load
from core.sites import WEEKDAYS, Site, TariffBand, TariffVersion, matches

RENT = '[[cost.hardware]]\nkind = "rented"\napplies_to = "host"\nper_hour = 1\n'
HOSTED = '[[cost.hosted]]\nmodel = "gpt-4o*"\nper_million_input = 1\nper_million_output = 2\n'
STAFF = '[[cost.overhead]]\nname = "staff"\nper_month = 1\n'
CONTRACT = (
    '[[cost.contract]]\nname = "c"\nunit = "megawatts"\namount = 750\nprice = 10e9\n'
    "begins = 2026-01-01\nends = 2029-01-01\n"
)
RATE = '[[cost.rate]]\ncurrency = "CLP"\non = 2026-11-02\nper_usd = 940\n'
FLAT = "[[site.tariff]]\nper_kwh = 0.1\n"
MINUTES = 7 * 24 * 60
OTHER = '[[site.other]]\nname = "edge"\nhosts = ["edge-*"]\n'


def bands(*entries: str) -> str:
    return "[[site.tariff]]\n" + "".join(f"[[site.tariff.band]]\nper_kwh = 0.1\n{entry}\n" for entry in entries)


def at(begins: str, ends: str, more: str = "") -> str:
    return f'begins = "{begins}"\nends = "{ends}"\n{more}'


def once(*keys: str, first: int = 0, second: int = 1) -> str:
    same = " and ".join(keys)
    return f"expected one price at a time, but {first} and {second} have the same {same} and hold at once; "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # overlapping validity
        (RENT + RENT, f"cost.hardware: {once('applies_to', 'match')}end one with valid_to"),
        (
            RENT + 'match = "h100"\n' + RENT + 'match = "H100"\nvalid_from = 2026-01-01\n',
            f"cost.hardware: {once('applies_to', 'match')}end one with valid_to",
        ),
        (HOSTED + HOSTED, f"cost.hosted: {once('model', 'endpoint')}end one with valid_to"),
        (STAFF + HOSTED + STAFF, f"cost.overhead: {once('name')}end one with valid_to"),
        (
            RENT + "valid_from = 2026-02-01\nvalid_to = 2026-02-01",
            "cost.hardware.0: expected valid_from before valid_to",
        ),
        (FLAT + FLAT, "site.tariff: expected a different valid_from in every version"),
        (RATE + RATE, "cost.rate: expected one rate for a currency and day"),
        # a tariff with a hole, or with two prices at once
        (
            bands(at("00:00", "18:00"), at("19:00", "24:00")),
            "site.tariff.0.band: expected one price for every time of the week, got none for mon 18:00",
        ),
        (
            bands(at("22:00", "06:00", 'days = ["mon"]'), at("06:00", "22:00")),
            "site.tariff.0.band: expected one price for every time of the week, got none for mon 00:00",
        ),
        (
            bands(at("00:00", "24:00"), at("18:00", "22:00", 'days = ["sun"]')),
            "site.tariff.0.band: expected one price for every time of the week, got 2 for sun 18:00",
        ),
        ("[[site.tariff]]\n", "site.tariff.0: expected per_kwh or band, one of them"),
        (
            bands(at("00:00", "24:00")).replace("\n", "\nper_kwh = 1\n", 1),
            "site.tariff.0: expected per_kwh or band, one of them",
        ),
        ("[site]\nusd_per_kwh = 0.1\n" + FLAT, "site: expected usd_per_kwh or tariff, not both"),
        (
            bands(at("18h", "24:00")),
            "site.tariff.0.band.0.begins: expected a time of day in quotes such as \"18:00\", got '18h'",
        ),
        (bands(at("00:00", "24:00", "days = []")), "site.tariff.0.band.0.days: expected at least 1 entry"),
        # negative prices
        (RENT.replace("= 1", "= -1"), "cost.hardware.0.per_hour: expected at least 0, got -1"),
        (HOSTED + "per_million_cached = -0.1", "cost.hosted.0.per_million_cached: expected at least 0, got -0.1"),
        (STAFF.replace("= 1", "= -1"), "cost.overhead.0.per_month: expected at least 0, got -1"),
        (CONTRACT.replace("= 10e9", "= -1"), "cost.contract.0.price: expected at least 0, got -1"),
        (FLAT.replace("0.1", "-0.1"), "site.tariff.0.per_kwh: expected at least 0, got -0.1"),
        (RATE.replace("940", "0"), "cost.rate.0.per_usd: expected more than 0, got 0"),
        ("[site]\ngrid_gco2e_per_kwh = -1", "site.grid_gco2e_per_kwh: expected at least 0, got -1"),
        # unknown zones and countries
        (
            OTHER + 'time_zone = "Mars"',
            "site.other.0.time_zone: expected an IANA time zone such as America/Santiago, got 'Mars'",
        ),
        (OTHER.replace('["edge-*"]', "[]"), "site.other.0.hosts: expected at least 1 entry"),
        (OTHER.replace('"edge"', '"this site"'), "site: expected a different name for every site"),
        # currencies and dates
        (
            RENT + 'currency = "euro"',
            "cost.hardware.0.currency: expected a currency code of ISO 4217 such as USD, got 'euro'",
        ),
        (
            RATE.replace("CLP", "USD"),
            "cost.rate.0.currency: expected another currency than USD: a rate is its price of a US dollar, got 'USD'",
        ),
        (RENT + "valid_from = 2026", "cost.hardware.0.valid_from: expected a date such as 2026-07-01, got 2026"),
        (RENT + "valid_from = 2026-07-01T00:00:00", "cost.hardware.0.valid_from: expected a date such as 2026-07-01"),
        # contracts
        (CONTRACT + CONTRACT, "cost.contract: expected a different name in every [[cost.contract]]"),
        (CONTRACT.replace("2029", "2026"), "cost.contract.0: expected begins before ends"),
        (
            CONTRACT + "[[cost.contract.tranche]]\nbegins = 2029-01-01\namount = 750",
            "cost.contract.0: expected every tranche to begin within the contract",
        ),
        (
            CONTRACT + "[[cost.contract.tranche]]\nbegins = 2026-01-01\namount = 250",
            "cost.contract.0: expected tranches that add up to amount = 750",
        ),
    ],
)
def test_a_wrong_price_book_is_refused_in_one_line_that_names_the_key(tmp_path, text, expected):
    file = tmp_path / "v.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value) == f"{file}: {expected}"


def test_a_country_without_published_figures_is_refused_with_those_that_have_some(tmp_path):
    file = tmp_path / "v.toml"
    file.write_text('[site]\ncountry = "UK"')
    with pytest.raises(ConfigError, match=r"site\.country: expected one of AE, .*GB.*, ZA; elsewhere .*, got 'UK'$"):
        load(file)


def test_prices_that_take_turns_are_accepted(tmp_path):
    file = tmp_path / "v.toml"
    file.write_text(RENT + "valid_to = 2026-07-01\n" + RENT + "valid_from = 2026-07-01\n" + RENT + 'match = "node-1"\n')
    first, second, other = load(file).cost.hardware
    days = (date(2026, 6, 30), date(2026, 7, 1))
    assert [first.holds_on(day) for day in days] == [True, False]
    assert [second.holds_on(day) for day in days] == [False, True]
    assert all(other.holds_on(day) for day in days)


def test_the_environment_gives_prices_as_json_with_dates_in_quotes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "VATIO_COST__HARDWARE",
        '[{"kind": "rented", "applies_to": "host", "per_hour": 1, "currency": "CLP", "valid_from": "2026-07-01"}]',
    )
    (price,) = load().cost.hardware
    assert (price.currency, price.valid_from) == ("CLP", date(2026, 7, 1))


def test_the_version_of_a_tariff_is_the_last_that_has_begun_whatever_their_order():
    second, first = date(2026, 7, 1), date(2026, 1, 1)
    site = Site(tariff=tuple(TariffVersion(valid_from=day, per_kwh=0.1) for day in (second, first)))
    days = (date(2025, 12, 31), first, date(2026, 6, 30), second)
    assert [site.version_on(day) for day in days] == [None, 1, 1, 0]


def test_a_shell_pattern_fits_whole_names_in_upper_and_lower_case():
    assert matches("gpu-*", "GPU-17")
    assert not matches("gpu-*", "my-gpu-17")


days = st.dates(date(2026, 1, 1), date(2026, 1, 9))


@given(days, days, days, days)
def test_two_prices_meet_just_where_both_hold_on_some_day(a, b, c, d):
    if a == b or c == d:
        return
    one, other = (
        RentedPrice(kind="rented", applies_to="host", per_hour=1, valid_from=min(bounds), valid_to=max(bounds))
        for bounds in ((a, b), (c, d))
    )
    both = [day for day in range(1, 10) if all(p.holds_on(date(2026, 1, day)) for p in (one, other))]
    assert one.meets(other) == other.meets(one) == bool(both)


quarters = st.integers(0, 95).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")
marks = st.sets(quarters, min_size=1).map(sorted)
weekdays = st.sets(st.sampled_from(WEEKDAYS), min_size=1)


@given(marks, weekdays, st.sampled_from(["whole", "one less", "one twice", "one on some days"]))
def test_bands_are_accepted_just_when_they_cover_the_week_once(marks, some_days, change):
    drawn = [
        TariffBand(begins=begins, ends=ends, per_kwh=0.1)  # type: ignore[arg-type]
        for begins, ends in zip(marks, [*marks[1:], marks[0]], strict=True)
    ]
    first, *others = drawn
    drawn = {
        "whole": drawn,
        "one less": others,
        "one twice": [first, *drawn],
        "one on some days": [first.model_copy(update={"days": tuple(some_days)}), *others],
    }[change]
    minutes = sorted(minute for band in drawn for minute in band.minutes())
    plain = [
        Band(usd_per_kwh=1, begins=b.begins, ends=b.ends, weekdays=frozenset(map(WEEKDAYS.index, b.days)))
        for b in drawn
    ]
    assert (set(minutes) == set(range(MINUTES))) == (not holes(plain)), "the formulas read a band alike"
    try:
        accepted = bool(TariffVersion(band=tuple(drawn), per_kwh=None if drawn else 0.1).band)
    except ValidationError:
        accepted = False
    assert accepted == (minutes == list(range(MINUTES)))
