from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from core.errors import StoreError
from storage import queries
from storage.engine import reader_engine
from tests.e2e.daemon import run, running, settings_file, until
from tests.fixtures.metrics_server import MetricsServer
from tests.stubs.nvml_host import NvmlHost, h100_host

PAGE = (Path(__file__).parents[1] / "fixtures/serving/vllm-current-two-models.prom").read_text()
INTERVAL = 0.5


def health(config: Path) -> pd.DataFrame:
    try:
        engine = reader_engine(config.parent / "vatio.db")
    except StoreError:
        return pd.DataFrame()
    found = queries.health(engine, 0)
    engine.dispose()
    return found.set_index(["source", "target"])


def ticks(config: Path, source: str, target: str = "") -> int:
    found = health(config)
    return int(found.loc[(source, target), "ticks"] - found.loc[(source, target), "failed"])  # type: ignore[operator]


def test_with_no_settings_this_machine_is_collected_and_ctrl_c_ends_cleanly(tmp_path: Path):
    config = settings_file(tmp_path)
    with running(config) as daemon:
        assert until(lambda: ticks(config, "cpu") >= 3 and ticks(config, "host") >= 3)
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(10) == 0
    log = (tmp_path / "daemon.log").read_text()
    assert "Traceback" not in log
    engine = reader_engine(tmp_path / "vatio.db")
    used = queries.latest(engine, "host")["cpu_utilization_ratio"].item()
    assert 0 <= used <= 1
    assert not (tmp_path / "vatio.db-wal").exists() or (tmp_path / "vatio.db-wal").stat().st_size == 0
    engine.dispose()


def test_a_second_daemon_is_refused_in_one_line(tmp_path: Path):
    config = settings_file(tmp_path)
    with running(config):
        assert until(lambda: ticks(config, "host") >= 1)
        second = run(config, "run")
    assert second.returncode == 3
    assert second.stderr.count("\n") == 1
    assert "another Vatio daemon (process" in second.stderr


def test_kill_nine_leaves_a_sound_database_that_goes_on(tmp_path: Path):
    config = settings_file(tmp_path)
    with running(config) as daemon:
        assert until(lambda: ticks(config, "host") >= 4)
        daemon.kill()
        killed_ms = time.time() * 1000
        daemon.wait()
    engine = reader_engine(tmp_path / "vatio.db")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    newest = queries.newest_sample_at_ms(engine)
    engine.dispose()
    assert newest is not None
    assert killed_ms - newest < 1000 + 3 * INTERVAL * 1000  # one flush of 1 s, the tick under way, a busy machine
    before = ticks(config, "host")
    with running(config):
        assert until(lambda: ticks(config, "host") > before)


@pytest.mark.parametrize("trouble", ["hang", "crash", "lose"])
def test_a_driver_in_trouble_costs_no_other_source_a_tick(tmp_path: Path, trouble: str):
    config = settings_file(tmp_path, interval_seconds=INTERVAL)
    world = NvmlHost(tmp_path, h100_host(8))
    with running(config, world.env):
        assert until(lambda: min(ticks(config, name) for name in ("nvidia", "host", "cpu")) >= 2)
        before, began = {name: ticks(config, name) for name in ("host", "cpu")}, time.monotonic()
        missed_at_start = health(config)["ticks_missed"].to_dict()
        if trouble == "lose":
            world.lose(3)
        else:
            getattr(world, trouble)()
        time.sleep(8 * INTERVAL)
        passed = (time.monotonic() - began) / INTERVAL
        assert until(lambda: all(ticks(config, name) - count >= passed - 1 for name, count in before.items()), 3)
        found = health(config)
        missed = found["ticks_missed"].to_dict()
        assert all(missed[name, ""] == missed_at_start[name, ""] for name in ("host", "cpu"))
        engine = reader_engine(tmp_path / "vatio.db")
        if trouble == "lose":
            events = queries.events(engine, 0, 1 << 62)
            assert {"xid", "device-lost"} <= set(events["kind"])
            age = queries.latest(engine, "accelerator")["observed_at"].sort_values()
            assert (age.iloc[-1] - age.iloc[0]).total_seconds() > 2 * INTERVAL, "seven go on, one stands still"
            assert len(age) == 8
        else:
            assert found.loc[("nvidia", ""), "failed"] >= 1  # type: ignore[operator]
            said = "no answer within" if trouble == "hang" else "SIGSEGV"
            assert said in str(found.loc[("nvidia", ""), "error"]) + str(found.loc[("nvidia", ""), "reason"])
        engine.dispose()


