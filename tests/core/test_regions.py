"""Countries: every row is one that a site may stand in, with figures that electricity can have."""

from __future__ import annotations

from core.hardware.regions import regions


def test_a_country_has_its_price_and_grid_factor_with_their_origin():
    chile = regions()["CL"]
    assert (chile.country, chile.usd_per_kwh, chile.grid_gco2e_per_kwh) == ("Chile", 0.166, 265.5)
    assert (chile.price_period, chile.price_source) == ("2023-2026 average", "globalpetrolprices.com business rate")
    assert (chile.grid_year, chile.grid_source) == (2024, "Our World in Data / Ember lifecycle")


def test_a_price_that_nobody_published_is_unknown():
    unpriced = {code for code, region in regions().items() if region.usd_per_kwh is None}
    assert unpriced == {"BO", "IE", "SE"}
    assert not any(regions()[code].price_source for code in unpriced)


def test_every_figure_is_one_that_electricity_can_have():
    assert len(regions()) == 40
    for code, region in regions().items():
        assert len(code) == 2
        assert code.isupper()
        assert region.usd_per_kwh is None or 0.02 < region.usd_per_kwh < 0.6, code
        assert 20 < region.grid_gco2e_per_kwh < 1000, code
        assert 2020 < region.grid_year < 2026, code
