"""Every page among the fixtures, and what a person reads off it. What is not listed is unknown."""

from __future__ import annotations

import pytest

from collectors.sources.serving.names import Census
from core.readings import Latency
from tests.collectors.serving.pages import FIXTURES, Figures, figures, opened, recorded

TINY, SMALL = "acme/tiny-1b", "acme/small-7b"

Pages = dict[str, dict[str | None, Figures]]

VLLM: Pages = {
    "vllm-0.8.5-v0": {
        TINY: Figures(
            {
                "running_requests": 3,
                "waiting_requests": 2,
                "kv_cache_usage_ratio": 0.25,
                "prompt_tokens_total": 1200,
                "generation_tokens_total": 345,
                "succeeded_requests_total": 5,
                "aborted_requests_total": 0,  # counted from the first on; errors are not counted by this version
                "preemptions_total": 4,
            },
            {Latency.TTFT: (7, 0.75), Latency.ITL: (338, 3.5), Latency.E2E: (7, 9.5)},
        )
    },
    "vllm-0.8.5-v1": {
        TINY: Figures(
            {
                "running_requests": 1,
                "waiting_requests": 0,
                "kv_cache_usage_ratio": 0.125,
                "prompt_tokens_total": 640,
                "generation_tokens_total": 64,
                "succeeded_requests_total": 4,
                "aborted_requests_total": 2,
                "prefix_cache_queries_tokens_total": 40 * 16,  # it counts blocks
                "prefix_cache_hits_tokens_total": 10 * 16,
            }
        )
    },
    "vllm-current-two-models": {
        TINY: Figures(
            {
                "running_requests": 6 + 2,  # of two engines
                "waiting_requests": 18 + 0,
                "kv_cache_usage_ratio": (0.75 + 0.25) / 2,  # two caches of one size
                "prompt_tokens_total": 2000 + 1000,
                "cached_prompt_tokens_total": 400 + 100,
                "generation_tokens_total": 300 + 200,
                "succeeded_requests_total": 2 * (4 + 3 + 9),  # stop, length and repetition
                "failed_requests_total": 2 * 1,
                "aborted_requests_total": 2 * 2,
                "preemptions_total": 15 + 5,
                "prefix_cache_queries_tokens_total": 1000 + 500,
                "prefix_cache_hits_tokens_total": 400 + 100,
            },
            {**dict.fromkeys(Latency, (8 + 4, 1.5 + 0.5)), Latency.TTFT: (10 + 4, 2.5 + 0.5)},
        ),
        SMALL: Figures(
            {
                "running_requests": 1,
                "waiting_requests": 0,
                "kv_cache_usage_ratio": 0.0625,
                "prompt_tokens_total": 90,
                "cached_prompt_tokens_total": 16,
                "generation_tokens_total": 7,
                "succeeded_requests_total": 4 + 3 + 9,
                "failed_requests_total": 1,
                "aborted_requests_total": 2,
                "preemptions_total": 0,
                "prefix_cache_queries_tokens_total": 80,
                "prefix_cache_hits_tokens_total": 16,
            },
            {**dict.fromkeys(Latency, (1, 0.25)), Latency.TTFT: (1, 0.05)},
        ),
    },
    "vllm-0.32-lora": {
        TINY: Figures(
            {
                "running_requests": 8,
                "waiting_requests": 32,
                "kv_cache_usage_ratio": 0.90625,
                "prompt_tokens_total": 8192,
                "cached_prompt_tokens_total": 1024,
                "generation_tokens_total": 4096,
                "succeeded_requests_total": 40 + 8,
                "failed_requests_total": 1,
                "aborted_requests_total": 2,
                "rejected_requests_total": 12 + 5,
                "preemptions_total": 3,
                "prefix_cache_queries_tokens_total": 8192,
                "prefix_cache_hits_tokens_total": 1024,
            },
            {
                Latency.TTFT: (51, 12.75),
                Latency.ITL: (4045, 80.5),
                Latency.TPOT: (51, 1.25),
                Latency.E2E: (51, 75.5),
                Latency.QUEUE: (51, 5.25),
                Latency.PREFILL: (51, 4.5),
                Latency.DECODE: (51, 65.75),
            },
        )
    },
}

