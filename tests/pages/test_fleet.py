"""The fleet pages on databases that are not there, empty, stale, full, and without accelerators."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core.readings import Entity
from pages.fleet import overview, power
from pages.shared import filters, store, things
from tests.pages import additions, databases
from tests.pages.conftest import ROOT, Open

PAGES = ("fleet/overview", "fleet/accelerators", "fleet/device", "fleet/hosts")
every_page = pytest.mark.parametrize("page", PAGES)


def said(page: AppTest) -> str:
    """All text of a page, in one."""
    kinds = (page.success, page.info, page.warning, page.error, page.markdown, page.caption, page.text, page.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def tiles(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


@every_page
def test_without_a_database_it_says_what_it_looked_for_and_what_to_start(
    page: str, database: Path, open_page: Open
) -> None:
    shown = open_page(page)
    assert not shown.exception
    assert str(database) in said(shown)
    assert "make run" in said(shown)
    assert not shown.metric


@every_page
def test_a_wrong_setting_is_one_line(page: str, database: Path, open_page: Open) -> None:
    (database.parent / "vatio.toml").write_text("[site]\nzone = 1\n")
    shown = open_page(page)
    assert not shown.exception
    assert "zone" in shown.error[0].value


@every_page
def test_an_empty_database_has_no_figures(page: str, empty: Path, open_page: Open) -> None:
    shown = open_page(page)
    assert not shown.exception
    assert "not stored anything yet" in said(shown)
    assert not shown.success
    assert not any(character.isdigit() for value in tiles(shown).values() for character in value)


@every_page
def test_a_full_database_is_shown(page: str, full: Path, open_page: Open) -> None:
    shown = open_page(page)
    assert not shown.exception
    assert "last sample" in said(shown)
    assert "Stale" not in said(shown)
    assert "unknown" not in tiles(shown).values()
    assert not any("Simulated" in warning.value for warning in shown.warning)


@every_page
def test_stale_data_is_called_stale_and_not_well(page: str, stale: Path, open_page: Open) -> None:
    shown = open_page(page)
    assert not shown.exception
    assert any("Stale: last sample 5 min ago" in warning.value for warning in shown.warning)
    assert any("Nothing can be said of the present" in warning.value for warning in shown.warning)
    assert not shown.success
    assert any("stale, 5 min old" in caption.value for caption in shown.caption)


@every_page
def test_simulated_data_says_so(page: str, database: Path, now_ms: int, open_page: Open) -> None:
    databases.write(database, now_ms, minutes=2, simulated=True)
    assert any("Simulated data" in warning.value for warning in open_page(page).warning)


@every_page
def test_foreign_text_is_never_read_as_markdown(page: str, full: Path, open_page: Open) -> None:
    shown = open_page(page)
    assert "](javascript" not in said(shown)
    assert "<script>" not in said(shown)


@every_page
@pytest.mark.parametrize("range_", ["15m", "7d"])
def test_every_range_prints_its_resolution(page: str, range_: str, full: Path, open_page: Open) -> None:
    shown = open_page(page, range=range_)
    assert not shown.exception
    assert any(" steps · America/Santiago (UTC" in caption.value for caption in shown.caption)


def test_overview_finds_what_is_wrong_and_since_when(full: Path, open_page: Open) -> None:
    shown = open_page("fleet/overview")
    assert any("slows itself down" in warning.value for warning in shown.warning)
    assert not shown.success
    assert tiles(shown)["Accelerators active"] == "1 of 2"
    assert tiles(shown)["Sources healthy"] == "5 of 5"
    assert tiles(shown)["Output tokens"] == "250 tokens/s"
    assert any("1 free" in caption.value for caption in shown.caption)


@pytest.mark.parametrize("range_", ["15m", "8w"])
def test_overviews_price_is_of_the_last_day_whatever_range_is_shown(range_: str, full: Path, open_page: Open) -> None:
    shown = open_page("fleet/overview", range=range_)
    (place,) = (one for one in range(len(shown.metric)) if shown.metric[one].label == "Cost per million output tokens")
    assert shown.metric[place].value == "set a price"
    assert any(caption.value.endswith("last 24 hours") for caption in shown.caption)


def test_overview_of_a_machine_without_accelerators(cpu_only: Path, open_page: Open) -> None:
    shown = open_page("fleet/overview")
    assert not shown.exception
    assert "All well" in shown.success[0].value
    assert tiles(shown)["Accelerators active"] == "none found"
    assert tiles(shown)["CPU package power"].endswith("W")
    assert "libnvidia&#45;ml&#46;so&#46;1 was not found" in said(shown)
    assert "install the NVIDIA driver" in said(shown)
    assert "##### CPU sockets: busy time" in [markdown.value for markdown in shown.markdown]


def test_a_device_that_falls_silent_while_others_go_on_is_an_alarm(
    database: Path, now_ms: int, open_page: Open
) -> None:
    databases.write(database, now_ms - 180_000, minutes=5)
    databases.write(database, now_ms, minutes=1, accelerators=False, serving=False)
    shown = open_page("fleet/overview")
    assert "2 accelerators have stopped reporting" in shown.error[0].value
    assert "since" in shown.error[0].value


def test_unknown_power_is_unknown_and_not_zero(database: Path, now_ms: int, open_page: Open) -> None:
    databases.write(database, now_ms, accelerators=False, serving=False, cpu_power=False)
    shown = open_page("fleet/hosts")
    assert tiles(shown)["CPU package power"] == "unknown"
    assert tiles(shown)["Node power"] == "unknown"
    assert "missing" in "".join(caption.value for caption in shown.caption)
    assert "energy of socket 1 cannot be read" in said(shown)


def test_accelerators_lists_every_device_with_words_for_throttling(full: Path, open_page: Open) -> None:
    shown = open_page("fleet/accelerators")
    listed = shown.dataframe[-1].value
    assert len(listed) == 2
    assert set(listed["throttle"]) == {"power cap, too hot (hardware)", "none"}
    assert set(listed["state"]) == {"● active", "○ free"}
    assert set(listed["runs"]) == {"llama", ""}
    assert listed["memory_held_ratio"].tolist() == [75.0, 0.0]


def test_accelerators_can_be_summed_up(full: Path, open_page: Open) -> None:
    sums = open_page("fleet/accelerators", group="vendor").dataframe[0].value
    assert sums["vendor"].tolist() == ["AMD", "NVIDIA"]
    assert sums["active"].tolist() == [0, 1]
    assert sums["power_limit_watts"].tolist() == [750.0, 700.0]


def test_filters_choose(full: Path, open_page: Open) -> None:
    listed = open_page("fleet/accelerators", vendor="AMD").dataframe[-1].value
    assert listed["vendor"].tolist() == ["AMD"]
    listed = open_page("fleet/accelerators", model="llama").dataframe[-1].value
    assert listed["runs"].tolist() == ["llama"]
    assert "No accelerator was found" in said(open_page("fleet/accelerators", host="elsewhere"))


def test_the_address_keeps_what_the_strip_shows(full: Path) -> None:
    page = AppTest.from_file(ROOT / "pages/fleet/accelerators.py", default_timeout=30)
    page.query_params["strip"] = "temperature"
    page.run()
    assert "##### Accelerators: temperature" in said(page)
    page.button_group[0].set_value("power").run()
    assert "##### Accelerators: power" in said(page)
    assert page.query_params["strip"] == "power"
    page.button_group[0].set_value("busy time").run()
    assert "strip" not in page.query_params


def test_a_strip_that_does_not_exist_is_not_shown(full: Path) -> None:
    page = AppTest.from_file(ROOT / "pages/fleet/accelerators.py", default_timeout=30)
    page.query_params["strip"] = "<script>"
    page.run()
    assert not page.exception
    assert "##### Accelerators: busy time" in said(page)


def test_an_accelerator_without_any_sample_has_no_state(full: Path, now_ms: int, open_page: Open) -> None:
    silent = Entity(observed_at_ms=now_ms, family="accelerator", key="GPU-9", host=databases.HOST, labels={})
    additions.add(full, silent)
    shown = open_page("fleet/accelerators")
    assert not shown.exception
    assert set(shown.dataframe[-1].value["state"]) == {"● active", "○ free", ""}
    shown = open_page("fleet/device", **{"picked-device": "GPU-9"})
    assert not shown.exception
    assert tiles(shown)["State"] == "unknown"
    assert tiles(shown)["Held down"] == "unknown"


def test_the_address_picks_the_device(full: Path) -> None:
    page = AppTest.from_file(ROOT / "pages/fleet/device.py", default_timeout=30)
    page.query_params["device"] = databases.AMD
    page.run()
    assert not page.exception
    assert page.selectbox[0].value == databases.AMD
    assert tiles(page)["Busy time"] == "0.0 %"
    assert tiles(page)["Power"] == "130 W"
    assert tiles(page)["Held down"] == "no"
    assert "None holds memory on it (measured)." in said(page)


def test_a_device_that_does_not_exist_is_not_picked(full: Path) -> None:
    page = AppTest.from_file(ROOT / "pages/fleet/device.py", default_timeout=30)
    page.query_params["device"] = "<script>"
    page.run()
    assert not page.exception
    assert page.query_params["device"] == databases.NVIDIA


def test_a_device_names_what_is_zero_and_what_is_missing(full: Path, open_page: Open) -> None:
    captions = [caption.value for caption in open_page("fleet/device").caption]
    assert any(c.startswith(":material/check: zero") and "ECC uncorrected errors" in c for c in captions)
    assert any(c.startswith(":material/blur_off: missing") and "tensor active" in c for c in captions)


def test_a_device_that_is_held_down_says_why(full: Path, open_page: Open) -> None:
    shown = open_page("fleet/device")
    assert tiles(shown)["Held down"] == "yes"
    assert any("power cap, too hot" in caption.value for caption in shown.caption)


def test_a_cpu_socket_is_a_device_too(cpu_only: Path, open_page: Open) -> None:
    shown = open_page("fleet/device")
    assert tiles(shown)["Busy time"].endswith("%")
    assert tiles(shown)["Package power"].endswith("W")


def test_hosts_split_power_and_know_the_rest(full: Path, open_page: Open) -> None:
    shown = open_page("fleet/hosts")
    assert tiles(shown)["Node power"] == "1.8 kW"
    assert tiles(shown)["Not accelerators"].endswith("%")
    assert tiles(shown)["Host memory used"] == "31.2 %"


def test_the_rest_of_a_node_is_unknown_while_a_board_is_silent(database: Path, now_ms: int) -> None:
    databases.write(database, now_ms, minutes=10, amd_silent_minutes=5)
    seen = filters.current(store.settings(), now_ms=now_ms)
    parts = power.by_part(things.hosts(seen), things.sockets(seen), things.accelerators(seen), seen)
    steps = parts.pivot_table(index="bucket_at", columns="series", values="power_watts")
    silent = steps.index >= pd.Timestamp(now_ms - 5 * 60_000 + seen.step_ms, unit="ms", tz="UTC")
    assert steps.loc[silent, power.REST].isna().all()
    together = steps.loc[~silent].iloc[2:-2].sum(axis=1)
    assert together.tolist() == pytest.approx([1800.0] * len(together))
    assert len(together) > 3


def test_no_power_is_left_out_for_want_of_a_name(full: Path, now_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[pd.DataFrame] = []
    monkeypatch.setattr(overview, "stacked", lambda frame, *_, **__: drawn.append(frame))
    monkeypatch.setattr(overview, "picture", lambda *_, **__: None)
    seen = filters.current(store.settings(), now_ms=now_ms)
    nameless = things.accelerators(seen).assign(model=None)
    overview.power_chart(nameless, things.sockets(seen), seen, None)
    boards = drawn[0][drawn[0]["series"] == "unnamed accelerator"]
    assert boards["power_watts"].min() >= 530
