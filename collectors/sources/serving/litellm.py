"""LiteLLM, a proxy in front of other servers, with the callback ``prometheus``.

Nearly every series is split by key, user, team, address or program of the client. None of that is looked at: only which
model was asked for, and how it went. A client may ask for any name, so only those count that reached a deployment.
Requests in flight are of the whole proxy, the one for its metrics page among them. Its latency per output token divides
the whole answer by its tokens, the first one included.
"""

from __future__ import annotations

from collectors.scrape.exposition import Page
from collectors.sources.serving.engine import Alias, Engine, Histogram, Pointer, among, outside
from core.readings import Latency

_REQUESTS = "litellm_proxy_total_requests_metric_total"
_FAILURES = "litellm_proxy_failed_requests_metric_total"
_ABORTED = ("499",)
_REJECTED = ("400", "401", "402", "403", "404", "405", "409", "413", "415", "422", "429")


def _but_ours(value: float, page: Page) -> float | None:
    return max(value - 1, 0.0)


def _counter(name: str) -> tuple[Alias, ...]:
    return (Alias((f"litellm_{name}_tokens_metric_total",), created_late=True),)


LITELLM = Engine(
    name="LiteLLM",
    prefixes=("litellm_",),
    gateway=True,
    quantities={
        "running_requests": (Alias(("litellm_in_flight_requests",), convert=_but_ours),),
        "prompt_tokens_total": _counter("input"),
        "cached_prompt_tokens_total": _counter("input_cached"),
        "generation_tokens_total": _counter("output"),
        "reasoning_tokens_total": _counter("output_reasoning"),
        "succeeded_requests_total": (Alias((_REQUESTS,), among("status_code", "200"), created_late=True),),
        "failed_requests_total": (
            Alias((_FAILURES,), outside("exception_status", *_ABORTED, *_REJECTED), created_late=True),
        ),
        "aborted_requests_total": (Alias((_FAILURES,), among("exception_status", *_ABORTED), created_late=True),),
        "rejected_requests_total": (Alias((_FAILURES,), among("exception_status", *_REJECTED), created_late=True),),
    },
    histograms={
        Latency.TTFT: (Histogram("litellm_llm_api_time_to_first_token_metric"),),
        Latency.TPOT: (Histogram("litellm_deployment_latency_per_output_token"),),
        Latency.E2E: (Histogram("litellm_request_total_latency_metric"),),
        Latency.QUEUE: (Histogram("litellm_request_queue_time_seconds"),),
    },
    model_labels=("requested_model", "model_group"),
    model_series=("litellm_deployment_total_requests_total", "litellm_output_tokens_metric_total"),
    version=(Pointer("/health/readiness", ("litellm_version",)),),
    keeps_labels=frozenset(("requested_model", "model_group", "status_code", "exception_status")),
    optional=frozenset(("running_requests", "cached_prompt_tokens_total", "reasoning_tokens_total")),
    ignored=(
        "litellm_total_tokens_metric_total",
        "litellm_input_*",
        "litellm_output_*",
        "litellm_cached_tokens_metric_total",
        "litellm_provider_*",
        "litellm_requests_metric_total",
        "litellm_llm_api_latency_metric",
        "litellm_llm_api_failed_requests_metric_total",
        "litellm_overhead_*",
        "litellm_deployment_*",
        "litellm_spend_*",
        "litellm_zero_cost_requests_total",
        "litellm_remaining_*",
        "litellm_api_key_*",
        "litellm_customer_*",
        "litellm_org_*",
        "litellm_project_*",
        "litellm_team_*",
        "litellm_teams_count",
        "litellm_user_*",
        "litellm_total_users",
        "litellm_active_users",
        "litellm_cache_*",
        "litellm_callback_logging_failures_metric_total",
        "litellm_check_batch_cost_*",
        "litellm_guardrail_*",
        "litellm_images_generated_metric_total",
        "litellm_video_duration_seconds_metric_total",
        "litellm_managed_*",
        "litellm_mcp_*",
        "litellm_pod_lock_manager_size",
        "litellm_redis_*",
        "litellm_postgres_*",
        "litellm_self_*",
        "litellm_auth_*",
        "litellm_router_*",
        "litellm_batch_write_*",
        "litellm_reset_budget_job_*",
        "litellm_proxy_pre_call_*",
    ),
)
