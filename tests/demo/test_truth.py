"""From the demo's history to its weekly summary: what was planted is found at its cost, and nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analytics.wastes.waste import Waste
from analytics.weekly import WeeklySummary, weekly_summary
from collectors.past import lay_down, missing
from collectors.sources.simulated.clock import TICK_SECONDS, WEEK_TICKS, Floats
from collectors.sources.simulated.fleet import CLOUD, H100, Machine
from collectors.sources.simulated.source import SEED, SimulatedSource
from collectors.sources.simulated.truth import COMMITMENT, DEAR, FREE, PARKED, PLANTED, TROUGH, Planted
from collectors.sources.simulated.world import Accelerator, Node, World
from core.settings import StorageSettings, load
from storage.engine import reader_engine
from storage.session import writing
from storage.upkeep import Upkeep

ROOT = Path(__file__).parents[2]
YEAR, WEEK = 2026, 47
MONDAY = datetime(2026, 11, 16, 6, tzinfo=UTC)  # midnight in Mexico City
STEP_MS = 180_000
HOUR_TICKS = 3600 // TICK_SECONDS
HOURS = 168
HOURS_PER_YEAR = 8_760


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeeklySummary]:
    """Of the week, from a store with two weeks of history and the demo's own settings."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    end_ms = round((MONDAY + timedelta(days=7, minutes=10)).timestamp() * 1000)
    with writing(path, host="simulated") as writer:
        source = SimulatedSource()
        for stretch in missing(None, end_ms, STEP_MS, weeks=2):
            lay_down(writer, source, stretch)
        reader = reader_engine(path)
        Upkeep(reader, writer, StorageSettings(keep_samples_days=100_000)).account(end_ms)
    yield weekly_summary(reader, load(ROOT / "demo.toml"), YEAR, WEEK, end_ms)
    reader.dispose()


@pytest.fixture(scope="module")
def world() -> World:
    return World(SEED)


@pytest.fixture(scope="module")
def book() -> dict[str, Any]:
    """The settings as they are written."""
    return tomllib.loads((ROOT / "demo.toml").read_text("utf-8"))


def found(summary: WeeklySummary, planted: Planted) -> Waste:
    (waste,) = (one for one in summary.wastes if one.kind == planted.kind)
    return waste


def test_the_top_wastes_are_those_that_were_planted_and_no_others(summary: WeeklySummary):
    assert summary.is_whole
    assert sorted((str(one.kind), one.what) for one in summary.wastes) == sorted((p.kind, p.what) for p in PLANTED)
    for planted in PLANTED:
        machines = {f"simulated-{one.name}" for one in planted.machines} if planted.accelerators else set()
        assert set(found(summary, planted).hosts) == machines


