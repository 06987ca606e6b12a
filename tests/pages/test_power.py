"""energy/power on databases that are not there, empty, stale, full, without accelerators, with meters that disagree."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.readings import AcceleratorSample, Entity, Reading
from core.settings import StorageSettings
from storage.engine import reader_engine
from storage.session import writing
from storage.upkeep import Upkeep
from tests.pages import databases
from tests.pages.additions import add, configure, metric, said
from tests.pages.conftest import Open
from tests.pages.databases import HOST, HOSTILE, NVIDIA

POWER = "energy/power"
CARBON = '[[site.other]]\nname = "lab"\nhosts = ["node-*"]\npue_ratio = 1.5\ncountry = "CL"'


def account(path: Path) -> None:
    """What the daemon does when an hour is over."""
    with writing(path, host=HOST) as writer:
        reader = reader_engine(path)
        Upkeep(reader, writer, StorageSettings()).account(int(time.time() * 1000))
        reader.dispose()


def now_ms() -> int:
    return int(time.time() * 1000)


def another(
    key: str, *, watts: float, counted: float | None, host: str = "other", model: str = "MI300X"
) -> list[Reading]:
    """A third accelerator, of constant power."""
    labels = {"vendor": "AMD", "model": model}
    begun = now_ms() - 600_000
    return [
        Entity(observed_at_ms=begun, family="accelerator", key=key, host=host, labels=labels),
        *(
            AcceleratorSample(
                key=key,
                observed_at_ms=begun + s * 1000,
                power_watts=watts,
                energy_joules_total=None if counted is None else counted * s,
            )
            for s in range(0, 601, 10)
        ),
    ]


def picture(test: AppTest, number: int) -> dict:
    """What a picture draws, as it goes to the browser."""
    return json.loads(test.get("vega_lite_chart")[number].proto.spec)


def drawn(test: AppTest, number: int, text: str) -> bool:
    """Whether a picture's data hold a text."""
    return text.encode() in test.get("vega_lite_chart")[number].proto.SerializeToString()


def watt_hours(test: AppTest, label: str) -> float:
    value, unit = metric(test, label).split(" ")
    assert unit == "Wh"
    return float(value)


def table(test: AppTest, column: str):
    """The first table that has this column."""
    return next(one.value for one in test.dataframe if column in one.value.columns)


def test_without_a_database_it_says_what_to_start(database: Path, open_page: Open):
    text = said(open_page(POWER))
    assert "Nothing has been measured yet" in text
    assert str(database) in "".join(code.value for code in open_page(POWER).code)


def test_an_empty_database_has_no_figures(empty: Path, open_page: Open):
    test = open_page(POWER)
    assert "Nothing was seen that draws power" in said(test)
    assert not test.metric
    assert not test.get("vega_lite_chart")


def test_power_and_energy_are_those_of_the_accelerators_alone(full: Path, open_page: Open):
    test = open_page(POWER)
    text = said(test)
    frame = table(test, "energy_kwh").set_index("device")
    # 20 minutes: 500 W by the counter, and 130 W of integrated power
    assert frame.loc["H100 80GB HBM3", "energy_kwh"] == pytest.approx(500 * 1200 / 3.6e6, rel=0.05)
    assert frame.loc["Instinct MI300X", "energy_kwh"] == pytest.approx(130 * 1200 / 3.6e6, rel=0.05)
    assert frame["source"].to_dict() == {"H100 80GB HBM3": "gpu_counter", "Instinct MI300X": "gpu_power"}
    assert frame.loc["Instinct MI300X", "of_limit_ratio"] == pytest.approx(100 * 130 / 750)
    told = frame["energy_kwh"].sum() * 1000  # of rows that are rounded to 1 Wh each
    assert watt_hours(test, "Energy at devices") == pytest.approx(told, abs=1.6)
    assert "host and cooling not included" in text
    assert "Accelerators draw" in text


def test_the_meters_are_compared_device_by_device(full: Path, open_page: Open):
    frame = table(open_page(POWER), "counter_over_samples").set_index("device")
    assert frame.loc["H100 80GB HBM3", "verdict"] == "agree"
    assert frame.loc["H100 80GB HBM3", "counter_over_samples"] == pytest.approx(500 / 525, rel=0.05)
    assert frame.loc["Instinct MI300X", "verdict"] == "fewer than two meters"


