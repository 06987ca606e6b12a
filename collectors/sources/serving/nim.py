"""NVIDIA NIM for LLMs with its own backend: names without any prefix, so two of them together are its mark.

A NIM that runs vLLM shows vLLM's names and is read as vLLM.
"""

from __future__ import annotations

from collectors.sources.serving.engine import Alias, Engine, Histogram, average
from core.readings import Latency

NIM = Engine(
    name="NIM",
    prefixes=("",),
    marks=("num_request_max", "gpu_cache_usage_perc"),
    path="/v1/metrics",
    quantities={
        "running_requests": (Alias(("num_requests_running",)),),
        "waiting_requests": (Alias(("num_requests_waiting",)),),
        "kv_cache_usage_ratio": (Alias(("gpu_cache_usage_perc",), combine=average),),
        "prompt_tokens_total": (Alias(("prompt_tokens_total",)),),
        "generation_tokens_total": (Alias(("generation_tokens_total",)),),
        "succeeded_requests_total": (Alias(("request_success_total",)),),
        "failed_requests_total": (Alias(("request_failure_total",)),),
    },
    histograms={
        Latency.TTFT: (Histogram("time_to_first_token_seconds"),),
        Latency.ITL: (Histogram("time_per_output_token_seconds"),),
        Latency.E2E: (Histogram("e2e_request_latency_seconds"),),
    },
    ignored=("request_finish_total", "request_prompt_tokens", "request_generation_tokens"),
)
