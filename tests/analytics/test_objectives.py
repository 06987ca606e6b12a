"""Promises against a real store: by histograms of several servers, and by probes one by one."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analytics.objectives import Probed, kept, objective_of, probed
from core.readings import DeploymentSample, Latency, LatencySample, Outcome, Reading
from core.settings import Objective
from storage import queries
from tests.conftest import START_MS, Store

BOUNDS = (0.1, 0.5, 1.0, math.inf)
END_MS = START_MS + 100_000


def counted(
    key: str, kind: Latency, *increments: float, bounds: tuple[float, ...] = BOUNDS, at_ms: int = START_MS + 10_000
) -> LatencySample:
    return LatencySample(
        key=key,
        kind=kind,
        observed_at_ms=at_ms,
        upper_bounds_seconds=bounds,
        increments=increments,
        sum_seconds=1.0,
    )


def ended(key: str, succeeded: float, failed: float | None) -> list[Reading]:
    return [
        DeploymentSample(
            key=key,
            observed_at_ms=START_MS + n * 10_000,
            succeeded_requests_total=n * succeeded,
            failed_requests_total=None if failed is None else n * failed,
        )
        for n in (0, 1)
    ]


def objective(**limits: float) -> Objective:
    return Objective(model="llama", **limits)  # type: ignore[arg-type]


def look(store: Store, of: Objective, *readings: Reading):
    store.write(*readings)
    ids = queries.entities(store.reader, "deployment")["entity_id"].tolist()
    return kept(store.reader, of, ids, START_MS, END_MS)


def test_servers_with_other_bounds_add_up_in_a_promise(store: Store):
    found = look(
        store,
        objective(ttft_seconds=0.5),
        *ended("a", 90, 10),
        counted("a", Latency.TTFT, 50, 30, 10, 0),
        counted("b", Latency.TTFT, 60, 20, 20, bounds=(0.25, 1.0, math.inf)),
    )
    (ttft,) = found.promises
    assert (ttft.observations, ttft.errored) == (190, 10)
    assert ttft.attained is not None
    assert ttft.attained.lower == pytest.approx((80 + 60) / 200)
    assert ttft.attained.upper == pytest.approx((80 + 80) / 200)
    assert ttft.attained.estimate == pytest.approx((80 + 60 + 20 / 3) / 200)
    assert found.attained == ttft.attained


def test_goodput_of_two_limits_is_known_within_limits(store: Store):
    found = look(
        store,
        objective(ttft_seconds=0.5, e2e_seconds=1.0),
        *ended("a", 100, None),
        counted("a", Latency.TTFT, 50, 40, 10, 0),
        counted("a", Latency.E2E, 0, 30, 50, 20),
    )
    assert found.attained is not None
    assert (found.attained.lower, found.attained.upper) == (pytest.approx(0.7), pytest.approx(0.8))
    assert found.good_requests_per_second is not None
    assert found.good_requests_per_second.lower == pytest.approx(0.70)  # 100 requests in 100 s
    assert found.good_requests_per_second.upper == pytest.approx(0.80)
    assert found.good_requests_per_second.estimate is None


def test_gaps_stand_in_for_time_per_token_and_say_nothing_of_requests(store: Store):
    found = look(
        store,
        objective(ttft_seconds=0.5, tpot_seconds=0.1),
        *ended("a", 90, 10),
        counted("a", Latency.TTFT, 90, 0, 0, 0),
        counted("a", Latency.ITL, 900, 100, 0, 0),
    )
    ttft, tpot = found.promises
    assert (tpot.kind, tpot.seen, tpot.errored) == (Latency.TPOT, Latency.ITL, 0)
    assert tpot.attained is not None
    assert tpot.attained.exact
    assert tpot.attained.lower == pytest.approx(0.9)
    assert ttft.burn is not None
    assert ttft.burn.lower == pytest.approx(10.0)  # 10 % missed of 1 %
    assert found.attained is not None
    assert (found.attained.lower, found.attained.upper) == (0.0, pytest.approx(0.9))


def test_time_per_token_of_requests_wins_over_gaps(store: Store):
    found = look(
        store,
        objective(tpot_seconds=0.1),
        counted("a", Latency.ITL, 900, 100, 0, 0),
        counted("a", Latency.TPOT, 80, 20, 0, 0),
    )
    (tpot,) = found.promises
    assert (tpot.seen, tpot.observations) == (Latency.TPOT, 100)


def test_nothing_seen_is_unknown(store: Store):
    found = look(store, objective(ttft_seconds=0.5), *ended("a", 0, 0))
    assert (found.promises[0].attained, found.promises[0].burn) == (None, None)
    assert (found.attained, found.good_requests_per_second) == (None, None)


def test_a_limit_without_its_histogram_leaves_the_rest_a_limit(store: Store):
    found = look(
        store,
        objective(ttft_seconds=0.5, e2e_seconds=1.0),
        *ended("a", 100, None),
        counted("a", Latency.TTFT, 50, 40, 10, 0),
    )
    assert found.attained is not None
    assert (found.attained.lower, found.attained.upper) == (0.0, pytest.approx(0.9))


def test_the_first_objective_whose_name_is_part_of_the_models():
    small, large = Objective(model="Llama-3", ttft_seconds=1), Objective(model="llama", ttft_seconds=2)
    assert objective_of("meta/LLAMA-3-8b", [small, large]) is small
    assert objective_of("llama-2", [small, large]) is large
    assert objective_of("qwen", [small, large]) is None


def request(outcome: Outcome = Outcome.OK, ttft: float | None = 0.2, tpot: float | None = 0.05, tokens: float = 16):
    return {
        "outcome": outcome.value,
        "ttft_seconds": math.nan if ttft is None else ttft,
        "tpot_seconds": math.nan if tpot is None else tpot,
        "e2e_seconds": 1.0,
        "output_tokens": tokens,
    }


def test_probes_are_judged_one_by_one():
    rows = [
        request(),
        request(ttft=0.9),
        request(Outcome.FAILED, ttft=None, tpot=None),
        request(Outcome.REFUSED, ttft=None, tpot=None),
        request(tpot=None, tokens=1),  # an answer of one token has no time between tokens
        request(tpot=None, tokens=9),
        request(ttft=0.9, tpot=None, tokens=9),
    ]
    assert probed(pd.DataFrame(rows), {"ttft": 0.5, "tpot": 0.1}) == Probed(judged=5, kept=2, undetermined=1)
