"""Demand charges: the peak of a month, what it adds to a bill, and who is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analytics.demand import month_cuts, monthly_peaks
from analytics.device_hours import device_hours
from analytics.formulas.energy import Quality
from analytics.ledger import Ledger, bill, bills, ledger
from analytics.wastes.find import find_wastes
from analytics.wastes.waste import Kind
from core.readings import CpuSample, Entity, Reading
from core.settings import Settings
from storage.engine import reader_engine
from tests.analytics.test_ledger import BEGIN_MS, HOST, HOUR_MS, OWNED, card, kept, runs_on, seconds, served, settings
from tests.conftest import Store

OCTOBER_HOURS = 31 * 24
SITE: dict[str, Any] = {"tariff": [{"per_kwh": 0.1, "demand_per_kw_month": 744.0}]}
IN_PESOS = {"per_kwh": 90.0, "demand_per_kw_month": 744_000.0, "currency": "CLP"}
WINDOW = (BEGIN_MS, BEGIN_MS + 4 * HOUR_MS)


def priced(store: Store, book: Settings, first: int = 0, last: int = 4) -> Ledger:
    window = (BEGIN_MS + first * HOUR_MS, BEGIN_MS + last * HOUR_MS)
    return ledger(device_hours(store.reader, *window, 4.0), book, monthly_peaks(store.reader, book, *window))


def package(host: str) -> Iterator[Reading]:
    """CPUs of 250 W."""
    yield Entity(observed_at_ms=BEGIN_MS, family="cpu", key=f"{host}/0", host=host)
    for s in seconds(4):
        yield CpuSample(key=f"{host}/0", observed_at_ms=BEGIN_MS + s * 1000, energy_joules_total=250.0 * s)


@pytest.fixture
def uneven(store: Store) -> Store:
    """500 W for four hours, and 1 kW more in the last two of them: 4 kWh at a peak of 1.5 kW."""
    late = card("1", watts=1000.0, at=seconds(2, begin=2), held=False)
    late[0] = Entity(observed_at_ms=WINDOW[0] + 2 * HOUR_MS, family="accelerator", key="1", host="box", labels={})
    kept(store, *card("0", 4), *late, hours=4)
    return store


def test_a_month_that_runs_pays_the_part_so_far_of_its_highest_hour(uneven: Store):
    (peak,) = monthly_peaks(uneven.reader, settings(OWNED, **SITE), *WINDOW)["site"]
    assert (peak.name, peak.peak_kw, peak.kwh) == ("2025-10", pytest.approx(1.5), pytest.approx(4.0))
    assert peak.known_ratio == pytest.approx(4 / OCTOBER_HOURS)
    found = priced(uneven, settings(HOST, **SITE))
    assert bill(found).electricity_active_usd == pytest.approx(2 * 0.1 + 2 / 4 * 1.5 * 4)
    assert bill(found).electricity_idle_usd == pytest.approx(2 * 0.1 + 2 / 4 * 1.5 * 4)
    assert bill(found).quality is Quality.ESTIMATED
    said = "settings: site.tariff.0, demand charge: 1.5 kW in the highest hour seen of 2025-10"
    assert str(found.sources[-1]) == said


def test_the_peak_is_that_of_the_month_whatever_hours_are_asked_for(uneven: Store):
    first, second = (bill(priced(uneven, settings(HOST, **SITE), *window)) for window in ((0, 1), (1, 4)))
    assert first.electricity_active_usd == pytest.approx(0.5 * (0.1 + 1.5))
    assert second.electricity_active_usd == pytest.approx(1.5 * (0.1 + 1.5))


def test_cooling_is_part_of_the_peak(uneven: Store):
    book = settings(HOST, **SITE, pue_ratio=1.5)
    (peak,) = monthly_peaks(uneven.reader, book, *WINDOW)["site"]
    assert (peak.peak_kw, peak.kwh) == (pytest.approx(2.25), pytest.approx(6.0))
    assert bill(priced(uneven, book)).electricity_active_usd == pytest.approx(1.5 * (2 * 0.1 + 2 / 4 * 1.5 * 4))


def test_a_charge_in_another_currency_is_converted_as_its_tariff(uneven: Store):
    rate = {"rate": [{"currency": "CLP", "on": "2025-10-01", "per_usd": 1000.0}]}
    usd = bill(priced(uneven, settings(HOST, cost=rate, tariff=[IN_PESOS]))).electricity_active_usd
    assert usd == pytest.approx(2 * 0.09 + 2 / 4 * 1.5 * 4)
    assert bill(priced(uneven, settings(HOST, tariff=[IN_PESOS]))).electricity_active_usd is None


def test_each_site_has_the_peak_of_its_own_devices(store: Store):
    kept(store, *card("0", 4), *card("1", 4, host="edge-1"), hours=4)
    other = {"name": "edge", "hosts": ["edge-*"], "time_zone": "America/Santiago", **SITE}
    book = settings(HOST, usd_per_kwh=0.1, other=[other])
    assert [*monthly_peaks(store.reader, book, *WINDOW)] == ["site.other.0"]
    by_site = bills(priced(store, book), "site")
    assert by_site["this site"].electricity_active_usd == pytest.approx(2 * 0.1)
    assert by_site["this site"].quality is Quality.DERIVED
    assert by_site["edge"].electricity_active_usd == pytest.approx(2 * 0.1 + 0.5 * 4)


def test_where_the_rent_includes_electricity_it_includes_the_demand_charge(store: Store):
    rented = {"kind": "rented", "applies_to": "accelerator", "per_hour": 2.0}
    kept(store, *card("0", 4), hours=4)
    found = priced(store, settings(rented, **SITE))
    assert (bill(found).total_usd, bill(found).quality) == (pytest.approx(8.0), Quality.DERIVED)
    assert not any("demand" in str(source) for source in found.sources)


def test_packages_of_hosts_that_are_no_devices_are_in_no_peak(store: Store):
    host = [Entity(observed_at_ms=BEGIN_MS, family="host", key=name, host=name) for name in ("cpus", "spare")]
    packages = [one for name in ("box", "cpus", "spare") for one in package(name)]
    on_cpus = replace(runs_on("m", "cpus"), target_family="host")
    kept(store, *card("0", 4), *host, *packages, *served("m", 4), on_cpus, hours=4)
    (peak,) = monthly_peaks(store.reader, settings(OWNED, **SITE), *WINDOW)["site"]
    assert peak.peak_kw == pytest.approx(0.5 + 2 * 0.25)


def test_work_that_can_wait_saves_none_of_the_demand_charge_by_waiting(store: Store):
    kept(store, *card("0", 4), *served("m", 4), runs_on("m", "0"), hours=4)
    book = settings(HOST, cost={"flexible_models": ["m"]}, **SITE)
    dear = [one for one in find_wastes(store.reader, priced(store, book), book) if one.kind is Kind.DEAR_HOURS]
    assert sum(one.cost_usd or 0.0 for one in dear) == pytest.approx(0.0)


def test_a_month_without_energy_has_no_peak_and_adds_nothing(store: Store):
    kept(store, *card("0", 4, watts=None), hours=4)
    (peak,) = monthly_peaks(store.reader, settings(OWNED, **SITE), *WINDOW)["site"]
    assert (peak.peak_kw, peak.kwh, peak.usd_per_kwh(10.0)) == (None, 0.0, None)
    assert bill(priced(store, settings(HOST, **SITE))).hardware_usd == pytest.approx(4.0)


def test_where_no_tariff_charges_for_demand_nothing_is_read(tmp_path: Path):
    (tmp_path / "without_tables.db").touch()
    assert (
        monthly_peaks(
            reader_engine(tmp_path / "without_tables.db"), settings(OWNED, tariff=[{"per_kwh": 0.1}]), *WINDOW
        )
        == {}
    )


def test_months_begin_at_midnight_of_the_site():
    book = settings(time_zone="America/Santiago", **SITE)
    november_ms = BEGIN_MS + (22 * 24 + 3) * HOUR_MS
    assert month_cuts(book, BEGIN_MS, BEGIN_MS + 40 * 24 * HOUR_MS) == [november_ms]
    assert month_cuts(settings(usd_per_kwh=0.1), BEGIN_MS, BEGIN_MS + 40 * 24 * HOUR_MS) == []