SGLANG: Pages = {
    "sglang-0.4.6": {
        TINY: Figures(
            {
                "running_requests": 4,
                "waiting_requests": 9,
                "kv_cache_usage_ratio": 0.8125,
                "prompt_tokens_total": 6400,
                "cached_prompt_tokens_total": 1600,
                "generation_tokens_total": 2100,
                "succeeded_requests_total": 21,
                "prefix_cache_queries_tokens_total": 6400,
                "prefix_cache_hits_tokens_total": 1600,
            },
            {Latency.TTFT: (21, 8.25), Latency.ITL: (2079, 41.5), Latency.E2E: (21, 50.75)},
        )
    },
    "sglang-0.5.23-two-replicas": {  # each of them says everything twice, once per tensor-parallel rank
        SMALL: Figures(
            {
                "running_requests": 5 + 3,
                "waiting_requests": 2 + 0,
                "kv_cache_usage_ratio": (0.5 + 0.25) / 2,
                "prompt_tokens_total": 1200 + 8800,  # with and without streaming
                "cached_prompt_tokens_total": 2048 + 512,  # of two caches
                "generation_tokens_total": 340 + 2660,
                "succeeded_requests_total": 4 + 36,
                "aborted_requests_total": 2,
                "preemptions_total": 6 + 1,
                "prefix_cache_queries_tokens_total": 1200 + 8800,
                "prefix_cache_hits_tokens_total": 2048 + 512,
            },
            {
                Latency.TTFT: (4 + 36, 1.5 + 14.25),
                Latency.ITL: (2624, 52.5),
                Latency.TPOT: (4 + 36, 0.0625 + 0.6875),
                Latency.E2E: (4 + 36, 7.5 + 62.25),
                Latency.QUEUE: (25 + 15, 3.5 + 0.5),
                Latency.PREFILL: (40, 6.5),
                Latency.DECODE: (39, 44.5),
            },
        )
    },
}

LLAMACPP: Pages = {
    "llamacpp-current": {
        None: Figures(
            {
                "running_requests": 2,
                "waiting_requests": 4,
                "prompt_tokens_total": 938 + 1013,  # it counts the cached ones apart
                "cached_prompt_tokens_total": 1013,
                "generation_tokens_total": 1_978_120,
                "prefill_seconds_total": 0.0934,
                "decode_seconds_total": 0.7775,
            }
        )
    },
    "llamacpp-early-2025": {  # not how many prompt tokens there were, cached ones among them
        None: Figures(
            {
                "running_requests": 0,
                "waiting_requests": 0,
                "kv_cache_usage_ratio": 0.5,
                "generation_tokens_total": 20,
            }
        )
    },
}

LMDEPLOY: Pages = {
    "lmdeploy-0.18": {
        TINY: Figures(
            {
                "running_requests": 8,
                "waiting_requests": 4,
                "kv_cache_usage_ratio": 0.6875,
                "prompt_tokens_total": 9000,
                "cached_prompt_tokens_total": 2250,
                "generation_tokens_total": 3100,
                "succeeded_requests_total": 2 + 56,
                "failed_requests_total": 4 + 3,  # an error inside, and memory
                "aborted_requests_total": 3,
                "rejected_requests_total": 2 + 1,  # too long, and no queue
                "prefix_cache_queries_tokens_total": 9000,
                "prefix_cache_hits_tokens_total": 2250,
            },
            {
                Latency.TTFT: (58, 9.5),
                Latency.ITL: (3042, 60.25),
                Latency.TPOT: (3042, 61.5),
                Latency.E2E: (58, 70.75),
                Latency.QUEUE: (58, 2.5),
                Latency.PREFILL: (58, 7.125),
                Latency.DECODE: (58, 61.125),
            },
        )
    },
}

TGI: Pages = {
    "tgi-3.3": {
        None: Figures(
            {
                "running_requests": 12,
                "waiting_requests": 5,
                "prompt_tokens_total": 13_200,
                "generation_tokens_total": 7_260,
                "succeeded_requests_total": 66,
                "failed_requests_total": 2 + 1,  # generation, incomplete
                "aborted_requests_total": 1,  # dropped
                "rejected_requests_total": 3 + 2,  # validation, overloaded
            },
            {Latency.TPOT: (66, 0.825), Latency.E2E: (66, 90.75), Latency.QUEUE: (66, 3.25)},
        )
    },
}

