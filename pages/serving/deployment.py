"""One subject in full: figures of the window, then pictures in the order in which an incident is read."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analytics.latency import quantiles_by
from charts import latency as charts
from charts import timeseries
from charts.axis import Span
from core.language import _, count, say
from core.readings import Latency
from pages.serving import clocks, figures, load
from pages.serving.figures import HELP, LEAST_FOR_P99, NO_BUCKETS
from pages.serving.seen import Seen
from pages.serving.subject import Subject
from pages.shared import loaders
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data
from pages.shared.marks import Marks, happened, lacking, week_before
from pages.shared.pictures import picture

COLUMNS = 90  # steps of a latency chart: each must hold enough requests for a p95
TITLES = {
    Latency.TTFT: _("Time to first token (TTFT)"),
    Latency.ITL: _("Between tokens (ITL)"),
    Latency.TPOT: _("Per token, mean of a request (TPOT)"),
    Latency.E2E: _("Whole answer (E2E)"),
    Latency.QUEUE: _("In the queue"),
    Latency.PREFILL: _("On the prompt (prefill)"),
    Latency.DECODE: _("Generating (decode)"),
}
_KINDS = tuple(kind.value for kind in TITLES)
_SHORT = {Latency.QUEUE: _("Queue"), Latency.PREFILL: _("Prefill"), Latency.DECODE: _("Decode")}


def draw(subject: Subject, seen: Seen, view: View) -> None:
    """Everything about one subject, of which ``seen`` tells the whole window."""
    step_ms = view.coarse_step_ms(COLUMNS)
    span = Span(view.start_ms, view.end_ms, round(1.5 * step_ms), view.zone)
    histograms = loaders.histogram_steps(subject.ids, _KINDS, view.start_ms, view.end_ms, step_ms)
    steps = _steps(subject, view, step_ms)
    kinds = [kind for kind, of_kind in steps.items() if len(of_kind)]
    marks = happened(view, subject.involved(view))
    tiles(figures.latencies(quantiles_by(histograms, ["kind"]), kinds, view), view)
    _tiles(subject, seen, view)
    if not kinds:
        _no_latency(subject, histograms, view)
    left, right = st.columns(2)
    for number, kind in enumerate(_drawn(subject, kinds)):
        with left if number % 2 == 0 else right:
            _quantiles(subject, steps[kind], kind, _limit(subject, kind, kinds), view, marks, step_ms, span)
    if kinds:
        _distribution(subject, histograms, kinds, marks, step_ms, span)
    left, right = st.columns(2)
    with left:
        load.requests(subject, view, marks)
        load.tokens(subject, view, marks)
        load.prefix_cache(subject, view, marks, step_ms)
    with right:
        load.kv_cache(subject, view, marks)
        load.outcomes(subject, view, marks, step_ms)
        load.preemptions(subject, view, marks, step_ms)
        if not kinds:
            _mean_token_time(subject, view, marks)
    clocks.two_clocks(subject, steps[Latency.TTFT], view, marks, span)


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


def _tiles(subject: Subject, seen: Seen, view: View) -> None:
    if subject.objective is not None:
        tiles(figures.promises(subject, seen, subject.objective, view), view)
    else:
        st.caption(
            say("No objective is set for this model: a [[serving.objective]] in vatio.toml adds its figures here.")
        )
    tiles(figures.load(subject, view), view)
    tiles(figures.traffic(subject, seen, view), view)


def _no_latency(subject: Subject, histograms: pd.DataFrame, view: View) -> None:
    """Why there are no quantiles: no requests, or a server that cannot tell."""
    if len(histograms):
        no_data(say("No request ended in the window, so there is no latency."))
        return
    seen = loaders.increases("deployment", ("generation_tokens_total",), subject.ids, view.start_ms, view.end_ms)
    if seen.empty:
        no_data(say("No sample of this deployment lies in the window yet."))
        return
    no_data(
        say(
            "{engines} exports no latency histograms, so TTFT, ITL and E2E quantiles cannot be known from it.",
            engines=subject.engines,
        ),
        say("Means from its counters are shown where it has them."),
        say("add a [[probe]] to the settings: it measures TTFT, ITL and E2E from outside"),
    )


def _steps(subject: Subject, view: View, step_ms: int) -> dict[Latency, pd.DataFrame]:
    """Steps in which something was observed, by kind."""
    frame = loaders.quantile_steps(subject.ids, _KINDS, view.start_ms, view.end_ms, step_ms)
    some = frame[frame["observations"] > 0]
    figures_, kinds = some.drop(columns="kind"), some["kind"].to_numpy(dtype="object")
    return {kind: figures_[kinds == kind.value] for kind in TITLES}


def _quantiles(
    subject: Subject,
    frame: pd.DataFrame,
    kind: Latency,
    limit_seconds: float | None,
    view: View,
    marks: Marks | None,
    step_ms: int,
    span: Span,
) -> None:
    before = week_before(view, lambda then: _steps(subject, then, step_ms)[kind])
    picture(
        say(TITLES[kind]),
        charts.quantile_lines(frame, span, limit_seconds=limit_seconds, before=before) if len(frame) else None,
        key=f"latency-{kind.value}",
        help=say(HELP[kind]),
        note=" ".join([load.note(say("derived"), load.steps(step_ms)) + ".", *_explained(frame), *lacking(before)]),
        why=say("no request ended in the window, or the server has no histogram of it"),
        about=subject.name,
        marks=marks,
    )


def _explained(frame: pd.DataFrame) -> list[str]:
    """How quantiles are found, and what they leave out, if anything."""
    sentences = [say("Quantiles are interpolated in the server's buckets, the mean is exact.")]
    if frame["p99_seconds"].isna().any():
        sentences.append(say("p99 only where a step has {least} observations.", least=str(LEAST_FOR_P99)))
    below = frame["lowest_bound_seconds"][frame["p50_seconds"] < frame["lowest_bound_seconds"]]
    if len(below):
        bound = charts.seconds_text(below.iloc[-1])
        sentences.append(say("The lowest bucket ends at {bound}: below, no more is known.", bound=bound))
    if len(frame) and frame[[f"{name}_at_least" for name in ("p50", "p95", "p99")]].to_numpy().any():
        sentences.append(say("Triangles: at least this much, the server's buckets end there."))
    sentences += _left_out(frame["left_out_observations"].sum())
    if len(frame) and frame["highest_bound_seconds"].isna().all():
        sentences.append(say("Mean alone: {why}.", why=say(NO_BUCKETS)))
    return sentences


def _left_out(observations: float) -> list[str]:
    """What becomes of those whose server has other buckets; nothing where there are none."""
    if not observations:
        return []
    said = count(
        "{number} observation is left out: its server has other buckets.",
        "{number} observations are left out: their server has other buckets.",
        round(observations),
    )
    return [said]


def _distribution(
    subject: Subject,
    histograms: pd.DataFrame,
    kinds: list[Latency],
    marks: Marks | None,
    step_ms: int,
    span: Span,
) -> None:
    kind = st.segmented_control(
        say("Distribution of"),
        kinds,
        default=kinds[0],
        required=True,
        format_func=lambda kind: say(_SHORT.get(kind, kind.value.upper())),
        key="latency-kind",
    )
    frame = histograms[histograms["kind"] == kind.value]
    counts = frame["increments"].map(lambda increments: float(increments.sum()))
    by_bounds = counts.groupby(frame["upper_bounds_seconds"]).sum()
    most = max(by_bounds.index, key=lambda bounds: (len(bounds) > 1, by_bounds[bounds]), default=())
    told = say("Counts as the server gives them; an empty column is a step without requests or without a sample.")
    picture(
        say("Distribution: {kind}", kind=say(TITLES[kind])),
        charts.heat_map(frame[frame["upper_bounds_seconds"] == most], span, step_ms) if by_bounds.sum() else None,
        key="latency-heat",
        help=say("Each column is one step, each row one bucket of the server's histogram."),
        note=" ".join([told, *_left_out(by_bounds.sum() - by_bounds.get(most, 0.0))]),
        about=subject.name,
        marks=marks,
    )


def _mean_token_time(subject: Subject, view: View, marks: Marks | None) -> None:
    """All that counters tell of latency."""
    counters = ("decode_seconds_total", "generation_tokens_total")
    window = (view.start_ms, view.end_ms, view.coarse_step_ms(COLUMNS))
    frame = load.together(loaders.series("deployment", counters, subject.ids, *window), list(counters))
    tokens = frame["generation_tokens_total"]
    column, axis = "mean_token_seconds", say("mean")
    means = frame["decode_seconds_total"] / tokens.where(tokens > 0)
    tidy = frame[["bucket_at"]].assign(series=axis, **{column: means})
    picture(
        say("Mean time per output token"),
        timeseries.over_time(tidy, column, view.span, title=axis) if means.any() else None,
        key="latency-mean-token",
        note=say(
            "derived: time spent generating / tokens generated, from the server's counters; a mean, not a quantile."
        ),
        why=say("the server does not count the time it spends"),
        about=subject.name,
        marks=marks,
    )
