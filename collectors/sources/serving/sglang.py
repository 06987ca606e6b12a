"""SGLang, started with ``--enable-metrics``: the names of 0.4.6, 0.5.5 and 0.5.23.

Its scheduler's series carry ranks (``tp_rank``, ``pp_rank``, ``moe_ep_rank``) and some a ``pid``; all ranks of one
replica see the same requests, so they are taken for one, and ``dp_rank`` alone tells replicas apart. A series appears
with its first event. ``num_requests_total`` counts what was finished, whatever the reason; cached tokens are counted
under the cache they came from. ``queue_time_seconds`` and ``per_stage_req_latency_seconds`` are of 0.5 and later,
``request_time_per_output_token_seconds`` later than 0.5.5.
"""

from __future__ import annotations

from collectors.sources.serving.engine import Alias, Engine, Histogram, Pointer, among, average
from core.readings import Latency

_CACHED = (Alias(("sglang:cached_tokens_total",)),)
_PROMPT = (Alias(("sglang:prompt_tokens_total",)),)
_STAGES = "sglang:per_stage_req_latency_seconds"

SGLANG = Engine(
    name="SGLang",
    prefixes=("sglang:",),
    quantities={
        "running_requests": (Alias(("sglang:num_running_reqs",)),),
        "waiting_requests": (Alias(("sglang:num_queue_reqs",)),),
        "kv_cache_usage_ratio": (Alias(("sglang:token_usage",), combine=average),),
        "prompt_tokens_total": _PROMPT,
        "cached_prompt_tokens_total": _CACHED,
        "generation_tokens_total": (Alias(("sglang:generation_tokens_total",)),),
        "succeeded_requests_total": (Alias(("sglang:num_requests_total",)),),
        "aborted_requests_total": (Alias(("sglang:num_aborted_requests_total",)),),
        "preemptions_total": (Alias(("sglang:num_retracted_requests_total",)),),
        "prefix_cache_queries_tokens_total": _PROMPT,  # its cache is asked for every prompt
        "prefix_cache_hits_tokens_total": _CACHED,
    },
    histograms={
        Latency.TTFT: (Histogram("sglang:time_to_first_token_seconds"),),
        Latency.ITL: (Histogram("sglang:inter_token_latency_seconds"),),
        Latency.TPOT: (
            Histogram("sglang:request_time_per_output_token_seconds"),
            Histogram("sglang:time_per_output_token_seconds"),  # before 0.4.6
        ),
        Latency.E2E: (Histogram("sglang:e2e_request_latency_seconds"),),
        Latency.QUEUE: (Histogram("sglang:queue_time_seconds"),),
        Latency.PREFILL: (Histogram(_STAGES, among("stage", "prefill_forward")),),
        Latency.DECODE: (Histogram(_STAGES, among("stage", "decode_forward")),),
    },
    version=(Pointer("/server_info", ("version",)), Pointer("/get_server_info", ("version",))),
    repeats_labels=frozenset(("tp_rank", "pp_rank", "moe_ep_rank", "pid")),
    optional=frozenset(
        (
            "cached_prompt_tokens_total",  # not before the first of them
            "prefix_cache_hits_tokens_total",
            "aborted_requests_total",
            "preemptions_total",
            Latency.PREFILL,
            Latency.DECODE,
        )
    ),
    ignored=(
        "sglang:avg_request_queue_latency",  # 0.4.6
        "sglang:prompt_tokens_histogram",
        "sglang:uncached_prompt_tokens_histogram",
        "sglang:generation_tokens_histogram",
        "sglang:func_latency_seconds",
        "sglang:gen_throughput",
        "sglang:cache_hit_rate",
        "sglang:num_*",
        "sglang:max_*",
        "sglang:utilization",
        "sglang:new_token_ratio",
        "sglang:decode_*",
        "sglang:dp_*",
        "sglang:prefill_*",
        "sglang:prealloc_*",
        "sglang:pending_prealloc_token_usage",
        "sglang:full_token_usage",
        "sglang:swa_*",
        "sglang:mamba_*",
        "sglang:kv_*",
        "sglang:hicache_*",
        "sglang:storage_*",
        "sglang:prefetch*",
        "sglang:backup*",
        "sglang:load_back_*",
        "sglang:evict*",
        "sglang:grammar_*",
        "sglang:spec_*",
        "sglang:lora_pool_*",
        "sglang:encoder_*",
        "sglang:eplb_*",
        "sglang:diffusion_*",
        "sglang:routing_key*",
        "sglang:realtime_tokens_total",
        "sglang:forward_execution_seconds_total",
        "sglang:fwd_occupancy",
        "sglang:scheduler_*",
        "sglang:process_cpu_seconds_total",
        "sglang:estimated_*",
        "sglang:cuda_graph_passes_total",
        "sglang:is_cuda_graph",
        "sglang:graph_memory_usage_gb",
        "sglang:weight_*",
        "sglang:startup_*",
        "sglang:engine_startup_time",
        "sglang:engine_load_weights_time",
        "sglang:http_*",
        "sglang:get_loads_duration_seconds",
        "sglang:failed_session_recoveries_total",
        "sglang:streaming_session_held_tokens",
        "sglang:context_len",
        "sglang:page_size",
    ),
)
