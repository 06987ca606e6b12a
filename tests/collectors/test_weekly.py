"""The command of the weekly summary, as the daemon starts it: here small commands of Python stand in its place."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import pytest

from collectors import weekly
from collectors.weekly import WeeklyCommand
from tests.e2e.daemon import until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weekly, "FIRST_SECONDS", 0.01)


def started(tmp_path: Path, text: str, config: str | None = None) -> WeeklyCommand:
    file = tmp_path / "command.py"
    file.write_text(text)
    found = WeeklyCommand(config, (sys.executable, str(file)))
    found.start()
    return found


def test_it_runs_soon_with_the_settings_of_the_daemon_and_at_a_lower_priority(tmp_path: Path):
    seen = tmp_path / "seen"
    text = f"import os, sys, time; time.sleep(0.3); open({str(seen)!r}, 'w').write(f'{{sys.argv[1:]}} {{os.nice(0)}}')"
    running = started(tmp_path, text, "vatio.toml")
    assert until(lambda: seen.exists() and seen.read_text() != "")
    running.stop()
    assert seen.read_text() == f"['--config', 'vatio.toml'] {min(os.nice(0) + weekly.LOWER_PRIORITY, 19)}"


@pytest.mark.parametrize(("status", "level"), [(0, logging.INFO), (3, logging.WARNING)])
def test_what_it_says_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, level: int):
    caplog.set_level(logging.INFO)
    running = started(tmp_path, f"print('kept week 2026-W46'); raise SystemExit({status})")
    assert until(lambda: bool(caplog.records))
    running.stop()
    (found,) = caplog.records
    assert (found.levelno, found.getMessage()) == (level, "weekly summary: kept week 2026-W46")


def test_a_run_may_finish_when_the_daemon_stops(tmp_path: Path):
    begun, done = tmp_path / "begun", tmp_path / "done"
    text = f"import time; open({str(begun)!r}, 'w'); time.sleep(1); open({str(done)!r}, 'w')"
    running = started(tmp_path, text)
    assert until(begun.exists)
    running.stop()
    assert done.exists()


def test_one_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weekly, "FINISH_SECONDS", 0.3)
    begun = tmp_path / "begun"
    running = started(tmp_path, f"import time; open({str(begun)!r}, 'w'); time.sleep(60)")
    assert until(begun.exists)
    before = time.monotonic()
    running.stop()
    assert time.monotonic() - before < 10
