"""LMDeploy: on by default since 0.18, unless ``--disable-metrics``.

The reason for which a request ended is the text of a Python enumeration, ``ResponseType.FINISH``. What it calls time
per output token is measured at each iteration, not once per request.
"""

from __future__ import annotations

from collectors.sources.serving.engine import Alias, Engine, Histogram, Where, among, average, outside
from core.readings import Latency

_FINISHED = "lmdeploy:request_success_total"
_SUCCEEDED = ("SUCCESS", "FINISH")
_ABORTED = ("CANCEL",)
_REJECTED = ("INPUT_LENGTH_ERROR", "NO_QUEUE")
_CACHED = (Alias(("lmdeploy:cached_tokens_total",)),)
_PROMPT = (Alias(("lmdeploy:prompt_tokens_total",)),)


def _texts(reasons: tuple[str, ...]) -> tuple[str, ...]:
    return (*reasons, *(f"ResponseType.{reason}" for reason in reasons))


def _reasons(*reasons: str) -> Where:
    return among("finished_reason", *_texts(reasons))


LMDEPLOY = Engine(
    name="LMDeploy",
    prefixes=("lmdeploy:",),
    quantities={
        "running_requests": (Alias(("lmdeploy:num_requests_running",)),),
        "waiting_requests": (Alias(("lmdeploy:num_requests_waiting",)),),
        "kv_cache_usage_ratio": (Alias(("lmdeploy:gpu_cache_usage_perc",), combine=average),),
        "prompt_tokens_total": _PROMPT,
        "cached_prompt_tokens_total": _CACHED,
        "generation_tokens_total": (Alias(("lmdeploy:generation_tokens_total",)),),
        "succeeded_requests_total": (Alias((_FINISHED,), _reasons(*_SUCCEEDED)),),
        "aborted_requests_total": (Alias((_FINISHED,), _reasons(*_ABORTED)),),
        "rejected_requests_total": (Alias((_FINISHED,), _reasons(*_REJECTED)),),
        "failed_requests_total": (
            Alias((_FINISHED,), outside("finished_reason", *_texts((*_SUCCEEDED, *_ABORTED, *_REJECTED)))),
        ),
        "prefix_cache_queries_tokens_total": _PROMPT,
        "prefix_cache_hits_tokens_total": _CACHED,
    },
    histograms={
        Latency.TTFT: (Histogram("lmdeploy:time_to_first_token_seconds"),),
        Latency.ITL: (Histogram("lmdeploy:iter_token_latency"),),
        Latency.TPOT: (Histogram("lmdeploy:time_per_output_token_seconds"),),
        Latency.E2E: (Histogram("lmdeploy:e2e_request_latency_seconds"),),
        Latency.QUEUE: (Histogram("lmdeploy:request_queue_time_seconds"),),
        Latency.PREFILL: (Histogram("lmdeploy:request_prefill_time_seconds"),),
        Latency.DECODE: (Histogram("lmdeploy:request_decode_time_seconds"),),
    },
    ignored=(
        "lmdeploy:backend_config_info",
        "lmdeploy:num_requests_succeeded",
        "lmdeploy:num_requests_failed",
        "lmdeploy:num_api_requests_*",
        "lmdeploy:prefix_cache_hit_rate",
        "lmdeploy:spec_decode_*",
        "lmdeploy:request_prompt_tokens",
        "lmdeploy:request_generation_tokens",
        "lmdeploy:request_cached_tokens",
        "lmdeploy:request_cache_hit_ratio",
        "lmdeploy:request_inference_time_seconds",
        "lmdeploy:iteration_tokens_total",
    ),
)