def test_a_server_on_a_known_port_appears_within_two_ticks(tmp_path: Path):
    with MetricsServer(PAGE) as server:
        config = settings_file(tmp_path, interval_seconds=1.0, ports=(server.port,))
        server.stop()
        with running(config):
            assert until(lambda: ticks(config, "host") >= 2)
            server.start()
            began = time.monotonic()

            def deployments() -> int:
                engine = reader_engine(tmp_path / "vatio.db")
                count = len(queries.entities(engine, "deployment"))
                engine.dispose()
                return count

            assert until(lambda: deployments() == 2, 10)
            assert time.monotonic() - began < 2 * 1.0 + 1.5  # two ticks, one flush


@pytest.mark.parametrize("mode", ["200 MB", "endless", "random bytes", "trickle body", "trickle headers", "500"])
def test_a_hostile_page_costs_its_own_ticks_and_nothing_else(tmp_path: Path, mode: str):
    with MetricsServer(PAGE) as good, MetricsServer(PAGE) as bad:
        config = settings_file(tmp_path, interval_seconds=1.0, ports=(good.port, bad.port))
        with running(config):
            assert until(lambda: health(config).index.get_level_values("source").tolist().count("serving") == 3)
            names = {name for source, name in health(config).index if source == "serving" and name}
            (victim,) = (name for name in names if str(bad.port) in name)
            (other,) = names - {victim}
            missed_at_start = health(config)["ticks_missed"].to_dict()
            bad.mode = mode
            assert until(lambda: health(config).loc[("serving", victim), "failed"] >= 1, 30)  # type: ignore[operator]
            error = str(health(config).loc[("serving", victim), "error"])
            bad.mode = ""
            healthy = ticks(config, "serving", victim)
            assert until(lambda: ticks(config, "serving", victim) > healthy, 20)
        found = health(config)
        assert error
        assert "\n" not in error
        assert found.loc[("serving", other), "failed"] == 0
        assert found.loc[("host", ""), "failed"] == 0
        assert found.loc[("host", ""), "ticks_missed"] == missed_at_start["host", ""]


def test_once_prints_every_reading_with_unit_and_source_and_stores_it(tmp_path: Path):
    config = settings_file(tmp_path)
    ran = run(config, "once", "--json")
    assert ran.returncode == 0, ran.stderr
    printed = json.loads(ran.stdout)
    metrics = {(row["source"], row["metric"]): row for row in printed if "metric" in row}
    assert metrics["host", "memory_used_bytes"]["unit"] == "B"
    assert metrics["host", "cpu_utilization_ratio"]["unit"] == "1"
    assert metrics["cpu", "utilization_ratio"]["key"] == "box/socket 0"
    engine = reader_engine(tmp_path / "vatio.db")
    stored = queries.latest(engine, "host")["memory_used_bytes"].item()
    engine.dispose()
    assert stored == metrics["host", "memory_used_bytes"]["value"]


def test_doctor_has_a_line_per_source_and_succeeds_where_one_works(tmp_path: Path):
    ran = run(settings_file(tmp_path), "doctor")
    assert ran.returncode == 0
    lines = [line.split()[:2] for line in ran.stdout.splitlines()]
    assert {name for _, name in lines} == {"nvidia", "amd", "cpu", "host", "serving", "exporters", "probe"}
    assert {verdict for verdict, _ in lines} <= {"PASS", "WARN", "FAIL"}
    assert ["PASS", "host"] in lines


def test_a_wrong_setting_is_one_line_and_exit_two(tmp_path: Path):
    config = settings_file(tmp_path, more="[colectors]\n")
    ran = run(config, "run")
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [f"{config}: colectors: unknown key; expected collectors?"]


def test_what_discovery_said_is_renewed_when_a_server_appears(tmp_path: Path):
    with MetricsServer(PAGE) as server:
        config = settings_file(tmp_path, ports=(server.port,))
        server.stop()
        with running(config):
            assert until(lambda: "no inference server" in str(health(config).loc[("serving", ""), "reason"]))
            server.start()
            assert until(lambda: str(health(config).loc[("serving", ""), "reason"]) == "")
