"""What output tokens cost, in money and in energy, and what stands in the way of knowing it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics import cost_totals
from analytics.costs import DeploymentCost
from core.language import _, count, say, spoken
from core.readings import Severity
from pages.cost import figures, missing
from pages.cost.bill import whole_bill
from pages.cost.trend import trend
from pages.cost.what_if import what_if
from pages.cost.window import Window, window
from pages.shared import loaders, words
from pages.shared.columns import number
from pages.shared.explained import explained
from pages.shared.filters import View
from pages.shared.frame import page
from pages.shared.reasons import cost_reason
from pages.shared.store import settings
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

BY_SAMPLES = _("By samples: hardware and electricity alone, overhead is in the bill of whole hours.")
TITLES = {
    "model": _("model"),
    "missing": _("missing"),
    "label": _("label"),
    "observed_ratio": _("observed"),
    "joined": _("joined"),
    "server": _("server"),
    "runs_on": _("runs on"),
}


def render() -> None:
    """Draw the page."""
    page(_("Cost per million tokens"), draw)


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
    said = " ".join(part for part in (shown.money.caption, "" if shown.hours else say(BY_SAMPLES)) if part)
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
        return [] if free.empty else _beside(sentence, len(free), None)
    unheld = loaders.unheld(*shown.hours)
    if unheld.empty:
        return []
    usd = unheld["total_usd"].sum(skipna=False)
    return _beside(sentence, len(unheld), None if pd.isna(usd) else shown.money.show(usd))


def _beside(sentence: str, devices: int, cost: str | None) -> list[Finding]:
    waste = (
        count(
            "{number} device was held by no known deployment, at times or always: not part of the figures below.",
            "{number} devices were held by no known deployment, at times or always: not part of the figures below.",
            devices,
        )
        if cost is None
        else count(
            "{number} device was held by no known deployment, at times or always, which cost {cost}: not part of the "
            "figures below.",
            "{number} devices were held by no known deployment, at times or always, which cost {cost}: not part of "
            "the figures below.",
            devices,
            cost=cost,
        )
    )
    return [Finding(Severity.INFO, sentence), Finding(Severity.INFO, waste)]


def _lines(total: cost_totals.Total, shown: Window) -> None:
    """The lines that add up to the cost."""
    usd = total.total_usd
    if not usd:
        return
    st.markdown(f"##### {say('What it is made of')}")
    rows = [(figures.LINE_WORDS[line], amount, (amount or 0.0) / usd) for line, amount in total.lines.items()]
    frame = pd.DataFrame([*rows, (_("Cost of the deployments"), usd, 1.0)], columns=["part", "cost_usd", "share_ratio"])
    converted = shown.money.frame(frame)
    columns = shown.money.columns(converted, {"cost_usd": _("Cost")})
    titles = {"part": _("part"), "share_ratio": _("share")}
    table(converted, shown.view, key="cost-lines", titles=titles, columns=columns, said=("part",))
    told = [
        say(
            "{priced} of {deployments} deployments, {window}.",
            priced=spoken().number(total.priced),
            deployments=spoken().number(total.deployments),
            window=words.plain(shown.words),
        )
    ]
    if not total.electricity_usd:
        told.append(say("Electricity is inside the hardware price."))
    st.caption(" ".join(told))


def _deployments(costs: Sequence[DeploymentCost], shown: Window, weight: float) -> None:
    """A row per deployment; the picked one opens below."""
    st.markdown(f"##### {say('Deployments')}")
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
            "joined": [figures.ORIGINS[cost.origin] for cost in costs],
            "server": [cost.server for cost in costs],
            "runs_on": [_devices(cost) for cost in costs],
        }
    )
    amounts = {
        "total_usd": _("Cost"),
        "usd_per_million_output_tokens": _("Per M output tokens"),
        "usd_per_million_tokens_blended": _("Per M tokens, blended"),
        "usd_per_request": _("Per request"),
    }
    converted = shown.money.frame(frame)
    columns = shown.money.columns(converted, amounts) | {
        "output_tokens": number(say("Output tokens"), 0),
        "joules_per_output_token": number(say("J per output token"), 3),
    }
    picked = table(
        converted,
        shown.view,
        key="cost-deployments",
        titles=TITLES,
        columns=columns,
        said=("label", "joined"),
        selectable=len(costs) > 1,
    )
    cost = costs[picked or 0]
    st.markdown(f"**{words.plain(cost.model)}** {words.plain(cost.server)}")
    st.caption(_told(cost))
    explained(figures.of_deployment(cost, shown, weight), shown.view, key=f"cost-{cost.deployment_id}")


def _told(cost: DeploymentCost) -> str:
    """What a deployment runs on, what its energy is that of, how much was seen, and what is missing."""
    devices = words.plain(_devices(cost) or say("unknown hardware"), limit=500)
    told = [
        say("Runs on {devices} ({joined}).", devices=devices, joined=say(figures.ORIGINS[cost.origin])),
        say(
            "Energy of: {scope}; host memory, network, fans, supplies and cooling not included.",
            scope=words.plain(figures.scope(cost) or say("nothing known")),
        ),
        say("Observed {share} of the window.", share=words.percent(cost.coverage_ratio)),
    ]
    if cost.reason:
        told.append(say("Missing: {reason}.", reason=words.plain(figures.in_full(cost.reason))))
    return " ".join(told)


def _devices(cost: DeploymentCost) -> str:
    return ", ".join(cost.targets)


def _column(costs: Sequence[DeploymentCost], name: str) -> pd.Series[float]:
    return pd.Series([getattr(cost, name) for cost in costs], dtype="float64")


if __name__ == "__main__":
    render()
