"""The bill on cost/tokens: four lines that add up, by whomever they are shown; and what it says where it is unknown."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from core.readings import AcceleratorSample, Assignment, DeploymentSample, Entity, Reading
from core.settings import StorageSettings
from storage.engine import reader_engine
from storage.session import writing
from storage.upkeep import Upkeep
from tests.pages.additions import add, configure, said
from tests.pages.conftest import Open
from tests.pages.databases import HOST

TOKENS = "cost/tokens"
HOUR_MS = 3_600_000
PRICES = """
[[cost.hardware]]
kind = "owned"
applies_to = "accelerator"
capex = 35_040
life_years = 4
[[cost.overhead]]
name = "staff"
per_month = 730
"""
TARIFF = "usd_per_kwh = 1.0\n"  # follows [site], the last section of the fixture
LINES = ["hardware_usd", "electricity_active_usd", "electricity_idle_usd", "overhead_usd"]


@pytest.fixture
def hours(empty: Path, now_ms: int) -> Path:
    """Four whole hours of a card that serves at 500 W and one that nobody holds at 100 W."""
    end_ms = now_ms // HOUR_MS * HOUR_MS
    readings: list[Reading] = [
        Assignment(
            deployment_key="d",
            target_family="accelerator",
            target_keys=("A",),
            origin="processes",
            observed_at_ms=end_ms - 4 * HOUR_MS,
        )
    ]
    for at_ms in range(end_ms - 4 * HOUR_MS, end_ms + 120_001, 60_000):
        s = at_ms / 1000
        readings += [
            AcceleratorSample(key="A", observed_at_ms=at_ms, energy_joules_total=500 * s, processes=1),
            AcceleratorSample(key="B", observed_at_ms=at_ms, energy_joules_total=100 * s, processes=0),
            DeploymentSample(key="d", observed_at_ms=at_ms, generation_tokens_total=10 * s, running_requests=1.0),
        ]
    labels = {"vendor": "NVIDIA", "model": "H100"}
    things = [
        Entity(
            observed_at_ms=end_ms - 4 * HOUR_MS, family="accelerator", key=key, host=HOST, labels=labels | {"index": n}
        )
        for key, n in (("A", "0"), ("B", "1"))
    ]
    server = {"model": "llama", "url": "http://127.0.0.1:8000", "engine": "vLLM"}
    things.append(Entity(observed_at_ms=end_ms - 4 * HOUR_MS, family="deployment", key="d", host=HOST, labels=server))
    add(empty, *things, *readings)
    with writing(empty, host=HOST) as writer:
        reader = reader_engine(empty)
        Upkeep(reader, writer, StorageSettings()).account(end_ms + HOUR_MS // 2)
        reader.dispose()
    return empty


def open_bill(open_page: Open, by: str | None = None):
    test = open_page(TOKENS, range="6h")
    if by is not None:
        test.segmented_control(key="bill-by").set_value(by).run()
    return test


def rows(test) -> pd.DataFrame:
    return next(one.value for one in test.dataframe if "electricity_idle_usd" in one.value).set_index("who")


def test_four_lines_add_up_to_the_bill_whoever_they_are_shown_by(hours: Path, open_page: Open):
    configure(hours, TARIFF + PRICES)
    test = open_bill(open_page)
    text = said(test)
    assert "14.40 USD** = 8.00 USD + 2.00 USD + 0.4000 USD + 4.00 USD" in text
    assert "5 whole hours" in text  # in the first of them nothing was there
    by_owner = rows(test)
    assert by_owner.loc["held by nobody", "electricity_idle_usd"] == pytest.approx(0.4)
    assert by_owner.loc["llama @ http://127.0.0.1:8000", "total_usd"] == pytest.approx(4.0 + 2.0 + 4.0 * 6.0 / 10.4)
    for by in ("site", "host", "vendor", "model", "name"):
        frame = rows(open_bill(open_page, by))
        assert frame["total_usd"].sum() == pytest.approx(14.4)
        assert frame[LINES].sum(axis=1).tolist() == pytest.approx(frame["total_usd"].tolist())


def test_without_a_price_each_device_is_named(hours: Path, open_page: Open):
    text = said(open_bill(open_page))
    assert "unknown** = unknown + unknown + unknown + 0" in text
    assert "H100 0 on node-1: no hardware price" in text
    assert rows(open_bill(open_page))["total_usd"].isna().all()


def test_a_window_without_an_accounted_hour_says_so(full: Path, open_page: Open):
    test = open_page(TOKENS, range="15m")
    assert "No accounted hour lies in this window" in said(test)
