"""What deployments really gave an accelerator, through a store in which they move, share and rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from analytics import capacity
from core.readings import Assignment, DeploymentSample, Entity
from tests.analytics.weeks import HOUR_MS, MONDAY_MS
from tests.conftest import Store

DAY_MS = 24 * HOUR_MS
LABELS = {"vendor": "NVIDIA", "model": "NVIDIA H100 80GB HBM3"}
LLAMA = "meta-llama/Llama-2-70b-chat-hf"
DEEPSEEK = "deepseek-ai/DeepSeek-R1"


def joined(at_ms: int, *keys: str, deployment: str = "d") -> Assignment:
    return Assignment(
        deployment_key=deployment,
        target_family="accelerator",
        target_keys=keys,
        origin="processes",
        observed_at_ms=at_ms,
    )


def things(at_ms: int, **models: str) -> Iterator[Entity]:
    """Three accelerators, and deployments of these models."""
    for key in "ABC":
        yield Entity(observed_at_ms=at_ms, family="accelerator", key=key, host="box", labels=LABELS)
    for key, model in models.items():
        labels = {"model": model, "url": f"http://{key}:8000", "engine": "vLLM"}
        yield Entity(observed_at_ms=at_ms, family="deployment", key=key, host="box", labels=labels)


def served(begin_ms: int, hours: int, tokens_per_second: float, deployment: str = "d") -> Iterator[DeploymentSample]:
    """A minute apart, with four requests at once."""
    for at_ms in range(begin_ms, begin_ms + hours * HOUR_MS + 1, 60_000):
        tokens = (at_ms - begin_ms) / 1000 * tokens_per_second
        yield DeploymentSample(
            key=deployment, observed_at_ms=at_ms, generation_tokens_total=tokens, running_requests=4.0
        )


def test_a_deployment_that_moved_counts_where_it_ran(store: Store):
    begin_ms, end_ms = MONDAY_MS, MONDAY_MS + 2 * HOUR_MS
    store.write(*things(begin_ms, d=LLAMA), joined(begin_ms, "A"))
    store.write(joined(begin_ms + HOUR_MS, "B", "C"))
    store.write(*served(begin_ms, 2, 100.0))
    (found,) = capacity.measured(store.reader, begin_ms, end_ms)
    assert (found.model, found.accelerator) == ("Llama 2 70B", "H100 SXM")
    # 100 tokens/s on one device for an hour, and on two for another; steps in which it moved are left out
    assert found.tokens_per_second_per_accelerator == pytest.approx(100 * 2 / 3, rel=0.1)


def test_of_a_long_window_the_newest_days_at_work_count(store: Store):
    """Each day it serves an hour, faster from day to day but for two on which it rests."""
    rates = {day: 100.0 + day for day in range(12) if day not in (7, 8)}
    store.write(*things(MONDAY_MS, d=LLAMA), joined(MONDAY_MS, "A"))
    store.write(*(sample for day, rate in rates.items() for sample in served(MONDAY_MS + day * DAY_MS, 1, rate)))
    end_ms = MONDAY_MS + 12 * DAY_MS
    (found,) = capacity.measured(store.reader, MONDAY_MS, end_ms)
    newest = list(rates.values())[-capacity.DAYS :]
    assert found.tokens_per_second_per_accelerator == pytest.approx(sum(newest) / len(newest), rel=1e-3)
    assert str(found.basis).endswith("4 requests at once in a copy, on the newest 7 days at work")
    (short,) = capacity.measured(store.reader, end_ms - 7 * DAY_MS, end_ms)
    assert short.tokens_per_second_per_accelerator == pytest.approx((105 + 106 + 109 + 110 + 111) / 5, rel=1e-3)
    assert "days" not in str(short.basis)


def test_one_of_which_enough_is_known_still_shared_an_accelerator_then(store: Store):
    """``d`` served long ago, the second hour beside ``e``, which has served on each day since."""
    later_ms = MONDAY_MS + 14 * DAY_MS
    store.write(*things(MONDAY_MS, d=LLAMA, e=DEEPSEEK), joined(MONDAY_MS, "A"), joined(MONDAY_MS, "A", deployment="e"))
    store.write(joined(MONDAY_MS + 2 * HOUR_MS), joined(MONDAY_MS + 2 * HOUR_MS, "B", deployment="e"))
    store.write(*served(MONDAY_MS, 1, 100.0), *served(MONDAY_MS + HOUR_MS, 1, 500.0))
    store.write(*served(MONDAY_MS + HOUR_MS, 1, 50.0, "e"))
    store.write(*(sample for day in range(7) for sample in served(later_ms + day * DAY_MS, 1, 20.0, "e")))
    found = capacity.measured(store.reader, MONDAY_MS, later_ms + 7 * DAY_MS)
    assert {one.model: one.tokens_per_second_per_accelerator for one in found} == {
        "DeepSeek-R1": pytest.approx(20.0),
        "Llama 2 70B": pytest.approx(100.0),
    }


@pytest.mark.parametrize("hours", [0, 1])
def test_without_a_deployment_nothing_is_measured(store: Store, hours: int):
    store.write(*things(MONDAY_MS, d=LLAMA))
    assert capacity.measured(store.reader, MONDAY_MS, MONDAY_MS + hours * HOUR_MS) == []
