"""The latency page's numbers: quantiles, promises, load, cache and outcomes of the window."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from analytics.formulas.objectives import Between
from analytics.objectives import Promise, probed
from charts.latency import seconds_text
from core.readings import Latency
from core.settings import Objective
from core.units import show, unit_of
from pages.serving import clocks
from pages.serving.subject import Subject
from pages.shared import loaders
from pages.shared.figures import Figure
from pages.shared.filters import View

LEAST_FOR_P99 = 100  # observations; analytics leaves p99 out below
OUTCOMES = ("succeeded", "failed", "aborted", "rejected")
HELP = {
    Latency.TTFT: "Time to first token, from the request's arrival at the server.",
    Latency.ITL: "Gap between two tokens of one answer, pooled over all answers.",
    Latency.TPOT: "Mean time per token after the first, one value per request.",
    Latency.E2E: "From the request's arrival to the end of its answer.",
    Latency.QUEUE: "Time a request waits before the engine takes it up.",
    Latency.PREFILL: "Time the engine spends on a request's prompt.",
    Latency.DECODE: "Time the engine spends generating a request's answer.",
}
ENDED = {
    "failed": "Requests that ended by an error.",
    "aborted": "Requests that the client cancelled; they do not count against an objective.",
    "rejected": "Requests that were refused before they began: not valid, or the server was full.",
}
NO_BUCKETS = "the server tells only their number and sum"
_UNSAID = "the server does not tell it"
_SECONDS, _RATIO = unit_of("x_seconds"), unit_of("x_ratio")
_REQUESTS = unit_of("x_requests_per_second")


def whole(ids: tuple[int, ...], kind: Latency, view: View) -> pd.Series:
    """Quantiles of a kind over the whole window; all unknown where nothing was observed."""
    frame = loaders.quantiles(ids, kind.value, view.start_ms, view.end_ms)
    return frame.iloc[0] if len(frame) else pd.Series(index=frame.columns, dtype="object")


def finished(ids: tuple[int, ...], view: View) -> pd.Series:
    """Requests that ended within the window, by outcome; 0 where the server does not count them."""
    counters = tuple(f"{name}_requests_total" for name in OUTCOMES)
    frame = loaders.increases("deployment", counters, ids, view.start_ms, view.end_ms)
    return frame[list(counters)].sum().rename(dict(zip(counters, OUTCOMES, strict=True)))


def latencies(subject: Subject, kinds: list[Latency], view: View) -> list[Figure]:
    """TTFT, time per token and E2E."""
    per_token = Latency.TPOT if Latency.ITL not in kinds and Latency.TPOT in kinds else Latency.ITL
    wanted = [(Latency.TTFT, "p50"), (Latency.TTFT, "p95"), (Latency.TTFT, "p99"), (per_token, "p50")]
    return [_quantile(subject.ids, kind, name, view) for kind, name in [*wanted, (Latency.E2E, "p95")]]


def _quantile(ids: tuple[int, ...], kind: Latency, name: str, view: View) -> Figure:
    """One quantile: a value, a lower limit, a count where there are too few, or unknown."""
    found = whole(ids, kind, view)
    label, seen = f"{kind.value.upper()} {name}", found["observations"]
    mean = "" if pd.isna(found["mean_seconds"]) else f" Mean: {seconds_text(found['mean_seconds'])}."
    if seen and pd.isna(found["highest_bound_seconds"]):
        text = f"mean {seconds_text(found['mean_seconds'])}" if mean else None
        note = f"n = {seen:,.0f}, no quantile: {NO_BUCKETS}"
        return Figure(label=label, text=text, basis="derived", window=view.words, note=note, reason=NO_BUCKETS)
    if name == "p99" and seen and seen < LEAST_FOR_P99:
        return Figure(label=label, text=f"n = {seen:.0f}", basis="missing", window=f"no p99 under {LEAST_FOR_P99}")
    value, beyond = found[f"{name}_seconds"], found[f"{name}_at_least"] == 1  # not so where it is unknown
    left_out = found["left_out_observations"]
    apart = f" {left_out:,.0f} more have other bucket bounds and count in the mean alone." if left_out else ""
    return Figure(
        label=label,
        value=None if pd.isna(value) else float(value),
        unit=_SECONDS,
        text=_limit_text(value, found["lowest_bound_seconds"], beyond=beyond),
        basis="derived",
        window=f"{view.words}, n = {seen or 0:,.0f}",
        note=f"{left_out:,.0f} left out" if left_out else "",
        help=f"{HELP[kind]}{mean} From the server's histogram buckets, summed over the window.{apart}",
        reason="no requests, or no histogram of it",
    )


def _limit_text(seconds: float, lowest_bound_seconds: float, *, beyond: bool) -> str | None:
    """A quantile of which only a limit is known; ``None`` for others."""
    if seconds < lowest_bound_seconds:
        return f"≤ {seconds_text(lowest_bound_seconds)}"
    return seconds_text(seconds, at_least=True) if beyond else None


def promises(subject: Subject, objective: Objective, view: View) -> list[Figure]:
    """Each limit with its n, requests that kept all of them, the budget of misses, and what probes saw."""
    kept = loaders.kept(objective, subject.ids, view.start_ms, view.end_ms)
    rate = kept.good_requests_per_second
    judged = clocks.asked(subject, view)
    figures = [
        *(_promise(one, view) for one in kept.promises),
        Figure(
            label="Goodput",
            text=None if rate is None else _between(rate, lambda value: show(value, _REQUESTS)),
            basis="derived",
            window=view.words,
            note="" if kept.attained is None else f"{percent(kept.attained)} of requests",
            help="Requests per second that kept every limit. Separate histograms do not tell which requests "
            "missed, so of several limits only the least and the most are known.",
            reason="no requests, or no histogram of any of the limits",
        ),
        _budget(kept.promises, view),
    ]
    if len(judged):
        figures.append(_probed(judged, objective, view))
    return figures


def _promise(one: Promise, view: View) -> Figure:
    what = "requests" if one.of_requests else "gaps between tokens"
    errors = f" and {one.errored:,.0f} errors" if one.errored else ""
    guessed = one.attained is not None and not one.attained.exact
    return Figure(
        label=f"{one.seen.value.upper()} within {seconds_text(one.limit_seconds)}",
        text=None if one.attained is None else percent(one.attained),
        basis="estimated" if guessed else "derived",
        window=view.words,
        note=f"target {show(one.target_ratio, _RATIO)}, n = {one.observations:,.0f}{errors}",
        help=f"Share of {what} within the limit; errors are misses, aborted requests do not count. "
        "A range: the limit lies between two of the server's bucket bounds.",
        reason="no requests, or no histogram of it",
    )


def _budget(promises_: tuple[Promise, ...], view: View) -> Figure:
    """The limit whose budget burns fastest, as far as is certain."""
    burns = [(one.burn, one) for one in promises_ if one.burn is not None]
    worst, of = max(burns, key=lambda pair: (pair[0].lower, pair[0].upper), default=(None, None))
    return Figure(
        label="Error budget burn",
        text=None if worst is None else _between(worst, lambda value: f"{value:.2g}×"),
        basis="derived" if worst is None or worst.exact else "estimated",
        window=view.words,
        note="" if of is None else f"of {of.seen.value.upper()}, 1× uses it up just so",
        help="Misses over the misses that the target allows, of the limit that fares worst.",
        reason="no requests, or no histogram of any of the limits",
    )


def _probed(requests: pd.DataFrame, objective: Objective, view: View) -> Figure:
    found = probed(requests, objective.limits_seconds)
    unsure = f"{found.undetermined} cannot be judged" if found.undetermined else ""
    return Figure(
        label="Probes within all limits",
        text=f"{found.kept} of {found.judged}" if found.judged else None,
        window=view.words,
        note=unsure,
        help="Request by request, so exact; by the client's clock. A failed probe has missed.",
        reason=f"of no probe every latency is known that is promised ({found.undetermined} asked)",
    )


def percent(share: Between) -> str:
    """Two decimals, since promises are made of them; what is not all never reads as all."""
    return _between(share, lambda value: f"{math.floor(value * 1e4 + 1e-6) / 100:.2f} %")


def _between(of: Between, text: Callable[[float], str]) -> str:
    """Both ends, or one where they read the same."""
    low, high = text(of.lower), text(of.upper)
    return low if low == high else f"{low} – {high}"


def load(subject: Subject, view: View) -> list[Figure]:
    """Throughput of the window, and what is going on now."""
    rates = loaders.rates(
        "deployment", ("generation_tokens_total",), subject.ids, view.start_ms, view.end_ms, view.step_ms
    )
    rate = rates.groupby("entity_id")["generation_tokens_per_second"].mean().dropna()
    every = pd.DataFrame(subject.rows)
    newest = every if every["stale"].all() else every[~every["stale"]]  # who has stopped reporting runs nothing
    figures = [
        Figure(
            label="Output tokens/s",
            value=float(rate.sum()) if len(rate) else None,
            unit=unit_of("x_tokens_per_second"),
            basis="derived",
            window=view.words,
            help="Mean over the window, all requests together.",
            reason="the server does not count tokens",
        )
    ]
    for label, metric, help_text in (
        ("Running", "running_requests", "Requests being computed."),
        ("Waiting", "waiting_requests", "Requests in the queue."),
        ("KV cache", "kv_cache_usage_ratio", "Share of the KV cache in use; of several servers the fullest."),
    ):
        known = newest[metric].dropna()
        value = known.max() if metric.endswith("_ratio") else known.sum()
        figures.append(
            Figure(
                label=label,
                value=float(value) if len(known) else None,
                unit=unit_of(metric),
                at=newest["observed_at"].min(),
                help=help_text,
                reason="not exported by this server",
            )
        )
    return figures


def traffic(subject: Subject, view: View) -> list[Figure]:
    """What came from caches, and requests that did not end well."""
    counters = (
        "prefix_cache_hits_tokens_total",
        "prefix_cache_queries_tokens_total",
        "cached_prompt_tokens_total",
        "prompt_tokens_total",
        *(f"{name}_requests_total" for name in OUTCOMES),
    )
    grown = loaders.increases("deployment", counters, subject.ids, view.start_ms, view.end_ms)
    hits = _share(grown, "prefix_cache_hits_tokens_total", "prefix_cache_queries_tokens_total")
    cached = _share(grown, "cached_prompt_tokens_total", "prompt_tokens_total")
    return [
        Figure(
            label="Prefix cache hits",
            value=hits,
            unit=_RATIO,
            basis="derived",
            window=view.words,
            help="Tokens found over tokens looked up, both counted within the window.",
            reason=_UNSAID,
        ),
        Figure(
            label="Prompt from cache",
            value=cached,
            unit=_RATIO,
            basis="derived",
            window=view.words,
            help="Prompt tokens that were not computed again, over all prompt tokens of the window.",
            reason=_UNSAID,
        ),
        *(_ended(grown, name, view) for name in OUTCOMES if name != "succeeded"),
    ]


def _share(grown: pd.DataFrame, part: str, total: str) -> float | None:
    """One counter's increase over another's, of those deployments that count both."""
    both = grown.dropna(subset=[part, total])
    whole_ = both[total].sum()
    return float(both[part].sum() / whole_) if whole_ > 0 else None


def _ended(grown: pd.DataFrame, name: str, view: View) -> Figure:
    known = grown[f"{name}_requests_total"].dropna()
    return Figure(
        label=name.capitalize(),
        value=float(known.sum()) if len(known) else None,
        window=view.words,
        help=ENDED[name],
        reason=_UNSAID,
    )
