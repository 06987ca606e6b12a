"""The figures of a week: a fleet of known truth, weeks that are not over, and what is unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.commitments import days
from analytics.formulas.local_time import Span
from analytics.weekly.against import is_clear, usual_change
from analytics.weekly.history import daily
from analytics.weekly.latency import p95
from analytics.weekly.week import Week, hourly, hours_so_far, totals, week_of, week_span
from core.readings import AcceleratorSample, Entity, Latency, LatencySample, Reading
from core.settings import Settings
from storage import queries
from tests.analytics.weeks import HOUR_MS, MONDAY_MS, OWNED, SITE, account, fleet, settings
from tests.conftest import Store
from tests.quantiles import quantiles


def span_and_hours(the_settings: Settings, hours: int) -> tuple[Span, Span]:
    whole = week_span(2026, 40, the_settings)
    return whole, hours_so_far(whole, MONDAY_MS + hours * HOUR_MS)


def week(store: Store, the_settings: Settings, *readings: Reading, hours: int = 168, until: int | None = None) -> Week:
    account(store, MONDAY_MS + hours * HOUR_MS, *readings)
    whole, so_far = span_and_hours(the_settings, hours if until is None else until)
    accounted = queries.accounted_until(store.reader)
    return week_of(store.reader, the_settings, whole, hourly(store.reader, the_settings, so_far, accounted))


def test_a_week_of_known_truth(store: Store):
    objective = {"model": "llama", "ttft_seconds": 0.5, "target_ratio": 0.9}
    found = week(store, settings(serving={"objective": [objective]}), *fleet(170))
    assert (found.name, found.hours, found.is_whole) == ("2026-W40", 168, True)
    assert found.bill.hardware_usd == pytest.approx(2 * 168)
    active_kwh, idle_kwh = 0.5 * 84 * 1.2, (0.1 * 84 + 0.05 * 168) * 1.2
    assert found.kwh == pytest.approx(active_kwh + idle_kwh, rel=0.01)
    assert found.bill.active_kwh == pytest.approx(active_kwh, rel=0.03)  # five minutes of lull are still work
    assert found.output_tokens == pytest.approx(84 * 36_000, rel=0.01)
    assert found.requests == pytest.approx(84 * 360, rel=0.01)
    assert (found.available_gpu_hours, found.allocated_gpu_hours) == (pytest.approx(336), pytest.approx(168))
    assert found.used_gpu_hours == pytest.approx(84, rel=0.03)
    assert found.ttft is not None
    assert found.ttft == pytest.approx((0.3, 6720.0, 0.0, 0.1, 6048.0, 0.5, 6720.0))
    assert found.tpot is None
    assert found.usd_per_million_output_tokens == pytest.approx((336 + 0.1 * (found.kwh or 0)) / 3.024, rel=0.01)
    assert found.operational_grams == pytest.approx(250 * (found.kwh or 0))
    assert list(map(str, found.grid_sources)) == ["settings: site.grid_gco2e_per_kwh"]
    (attainment,) = found.attainments
    assert (attainment.model, attainment.target_ratio) == ("llama", 0.9)
    assert attainment.attained is not None
    assert attainment.attained.lower == pytest.approx(1.0)
    assert not found.is_lower_bound


def test_the_current_week_has_the_hours_so_far(store: Store):
    found = week(store, settings(), *fleet(50), hours=50, until=48)
    assert (found.hours, found.is_whole) == (48, False)
    assert found.bill.hardware_usd == pytest.approx(2 * 48)


def test_half_a_week_unseen_makes_lower_bounds_and_no_figure_per_token(store: Store):
    found = week(store, settings(), *fleet(40), *fleet(1, begin=167))
    assert found.bill.hardware_usd == pytest.approx(336)  # hardware costs though nobody looks
    assert found.is_lower_bound
    assert not found.is_observed
    assert found.usd_per_million_output_tokens is None
    assert found.kwh_per_million_output_tokens is None


def test_without_prices_energy_stands_and_money_is_unknown(store: Store):
    found = week(store, settings({}), *fleet(170))
    assert found.bill.total_usd is None
    assert found.usd_per_million_output_tokens is None
    assert found.bill.missing
    assert found.kwh is not None


def test_a_week_without_data_says_nothing(store: Store):
    found = week(store, settings())
    assert (found.output_tokens, found.requests, found.used_gpu_hours) == (None, None, None)
    assert found.usd_per_million_output_tokens is None
    assert found.available_gpu_hours == 0


def test_a_week_that_a_year_lacks_is_refused():
    with pytest.raises(ValueError, match="week"):
        week_span(2025, 53, settings())


DEAR_EVENINGS = [
    {"begins": "18:30", "ends": "22:00", "per_kwh": 0.3},
    {"begins": "22:00", "ends": "18:30", "per_kwh": 0.1},
]
TWO_PRICES = [{**OWNED, "valid_to": "2026-09-30"}, {**OWNED, "capex": 70_080.0, "valid_from": "2026-09-30"}]


def test_totals_of_many_hours_at_once_are_those_of_each(store: Store):
    site = {**SITE, "usd_per_kwh": None, "tariff": [{"band": DEAR_EVENINGS}]}
    book = settings({"hardware": TWO_PRICES, "overhead": [{"name": "people", "per_month": 1000.0}]}, site)
    unseen = range(MONDAY_MS + 100 * HOUR_MS, MONDAY_MS + 102 * HOUR_MS)
    seen = (
        one for one in fleet(60, begin=80) if not isinstance(one, AcceleratorSample) or one.observed_at_ms not in unseen
    )
    account(store, MONDAY_MS + 150 * HOUR_MS, *fleet(40, begin=3), *seen)
    whole, hours = span_and_hours(book, 168)
    accounted = queries.accounted_until(store.reader)
    cuts_ms = [day.start_ms for day in days(hours, book)]
    every = hourly(store.reader, book, hours, accounted)
    few = totals(store.reader, book, hours, accounted, cuts_ms)
    assert len(few.rows) < len(every.rows)
    one, other = (week_of(store.reader, book, whole, of) for of in (every, few))
    for name in ("hardware_usd", "overhead_usd", "total_usd", "active_kwh", "idle_kwh", "covered_ratio"):
        assert getattr(other.bill, name) == pytest.approx(getattr(one.bill, name)), name
    for name in ("available_gpu_hours", "allocated_gpu_hours", "used_gpu_hours", "output_tokens", "operational_grams"):
        assert getattr(other, name) == pytest.approx(getattr(one, name)), name
    assert [day.bill and day.bill.total_usd for day in daily(few, book)] == [
        pytest.approx(day.bill.total_usd) if day.bill else None for day in daily(every, book)
    ]


@pytest.mark.parametrize(
    ("before", "after", "wobble", "clear"),
    [
        (100.0, 104.9, None, False),
        (100.0, 105.1, None, True),
        (100.0, 94.0, 7.0, False),
        (100.0, 92.0, 7.0, True),
        (0.0, 1.0, None, True),
        (None, 1.0, None, False),
        (1.0, None, None, False),
    ],
)
def test_a_change_is_clear_beyond_five_percent_and_the_usual_wobble(
    before: float | None, after: float | None, wobble: float | None, clear: bool
):
    assert is_clear(before, after, wobble) is clear


def test_the_usual_change_is_a_median_of_what_is_known():
    assert usual_change([1.0, 3.0, 2.0, None, 5.0, 9.0]) == 2.0
    assert usual_change([1.0, 2.0, 3.0]) is None


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=9))
def test_the_usual_change_is_never_negative(figures: list[float | None]):
    wobble = usual_change(figures)
    assert wobble is None or wobble >= 0


def observed(key: str, bounds: tuple[float, ...], increments: tuple[float, ...]) -> list[Reading]:
    at_ms = MONDAY_MS + HOUR_MS
    server = Entity(observed_at_ms=at_ms, family="deployment", key=key, host="box", labels={"model": key})
    return [
        server,
        LatencySample(
            key=key,
            kind=Latency.TTFT,
            observed_at_ms=at_ms,
            upper_bounds_seconds=(*bounds, float("inf")),
            increments=increments,
            sum_seconds=1.0,
        ),
    ]


@pytest.mark.parametrize(
    ("increments", "expected"),
    [
        ((100.0, 100.0, 0.0), (0.46, 200.0, 7.0, 0.1, 100.0, 0.5, 200.0)),
        ((200.0, 0.0, 0.0), (0.095, 200.0, 7.0, 0.0, 0.0, 0.1, 200.0)),
        ((10.0, 20.0, 170.0), (0.5, 200.0, 7.0, 0.5, 30.0, None, 200.0)),  # at least the highest bound
        ((50.0, 0.0, 0.0), None),
    ],
)
def test_a_p95_stands_with_the_bounds_and_counts_around_it(
    store: Store, increments: tuple[float, ...], expected: tuple[float | None, ...] | None
):
    store.write(*observed("a", (0.1, 0.5), increments), *observed("b", (0.2,), (7.0, 0.0)))
    ids = [int(i) for i in queries.entities(store.reader, "deployment")["entity_id"]]
    window = (MONDAY_MS, MONDAY_MS + 2 * HOUR_MS)
    found = p95(store.reader, ids, Latency.TTFT, *window)
    assert found == (expected if expected is None else pytest.approx(expected))
    if found is not None:
        assert found.seconds == quantiles(store.reader, ids, "ttft", *window)["p95_seconds"].iloc[0]
