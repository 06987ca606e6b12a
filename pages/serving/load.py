"""Pictures of what servers are asked to do: requests, tokens, caches, outcomes. Several servers are added up."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from charts import timeseries
from core.language import _, say, spoken
from pages.serving.seen import ENDED
from pages.serving.subject import Subject
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.marks import Marks, lacking, week_before
from pages.shared.pictures import picture

TOKENS = {"generation_tokens": _("output"), "prompt_tokens": _("prompt")}
HITS = {
    _("prefix cache: found of looked up"): ("prefix_cache_hits_tokens_total", "prefix_cache_queries_tokens_total"),
    _("prompt: cached of all"): ("cached_prompt_tokens_total", "prompt_tokens_total"),
}
_GAUGES = ("running_requests", "waiting_requests", "kv_cache_usage_ratio")
_COUNTERS = (*dict.fromkeys(name for pair in HITS.values() for name in pair), "preemptions_total")
_UNTOLD = _("the server does not export it")


def together(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The sum over deployments per step; unknown where none tells."""
    sums: pd.DataFrame = frame.groupby("bucket_at")[list(columns)].sum(min_count=1).reset_index()
    return sums


def token_rates(subject: Subject, view: View) -> pd.DataFrame:
    """Tokens in and out per second, per deployment and step."""
    counters = tuple(f"{name}_total" for name in TOKENS)
    return loaders.rates("deployment", counters, subject.ids, view.start_ms, view.end_ms, view.step_ms)


def _gauges(subject: Subject, view: View) -> pd.DataFrame:
    """What pictures of this moment's load show, read at once."""
    return loaders.series("deployment", _GAUGES, subject.ids, view.start_ms, view.end_ms, view.step_ms)


def _counted(subject: Subject, view: View, step_ms: int) -> pd.DataFrame:
    """The same of what is counted."""
    return loaders.series("deployment", _COUNTERS, subject.ids, view.start_ms, view.end_ms, step_ms)


def _tidy(frame: pd.DataFrame, names: dict[str, str], column: str) -> pd.DataFrame:
    """Several columns of one quantity, summed over deployments, as series of one chart."""
    sums = together(frame, list(names))
    parts = [sums[["bucket_at"]].assign(series=say(said), **{column: sums[name]}) for name, said in names.items()]
    return pd.concat(parts, ignore_index=True).dropna(subset=[column])


def steps(step_ms: int) -> str:
    """How long the steps of a picture are."""
    return say("{step} steps", step=words.duration(step_ms / 1000))


def note(*parts: str) -> str:
    """Small print of several parts; empty ones are left out."""
    return " · ".join(part for part in parts if part)


def _sum_of(subject: Subject) -> str:
    if len(subject.ids) == 1:
        return ""
    return say("sum of {count} deployments", count=spoken().number(len(subject.ids)))


def requests(subject: Subject, view: View, marks: Marks | None) -> None:
    """How many are computed and how many wait."""
    metrics = {"running_requests": _("running"), "waiting_requests": _("waiting")}
    tidy = _tidy(_gauges(subject, view), metrics, "present_requests")
    picture(
        say("Running and waiting"),
        timeseries.over_time(tidy, "present_requests", view.span, title=say("at once")) if len(tidy) else None,
        key="latency-requests",
        note=note(say("measured"), view.resolution, _sum_of(subject)),
        why=say(_UNTOLD),
        about=subject.name,
        marks=marks,
    )


def kv_cache(subject: Subject, view: View, marks: Marks | None) -> None:
    """How full the KV cache is; of several servers the mean between the extremes of all."""
    metric = "kv_cache_usage_ratio"
    steps = _gauges(subject, view).dropna(subset=[metric]).groupby("bucket_at")
    known = pd.DataFrame(
        {metric: steps[metric].mean(), f"{metric}_min": steps[f"{metric}_min"].min()}
        | {f"{metric}_max": steps[f"{metric}_max"].max()}
    ).reset_index()
    picture(
        say("KV cache"),
        timeseries.band(known, metric, view.span, title=say("in use")) if len(known) else None,
        key="latency-cache",
        note=note(say("measured"), view.resolution, say("mean and extremes")),
        why=say(_UNTOLD),
        about=subject.name,
        marks=marks,
    )


