"""The daemon's own metrics page between real processes: daemon to daemon, and daemon to Prometheus."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from collectors.base import now_ms
from collectors.past import LAID_DOWN
from core.settings import SOURCE_NAMES
from storage import schema
from storage.engine import reader_engine
from storage.session import writing
from storage.writer import write_fact
from tests.e2e.daemon import running, settings_file, until

INTERVAL = 1.0
FAMILIES = ("accelerator", "cpu", "host", "deployment")
Rows = dict[tuple[Any, ...], tuple[Any, ...]]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def without_history(folder: Path) -> None:
    """A store in which the simulated past reaches up to now, so that no more of it is laid down."""
    with writing(folder / "vatio.db", host="box") as writer:
        writer.call(lambda connection: write_fact(connection, LAID_DOWN, str(now_ms())))


@contextlib.contextmanager
def simulated_daemon(folder: Path, port: int, *, token: str = "") -> Iterator[subprocess.Popen[bytes]]:
    without_history(folder)
    guarded = 'token_env = "VATIO_PAGE_TOKEN"\n' if token else ""
    config = settings_file(folder, interval_seconds=INTERVAL, more=f'[metrics]\nlisten = "127.0.0.1:{port}"\n{guarded}')
    with running(config, {"VATIO_SIMULATED": "true"} | ({"VATIO_PAGE_TOKEN": token} if token else {})) as process:
        assert until(lambda: listens(port))
        yield process


@contextlib.contextmanager
def hub_daemon(folder: Path, page_port: int, port: int, token: str) -> Iterator[subprocess.Popen[bytes]]:
    config = settings_file(
        folder,
        interval_seconds=INTERVAL,
        more=f'[metrics]\nlisten = "127.0.0.1:{port}"\n[[exporters.target]]\nurl = "http://127.0.0.1:{page_port}"\n'
        'api_key_env = "VATIO_PAGE_TOKEN"\n',
    )
    disabled = [name for name in SOURCE_NAMES if name != "exporters"]
    env = {
        "VATIO_COLLECTORS__HOST_NAME": "hub",
        "VATIO_COLLECTORS__DISABLED": json.dumps(disabled),
        "VATIO_PAGE_TOKEN": token,
    }
    with running(config, env) as process:
        yield process


def rows(folder: Path, table: Any, *key: Any) -> Rows:
    """Everything in a table by entity and the given columns; the other columns in order."""
    engine = reader_engine(folder / "vatio.db")
    entity, kept = schema.entity, [column for column in table.c if column not in (table.c.entity_id, *key)]
    statement = select(entity.c.key, *key, *kept).join(entity, entity.c.entity_id == table.c.entity_id)
    with engine.connect() as connection:
        found = {tuple(row[: 1 + len(key)]): tuple(row[1 + len(key) :]) for row in connection.execute(statement)}
    engine.dispose()
    return found


def samples(folder: Path, family: str) -> Rows:
    table = schema.samples[family]
    return rows(folder, table, table.c.observed_at_ms)


def instants(found: Rows) -> set[int]:
    return {key[-1] for key in found}


def entities(folder: Path) -> set[tuple[Any, ...]]:
    engine = reader_engine(folder / "vatio.db")
    table = schema.entity.c
    statement = select(table.family, table.key, table.host, table.parent_key, table.labels)
    with engine.connect() as connection:
        found = {tuple(row) for row in connection.execute(statement.where(table.family != "probe"))}
    engine.dispose()
    return found


def assignments(folder: Path) -> set[tuple[str, str, str]]:
    engine = reader_engine(folder / "vatio.db")
    table, deployment, target = schema.assignment, schema.entity.alias(), schema.entity.alias()
    statement = (
        select(deployment.c.key, target.c.key, table.c.origin)
        .join(deployment, deployment.c.entity_id == table.c.deployment_id)
        .join(target, target.c.entity_id == table.c.target_id)
    )
    with engine.connect() as connection:
        found = {(row[0], row[1], row[2]) for row in connection.execute(statement)}
    engine.dispose()
    return found


def test_a_hub_stores_the_rows_that_the_daemon_stores(tmp_path: Path):
    near, hub = tmp_path / "near", tmp_path / "hub"
    near.mkdir()
    hub.mkdir()
    port, other_port = free_ports(2)
    with simulated_daemon(near, port, token="s3cret") as daemon:
        with hub_daemon(hub, port, other_port, "s3cret"):
            assert until(lambda: len(instants(samples(hub, "accelerator"))) >= 6)
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(10) == 0
    for folder in (near, hub):
        assert "Traceback" not in (folder / "daemon.log").read_text()
        assert "s3cret" not in (folder / "daemon.log").read_text()
    for family in FAMILIES:
        here, there = samples(near, family), samples(hub, family)
        assert there.items() <= here.items(), family
        watched = {at_ms for at_ms in instants(here) if min(instants(there)) <= at_ms <= max(instants(there))}
        assert len(instants(there)) >= 6
        assert len(watched - instants(there)) <= 1, "every tick is seen but where the two clocks nearly meet"
    assert entities(hub) == entities(near)
    assert assignments(hub) == assignments(near)
    same_latencies(near, hub)


def same_latencies(near: Path, hub: Path) -> None:
    """Counts are equal; a sum that is a difference of two has lost its last bits."""
    table = schema.latency_sample
    key = (table.c.kind, table.c.observed_at_ms)
    here, there = rows(near, table, *key), rows(hub, table, *key)
    equal = 0
    for identity, (_, increments, sum_seconds) in there.items():
        _, expected, expected_sum = here[identity]
        if json.loads(increments) == json.loads(expected):
            equal += 1
            assert sum_seconds == pytest.approx(expected_sum, rel=1e-9, abs=1e-9)
    assert equal >= len(there) * 0.8 > 0, "but where a tick was not seen, whose requests are in the next one"


def test_a_wrong_token_and_a_port_that_is_taken_are_told_and_end_nothing(tmp_path: Path):
    near, hub = tmp_path / "near", tmp_path / "hub"
    near.mkdir()
    hub.mkdir()
    (port,) = free_ports(1)
    with simulated_daemon(near, port, token="s3cret"), hub_daemon(hub, port, port, "guess") as other:
        assert until(lambda: "the key in VATIO_PAGE_TOKEN is refused" in (hub / "daemon.log").read_text())
        assert other.poll() is None
    log = (hub / "daemon.log").read_text()
    assert log.count("no metrics page: cannot listen") == 1
    assert "guess" not in log
    assert samples(hub, "accelerator") == {}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here (Debian: apt install prometheus)")
def test_prometheus_scrapes_the_page_without_an_error(tmp_path: Path):
    port, own = free_ports(2)
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: vatio, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]

    def ask(query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{own}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    with simulated_daemon(tmp_path, port), (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)
        try:
            assert until(lambda: ask("count(count_over_time(hw_power_watts[1m]) >= 3)") != [])
            assert [found["value"][1] for found in ask("up")] == ["1"]
            joined = ask(
                "sum by (label_model) (hw_power_watts * on (hw_id) group_left (label_model) vatio_accelerator_info)"
            )
            assert {found["metric"]["label_model"] for found in joined} == {
                *("NVIDIA H100 80GB HBM3", "NVIDIA L40S", "AMD Instinct MI300X", "AMD Instinct MI300X VF")
            }
            per_deployment = ask("sum by (deployment) (hw_power_watts * on (hw_id) group_right vatio_assignment_info)")
            assert len(per_deployment) == 8
            said = (tmp_path / "prometheus.log").read_text()
        finally:
            prometheus.terminate()
            prometheus.wait(10)
    assert not [line for line in said.splitlines() if "level=warn" in line or "level=error" in line]
