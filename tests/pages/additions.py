"""More than ``databases`` lays down: further readings, ticks and statuses, and settings to go with them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from streamlit.testing.v1 import AppTest

from collectors.base import Source
from collectors.sources.exporters.source import ExportersSource
from collectors.sources.serving.source import ServingSource
from core.health import SourceStatus, TickReport
from core.readings import (
    AcceleratorSample,
    DeploymentSample,
    DeviceProcess,
    Entity,
    Event,
    Latency,
    LatencySample,
    Outcome,
    ProbeSample,
    Reading,
    Severity,
    TargetReport,
)
from core.settings import ExporterTarget, ServerTarget
from core.units import MIB
from storage.batch import Batch
from storage.engine import writer_engine
from storage.writer import Writer, write_fact
from tests.collectors.serving.pages import vllm_page
from tests.fixtures.metrics_server import MetricsServer
from tests.pages.databases import BOUNDS, HOST


def add(
    path: Path,
    *readings: Reading,
    ticks: Sequence[TickReport] = (),
    statuses: Sequence[SourceStatus] = (),
    facts: dict[str, str] | None = None,
) -> None:
    """Write to a database that is there already."""
    writer = Writer(writer_engine(path), host=HOST, flush_seconds=0.0)
    writer.start()
    try:
        writer.submit(Batch(readings, tuple(ticks), tuple(statuses)))
        for name, value in (facts or {}).items():
            writer.call(partial(write_fact, name=name, value=value))
    finally:
        writer.stop()


def tick(source: str, at_ms: int, *, target: str = "", error: str = "", missed: int = 0) -> TickReport:
    """One tick, failed if it has an error."""
    return TickReport(
        host=HOST,
        source=source,
        target=target,
        scheduled_at_ms=at_ms,
        outcome=Outcome.FAILED if error else Outcome.OK,
        duration_seconds=0.25,
        readings=1,
        ticks_missed=missed,
        error=error,
    )


def configure(database: Path, toml: str) -> None:
    """Add to the settings that ``database`` made."""
    file = database.with_name("vatio.toml")
    file.write_text(f"{file.read_text()}\n{toml}\n")


def said(test: AppTest) -> str:
    """Every text of a page, as people read it."""
    assert not test.exception, test.exception
    parts = [*test.success, *test.info, *test.warning, *test.error, *test.markdown, *test.caption, *test.text]
    metrics = [f"{metric.label} = {metric.value}" for metric in test.metric]
    return html.unescape("\n".join([*(part.value for part in parts), *metrics]))


ATTACKS = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "[click](javascript:alert(3)) ![p](http://127.0.0.1:9/p.png) :red[z] $x$ `y` **b**",
    "'; DROP TABLE entity; -- \" \\ \n\r\u202e =1+1",
    "<h1>" + "A" * 1_000_000,
)
"""Names that a server may give its model: HTML, Markdown, SQL, control characters, a megabyte."""


def attacked(at_ms: int) -> list[Reading]:
    """A deployment, a probe of an endpoint, a device and an event for each of these names."""
    readings: list[Reading] = []
    for number, name in enumerate(ATTACKS):
        labels = {"model": name, "engine": name, "url": f"http://h{number}/{name}", "version": name}
        key = f"http://h{number} {name}"[:1_000]
        readings += [
            Entity(observed_at_ms=at_ms, family="deployment", key=key, host=HOST, labels=labels),
            Entity(observed_at_ms=at_ms, family="accelerator", key=f"GPU {number}", host=HOST, labels=labels),
            Entity(
                observed_at_ms=at_ms, family="probe", key=f"p{number}", host=HOST, labels={**labels, "url": "http://x"}
            ),
            ProbeSample(key=f"p{number}", observed_at_ms=at_ms, outcome=Outcome.OK, tpot_seconds=0.1, error=name),
            AcceleratorSample(key=f"GPU {number}", observed_at_ms=at_ms, processes=1, utilization_ratio=0.5),
            DeviceProcess(key=f"GPU {number}", observed_at_ms=at_ms, pid=number, name=name),
            DeploymentSample(key=key, observed_at_ms=at_ms, waiting_requests=3.0, running_requests=1.0),
            *(
                LatencySample(
                    key=key,
                    kind=kind,
                    observed_at_ms=at_ms,
                    upper_bounds_seconds=BOUNDS,
                    increments=(9.0,) * len(BOUNDS),
                    sum_seconds=1.0,
                )
                for kind in (Latency.TTFT, Latency.ITL, Latency.E2E)
            ),
            Event(
                observed_at_ms=at_ms,
                kind="unknown metrics",
                severity=Severity.WARNING,
                message=name,
                family="deployment",
                key=key,
            ),
        ]
    return readings


def scraped() -> list[Reading]:
    """What sources make of a server and an exporter that call their models so; some names are not even UTF-8."""
    names = [_escaped(name) for name in ATTACKS]
    served = "".join(vllm_page(model=name, ttft=(1, 2, 3), generated=number) for number, name in enumerate(names))
    devices = "".join(
        f'DCGM_FI_DEV_GPU_TEMP{{gpu="{number}",UUID="GPU-{number}{name}",modelName="{name}",Hostname="{name}"}} 40\n'
        for number, name in enumerate(names)
    )
    broken = b'"} 1\nvllm:num_requests_running{model_name="\xff\xfe"} 1\n'
    with MetricsServer(served.encode() + broken) as server, MetricsServer(devices) as exporter:
        sources: tuple[Source, ...] = (
            ServingSource(
                HOST, ports=(), targets=[ServerTarget(url=server.url)], max_body_bytes=16 * MIB, deadline_seconds=10
            ),
            ExportersSource(
                HOST,
                targets=[ExporterTarget(url=exporter.url)],
                file_sd=(),
                max_body_bytes=16 * MIB,
                deadline_seconds=10,
            ),
        )
        readings = [reading for _ in range(2) for source in sources for reading in source.collect()]
        for source in sources:
            source.close()
    return [reading for reading in readings if not isinstance(reading, TargetReport)]


def _escaped(text: str) -> str:
    """As the text format has it."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def metric(test: AppTest, label: str) -> str:
    """The large text of the first tile with that label."""
    return next(str(one.value) for one in test.metric if html.unescape(one.label) == label)