TRITON: Pages = {
    "triton": {
        "ranker": Figures(
            {
                "waiting_requests": 7,
                "succeeded_requests_total": 800,
                "failed_requests_total": 1 + 3,
                "aborted_requests_total": 2,
                "rejected_requests_total": 6,
            },
            {Latency.TTFT: (800, 96.0), Latency.E2E: (800, 48.0), Latency.QUEUE: (800, 4.0)},
        ),
        "embedder": Figures(
            {
                "waiting_requests": 0,
                "succeeded_requests_total": 0,
                "failed_requests_total": 0,
                "aborted_requests_total": 0,
                "rejected_requests_total": 0,
            },
            {Latency.E2E: (0, 0), Latency.QUEUE: (0, 0)},
        ),
    },
    "triton-trtllm": {
        "tensorrt_llm": Figures(
            {
                "running_requests": 16,
                "waiting_requests": 11,
                "kv_cache_usage_ratio": 0.375,
                "prompt_tokens_total": 48_000,
                "generation_tokens_total": 21_600,
                "succeeded_requests_total": 120,
                "failed_requests_total": 2,
                "aborted_requests_total": 4,
                "rejected_requests_total": 0,
            },
            {Latency.E2E: (120, 360.0), Latency.QUEUE: (120, 0.24)},
        )
    },
}

TRTLLM: Pages = {
    "trtllm-serve-1.0": {
        SMALL: Figures(
            {"kv_cache_usage_ratio": 0.125, "succeeded_requests_total": 5 + 1},
            {Latency.TTFT: (6, 0.75), Latency.TPOT: (6, 0.0625), Latency.E2E: (6, 9.5), Latency.QUEUE: (6, 0.125)},
        )
    },
    "trtllm-serve-1.2": {
        SMALL: Figures(
            {
                "running_requests": 6,
                "waiting_requests": 2,
                "kv_cache_usage_ratio": 0.4375,
                "prompt_tokens_total": 12_800,
                "cached_prompt_tokens_total": 3_200,
                "generation_tokens_total": 5_120,
                "succeeded_requests_total": 30 + 9,
                "failed_requests_total": 3,
                "aborted_requests_total": 2,
                "prefix_cache_queries_tokens_total": (100 + 300) * 32,  # it counts blocks
                "prefix_cache_hits_tokens_total": 100 * 32,
            },
            {
                Latency.TTFT: (39, 7.75),
                Latency.TPOT: (39, 0.78),
                Latency.E2E: (39, 109.25),
                Latency.QUEUE: (39, 1.5),
                Latency.PREFILL: (39, 6.25),
                Latency.DECODE: (39, 101.5),
            },
        )
    },
}

NIM: Pages = {
    "nim-1.2": {
        SMALL: Figures(
            {
                "running_requests": 7,
                "waiting_requests": 3,
                "kv_cache_usage_ratio": 0.3125,
                "prompt_tokens_total": 5400,
                "generation_tokens_total": 2700,
                "succeeded_requests_total": 27,
                "failed_requests_total": 2,
            },
            {Latency.TTFT: (27, 6.75), Latency.ITL: (2673, 37.5), Latency.E2E: (27, 44.25)},
        )
    },
}

RAY: Pages = {
    "ray-serve-llm-2.52": {  # two replicas; every counter stands there twice, with and without _total
        TINY: Figures(
            {
                "running_requests": 4 + 2,
                "waiting_requests": 1 + 0,
                "kv_cache_usage_ratio": (0.75 + 0.25) / 2,
                "prompt_tokens_total": 3000 + 1000,
                "generation_tokens_total": 700 + 300,
                "succeeded_requests_total": 12 + 5,
                "aborted_requests_total": 0,
                "prefix_cache_queries_tokens_total": 3000 + 1000,
                "prefix_cache_hits_tokens_total": 640 + 0,
            },
            {Latency.TTFT: (12 + 5, 3.5 + 1.25), Latency.ITL: (688 + 295, 13.75 + 5.5)},
        )
    },
}

