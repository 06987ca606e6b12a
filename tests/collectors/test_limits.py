"""Pages of 20 MB: read within the limits, or refused with the reason; and what they cost others is nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from collectors.base import Source
from collectors.sources.exporters.source import ExportersSource
from collectors.sources.serving.source import ServingSource
from core.readings import AcceleratorSample, DeploymentSample, Outcome, TargetReport
from core.settings import ExporterTarget, ServerTarget
from core.units import MIB
from tests.collectors.exporters.pages import written
from tests.collectors.serving.collecting import collect, of
from tests.collectors.serving.pages import vllm_page
from tests.fixtures.metrics_server import MetricsServer

Opened = Callable[..., tuple[Source, MetricsServer]]

SERIES = 200_000
FILLER = "x" * 60


def foreign(count: int) -> str:
    return "".join(f'other_exporter_value{{series="{number:08d}",filler="{FILLER}"}} 1\n' for number in range(count))


def of_vllm(count: int) -> str:
    return "".join(
        f'vllm:num_requests_running{{model_name="{number:08d}",engine="{FILLER}"}} 1\n' for number in range(count)
    )


def of_dcgm(count: int) -> str:
    return "".join(
        f'DCGM_FI_DEV_GPU_TEMP{{UUID="GPU-{number:08d}",gpu="0",modelName="{FILLER}"}} 40\n' for number in range(count)
    )


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A source of two targets, of which the second has the page."""
    with ExitStack() as stack:

        def opened(kind: str, page: str, max_body_bytes: int) -> tuple[Source, MetricsServer]:
            good, large = (
                stack.enter_context(MetricsServer(one))
                for one in (vllm_page() if kind == "serving" else written("dcgm-h100"), page)
            )
            source: Source
            if kind == "serving":
                source = ServingSource(
                    "hub",
                    ports=(),
                    targets=[ServerTarget(url=good.url), ServerTarget(url=large.url)],
                    max_body_bytes=max_body_bytes,
                    deadline_seconds=20,
                )
            else:
                source = ExportersSource(
                    "hub",
                    targets=[ExporterTarget(url=good.url), ExporterTarget(url=large.url)],
                    file_sd=(),
                    max_body_bytes=max_body_bytes,
                    deadline_seconds=20,
                )
            stack.callback(source.close)
            return source, large

        yield opened


@pytest.mark.parametrize(
    ("kind", "page", "max_body_bytes", "reason"),
    [
        ("serving", vllm_page() + foreign(SERIES), 16 * MIB, "body exceeds 16 MiB"),
        ("serving", vllm_page() + foreign(SERIES), 64 * MIB, "more than 200000 lines"),
        ("serving", of_vllm(SERIES - 1), 64 * MIB, "more than 2 MiB of series"),
        ("exporters", of_dcgm(SERIES), 16 * MIB, "body exceeds 16 MiB"),
        ("exporters", of_dcgm(SERIES + 1), 64 * MIB, "more than 200000 lines"),
        ("exporters", of_dcgm(SERIES), 64 * MIB, "more than 20000 things on one page"),
    ],
)
def test_a_page_beyond_a_limit_is_refused_with_the_limit(
    opened: Opened, kind: str, page: str, max_body_bytes: int, reason: str
):
    assert len(page) >= 19_000_000
    source, _ = opened(kind, page, max_body_bytes)
    readings = collect(source)
    good, large = of(TargetReport, readings)
    assert (good.outcome, large.outcome, large.error) == (Outcome.OK, Outcome.FAILED, reason)
    assert 0 < len([*of(DeploymentSample, readings), *of(AcceleratorSample, readings)]) <= 8


def test_a_page_within_the_limits_is_read_whatever_else_is_on_it(opened: Opened):
    around = foreign((SERIES - 1_000) // 2)
    page = around + vllm_page(generated=7) + around
    assert len(page) >= 19_000_000
    source, large = opened("serving", page, 64 * MIB)
    for generated in (7, 9):
        large.show(around + vllm_page(generated=generated) + around)
        readings = collect(source)
        assert [report.outcome for report in of(TargetReport, readings)] == [Outcome.OK, Outcome.OK]
        sample = next(sample for sample in of(DeploymentSample, readings) if sample.key.startswith(large.url))
        assert sample.generation_tokens_total == generated