def test_a_counter_that_the_samples_contradict_is_named_and_not_used(full: Path, open_page: Open):
    add(full, *another("odd", watts=200.0, counted=200_000.0))
    test = open_page(POWER)
    assert "its energy counter says 1,000.00 times what its power samples say" in said(test)
    assert test.warning
    frame = table(test, "counter_over_samples")
    (row,) = frame[frame["host"] == "other"].to_dict("records")
    assert row["verdict"] == "⚠ counter not believed"
    assert row["used"] == "gpu_power"


def test_without_a_pue_there_is_no_meter_and_without_a_factor_no_emissions(full: Path, open_page: Open):
    test = open_page(POWER)
    assert "At the meter" not in {one.label for one in test.metric}
    assert metric(test, "Operational CO2e") == "unknown"
    help_text = next(one.proto.help for one in test.markdown if one.value == ":small[Operational CO2e]")
    assert "set country or grid" in help_text
    assert "no PUE given" in said(test)


def test_pue_and_grid_factor_are_shown_with_their_sources(full: Path, open_page: Open):
    configure(full, CARBON)
    test = open_page(POWER)
    text = said(test)
    assert watt_hours(test, "At the meter") == pytest.approx(1.5 * watt_hours(test, "Energy at devices"), abs=1.5)
    assert metric(test, "Operational CO2e").endswith("g CO2e")
    assert "lab: PUE 1.5 (settings), 265.5 g CO2e/kWh (default of CL, 2024" in text
    assert "operational only" in text


def test_the_figures_open_to_what_they_are_made_of(full: Path, open_page: Open):
    configure(full, CARBON)
    test = open_page(POWER)
    inputs = table(test, "Input").set_index("Input")["Value"].to_dict()
    assert inputs["power now"] == metric(test, "Accelerator power")
    assert inputs["power limits in force"] == "1.4 kW"
    assert inputs["energy"] == inputs["energy, lab"] == metric(test, "Energy at devices")
    assert {"energy by gpu_counter", "energy by gpu_power"} <= set(inputs)
    assert (inputs["PUE, lab"], inputs["grid factor, lab"]) == ("1.5", "265.5 g CO2e/kWh")
    assert inputs["at the meter, lab"] == metric(test, "At the meter")
    assert inputs["operational CO2e, lab"] == metric(test, "Operational CO2e")


def test_a_site_without_a_pue_leaves_the_sum_at_the_meter_unknown(full: Path, open_page: Open):
    configure(full, CARBON)
    add(full, *another("far", watts=200.0, counted=None))
    test = open_page(POWER)
    assert metric(test, "At the meter") == "unknown"
    sites = table(test, "meter_kwh").set_index("site")
    assert sites["meter_kwh"].isna().to_dict() == {"lab": False, "this site": True}


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", ["H100 80GB HBM3", "Instinct MI300X"]),
        ("vendor", ["AMD", "NVIDIA"]),
        ("host", [HOST]),
        ("site", ["this site"]),
    ],
)
def test_power_is_stacked_by_what_is_chosen(full: Path, open_page: Open, by: str, names: list[str]):
    test = open_page(POWER, **{"power-by": by})
    assert f"Power of accelerators by {by}" in said(test)
    area = next(layer for layer in picture(test, 0)["layer"] if layer["mark"]["type"] == "area")
    assert area["encoding"]["color"]["scale"]["domain"] == names
    assert drawn(test, 0, "sum of power limits")


def test_a_model_is_not_called_by_its_vendor_again(full: Path, open_page: Open):
    add(full, *another("third", watts=200.0, counted=None, model="AMD Instinct MI325X"))
    devices = table(open_page(POWER), "energy_kwh")
    assert set(devices["model"]) == {"H100 80GB HBM3", "Instinct MI300X", "Instinct MI325X"}


def test_a_contract_that_is_exceeded_is_the_worst_news(full: Path, open_page: Open):
    contract = '[[cost.contract]]\nname = "small"\nunit = "megawatts"\namount = 0.0002\nprice = 1\n'
    configure(full, f"{contract}begins = 2020-01-01\nends = 2099-01-01")
    test = open_page(POWER)
    assert "is more than the 200 W of contract small" in said(test)
    assert test.error
    assert drawn(test, 0, "contract small")


