"""llama.cpp's llama-server, started with ``--metrics``. It exports no labels and no histograms.

Its gauges ``*_tokens_seconds`` are means since anybody's last scrape and are not read. Counters are printed
with six significant digits. ``prompt_tokens_total`` leaves cached tokens out, so prompt tokens as Vatio counts
them need ``prompt_tokens_cached_total`` beside it; older versions lack that, and the quantity is unknown there.
"""

from __future__ import annotations

from pathlib import PurePath

from collectors.sources.serving.engine import Alias, Engine, Pointer


def _model_name(identifier: str) -> str:
    """A server that was given a file reports its path; people know the file."""
    return PurePath(identifier).name if identifier.endswith(".gguf") else identifier


def _one(name: str) -> tuple[Alias, ...]:
    return (Alias((f"llamacpp:{name}",)),)


LLAMACPP = Engine(
    name="llama.cpp",
    prefixes=("llamacpp:",),
    quantities={
        "running_requests": _one("requests_processing"),
        "waiting_requests": _one("requests_deferred"),
        "kv_cache_usage_ratio": _one("kv_cache_usage_ratio"),  # gone since 2025
        "prompt_tokens_total": (Alias(("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total")),),
        "cached_prompt_tokens_total": _one("prompt_tokens_cached_total"),
        "generation_tokens_total": _one("tokens_predicted_total"),
        "prefill_seconds_total": _one("prompt_seconds_total"),
        "decode_seconds_total": _one("tokens_predicted_seconds_total"),
    },
    model_labels=(),
    model=Pointer("/v1/models", ("data", 0, "id"), _model_name),
    version=(Pointer("/props", ("build_info",)),),
    optional=frozenset(("kv_cache_usage_ratio",)),
    ignored=(
        "llamacpp:kv_cache_tokens",
        "llamacpp:n_*",
        "llamacpp:prompt_tokens_seconds",
        "llamacpp:predicted_tokens_seconds",
        "llamacpp:spec_decode_*",
    ),
    monotonic_start_header="process-start-time-unix",
)