def tokens(subject: Subject, view: View, marks: Marks | None) -> None:
    """Tokens in and out per second."""
    column = "all_tokens_per_second"

    def rates(view: View) -> pd.DataFrame:
        return _tidy(token_rates(subject, view), {f"{n}_per_second": said for n, said in TOKENS.items()}, column)

    tidy, before = rates(view), week_before(view, rates)
    picture(
        say("Tokens"),
        timeseries.over_time(tidy, column, view.span, title=say("rate"), before=before) if len(tidy) else None,
        key="latency-tokens",
        note=note(say("derived"), view.resolution, _sum_of(subject), *lacking(before)),
        why=say(_UNTOLD),
        about=subject.name,
        marks=marks,
    )


def prefix_cache(subject: Subject, view: View, marks: Marks | None, step_ms: int) -> None:
    """Increase of hits over increase of what was looked up, step by step."""
    frame = _counted(subject, view, step_ms)
    parts = []
    for said, (part, whole) in HITS.items():
        sums = together(frame.dropna(subset=[part, whole]), [part, whole])
        parts.append(
            sums[["bucket_at"]].assign(series=say(said), found_ratio=sums[part] / sums[whole].where(sums[whole] > 0))
        )
    tidy = pd.concat(parts, ignore_index=True).dropna(subset=["found_ratio"])
    picture(
        say("Tokens from the cache"),
        timeseries.over_time(tidy, "found_ratio", view.span, title=say("share of tokens")) if len(tidy) else None,
        key="latency-hits",
        note=note(say("derived"), steps(step_ms), say("both counted within the step")),
        why=say(_UNTOLD),
        about=subject.name,
        marks=marks,
    )


def outcomes(subject: Subject, view: View, marks: Marks | None, step_ms: int) -> None:
    """How requests ended, per second."""
    frame = loaders.rates("deployment", tuple(ENDED.values()), subject.ids, view.start_ms, view.end_ms, step_ms)
    column = "ended_requests_per_second"
    tidy = _tidy(frame, {f"{name}_requests_per_second": name for name in ENDED}, column)
    picture(
        say("Requests that ended, by outcome"),
        timeseries.stacked(tidy, column, view.span, step_ms, title=say("rate")) if len(tidy) else None,
        key="latency-outcomes",
        help=say(
            "succeeded: stop or length reached; aborted: cancelled by the client; failed: an error; "
            "rejected: refused before it began."
        ),
        note=note(say("derived"), steps(step_ms), _sum_of(subject)),
        why=say(_UNTOLD),
        about=subject.name,
        marks=marks,
    )


def preemptions(subject: Subject, view: View, marks: Marks | None, step_ms: int) -> None:
    """Requests pushed out of the KV cache; a measured none is said in words."""
    sums = together(_counted(subject, view, step_ms), ["preemptions_total"])
    axis, title = say("preemptions"), say("Preemptions")
    counted = sums[["bucket_at"]].assign(series=axis, preemptions=sums["preemptions_total"]).dropna()
    total = round(counted["preemptions"].sum())
    help_text = say("Requests pushed out of a full KV cache; their work is done twice.")
    if len(counted) and total == 0:  # an empty picture would look like missing data
        st.markdown(f"##### {title}", help=help_text)
        st.caption(say("0 in the {window}: no request was pushed out of the KV cache.", window=view.words))
        return
    within = say("{count} in the {window}", count=spoken().number(total), window=view.words)
    picture(
        title,
        timeseries.stacked(counted, "preemptions", view.span, step_ms, title=axis) if len(counted) else None,
        key="latency-preemptions",
        help=help_text,
        note=note(say("measured"), within, steps(step_ms)),
        why=say(_UNTOLD),
        about=subject.name,
        marks=marks,
    )
