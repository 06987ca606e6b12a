"""Contracts: worked example 6 on a calendar, use read from a store by unit, and what is said where it is unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import commitments
from analytics.commitments import NO_HOSTED_PRICE, NOT_SEEN, SEEN_LITTLE, Standing, Use, standing, term, uses
from analytics.formulas.energy import Quality
from analytics.formulas.local_time import Span
from core.prices import Contract
from core.readings import Entity, Outcome, ProbeSample
from core.settings import Settings
from tests.analytics.formulas.worked import near
from tests.analytics.test_ledger import BEGIN_MS, HOUR_MS, OWNED, card, kept, runs_on, served
from tests.conftest import Store

DAY_MS = 24 * HOUR_MS
TRANCHES = [{"begins": f"{year}-01-01", "amount": 250.0} for year in (2025, 2026, 2027)]
BIG = {
    "name": "big",
    "unit": "megawatts",
    "amount": 750.0,
    "price": 10e9,
    "begins": "2025-01-01",
    "ends": "2028-01-01",
}  # 26,280 h
SMALL = {**BIG, "amount": 0.001, "price": 1_000.0, "begins": "2025-10-10", "ends": "2025-10-20"}  # 1 kW
BY_TOKENS = {"unit": "money", "models": ["gpt*"], "amount": 1e6}


def book(*contracts: dict[str, object], cost: dict[str, object] | None = None, **site: object) -> Settings:
    return Settings(cost={"contract": contracts, **(cost or {})}, site=site)  # type: ignore[arg-type]


def window(first: float, last: float) -> Span:
    return Span(BEGIN_MS + round(first * HOUR_MS), BEGIN_MS + round(last * HOUR_MS))


def seen(used: float | None, span: Span, covered: float = 1.0) -> list[Use]:
    return [Use(span=span, used=used, covered_ratio=covered)]


def only(settings: Settings) -> Contract:
    (contract,) = settings.cost.contract
    return contract


def stand(settings: Settings, of: Sequence[Use], span: Span) -> Standing:
    found = standing(only(settings), settings, of, span)
    assert found is not None
    return found


def used(store: Store, settings: Settings, first: int = 0, last: int = 2) -> Use:
    (one,) = uses(store.reader, settings, window(first, last))["big"]
    return one


# --- worked example 6 ---


@pytest.mark.parametrize(
    ("tranche", "per_kw_month", "available", "as_used"),
    [([], 370.370, 507.357, 818.317), (TRANCHES, 555.556, 761.035, 1227.48)],
)
def test_a_whole_term_costs_what_the_worked_example_says(
    tranche: list[dict[str, object]], per_kw_month: float, available: float, as_used: float
):
    settings = book({**BIG, "tranche": tranche})
    whole = term(only(settings), settings)
    there = commitments.delivered(only(settings), settings, whole)
    found = stand(settings, seen(0.62 * there, whole), whole)
    assert found.effective.usd_per_kw_month == near(per_kw_month)
    assert found.effective.usd_per_available == near(available)
    assert found.effective.usd_per_used == near(as_used)
    assert found.committed == near(750 * 26_280)
    assert found.used_ratio == near(0.62)
    assert found.rows == (near(6.2e9), near(3.8e9))
    assert (found.usd, found.unused) == (10e9, near(0.38 * there))


def test_megawatts_are_there_from_the_day_of_their_tranche():
    settings = book({**BIG, "tranche": TRANCHES})
    begin_ms = term(only(settings), settings).start_ms
    jump = Span(begin_ms + 364 * DAY_MS, begin_ms + 366 * DAY_MS)
    assert commitments.delivered(only(settings), settings, jump) == near(24 * (250 + 500))


def test_an_amount_of_use_is_spread_from_its_tranche_to_the_end_and_is_whole_there():
    halves = [{"begins": "2025-10-10", "amount": 50.0}, {"begins": "2025-10-15", "amount": 50.0}]
    settings = book({**SMALL, "unit": "gpu_hours", "amount": 100.0, "tranche": halves})
    whole = term(only(settings), settings)
    assert commitments.delivered(only(settings), settings, whole) == near(100.0)
    assert commitments.delivered(only(settings), settings, window(0, 5 * 24)) == near(25.0)
    assert commitments.committed(only(settings), settings, window(0, 5 * 24)) == near(50.0)


# --- windows and money ---


def test_only_the_part_of_the_term_that_lies_in_the_window_counts():
    settings = book(SMALL)
    found = stand(settings, seen(0.01, window(9 * 24, 10 * 24)), window(9 * 24, 12 * 24))
    assert (found.delivered, found.usd) == (near(0.024), near(100.0))
    assert standing(only(settings), settings, [], window(10 * 24, 12 * 24)) is None


@given(st.floats(0, 2), st.floats(0.01, 1e9), st.integers(1, 240))
def test_used_and_unused_add_up_to_the_cent(ratio: float, price: float, hours: int):
    settings = book({**SMALL, "price": price})
    found = stand(settings, seen(ratio * hours / 1000, window(0, hours)), window(0, hours))
    assert found.rows is not None
    assert found.usd is not None
    cents = [round(row * 100) for row in found.rows]
    assert all(cent >= 0 for cent in cents)
    assert sum(cents) == round(found.usd * 100)


def test_money_is_converted_at_the_rate_of_each_day_and_unknown_without_one():
    rates = [{"currency": "CLP", "on": "2025-10-01", "per_usd": 1_000.0}]
    later = {"currency": "CLP", "on": "2025-10-15", "per_usd": 500.0}
    contract = {**SMALL, "currency": "CLP", "price": 1e6}
    two = book(contract, cost={"rate": [*rates, later]})
    assert stand(two, [], term(only(two), two)).usd == near(500 + 1_000)
    without = stand(book(contract), seen(0.12, window(0, 240)), window(0, 240))
    assert (without.usd, without.rows, without.money_reason) == (None, None, "no exchange rate for CLP")
    assert without.used_ratio == near(0.5)
    assert without.effective.usd_per_used is None


def test_an_estimate_makes_every_figure_one():
    whole = window(0, 240)
    assert stand(book(SMALL), seen(0.1, whole), whole).quality is Quality.DERIVED
    assert stand(book({**SMALL, "estimate": True}), seen(0.1, whole), whole).quality is Quality.ESTIMATED


def test_gaps_are_filled_where_they_are_few_and_nothing_is_said_where_they_are_not():
    settings, whole = book(SMALL), window(0, 240)
    filled = stand(settings, seen(0.096, whole, 0.8), whole)
    assert (filled.used, filled.used_ratio, filled.quality) == (near(0.12), near(0.5), Quality.ESTIMATED)
    little = stand(settings, seen(0.048, whole, 0.4), whole)
    assert (little.used, little.rows, little.effective.usd_per_used) == (None, None, None)
    assert (little.reason, little.quality, little.use.used) == (SEEN_LITTLE, Quality.MISSING, 0.048)
    assert little.effective.usd_per_available == near(1_000 / 0.24)


# --- what was used, from a store ---


def test_megawatts_are_used_by_the_energy_of_its_hosts_at_the_meter(store: Store):
    kept(store, *card("0"), *card("1", host="other", watts=100.0))
    settings = book({**SMALL, "hosts": ["bo?"]}, pue_ratio=1.5)
    found = used(store, settings)
    assert found.used == pytest.approx(0.5 * 2 * 1.5 / 1000)
    assert found.covered_ratio == pytest.approx(1.0)
    standing_ = stand(settings, [found], window(0, 2))
    assert (standing_.used_ratio, standing_.quality) == (pytest.approx(0.75), Quality.ESTIMATED)
    assert stand(book(SMALL), [used(store, book(SMALL))], window(0, 2)).quality is Quality.DERIVED


def test_gpu_hours_are_those_that_deployments_of_its_models_held(store: Store):
    kept(store, *card("0"), *card("1"), *served("a"), *served("b"), runs_on("a", "0", hour=0.5), runs_on("b", "1"))
    contract = {**SMALL, "unit": "gpu_hours", "amount": 240.0}
    assert used(store, book({**contract, "models": ["a"]})).used == pytest.approx(1.5)
    assert used(store, book(contract)).used == pytest.approx(3.5)


def test_tokens_are_output_and_a_gateway_adds_only_what_nobody_else_is_seen_to_serve(store: Store):
    def gateway(key: str, model: str) -> list:
        _, *samples = served(key, tokens_per_second=1.0)
        labels = {"model": model, "url": "http://gate", "role": "gateway"}
        return [Entity(observed_at_ms=BEGIN_MS, family="deployment", key=key, host="box", labels=labels), *samples]

    kept(store, *served("a"), *gateway("gate a", "a"), *gateway("gate gpt", "gpt"))
    contract = {**SMALL, "unit": "tokens", "amount": 240e3}
    assert used(store, book(contract)).used == pytest.approx((10 + 1) * 7_200)
    assert used(store, book({**contract, "models": ["GPT"]})).used == pytest.approx(7_200)
    found = stand(book(contract), [used(store, book(contract))], window(0, 2))
    assert found.effective.usd_per_used == pytest.approx(1_000 / 120 / (11 * 7_200) * 1e6)
    assert found.use.prompt_tokens == 0.0


def test_money_is_the_bill_of_its_hosts_in_the_currency_of_the_contract(store: Store):
    kept(store, *card("0"), *card("1", host="other"))
    rate = [{"currency": "CLP", "on": "2025-10-01", "per_usd": 1_000.0}]
    contract = {**SMALL, "unit": "money", "currency": "CLP", "hosts": ["box"]}
    costs = {"hardware": [OWNED], "rate": rate}
    assert used(store, book(contract, cost=costs, usd_per_kwh=0.1)).used == pytest.approx((2 * 1.0 + 1 * 0.1) * 1_000)
    no_rate = used(store, book(contract, cost={"hardware": [OWNED]}, usd_per_kwh=0.1))
    assert (no_rate.used, no_rate.covered_ratio, no_rate.reason) == (None, 0.0, "no exchange rate for CLP")
    assert used(store, book(contract, cost={"rate": rate})).reason == "no hardware price"


def test_money_for_models_is_what_their_tokens_cost_at_hosted_prices(store: Store):
    probe = Entity(
        observed_at_ms=BEGIN_MS, family="probe", key="p", host="box", labels={"model": "gpt-mini", "url": "http://far"}
    )
    asked = [
        ProbeSample(
            key="p",
            observed_at_ms=BEGIN_MS + minute * 60_000,
            outcome=Outcome.OK,
            prompt_tokens=100,
            output_tokens=50,
            cost_usd=booked,
        )
        for minute, booked in ((1, 2.0), (2, None))
    ]
    kept(store, *card("0"), *served("gpt-big"), probe, *asked)
    listed = {"model": "gpt*", "per_million_input": 10_000.0, "per_million_output": 20_000.0}
    contract = {**SMALL, **BY_TOKENS}
    tokens_usd = 10 * 7_200 * 20_000 / 1e6
    found = used(store, book(contract, cost={"hosted": [listed]}))
    assert found.used == pytest.approx(tokens_usd + 2.0 + 1.0 + 1.0)
    assert used(store, book(contract)).reason == NO_HOSTED_PRICE


def test_time_before_the_first_sight_is_not_covered_and_what_never_came_has_a_reason(store: Store):
    kept(store, *card("0", hours=2))
    assert used(store, book({**SMALL, "begins": "2025-10-09"}), -2, 2).covered_ratio == pytest.approx(0.5)
    nobody = used(store, book({**SMALL, "hosts": ["elsewhere"]}))
    assert (nobody.used, nobody.covered_ratio, nobody.reason) == (None, 0.0, NOT_SEEN)


def test_uses_are_cut_at_the_bounds_of_the_term_and_add_up(store: Store):
    kept(store, *card("0", hours=4), hours=4)
    settings = book({**SMALL, "ends": "2025-10-11"})
    parts = uses(store.reader, settings, [BEGIN_MS + hour * HOUR_MS for hour in (-1, 2, 4)])["big"]
    assert [part.span for part in parts] == [window(0, 2), window(2, 4)]
    whole = commitments.together(parts, window(0, 4))
    assert whole.used == pytest.approx(used(store, settings, 0, 4).used)
    assert commitments.together(parts, window(0, 8)).covered_ratio == pytest.approx(0.5)


# --- burn and forecast ---


def by_day(*amounts: float | None, first: int = 0) -> list[Use]:
    spans = [Span(BEGIN_MS + day * DAY_MS, BEGIN_MS + (day + 1) * DAY_MS) for day in range(first, first + len(amounts))]
    return [
        Use(span=span, used=amount, covered_ratio=float(amount is not None))
        for span, amount in zip(spans, amounts, strict=True)
    ]


def long(**changes: object) -> Settings:
    return book({**SMALL, "unit": "gpu_hours", "amount": 1_000.0, "ends": "2026-01-18", **changes})  # 100 days


def test_a_forecast_needs_seven_whole_days():
    settings = long()
    assert commitments.forecast(only(settings), settings, by_day(*[9.0] * 6)) is None
    found = commitments.forecast(only(settings), settings, by_day(*[9.0] * 7))
    assert found is not None
    assert (found.used.lower, found.used.upper) == (near(900.0), near(900.0))
    assert found.delivered == near(1_000.0)


def test_a_forecast_is_a_range_around_days_like_those_seen_and_leaves_out_time_before_the_first_sight():
    settings = long()
    found = commitments.forecast(only(settings), settings, by_day(*[None] * 10, *[8.0, 12.0] * 5))
    assert found is not None
    assert found.used.estimate == near(90 * 10.0)
    assert found.used.lower < 900 < found.used.upper
    assert found.delivered == near(900.0)


def test_a_term_that_is_over_has_no_forecast():
    settings = long()
    assert commitments.forecast(only(settings), settings, by_day(*[9.0] * 100)) is None


def test_burn_adds_up_by_local_weeks_beside_the_line_of_the_term():
    settings = long(tranche=[{"begins": "2025-10-10", "amount": 500.0}, {"begins": "2025-10-18", "amount": 500.0}])
    frame = commitments.burn(only(settings), settings, by_day(*[9.0] * 10))
    assert frame["at"].dt.strftime("%m-%d").tolist() == ["10-10", "10-13", "10-18", "10-20", "01-18"]
    assert frame["used"].tolist()[:2] == [0.0, 27.0]
    assert frame["used"].tolist()[3] == 90.0
    assert frame["delivered"].tolist() == [0.0, near(15.0), near(40.0), near(500 * 0.1 + 500 * 2 / 92), near(1_000.0)]
    assert frame["low"].dropna().tolist() == [90.0, near(900.0)]


def test_burn_of_what_was_never_seen_is_empty():
    settings = long()
    assert commitments.burn(only(settings), settings, by_day(None)).empty


zones = st.sampled_from(["America/Santiago", "Asia/Kolkata"])


@given(st.dates(date(2026, 1, 1), date(2027, 1, 1)), st.integers(1, 60), zones)
def test_days_and_weeks_of_any_zone_fill_a_window(first: date, length: int, zone: str):
    settings = book({**BIG, "begins": first, "ends": first + timedelta(days=length)}, time_zone=zone)
    whole = term(only(settings), settings)
    for parts in (commitments.days(whole, settings), commitments.weeks(whole, settings)):
        assert (parts[0].start_ms, parts[-1].end_ms) == whole
        assert all(before.end_ms == after.start_ms for before, after in pairwise(parts))
        assert math.fsum(part.hours for part in parts) == whole.hours
    assert len(commitments.days(whole, settings)) == length
