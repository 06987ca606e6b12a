"""Text Generation Inference: one model per server, so no label names it.

Its counters have no ``_total``, and tokens are the sums of the histograms of lengths. There is no time to first token.
Its mean time per token divides the whole inference by the output, so that the prompt's share is in it.
"""

from __future__ import annotations

from collectors.sources.serving.engine import Alias, Engine, Histogram, Pointer, among, outside
from core.readings import Latency

_FAILURES = "tgi_request_failure"
_ABORTED = ("dropped",)
_REJECTED = ("validation", "overloaded", "template")

TGI = Engine(
    name="TGI",
    prefixes=("tgi_",),
    quantities={
        "running_requests": (Alias(("tgi_batch_current_size",)),),
        "waiting_requests": (Alias(("tgi_queue_size",)),),
        "prompt_tokens_total": (Alias(("tgi_request_input_length_sum",)),),
        "generation_tokens_total": (Alias(("tgi_request_generated_tokens_sum",)),),
        "succeeded_requests_total": (Alias(("tgi_request_success",)),),
        "failed_requests_total": (Alias((_FAILURES,), outside("err", *_ABORTED, *_REJECTED)),),
        "aborted_requests_total": (Alias((_FAILURES,), among("err", *_ABORTED)),),
        "rejected_requests_total": (Alias((_FAILURES,), among("err", *_REJECTED)),),
    },
    histograms={
        Latency.TPOT: (Histogram("tgi_request_mean_time_per_token_duration"),),
        Latency.E2E: (Histogram("tgi_request_duration"),),
        Latency.QUEUE: (Histogram("tgi_request_queue_duration"),),
    },
    model_labels=(),
    model=Pointer("/info", ("model_id",)),
    version=(Pointer("/info", ("version",)),),
    optional=frozenset(("failed_requests_total", "aborted_requests_total", "rejected_requests_total")),
    ignored=(
        "tgi_request_count",
        "tgi_request_inference_duration",
        "tgi_request_validation_duration",
        "tgi_request_max_new_tokens",
        "tgi_request_skipped_tokens",
        "tgi_batch_*",
        "tgi_prefill_*",
    ),
)
