"""The bill of a fleet from its accounts: lines, who pays them, and what is said where something is unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.demand import monthly_peaks
from analytics.device_hours import IDLE_ID, DeviceHours, device_hours, device_stretches, whole_hours
from analytics.formulas.energy import Quality
from analytics.ledger import (
    ENERGIES,
    LINES,
    NO_ENERGY,
    NO_PRICE,
    NO_TARIFF,
    Bill,
    Key,
    Ledger,
    bill,
    bills,
    deployment_bills,
    flat_edges,
    ledger,
)
from core.readings import AcceleratorSample, Assignment, CpuSample, DeploymentSample, Entity, Reading
from core.settings import Settings, StorageSettings
from storage import queries
from storage.upkeep import Upkeep
from tests.conftest import Store

HOUR_MS = 3_600_000
BEGIN_MS = 1_760_054_400_000  # 2025-10-10 00:00 UTC
STEP_S = 60
RENTED = {"kind": "rented", "applies_to": "accelerator", "match": "H100", "per_hour": 2.0}
OWNED = {"kind": "owned", "applies_to": "accelerator", "match": "MI300X", "capex": 35_040.0, "life_years": 4}  # 1 USD/h
HOST = {"kind": "owned", "applies_to": "host", "capex": 35_040.0, "life_years": 4}


def settings(*hardware: dict[str, object], cost: dict[str, object] | None = None, **site: object) -> Settings:
    return Settings(cost={"hardware": hardware, **(cost or {})}, site=site)  # type: ignore[arg-type]


def seconds(hours: float, begin: float = 0.0) -> range:
    return range(round(begin * 3600), round((begin + hours) * 3600) + 1, STEP_S)


def card(
    key: str,
    hours: float = 2,
    *,
    model: str = "AMD Instinct MI300X",
    host: str = "box",
    watts: float | None = 500.0,
    held: bool = True,
    at: Iterable[int] | None = None,
) -> list[Reading]:
    """A card whose power is constant; its counter tells energy to the joule."""
    labels = {"vendor": "AMD" if "AMD" in model else "NVIDIA", "model": model, "index": key}
    return [
        Entity(observed_at_ms=BEGIN_MS, family="accelerator", key=key, host=host, labels=labels),
        *(
            AcceleratorSample(
                key=key,
                observed_at_ms=BEGIN_MS + s * 1000,
                processes=int(held),
                utilization_ratio=0.9 if held else 0.0,
                energy_joules_total=None if watts is None else watts * s,
                power_watts=watts,
            )
            for s in (at if at is not None else seconds(hours))
        ),
    ]


def served(key: str, hours: float = 2, tokens_per_second: float = 10.0) -> list[Reading]:
    labels = {"model": key, "url": "http://box:8000", "engine": "vLLM"}
    return [
        Entity(observed_at_ms=BEGIN_MS, family="deployment", key=key, host="box", labels=labels),
        *(
            DeploymentSample(
                key=key,
                observed_at_ms=BEGIN_MS + s * 1000,
                generation_tokens_total=tokens_per_second * s,
                prompt_tokens_total=0.0,
                cached_prompt_tokens_total=0.0,
                running_requests=1.0,
            )
            for s in seconds(hours)
        ),
    ]


def runs_on(key: str, *targets: str, hour: float = 0.0) -> Assignment:
    return Assignment(
        deployment_key=key,
        target_family="accelerator",
        target_keys=targets,
        origin="processes",
        observed_at_ms=BEGIN_MS + round(hour * HOUR_MS),
    )


def kept(store: Store, *readings: Reading, hours: float = 2) -> None:
    """Store readings and account for them."""
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.account(BEGIN_MS + round((hours + 0.2) * HOUR_MS))


def priced(store: Store, the_settings: Settings, first: int = 0, last: int = 2) -> Ledger:
    """The ledger of some hours, whose totals are the same when several of them are read as one."""
    window, weight = (BEGIN_MS + first * HOUR_MS, BEGIN_MS + last * HOUR_MS), the_settings.cost.output_weight_ratio
    peaks = monthly_peaks(store.reader, the_settings, *window)
    found = ledger(device_hours(store.reader, *window, weight), the_settings, peaks)
    edges_ms, accounted = flat_edges(the_settings, *window), queries.accounted_until(store.reader)
    few = ledger(device_stretches(store.reader, edges_ms, accounted, weight), the_settings, peaks)
    assert totals(few) == pytest.approx(totals(found), nan_ok=True)
    assert (bill(few).quality, bill(few).missing) == (bill(found).quality, bill(found).missing)
    return found


def totals(of: Ledger) -> dict[str, float]:
    held = of.of.shares[of.of.shares["deployment_id"] != IDLE_ID].merge(of.rows, on=["device_id", "hour_ms"])
    lines = {line: getattr(bill(of), line) for line in (*LINES, *ENERGIES, "covered_ratio")}
    known = {line: math.nan if amount is None else amount for line, amount in lines.items()}
    return known | {
        "there": of.rows["there_ratio"].sum(),
        "held": (held["share"] * held["there_ratio"]).sum(),
        "active": (of.of.hours["active_ratio"] * of.of.hours["there_ratio"]).sum(),
        "not active": ((1 - of.of.hours["active_ratio"]) * of.of.hours["there_ratio"]).sum(),
        "tokens": of.of.work["generation_tokens"].sum(),
    }


def ids(store: Store) -> dict[str, int]:
    frame = queries.entities(store.reader)
    return dict(zip(frame["key"], frame["entity_id"], strict=True))


def lines(of: Bill) -> list[float | None]:
    return [getattr(of, line) for line in LINES]


# --- lines ---


def test_rented_hardware_costs_its_hours_and_no_electricity_on_top(store: Store):
    kept(store, *card("0", model="NVIDIA H100 80GB HBM3"))
    found = bill(priced(store, settings(RENTED, usd_per_kwh=0.1)))
    assert lines(found) == [pytest.approx(4.0), 0.0, 0.0, 0.0]
    assert found.total_usd == pytest.approx(4.0)
    assert (found.active_kwh, found.idle_kwh) == (pytest.approx(1.0), pytest.approx(0.0))
    assert (found.covered_ratio, found.quality) == (pytest.approx(1.0), Quality.DERIVED)


def test_owned_hardware_pays_electricity_while_active_and_while_idle(store: Store):
    kept(store, *card("0"), *card("1", watts=100.0, held=False))
    found = bill(priced(store, settings(OWNED, usd_per_kwh=0.1, pue_ratio=1.5)))
    assert found.hardware_usd == pytest.approx(2 * 2.0)
    assert found.electricity_active_usd == pytest.approx(0.5 * 2 * 1.5 * 0.1)
    assert found.electricity_idle_usd == pytest.approx(0.1 * 2 * 1.5 * 0.1)
    assert found.idle_kwh == pytest.approx(0.3)


def test_a_host_is_paid_by_its_cards_in_equal_parts(store: Store):
    kept(store, *card("0"), *card("1"), *card("2", host="other"))
    ledger_ = priced(store, settings(OWNED, {**HOST, "match": "box"}, usd_per_kwh=0.0))
    by_host = bills(ledger_, "host")
    assert by_host["box"].hardware_usd == pytest.approx(2 * (1.0 + 1.0) + 2 * 1.0 - 0.0)
    assert by_host["other"].hardware_usd == pytest.approx(2.0)


def test_a_price_of_the_whole_host_will_do(store: Store):
    kept(store, *card("0"), *card("1"))
    assert bill(priced(store, settings(HOST, usd_per_kwh=0.0))).hardware_usd == pytest.approx(2.0)


def test_packages_of_the_host_are_part_of_what_its_cards_use(store: Store):
    sockets = [
        CpuSample(key="box/socket 0", observed_at_ms=BEGIN_MS + s * 1000, energy_joules_total=200.0 * s)
        for s in seconds(2)
    ]
    entity = Entity(observed_at_ms=BEGIN_MS, family="cpu", key="box/socket 0", host="box", labels={})
    kept(store, *card("0"), *card("1", watts=100.0, held=False), entity, *sockets)
    found = bill(priced(store, settings(OWNED, usd_per_kwh=1.0)))
    assert found.active_kwh == pytest.approx((500 + 100) * 2 / 1000)
    assert found.idle_kwh == pytest.approx((100 + 100) * 2 / 1000)


def test_overhead_falls_on_devices_as_their_cost_does(store: Store):
    kept(store, *card("0"), *card("1", model="NVIDIA H100 80GB HBM3"))
    overhead = {"overhead": [{"name": "staff", "per_month": 730.0 * 9}]}
    ledger_ = priced(store, settings(OWNED, RENTED, cost=overhead, usd_per_kwh=0.0))
    assert bill(ledger_).overhead_usd == pytest.approx(18.0)
    by_vendor = bills(ledger_, "vendor")
    assert by_vendor["AMD"].overhead_usd == pytest.approx(6.0)
    assert by_vendor["NVIDIA"].overhead_usd == pytest.approx(12.0)


def test_a_tariff_by_the_hour_is_cut_within_the_hour(store: Store):
    kept(store, *card("0", watts=1000.0))
    bands = [
        {"begins": "00:30", "ends": "01:00", "per_kwh": 1.0},
        {"begins": "01:00", "ends": "00:30", "per_kwh": 0.2},
    ]
    found = bill(priced(store, settings(OWNED, tariff=[{"band": bands}])))
    assert found.electricity_active_usd == pytest.approx(0.5 * 1.0 + 1.5 * 0.2)


def test_a_price_that_changes_counts_from_its_day(store: Store):
    kept(store, *card("0", hours=26), hours=26)
    old, new = {**RENTED, "match": "MI300X", "valid_to": "2025-10-11"}, {**RENTED, "match": "MI300X", "per_hour": 3.0}
    found = bill(priced(store, settings(old, {**new, "valid_from": "2025-10-11"}), 22, 26))
    assert found.hardware_usd == pytest.approx(2 * 2.0 + 2 * 3.0)


# --- what is unknown ---


def test_without_a_price_the_asset_is_named_and_energy_still_stands(store: Store):
    kept(store, *card("0"), *card("1", model="NVIDIA H100 80GB HBM3"))
    found = bill(priced(store, settings(RENTED)))
    assert (found.total_usd, found.hardware_usd, found.quality) == (None, None, Quality.MISSING)
    assert found.missing == (("AMD Instinct MI300X 0 on box", NO_PRICE),)
    assert found.active_kwh == pytest.approx(2.0)


@pytest.mark.parametrize(("watts", "tariff", "reason"), [(500.0, None, NO_TARIFF), (None, 0.1, NO_ENERGY)])
def test_what_electricity_lacks_is_said(store: Store, watts: float | None, tariff: float | None, reason: str):
    kept(store, *card("0", watts=watts))
    found = bill(priced(store, settings(OWNED, usd_per_kwh=tariff)))
    assert found.missing == (("AMD Instinct MI300X 0 on box", reason),)
    assert found.hardware_usd == pytest.approx(2.0)
    assert found.total_usd is None


def test_a_price_in_a_currency_without_a_rate_is_unknown(store: Store):
    kept(store, *card("0"))
    found = bill(priced(store, settings({**OWNED, "currency": "CLP"}, usd_per_kwh=0.1)))
    assert found.missing == (("AMD Instinct MI300X 0 on box", "no exchange rate for CLP"),)


def test_hours_that_nobody_saw_cost_hardware_and_lower_the_coverage(store: Store):
    seen = [*seconds(1), *seconds(1, begin=3)]
    kept(store, *card("0", at=seen, watts=None), hours=4)
    found = bill(priced(store, settings({**RENTED, "match": "MI300X"}), 0, 4))
    assert found.hardware_usd == pytest.approx(8.0)
    assert found.total_usd == pytest.approx(8.0)
    power = [
        AcceleratorSample(key="1", observed_at_ms=BEGIN_MS + s * 1000, power_watts=500.0, processes=0) for s in seen
    ]
    kept(store, *card("1", at=[]), *power, hours=4)
    part = bills(priced(store, settings(OWNED, usd_per_kwh=0.1), 0, 4), "name")["AMD Instinct MI300X 1"]
    assert part.covered_ratio == pytest.approx(0.5, abs=0.02)
    assert part.idle_kwh == pytest.approx(1.0, rel=0.02)  # what was seen, and no more


def test_a_default_of_the_country_is_called_an_estimate(store: Store):
    kept(store, *card("0"))
    found = priced(store, settings(OWNED, country="CL"))
    assert bill(found).quality is Quality.ESTIMATED
    assert any("default of CL" in str(source) for source in found.sources)


def test_an_empty_store_has_an_empty_bill(store: Store):
    found = bill(priced(store, settings(OWNED)))
    assert (found.total_usd, found.covered_ratio) == (0.0, 0.0)


# --- who pays ---


def test_deployments_pay_for_what_they_hold_and_nobody_for_the_rest(store: Store):
    kept(
        store,
        *card("0"),
        *card("1"),
        *card("2", held=False),
        *served("a"),
        *served("b"),
        runs_on("a", "0"),
        runs_on("b", "1", hour=1),
    )
    of, by = ids(store), deployment_bills(priced(store, settings(OWNED, usd_per_kwh=0.0)))
    assert by[of["a"]].hardware_usd == pytest.approx(2.0)
    assert by[of["b"]].hardware_usd == pytest.approx(1.0)
    assert by[IDLE_ID].hardware_usd == pytest.approx(3.0)


def test_of_some_devices_deployments_pay_what_they_hold_there(store: Store):
    kept(store, *card("0"), *card("1", host="other"), *served("a"), *served("b"), runs_on("a", "1"), runs_on("b", "0"))
    whole = priced(store, settings(OWNED, usd_per_kwh=0.0))
    of, elsewhere = ids(store), (whole.devices["host"] == "other").reindex(whole.rows["device_id"]).to_numpy()
    assert elsewhere.tolist().count(True) == 2
    assert set(deployment_bills(whole, elsewhere)) == {of["a"]}
    assert deployment_bills(whole, elsewhere)[of["a"]] == deployment_bills(whole)[of["a"]]
    assert set(deployment_bills(whole, ~elsewhere)) == {of["b"]}


def test_those_who_share_a_card_pay_by_weighted_tokens_while_they_share_it(store: Store):
    kept(
        store,
        *card("0"),
        *served("a", tokens_per_second=30.0),
        *served("b", tokens_per_second=10.0),
        runs_on("a", "0"),
        runs_on("b", "0", hour=0.5),
    )
    of, by = ids(store), deployment_bills(priced(store, settings(OWNED, usd_per_kwh=0.0)))
    assert by[of["a"]].hardware_usd == pytest.approx(0.5 + 1.5 * 0.75)
    assert by[of["b"]].hardware_usd == pytest.approx(1.5 * 0.25)
    assert IDLE_ID not in by


def test_slices_are_parts_of_their_card(store: Store):
    slices = [
        Entity(observed_at_ms=BEGIN_MS, family="accelerator", key=f"0/{n}", host="box", parent_key="0", labels={})
        for n in (1, 2)
    ]
    kept(store, *card("0"), *slices, *served("a"), runs_on("a", "0/1"))
    of, by = ids(store), deployment_bills(priced(store, settings(OWNED, usd_per_kwh=0.0)))
    assert by[of["a"]].hardware_usd == by[IDLE_ID].hardware_usd == pytest.approx(1.0)


# --- sums ---


def test_windows_add_up_and_so_do_groups(store: Store):
    kept(
        store,
        *card("0", 5),
        *card("1", 3, watts=70.0, held=False),
        *card("2", 5, host="other"),
        *served("a", 5),
        runs_on("a", "0", "2", hour=1.25),
        hours=5,
    )
    book = settings(OWNED, HOST, cost={"overhead": [{"name": "n", "per_month": 730.0}]}, usd_per_kwh=0.2, pue_ratio=1.3)
    whole = priced(store, book, 0, 5)
    for cut in range(1, 5):
        first, second = (bill(priced(store, book, *window)) for window in ((0, cut), (cut, 5)))
        for line in LINES:
            assert getattr(first, line) + getattr(second, line) == pytest.approx(getattr(bill(whole), line))
    keys: tuple[Key, ...] = ("site", "host", "vendor", "model", "name")
    by: list[Iterable[Bill]] = [bills(whole, key).values() for key in keys]
    for parts in (*by, deployment_bills(whole).values()):
        for line in LINES:
            assert sum(getattr(one, line) for one in parts) == pytest.approx(getattr(bill(whole), line))


prices = st.floats(0, 1e4)


def begins(hour: float, *readings: Reading) -> list[Reading]:
    """The same, first seen later."""
    at_ms = BEGIN_MS + round(hour * HOUR_MS)
    return [replace(one, observed_at_ms=at_ms) if isinstance(one, Entity) else one for one in readings]


def package(*watts: float) -> list[Reading]:
    """CPUs of the host with another power in each hour."""
    joules = [sum(watts[: s // 3600]) * 3600 + watts[min(s // 3600, len(watts) - 1)] * (s % 3600) for s in seconds(6)]
    return [
        Entity(observed_at_ms=BEGIN_MS, family="cpu", key="box/package-0", host="box"),
        *(
            CpuSample(key="box/package-0", observed_at_ms=BEGIN_MS + s * 1000, energy_joules_total=used)
            for s, used in zip(seconds(6), joules, strict=True)
        ),
    ]


SLICES = [
    Entity(observed_at_ms=BEGIN_MS, family="accelerator", key=f"0/{n}", host="box", parent_key="0", labels={})
    for n in (1, 2)
]
WORKS_AT_FIRST = [
    replace(one, utilization_ratio=0.0 if one.observed_at_ms > BEGIN_MS + HOUR_MS else 0.9)
    if isinstance(one, AcceleratorSample)
    else one
    for one in card("0", 6)
]
LOST_POWER = [
    replace(one, energy_joules_total=None, power_watts=None if 60 <= number % 360 < 100 else 500.0)
    if isinstance(one, AcceleratorSample)
    else one
    for number, one in enumerate(card("0", 6))
]


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param([*WORKS_AT_FIRST, *package(300.0, 10.0, 10.0, 10.0, 10.0, 10.0)], id="the host's CPUs"),
        pytest.param([*WORKS_AT_FIRST, *card("1", at=[*seconds(0.7), *seconds(3, begin=3)])], id="nobody looked"),
        pytest.param(LOST_POWER, id="no power was read"),
        pytest.param([*card("0"), *begins(4.5, *card("1", at=seconds(1, begin=7)))], id="not there yet"),
        pytest.param(
            [*card("0", 6), *SLICES, *(one for name in "abc" for one in served(name, 6)), runs_on("a", "0/1")]
            + [runs_on(name, "0/1", hour=4) for name in "bc"],
            id="a slice that many hold",
        ),
    ],
)
def test_hours_that_are_not_alike_are_not_read_as_one(store: Store, readings: list[Reading]):
    kept(store, *readings, hours=8)
    overhead = {"overhead": [{"name": "n", "per_month": 730.0}]}
    assert bill(priced(store, settings(OWNED, HOST, cost=overhead, usd_per_kwh=0.2), 0, 6)).hardware_usd


@examples(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(prices, prices), min_size=2, max_size=2), st.floats(0, 100))
def test_a_bill_is_linear_in_its_prices(fleet: DeviceHours, two: Sequence[tuple[float, float]], factor: float):
    def cost(per_hour: float, per_kwh: float) -> float:
        book = settings({**OWNED, "capex": 35_040.0 * per_hour}, usd_per_kwh=per_kwh)
        total = bill(ledger(fleet, book, {})).total_usd
        assert total is not None
        return total

    (hour, kwh), (more_hour, more_kwh) = two
    assert cost(hour + more_hour, kwh + more_kwh) == pytest.approx(cost(hour, kwh) + cost(more_hour, more_kwh))
    assert cost(hour * factor, kwh * factor) == pytest.approx(factor * cost(hour, kwh))


@pytest.fixture
def fleet(store: Store) -> DeviceHours:
    kept(store, *card("0"), *card("1", watts=100.0, held=False), *served("a"), runs_on("a", "0"))
    return device_hours(store.reader, BEGIN_MS, BEGIN_MS + 2 * HOUR_MS, 4.0)


@pytest.mark.parametrize(("start", "end", "found"), [(0, 2, (0, 2)), (0.2, 1.9, (1, 1)), (0.2, 2.1, (1, 2))])
def test_accounts_know_whole_hours(start: float, end: float, found: tuple[int, int]):
    hours = whole_hours(BEGIN_MS + round(start * HOUR_MS), BEGIN_MS + round(end * HOUR_MS))
    assert hours == tuple(BEGIN_MS + hour * HOUR_MS for hour in found)
