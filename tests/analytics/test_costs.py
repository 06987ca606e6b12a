from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time

import pytest

from analytics import allocation
from analytics.costs import (
    NO_ENERGY,
    NO_PRICE,
    NO_TARIFF,
    NO_TOKENS,
    NOT_JOINED,
    SPARSE,
    DeploymentCost,
    deployment_costs,
    unjoined,
)
from analytics.efficiency import EnergySamples, WindowEnergy, window_energy
from analytics.formulas.energy import Quality
from core.readings import AcceleratorSample, Assignment, CpuSample, DeploymentSample, Entity, Reading
from core.settings import Settings
from tests.conftest import START_MS, Store

HOUR_MS = 3_600_000
STEP_MS = 60_000
END_MS = START_MS + HOUR_MS
WATTS = 500.0

RENTED = {"kind": "rented", "applies_to": "accelerator", "match": "H100", "per_hour": 2.0}
OWNED = {"kind": "owned", "applies_to": "accelerator", "capex": 35_040.0, "life_years": 4}  # 1 USD/h
HOST = {"kind": "rented", "applies_to": "host", "per_hour": 0.8}


def settings(*hardware: dict[str, object], **site: object) -> Settings:
    return Settings(cost={"hardware": hardware}, site=site)  # type: ignore[arg-type]


def accelerator(key: str, *, minutes: int = 61, watts: float | None = WATTS) -> list[Reading]:
    labels = {"vendor": "NVIDIA", "model": "NVIDIA H100 80GB HBM3", "index": key}
    samples = [
        AcceleratorSample(
            key=key,
            observed_at_ms=START_MS + n * STEP_MS,
            power_watts=watts,
            energy_joules_total=None if watts is None else 1e6 + watts * 60 * n,
        )
        for n in range(minutes)
    ]
    return [Entity(observed_at_ms=START_MS, family="accelerator", key=key, host="box", labels=labels), *samples]


def deployment(key: str, tokens_per_minute: float, *, minutes: int = 61) -> list[Reading]:
    labels = {"model": "llama", "url": "http://127.0.0.1:8000", "engine": "vLLM"}
    samples = [
        DeploymentSample(
            key=key,
            observed_at_ms=START_MS + n * STEP_MS,
            generation_tokens_total=tokens_per_minute * n,
            prompt_tokens_total=2 * tokens_per_minute * n,
            cached_prompt_tokens_total=0.0,
        )
        for n in range(minutes)
    ]
    return [Entity(observed_at_ms=START_MS, family="deployment", key=key, host="box", labels=labels), *samples]


def runs_on(key: str, *targets: str, family: str = "accelerator", at_ms: int = START_MS) -> Assignment:
    return Assignment(
        deployment_key=key,
        target_family=family,  # type: ignore[arg-type]
        target_keys=targets,
        origin="processes",
        observed_at_ms=at_ms,
    )


def costs(store: Store, the_settings: Settings, *readings: Reading) -> dict[str, DeploymentCost]:
    store.write(*readings)
    return {cost.key: cost for cost in deployment_costs(store.reader, the_settings, START_MS, END_MS)}


def test_a_rented_card_costs_its_hours_and_no_electricity_on_top(store: Store):
    found = costs(
        store, settings(RENTED, usd_per_kwh=0.12), *accelerator("0"), *deployment("m", 1000), runs_on("m", "0")
    )["m"]
    assert found.hardware_usd == pytest.approx(2.0)
    assert found.electricity_usd == 0.0
    assert found.output_tokens == 59_000  # the window is half-open: the 61st sample is the next hour's
    assert found.usd_per_million_output_tokens == pytest.approx(2.0 / 59_000 * 1e6)
    assert found.usd_per_million_tokens_blended == pytest.approx(2.0 / 177_000 * 1e6)
    assert found.origin == "processes"
    assert found.targets == ("NVIDIA H100 80GB HBM3 0 on box",)
    assert found.label is Quality.DERIVED
    assert found.reason == ""


def test_owned_hardware_pays_its_electricity_with_pue(store: Store):
    site = settings(OWNED, usd_per_kwh=0.12, pue_ratio=1.3)
    found = costs(store, site, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))["m"]
    joules = WATTS * 59 * 60
    assert found.hardware_usd == pytest.approx(1.0)
    assert found.energy_joules == pytest.approx(joules)
    assert found.electricity_usd == pytest.approx(joules / 3.6e6 * 1.3 * 0.12)
    assert found.total_usd == pytest.approx(found.hardware_usd + found.electricity_usd)  # type: ignore[operator]
    assert found.joules_per_output_token == pytest.approx(joules / 59_000)
    assert found.scope == "accelerator"
    assert found.energy_label == "gpu_counter"


