"""Pages recorded from real inference servers, where ``VATIO_SAMPLES`` names a folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collectors.sources.serving.names import Census
from collectors.sources.serving.recognition import engine_of
from core.readings import Latency
from tests.collectors.serving.pages import Figures, figures, opened

FOLDER = os.environ.get("VATIO_SAMPLES")
ENGINES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "lmdeploy": "LMDeploy",
    "nim": "NIM",
    "llamacpp": "llama.cpp",
    "litellm": "LiteLLM",
}
PAGES = [path for name in ENGINES for path in sorted(Path(FOLDER or "/nowhere", name).glob("*.prom"))]
OTHERS = [
    path
    for path in sorted(Path(FOLDER or "/nowhere").rglob("*"))
    if path.is_file() and path.relative_to(FOLDER or "/nowhere").parts[0] not in ENGINES
]

pytestmark = pytest.mark.skipif(not PAGES, reason="VATIO_SAMPLES names no folder with pages of inference servers")


def vllm(
    latencies: dict[Latency, tuple[float, float]], *, usage: float = 0, preemptions: float = 0, **counts: float
) -> dict[str | None, Figures]:
    """vLLM's pages here: no prompt was cached, and nothing failed."""
    nothing = dict.fromkeys(
        (
            "cached_prompt_tokens_total",
            "failed_requests_total",
            "aborted_requests_total",
            "rejected_requests_total",
            "prefix_cache_hits_tokens_total",
        ),
        0.0,
    )
    known = {
        **nothing,
        **counts,
        "kv_cache_usage_ratio": usage,
        "preemptions_total": preemptions,
        "prefix_cache_queries_tokens_total": counts["prompt_tokens_total"],
    }
    return {"tiny-llama": Figures(known, latencies)}


