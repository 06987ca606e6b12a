"""The latency page's numbers: quantiles, promises, load, cache and outcomes of the window."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from analytics.formulas.objectives import Between
from analytics.objectives import Promise, probed
from charts.latency import seconds_text
from core.language import _, count, say, spoken
from core.readings import Latency
from core.settings import Objective
from core.units import show, unit_of
from pages.serving import clocks
from pages.serving.load import token_rates
from pages.serving.seen import ENDED, Seen
from pages.serving.subject import Subject
from pages.shared import loaders
from pages.shared.figures import Figure
from pages.shared.filters import View

LEAST_FOR_P99 = 100  # observations; analytics leaves p99 out below
HELP = {
    Latency.TTFT: _("Time to first token, from the request's arrival at the server."),
    Latency.ITL: _("Gap between two tokens of one answer, pooled over all answers."),
    Latency.TPOT: _("Mean time per token after the first, one value per request."),
    Latency.E2E: _("From the request's arrival to the end of its answer."),
    Latency.QUEUE: _("Time a request waits before the engine takes it up."),
    Latency.PREFILL: _("Time the engine spends on a request's prompt."),
    Latency.DECODE: _("Time the engine spends generating a request's answer."),
}
UNHAPPY = {
    "failed": (_("Failed"), _("Requests that ended by an error.")),
    "aborted": (_("Aborted"), _("Requests that the client cancelled; they do not count against an objective.")),
    "rejected": (
        _("Rejected"),
        _("Requests that were refused before they began: not valid, or the server was full."),
    ),
}
NO_BUCKETS = _("the server tells only their number and sum")
_UNSAID = _("the server does not tell it")
_NO_HISTOGRAM = _("no requests, or no histogram of it")
_NO_LIMIT = _("no requests, or no histogram of any of the limits")
_SECONDS, _RATIO = unit_of("x_seconds"), unit_of("x_ratio")
_REQUESTS = unit_of("x_requests_per_second")


def latencies(quantiles: pd.DataFrame, kinds: list[Latency], view: View) -> list[Figure]:
    """TTFT, time per token and E2E; ``quantiles`` are of the window, by kind."""
    per_token = Latency.TPOT if Latency.ITL not in kinds and Latency.TPOT in kinds else Latency.ITL
    wanted = [(Latency.TTFT, "p50"), (Latency.TTFT, "p95"), (Latency.TTFT, "p99"), (per_token, "p50")]
    found = quantiles.set_index("kind").reindex([*Latency]).to_dict("index")  # all unknown where nothing was observed
    return [_quantile(found[kind.value], kind, name, view) for kind, name in [*wanted, (Latency.E2E, "p95")]]


def _quantile(found: Mapping[Hashable, Any], kind: Latency, name: str, view: View) -> Figure:
    """One quantile: a value, a lower limit, a count where there are too few, or unknown."""
    seen, left_out = (_number(found[column]) for column in ("observations", "left_out_observations"))
    label, said = f"{kind.value.upper()} {name}", spoken().number(seen)
    mean = None if pd.isna(found["mean_seconds"]) else seconds_text(found["mean_seconds"])
    if seen and pd.isna(found["highest_bound_seconds"]):
        return Figure(
            label=label,
            text=None if mean is None else say("mean {mean}", mean=mean),
            basis="derived",
            window=view.words,
            note=say("n = {count}, no quantile: {why}", count=said, why=say(NO_BUCKETS)),
            reason=say(NO_BUCKETS),
        )
    if name == "p99" and 0 < seen < LEAST_FOR_P99:
        least = say("no p99 under {least}", least=str(LEAST_FOR_P99))
        return Figure(label=label, text=f"n = {said}", basis="missing", window=least)
    value, beyond = found[f"{name}_seconds"], found[f"{name}_at_least"] == 1  # not so where it is unknown
    explained = [
        say(HELP[kind]),
        "" if mean is None else say("Mean: {mean}.", mean=mean),
        say("From the server's histogram buckets, summed over the window."),
        count(
            "{number} more has other bucket bounds and counts in the mean alone.",
            "{number} more have other bucket bounds and count in the mean alone.",
            left_out,
        )
        if left_out
        else "",
    ]
    return Figure(
        label=label,
        value=None if pd.isna(value) else float(value),
        unit=_SECONDS,
        text=_limit_text(value, found["lowest_bound_seconds"], beyond=beyond),
        basis="derived",
        window=f"{view.words}, n = {said}",
        note=say("{count} left out", count=spoken().number(left_out)) if left_out else "",
        help=" ".join(sentence for sentence in explained if sentence),
        reason=say(_NO_HISTOGRAM),
    )


def _number(value: float) -> int:
    """How many were observed; none where nothing is known of them."""
    return 0 if pd.isna(value) else round(value)


def _limit_text(seconds: float, lowest_bound_seconds: float, *, beyond: bool) -> str | None:
    """A quantile of which only a limit is known; ``None`` for others."""
    if seconds < lowest_bound_seconds:
        return f"≤ {seconds_text(lowest_bound_seconds)}"
    return seconds_text(seconds, at_least=True) if beyond else None


def promises(subject: Subject, seen: Seen, objective: Objective, view: View) -> list[Figure]:
    """Each limit with its n, requests that kept all of them, the budget of misses, and what probes saw."""
    kept = seen.kept(objective)
    rate = kept.good_requests_per_second
    judged = clocks.asked(subject, view)
    figures = [
        *(_promise(one, view) for one in kept.promises),
        Figure(
            label=say("Goodput"),
            text=None if rate is None else _between(rate, lambda value: show(value, _REQUESTS)),
            basis="derived",
            window=view.words,
            note="" if kept.attained is None else say("{share} of requests", share=percent(kept.attained)),
            help=say(
                "Requests per second that kept every limit. Separate histograms do not tell which requests "
                "missed, so of several limits only the least and the most are known."
            ),
            reason=say(_NO_LIMIT),
        ),
        _budget(kept.promises, view),
    ]
    if len(judged):
        figures.append(_probed(judged, objective, view))
    return figures


def _promise(one: Promise, view: View) -> Figure:
    guessed = one.attained is not None and not one.attained.exact
    target, seen = show(one.target_ratio, _RATIO), spoken().number(one.observations)
    of = (
        say("Share of requests within the limit; errors are misses, aborted requests do not count.")
        if one.of_requests
        else say("Share of gaps between tokens within the limit; errors, which are requests, are not among them.")
    )
    between = say("A range: the limit lies between two of the server's bucket bounds.")
    return Figure(
        label=say("{kind} within {limit}", kind=one.seen.value.upper(), limit=seconds_text(one.limit_seconds)),
        text=None if one.attained is None else percent(one.attained),
        basis="estimated" if guessed else "derived",
        window=view.words,
        note=count(
            "target {target}, n = {seen} and {number} error",
            "target {target}, n = {seen} and {number} errors",
            round(one.errored),
            target=target,
            seen=seen,
        )
        if one.errored
        else say("target {target}, n = {seen}", target=target, seen=seen),
        help=f"{of} {between}",
        reason=say(_NO_HISTOGRAM),
    )


def _budget(promises_: tuple[Promise, ...], view: View) -> Figure:
    """The limit whose budget burns fastest, as far as is certain."""
    burns = [(one.burn, one) for one in promises_ if one.burn is not None]
    worst, of = max(burns, key=lambda pair: (pair[0].lower, pair[0].upper), default=(None, None))
    return Figure(
        label=say("Error budget burn"),
        text=None if worst is None else _between(worst, lambda value: f"{significant(value, 2)}×"),
        basis="derived" if worst is None or worst.exact else "estimated",
        window=view.words,
        note="" if of is None else say("of {kind}, 1× uses it up just so", kind=of.seen.value.upper()),
        help=say("Misses over the misses that the target allows, of the limit that fares worst."),
        reason=say(_NO_LIMIT),
    )


def _probed(requests: pd.DataFrame, objective: Objective, view: View) -> Figure:
    found = probed(requests, objective.limits_seconds)
    judged, kept, unsure = map(spoken().number, (found.judged, found.kept, found.undetermined))
    return Figure(
        label=say("Probes within all limits"),
        text=say("{kept} of {all}", kept=kept, all=judged) if found.judged else None,
        window=view.words,
        note=say("{count} cannot be judged", count=unsure) if found.undetermined else "",
        help=say("Request by request, so exact; by the client's clock. A failed probe has missed."),
        reason=say("of no probe every latency is known that is promised ({asked} asked)", asked=unsure),
    )


def percent(share: Between) -> str:
    """Two decimals, since promises are made of them; what is not all never reads as all."""
    return _between(share, lambda value: f"{spoken().number(math.floor(value * 1e4 + 1e-6) / 100, 2)} %")


def significant(value: float, digits: int) -> str:
    """A number with so many digits that matter, without zeros at its end; its whole part stands in full."""
    decimals = f"{float(f'{value:.{digits}g}'):f}".partition(".")[2].rstrip("0")
    return spoken().number(value, len(decimals))


def _between(of: Between, text: Callable[[float], str]) -> str:
    """Both ends, their unit once since a tile is narrow; or one where they read the same."""
    low, high = text(of.lower), text(of.upper)
    number, _, unit = low.rpartition(" ")
    if low == high:
        return low
    return f"{number} – {high}" if number and high.endswith(f" {unit}") else f"{low} – {high}"


def load(subject: Subject, view: View) -> list[Figure]:
    """Throughput of the window, and what is going on now."""
    rate = token_rates(subject, view).groupby("entity_id")["generation_tokens_per_second"].mean().dropna()
    every = pd.DataFrame(subject.rows)
    newest = every if every["stale"].all() else every[~every["stale"]]  # who has stopped reporting runs nothing
    figures = [
        Figure(
            label=say("Output tokens/s"),
            value=float(rate.sum()) if len(rate) else None,
            unit=unit_of("x_tokens_per_second"),
            basis="derived",
            window=view.words,
            help=say("Mean over the window, all requests together."),
            reason=say("the server does not count tokens"),
        )
    ]
    for label, metric, help_text in (
        (say("Running"), "running_requests", say("Requests being computed.")),
        (say("Waiting"), "waiting_requests", say("Requests in the queue.")),
        (
            say("KV cache"),
            "kv_cache_usage_ratio",
            say("Share of the KV cache in use; of several servers the fullest."),
        ),
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
                reason=say("not exported by this server"),
            )
        )
    return figures


def traffic(subject: Subject, seen: Seen, view: View) -> list[Figure]:
    """What came from caches, and requests that did not end well."""
    counters = (
        "prefix_cache_hits_tokens_total",
        "prefix_cache_queries_tokens_total",
        "cached_prompt_tokens_total",
        "prompt_tokens_total",
    )
    grown = loaders.increases("deployment", counters, subject.ids, view.start_ms, view.end_ms)
    hits = _share(grown, "prefix_cache_hits_tokens_total", "prefix_cache_queries_tokens_total")
    cached = _share(grown, "cached_prompt_tokens_total", "prompt_tokens_total")
    return [
        Figure(
            label=say("Prefix cache hits"),
            value=hits,
            unit=_RATIO,
            basis="derived",
            window=view.words,
            help=say("Tokens found over tokens looked up, both counted within the window."),
            reason=say(_UNSAID),
        ),
        Figure(
            label=say("Prompt from cache"),
            value=cached,
            unit=_RATIO,
            basis="derived",
            window=view.words,
            help=say("Prompt tokens that were not computed again, over all prompt tokens of the window."),
            reason=say(_UNSAID),
        ),
        *(_ended(seen.counts, name, view) for name in UNHAPPY),
    ]


def _share(grown: pd.DataFrame, part: str, total: str) -> float | None:
    """One counter's increase over another's, of those deployments that count both."""
    both = grown.dropna(subset=[part, total])
    whole_ = both[total].sum()
    return float(both[part].sum() / whole_) if whole_ > 0 else None


def _ended(counts: pd.DataFrame, name: str, view: View) -> Figure:
    known = counts[ENDED[name]].dropna()
    label, help_text = UNHAPPY[name]
    return Figure(
        label=say(label),
        value=float(known.sum()) if len(known) else None,
        window=view.words,
        help=say(help_text),
        reason=say(_UNSAID),
    )
