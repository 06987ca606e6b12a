"""What all pages share: words, states of a figure, filters, rates, files to take away, and the frame itself."""

from __future__ import annotations

import ast
import csv
import html
import io
import math
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from core.errors import StoreError
from core.language import language, speak
from core.readings import HostSample, Throttle
from core.settings import CollectorSettings, Settings
from core.sites import Site
from core.units import unit_of
from pages.shared import loaders, store, words
from pages.shared.columns import configured
from pages.shared.figures import Figure, shown
from pages.shared.filters import View, current
from pages.shared.ranges import RANGES, SETTLE_MS, between
from pages.shared.tables import LONG, as_csv, few
from storage.engine import writer_engine
from storage.migrate import upgrade
from storage.rows import RowWriter
from tests.pages import databases
from tests.pages.conftest import ROOT

NOW = 1_795_455_000_000
SANTIAGO = ZoneInfo("America/Santiago")


def view(**changes: object) -> View:
    settings = Settings(site=Site(time_zone="America/Santiago"))
    found = current(settings, now_ms=NOW)
    return View(**({name: getattr(found, name) for name in View.__slots__} | changes))


@given(st.text(max_size=300))
def test_no_character_with_a_meaning_survives(text: str) -> None:
    harmless = words.plain(text)
    assert not set("\\`*_{}[]()+-.!|~$<>:\n\r\x00") & set(harmless)


@pytest.mark.parametrize("text", [databases.HOSTILE, "a\u202eb", "x" * 500, "", "H100 80GB"])
def test_plain_text_reads_as_it_was(text: str) -> None:
    assert html.unescape(words.plain(text)).replace("\u2060", "") == words.one_line(text)


