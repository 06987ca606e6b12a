"""Pictures of what servers are asked to do: requests, tokens, caches, outcomes. Several servers are added up."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from charts import timeseries
from pages.serving.figures import OUTCOMES
from pages.serving.subject import Subject
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.pictures import picture

TOKENS = {"generation_tokens": "output", "prompt_tokens": "prompt"}
HITS = {
    "prefix cache: found of looked up": ("prefix_cache_hits_tokens_total", "prefix_cache_queries_tokens_total"),
    "prompt: cached of all": ("cached_prompt_tokens_total", "prompt_tokens_total"),
}
_UNTOLD = "the server does not export it"


def together(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The sum over deployments per step; unknown where none tells."""
    sums: pd.DataFrame = frame.groupby("bucket_at")[list(columns)].sum(min_count=1).reset_index()
    return sums


def _tidy(frame: pd.DataFrame, names: dict[str, str], column: str) -> pd.DataFrame:
    """Several columns of one quantity, summed over deployments, as series of one chart."""
    sums = together(frame, list(names))
    parts = [sums[["bucket_at"]].assign(series=said, **{column: sums[name]}) for name, said in names.items()]
    return pd.concat(parts, ignore_index=True).dropna(subset=[column])


def _of(subject: Subject) -> str:
    return f" · sum of {len(subject.ids)} deployments" if len(subject.ids) > 1 else ""


def requests(subject: Subject, view: View) -> None:
    """How many are computed and how many wait."""
    metrics = {"running_requests": "running", "waiting_requests": "waiting"}
    frame = loaders.series("deployment", tuple(metrics), subject.ids, view.start_ms, view.end_ms, view.step_ms)
    tidy = _tidy(frame, metrics, "present_requests")
    picture(
        "Running and waiting",
        timeseries.over_time(tidy, "present_requests", view.span, title="at once") if len(tidy) else None,
        key="latency-requests",
        note=f"measured · {view.resolution}{_of(subject)}",
        why=_UNTOLD,
    )


def kv_cache(subject: Subject, view: View) -> None:
    """How full the KV cache is; of several servers the mean between the extremes of all."""
    metric = "kv_cache_usage_ratio"
    frame = loaders.series("deployment", (metric,), subject.ids, view.start_ms, view.end_ms, view.step_ms)
    steps = frame.dropna(subset=[metric]).groupby("bucket_at")
    known = pd.DataFrame(
        {metric: steps[metric].mean(), f"{metric}_min": steps[f"{metric}_min"].min()}
        | {f"{metric}_max": steps[f"{metric}_max"].max()}
    ).reset_index()
    picture(
        "KV cache",
        timeseries.band(known, metric, view.span, title="in use") if len(known) else None,
        key="latency-cache",
        note=f"measured · {view.resolution}, mean and extremes",
        why=_UNTOLD,
    )


def tokens(subject: Subject, view: View) -> None:
    """Tokens in and out per second."""
    counters = tuple(f"{name}_total" for name in TOKENS)
    frame = loaders.rates("deployment", counters, subject.ids, view.start_ms, view.end_ms, view.step_ms)
    tidy = _tidy(frame, {f"{n}_per_second": said for n, said in TOKENS.items()}, "all_tokens_per_second")
    picture(
        "Tokens",
        timeseries.over_time(tidy, "all_tokens_per_second", view.span, title="rate") if len(tidy) else None,
        key="latency-tokens",
        note=f"derived · {view.resolution}{_of(subject)}",
        why=_UNTOLD,
    )


def prefix_cache(subject: Subject, view: View, step_ms: int) -> None:
    """Increase of hits over increase of what was looked up, step by step."""
    counters = tuple(dict.fromkeys(name for pair in HITS.values() for name in pair))
    frame = loaders.series("deployment", counters, subject.ids, view.start_ms, view.end_ms, step_ms)
    parts = []
    for said, (part, whole) in HITS.items():
        sums = together(frame.dropna(subset=[part, whole]), [part, whole])
        parts.append(
            sums[["bucket_at"]].assign(series=said, found_ratio=sums[part] / sums[whole].where(sums[whole] > 0))
        )
    tidy = pd.concat(parts, ignore_index=True).dropna(subset=["found_ratio"])
    picture(
        "Tokens from the cache",
        timeseries.over_time(tidy, "found_ratio", view.span, title="share of tokens") if len(tidy) else None,
        key="latency-hits",
        note=f"derived · {words.duration(step_ms / 1000)} steps · both counted within the step",
        why=_UNTOLD,
    )


def outcomes(subject: Subject, view: View, step_ms: int) -> None:
    """How requests ended, per second."""
    counters = tuple(f"{name}_requests_total" for name in OUTCOMES)
    frame = loaders.rates("deployment", counters, subject.ids, view.start_ms, view.end_ms, step_ms)
    tidy = _tidy(frame, {f"{name}_requests_per_second": name for name in OUTCOMES}, "ended_requests_per_second")
    picture(
        "Requests that ended, by outcome",
        timeseries.stacked(tidy, "ended_requests_per_second", view.span, step_ms, title="rate") if len(tidy) else None,
        key="latency-outcomes",
        help="succeeded: stop or length reached; aborted: cancelled by the client; failed: an error; "
        "rejected: refused before it began.",
        note=f"derived · {words.duration(step_ms / 1000)} steps{_of(subject)}",
        why=_UNTOLD,
    )


def preemptions(subject: Subject, view: View, step_ms: int) -> None:
    """Requests pushed out of the KV cache; a measured none is said in words."""
    frame = loaders.series("deployment", ("preemptions_total",), subject.ids, view.start_ms, view.end_ms, step_ms)
    sums = together(frame, ["preemptions_total"])
    counts = sums[["bucket_at"]].assign(series="preemptions", preemptions=sums["preemptions_total"]).dropna()
    total, help_text = counts["preemptions"].sum(), "Requests pushed out of a full KV cache; their work is done twice."
    if len(counts) and total == 0:  # an empty picture would look like missing data
        st.markdown("##### Preemptions", help=help_text)
        st.caption(f"0 in the {view.words}: no request was pushed out of the KV cache.")
        return
    picture(
        "Preemptions",
        timeseries.stacked(counts, "preemptions", view.span, step_ms) if len(counts) else None,
        key="latency-preemptions",
        help=help_text,
        note=f"measured · {total:,.0f} in the {view.words}, {words.duration(step_ms / 1000)} steps",
        why=_UNTOLD,
    )