def test_a_contract_far_above_is_said_and_not_drawn(full: Path, open_page: Open):
    contract = '[[cost.contract]]\nname = "large"\nunit = "megawatts"\namount = 750\nprice = 1\n'
    configure(full, f"{contract}begins = 2020-01-01\nends = 2099-01-01")
    test = open_page(POWER)
    assert "contract large: 750 MW, above the axis" in said(test)
    assert not drawn(test, 0, "contract large")


def test_before_the_first_hour_is_accounted_for_idle_energy_is_unknown(full: Path, open_page: Open):
    test = open_page(POWER)
    assert metric(test, "Energy while idle") == "unknown"
    assert "No hour of this window is accounted for yet" in said(test)


def test_accounts_tell_what_was_idle(database: Path, now_ms: int, open_page: Open):
    databases.write(database, now_ms, minutes=130)
    account(database)
    test = open_page(POWER, range="6h")
    text = said(test)
    assert "% of their energy" in text
    devices = table(test, "free_kwh").set_index("device")
    assert devices.loc["Instinct MI300X", "free_kwh"] > 0
    assert devices.loc["H100 80GB HBM3", "free_kwh"] == 0
    assert devices.loc["H100 80GB HBM3", "active_kwh"] > 0
    inputs = table(test, "Input").set_index("Input")["Value"].to_dict()
    assert inputs["energy, parked"] == "0.0 kWh"
    assert inputs["energy, free"] == metric(test, "Energy while idle")
    beside = table(test, "scope").set_index("name")
    assert beside.loc[HOST, "energy_kwh"] > beside.loc["socket 0", "energy_kwh"] > 0
    assert beside["energy_kwh"].isna().to_dict() == {"socket 0": False, "socket 1": True, HOST: False}


def test_limits_of_some_devices_are_no_cap_of_all(full: Path, open_page: Open):
    add(full, *another("no limit", watts=200.0, counted=None))
    test = open_page(POWER)
    assert not drawn(test, 0, "sum of power limits")
    assert "power limit known of 2 of 3" in said(test)


def test_a_silent_device_is_a_band_and_not_a_dip(database: Path, now_ms: int, open_page: Open):
    databases.write(database, now_ms, minutes=10, amd_silent_minutes=5)
    test = open_page(POWER)
    assert drawn(test, 0, "1 of 2 report")
    assert "grey: not every device reported" in said(test)


def test_without_accelerators_cpu_packages_are_the_subject(cpu_only: Path, open_page: Open):
    test = open_page(POWER)
    text = said(test)
    assert "Power of CPU packages by model" in text
    assert "1 of 2 CPU packages do not report power" in text
    assert watt_hours(test, "Energy at devices") == pytest.approx(60, rel=0.05)  # one counts: 180 W, 20 minutes
    assert "Energy while idle" not in {one.label for one in test.metric}
    assert "CPU packages only" in text


def test_stale_data_is_called_stale(stale: Path, open_page: Open):
    text = said(open_page(POWER))
    assert "Nothing can be said of the present" in text
    assert "stale, 5 min old" in text


def test_a_hostile_name_is_text_here_too(full: Path, open_page: Open):
    add(full, *another("evil", watts=1.0, counted=1e6, host=HOSTILE, model=HOSTILE))
    contract = f"[[cost.contract]]\nname = '{HOSTILE}'\nunit = 'megawatts'\namount = 0.0001\nprice = 1\n"
    configure(
        full,
        f"{contract}begins = 2020-01-01\nends = 2099-01-01\n[[site.other]]\nname = '{HOSTILE}'\nhosts = ['node-*']",
    )
    test = open_page(POWER)
    assert not test.exception
    boxes = [*test.success, *test.info, *test.warning, *test.error, *test.markdown, *test.caption]
    assert all("<script>" not in box.value and "[bold](" not in box.value for box in boxes)


def test_the_filters_hold_here_too(full: Path, open_page: Open):
    assert list(table(open_page(POWER, vendor="AMD"), "energy_kwh")["device"]) == ["Instinct MI300X"]
    assert NVIDIA not in said(open_page(POWER, vendor="AMD"))
