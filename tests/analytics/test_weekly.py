"""The weekly summary: a fleet of known truth against the week before, and what is said where something is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from analytics.formulas.energy import Quality
from analytics.formulas.local_time import iso_week
from analytics.wastes.waste import Kind
from analytics.weekly import Reason, WeeklySummary, weekly_summary
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    Entity,
    Latency,
    LatencySample,
    Reading,
)
from core.settings import Settings, StorageSettings
from storage.upkeep import Upkeep
from tests.analytics.test_week import BOOK, HOUR_MS, OWNED, SITE, ZONE
from tests.conftest import Store

STEP_MS = HOUR_MS // 4
MONDAY_MS = iso_week(2026, 40, ZoneInfo(ZONE)).start_ms
PROMISED = {"objective": [{"model": "llama", "ttft_seconds": 0.5, "target_ratio": 0.9}]}
WEEK = 168


def fleet(hours: int, begin: int = 0, *, tokens_per_second: float = 10.0, model: str = "llama") -> Iterator[Reading]:
    """One card that serves at 500 W for half of each day and is parked at 100 W else; one that is free at 50 W."""
    start_ms, joules, tokens = MONDAY_MS + begin * HOUR_MS, 0.0, 0.0
    labels = {"vendor": "AMD", "model": "MI300X"}
    for key in ("A", "B"):
        yield Entity(
            observed_at_ms=start_ms, family="accelerator", key=key, host="box", labels={**labels, "index": key}
        )
    server = {"model": model, "url": "http://box:8000", "engine": "vLLM"}
    yield Entity(observed_at_ms=start_ms, family="deployment", key="d", host="box", labels=server)
    yield Assignment(
        deployment_key="d",
        target_family="accelerator",
        target_keys=("A",),
        origin="processes",
        observed_at_ms=start_ms,
    )
    for at_ms in range(start_ms, start_ms + hours * HOUR_MS + 1, STEP_MS):
        works = (at_ms - MONDAY_MS - 1) // HOUR_MS % 24 < 12  # of the step that ends here
        joules += (500 if works else 100) * STEP_MS / 1000
        tokens += tokens_per_second * STEP_MS / 1000 if works else 0.0
        free_joules = (at_ms - start_ms) / 1000 * 50.0
        yield AcceleratorSample(key="A", observed_at_ms=at_ms, energy_joules_total=joules, processes=1)
        yield AcceleratorSample(key="B", observed_at_ms=at_ms, energy_joules_total=free_joules, processes=0)
        yield DeploymentSample(
            key="d",
            observed_at_ms=at_ms,
            generation_tokens_total=tokens,
            prompt_tokens_total=2 * tokens,
            succeeded_requests_total=tokens / 100,
            failed_requests_total=0.0,
            running_requests=float(works),
            waiting_requests=0.0,
        )
        yield LatencySample(
            key="d",
            kind=Latency.TTFT,
            observed_at_ms=at_ms,
            upper_bounds_seconds=(0.1, 0.5, float("inf")),
            increments=(9.0, 1.0, 0.0),
            sum_seconds=1.0,
        )


def settings(cost: dict[str, Any] | None = None, site: dict[str, Any] | None = None, **more: Any) -> Settings:
    return Settings(cost=BOOK if cost is None else cost, site=site or SITE, **more)  # type: ignore[arg-type]


def account(store: Store, until_ms: int, *readings: Reading) -> None:
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.account(until_ms + HOUR_MS // 2)


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


ENDED = {
    "name": "hall",
    "unit": "gpu_hours",
    "amount": 1000.0,
    "price": 1000.0,
    "hosts": ["box"],
    "begins": "2026-09-01",
    "ends": "2026-10-01",
}
MEGAWATTS = {**BOOK, "contract": [{**ENDED, "unit": "megawatts", "amount": 0.001}]}
IN_PESOS = {"hardware": [{**OWNED, "currency": "CLP"}]}


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
