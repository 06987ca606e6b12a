"""ops/health: what is absent is not a failure, what failed says why, and money is counted against its cap."""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from core.health import SourceStatus
from core.readings import Event, Severity
from storage.batch import Batch
from storage.engine import writer_engine
from storage.spend import StoredSpend
from storage.spool import Spool
from storage.writer import Writer
from tests.pages.additions import add, configure, metric, said, tick
from tests.pages.conftest import Open
from tests.pages.databases import DEPLOYMENT, HOST, HOSTILE

HEALTH = "ops/health"


def now_ms() -> int:
    return int(time.time() * 1000)


def status(source: str, *, available: bool, absent: bool, reason: str, remedy: str = "") -> SourceStatus:
    return SourceStatus(
        host=HOST,
        source=source,
        available=available,
        absent=absent,
        reason=reason,
        remedy=remedy,
        checked_at_ms=now_ms(),
    )


def states(test):
    frame = next(table.value for table in test.dataframe if "state" in table.value)
    return {f"{row.source} {row.target}".strip(): row.state for row in frame.itertuples()}


def test_without_a_database_it_says_so(database: Path, open_page: Open):
    assert "Nothing has been measured yet" in said(open_page(HEALTH))


def test_an_empty_database_has_no_sources_and_no_verdict(empty: Path, open_page: Open):
    test = open_page(HEALTH)
    assert "No source has reported yet" in said(test)
    assert not test.success
    assert metric(test, "Sources delivering") == "unknown"


def test_sources_are_counted_and_a_partial_one_is_explained(full: Path, open_page: Open):
    test = open_page(HEALTH)
    assert [box.value for box in test.success] != []
    text = said(test)
    assert "4 of 5 sources well; cpu: energy of socket 1 cannot be read" in text
    assert "Remedy: give the daemon read access to powercap" in text
    assert states(test)["cpu"] == "◐ works in part"
    assert metric(test, "Sources delivering") == "5 of 5"


def test_what_is_absent_is_not_here_rather_than_failed(cpu_only: Path, open_page: Open):
    test = open_page(HEALTH)
    text = said(test)
    assert states(test)["nvidia"] == "○ not here"
    assert "libnvidia-ml.so.1 was not found" in text
    assert "Remedy: install the NVIDIA driver" in text
    assert not test.error
    assert not test.warning
    assert metric(test, "Sources delivering") == "2 of 3"  # there is no server that could have ticked
    assert states(test)["serving"] == "… not ticked yet"


def test_what_is_here_but_cannot_be_read_is_a_finding(full: Path, open_page: Open):
    reason, remedy = "permission denied on /dev/kfd", "add the user to the render group"
    add(full, statuses=[status("amd", available=False, absent=False, reason=reason, remedy=remedy)])
    test = open_page(HEALTH)
    assert states(test)["amd"] == "✕ not available"
    assert "amd is not available: permission denied on /dev/kfd" in said(test)
    assert test.warning


def test_a_failed_tick_and_a_failed_target_show_their_error(full: Path, open_page: Open):
    url, at = "http://10.0.0.7:8000/metrics", now_ms() + 1
    add(full, ticks=[tick("nvidia", at, error="driver lost"), tick("serving", at, target=url, error="timed out")])
    test = open_page(HEALTH)
    assert states(test)["nvidia"] == "✕ failed"
    assert states(test)[f"serving {url}"] == "✕ failed"
    text = said(test)
    assert "nvidia failed: driver lost" in text
    assert "10.0.0.7:8000/metrics failed: timed out" in text
    assert states(test)["serving"].startswith("✓")
    assert next(iter(states(test).values())) == "✕ failed"  # worst first


def test_a_daemon_that_stopped_is_silent(stale: Path, open_page: Open):
    test = open_page(HEALTH)
    assert set(states(test).values()) == {"✕ silent"}
    assert "host is silent" in said(test)


