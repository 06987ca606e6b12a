"""Prices at an instant: which one holds, in which site and currency, by default of which country, and until when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.energy import Quality
from analytics.formulas.local_time import Span
from analytics.prices import (
    SiteFound,
    energy_price,
    grid_factor,
    hourly_price,
    price_cuts,
    site_of,
    tariff_at,
    to_currency,
)
from core.settings import Settings

CLP = [
    {"currency": "CLP", "on": "2026-07-01", "per_usd": 900.0},
    {"currency": "CLP", "on": "2026-08-01", "per_usd": 1000.0},
]
BRL = [{"currency": "BRL", "on": "2026-07-15", "per_usd": 5.0}]
RENTED = {"kind": "rented", "applies_to": "accelerator", "per_hour": 2.0}
OWNED = {"kind": "owned", "applies_to": "accelerator", "life_years": 4}
BANDS = [
    {"begins": "18:00", "ends": "22:00", "per_kwh": 0.4},
    {"begins": "22:00", "ends": "18:00", "per_kwh": 0.1},
]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def book(*hardware: dict[str, object], site: dict[str, object] | None = None, **cost: object) -> Settings:
    return Settings(cost={"hardware": hardware, **cost}, site=site or {})  # type: ignore[arg-type]


def per_hour(settings: Settings, at: str, name: str = "H100", host: str = "box") -> float | None:
    found = hourly_price(settings, "accelerator", name, host, ms(at))
    return found.usd_per_hour if found else None


def found(settings: Settings) -> SiteFound:
    return site_of(settings, "box")


# --- sites -----------------------------------------------------------------------------------------


def test_a_host_belongs_to_the_first_site_that_names_it_else_to_the_main_one():
    others = [{"name": "edge", "hosts": ["edge-*", "kiosk"]}, {"name": "all", "hosts": ["*-1"]}]
    settings = book(site={"name": "main", "other": others})
    keys = [(site_of(settings, host).key, site_of(settings, host).place.name) for host in ("edge-1", "gpu-1", "gpu-2")]
    assert keys == [("site.other.0", "edge"), ("site.other.1", "all"), ("site", "main")]


# --- hardware --------------------------------------------------------------------------------------


def test_a_price_holds_from_its_first_day_until_the_next_one_begins():
    settings = book(RENTED | {"valid_to": "2026-07-01"}, RENTED | {"valid_from": "2026-07-01", "per_hour": 3.0})
    assert per_hour(settings, "2026-06-30T23:59:59") == 2.0
    assert per_hour(settings, "2026-07-01T00:00:00") == 3.0


def test_its_days_are_those_of_the_site_where_the_host_stands():
    site = {"other": [{"name": "Santiago", "hosts": ["cl-*"], "time_zone": "America/Santiago"}]}
    settings = book(RENTED | {"valid_from": "2026-07-01"}, site=site)  # 04:00 UTC in Santiago
    assert per_hour(settings, "2026-07-01T03:59:59", host="cl-1") is None
    assert per_hour(settings, "2026-07-01T04:00:00", host="cl-1") == 2.0
    assert per_hour(settings, "2026-07-01T00:00:00", host="de-1") == 2.0


def test_a_price_that_has_ended_makes_way_for_a_more_general_one():
    settings = book(RENTED | {"match": "h100", "per_hour": 5.0, "valid_to": "2026-07-01"}, RENTED)
    assert per_hour(settings, "2026-06-01", "NVIDIA H100 80GB") == 5.0
    assert per_hour(settings, "2026-08-01", "NVIDIA H100 80GB") == 2.0
    assert per_hour(settings, "2026-06-01", "Instinct MI300X") == 2.0


def test_every_amount_of_owned_hardware_is_in_its_currency():
    own = {"hosting_per_kw_month": 150.0, "contracted_watts": 10_000.0, "capital_cost_ratio": 0.08}
    dollars = OWNED | own | {"capex": 200_000.0, "residual": 20_000.0}
    pesos = OWNED | own | {"capex": 180e6, "residual": 18e6, "hosting_per_kw_month": 135_000.0, "currency": "CLP"}
    in_usd, in_clp = (
        hourly_price(book(price, rate=CLP), "accelerator", "", "box", ms("2026-07-10")) for price in (dollars, pesos)
    )
    assert in_usd is not None
    assert in_clp is not None
    assert in_clp.usd_per_hour == pytest.approx(in_usd.usd_per_hour)
    assert str(in_usd.source) == "settings: cost.hardware.0 (owned)"
    assert str(in_clp.source) == "settings: cost.hardware.0 (owned), at the exchange rate of 2026-07-01"


def test_a_price_in_a_currency_without_a_rate_is_unknown_for_that_reason():
    price = hourly_price(book(RENTED | {"currency": "CLP"}), "accelerator", "", "box", 0)
    assert price is not None
    assert (price.usd_per_hour, price.reason) == (None, "no exchange rate for CLP")


# --- electricity -----------------------------------------------------------------------------------


def test_a_flat_tariff_is_one_band_at_no_charge_for_demand():
    settings = book(site={"usd_per_kwh": 0.12, "country": "CL"})
    price = tariff_at(settings, found(settings), 0)
    assert price is not None
    assert price.tariff is not None
    assert [band.usd_per_kwh for band in price.tariff.bands] == [0.12]
    assert (price.demand_usd_per_kw_month, str(price.source)) == (0.0, "settings: site.usd_per_kwh")
    assert price.quality is Quality.MEASURED


def test_the_version_of_the_day_counts_and_none_before_the_first():
    versions = [
        {"valid_from": "2026-07-10", "currency": "CLP", "per_kwh": 90.0, "demand_per_kw_month": 9000.0},
        {"valid_from": "2026-08-10", "band": BANDS},
    ]
    settings = book(site={"tariff": versions}, rate=CLP)
    assert tariff_at(settings, found(settings), ms("2026-07-09T23:59:59")) is None
    first = tariff_at(settings, found(settings), ms("2026-07-10"))
    second = tariff_at(settings, found(settings), ms("2026-08-10"))
    assert first is not None
    assert first.tariff is not None
    assert first.tariff.bands[0].usd_per_kwh == pytest.approx(0.1)
    assert first.demand_usd_per_kw_month == pytest.approx(10.0)
    assert str(first.source) == "settings: site.tariff.0, at the exchange rate of 2026-07-01"
    assert second is not None
    assert str(second.source) == "settings: site.tariff.1"


def test_bands_are_read_by_the_clock_of_the_site():
    settings = book(site={"time_zone": "America/Santiago", "tariff": [{"band": BANDS}]})
    price = tariff_at(settings, found(settings), ms("2026-07-01"))
    assert price is not None
    assert price.tariff is not None
    evening, night = ms("2026-07-01T22:00"), ms("2026-07-02T02:00")  # 18:00 and 22:00 in winter
    edges = (evening - 1, evening, night - 1, night)
    assert [price.tariff.band_at(edge).usd_per_kwh for edge in edges] == [0.1, 0.4, 0.4, 0.1]


def test_a_tariff_is_made_once_and_anew_where_its_bands_differ():
    dearer = [BANDS[0] | {"per_kwh": 0.5}, *BANDS[1:]]
    made = []
    for bands in (BANDS, BANDS, dearer):
        settings = book(site={"tariff": [{"band": bands}]})
        price = tariff_at(settings, found(settings), 0)
        assert price is not None
        made.append(price.tariff)
    assert made[0] is made[1]
    assert made[0] != made[2]


def test_energy_over_a_window_of_several_bands_is_priced_at_their_mean_as_an_estimate():
    settings = book(site={"tariff": [{"band": BANDS}]})
    day = Span(ms("2026-07-01"), ms("2026-07-02"))
    price = energy_price(settings, found(settings), day)
    assert price.usd_per_kwh == pytest.approx((4 * 0.4 + 20 * 0.1) / 24)
    assert price.quality is Quality.ESTIMATED
    assert str(price.source) == "settings: site.tariff.0, mean of its bands by the hours they hold"
    flat = energy_price(book(site={"usd_per_kwh": 0.12}), found(book(site={"usd_per_kwh": 0.12})), day)
    assert (flat.usd_per_kwh, flat.quality) == (0.12, Quality.MEASURED)


def test_a_country_alone_gives_its_price_and_grid_factor_labelled_as_the_defaults_they_are():
    settings = book(site={"country": "CL"})
    price = energy_price(settings, found(settings), Span(0, 1))
    assert (price.usd_per_kwh, price.quality) == (0.166, Quality.ESTIMATED)
    assert str(price.source) == "default of CL, 2023-2026 average, globalpetrolprices.com business rate"
    factor = grid_factor(found(settings))
    assert factor is not None
    assert (factor.grams_per_kwh, factor.quality) == (265.5, Quality.ESTIMATED)
    assert str(factor.source) == "default of CL, 2024, Our World in Data / Ember lifecycle"


def test_own_figures_win_over_those_of_the_country():
    factor = grid_factor(found(book(site={"country": "CL", "grid_gco2e_per_kwh": 0.0})))
    assert factor is not None
    assert (factor.grams_per_kwh, factor.quality) == (0.0, Quality.MEASURED)
    assert str(factor.source) == "settings: site.grid_gco2e_per_kwh"


def test_what_nobody_gave_is_unknown():
    nothing, bolivia = book(), book(site={"country": "BO"})
    assert tariff_at(nothing, found(nothing), 0) is None
    assert grid_factor(found(nothing)) is None
    assert hourly_price(nothing, "host", "box", "box", 0) is None
    price = energy_price(bolivia, found(bolivia), Span(0, 1))
    assert (price.usd_per_kwh, price.quality) == (None, Quality.MISSING), "no business price is published"


# --- currencies ------------------------------------------------------------------------------------


def test_an_amount_is_converted_at_the_latest_rate_that_was_known_and_says_its_day():
    settings = book(rate=[*CLP, *BRL])
    clp = [to_currency(settings, 1.0, "USD", "CLP", ms(at)) for at in ("2026-06-30", "2026-07-31", "2026-08-01")]
    assert [(one.amount, str(one.rate_on)) for one in clp] == [
        (None, "None"),
        (900.0, "2026-07-01"),
        (1000.0, "2026-08-01"),
    ]
    assert clp[0].reason == "no exchange rate for CLP"
    across = to_currency(settings, 5.0, "BRL", "CLP", ms("2026-08-01"))
    assert (across.amount, str(across.rate_on)) == (pytest.approx(1000.0), "2026-07-15"), "the older of the two"
    assert to_currency(settings, 7.0, "EUR", "EUR", 0) == (7.0, None, "")
    assert to_currency(settings, 7.0, "EUR", "CLP", ms("2026-08-01")).reason == "no exchange rate for EUR"


@given(st.floats(0.01, 1e9), st.sampled_from(["USD", "CLP", "BRL"]), st.sampled_from(["USD", "CLP", "BRL"]))
def test_there_and_back_is_the_same_amount(amount, given_currency, wanted):
    settings, at_ms = book(rate=[*CLP, *BRL]), ms("2026-08-01")
    there = to_currency(settings, amount, given_currency, wanted, at_ms).amount
    assert to_currency(settings, there, wanted, given_currency, at_ms).amount == pytest.approx(amount)


# --- changes ---------------------------------------------------------------------------------------


def test_a_window_is_cut_wherever_a_price_or_the_rate_of_its_currency_changes():
    settings = book(
        RENTED | {"valid_to": "2026-07-02"},
        RENTED | {"valid_from": "2026-07-02", "currency": "CLP"},
        site={
            "tariff": [{"per_kwh": 0.1}, {"valid_from": "2026-07-04", "per_kwh": 0.2}],
            "other": [{"name": "Santiago", "hosts": ["cl-*"], "time_zone": "America/Santiago"}],
        },
        rate=[{"currency": "CLP", "on": "2026-07-05", "per_usd": 900.0}, *BRL],
        overhead=[{"name": "staff", "per_month": 1.0, "valid_to": "2026-07-06"}],
        hosted=[{"model": "m", "per_million_input": 1, "per_million_output": 1, "valid_from": "2026-07-07"}],
        contract=[
            {"name": "c", "unit": "tokens", "amount": 2, "price": 1, "begins": "2026-07-08", "ends": "2026-07-10"}
            | {"tranche": [{"begins": "2026-07-08", "amount": 1}, {"begins": "2026-07-09", "amount": 1}]}
        ],
    )
    cuts = price_cuts(settings, ms("2026-07-01"), ms("2026-08-01"))
    hardware = ["2026-07-02T00:00", "2026-07-02T04:00"]  # midnight of both sites
    days = [f"2026-07-{day:02}T00:00" for day in (4, 5, 6, 7, 8, 9, 10)]
    assert cuts == tuple(map(ms, [*hardware, *days])), "the real has a rate, but no price is in it"
    assert price_cuts(settings, ms("2026-07-02"), ms("2026-07-02T04:00")) == (), "bounds are no cuts"
    assert price_cuts(Settings(), 0, ms("2026-07-01")) == ()


@given(st.integers(0, 40 * 24 - 1))
def test_between_two_cuts_a_price_stays_the_same(hour):
    settings = book(
        RENTED | {"valid_to": "2026-07-02", "currency": "CLP"},
        RENTED | {"valid_from": "2026-07-20"},
        site={"time_zone": "America/Santiago", "tariff": [{"per_kwh": 90.0, "currency": "CLP"}]},
        rate=CLP,
    )
    start_ms = ms("2026-06-25") + hour * 3_600_000
    site = found(settings)

    def answers(at_ms: int) -> tuple[object, object]:
        return hourly_price(settings, "accelerator", "", "box", at_ms), tariff_at(settings, site, at_ms)

    if not price_cuts(settings, start_ms - 1, start_ms + 3_600_000):
        assert answers(start_ms - 1) == answers(start_ms + 3_599_999)
