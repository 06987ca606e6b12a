"""The weekly summary: a fleet of known truth against the week before, and what is said where something is unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analytics.formulas.energy import Quality
from analytics.formulas.local_time import iso_week
from analytics.wastes.waste import Kind
from analytics.weekly import Reason, WeeklySummary, weekly_summary
from analytics.weekly.kept import from_text, to_text
from core.readings import (
    AcceleratorSample,
    Entity,
    Reading,
)
from core.settings import Settings
from tests.analytics.weeks import (
    BOOK,
    ENDED,
    HOUR_MS,
    IN_PESOS,
    MONDAY_MS,
    OWNED,
    PROMISED,
    WEEK,
    ZONE,
    account,
    fleet,
    settings,
)
from tests.conftest import Store


def summary(
    store: Store, the_settings: Settings, *readings: Reading, hours: int = WEEK, now: int | None = None
) -> WeeklySummary:
    """Of week 40, accounted to so many hours after its Monday, as it is at another."""
    account(store, MONDAY_MS + hours * HOUR_MS, *readings)
    return weekly_summary(store.reader, the_settings, 2026, 40, MONDAY_MS + (hours if now is None else now) * HOUR_MS)


def test_headlines_of_a_week_like_the_one_before(store: Store):
    found = summary(store, settings(serving=PROMISED), *fleet(WEEK + 170, begin=-WEEK))
    assert [headline.key for headline in found.headlines] == [
        *("cost", "unit_price", "tokens", "service", "latency", "gpu_hours"),
        *("idle", "energy", "carbon", "commitment", "forecast", "coverage"),
    ]
    of = found.figures
    total, kwh, tokens = (of[key].value for key in ("total_usd", "kwh", "output_tokens"))
    assert total is not None
    assert kwh is not None
    assert tokens is not None
    assert total == pytest.approx(336 + 0.1 * kwh)
    assert (of["total_usd"].previous, of["total_usd"].is_clear) == (pytest.approx(total, rel=0.01), False)
    assert of["total_usd"].history == (*[None] * 7, of["total_usd"].previous)
    assert of["usd_per_million_output_tokens"].value == pytest.approx(total / tokens * 1e6)
    assert of["usd_per_million_tokens"].value == pytest.approx(total / tokens / 3 * 1e6)
    assert of["joules_per_output_token"].value == pytest.approx(kwh * 3.6e6 / tokens)
    assert of["grams_per_million_output_tokens"].value == pytest.approx(250 * kwh / tokens * 1e6)
    assert of["used_ratio"].value == pytest.approx(0.25, rel=0.03)
    assert of["used_ratio"].change_ratio is None  # shares differ in percentage points
    assert of["idle_ratio"].value == pytest.approx(0.75, rel=0.02)
    assert of["attained_ratio"].value == pytest.approx(1.0)
    assert (of["kwh"].quality, found.quality.energy_scope) == (Quality.ESTIMATED, "meter")
    assert of["covered_ratio"].value == pytest.approx(1.0)
    month = of["month_end_usd"]
    assert (month.low, month.high) == (pytest.approx(31 * total / 7, rel=0.3), pytest.approx(31 * total / 7, rel=0.3))
    (promise,) = found.promises
    assert (promise.model, promise.is_kept) == ("llama", True)


def test_all_that_is_listed_adds_up_to_the_bill(store: Store):
    found = summary(store, settings(), *fleet(WEEK + 2))
    total = found.figures["total_usd"].value
    assert sum(row.bill.total_usd or 0.0 for row in found.rows) == pytest.approx(total)
    assert sum(one.usd or 0.0 for one in found.models) == pytest.approx(total)
    assert sum(one.total_usd or 0.0 for _, one in found.sites) == pytest.approx(total)
    assert sum(day.bill.total_usd or 0.0 for day in found.days if day.bill) == pytest.approx(total)
    assert sum(row.device_hours for row in found.rows) == pytest.approx(2 * WEEK)
    assert len(found.days) == 7


def test_wastes_become_actions_with_a_range(store: Store):
    found = summary(store, settings(), *fleet(WEEK + 2))
    assert [one.kind for one in found.wastes[:2]] == [Kind.FREE, Kind.TROUGH]
    free = found.actions[0]
    assert free.waste is found.wastes[0]
    low, high = free.saving_usd
    assert low == pytest.approx(high / 2)
    assert high == pytest.approx(0.05 * 1.2 * 0.1 * WEEK, rel=0.01)  # electricity: the card is bought
    assert free.freed_gpu_hours == pytest.approx(WEEK)


def test_a_week_that_is_not_over_is_compared_with_as_many_hours(store: Store):
    found = summary(store, settings(), *fleet(WEEK + 50, begin=-WEEK), hours=50, now=49)
    assert (found.elapsed_hours, found.whole_hours, found.is_whole) == (49, WEEK, False)
    cost = found.figures["total_usd"]
    assert cost.previous == pytest.approx(cost.value, rel=0.01)
    assert found.figures["available_gpu_hours"].previous == pytest.approx(98)
    assert found.figures["month_end_usd"].value is not None  # from whole days of the week before as well


def test_a_jump_is_clear_and_its_effects_add_up(store: Store):
    dear = {"hardware": [{**OWNED, "valid_to": "2026-09-28"}, {**OWNED, "capex": 70_080.0, "valid_from": "2026-09-28"}]}
    found = summary(store, settings(dear), *fleet(WEEK + 170, begin=-WEEK))
    cost, unit = found.figures["total_usd"], found.figures["usd_per_million_output_tokens"]
    assert cost.is_clear
    assert found.cost_effects is not None
    assert found.cost_effects.price_usd == pytest.approx(336, rel=0.01)
    assert sum(found.cost_effects) == pytest.approx(cost.change)
    assert found.unit_price_effects is not None
    assert sum(found.unit_price_effects) == pytest.approx(unit.change)
    assert found.figures["output_tokens"].is_clear is False


def test_amounts_are_not_compared_across_a_new_tariff(store: Store):
    tariff = [{"per_kwh": 0.1}, {"per_kwh": 0.2, "valid_from": "2026-09-30"}]
    found = summary(store, settings(site={"time_zone": ZONE, "tariff": tariff}), *fleet(WEEK + 170, begin=-WEEK))
    assert len(found.quality.tariff_changes_ms) == 1
    cost = found.figures["total_usd"]
    assert cost.previous is not None
    assert (cost.change, cost.is_clear, found.cost_effects) == (None, False, None)
    assert found.figures["kwh"].change == pytest.approx(0, abs=0.1)


def test_a_week_of_167_hours_costs_no_less_by_the_hour(store: Store):
    zone = settings().site.zone
    short, after = iso_week(2026, 36, zone), iso_week(2026, 37, zone)
    assert (short.hours, after.hours) == (167, 168)
    card = Entity(observed_at_ms=short.start_ms, family="accelerator", key="A", host="box", labels={"model": "MI300X"})
    samples = (
        AcceleratorSample(key="A", observed_at_ms=at_ms, energy_joules_total=(at_ms - short.start_ms) / 10, processes=1)
        for at_ms in range(short.start_ms, after.end_ms + HOUR_MS, HOUR_MS // 4)
    )
    account(store, after.end_ms, card, *samples)
    found = weekly_summary(store.reader, settings(), 2026, 37, after.end_ms)
    kwh = found.figures["kwh"]
    assert kwh.value is not None
    assert kwh.previous == pytest.approx(kwh.value * 167 / 168)
    assert kwh.change == pytest.approx(0, abs=1e-6)


MEGAWATTS = {**BOOK, "contract": [{**ENDED, "unit": "megawatts", "amount": 0.001}]}


@pytest.mark.parametrize(
    ("cost", "readings", "key", "reason"),
    [
        (BOOK, [], "total_usd", Reason.NO_DATA),
        (BOOK, [], "available_gpu_hours", Reason.NO_DATA),
        (BOOK, [], "output_tokens", Reason.NOT_COUNTED),
        (BOOK, [], "covered_ratio", Reason.NO_DATA),
        (BOOK, [*fleet(40), *fleet(1, begin=167)], "usd_per_million_output_tokens", Reason.LITTLE_SEEN),
        ({}, [*fleet(WEEK)], "total_usd", Reason.NO_PRICE),
        ({}, [*fleet(WEEK)], "idle_usd", Reason.NO_PRICE),
        ({}, [*fleet(WEEK)], "usd_per_million_output_tokens", Reason.NO_PRICE),
        (BOOK, [*fleet(WEEK, tokens_per_second=0)], "usd_per_million_output_tokens", Reason.NO_TOKENS),
        (BOOK, [*fleet(WEEK, tokens_per_second=0)], "joules_per_output_token", Reason.NO_TOKENS),
        (IN_PESOS, [*fleet(WEEK)], "total_usd", Reason.NO_RATE),
        (BOOK, [*fleet(WEEK)], "commitment_used_ratio", Reason.NO_CONTRACT),
        (MEGAWATTS, [*fleet(20), *fleet(1, begin=167)], "commitment_used_ratio", Reason.LITTLE_SEEN),
        (BOOK, [*fleet(WEEK)], "attained_ratio", Reason.NO_OBJECTIVE),
        (BOOK, [*fleet(30)], "month_end_usd", Reason.FEW_DAYS),
    ],
)
def test_what_is_unknown_has_a_reason_and_no_value(
    store: Store, cost: dict[str, Any], readings: list[Reading], key: str, reason: Reason
):
    figure = summary(store, settings(cost), *readings).figures[key]
    assert (figure.value, figure.quality) == (None, Quality.MISSING)
    assert figure.why is not None
    assert figure.why.reason is reason
    assert (figure.change, figure.is_clear) == (None, False)


def test_a_contract_that_ended_on_wednesday_counts_to_then(store: Store):
    found = summary(store, settings({**BOOK, "contract": [ENDED]}), *fleet(WEEK))
    (contract,) = found.contracts
    assert (contract.ends_in_week, contract.last_day.isoformat()) == (True, "2026-09-30")
    assert contract.usd == pytest.approx(1000 * 72 / 719, abs=0.01)  # of September, which lacks an hour in Chile
    assert found.figures["commitment_used_ratio"].value == pytest.approx(0.72, rel=0.01)


def test_amounts_can_be_read_in_a_currency_that_has_a_rate(store: Store):
    rate = {"currency": "CLP", "on": "2026-09-01", "per_usd": 900.0}
    assert summary(store, settings({**BOOK, "currency": "CLP", "rate": [rate]})).exchange.per_usd == 900.0
    assert weekly_summary(store.reader, settings({**BOOK, "currency": "CLP"}), 2026, 40, 0).exchange.per_usd is None


@pytest.mark.parametrize(
    ("cost", "hours"),
    [({**BOOK, "contract": [ENDED]}, WEEK), (BOOK, 40), ({**IN_PESOS, "currency": "CLP"}, WEEK), ({}, WEEK), (BOOK, 0)],
)
def test_a_summary_is_the_same_after_it_was_kept_as_json(store: Store, cost: dict[str, Any], hours: int):
    readings = fleet(hours + 170, begin=-WEEK) if hours else ()
    found = summary(store, settings(cost, serving=PROMISED), *readings)
    wastes = tuple(replace(waste, stretches=()) for waste in found.wastes)
    actions = tuple(one._replace(waste=replace(one.waste, stretches=())) for one in found.actions)
    kept = replace(found, wastes=wastes, actions=actions)
    again = from_text(to_text(kept))
    assert again == kept
    assert repr(again) == repr(kept)  # types too: equal are also 1 and 1.0, an enum and its text


def test_a_running_week_without_any_accounts_can_be_told(store: Store):
    overhead = {**BOOK, "overhead": [{"name": "staff", "per_month": 730.0}]}
    account(store, MONDAY_MS - 5 * HOUR_MS, *fleet(100, begin=-105))
    found = weekly_summary(store.reader, settings(overhead), 2026, 40, MONDAY_MS + 10 * HOUR_MS)
    assert found.elapsed_hours == 0
    assert found.figures["total_usd"].value is None
