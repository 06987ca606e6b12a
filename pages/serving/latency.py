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
from pages.serving.subject import Subject, subjects
from pages.shared import loaders, tables, things, words
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
    """Verdict over all deployments, a table of them, one subject in full, and what runs where."""
    deployments = things.deployments(view)
    if deployments.empty:
        no_data(
            say("No inference server was seen."),
            say("Servers on this machine's well-known ports are found by themselves, by their /metrics page."),
            say("start one, or name it in a [[serving.server]] entry; ops/health shows what was tried"),
        )
        return
    records, choices = deployments.to_dict("records"), {one.key: one for one in subjects(deployments)}
    found = [finding for row in records for finding in _findings(row, view)]
    verdict([*found, *_promises(choices.values(), view)], _all_well(len(records)), view)
    _table(records, view)
    chosen = st.selectbox(
        say("Deployment"),
        list(choices),
        format_func=lambda key: words.one_line(choices[key].name),
        key="latency-deployment",
    )
    deployment.draw(choices[chosen], view)
    joins(view, key="latency")


def _promises(choices: Iterable[Subject], view: View) -> list[Finding]:
    """Limits that were certainly missed, each once: by a model, else by its only deployment."""
    found: list[Finding] = []
    said: set[int] = set()
    for one in choices:
        if one.objective is None or said & set(one.ids) or one.rows[0]["gateway"]:
            continue
        said |= set(one.ids)
        for promise in loaders.kept(one.objective, one.ids, view.start_ms, view.end_ms).promises:
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


def _findings(row: dict[Hashable, Any], view: View) -> list[Finding]:
    """What is wrong with one deployment."""
    name = row["name"]
    if row["stale"]:
        return [Finding(Severity.WARNING, say("{name} has stopped reporting", name=name), row["observed_at"])]
    found = []
    queue = loaders.series(
        "deployment", ("waiting_requests",), (int(row["entity_id"]),), view.start_ms, view.end_ms, view.step_ms
    )
    waited = queue[queue["waiting_requests_max"] > 0]
    if row["waiting_requests"] > 0:
        calm = queue.loc[queue["waiting_requests_max"] == 0, "bucket_at"]
        began = waited.loc[waited["bucket_at"] > calm.max(), "bucket_at"].min() if len(calm) else None
        waiting = round(row["waiting_requests"])
        text = count("{name}: {number} request waits", "{name}: {number} requests wait", waiting, name=name)
        found.append(Finding(Severity.WARNING, text, began))
    elif len(waited):
        first, last = (words.clock(at, view.zone, now=view.now) for at in waited["bucket_at"].agg(["min", "max"]))
        text = say(
            "{name}: requests waited ({most} at most) between {first} and {last}; none waits now",
            name=name,
            most=spoken().number(waited["waiting_requests_max"].max()),
            first=first,
            last=last,
        )
        found.append(Finding(Severity.INFO, text))
    counts = figures.finished((int(row["entity_id"]),), view)
    if counts["failed"] > MANY_FAILED_RATIO * counts.sum():
        share = words.percent(counts["failed"] / counts.sum(), 1)
        text = say("{name}: {share} of requests failed in the {window}", name=name, share=share, window=view.words)
        found.append(Finding(Severity.WARNING, text))
    return found


def _table(records: list[dict[Hashable, Any]], view: View) -> None:
    """Every deployment in one row: figures of the window beside those of now."""
    rows = []
    for record in records:
        ttft = figures.whole((int(record["entity_id"]),), Latency.TTFT, view)
        itl = figures.whole((int(record["entity_id"]),), Latency.ITL, view)
        rows.append(
            {
                "deployment": record["name"],
                "engine": record["labels"].get("engine", ""),
                "role": _("gateway: counted again behind it") if record["gateway"] else "",
                "ttft_p50_seconds": ttft["p50_seconds"],
                "ttft_p95_seconds": ttft["p95_seconds"],
                "itl_p50_seconds": itl["p50_seconds"],
                "requests_seen": ttft["observations"],
                "running_requests": record["running_requests"],
                "waiting_requests": record["waiting_requests"],
                "kv_cache_usage_ratio": record["kv_cache_usage_ratio"],
            }
        )
    seconds = {"ttft_p50_seconds": "TTFT p50", "ttft_p95_seconds": "TTFT p95", "itl_p50_seconds": "ITL p50"}
    frame = pd.DataFrame(rows).astype(dict.fromkeys(seconds, "float64"))
    gateways = any(record["gateway"] for record in records)
    tables.table(
        frame if gateways else frame.drop(columns="role"),
        view,
        key="latency-deployments",
        titles=_TITLES,
        columns={
            name: st.column_config.NumberColumn(f"{words_} (s)", format="%.3f") for name, words_ in seconds.items()
        },
        said=("role",) if gateways else (),
    )


if __name__ == "__main__":
    render()
