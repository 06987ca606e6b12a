"""How fast each model answers: quantiles, the distribution, the queue, and what a probe sees from outside."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd
import streamlit as st

from charts.latency import seconds_text
from core.language import _, count, say, spoken
from core.readings import Latency, Severity
from core.units import show, unit_of
from pages.serving import deployment, figures
from pages.serving.seen import ENDED, Seen, seen
from pages.serving.subject import Subject, subjects
from pages.shared import loaders, tables, things, words
from pages.shared.columns import number
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.joins import joins
from pages.shared.verdict import Finding, verdict

MANY_FAILED_RATIO = 0.01
_RATIO = unit_of("x_ratio")
_TITLES = {
    "deployment": _("deployment"),
    "engine": _("engine"),
    "role": _("role"),
    "requests_seen": _("requests seen"),
    "running_requests": _("running"),
    "waiting_requests": _("waiting"),
    "kv_cache_usage_ratio": _("KV cache now"),
}


def render() -> None:
    """Draw the page."""
    page(_("Latency"), draw)


def draw(view: View) -> None:
    """Verdict over all deployments, a table of them, one subject in full, and what it runs on."""
    deployments = things.deployments(view)
    if deployments.empty:
        no_data(
            say("No inference server was seen."),
            say("Servers on this machine's well-known ports are found by themselves, by their /metrics page."),
            say("start one, or name it in a [[serving.server]] entry; ops/health shows what was tried"),
        )
        return
    choices = {one.key: one for one in subjects(deployments)}
    every = seen(deployments, view)
    found = [*_findings(deployments, every, view), *_promises(choices.values(), every, view)]
    verdict(found, _all_well(len(deployments)), view)
    _table(deployments, every, view)
    chosen = st.selectbox(
        say("Deployment"),
        list(choices),
        format_func=lambda key: words.one_line(choices[key].name),
        key="latency-deployment",
    )
    deployment.draw(choices[chosen], every.of(choices[chosen].ids), view)
    joins(view, key="latency", of=choices[chosen].ids)


def _promises(choices: Iterable[Subject], every: Seen, view: View) -> list[Finding]:
    """Limits that were certainly missed, each once: by a model, else by its only deployment."""
    found: list[Finding] = []
    said: set[int] = set()
    for one in choices:
        if one.objective is None or said & set(one.ids) or one.rows[0]["gateway"]:
            continue
        said |= set(one.ids)
        for promise in every.of(one.ids).kept(one.objective).promises:
            if promise.burn is not None and promise.attained is not None and promise.burn.lower > 1:
                text = say(
                    "{model}: {kind} within {limit}: {share} in the {window}, promised {target}",
                    model=one.model,
                    kind=promise.seen.value.upper(),
                    limit=seconds_text(promise.limit_seconds),
                    share=figures.percent(promise.attained),
                    window=view.words,
                    target=show(promise.target_ratio, _RATIO),
                )
                found.append(Finding(Severity.WARNING, text))
    return found


def _all_well(deployments: int) -> str:
    return count(
        "No request waits on the one deployment.", "No request waits on any of {number} deployments.", deployments
    )


def _findings(deployments: pd.DataFrame, every: Seen, view: View) -> list[Finding]:
    """What is wrong with each deployment."""
    queues = _queues(deployments, view)
    counts = every.counts.set_index("entity_id")[list(ENDED.values())].fillna(0.0)
    failed = (counts[ENDED["failed"]] / counts.sum(axis=1)).to_dict()
    found: list[Finding] = []
    for row in deployments.to_dict("records"):
        name, entity_id = row["name"], row["entity_id"]
        if row["stale"]:
            text = say("{name} has stopped reporting", name=name)
            found.append(Finding(Severity.WARNING, text, row["observed_at"]))
            continue
        queue = queues.get(entity_id)
        if queue is not None and (row["waiting_requests"] > 0 or (queue["waiting_requests_max"] > 0).any()):
            found.append(_waits(row, queue, view))
        if failed.get(entity_id, 0.0) > MANY_FAILED_RATIO:
            share = words.percent(failed[entity_id], 1)
            text = say("{name}: {share} of requests failed in the {window}", name=name, share=share, window=view.words)
            found.append(Finding(Severity.WARNING, text))
    return found


def _queues(deployments: pd.DataFrame, view: View) -> dict[int, pd.DataFrame]:
    """How many requests waited, step by step, by deployment; of most it is known that none did."""
    window = (view.start_ms, view.end_ms)
    most = loaders.extremes("deployment", "waiting_requests", *window)
    waited = deployments["entity_id"].isin(most.loc[most["highest"] > 0, "entity_id"])
    ids = things.ids(deployments[waited | (deployments["waiting_requests"] > 0)])
    steps = loaders.series("deployment", ("waiting_requests",), ids, *window, view.step_ms)
    queues: dict[int, pd.DataFrame] = {entity_id: steps[steps["entity_id"] == entity_id] for entity_id in ids}
    return queues


def _waits(row: dict[Hashable, Any], queue: pd.DataFrame, view: View) -> Finding:
    """Since when requests of one deployment wait, or when they waited."""
    name, waited = row["name"], queue[queue["waiting_requests_max"] > 0]
    if row["waiting_requests"] > 0:
        calm = queue.loc[queue["waiting_requests_max"] == 0, "bucket_at"]
        began = waited.loc[waited["bucket_at"] > calm.max(), "bucket_at"].min() if len(calm) else None
        waiting = round(row["waiting_requests"])
        text = count("{name}: {number} request waits", "{name}: {number} requests wait", waiting, name=name)
        return Finding(Severity.WARNING, text, began)
    first, last = (words.clock(at, view.zone, now=view.now) for at in waited["bucket_at"].agg(["min", "max"]))
    text = say(
        "{name}: requests waited ({most} at most) between {first} and {last}; none waits now",
        name=name,
        most=spoken().number(waited["waiting_requests_max"].max()),
        first=first,
        last=last,
    )
    return Finding(Severity.INFO, text)


def _table(deployments: pd.DataFrame, every: Seen, view: View) -> None:
    """Every deployment in one row: figures of the window beside those of now."""
    quantiles = every.quantiles()
    ttft, itl = (
        quantiles.reindex(pd.MultiIndex.from_product([deployments["entity_id"], [kind.value]])).reset_index()
        for kind in (Latency.TTFT, Latency.ITL)
    )
    frame = pd.DataFrame(
        {
            "deployment": deployments["name"].array,
            "engine": [labels.get("engine", "") for labels in deployments["labels"]],
            "role": [_("gateway: counted again behind it") if gateway else "" for gateway in deployments["gateway"]],
            "ttft_p50_seconds": ttft["p50_seconds"],
            "ttft_p95_seconds": ttft["p95_seconds"],
            "itl_p50_seconds": itl["p50_seconds"],
            "requests_seen": ttft["observations"],
            "running_requests": deployments["running_requests"].array,
            "waiting_requests": deployments["waiting_requests"].array,
            "kv_cache_usage_ratio": deployments["kv_cache_usage_ratio"].array,
        }
    )
    seconds = {"ttft_p50_seconds": "TTFT p50", "ttft_p95_seconds": "TTFT p95", "itl_p50_seconds": "ITL p50"}
    gateways = deployments["gateway"].any()
    tables.table(
        frame if gateways else frame.drop(columns="role"),
        view,
        key="latency-deployments",
        titles=_TITLES,
        columns={name: number(f"{words_} (s)", 3) for name, words_ in seconds.items()},
        said=("role",) if gateways else (),
    )


if __name__ == "__main__":
    render()