def test_missed_ticks_and_dropped_batches_are_shown(full: Path, open_page: Open):
    add(full, ticks=[tick("host", now_ms() - 61_234, missed=7)], facts={"batches_dropped": "3"})
    test = open_page(HEALTH)
    assert metric(test, "Ticks missed") == "7"
    assert metric(test, "Batches dropped") == "3"
    assert [box for box in test.error if "3 batches were dropped" in box.value]


def test_spend_of_probes_stands_against_the_cap(full: Path, open_page: Open):
    configure(
        full,
        '[[probe]]\nname = "hosted"\nurl = "https://api.example.com/v1"\nmodel = "m"\nmonthly_cap_usd = 2.0\n'
        "usd_per_million_input_tokens = 1.0\nusd_per_million_output_tokens = 4.0\n"
        '[[probe]]\nname = "own"\nurl = "http://127.0.0.1:8000/v1"\nmodel = "m"\n',
    )
    writer = Writer(writer_engine(full), host=HOST)
    writer.start()
    assert StoredSpend(writer).reserve("hosted", time.strftime("%Y-%m", time.gmtime()), 0.5, 2.0)
    writer.stop()
    frame = next(table.value for table in open_page(HEALTH).dataframe if "spent_usd" in table.value)
    rows = {row.endpoint: row for row in frame.itertuples()}
    assert (rows["hosted"].spent_usd, rows["hosted"].cap_usd, rows["hosted"].used_ratio) == (
        0.5,
        2.0,
        25.0,
    )  # as people read it
    assert rows["own"].spent_usd == 0.0
    assert rows["own"].cap_usd != rows["own"].cap_usd  # no price, no cap


def test_without_probes_nothing_is_spent(full: Path, open_page: Open):
    assert "so nothing is spent" in said(open_page(HEALTH))


def test_the_store_lists_its_tables(full: Path, open_page: Open):
    frame = next(table.value for table in open_page(HEALTH).dataframe if "table" in table.value)
    rows = dict(zip(frame["table"], frame["rows"], strict=True))
    assert rows["accelerator_sample"] == 2 * 121
    assert rows["collector_tick"] == 5 * 121


def test_what_waits_in_the_spool_is_shown_and_said(full: Path, open_page: Open):
    spool = Spool(full.with_name(f"{full.name}.spool"), max_bytes=1 << 20)
    for _ in range(4):
        spool.append(Batch(ticks=(tick("host", now_ms()),)))
    test = open_page(HEALTH)
    assert metric(test, "Batches waiting") == "4"
    assert [box for box in (*test.warning, *test.error) if "4 batches wait on disk" in box.value]


def test_a_clock_that_was_set_is_said(full: Path, open_page: Open):
    message = "the clock was set back by 3,600 s"
    add(full, Event(observed_at_ms=now_ms() - 60_000, kind="clock", severity=Severity.WARNING, message=message))
    test = open_page(HEALTH)
    assert [box for box in (*test.warning, *test.error) if "set back by 3,600 s" in box.value]


def test_unknown_metrics_are_listed_newest_per_server(full: Path, open_page: Open):
    assert "Unknown metrics" not in said(open_page(HEALTH))

    def news(at_ms: int, key: str, names: str) -> Event:
        return Event(
            observed_at_ms=at_ms,
            kind="unknown metrics",
            severity=Severity.INFO,
            message=names,
            family="deployment",
            key=key,
        )

    month = 30 * 86_400_000
    add(full, news(now_ms() - month, DEPLOYMENT, "old_name"), news(now_ms() - 5_000, DEPLOYMENT, HOSTILE))
    st.cache_data.clear()
    test = open_page(HEALTH)
    assert "Unknown metrics" in said(test)
    frame = next(table.value for table in test.dataframe if "names" in table.value)
    assert frame["server"].tolist() == [DEPLOYMENT]
    assert "old_name" not in frame["names"].iloc[0]
    assert frame["since_at"].notna().all()


def test_health_says_what_runs_where(full: Path, open_page: Open):
    test = open_page(HEALTH)
    assert "What runs where" in said(test)
    assert any("known_by" in table.value for table in test.dataframe)