def test_without_any_price_energy_still_stands(store: Store):
    found = costs(store, settings(), *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))["m"]
    assert (found.hardware_usd, found.total_usd, found.usd_per_million_output_tokens) == (None, None, None)
    assert found.reason == NO_PRICE
    assert found.label is Quality.MISSING
    assert found.joules_per_output_token == pytest.approx(WATTS * 59 * 60 / 59_000)


@pytest.mark.parametrize(
    ("watts", "tariff", "reason"), [(WATTS, None, NO_TARIFF), (None, 0.12, NO_ENERGY), (None, None, NO_ENERGY)]
)
def test_an_unknown_part_leaves_the_total_unknown(store: Store, watts: float | None, tariff: float | None, reason: str):
    site = settings(OWNED, usd_per_kwh=tariff)
    found = costs(store, site, *accelerator("0", watts=watts), *deployment("m", 1000), runs_on("m", "0"))["m"]
    assert found.hardware_usd == pytest.approx(1.0)
    assert (found.electricity_usd, found.total_usd) == (None, None)
    assert found.reason == reason


def test_no_tokens_is_said_and_the_cost_stays(store: Store):
    found = costs(store, settings(RENTED), *accelerator("0"), *deployment("m", 0), runs_on("m", "0"))["m"]
    assert found.total_usd == pytest.approx(2.0)
    assert found.usd_per_million_output_tokens is None
    assert found.reason == NO_TOKENS


def test_two_deployments_on_one_card_share_by_weighted_tokens(store: Store):
    found = costs(
        store,
        settings(RENTED),
        *accelerator("0"),
        *deployment("a", 3000),
        *deployment("b", 1000),
        runs_on("a", "0"),
        runs_on("b", "0"),
    )
    assert found["a"].total_usd == pytest.approx(1.5)
    assert found["b"].total_usd == pytest.approx(0.5)
    assert found["a"].energy_joules == pytest.approx(3 * found["b"].energy_joules)  # type: ignore[operator]


def test_one_after_the_other_each_pays_its_own_time(store: Store):
    half = START_MS + HOUR_MS // 2
    found = costs(
        store,
        settings(RENTED),
        *accelerator("0"),
        *deployment("a", 3000),
        *deployment("b", 1000),
        runs_on("a", "0"),
        runs_on("a", at_ms=half),
        runs_on("b", "0", at_ms=half),
    )
    assert found["a"].total_usd == pytest.approx(1.0)
    assert found["b"].total_usd == pytest.approx(1.0)


def test_the_hosts_price_is_split_over_its_cards(store: Store):
    found = costs(
        store,
        settings(RENTED, HOST),
        *accelerator("0"),
        *accelerator("1"),
        *deployment("m", 1000),
        runs_on("m", "0"),
    )["m"]
    assert found.hardware_usd == pytest.approx(2.0 + 0.8 / 2)


def test_a_server_without_accelerator_pays_for_the_host_and_its_cpu_packages(store: Store):
    sockets = [
        CpuSample(key=f"box/socket {s}", observed_at_ms=START_MS + n * STEP_MS, energy_joules_total=100.0 * 60 * n)
        for s in range(2)
        for n in range(61)
    ]
    owned_host = {"kind": "owned", "applies_to": "host", "capex": 35_040.0}
    host = Entity(observed_at_ms=START_MS, family="host", key="box", host="box")
    found = costs(
        store,
        settings(owned_host, usd_per_kwh=0.1),
        host,
        *sockets,
        *deployment("m", 1000),
        runs_on("m", "box", family="host"),
    )["m"]
    assert found.energy_joules == pytest.approx(2 * 100 * 59 * 60)
    assert found.total_usd == pytest.approx(1.0 + found.energy_joules / 3.6e6 * 0.1)  # type: ignore[operator]
    assert found.scope == "CPU packages"


def test_a_deployment_that_nobody_joined_is_listed_with_what_to_do(store: Store):
    found = costs(store, settings(RENTED), *accelerator("0"), *deployment("m", 1000))["m"]
    assert (found.origin, found.total_usd, found.reason) == ("unjoined", None, NOT_JOINED)
    deployments, accelerators = unjoined(store.reader, START_MS, END_MS)
    assert deployments["key"].tolist() == ["m"]
    assert accelerators["key"].tolist() == ["0"]


