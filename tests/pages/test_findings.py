"""What counts as wrong, and since when."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from core.readings import Severity, Throttle
from core.settings import Settings
from pages.fleet import findings
from pages.shared.filters import View, current
from tests.pages import databases

HOT, CAPPED = int(Throttle.HARDWARE_THERMAL), int(Throttle.POWER_CAP)


@pytest.fixture
def view(now_ms: int) -> View:
    return current(Settings(), now_ms=now_ms)


def states(*bits: int | None) -> pd.DataFrame:
    at = pd.date_range("2026-11-23T12:00Z", periods=len(bits), freq="10s")
    return pd.DataFrame({"observed_at": at, "throttle_reasons": [float("nan") if b is None else b for b in bits]})


@pytest.mark.parametrize(
    ("bits", "position"),
    [
        ((0, CAPPED, HOT, HOT), 2),
        ((HOT, 0, HOT | CAPPED), 2),
        ((HOT, HOT), None),  # for longer than was looked back
        ((0, None, HOT), 2),
        ((HOT, 0), None),  # over by now
    ],
)
def test_a_slowdown_began_with_the_first_of_the_present_run(bits: tuple[int | None, ...], position: int | None) -> None:
    seen = states(*bits)
    expected = None if position is None else seen["observed_at"].iloc[position]
    assert findings._began(seen) == expected


def host(**changes: float) -> pd.DataFrame:
    sound: dict[str, object] = {
        "name": "node",
        "stale": False,
        "memory_used_bytes": 10.0,
        "memory_total_bytes": 100.0,
        "disk_used_bytes": 10.0,
        "disk_total_bytes": 100.0,
        "memory_pressure_ratio": 0.0,
        "io_pressure_ratio": float("nan"),
    }
    return pd.DataFrame([sound | changes])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"disk_used_bytes": 96.0}, ["node: disk is 96% full"]),
        ({"memory_used_bytes": 99.0, "io_pressure_ratio": 0.4}, ["memory is 99% full", "wait for io 40% of the time"]),
        ({"memory_total_bytes": float("nan")}, []),
        ({"stale": True, "disk_used_bytes": 96.0}, []),  # not known any more
    ],
)
def test_strained_hosts(changes: dict[str, float], words: list[str]) -> None:
    found = [finding.text for finding in findings.strained(host(**changes))]
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("action", "remap", "words"),
    [
        (0.0, 0.0, []),
        (float("nan"), float("nan"), []),
        (2.0, 1.0, ["asks for a reboot of the node"]),
        (7.0, 3.0, ["asks for recovery action 7", "replace the board"]),
    ],
)
def test_devices_that_ask_for_a_hand(action: float, remap: float, words: list[str]) -> None:
    found = findings.broken(pd.DataFrame([{"name": "gpu", "recovery_action": action, "row_remap_state": remap}]))
    assert all(finding.severity is Severity.CRITICAL for finding in found)
    assert [word for word, finding in zip(words, found, strict=True) if word in finding.text] == words


def test_what_was_silent_for_a_day_was_taken_away(full: Path, view: View) -> None:
    ages = {"lost": 120, "removed": 2 * 86_400}
    frame = pd.DataFrame(
        {
            "name": list(ages),
            "stale": True,
            "observed_at": [pd.Timestamp(view.now) - pd.Timedelta(seconds=age) for age in ages.values()],
        }
    )
    (found,) = findings.silent(frame, "accelerator", view)
    assert found.text == "1 accelerator has stopped reporting: lost"
    assert found.since == frame["observed_at"].iloc[0]


def test_nothing_is_called_silent_while_the_collector_is(stale: Path, view: View) -> None:
    frame = pd.DataFrame({"name": ["a"], "stale": True, "observed_at": [datetime.now(UTC)]})
    assert findings.silent(frame, "accelerator", view) == []


def test_a_failing_source_is_named_with_its_error(database: Path, now_ms: int, view: View) -> None:
    databases.write(database, now_ms, minutes=2, failing=("nvidia", "NVML_ERROR_GPU_IS_LOST"))
    (found,) = findings.sources(view)
    assert found.text == f"nvidia on {databases.HOST} fails: NVML_ERROR_GPU_IS_LOST"
    assert found.since is not None
    assert findings.sources(view.__class__(**{n: getattr(view, n) for n in View.__slots__} | {"host": "other"})) == []
