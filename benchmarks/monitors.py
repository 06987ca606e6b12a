"""Whole monitors watching the same things at the same interval: this machine and one vLLM page.

CPU and memory are of all processes a monitor needs. A sample is one stored number; each monitor is
asked how many it stored.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.page import serve_page
from benchmarks.processes import Usage, running, watch
from core.catalog import FAMILIES
from tests.stubs.nvml_host import NvmlHost, h100_host

ROOT = Path(__file__).parent.parent
WARM_UP_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Monitor:
    """One row of the comparison. ``usage`` is ``None`` where it is not installed."""

    name: str
    interval_seconds: float
    usage: Usage | None = None
    samples: float = 0.0
    note: str = ""


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def _measure(
    name: str, interval_seconds: float, roots: list[psutil.Process], seconds: float, samples: Callable[[], float]
) -> Monitor:
    time.sleep(WARM_UP_SECONDS)
    before = samples()
    usage = watch(roots, seconds)
    time.sleep(2)  # what was collected is on its way to the store
    return Monitor(name, interval_seconds, usage, samples() - before)


def _stored_by_vatio(path: Path) -> float:
    """Numbers in the sample tables and in the histograms; what is sealed meanwhile is counted in neither reading."""
    total = 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        for family in FAMILIES.values():
            columns = " + ".join(f"count({metric.name})" for metric in family.metrics)
            total += connection.execute(f"SELECT {columns} FROM {family.name}_sample").fetchone()[0]
        histograms = "SELECT coalesce(sum(json_array_length(increments) + 1), 0) FROM latency_sample"
        return total + float(connection.execute(histograms).fetchone()[0])


def vatio(scratch: Path, interval_seconds: float, seconds: float, *, gpus: bool) -> Monitor:
    """The daemon with its children; with a stub driver's eight H100 where asked for."""
    name = "Vatio, with 8 x H100 (stub)" if gpus else "Vatio"
    folder = scratch / f"vatio-{interval_seconds:g}-{gpus}"
    folder.mkdir()
    with serve_page() as port, ExitStack() as stack:
        config = folder / "vatio.toml"
        config.write_text(
            f'[storage]\nurl = "sqlite:///{folder / "vatio.db"}"\n'
            f"[collectors]\ninterval_seconds = {interval_seconds}\n"
            f"[serving]\nloopback_ports = [{port}]\n"
        )
        env = NvmlHost(folder, h100_host(8)).env if gpus else {}
        command = [sys.executable, "-m", "collectors", "--config", str(config), "run"]
        root = stack.enter_context(running(command, env=env, cwd=ROOT))
        return _measure(name, interval_seconds, [root], seconds, lambda: _stored_by_vatio(folder / "vatio.db"))


def prometheus(scratch: Path, interval_seconds: float, seconds: float) -> Monitor:
    """node_exporter and Prometheus, scraping node_exporter and the page."""
    name = "node_exporter + Prometheus"
    exporter, server = shutil.which("prometheus-node-exporter"), shutil.which("prometheus")
    if exporter is None or server is None:
        return Monitor(name, interval_seconds, note="not installed (Debian: prometheus prometheus-node-exporter)")
    folder = scratch / f"prometheus-{interval_seconds:g}"
    folder.mkdir()
    with serve_page() as port, ExitStack() as stack:
        jobs = [
            {"job_name": n, "static_configs": [{"targets": [f"127.0.0.1:{p}"]}]}
            for n, p in (("node", 19100), ("vllm", port))
        ]
        config = {
            "global": {"scrape_interval": f"{interval_seconds:g}s", "scrape_timeout": f"{interval_seconds:g}s"},
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        node = stack.enter_context(running([exporter, "--web.listen-address=127.0.0.1:19100"]))
        arguments = [
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            "--web.listen-address=127.0.0.1:19090",
        ]
        root = stack.enter_context(running([server, *arguments]))

        def appended() -> float:
            lines = _get("http://127.0.0.1:19090/metrics").decode().splitlines()
            return sum(
                float(line.split()[-1])
                for line in lines
                if line.startswith("prometheus_tsdb_head_samples_appended_total")
            )

        return _measure(name, interval_seconds, [node, root], seconds, appended)


def netdata(scratch: Path, interval_seconds: float, seconds: float) -> Monitor:
    """Netdata with its own defaults at this interval. It has no vLLM page configured."""
    name = "Netdata (machine only)"
    server = shutil.which("netdata")
    if server is None:
        return Monitor(name, interval_seconds, note="not installed (Debian: netdata)")
    folder = scratch / f"netdata-{interval_seconds:g}"
    folder.mkdir()
    options = [
        ("global", "run as user", "root"),
        ("global", "update every", f"{interval_seconds:g}"),
        ("db", "update every", f"{interval_seconds:g}"),
        ("global", "cache directory", str(folder)),
        ("directories", "cache", str(folder)),
        ("directories", "lib", str(folder)),
        ("web", "default port", "19999"),
        ("web", "bind to", "127.0.0.1"),
        ("registry", "enabled", "no"),
    ]
    arguments = [server, "-D", *(word for option in options for word in ("-W", "set", *option))]
    with running(arguments) as root:

        def dimensions() -> float:
            charts = json.loads(_get("http://127.0.0.1:19999/api/v1/charts"))["charts"].values()
            return float(sum(len(chart["dimensions"]) / max(chart["update_every"], 1) for chart in charts))

        time.sleep(WARM_UP_SECONDS)
        per_second = dimensions()
        usage = watch([root], seconds)
        return Monitor(
            name, interval_seconds, usage, per_second * usage.elapsed_seconds, "samples: dimensions x seconds"
        )


def all_monitors(scratch: Path, interval_seconds: float, seconds: float) -> Iterator[Monitor]:
    """Every monitor, one after the other."""
    yield vatio(scratch, interval_seconds, seconds, gpus=False)
    yield vatio(scratch, interval_seconds, seconds, gpus=True)
    for peer in (prometheus, netdata):
        try:
            yield peer(scratch, interval_seconds, seconds)
        except (RuntimeError, OSError, psutil.Error) as exc:
            yield Monitor(peer.__name__, interval_seconds, note=f"did not run: {exc}")