@pytest.mark.parametrize("text", ["http://x.y", "HTTPS://x.y", "www.x.y", "a@b.cc", "--", "->", "<-"])
def test_addresses_and_arrows_are_held_apart(text: str) -> None:
    assert "\u2060" in words.plain(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (89.9, "89 s"), (95, "2 min"), (5_400, "1 h 30 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("name", "text"), [("en", "12.5%"), ("es", "12,5\xa0%"), ("pt_BR", "12,5%")])
def test_a_share_is_written_as_the_language_does(name: str, text: str) -> None:
    def told() -> str:
        speak(language(name))
        return words.percent(0.125, 1)

    assert copy_context().run(told) == text


def test_a_time_of_another_day_has_its_date() -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    assert words.clock(datetime(2026, 11, 23, 11, 0, 5, tzinfo=UTC), SANTIAGO, now=now) == "08:00:05"
    assert words.clock(datetime(2026, 11, 23, 1, 0, tzinfo=UTC), SANTIAGO, now=now) == "2026-11-22 22:00"
    assert words.offset(now, SANTIAGO) == "UTC-03:00"


def test_every_throttle_reason_has_words() -> None:
    for reason in Throttle:
        assert words.throttle(reason) == "none" if reason is Throttle.IDLE else words.throttle(reason) != "none"
    assert words.throttle(None) == words.throttle(math.nan) == "unknown"
    assert words.throttle(0) == "none"


def test_no_data_stale_and_zero_are_three_different_things() -> None:
    recent = datetime.fromtimestamp(NOW / 1000 - 5, UTC)
    old = datetime.fromtimestamp(NOW / 1000 - 31, UTC)
    watts = unit_of("power_watts")
    texts = [
        shown(Figure(label="x", value=None, unit=watts, at=recent), view()),
        shown(Figure(label="x", value=math.nan, unit=watts, at=recent), view()),
        shown(Figure(label="x", value=0.0, unit=watts, at=old), view()),
        shown(Figure(label="x", value=0.0, unit=watts, at=recent), view()),
    ]
    assert texts[0] == texts[1] == ("unknown", ":material/blur_off: missing")
    assert texts[2] == ("0.0 W", ":material/history_toggle_off: stale, 31 s old")
    assert texts[3] == ("0.0 W", "measured · now")


def test_a_note_is_foreign_text() -> None:
    assert "*" not in shown(Figure(label="x", value=1.0, note="*"), view())[1]


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("interval_seconds", [0.5, 10, 60])
def test_a_view_is_of_whole_finished_steps(name: str, interval_seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlit.session_state", {"range": name})
    settings = Settings(collectors=CollectorSettings(interval_seconds=interval_seconds, deadline_seconds=0.5))
    seen = current(settings, now_ms=NOW)
    assert seen.end_ms <= NOW - SETTLE_MS < seen.end_ms + seen.step_ms
    assert seen.end_ms - seen.start_ms == RANGES[name].seconds * 1000
    assert (seen.end_ms - seen.start_ms) / seen.step_ms <= 2_000
    assert seen.step_ms >= 2 * interval_seconds * 1000
    assert seen.gap_ms > seen.step_ms
    assert (seen.end_ms - seen.start_ms) / seen.coarse_step_ms(60) <= 60


def test_keys_repeat_between_viewers_within_a_step() -> None:
    settings = Settings()
    step = current(settings, now_ms=NOW).step_ms
    base = NOW // step * step + SETTLE_MS
    windows = {
        (v.start_ms, v.end_ms, v.step_ms) for ms in (0, 1, step - 1) if (v := current(settings, now_ms=base + ms))
    }
    assert len(windows) == 1


def test_a_table_shows_people_units_and_the_sites_time() -> None:
    frame = pd.DataFrame(
        {
            "busy_ratio": [0.5],
            "core_clock_hertz": [1.98e9],
            "power_watts": [300.0],
            "observed_at": pd.to_datetime(["2026-11-23T15:00:00Z"]),
        }
    )
    readable, config = configured(frame, SANTIAGO, {"power_watts": "power draw"})
    assert readable["busy_ratio"].tolist() == [50.0]
    assert readable["core_clock_hertz"].tolist() == [1.98]
    assert readable["observed_at"].tolist() == [pd.Timestamp("2026-11-23T12:00:00")]
    assert config["core_clock_hertz"]["label"] == "Core clock (GHz)"
    assert config["power_watts"]["label"] == "Power draw (W)"


@pytest.mark.parametrize(("watts", "step"), [([300.0, math.nan], 1), ([300.0, 0.5], 0.1), ([math.nan], 1)])
def test_a_column_of_whole_numbers_has_no_decimals(watts: list[float], step: float) -> None:
    _, config = configured(pd.DataFrame({"power_watts": watts}), SANTIAGO, {})
    assert config["power_watts"]["type_config"]["step"] == step


def test_a_file_holds_base_units_utc_and_nothing_that_runs() -> None:
    frame = pd.DataFrame(
        {
            "name": ["=1+1", "@x", "-2", "fine", None],
            "power_watts": [-1.5, 0.0, 2.0, math.nan, 1 / 3],
            "observed_at": pd.to_datetime(["2026-11-23T15:00:00Z"] * 5),
        }
    )
    rows = list(csv.DictReader(io.StringIO(as_csv(frame).decode())))
    assert [row["name"] for row in rows] == ["'=1+1", "'@x", "'-2", "fine", ""]
    assert [row["power_watts"] for row in rows] == ["-1.5", "0.0", "2.0", "", str(1 / 3)]
    assert rows[0]["observed_at"] == "2026-11-23T15:00:00+0000"
    assert "simulated" not in rows[0]
    assert b",simulated\n" in as_csv(frame, simulated=True)


def test_a_rate_spreads_what_was_counted_unseen(database: Path) -> None:
    engine = writer_engine(database)
    upgrade(engine)
    counted = {0: 0.0, 10: 1_000.0, 20: 2_000.0, 100: 10_000.0, 110: 11_000.0}
    with engine.begin() as connection:
        RowWriter("h").write(
            connection,
            [
                HostSample(key="h", observed_at_ms=NOW + s * 1000, network_rx_bytes_total=value)
                for s, value in counted.items()
            ],
        )
    engine.dispose()
    read = loaders.rates("host", ("network_rx_bytes_total",), None, NOW, NOW + 120_000, 10_000)
    assert read["network_rx_bytes_per_second"].dropna().tolist() == [100.0, 100.0, 100.0, 100.0]
    assert "network_rx_bytes_total" not in read


def test_what_appeared_since_power_was_read_is_unknown_and_not_anothers(database: Path) -> None:
    engine = writer_engine(database)
    upgrade(engine)
    with engine.begin() as connection:
        RowWriter("h").write(
            connection, [HostSample(key="h", observed_at_ms=NOW + s * 1000, node_power_watts=500.0) for s in range(20)]
        )
    engine.dispose()
    (known,) = loaders.entities("host")["entity_id"]
    found = loaders.power_course("host", "node_power_watts", ((int(known),), (999,)), NOW, NOW + 20_000, 10_000)
    assert found.watts[0].tolist() == [500.0, 500.0]
    assert np.isnan(found.watts[1]).all()
    assert found.devices == {known}


def test_a_database_that_appears_is_found_and_one_put_in_its_place_too(database: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        store.open_store()
    for _ in range(2):
        engine = writer_engine(database)
        with engine.connect(), pytest.raises(StoreError, match="no tables"):
            store.open_store()
        upgrade(engine)
        engine.dispose()
        assert loaders.newest_sample_at_ms() is None
        opened = store.open_store()
        assert store.open_store() is opened
        for file in database.parent.glob("vatio.db*"):
            file.unlink()
        with pytest.raises(StoreError):
            store.open_store()


def test_the_web_process_cannot_write(full: Path) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    with store.open_store().engine.connect() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.execute(text("DELETE FROM host_sample"))


def test_the_app_opens_on_the_overview_with_its_filters(full: Path) -> None:
    app = AppTest.from_file(ROOT / "pages/shared/dashboard.py", default_timeout=30).run()
    assert not app.exception
    assert app.title[0].value == "Overview"
    assert app.toggle(key="live").value
    assert {box.key for box in app.selectbox} == {"vendor", "hardware", "language"}  # the others have nothing to choose


@pytest.mark.parametrize("page", ["fleet/accelerators", "fleet/device", "fleet/hosts"])
def test_filters_outlive_a_change_of_page(page: str, full: Path) -> None:
    app = AppTest.from_file(ROOT / "pages/shared/dashboard.py", default_timeout=30).run()
    app.selectbox(key="vendor").set_value("AMD").run()
    app.switch_page(f"../{page}.py").run()
    assert not app.exception
    assert app.selectbox(key="vendor").value == "AMD"


def test_the_app_says_which_setting_is_wrong(database: Path) -> None:
    (database.parent / "vatio.toml").write_text("[sit]\n")
    app = AppTest.from_file(ROOT / "pages/shared/dashboard.py", default_timeout=30).run()
    assert not app.exception
    assert "sit&#58; unknown key" in app.error[0].value


def test_nothing_but_the_package_file_lies_in_pages() -> None:
    """Streamlit serves any other file there by itself, past the frame."""
    assert [path.name for path in (ROOT / "pages").iterdir() if path.is_file()] == ["__init__.py"]


def test_no_page_lets_text_be_html() -> None:
    for file in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        source = file.read_text("utf-8")
        assert "unsafe_allow_html" not in source, file
        assert "st.html" not in source, file


def test_every_cached_loader_is_bounded() -> None:
    for file in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if "cache_data" in ast.unparse(decorator):
                    assert file.name in ("loaders.py", "weeks.py"), f"{file}: {node.name}"
                    assert {"ttl", "max_entries"} <= {k.arg for k in getattr(decorator, "keywords", [])}, node.name


def test_the_frame_is_small() -> None:
    assert len((ROOT / "pages/shared/dashboard.py").read_text("utf-8").splitlines()) <= 80


def test_one_s_own_range_lies_between_two_clock_times_of_the_site():
    zone, now_ms = ZoneInfo("America/Santiago"), 1_763_000_000_000
    one, other = datetime(2025, 11, 3, 10), datetime(2025, 11, 2, 22)
    found = between(one, other, zone, now_ms, 10_000)
    assert found == between(other, one, zone, now_ms, 10_000)  # whichever comes first
    assert found.start_ms == datetime(2025, 11, 2, 22, tzinfo=zone).timestamp() * 1000
    assert found.end_ms == datetime(2025, 11, 3, 10, tzinfo=zone).timestamp() * 1000
    assert found.step_ms == 300_000
    assert (found.words, found.is_fixed) == ("2025-11-02 22:00 to 2025-11-03 10:00", True)


@pytest.mark.parametrize("hours", [0.01, 1, 24, 24 * 56, 24 * 400])
def test_it_has_as_many_steps_as_a_screen_shows_and_none_of_the_future(hours: float):
    now_ms, zone = 1_763_000_000_000, ZoneInfo("UTC")
    end = datetime(2025, 11, 13)
    found = between(end - timedelta(hours=hours), end, zone, now_ms, 10_000)
    assert 1 <= (found.end_ms - found.start_ms) // found.step_ms <= 500
    assert found.end_ms <= now_ms + found.step_ms


def test_its_ends_are_asked_for_beside_it(full: Path):
    app = AppTest.from_file(ROOT / "pages/shared/dashboard.py", default_timeout=30)
    app.session_state["range"] = "custom"
    app.run()
    assert not app.exception
    assert app.session_state["from"] < app.session_state["to"]
    assert " to " in next(one.value for one in app.caption if "steps" in one.value)


def test_a_long_table_carries_each_of_a_few_texts_once() -> None:
    rows = LONG + 1
    names, hosts = [f"gpu {n}" for n in range(rows)], [f"host {n % 3}" for n in range(rows)]
    frame = pd.DataFrame({"name": names, "host": hosts, "power_watts": 1.0})
    assert few(frame) == ["host"]
    assert few(frame.head(LONG)) == []
