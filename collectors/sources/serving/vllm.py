"""vLLM: the names its versions used, 0.8 (V0 and V1) to 0.32.

Renamed on the way: ``gpu_cache_usage_perc`` and ``gpu_prefix_cache_*`` (0.9), ``time_per_output_token_seconds``
(0.10.2; it is the gap between tokens, not the mean per request that 0.11 added). Since V1 a label ``engine``
tells the data-parallel ranks apart.
"""

from __future__ import annotations

from collectors.scrape.exposition import Page
from collectors.sources.serving.engine import Alias, Engine, Pointer, average
from core.readings import Latency

_CACHE = "vllm:cache_config_info"
_OLD_CACHE_QUERIES = "vllm:gpu_prefix_cache_queries_total"
_OLD_CACHE_HITS = "vllm:gpu_prefix_cache_hits_total"


def _tokens(value: float, page: Page) -> float | None:
    """Under one name 0.8 counts blocks and 0.9 tokens; the help text says which."""
    helps = page.helps.get(_OLD_CACHE_QUERIES, "")
    if "tokens" in helps:
        return value
    sizes = {point.series.labels.get("block_size", "") for point in page.points.get(_CACHE, [])}
    if "blocks" in helps and len(sizes) == 1 and (size := sizes.pop()).isdecimal():
        return value * int(size)
    return None


def _counter(name: str) -> tuple[Alias, ...]:
    return (Alias((name,), created_late=True),)


def _finished(*reasons: str, created_late: bool = True) -> tuple[Alias, ...]:
    where = ("finished_reason", frozenset(reasons))
    return (Alias(("vllm:request_success_total",), where, created_late=created_late),)


VLLM = Engine(
    name="vLLM",
    prefix="vllm:",
    quantities={
        "running_requests": (Alias(("vllm:num_requests_running",)),),
        "waiting_requests": (Alias(("vllm:num_requests_waiting",)),),
        "kv_cache_usage_ratio": (
            Alias(("vllm:kv_cache_usage_perc",), combine=average),
            Alias(("vllm:gpu_cache_usage_perc",), combine=average),
        ),
        "prompt_tokens_total": _counter("vllm:prompt_tokens_total"),
        "cached_prompt_tokens_total": _counter("vllm:prompt_tokens_cached_total"),
        "generation_tokens_total": _counter("vllm:generation_tokens_total"),
        "succeeded_requests_total": _finished("stop", "length"),
        "failed_requests_total": _finished("error", created_late=False),  # old versions do not count errors
        "aborted_requests_total": _finished("abort"),
        "preemptions_total": _counter("vllm:num_preemptions_total"),
        "prefix_cache_queries_tokens_total": (
            Alias(("vllm:prefix_cache_queries_total",)),
            Alias((_OLD_CACHE_QUERIES,), convert=_tokens),
        ),
        "prefix_cache_hits_tokens_total": (
            Alias(("vllm:prefix_cache_hits_total",)),
            Alias((_OLD_CACHE_HITS,), convert=_tokens),
        ),
    },
    histograms={
        Latency.TTFT: ("vllm:time_to_first_token_seconds",),
        Latency.ITL: ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        Latency.TPOT: ("vllm:request_time_per_output_token_seconds",),
        Latency.E2E: ("vllm:e2e_request_latency_seconds",),
        Latency.QUEUE: ("vllm:request_queue_time_seconds",),
        Latency.PREFILL: ("vllm:request_prefill_time_seconds",),
        Latency.DECODE: ("vllm:request_decode_time_seconds",),
    },
    version=Pointer("/version", ("version",)),
    also_read=(_CACHE,),
)
