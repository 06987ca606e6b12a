"""One subject in full: figures of the window, then pictures in the order in which an incident is read."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts import latency as charts
from charts import timeseries
from charts.axis import Span
from core.readings import Latency
from pages.serving import clocks, figures, load
from pages.serving.figures import HELP, LEAST_FOR_P99, NO_BUCKETS
from pages.serving.subject import Subject
from pages.shared import loaders, words
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data
from pages.shared.pictures import picture

COLUMNS = 90  # steps of a latency chart: each must hold enough requests for a p95
TITLES = {
    Latency.TTFT: "Time to first token (TTFT)",
    Latency.ITL: "Between tokens (ITL)",
    Latency.TPOT: "Per token, mean of a request (TPOT)",
    Latency.E2E: "Whole answer (E2E)",
    Latency.QUEUE: "In the queue",
    Latency.PREFILL: "On the prompt (prefill)",
    Latency.DECODE: "Generating (decode)",
}


def draw(subject: Subject, view: View) -> None:
    """Everything about one subject."""
    step_ms = view.coarse_step_ms(COLUMNS)
    span = Span(view.start_ms, view.end_ms, round(1.5 * step_ms), view.zone)
    kinds = [kind for kind in TITLES if len(_steps(subject, kind, view, step_ms))]
    _tiles(subject, kinds, view)
    if not kinds:
        _no_latency(subject, view)
    left, right = st.columns(2)
    for number, kind in enumerate(_drawn(subject, kinds)):
        with left if number % 2 == 0 else right:
            _quantiles(subject, kind, _limit(subject, kind, kinds), view, step_ms, span)
    if kinds:
        _distribution(subject, kinds, view, step_ms, span)
    left, right = st.columns(2)
    with left:
        load.requests(subject, view)
        load.tokens(subject, view)
        load.prefix_cache(subject, view, step_ms)
    with right:
        load.kv_cache(subject, view)
        load.outcomes(subject, view, step_ms)
        load.preemptions(subject, view, step_ms)
        if not kinds:
            _mean_token_time(subject, view)
    clocks.two_clocks(subject, view, step_ms, span)


def _drawn(subject: Subject, kinds: list[Latency]) -> list[Latency]:
    """Which kinds get a picture, also those that are missed; the last ones only where they are told."""
    if not kinds:
        return []
    per_token = Latency.ITL if Latency.ITL in kinds else Latency.TPOT
    more: list[Latency] = [kind for kind in (Latency.PREFILL, Latency.DECODE) if kind in kinds]
    if per_token is Latency.ITL and _limit(subject, Latency.TPOT, kinds) is not None:
        more = [Latency.TPOT, *more]
    return [Latency.TTFT, per_token, Latency.E2E, Latency.QUEUE, *more]


def _limit(subject: Subject, kind: Latency, kinds: list[Latency]) -> float | None:
    """What is promised of a kind (s); a promise of TPOT is drawn over gaps where there is no TPOT."""
    if kind is Latency.ITL and Latency.TPOT not in kinds:
        kind = Latency.TPOT
    elif kind is Latency.TPOT and kind not in kinds:
        return None
    return None if subject.objective is None else subject.objective.limits_seconds.get(kind.value)


def _tiles(subject: Subject, kinds: list[Latency], view: View) -> None:
    tiles(figures.latencies(subject, kinds, view), view)
    if subject.objective is not None:
        tiles(figures.promises(subject, subject.objective, view), view)
    else:
        st.caption("No objective is set for this model: a [[serving.objective]] in vatio.toml adds its figures here.")
    tiles(figures.load(subject, view), view)
    tiles(figures.traffic(subject, view), view)


def _no_latency(subject: Subject, view: View) -> None:
    """Why there are no quantiles: no requests, or a server that cannot tell."""
    every = tuple(kind.value for kind in TITLES)
    if len(loaders.histograms(subject.ids, every, view.start_ms, view.end_ms)):
        no_data("No request ended in the window, so there is no latency.")
        return
    seen = loaders.increases("deployment", ("generation_tokens_total",), subject.ids, view.start_ms, view.end_ms)
    if seen.empty:
        no_data("No sample of this deployment lies in the window yet.")
        return
    no_data(
        f"{subject.engines} exports no latency histograms, so TTFT, ITL and E2E quantiles cannot be known from it.",
        "Means from its counters are shown where it has them.",
        "add a [[probe]] to the settings: it measures TTFT, ITL and E2E from outside",
    )


def _steps(subject: Subject, kind: Latency, view: View, step_ms: int) -> pd.DataFrame:
    frame = loaders.quantiles(subject.ids, kind.value, view.start_ms, view.end_ms, step_ms)
    return frame[frame["observations"] > 0]


def _quantiles(
    subject: Subject, kind: Latency, limit_seconds: float | None, view: View, step_ms: int, span: Span
) -> None:
    frame = _steps(subject, kind, view, step_ms)
    few = f" p99 only where a step has {LEAST_FOR_P99} observations." if frame["p99_seconds"].isna().any() else ""
    below = frame["lowest_bound_seconds"][frame["p50_seconds"] < frame["lowest_bound_seconds"]]
    guess = (
        f" The lowest bucket ends at {charts.seconds_text(below.iloc[-1])}: below, no more is known."
        if len(below)
        else ""
    )
    beyond = frame[[f"{name}_at_least" for name in ("p50", "p95", "p99")]].to_numpy().any() if len(frame) else False
    more = " Triangles: at least this much, the server's buckets end there." if beyond else ""
    picture(
        TITLES[kind],
        charts.quantile_lines(frame, span, limit_seconds=limit_seconds) if len(frame) else None,
        key=f"latency-{kind.value}",
        help=HELP[kind],
        note=f"derived · {words.duration(step_ms / 1000)} steps. Quantiles are interpolated in the server's buckets, "
        f"the mean is exact.{few}{guess}{more}{_unquantiled(frame)}",
        why="no request ended in the window, or the server has no histogram of it",
    )


def _unquantiled(frame: pd.DataFrame) -> str:
    """What quantiles leave out, if anything."""
    left_out = frame["left_out_observations"].sum()
    apart = f" {left_out:,.0f} observations are left out: their server has other buckets." if left_out else ""
    bare = len(frame) and frame["highest_bound_seconds"].isna().all()
    return apart + (f" Mean alone: {NO_BUCKETS}." if bare else "")


def _distribution(subject: Subject, kinds: list[Latency], view: View, step_ms: int, span: Span) -> None:
    kind = st.segmented_control(
        "Distribution of",
        kinds,
        default=kinds[0],
        required=True,
        format_func=lambda kind: kind.value.upper(),
        key="latency-kind",
    )
    frame = loaders.histograms(subject.ids, (kind.value,), view.start_ms, view.end_ms, step_ms)
    counts = frame["increments"].map(lambda increments: float(increments.sum()))
    by_bounds = counts.groupby(frame["upper_bounds_seconds"]).sum()
    most = max(by_bounds.index, key=lambda bounds: (len(bounds) > 1, by_bounds[bounds]), default=())
    left_out = by_bounds.sum() - by_bounds.get(most, 0.0)
    apart = f" {left_out:,.0f} observations are left out: their server has other buckets." if left_out else ""
    picture(
        f"Distribution: {TITLES[kind]}",
        charts.heat_map(frame[frame["upper_bounds_seconds"] == most], span, step_ms) if by_bounds.sum() else None,
        key="latency-heat",
        help="Each column is one step, each row one bucket of the server's histogram.",
        note="Counts as the server gives them; an empty column is a step without requests or without a sample." + apart,
    )


def _mean_token_time(subject: Subject, view: View) -> None:
    """All that counters tell of latency."""
    counters = ("decode_seconds_total", "generation_tokens_total")
    window = (view.start_ms, view.end_ms, view.coarse_step_ms(COLUMNS))
    frame = load.together(loaders.series("deployment", counters, subject.ids, *window), list(counters))
    tokens = frame["generation_tokens_total"]
    tidy = frame[["bucket_at"]].assign(
        series="mean", mean_token_seconds=frame["decode_seconds_total"] / tokens.where(tokens > 0)
    )
    chart = timeseries.over_time(tidy, "mean_token_seconds", view.span) if tidy["mean_token_seconds"].any() else None
    picture(
        "Mean time per output token",
        chart,
        key="latency-mean-token",
        note="derived: time spent generating / tokens generated, from the server's counters; a mean, not a quantile.",
        why="the server does not count the time it spends",
    )
