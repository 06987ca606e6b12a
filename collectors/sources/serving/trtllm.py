"""TensorRT-LLM's own server, ``trtllm-serve``; its prefix was ``trtllm:`` before it became ``trtllm_``.

The page is at ``/prometheus/metrics``, since ``/metrics`` answers in JSON. Gauges need ``enable_iter_perf_stats``, what
is counted per request needs ``return_perf_metrics``. The prefix cache is counted in blocks.
"""

from __future__ import annotations

from collectors.scrape.exposition import Page
from collectors.sources.serving.engine import Alias, Engine, Histogram, Pointer, Timing, Where, among, average
from core.readings import Latency

_PREFIXES = ("trtllm_", "trtllm:")
_BLOCK = "kv_cache_tokens_per_block"


def _tokens(blocks: float, page: Page) -> float | None:
    sizes = {point.value for prefix in _PREFIXES for point in page.points.get(prefix + _BLOCK, ())}
    return blocks * sizes.pop() if len(sizes) == 1 else None


def _sum(*names: str, where: Where | None = None) -> tuple[Alias, ...]:
    return tuple(Alias(tuple(prefix + name for name in names), where) for prefix in _PREFIXES)


def _blocks(*names: str) -> tuple[Alias, ...]:
    return tuple(Alias(tuple(prefix + name for name in names), convert=_tokens) for prefix in _PREFIXES)


def _seconds(name: str) -> tuple[Timing, ...]:
    return tuple(Histogram(prefix + name) for prefix in _PREFIXES)


def _finished(*reasons: str) -> tuple[Alias, ...]:
    return _sum("request_success_total", where=among("finished_reason", *reasons))


TRTLLM = Engine(
    name="trtllm-serve",
    prefixes=_PREFIXES,
    path="/prometheus/metrics",
    quantities={
        "running_requests": _sum("num_requests_running"),
        "waiting_requests": _sum("num_requests_waiting"),
        "kv_cache_usage_ratio": tuple(
            Alias((f"{prefix}kv_cache_utilization",), combine=average) for prefix in _PREFIXES
        ),
        "prompt_tokens_total": _sum("prompt_tokens_total"),
        "cached_prompt_tokens_total": _sum("prompt_cached_tokens_total"),
        "generation_tokens_total": _sum("generation_tokens_total"),
        "succeeded_requests_total": _finished("stop", "length"),
        "aborted_requests_total": _finished("cancelled"),
        "failed_requests_total": _sum("request_error_total"),
        "prefix_cache_queries_tokens_total": _blocks("kv_cache_reused_blocks_total", "kv_cache_missed_blocks_total"),
        "prefix_cache_hits_tokens_total": _blocks("kv_cache_reused_blocks_total"),
    },
    histograms={
        Latency.TTFT: _seconds("time_to_first_token_seconds"),
        Latency.TPOT: _seconds("time_per_output_token_seconds"),
        Latency.E2E: _seconds("e2e_request_latency_seconds"),
        Latency.QUEUE: _seconds("request_queue_time_seconds"),
        Latency.PREFILL: _seconds("request_prefill_time_seconds"),
        Latency.DECODE: _seconds("request_decode_time_seconds"),
    },
    version=(Pointer("/version", ("version",)),),
    also_read=tuple(prefix + _BLOCK for prefix in _PREFIXES),
    optional=frozenset(("cached_prompt_tokens_total", "failed_requests_total")),
    ignored=tuple(
        prefix + name
        for prefix in _PREFIXES
        for name in (
            "request_inference_time_seconds",
            "num_requests_completed_total",
            "num_active_requests",
            "num_context_requests",
            "num_generation_requests",
            "num_paused_requests",
            "num_scheduled_requests",
            "max_*",
            "server_queue_length",
            "scheduled_batch_size",
            "iteration_latency_seconds",
            "gpu_memory_usage_bytes",
            "cpu_memory_usage_bytes",
            "pinned_memory_usage_bytes",
            "total_context_tokens",
            "avg_decoded_tokens_per_iter",
            "prompt_cached_tokens*",
            "prompt_cache_hit_tokens_total",
            "prefill_*",
            "generation_perplexity",
            "spec_decode_*",
            "kv_cache_*",
            "ep_*",
            "model_config_info",
            "parallel_config_info",
            "speculative_config_info",
        )
    ),
)
