"""Pages with chosen numbers, in the shape that current vLLM and llama-server give theirs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collectors.scrape.exposition import Page
from collectors.scrape.fetch import Answer
from collectors.scrape.histograms import Cumulative
from collectors.sources.serving.engine import METRICS_PATH, Engine
from collectors.sources.serving.recognition import rewritten
from collectors.sources.serving.server import Scrape, Server
from core.readings import Latency

FIXTURES = Path(__file__).parents[2] / "fixtures" / "serving"
LE = ("0.1", "1.0", "+Inf")


def recorded(name: str) -> str:
    return (FIXTURES / f"{name}.prom").read_text()


def opened(text: str, path: str = METRICS_PATH) -> Scrape:
    """What the first answer of a server says."""
    return Server("http://server", "node1").open(Answer(rewritten(path, text.encode()), {}, 0.0), 0)


def read(text: str, path: str = METRICS_PATH) -> tuple[Engine, Mapping[str | None, Page]]:
    scrape = opened(text, path)
    return scrape.engine, scrape.models


def quantities(text: str, model: str | None) -> dict[str, float | None]:
    engine, models = read(text)
    return engine.read_quantities(models[model])


@dataclass(frozen=True)
class Figures:
    """What a person reads off a page about one model.

    Gauges and counters, those that are not listed being unknown; and of each latency how many observations there
    were and how many seconds they took, all its series together.
    """

    quantities: Mapping[str, float]
    latencies: Mapping[Latency, tuple[float, float]] = field(default_factory=dict)


def figures(text: str, path: str = METRICS_PATH) -> dict[str | None, Figures]:
    engine, models = read(text, path)
    return {
        model: Figures(
            {name: value for name, value in engine.read_quantities(page).items() if value is not None},
            {kind: _summed(found.values()) for kind, found in engine.read_histograms(page).items()},
        )
        for model, page in models.items()
    }


def _summed(found: Iterable[Cumulative]) -> tuple[float, float]:
    histograms = list(found)
    return (
        math.fsum(one.counts[-1] for one in histograms),
        math.fsum(math.nan if one.sum is None else one.sum for one in histograms),
    )


def vllm_page(
    *,
    model: str = "acme/tiny-1b",
    started: float | None = 1_760_000_000.25,
    prompt: float = 0,
    generated: float = 0,
    ttft: Sequence[int] | None = (0, 0, 0),
    ttft_sum: float = 0.0,
    le: Sequence[str] = LE,
) -> str:
    """One model; ``ttft`` holds cumulative counts, one per bound in ``le``."""
    labels = f'engine="0",model_name="{model}"'
    lines = [] if started is None else [f"process_start_time_seconds {started!r}"]
    lines += [
        f"vllm:num_requests_running{{{labels}}} 1.0",
        f"vllm:prompt_tokens_total{{{labels}}} {float(prompt)}",
        f"vllm:generation_tokens_total{{{labels}}} {float(generated)}",
    ]
    if ttft is not None:
        name = "vllm:time_to_first_token_seconds"
        lines += [
            f'{name}_bucket{{engine="0",le="{bound}",model_name="{model}"}} {float(count)}'
            for bound, count in zip(le, ttft, strict=True)
        ]
        lines += [f"{name}_count{{{labels}}} {float(ttft[-1])}", f"{name}_sum{{{labels}}} {ttft_sum}"]
    return "\n".join(lines) + "\n"


def llama_page(*, prompt: int = 0, cached: int = 0, generated: int = 0) -> str:
    return (
        f"llamacpp:prompt_tokens_total {prompt}\n"
        f"llamacpp:prompt_tokens_cached_total {cached}\n"
        f"llamacpp:tokens_predicted_total {generated}\n"
        "llamacpp:requests_processing 0\n"
    )


def llama_pages(page: str) -> Mapping[str, str]:
    return {
        "/metrics": page,
        "/v1/models": '{"data": [{"id": "/models/tiny.gguf", "owned_by": "llamacpp"}]}',
        "/props": '{"build_info": "b11434-abcdef0", "total_slots": 2}',
    }


def monotonic_header(seconds_ago: float) -> dict[str, str]:
    """What llama-server sends: microseconds of the machine's uptime at its start."""
    return {"Process-Start-Time-Unix": str(int((time.monotonic() - seconds_ago) * 1e6))}
