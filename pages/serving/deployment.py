"""One deployment in full: figures of the window, then pictures in the order in which an incident is read."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
import streamlit as st

from charts import latency as charts
from charts import timeseries
from charts.axis import Span
from core.readings import Latency, Outcome
from core.units import unit_of
from pages.shared import loaders, words
from pages.shared.figures import Figure, tiles
from pages.shared.filters import View
from pages.shared.frame import no_data
from pages.shared.pictures import picture

COLUMNS = 90  # steps of a latency chart: each must hold enough requests for a p95
LEAST_FOR_P99 = 100  # observations; analytics leaves p99 out below
OUTCOMES = ("succeeded", "failed", "aborted")
TOKENS = {"generation_tokens": "output", "prompt_tokens": "prompt"}
HELP = {
    Latency.TTFT: "Time to first token, from the request's arrival at the server.",
    Latency.ITL: "Gap between two tokens of one answer, pooled over all answers.",
    Latency.TPOT: "Mean time per token after the first, one value per request.",
    Latency.E2E: "From the request's arrival to the end of its answer.",
    Latency.QUEUE: "Time a request waits before the engine takes it up.",
}
TITLES = {
    Latency.TTFT: "Time to first token (TTFT)",
    Latency.ITL: "Between tokens (ITL)",
    Latency.TPOT: "Per token, mean of a request (TPOT)",
    Latency.E2E: "Whole answer (E2E)",
    Latency.QUEUE: "In the queue",
}
_SECONDS = unit_of("x_seconds")
_UNTOLD = "the server does not export it"


def whole(entity_id: int, kind: Latency, view: View) -> pd.Series:
    """Quantiles of a kind over the whole window; all unknown where nothing was observed."""
    frame = loaders.quantiles((entity_id,), kind.value, view.start_ms, view.end_ms)
    return frame.iloc[0] if len(frame) else pd.Series(index=frame.columns, dtype="object")


def finished(entity_id: int, view: View) -> pd.Series:
    """Requests that ended within the window, by outcome; 0 where the server does not count them."""
    counters = tuple(f"{name}_requests_total" for name in OUTCOMES)
    frame = loaders.increases("deployment", counters, (entity_id,), view.start_ms, view.end_ms)
    return frame[list(counters)].sum().rename(dict(zip(counters, OUTCOMES, strict=True)))


def draw(row: dict[Hashable, Any], view: View) -> None:
    """Everything about one deployment."""
    entity_id, engine = int(row["entity_id"]), str(row["labels"].get("engine", "this server"))
    step_ms = view.coarse_step_ms(COLUMNS)
    span = Span(view.start_ms, view.end_ms, round(1.5 * step_ms), view.zone)
    kinds = [kind for kind in TITLES if len(_steps(entity_id, kind, view, step_ms))]
    _tiles(row, kinds, view)
    if not kinds:
        _no_latency(entity_id, engine, view)
    left, right = st.columns(2)
    per_token = Latency.ITL if Latency.ITL in kinds else Latency.TPOT
    for number, kind in enumerate(kind for kind in (Latency.TTFT, per_token, Latency.E2E, Latency.QUEUE) if kinds):
        with left if number % 2 == 0 else right:
            _quantiles(entity_id, kind, view, step_ms, span)
    if kinds:
        _distribution(entity_id, kinds, view, step_ms, span)
    left, right = st.columns(2)
    with left:
        _requests(entity_id, view)
        _tokens(entity_id, view)
    with right:
        _cache(entity_id, view)
        _outcomes(entity_id, view, step_ms)
    left, right = st.columns(2)
    with left:
        _clocks(row, view, step_ms, span)
    with right:
        _preemptions(entity_id, view, step_ms)
        if not kinds:
            _mean_token_time(entity_id, view)


def _no_latency(entity_id: int, engine: str, view: View) -> None:
    """Why there are no quantiles: no requests, or a server that cannot tell."""
    every = tuple(kind.value for kind in TITLES)
    if len(loaders.histograms((entity_id,), every, view.start_ms, view.end_ms)):
        no_data("No request ended in the window, so there is no latency.")
        return
    seen = loaders.increases("deployment", ("generation_tokens_total",), (entity_id,), view.start_ms, view.end_ms)
    if seen.empty:
        no_data("No sample of this deployment lies in the window yet.")
        return
    no_data(
        f"{engine} exports no latency histograms, so TTFT, ITL and E2E quantiles cannot be known from it.",
        "Means from its counters are shown where it has them.",
        "add a [[probe]] to the settings: it measures TTFT, ITL and E2E from outside",
    )


def _steps(entity_id: int, kind: Latency, view: View, step_ms: int) -> pd.DataFrame:
    frame = loaders.quantiles((entity_id,), kind.value, view.start_ms, view.end_ms, step_ms)
    return frame[frame["observations"] > 0]


def _tiles(row: dict[Hashable, Any], kinds: list[Latency], view: View) -> None:
    entity_id = int(row["entity_id"])
    per_token = Latency.TPOT if Latency.ITL not in kinds and Latency.TPOT in kinds else Latency.ITL
    wanted = [(Latency.TTFT, "p50"), (Latency.TTFT, "p95"), (Latency.TTFT, "p99"), (per_token, "p50")]
    figures = [_quantile_figure(entity_id, kind, q, view) for kind, q in [*wanted, (Latency.E2E, "p95")]]
    rate = loaders.rates(
        "deployment", ("generation_tokens_total",), (entity_id,), view.start_ms, view.end_ms, view.step_ms
    )["generation_tokens_per_second"]
    tiles(figures, view)
    throughput = Figure(
        label="Output tokens/s",
        value=float(rate.mean()) if rate.notna().any() else None,
        unit=unit_of("x_tokens_per_second"),
        basis="derived",
        window=view.words,
        help="Mean over the window, all requests together.",
        reason="the server does not count tokens",
    )
    figures = [throughput]
    for label, metric, help_text in (
        ("Running", "running_requests", "Requests being computed."),
        ("Waiting", "waiting_requests", "Requests in the queue."),
        ("KV cache", "kv_cache_usage_ratio", "Share of the KV cache in use."),
    ):
        figures.append(
            Figure(
                label=label,
                value=row[metric],
                unit=unit_of(metric),
                at=row["observed_at"],
                help=help_text,
                reason="not exported by this server",
            )
        )
    tiles(figures, view)


def _quantile_figure(entity_id: int, kind: Latency, name: str, view: View) -> Figure:
    """One quantile: a value, a lower limit, a count where there are too few, or unknown."""
    found = whole(entity_id, kind, view)
    label, seen = f"{kind.value.upper()} {name}", found["observations"]
    if name == "p99" and seen and seen < LEAST_FOR_P99:
        return Figure(label=label, text=f"n = {seen:.0f}", basis="missing", window=f"no p99 under {LEAST_FOR_P99}")
    value, beyond = found[f"{name}_seconds"], found[f"{name}_at_least"] == 1  # not so where it is unknown
    mean = "" if pd.isna(found["mean_seconds"]) else f" Mean: {charts.seconds_text(found['mean_seconds'])}."
    return Figure(
        label=label,
        value=None if pd.isna(value) else float(value),
        unit=_SECONDS,
        text=charts.seconds_text(value, at_least=True) if beyond else None,
        basis="derived",
        window=f"{view.words}, n = {seen or 0:,.0f}",
        help=f"{HELP[kind]}{mean} From the server's histogram buckets, summed over the window.",
        reason="no requests, or no histogram of it",
    )


def _quantiles(entity_id: int, kind: Latency, view: View, step_ms: int, span: Span) -> None:
    frame = _steps(entity_id, kind, view, step_ms)
    few = f" p99 only where a step has {LEAST_FOR_P99} observations." if frame["p99_seconds"].isna().any() else ""
    beyond = frame[[f"{name}_at_least" for name in ("p50", "p95", "p99")]].to_numpy().any() if len(frame) else False
    more = " Triangles: at least this much, the server's buckets end there." if beyond else ""
    picture(
        TITLES[kind],
        charts.quantile_lines(frame, span) if len(frame) else None,
        key=f"latency-{kind.value}",
        help=HELP[kind],
        note=f"derived · {words.duration(step_ms / 1000)} steps. Quantiles are interpolated in the server's buckets, "
        f"the mean is exact.{few}{more}",
        why="no request ended in the window, or the server has no histogram of it",
    )


def _distribution(entity_id: int, kinds: list[Latency], view: View, step_ms: int, span: Span) -> None:
    kind = st.segmented_control(
        "Distribution of",
        kinds,
        default=kinds[0],
        required=True,
        format_func=lambda kind: kind.value.upper(),
        key="latency-kind",
    )
    frame = loaders.histograms((entity_id,), (kind.value,), view.start_ms, view.end_ms, step_ms)
    some = len(frame) and frame["increments"].map(lambda counts: counts.sum()).sum() > 0
    picture(
        f"Distribution: {TITLES[kind]}",
        charts.heat_map(frame, span, step_ms) if some else None,
        key="latency-heat",
        help="Each column is one step, each row one bucket of the server's histogram.",
        note="Counts as the server gives them; an empty column is a step without requests or without a sample.",
    )


def _requests(entity_id: int, view: View) -> None:
    metrics = {"running_requests": "running", "waiting_requests": "waiting"}
    frame = loaders.series("deployment", tuple(metrics), (entity_id,), view.start_ms, view.end_ms, view.step_ms)
    tidy = _tidy(frame, metrics, "present_requests")
    chart = timeseries.over_time(tidy, "present_requests", view.span, title="at once") if len(tidy) else None
    picture("Running and waiting", chart, key="latency-requests", note=f"measured · {view.resolution}", why=_UNTOLD)


def _cache(entity_id: int, view: View) -> None:
    metric = ("kv_cache_usage_ratio",)
    frame = loaders.series("deployment", metric, (entity_id,), view.start_ms, view.end_ms, view.step_ms)
    known = frame.dropna(subset=list(metric))
    chart = timeseries.band(known, metric[0], view.span, title="in use") if len(known) else None
    picture(
        "KV cache", chart, key="latency-cache", note=f"measured · {view.resolution}, mean and extremes", why=_UNTOLD
    )


def _tokens(entity_id: int, view: View) -> None:
    counters = tuple(f"{name}_total" for name in TOKENS)
    frame = loaders.rates("deployment", counters, (entity_id,), view.start_ms, view.end_ms, view.step_ms)
    tidy = _tidy(frame, {f"{n}_per_second": said for n, said in TOKENS.items()}, "all_tokens_per_second")
    chart = timeseries.over_time(tidy, "all_tokens_per_second", view.span, title="rate") if len(tidy) else None
    picture("Tokens", chart, key="latency-tokens", note=f"derived · {view.resolution}", why=_UNTOLD)


def _tidy(frame: pd.DataFrame, names: dict[str, str], column: str) -> pd.DataFrame:
    """Several columns of one quantity as series of one chart."""
    parts = [frame[["bucket_at"]].assign(series=said, **{column: frame[name]}) for name, said in names.items()]
    return pd.concat(parts, ignore_index=True).dropna(subset=[column])


def _outcomes(entity_id: int, view: View, step_ms: int) -> None:
    counters = tuple(f"{name}_requests_total" for name in OUTCOMES)
    frame = loaders.rates("deployment", counters, (entity_id,), view.start_ms, view.end_ms, step_ms)
    tidy = _tidy(frame, {f"{name}_requests_per_second": name for name in OUTCOMES}, "ended_requests_per_second")
    picture(
        "Requests that ended, by outcome",
        timeseries.stacked(tidy, "ended_requests_per_second", view.span, step_ms, title="rate") if len(tidy) else None,
        key="latency-outcomes",
        help="succeeded: stop or length reached; aborted: cancelled by the client; failed: an error.",
        note=f"derived · {words.duration(step_ms / 1000)} steps",
        why=_UNTOLD,
    )


def _preemptions(entity_id: int, view: View, step_ms: int) -> None:
    frame = loaders.series("deployment", ("preemptions_total",), (entity_id,), view.start_ms, view.end_ms, step_ms)
    counts = frame[["bucket_at"]].assign(series="preemptions", preemptions=frame["preemptions_total"]).dropna()
    total, help_text = counts["preemptions"].sum(), "Requests pushed out of a full KV cache; their work is done twice."
    if len(counts) and total == 0:  # measured, and none: an empty picture would look like missing data
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


def _clocks(row: dict[Hashable, Any], view: View, step_ms: int, span: Span) -> None:
    """Server and probe side by side, where a probe asks this model on this server."""
    known = loaders.entities("probe")
    address, model = str(row["labels"].get("url", "")).rstrip("/"), row["labels"].get("model")
    mine = [
        int(probe["entity_id"])
        for probe in known.to_dict("records")
        if address and str(probe["labels"].get("url", "")).startswith(address) and probe["labels"].get("model") == model
    ]
    asked = loaders.probes(view.start_ms, view.end_ms)
    asked = asked[asked["entity_id"].isin(mine)]
    answered = asked[(asked["outcome"] == Outcome.OK.value) & asked["ttft_seconds"].notna()]
    lost = len(asked) - int((asked["outcome"] == Outcome.OK.value).sum())
    server = _steps(int(row["entity_id"]), Latency.TTFT, view, step_ms).rename(columns={"p50_seconds": "seconds"})
    points = answered.rename(columns={"ttft_seconds": "seconds"})[["observed_at", "seconds"]]
    picture(
        "TTFT by two clocks",
        charts.two_clocks(server[["bucket_at", "seconds"]], points, span) if len(points) else None,
        key="latency-clocks",
        help="The server counts from a request's arrival; the probe from the moment it sends, network included.",
        note=f"{len(asked)} probes, {lost} of them not answered. A probe alone shows the best case.",
        why="no probe asked this server in the window" if mine else "no [[probe]] is set for this server and model",
    )


def _mean_token_time(entity_id: int, view: View) -> None:
    """All that counters tell of latency."""
    counters = ("decode_seconds_total", "generation_tokens_total")
    frame = loaders.series("deployment", counters, (entity_id,), view.start_ms, view.end_ms, view.coarse_step_ms(90))
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