LITELLM: Pages = {
    "litellm-1.109": {  # two people; a name that one of them made up is no model
        "chat": Figures(
            {
                "prompt_tokens_total": 9000 + 2500,
                "cached_prompt_tokens_total": 1024,
                "generation_tokens_total": 3300 + 1200,
                "reasoning_tokens_total": 700,
                "succeeded_requests_total": 30 + 10,
                "failed_requests_total": 2,
                "aborted_requests_total": 1,
                "rejected_requests_total": 3,
            },
            {
                Latency.TTFT: (20 + 10, 6.5 + 4.25),
                Latency.TPOT: (30 + 10, 0.625 + 0.25),
                Latency.E2E: (30 + 10, 60.5 + 12.25),
                Latency.QUEUE: (30 + 10, 0.75 + 0.125),
            },
        ),
        "embed": Figures(
            {
                "prompt_tokens_total": 640,
                "cached_prompt_tokens_total": 0,
                "generation_tokens_total": 0,
                "reasoning_tokens_total": 0,
                "succeeded_requests_total": 5,
                "failed_requests_total": 0,
                "aborted_requests_total": 0,
                "rejected_requests_total": 0,
            }
        ),
    },
}

CEREBRAS: Pages = {
    "cerebras-2026": {  # of the last minute
        "prod-70b": Figures(
            {
                "prompt_tokens_total": 23_000,
                "generation_tokens_total": 9_200,
                "succeeded_requests_total": 46,
                "failed_requests_total": 3 + 1,
            },
            {Latency.TTFT: (46, 46 * 0.25), Latency.E2E: (46, 46 * 1.5), Latency.QUEUE: (46, 46 * 0.125)},
        ),
        "idle-8b": Figures({"prompt_tokens_total": 0, "generation_tokens_total": 0, "succeeded_requests_total": 0}),
    },
}

ENGINES = {
    "vLLM": VLLM,
    "SGLang": SGLANG,
    "llama.cpp": LLAMACPP,
    "LMDeploy": LMDEPLOY,
    "TGI": TGI,
    "Triton": TRITON,
    "trtllm-serve": TRTLLM,
    "NIM": NIM,
    "Ray Serve LLM": RAY,
    "LiteLLM": LITELLM,
    "Cerebras": CEREBRAS,
}
PAGES = [(page, engine) for engine, pages in ENGINES.items() for page in pages]

LACKING = {
    "vllm-0.8.5-v0": "does not show cached_prompt_tokens_total, decode, prefill, prefix_cache_hits_tokens_total, "
    "prefix_cache_queries_tokens_total, queue, rejected_requests_total, tpot",
    "vllm-0.8.5-v1": "does not show cached_prompt_tokens_total, decode, e2e, itl, preemptions_total, prefill, queue, "
    "rejected_requests_total, tpot, ttft",
    "vllm-current-two-models": "does not show rejected_requests_total",
    "sglang-0.4.6": "does not show queue, tpot",
    "llamacpp-early-2025": "does not show cached_prompt_tokens_total, decode_seconds_total, prefill_seconds_total, "
    "prompt_tokens_total",
    "trtllm-serve-1.0": "does not show decode, generation_tokens_total, prefill, prefix_cache_hits_tokens_total, "
    "prefix_cache_queries_tokens_total, prompt_tokens_total, running_requests, waiting_requests",
}
"""What older pages have not. They show nothing that is unknown, and the other pages lack nothing."""


@pytest.mark.parametrize(("page", "engine"), PAGES)
def test_a_page(page, engine):
    scrape = opened(recorded(page))
    assert (scrape.engine.name, scrape.note) == (engine, "")
    assert figures(recorded(page)) == ENGINES[engine][page]


@pytest.mark.parametrize("page", [page for page, _ in PAGES])
def test_what_is_to_be_said_of_its_names(page):
    scrape = opened(recorded(page))
    assert scrape.page.types
    news = Census().news(scrape.engine, scrape.page, "", worked=True)
    assert str(news or "") == LACKING.get(page, "")


def test_no_page_was_forgotten():
    assert {page for page, _ in PAGES} == {path.stem for path in FIXTURES.glob("*.prom")}


def test_ollama():
    answer = (FIXTURES / "ollama-0.12-ps.json").read_text()
    assert opened(answer, "/api/ps").engine.name == "Ollama"
    assert figures(answer, "/api/ps") == {
        "tiny:1b": Figures({"model_memory_bytes": 1_500_000_000}),
        "small:7b": Figures({"model_memory_bytes": 4_500_000_000}),  # the rest is in the memory of the host
        "cpu-only:1b": Figures({"model_memory_bytes": 0}),
    }