def test_observed_for_less_than_half_the_time_gives_no_figure_per_token(store: Store):
    readings = [r for r in deployment("m", 1000) if isinstance(r, Entity) or r.observed_at_ms < START_MS + 20 * STEP_MS]  # type: ignore[union-attr]
    found = costs(store, settings(RENTED), *accelerator("0"), *readings, runs_on("m", "0"))["m"]
    assert found.usd_per_million_output_tokens is None
    assert found.reason == SPARSE
    assert found.coverage_ratio < 0.5


def test_the_terms_tell_every_input(store: Store):
    site = settings(OWNED, usd_per_kwh=0.12)
    found = costs(store, site, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))["m"]
    text = "\n".join(f"{term.name}: {term.value} ({term.source})" for term in found.terms)
    assert "1 USD/h (settings: cost.hardware.0 (owned))" in text
    assert "0.12 USD/kWh" in text
    assert "PUE: not given: cooling left out" in text


def test_a_server_on_cpus_beside_one_on_a_card_pays_its_part_of_the_host_and_no_joule_twice(store: Store):
    socket = [
        CpuSample(key="box/socket 0", observed_at_ms=START_MS + n * STEP_MS, energy_joules_total=100.0 * 60 * n)
        for n in range(61)
    ]
    described = [
        Entity(observed_at_ms=START_MS, family="host", key="box", host="box"),
        Entity(observed_at_ms=START_MS, family="cpu", key="box/socket 0", host="box"),
    ]
    found = costs(
        store,
        settings(RENTED, HOST),
        *described,
        *socket,
        *accelerator("0"),
        *deployment("on card", 1000),
        *deployment("on cpus", 1000),
        runs_on("on card", "0"),
        runs_on("on cpus", "box", family="host"),
    )
    packages = 100.0 * 59 * 60
    assert found["on cpus"].hardware_usd == pytest.approx(0.4)
    assert found["on card"].hardware_usd == pytest.approx(2.0 + 0.4)
    assert found["on cpus"].energy_joules == pytest.approx(packages / 2)
    assert found["on card"].energy_joules == pytest.approx(WATTS * 59 * 60 + packages / 2)


def test_packages_are_worked_out_once_for_all_cards_of_a_host_over_each_piece(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, int, int]] = []

    def counting(samples: EnergySamples, family: str, start_ms: int, end_ms: int) -> WindowEnergy:
        asked.append((family, start_ms, end_ms))
        return window_energy(samples, family, start_ms, end_ms)

    monkeypatch.setattr(allocation, "window_energy", counting)
    socket = [
        CpuSample(key="box/socket 0", observed_at_ms=START_MS + n * STEP_MS, energy_joules_total=100.0 * 60 * n)
        for n in range(61)
    ]
    half = START_MS + HOUR_MS // 2
    found = costs(
        store,
        settings(RENTED),
        Entity(observed_at_ms=START_MS, family="cpu", key="box/socket 0", host="box"),
        *socket,
        *(reading for key in "0123" for reading in accelerator(key)),
        *deployment("all day", 1000),
        *deployment("late", 1000),
        runs_on("all day", "0", "1", "2"),
        runs_on("late", "3", at_ms=half),
    )
    assert sorted(one for one in asked if one[0] == "cpu") == [("cpu", START_MS, END_MS), ("cpu", half, END_MS)]
    packages = 100.0 / WATTS / 4  # of what a card takes
    assert found["all day"].energy_joules == pytest.approx(3 * WATTS * 59 * 60 * (1 + packages))
    assert found["late"].energy_joules == pytest.approx(WATTS * 30 * 60 * (1 + packages))


def test_a_card_that_is_gone_takes_no_part_of_its_host(store: Store):
    day_ms = 24 * HOUR_MS
    gone = AcceleratorSample(key="1", observed_at_ms=START_MS - 90 * day_ms, power_watts=1.0)
    found = costs(store, settings(RENTED, HOST), gone, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))
    assert found["m"].hardware_usd == pytest.approx(2.0 + 0.8)
    assert unjoined(store.reader, START_MS, END_MS)[1].empty


def test_a_deployment_retired_long_ago_is_not_a_cost_of_today(store: Store):
    old = DeploymentSample(key="old", observed_at_ms=START_MS - 24 * HOUR_MS, generation_tokens_total=1.0)
    found = costs(store, settings(RENTED), old, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))
    assert set(found) == {"m"}