@pytest.mark.parametrize("planted", [PARKED, FREE, TROUGH], ids=lambda one: one.kind)
def test_the_hours_are_those_that_were_planted(summary: WeeklySummary, planted: Planted):
    waste = found(summary, planted)
    hours = {
        (at_ms // 3_600_000) % 24
        for stretch in waste.stretches
        for at_ms in range(stretch.start_ms, stretch.end_ms, 3_600_000)
    }
    assert hours == set(planted.utc_hours)
    assert waste.freed_gpu_hours == pytest.approx(len(planted.accelerators) * len(planted.utc_hours) * 7)
    assert len(waste.device_ids) == len(planted.accelerators)


# --- money, worked out from the tables of the world and the price book alone ---


def owned_usd_per_hour(price: dict[str, Any]) -> float:
    """Straight-line depreciation, capital on the mean balance, maintenance."""
    capex, residual = price["capex"], price.get("residual", 0)
    yearly = (capex - residual) / price["life_years"] + price.get("capital_cost_ratio", 0) * (capex + residual) / 2
    return float(yearly + price.get("maintenance_ratio", 0) * capex) / HOURS_PER_YEAR


def price(book: dict[str, Any], match: str) -> dict[str, Any]:
    (one,) = (one for one in book["cost"]["hardware"] if one["match"] == match)
    return dict(one)


def node(world: World, machine: Machine) -> Node:
    (one,) = (one for one in world.nodes if one.machine is machine)
    return one


def watts_with_its_part_of_the_sockets(of: Node, part: Accelerator) -> Floats:
    sockets = np.sum([socket.power_watts for socket in of.sockets], axis=0)
    watts: Floats = part.power_watts + sockets / len(of.accelerators)
    return watts


def kwh_by_hour(of: Node, part: Accelerator, pue_ratio: float) -> Floats:
    """In the order of the table: hour 0 is Monday 00:00 UTC."""
    joules = watts_with_its_part_of_the_sockets(of, part).reshape(HOURS, HOUR_TICKS).sum(axis=1) * TICK_SECONDS
    kwh: Floats = joules / 3.6e6 * pue_ratio
    return kwh


def usd_per_kwh_by_hour(book: dict[str, Any]) -> Floats:
    """Of the main site's tariff, in the order of the table; Mexico City is six hours behind."""
    per_usd = next(rate["per_usd"] for rate in book["cost"]["rate"] if rate["currency"] == "MXN")
    of_day = np.zeros(24)
    for band in book["site"]["tariff"][0]["band"]:
        begins, ends = int(band["begins"][:2]), int(band["ends"][:2]) or 24
        of_day[begins:ends] = band["per_kwh"] / per_usd
    return of_day[(np.arange(HOURS) - 6) % 24]


def idle_usd(book: dict[str, Any], world: World, planted: Planted) -> float:
    """Own hardware, its part of the host, and electricity, all week long."""
    hourly = owned_usd_per_hour(price(book, "H100"))
    hourly += owned_usd_per_hour(price(book, "simulated-mx-")) / planted.machines[0].cards
    there, tariff = node(world, planted.machines[0]), usd_per_kwh_by_hour(book)
    parts = [there.accelerators[index] for index in planted.accelerators]
    electricity = sum(float((kwh_by_hour(there, one, book["site"]["pue_ratio"]) * tariff).sum()) for one in parts)
    return hourly * HOURS * len(parts) + electricity


@pytest.mark.parametrize("planted", [PARKED, FREE], ids=lambda one: one.kind)
def test_idle_accelerators_cost_their_hardware_and_electricity(
    summary: WeeklySummary, world: World, book: dict[str, Any], planted: Planted
):
    assert planted.machines[0].card is H100
    assert found(summary, planted).cost_usd == pytest.approx(idle_usd(book, world, planted), rel=0.01)


def test_the_closed_hours_of_the_rented_machine_cost_their_rent(summary: WeeklySummary, book: dict[str, Any]):
    rent = price(book, "MI300X VF")["per_hour"] * CLOUD.cards * len(TROUGH.utc_hours) * 7
    waste = found(summary, TROUGH)
    assert waste.cost_usd == pytest.approx(rent, rel=0.01)
    assert waste.cash_saving_usd == pytest.approx((rent / 2, rent), rel=0.01)


def test_the_commitment_costs_what_lies_unused_below_the_waterline(
    summary: WeeklySummary, world: World, book: dict[str, Any]
):
    (contract,) = book["cost"]["contract"]
    there = [node(world, machine) for machine in COMMITMENT.machines]
    kwh = sum(
        float(kwh_by_hour(one, part, book["site"]["pue_ratio"]).sum()) for one in there for part in one.accelerators
    )
    used = kwh / (contract["amount"] * 1000 * HOURS)
    assert used < 0.8
    of_term = HOURS / 24 / (contract["ends"] - contract["begins"]).days
    expected = (0.8 - used) * contract["price"] * of_term
    assert found(summary, COMMITMENT).cost_usd == pytest.approx(expected, rel=0.01)


def test_the_batch_costs_what_its_energy_is_dearer_than_in_the_valley(
    summary: WeeklySummary, world: World, book: dict[str, Any]
):
    tariff = usd_per_kwh_by_hour(book)
    there = node(world, DEAR.machines[0])
    parts = [there.accelerators[index] for index in DEAR.accelerators]
    kwh = np.sum([kwh_by_hour(there, one, book["site"]["pue_ratio"]) for one in parts], axis=0)
    expected = float((kwh * (tariff - tariff.min())).sum())
    assert found(summary, DEAR).cost_usd == pytest.approx(expected, rel=0.01)


# --- the rest of the fleet, and what people are told ---


def test_the_rest_of_the_fleet_works(summary: WeeklySummary):
    figures = summary.figures
    assert figures["covered_ratio"].value == pytest.approx(1.0)
    assert 0.7 < (figures["used_ratio"].value or 0.0) < 0.85
    assert figures["total_usd"].value is not None
    assert figures["total_usd"].is_clear is False
    kept = {one.model: one.is_kept for one in summary.promises}
    assert kept.pop("meta-llama/Llama-2-70b-chat-hf") is False  # every day it waits for a throttled accelerator
    assert set(kept.values()) == {True}


def test_people_are_told_what_is_planted():
    page = (ROOT / "docs/demo.md").read_text("utf-8")
    assert [one.what for one in PLANTED if one.what not in page] == []
    assert [one.why for one in PLANTED if one.why not in " ".join(page.split())] == []


def test_every_name_says_simulated(book: dict[str, Any]):
    assert WEEK_TICKS * TICK_SECONDS == HOURS * 3600
    sites = [book["site"], *book["site"]["other"]]
    assert all("simulated" in site["name"] for site in sites)
    assert all(pattern.startswith("simulated-") for site in sites[1:] for pattern in site["hosts"])
    assert "simulated" in book["collectors"]["host_name"]
