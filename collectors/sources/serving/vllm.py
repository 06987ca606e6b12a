"""vLLM: the names its versions used, 0.8 (V0 and V1) to 0.32.

Renamed on the way: ``gpu_cache_usage_perc`` and ``gpu_prefix_cache_*`` (0.9), ``time_per_output_token_seconds``
(0.10.2; it is the gap between tokens, not the mean per request that 0.11 added). Since V1 a label ``engine``
tells the data-parallel ranks apart. ``iteration_tokens_total`` is a histogram for all its name.
"""

from __future__ import annotations

from collectors.scrape.exposition import Page
from collectors.sources.serving.engine import Adapters, Alias, Engine, Histogram, Pointer, Timing, among, average
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
    where = among("finished_reason", *reasons)
    return (Alias(("vllm:request_success_total",), where, created_late=created_late),)


def _seconds(*names: str) -> tuple[Timing, ...]:
    return tuple(Histogram(f"vllm:{name}") for name in names)


VLLM = Engine(
    name="vLLM",
    prefixes=("vllm:",),
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
        "succeeded_requests_total": _finished("stop", "length", "repetition"),
        "failed_requests_total": _finished("error", created_late=False),  # old versions do not count errors
        "aborted_requests_total": _finished("abort"),
        "rejected_requests_total": _counter("vllm:admission_rejections_total"),
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
        Latency.TTFT: _seconds("time_to_first_token_seconds"),
        Latency.ITL: _seconds("inter_token_latency_seconds", "time_per_output_token_seconds"),
        Latency.TPOT: _seconds("request_time_per_output_token_seconds"),
        Latency.E2E: _seconds("e2e_request_latency_seconds"),
        Latency.QUEUE: _seconds("request_queue_time_seconds"),
        Latency.PREFILL: _seconds("request_prefill_time_seconds"),
        Latency.DECODE: _seconds("request_decode_time_seconds"),
    },
    version=(Pointer("/version", ("version",)),),
    adapters=Adapters("vllm:lora_requests_info", ("running_lora_adapters", "waiting_lora_adapters")),
    also_read=(_CACHE,),
    ignored=(
        # V0
        "vllm:num_requests_swapped",
        "vllm:cpu_cache_usage_perc",
        "vllm:cpu_prefix_cache_hit_rate",
        "vllm:gpu_prefix_cache_hit_rate",
        "vllm:model_forward_time_milliseconds",
        "vllm:model_execute_time_milliseconds",
        "vllm:time_in_queue_requests",
        "vllm:request_params_best_of",
        "vllm:avg_prompt_throughput_toks_per_s",
        "vllm:avg_generation_throughput_toks_per_s",
        # V1
        "vllm:num_requests_waiting_by_reason",
        "vllm:num_requests_kv_fetch_by_stage",
        "vllm:prompt_tokens_by_source_total",
        "vllm:prompt_tokens_recomputed_total",
        "vllm:prompt_tokens_cached_by_source_total",
        "vllm:external_prefix_cache_*",
        "vllm:mm_cache_*",
        "vllm:iteration_tokens_total",
        "vllm:request_inference_time_seconds",
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
        "vllm:request_max_num_generation_tokens",
        "vllm:request_num_preemptions",
        "vllm:request_params_n",
        "vllm:request_params_max_tokens",
        "vllm:request_prefill_kv_computed_tokens",
        "vllm:corrupted_requests_total",
        "vllm:watermark_requests_total",
        "vllm:engine_sleep_state",
        "vllm:sleep_mode_*",
        "vllm:estimated_*",
        "vllm:spec_decode_*",
        "vllm:diffusion*",
        "vllm:hf3fs_*",
        "vllm:hisparse_*",
        "vllm:kv_block_*",
        "vllm:kv_offload_*",
        "vllm:simple_kv_offload_*",
        "vllm:mooncake_*",
        "vllm:nixl_*",
        "vllm:rl_weight_update_*",
        "vllm:tool_call_parser_invocations_total",
        "vllm:websocket_*",
    ),
)
