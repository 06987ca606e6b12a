"""What deployments really gave an accelerator, through a store in which one moves to another accelerator."""

from __future__ import annotations

import pytest

from analytics import capacity
from core.readings import Assignment, DeploymentSample, Entity
from tests.analytics.weeks import HOUR_MS, MONDAY_MS
from tests.conftest import Store

LABELS = {"vendor": "NVIDIA", "model": "NVIDIA H100 80GB HBM3"}
SERVER = {"model": "meta-llama/Llama-2-70b-chat-hf", "url": "http://box:8000", "engine": "vLLM"}


def joined(at_ms: int, *keys: str) -> Assignment:
    return Assignment(
        deployment_key="d",
        target_family="accelerator",
        target_keys=keys,
        origin="processes",
        observed_at_ms=at_ms,
    )


def test_a_deployment_that_moved_counts_where_it_ran(store: Store):
    begin_ms, end_ms = MONDAY_MS, MONDAY_MS + 2 * HOUR_MS
    store.write(
        *(Entity(observed_at_ms=begin_ms, family="accelerator", key=key, host="box", labels=LABELS) for key in "ABC"),
        Entity(observed_at_ms=begin_ms, family="deployment", key="d", host="box", labels=SERVER),
        joined(begin_ms, "A"),
    )
    store.write(joined(begin_ms + HOUR_MS, "B", "C"))
    store.write(
        *(
            DeploymentSample(key="d", observed_at_ms=at_ms, generation_tokens_total=at_ms / 10, running_requests=4.0)
            for at_ms in range(begin_ms, end_ms + 1, 10_000)
        )
    )
    (found,) = capacity.measured(store.reader, begin_ms, end_ms)
    assert (found.model, found.accelerator) == ("Llama 2 70B", "H100 SXM")
    # 100 tokens/s on one device for an hour, and on two for another; steps in which it moved are left out
    assert found.tokens_per_second_per_accelerator == pytest.approx(100 * 2 / 3, rel=0.1)