READ_OFF: dict[str, dict[str | None, Figures]] = {
    "vllm-0.32.0-idle": vllm(
        dict.fromkeys(Latency, (0, 0)),
        running_requests=0,
        waiting_requests=0,
        prompt_tokens_total=0,
        generation_tokens_total=0,
        succeeded_requests_total=0,
    ),
    "vllm-0.32.0-midload": vllm(
        {
            Latency.TTFT: (38, 5.309381484985352),
            Latency.ITL: (1433, 7.370760551998728),
            Latency.TPOT: (30, 0.15645824689435256),
            Latency.E2E: (30, 10.72042965888977),
            Latency.QUEUE: (30, 3.7002458620002017),
            Latency.PREFILL: (30, 0.5298745370000688),
            Latency.DECODE: (30, 5.903866992999383),
        },
        usage=0.0010987669393236477,
        running_requests=8,
        waiting_requests=0,
        prompt_tokens_total=1882,
        generation_tokens_total=1471,
        succeeded_requests_total=30,
    ),
    "vllm-0.32.0-after": vllm(
        {
            Latency.TTFT: (61, 10.720426321029663),
            Latency.ITL: (2780, 14.08810545799929),
            Latency.TPOT: (61, 0.32009831212925505),
            Latency.E2E: (61, 24.78764796257019),
            Latency.QUEUE: (61, 8.755712342000379),
            Latency.PREFILL: (61, 0.754941897000208),
            Latency.DECODE: (61, 14.08810545799929),
        },
        running_requests=0,
        waiting_requests=0,
        prompt_tokens_total=3023,
        generation_tokens_total=2841,
        succeeded_requests_total=61,
    ),
    "vllm-0.32.0-pressure": vllm(
        {
            Latency.TTFT: (17, 9.111831665039062),
            Latency.ITL: (1208, 15.53565639400108),
            Latency.TPOT: (11, 0.19763612988505563),
            Latency.E2E: (11, 13.674254655838013),
            Latency.QUEUE: (11, 1.1651359050008523),
            Latency.PREFILL: (11, 0.3495996739986822),
            Latency.DECODE: (11, 10.939469619000647),
        },
        usage=0.9565217391304348,
        preemptions=15,
        running_requests=6,
        waiting_requests=18,
        prompt_tokens_total=844,
        generation_tokens_total=1225,
        succeeded_requests_total=11,
    ),
    "vllm-0.32.0-pressure-after": vllm(
        {
            Latency.TTFT: (81, 72.28147220611572),
            Latency.ITL: (6080, 40.031444904999944),
            Latency.TPOT: (80, 0.5952828320922622),
            Latency.E2E: (80, 111.51679110527039),
            Latency.QUEUE: (80, 67.9179220110002),
            Latency.PREFILL: (80, 1.06014705699954),
            Latency.DECODE: (80, 39.413951262999944),
        },
        preemptions=74,
        running_requests=0,
        waiting_requests=0,
        prompt_tokens_total=4028,
        generation_tokens_total=6161,
        succeeded_requests_total=80,
    ),
    "sglang-0.5.23-synthetic": {
        "tiny-llama": Figures(
            {
                "running_requests": 6,
                "waiting_requests": 2,
                "kv_cache_usage_ratio": 0.47,
                "prompt_tokens_total": 22_918 + 41_947,
                "cached_prompt_tokens_total": 10_962,
                "generation_tokens_total": 8_045 + 16_356,
                "succeeded_requests_total": 40 + 80,
                "aborted_requests_total": 3,
                "prefix_cache_queries_tokens_total": 22_918 + 41_947,
                "prefix_cache_hits_tokens_total": 10_962,
            },
            {
                Latency.TTFT: (40 + 80, 6.093897030718327 + 13.434447041064614),
                Latency.ITL: (24_281, 362.63874332810025),
                Latency.TPOT: (40 + 80, 0.5863381157239418 + 1.0861336556149295),
                Latency.E2E: (40 + 80, 125.93763744655838 + 240.25862815933277),
                Latency.QUEUE: (120, 3.2835614394970065),
            },
        )
    },
    "lmdeploy-0.18.0-synthetic": {
        "tiny-llama": Figures(
            {
                "running_requests": 5,
                "waiting_requests": 2,
                "kv_cache_usage_ratio": 0.38,
                "prompt_tokens_total": 42_407,
                "cached_prompt_tokens_total": 10_562,
                "generation_tokens_total": 4_459,
                "succeeded_requests_total": 100,
                "failed_requests_total": 0,
                "aborted_requests_total": 0,
                "rejected_requests_total": 0,
                "prefix_cache_queries_tokens_total": 42_407,
                "prefix_cache_hits_tokens_total": 10_562,
            },
            {
                Latency.TTFT: (100, 14.28399268364876),
                Latency.ITL: (4_359, 93.87361184798625),
                Latency.TPOT: (4_359, 93.87361184798625),
                Latency.E2E: (100, 105.75761264094302),
                Latency.QUEUE: (100, 4.285197805094628),
                Latency.PREFILL: (100, 9.998794878554135),
                Latency.DECODE: (100, 91.47361995729432),
            },
        )
    },
    "nim_metrics": {
        "meta/llama-3.1-8b-instruct": Figures(
            {
                "running_requests": 1,
                "waiting_requests": 0,
                "kv_cache_usage_ratio": 0.0002848191398461977,
                "prompt_tokens_total": 109,
                "generation_tokens_total": 174,
                "succeeded_requests_total": 5,
                "failed_requests_total": 0,
            },
            {
                Latency.TTFT: (5, 0.6119842529296875),
                Latency.ITL: (169, 1.856855869293213),
                Latency.E2E: (5, 2.4688401222229004),
            },
        )
    },
    "llama-server-b11434-midload": {
        None: Figures(
            {
                "running_requests": 2,
                "waiting_requests": 4,
                "prompt_tokens_total": 938 + 1013,  # it counts the cached ones apart
                "cached_prompt_tokens_total": 1013,
                "generation_tokens_total": 1978,
                "prefill_seconds_total": 0.093425,
                "decode_seconds_total": 0.777529,
            },
        )
    },
    "llama-server-b11434-after": {
        None: Figures(
            {
                "running_requests": 0,
                "waiting_requests": 0,
                "prompt_tokens_total": 1408 + 1593,
                "cached_prompt_tokens_total": 1593,
                "generation_tokens_total": 3335,
                "prefill_seconds_total": 0.147672,
                "decode_seconds_total": 1.30148,
            },
        )
    },
    "litellm-1.109.1": {
        "tiny": Figures(
            {
                "running_requests": 0,  # the page says 1: it counts the one that asked for it
                "prompt_tokens_total": 88,
                "cached_prompt_tokens_total": 0,
                "generation_tokens_total": 64,
                "reasoning_tokens_total": 0,
                "succeeded_requests_total": 4,
                "failed_requests_total": 0,
                "aborted_requests_total": 0,
                "rejected_requests_total": 0,
            },
            {
                Latency.TTFT: (2, 0.9929020000000001),
                Latency.TPOT: (4, 0.0744685),
                Latency.E2E: (4, 1.35392087701416),
                Latency.QUEUE: (4, 0.09383487701416016),
            },
        )
    },
}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_recorded_page(path: Path):
    text = path.read_text()
    scrape = opened(text)
    assert (scrape.engine.name, scrape.note) == (ENGINES[path.parent.name], "")
    assert figures(text) == READ_OFF[path.stem]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_name_on_it_is_news(path: Path):
    scrape = opened(path.read_text())
    assert len(scrape.page.types) > 4
    assert Census().news(scrape.engine, scrape.page, "", worked=True) is None


def test_other_files_are_of_no_inference_server():
    taken = {path.name: engine.name for path in OTHERS if (engine := engine_of(path.read_bytes()))}
    assert taken == {}
    assert sum(path.suffix == ".prom" for path in OTHERS) > 4
