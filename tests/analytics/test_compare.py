"""Points of the comparison: each as fast and as dear as its servers and prices say, or with the reason."""

from __future__ import annotations

import math

import pytest

from analytics.compare import HOSTED, NO_LIST_PRICE, Point, needs_price, points
from analytics.costs import NO_PRICE, deployment_costs, unjoined
from core.readings import DeploymentSample, Entity, Latency, LatencySample, Outcome, ProbeSample, Reading
from core.settings import Settings
from tests.analytics.test_costs import END_MS, HOST, RENTED, STEP_MS, accelerator, deployment, runs_on, settings
from tests.conftest import START_MS, Store


def seen(store: Store, the_settings: Settings) -> list[Point]:
    costs = deployment_costs(store.reader, the_settings, START_MS, END_MS)
    return points(store.reader, the_settings, costs, START_MS, END_MS)


def compared(store: Store, the_settings: Settings, *readings: Reading) -> dict[str, Point]:
    store.write(*readings)
    return {point.model: point for point in seen(store, the_settings)}


def per_token(key: str, kind: Latency = Latency.TPOT) -> LatencySample:
    return LatencySample(
        key=key,
        kind=kind,
        observed_at_ms=START_MS + STEP_MS,
        upper_bounds_seconds=(0.02, 0.06, math.inf),
        increments=(0.0, 10.0, 0.0),
        sum_seconds=0.4,
    )


def served(model: str, **labels: str) -> list[Reading]:
    """As ``deployment``, under another name."""
    described = {"model": model, "url": f"http://{model}:8000", "engine": "vLLM"} | labels
    return [
        Entity(observed_at_ms=START_MS, family="deployment", key=model, host="box", labels=described),
        *deployment(model, 1000)[1:],
    ]


def probe(name: str, url: str, model: str, *tpot: float | None) -> list[Reading]:
    labels = {"url": url, "model": model}
    return [
        Entity(observed_at_ms=START_MS, family="probe", key=name, host="box", labels=labels),
        *(
            ProbeSample(
                key=name,
                observed_at_ms=START_MS + n * STEP_MS,
                outcome=Outcome.FAILED if one is None else Outcome.OK,
                tpot_seconds=one,
                prompt_tokens=None if one is None else 12,
                output_tokens=None if one is None else 16,
            )
            for n, one in enumerate(tpot)
        ),
    ]


def test_an_own_deployment_with_its_conditions(store: Store):
    found = compared(
        store,
        settings(RENTED),
        *accelerator("0"),
        *accelerator("1"),
        *served("m"),
        per_token("m"),
        runs_on("m", "0", "1"),
        DeploymentSample(key="m", observed_at_ms=START_MS + 500, running_requests=3.0, succeeded_requests_total=0.0),
        DeploymentSample(
            key="m", observed_at_ms=START_MS + 59 * STEP_MS + 500, running_requests=5.0, succeeded_requests_total=59.0
        ),
    )["m"]
    assert (found.hardware, found.devices) == ("NVIDIA H100 80GB HBM3", 2)
    assert found.speed.tokens_per_second == pytest.approx(25.0)  # the median lies half way from 20 to 60 ms
    assert (found.speed.basis, found.speed.observations) == ("1 / TPOT median", 10)
    assert found.usd_per_million_output_tokens == pytest.approx(4.0 / 59_000 * 1e6)
    assert found.joules_per_output_token == pytest.approx(2 * 500 * 59 * 60 / 59_000)
    assert found.running_requests == pytest.approx(4.0)
    assert found.output_tokens_per_request == pytest.approx(1000)
    assert found.prompt_tokens_per_request == pytest.approx(2000)


def test_gaps_do_where_there_is_no_time_per_token(store: Store):
    found = compared(store, settings(), *served("m"), per_token("m", Latency.ITL))["m"]
    assert found.speed.basis == "1 / ITL median"


