"""Triton Inference Server, alone or with TensorRT-LLM behind it, whose series stand on the same page.

Triton adds up microseconds and requests, so its latencies are means; the histogram of first responses (milliseconds)
has to be switched on. TensorRT-LLM adds what is running and the KV cache, and newer versions the lengths of prompts
and answers, whose sums are tokens. What the page says about GPUs is left to the sources of accelerators.
"""

from __future__ import annotations

from collectors.sources.serving.engine import Alias, Engine, Histogram, Mean, among, average, outside
from core.readings import Latency

_REQUESTS = "nv_trt_llm_request_metrics"
_SUCCEEDED = "nv_inference_request_success"
_FAILURES = "nv_inference_request_failure"
_BLOCKS = "nv_trt_llm_kv_cache_block_metrics"
_ABORTED, _REJECTED = "CANCELED", "REJECTED"
_MICROSECONDS = 1e6
_MILLISECONDS = 1e3

TRITON = Engine(
    name="Triton",
    prefixes=("nv_inference_", "nv_trt_llm_", "nv_llm_"),
    quantities={
        "running_requests": (
            Alias((_REQUESTS,), among("request_type", "scheduled")),
            Alias((_REQUESTS,), among("request_type", "active")),
        ),
        "waiting_requests": (
            Alias((_REQUESTS,), among("request_type", "waiting")),
            Alias(("nv_inference_pending_request_count",)),
        ),
        "kv_cache_usage_ratio": (Alias((_BLOCKS,), among("kv_cache_block_type", "fraction"), average),),
        "prompt_tokens_total": (Alias(("nv_llm_input_token_len_sum",)),),
        "generation_tokens_total": (Alias(("nv_llm_output_token_len_sum",)),),
        "succeeded_requests_total": (Alias((_SUCCEEDED,)),),
        "failed_requests_total": (Alias((_FAILURES,), outside("reason", _ABORTED, _REJECTED)),),
        "aborted_requests_total": (Alias((_FAILURES,), among("reason", _ABORTED)),),
        "rejected_requests_total": (Alias((_FAILURES,), among("reason", _REJECTED)),),
    },
    histograms={
        Latency.TTFT: (Histogram("nv_inference_first_response_histogram_ms", per_second=_MILLISECONDS),),
        Latency.E2E: (Mean("nv_inference_request_duration_us", _SUCCEEDED, _MICROSECONDS),),
        Latency.QUEUE: (Mean("nv_inference_queue_duration_us", _SUCCEEDED, _MICROSECONDS),),
    },
    model_labels=("model",),
    optional=frozenset(
        (
            "running_requests",  # of TensorRT-LLM
            "kv_cache_usage_ratio",
            "prompt_tokens_total",
            "generation_tokens_total",
            Latency.TTFT,
        )
    ),
    ignored=(
        "nv_inference_count",
        "nv_inference_exec_count",
        "nv_inference_compute_*",
        "nv_inference_request_summary_us",
        "nv_inference_queue_summary_us",
        "nv_inference_load_ratio",
        "nv_trt_llm_runtime_memory_metrics",
        "nv_trt_llm_inflight_batcher_metrics",
        "nv_trt_llm_v1_metrics",
        "nv_trt_llm_general_metrics",
        "nv_trt_llm_disaggregated_serving_metrics",
    ),
)
