"""Parts of the bill: who pays which, that they are the whole of it, and that samples follow the same rules."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from analytics import costs_of_hours
from analytics.cost_figures import NO_PRICE, NO_TOKENS, NOT_JOINED, NOT_YET
from analytics.costs import by_samples, deployment_costs, priced_hours
from analytics.formulas.energy import Quality
from analytics.ledger import LINES, bill
from core.readings import AcceleratorSample, Entity
from core.settings import Settings
from tests.analytics.test_ledger import BEGIN_MS, HOST, HOUR_MS, OWNED, card, kept, priced, runs_on, served, settings
from tests.conftest import Store

STAFF = {"overhead": [{"name": "staff", "per_month": 730.0}]}  # 1 USD/h
PRICED = settings(OWNED, HOST, cost=STAFF, usd_per_kwh=0.2, pue_ratio=1.5)


def two_cards_and_a_free_one(store: Store) -> None:
    """Two deployments, and a third of the cards for nobody."""
    kept(
        store,
        *card("0"),
        *card("1"),
        *card("2", watts=100.0, held=False),
        *served("a"),
        *served("b", tokens_per_second=30.0),
        runs_on("a", "0"),
        runs_on("b", "1"),
    )


def test_deployments_and_what_nobody_held_are_the_bill_line_by_line(store: Store):
    two_cards_and_a_free_one(store)
    of = priced(store, PRICED)
    costs, free, whole = costs_of_hours.deployment_costs(store.reader, PRICED, of), costs_of_hours.unheld(of), bill(of)
    assert {cost.model for cost in costs} == {"a", "b"}
    assert free["name"].tolist() == ["AMD Instinct MI300X 2"]
    for line in LINES:
        parts = sum(cost.lines[line] or 0.0 for cost in costs) + free[line].sum()
        assert parts == pytest.approx(getattr(whole, line), abs=1e-9)
    assert whole.total_usd == pytest.approx(sum(cost.total_usd or 0.0 for cost in costs) + free["total_usd"].sum())


def test_figures_per_token_are_the_part_of_the_bill_over_the_tokens_of_the_same_hours(store: Store):
    two_cards_and_a_free_one(store)
    found = {one.model: one for one in costs_of_hours.deployment_costs(store.reader, PRICED, priced(store, PRICED))}[
        "b"
    ]
    assert found.output_tokens == pytest.approx(30.0 * 7200)
    assert found.usd_per_million_output_tokens == pytest.approx((found.total_usd or 0) / (30.0 * 7200) * 1e6)
    assert found.energy_joules == pytest.approx(500.0 * 7200)
    assert found.joules_per_output_token == pytest.approx(500.0 / 30.0)
    assert (found.label, found.reason, found.origin) == (Quality.DERIVED, "", "processes")
    assert (found.energy_label, found.energy_quality) == ("counter", Quality.MEASURED)
    assert found.targets == ("AMD Instinct MI300X 1 on box",)


def test_a_window_with_a_whole_hour_is_priced_by_accounts_and_a_shorter_one_by_samples(store: Store):
    two_cards_and_a_free_one(store)
    long, short = (
        deployment_costs(store.reader, PRICED, BEGIN_MS, BEGIN_MS + ms) for ms in (2 * HOUR_MS, HOUR_MS // 2)
    )
    assert set(long[0].lines) == set(LINES)
    assert set(short[0].lines) == {"hardware_usd", "electricity_usd"}


@pytest.mark.parametrize(
    ("window", "accounted", "hours"),
    [
        ((9.4, 10.4), 10, (9, 10)),
        ((9.4, 10.4), 9, (8, 9)),  # the hour that is over is not accounted for yet
        ((9.4, 10.4), 8, None),
        ((9.9, 10.4), 10, None),
        ((4.4, 10.4), 10, (4, 10)),
        ((4.4, 10.4), 0, None),
    ],
)
def test_the_hours_that_stand_for_a_window_are_those_it_touches_as_far_as_accounts_reach(window, accounted, hours):
    start_ms, end_ms = (BEGIN_MS + round(h * HOUR_MS) for h in window)
    found = priced_hours(start_ms, end_ms, BEGIN_MS + accounted * HOUR_MS)
    assert found == (None if hours is None else tuple(BEGIN_MS + h * HOUR_MS for h in hours))


def test_a_deployment_newer_than_the_bill_is_listed_and_says_when_it_has_a_price(store: Store):
    labels = {"model": "new", "url": "http://box:8001", "engine": "vLLM"}
    later = Entity(observed_at_ms=BEGIN_MS + 2 * HOUR_MS, family="deployment", key="new", host="box", labels=labels)
    kept(store, *card("0"), *served("a"), runs_on("a", "0"), later)
    found = {one.model: one for one in costs_of_hours.deployment_costs(store.reader, PRICED, priced(store, PRICED))}
    assert (found["new"].total_usd, found["new"].reason) == (None, NOT_YET)
    assert found["a"].reason == ""


def test_samples_and_accounts_price_the_same_hours_alike_where_there_is_no_overhead(store: Store):
    two_cards_and_a_free_one(store)
    plain = settings(OWNED, HOST, usd_per_kwh=0.2, pue_ratio=1.5)
    window = BEGIN_MS, BEGIN_MS + 2 * HOUR_MS
    hours = {one.model: one for one in deployment_costs(store.reader, plain, *window)}
    samples = {one.model: one for one in by_samples(store.reader, plain, *window)}
    for model, one in hours.items():
        assert samples[model].hardware_usd == pytest.approx(one.hardware_usd)
        # a window of samples lacks the step that leads to its end
        assert samples[model].electricity_usd == pytest.approx(one.electricity_usd, rel=0.01)
        assert samples[model].output_tokens == pytest.approx(one.output_tokens, rel=0.01)


@pytest.mark.parametrize("hours", [0.5, 2])
def test_a_price_of_the_host_alone_is_a_price_by_accounts_and_by_samples(store: Store, hours: float):
    kept(store, *card("0"), *served("a"), runs_on("a", "0"))
    (found,) = deployment_costs(
        store.reader, settings(HOST, usd_per_kwh=0.2), BEGIN_MS, BEGIN_MS + round(hours * HOUR_MS)
    )
    assert found.hardware_usd == pytest.approx(hours)
    assert found.reason == ""


@pytest.mark.parametrize("hours", [0.5, 2])
def test_a_counter_that_power_samples_contradict_is_not_believed(store: Store, hours: float):
    broken = [
        AcceleratorSample(
            key=one.key,
            observed_at_ms=one.observed_at_ms,
            processes=1,
            utilization_ratio=0.9,
            power_watts=500.0,
            energy_joules_total=1000 * (one.energy_joules_total or 0.0),
        )
        if isinstance(one, AcceleratorSample)
        else one
        for one in card("0")
    ]
    kept(store, *broken, *served("a"), runs_on("a", "0"))
    (found,) = deployment_costs(store.reader, PRICED, BEGIN_MS, BEGIN_MS + round(hours * HOUR_MS))
    assert found.energy_joules == pytest.approx(500.0 * hours * 3600, rel=0.05)
    assert found.energy_quality is Quality.DERIVED


def test_without_a_price_each_part_says_so_and_energy_stands(store: Store):
    two_cards_and_a_free_one(store)
    for found in costs_of_hours.deployment_costs(store.reader, Settings(), priced(store, Settings())):
        assert (found.total_usd, found.usd_per_million_output_tokens) == (None, None)
        assert NO_PRICE in found.reason
        assert found.joules_per_output_token is not None


def test_a_deployment_that_nobody_joined_is_listed_with_its_tokens(store: Store):
    kept(store, *card("0"), *served("a"))
    (found,) = costs_of_hours.deployment_costs(store.reader, PRICED, priced(store, PRICED))
    assert (found.total_usd, found.reason, found.origin) == (None, NOT_JOINED, "unjoined")
    assert found.output_tokens == pytest.approx(10.0 * 7200)


def test_no_tokens_is_said_and_the_cost_stays(store: Store):
    kept(store, *card("0"), *served("a", tokens_per_second=0.0), runs_on("a", "0"))
    (found,) = costs_of_hours.deployment_costs(store.reader, PRICED, priced(store, PRICED))
    assert found.total_usd is not None
    assert (found.usd_per_million_output_tokens, found.reason) == (None, NO_TOKENS)


def test_the_trend_is_at_each_hours_price_and_adds_up_to_the_bill(store: Store):
    change = datetime.fromtimestamp(BEGIN_MS / 1000, UTC).date()
    kept(store, *card("0"), *served("a"), runs_on("a", "0"))
    # the zone's day begins two hours after UTC's does, so the price changes between the hours
    old, new = OWNED | {"valid_to": str(change)}, OWNED | {"valid_from": str(change), "capex": 70_080.0}
    changing = settings(old, new, usd_per_kwh=0.2, time_zone="Etc/GMT+1")
    of = priced(store, changing)
    found = costs_of_hours.trend(of, 1)
    assert found["total_usd"].tolist() == pytest.approx([1.1, 2.1])
    assert found["usd_per_million_output_tokens"].tolist() == pytest.approx([1.1 / 0.036, 2.1 / 0.036])
    whole = costs_of_hours.trend(of, 2)
    assert whole["total_usd"].tolist() == pytest.approx([3.2])
    assert whole["joules_per_output_token"].tolist() == pytest.approx([50.0])
    (cost,) = costs_of_hours.deployment_costs(store.reader, changing, of)
    assert cost.total_usd == pytest.approx(3.2)
    assert ("changes of prices", "1 in the window") in {(str(term.name), str(term.value)) for term in cost.terms}


def test_the_terms_tell_every_input(store: Store):
    two_cards_and_a_free_one(store)
    of = priced(store, PRICED)
    found = costs_of_hours.deployment_costs(store.reader, PRICED, of)[0]
    assert costs_of_hours.terms(store.reader, PRICED, of, [found.deployment_id]) == {found.deployment_id: found.terms}
    without = costs_of_hours.deployment_costs(store.reader, PRICED, of, explained=False)
    assert {cost.terms for cost in without} == {()}
    text = "\n".join(f"{term.name}: {term.value} ({term.source})" for term in found.terms)
    for part in (
        "1 x AMD Instinct MI300X on box: hours held: 2 h (joined by processes)",
        "hardware price, accelerator: 1 USD/h (settings: cost.hardware.0 (owned))",
        "hardware price, host x 0.333",
        "1.5 kWh active",
        "0.2 USD/kWh",
        "PUE: 1.5",
        "overhead",
    ):
        assert part in text


def test_a_gateway_pays_nothing(store: Store):
    labels = {"model": "a", "url": "http://box:4000", "role": "gateway"}
    gateway = Entity(observed_at_ms=BEGIN_MS, family="deployment", key="g", host="box", labels=labels)
    kept(store, *card("0"), *served("a"), gateway, runs_on("a", "0"), runs_on("g", "0"))
    (found,) = costs_of_hours.deployment_costs(store.reader, PRICED, priced(store, PRICED))
    assert found.key == "a"
