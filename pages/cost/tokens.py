"""What output tokens cost, in money and in energy, and what stands in the way of knowing it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics import cost_totals
from analytics.costs import DeploymentCost
from core.readings import Severity
from pages.cost import figures, missing
from pages.cost.bill import whole_bill
from pages.cost.explained import explained
from pages.cost.trend import trend
from pages.cost.what_if import what_if
from pages.cost.window import Window, window
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.frame import page
from pages.shared.reasons import cost_reason
from pages.shared.store import settings
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

BY_SAMPLES = "By samples: hardware and electricity alone, overhead is in the bill of whole hours."


def render() -> None:
    """Draw the page."""
    page("Cost per million tokens", draw)


def draw(view: View) -> None:
    """Verdict, figures that open, what adds up to the cost, trend, what if, deployments, what is not joined."""
    shown = window(view)
    costs = shown.costs()
    if not costs:
        missing.no_deployments()
        whole_bill(shown)
        return
    total, weight = cost_totals.total(costs), settings().cost.output_weight_ratio
    sentence = figures.sentence(total, shown)
    verdict(_findings(sentence, shown), sentence, view)
    said = " ".join(part for part in (shown.money.caption, "" if shown.hours else BY_SAMPLES) if part)
    if said:
        st.caption(words.plain(said, limit=500))
    explained(figures.of_total(total, costs, shown, weight), view, key="cost-total")
    missing.price(costs)
    _lines(total, shown)
    trend(costs, shown)
    what_if(costs, shown)
    _deployments(costs, shown, weight)
    whole_bill(shown)
    missing.joins(shown)


def _findings(sentence: str, shown: Window) -> list[Finding]:
    """Waste beside the verdict's own sentence; none, and the sentence stands alone."""
    if shown.hours is None:
        free = shown.view.keep(loaders.unjoined(shown.view.start_ms, shown.view.end_ms)[1])
        return [] if free.empty else _beside(sentence, len(free), "")
    unheld = loaders.unheld(*shown.hours)
    if unheld.empty:
        return []
    usd = unheld["total_usd"].sum(skipna=False)
    return _beside(sentence, len(unheld), "" if pd.isna(usd) else f", which cost {shown.money.show(usd)}")


def _beside(sentence: str, count: int, worth: str) -> list[Finding]:
    who = "1 device was" if count == 1 else f"{count} devices were"
    waste = f"{who} held by no known deployment, at times or always{worth}: not part of the figures below."
    return [Finding(Severity.INFO, sentence), Finding(Severity.INFO, waste)]


def _lines(total: cost_totals.Total, shown: Window) -> None:
    """The lines that add up to the cost."""
    usd = total.total_usd
    if not usd:
        return
    st.markdown("##### What it is made of")
    rows = [(figures.LINE_WORDS[line], amount, (amount or 0.0) / usd) for line, amount in total.lines.items()]
    frame = pd.DataFrame([*rows, ("Cost of the deployments", usd, 1.0)], columns=["part", "cost_usd", "share_ratio"])
    converted = shown.money.frame(frame)
    columns = shown.money.columns(converted, {"cost_usd": "Cost"})
    table(converted, shown.view, key="cost-lines", titles={"share_ratio": "share"}, columns=columns)
    included = "" if total.electricity_usd else " Electricity is inside the hardware price."
    st.caption(f"{total.priced} of {total.deployments} deployments, {words.plain(shown.words)}.{included}")


def _deployments(costs: Sequence[DeploymentCost], shown: Window, weight: float) -> None:
    """A row per deployment; the picked one opens below."""
    st.markdown("##### Deployments")
    frame = pd.DataFrame(
        {
            "model": [cost.model for cost in costs],
            "usd_per_million_output_tokens": _column(costs, "usd_per_million_output_tokens"),
            "joules_per_output_token": _column(costs, "joules_per_output_token"),
            "output_tokens": _column(costs, "output_tokens"),
            "total_usd": _column(costs, "total_usd"),
            "usd_per_million_tokens_blended": _column(costs, "usd_per_million_tokens_blended"),
            "usd_per_request": _column(costs, "usd_per_request"),
            "missing": [cost_reason(cost.reason) if cost.reason else "" for cost in costs],
            "label": [cost.label.value for cost in costs],
            "observed_ratio": _column(costs, "coverage_ratio"),
            "joined": [figures.joined(cost) for cost in costs],
            "server": [cost.server for cost in costs],
            "runs_on": [_devices(cost) for cost in costs],
        }
    )
    amounts = {
        "total_usd": "Cost",
        "usd_per_million_output_tokens": "Per M output tokens",
        "usd_per_million_tokens_blended": "Per M tokens, blended",
        "usd_per_request": "Per request",
    }
    converted, number = shown.money.frame(frame), st.column_config.NumberColumn
    columns = shown.money.columns(converted, amounts) | {
        "output_tokens": number("Output tokens", format="localized"),
        "joules_per_output_token": number("J per output token", format="%.3f"),
    }
    titles = {"runs_on": "runs on", "observed_ratio": "observed"}
    several = len(costs) > 1
    picked = table(converted, shown.view, key="cost-deployments", titles=titles, columns=columns, selectable=several)
    cost = costs[picked or 0]
    st.markdown(f"**{words.plain(cost.model)}** {words.plain(cost.server)}")
    st.caption(
        f"Runs on {words.plain(_devices(cost) or 'unknown hardware', limit=500)} ({figures.joined(cost)}). "
        f"Energy of: {figures.scope_in_words(cost)}. Observed {cost.coverage_ratio:.0%} of the window."
        + (f" Missing: {words.plain(cost.reason)}." if cost.reason else "")
    )
    explained(figures.of_deployment(cost, shown, weight), shown.view, key=f"cost-{cost.deployment_id}")


def _devices(cost: DeploymentCost) -> str:
    return ", ".join(cost.targets)


def _column(costs: Sequence[DeploymentCost], name: str) -> pd.Series[float]:
    return pd.Series([getattr(cost, name) for cost in costs], dtype="float64")


if __name__ == "__main__":
    render()