def test_energy_with_a_gap_that_was_filled_is_called_estimated(store: Store):
    holes = [r for r in accelerator("0") if isinstance(r, Entity) or r.observed_at_ms <= START_MS + 40 * STEP_MS]  # type: ignore[union-attr]
    found = costs(store, settings(RENTED), *holes, *deployment("m", 1000), runs_on("m", "0"))["m"]
    assert 0.5 < found.coverage_ratio < 0.95
    assert found.energy_quality is Quality.ESTIMATED
    assert found.energy_joules == pytest.approx(WATTS * 3600, rel=0.02)


def test_one_deployment_over_several_hosts_adds_up(store: Store):
    """Each host's price falls to the cards on it, and all of both hosts to the one that runs on both."""
    far = [
        replace(one, host="far") if isinstance(one, Entity) else one for key in ("2", "3") for one in accelerator(key)
    ]
    found = costs(
        store,
        settings(RENTED, HOST),
        *(reading for key in ("0", "1") for reading in accelerator(key)),
        *far,
        *deployment("m", 1000),
        runs_on("m", "0", "1", "2", "3"),
    )["m"]
    assert len(found.targets) == 4
    assert found.total_usd == pytest.approx(4 * 2.0 + 2 * 0.8)
    assert found.energy_joules == pytest.approx(4 * WATTS * 59 * 60)


def test_several_deployments_on_one_card_and_over_hosts_share_all_of_it_once(store: Store):
    far = [replace(one, host="far") if isinstance(one, Entity) else one for one in accelerator("1")]
    found = costs(
        store,
        settings(RENTED, HOST),
        *accelerator("0"),
        *far,
        *deployment("wide", 1000),
        *deployment("near", 3000),
        *deployment("late", 500),
        runs_on("wide", "0", "1"),
        runs_on("near", "0"),
        runs_on("late", "0", at_ms=START_MS + HOUR_MS // 2),
    )
    assert sum(one.total_usd or 0 for one in found.values()) == pytest.approx(2 * (2.0 + 0.8))
    assert sum(one.energy_joules or 0 for one in found.values()) == pytest.approx(2 * WATTS * 59 * 60, rel=0.02)


def test_electricity_is_that_of_the_site_where_the_device_stands(store: Store):
    """The main site has a price and a PUE of its own, which are not for this host."""
    edge = {"name": "edge", "hosts": ["bo*"], "usd_per_kwh": 0.5, "pue_ratio": 2.0}
    site = settings(OWNED, usd_per_kwh=0.1, pue_ratio=1.1, other=[edge])
    found = costs(store, site, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))["m"]
    assert found.electricity_usd == pytest.approx(found.energy_joules / 3.6e6 * 2.0 * 0.5)
    assert {"settings: site.other.0.usd_per_kwh", "settings: site.other.0.pue_ratio"} <= {
        str(t.source) for t in found.terms
    }


def test_the_price_of_a_country_makes_an_estimate_and_says_so(store: Store):
    site = settings(OWNED, country="CL")
    found = costs(store, site, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))["m"]
    assert found.electricity_usd == pytest.approx(found.energy_joules / 3.6e6 * 0.166)
    assert found.label is Quality.ESTIMATED
    assert any(str(term.source).startswith("default of CL, 2023-2026 average") for term in found.terms)


def test_a_price_without_an_exchange_rate_is_unknown_and_says_which(store: Store):
    site = settings(OWNED | {"currency": "CLP"}, usd_per_kwh=0.1)
    found = costs(store, site, *accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))["m"]
    assert (found.hardware_usd, found.total_usd, found.reason) == (None, None, "no exchange rate for CLP")
    assert found.electricity_usd is not None


def test_a_price_that_changes_in_the_window_makes_an_estimate_and_says_so(store: Store):
    day = datetime.fromtimestamp(END_MS / 1000, UTC).date()
    start_ms = round(datetime.combine(day, time(), UTC).timestamp() * 1000) - HOUR_MS
    old, new = RENTED | {"valid_to": str(day)}, RENTED | {"valid_from": str(day), "per_hour": 3.0}
    store.write(*accelerator("0"), *deployment("m", 1000), runs_on("m", "0"))
    (found,) = deployment_costs(store.reader, settings(old, new), start_ms, END_MS)
    assert found.hardware_usd == pytest.approx(3.0)
    assert found.label is Quality.ESTIMATED
    assert ("changes of prices", "1 in the window") in {(str(term.name), str(term.value)) for term in found.terms}
    (after,) = deployment_costs(store.reader, settings(old, new), START_MS, END_MS)
    assert "changes of prices" not in {str(term.name) for term in after.terms}