def test_without_histograms_the_mean_is_called_a_mean(store: Store):
    decoding = [
        DeploymentSample(key="m", observed_at_ms=START_MS + n * STEP_MS, generation_tokens_total=100.0 * n)
        for n in range(3)
    ]
    timed = [
        DeploymentSample(
            key="n",
            observed_at_ms=START_MS + n * STEP_MS,
            generation_tokens_total=100.0 * n,
            decode_seconds_total=4.0 * n,
        )
        for n in range(3)
    ]
    found = compared(store, settings(), *served("m")[:1], *served("n")[:1], *decoding, *timed)
    assert found["m"].speed.tokens_per_second is None
    assert found["n"].speed.tokens_per_second == pytest.approx(25.0)
    assert "mean" in found["n"].speed.basis


def test_no_price_is_a_reason_and_no_zero(store: Store):
    found = compared(store, settings(), *accelerator("0"), *served("m"), per_token("m"), runs_on("m", "0"))["m"]
    assert found.usd_per_million_output_tokens is None
    assert found.reason == NO_PRICE
    assert needs_price(found)


def test_a_cpu_server_is_named_by_its_cpu(store: Store):
    labels = {"vendor": "AMD", "model": "EPYC 9654"}
    found = compared(
        store,
        settings(HOST),
        Entity(observed_at_ms=START_MS, family="host", key="box", host="box"),
        Entity(observed_at_ms=START_MS, family="cpu", key="box/socket 0", host="box", parent_key="box", labels=labels),
        *served("m"),
        per_token("m"),
        runs_on("m", "box", family="host"),
    )["m"]
    assert (found.hardware, found.devices) == ("CPU EPYC 9654", 1)


def test_a_hosted_endpoint_has_its_list_price_and_no_energy(store: Store):
    prices = {
        "usd_per_million_input_tokens": 0.5,
        "usd_per_million_output_tokens": 2.0,
        "monthly_cap_usd": 1.0,
    }
    priced = Settings(probe=({"name": "fast", "url": "https://api.test/v1", "model": "big", **prices},))  # type: ignore[arg-type]
    found = compared(
        store,
        priced,
        *probe("fast", "https://api.test/v1", "big", 0.01, 0.02, None, 0.04),
        *probe("other", "https://other.test/v1", "free", 0.1),
        *probe("dead", "https://dead.test/v1", "gone", None),
    )
    assert found["big"].hardware == HOSTED
    assert found["big"].speed.tokens_per_second == pytest.approx(50.0)
    assert found["big"].speed.observations == 3
    assert found["big"].usd_per_million_output_tokens == 2.0
    assert found["big"].joules_per_output_token is None
    assert (found["big"].prompt_tokens_per_request, found["big"].output_tokens_per_request) == (12, 16)
    assert found["free"].usd_per_million_output_tokens is None
    assert found["free"].reason == NO_LIST_PRICE
    assert found["gone"].speed.tokens_per_second is None


def test_a_probe_of_an_own_server_is_no_second_point(store: Store):
    mine = probe("mine", "http://m:8000/v1", "m", 0.01)
    near = probe("near", "http://m:80001/v1", "near", 0.01)  # another port that begins with the same digits
    found = compared(store, settings(), *served("m"), per_token("m"), *mine, *near)
    assert {model: point.kind for model, point in found.items()} == {"m": "own", "near": "hosted"}


def test_tokens_of_a_gateway_are_counted_where_they_are_made(store: Store):
    store.write(
        *accelerator("0"),
        *served("m"),
        *served("through", role="gateway"),
        runs_on("m", "0"),
        runs_on("through", "0"),
    )
    (cost,) = deployment_costs(store.reader, settings(RENTED), START_MS, END_MS)
    assert cost.model == "m"
    assert cost.hardware_usd == pytest.approx(2.0)  # no part of it falls to the gateway
    assert [point.model for point in seen(store, settings(RENTED))] == ["m"]
    assert unjoined(store.reader, START_MS, END_MS)[0].empty
