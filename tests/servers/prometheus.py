"""A real Prometheus that scrapes one endpoint every few milliseconds and answers queries."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.servers.launch import free_port

PROGRAM = shutil.which("prometheus")
SCRAPE_INTERVAL = "50ms"
START_SECONDS = 60

Vector = list[tuple[dict[str, str], float]]


class Prometheus:
    """Questions to its API; instants are Unix milliseconds."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    @property
    def version(self) -> str:
        return str(self._client.get("/api/v1/status/buildinfo").json()["data"]["version"])

    @property
    def ready(self) -> bool:
        with suppress(httpx.TransportError):
            return self._client.get("/-/ready").is_success
        return False

    def vector(self, expression: str, at_ms: int) -> Vector:
        """One value per series."""
        return [(one["metric"], float(one["value"][1])) for one in self._ask(expression, at_ms)]

    def value(self, expression: str, at_ms: int) -> float:
        """The value of an expression that has one; NaN where it has none."""
        found = self.vector(expression, at_ms)
        assert len(found) <= 1, found
        return found[0][1] if found else math.nan

    def samples(self, selector: str, at_ms: int) -> list[list[tuple[int, float]]]:
        """Everything stored of each series that a range selector finds."""
        found = self._ask(selector, at_ms)
        return [[(round(at * 1000), float(value)) for at, value in one["values"]] for one in found]

    def _ask(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        question = {"query": expression, "time": f"{at_ms / 1000:.3f}"}
        answer = self._client.post("/api/v1/query", data=question)
        assert answer.is_success, answer.text
        return list(answer.json()["data"]["result"])

    def close(self) -> None:
        self._client.close()


@contextmanager
def prometheus(directory: Path, target_port: int) -> Iterator[Prometheus]:
    """Scrape what listens there; time stamps on the page are honoured, so an hour passes as fast as pages come.

    A block as long as a day makes Prometheus take samples that are half a day older than its newest one, which
    is the ``up`` of its own clock.
    """
    config, port = directory / "prometheus.yml", free_port()
    target = {"job_name": "hour", "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}
    pace = {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL}
    config.write_text(json.dumps({"scrape_configs": [target | pace]}), "utf-8")  # JSON is YAML
    command = [
        *(str(PROGRAM), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"),
        *(f"--storage.tsdb.path={directory / 'tsdb'}", "--storage.tsdb.min-block-duration=1d"),
    ]
    log = directory / "prometheus.log"
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    asked = Prometheus(f"http://127.0.0.1:{port}")
    try:
        until = time.monotonic() + START_SECONDS
        while not asked.ready:
            assert process.poll() is None, f"Prometheus ended with {process.returncode} (see {log})"
            assert time.monotonic() < until, f"Prometheus was not ready in time (see {log})"
            time.sleep(0.1)
        yield asked
    finally:
        asked.close()
        process.send_signal(signal.SIGTERM)
        process.wait()
