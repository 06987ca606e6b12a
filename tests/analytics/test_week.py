"""The figures of a week: a fleet of known truth, weeks that are not over, and what is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.formulas.local_time import iso_week
from analytics.week import Week, is_clear, read_week, usual_change
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
from tests.conftest import Store

HOUR_MS = 3_600_000
STEP_MS = 600_000
ZONE = "America/Santiago"
OWNED = {"kind": "owned", "applies_to": "accelerator", "capex": 35_040.0, "life_years": 4}  # 1 USD/h
BOOK: dict[str, Any] = {"hardware": [OWNED]}
SITE: dict[str, Any] = {"time_zone": ZONE, "usd_per_kwh": 0.1, "pue_ratio": 1.2, "grid_gco2e_per_kwh": 250.0}


def settings(cost: dict[str, Any] | None = None, **more: Any) -> Settings:
    return Settings(cost=BOOK if cost is None else cost, site=SITE, **more)  # type: ignore[arg-type]


MONDAY_MS = iso_week(2026, 40, ZoneInfo(ZONE)).start_ms


def fleet(hours: int, begin: int = 0) -> Iterator[Reading]:
    """One card that serves 10 tokens/s at 500 W for half of each day, parked at 100 W else; one free at 50 W."""
    start_ms, joules, tokens = MONDAY_MS + begin * HOUR_MS, 0.0, 0.0
    labels = {"vendor": "AMD", "model": "MI300X"}
    for key in ("A", "B"):
        yield Entity(observed_at_ms=start_ms, family="accelerator", key=key, host="box", labels=labels)
    server = {"model": "llama", "url": "http://box:8000", "engine": "vLLM"}
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
        joules += (500 if works else 100) * 600.0
        tokens += 6_000.0 if works else 0.0
        yield AcceleratorSample(key="A", observed_at_ms=at_ms, energy_joules_total=joules, processes=1)
        yield AcceleratorSample(
            key="B", observed_at_ms=at_ms, energy_joules_total=(at_ms - start_ms) / 1000 * 50.0, processes=0
        )
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


def week(store: Store, the_settings: Settings, *readings: Reading, hours: int = 168, until: int | None = None) -> Week:
    store.write(*readings)
    end_ms = MONDAY_MS + hours * HOUR_MS
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.account(end_ms + HOUR_MS // 2)
    until_ms = end_ms if until is None else MONDAY_MS + until * HOUR_MS
    return read_week(store.reader, the_settings, 2026, 40, until_ms)[0]


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
    assert found.idle is not None
    assert found.idle.hardware_usd == pytest.approx(168)
    assert found.ttft_p95_seconds == pytest.approx(0.3)
    assert found.tpot_p95_seconds is None
    assert found.usd_per_million_output_tokens == pytest.approx((336 + 0.1 * (found.kwh or 0)) / 3.024, rel=0.01)
    assert found.operational_grams == pytest.approx(250 * (found.kwh or 0))
    assert found.grid_source == "settings: site.grid_gco2e_per_kwh"
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
    assert (found.output_tokens, found.requests, found.used_gpu_hours, found.idle) == (None, None, None, None)
    assert found.usd_per_million_output_tokens is None
    assert found.available_gpu_hours == 0


def test_a_week_that_a_year_lacks_is_refused(store: Store):
    with pytest.raises(ValueError, match="week"):
        read_week(store.reader, settings(), 2025, 53, 0)


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
