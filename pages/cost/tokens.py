"""What output tokens cost, in money and in energy, and what stands in the way of knowing it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics import cost_totals
from analytics.costs import DeploymentCost
from charts.axis import Span
from charts.timeseries import over_time
from core.readings import Severity
from core.units import show_money
from pages.cost import figures, missing
from pages.cost.bill import whole_bill
from pages.cost.explained import explained
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.frame import page
from pages.shared.pictures import picture
from pages.shared.reasons import cost_reason
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

TREND_STEPS = 24
TREND_STEP_MINUTES = (5, 15, 30, 60, 180, 720)  # round on the clock, and none so short that a window's ends matter
LINE_WORDS = {"hardware": "Hardware", "electricity": "Electricity", "total": "Cost of the deployments"}


def render() -> None:
    """Draw the page."""
    page("Cost per million tokens", draw)


def draw(view: View) -> None:
    """Verdict, figures that open, what adds up to the cost, trend, deployments, what is not joined."""
    kept = {int(i) for i in view.keep(loaders.entities("deployment"))["entity_id"]}
    costs = [cost for cost in loaders.deployment_costs(view.start_ms, view.end_ms) if cost.deployment_id in kept]
    if not costs:
        missing.no_deployments()
        whole_bill(view)
        return
    total, idle = cost_totals.total(costs), loaders.idle(view.start_ms, view.end_ms)
    sentence = figures.sentence(total, view)
    verdict(_findings(sentence, idle, view), sentence, view)
    explained(figures.of_total(total, costs, view), view, key="cost-total")
    missing.price(costs)
    _lines(total, view)
    _trend(kept, view)
    _deployments(costs, view)
    whole_bill(view)
    missing.joins(idle, view)


def _findings(sentence: str, idle: Sequence[cost_totals.Idle], view: View) -> list[Finding]:
    """Waste beside the verdict's own sentence; none, and the sentence stands alone."""
    if not idle:
        return []
    spent = cost_totals.idle_usd(idle)
    worth = "" if spent is None else f" and cost {show_money(spent)} in the {view.words}"
    who = "1 accelerator serves" if len(idle) == 1 else f"{len(idle)} accelerators serve"
    text = f"{who} no known deployment{worth.replace('cost', 'costs', 1) if len(idle) == 1 else worth}"
    return [Finding(Severity.INFO, sentence), Finding(Severity.INFO, f"{text}: not part of the figures below.")]


def _lines(total: cost_totals.Total, view: View) -> None:
    """The lines that add up to the cost."""
    rows = [(LINE_WORDS[name], usd, ratio) for name, usd, ratio in cost_totals.lines(total)]
    if not rows:
        return
    st.markdown("##### What it is made of")
    frame = pd.DataFrame(rows, columns=["part", "cost_usd", "share_ratio"])
    table(frame, view, key="cost-lines", titles={"share_ratio": "share"})
    included = "" if total.electricity_usd else " Electricity is inside the hardware price."
    st.caption(f"{total.priced} of {total.deployments} deployments, {view.words}.{included}")


def _trend(kept: set[int], view: View) -> None:
    """Unit figures of successive steps, one line per deployment."""
    least_ms = view.coarse_step_ms(TREND_STEPS)
    step_ms = next((m * 60_000 for m in TREND_STEP_MINUTES if m * 60_000 >= least_ms), least_ms)
    frame = loaders.cost_trend(view.start_ms, view.end_ms, step_ms)
    frame = frame[frame["deployment_id"].isin(kept)]
    frame = frame.assign(series=_names(frame))
    span = Span(view.start_ms, view.end_ms, round(1.5 * step_ms), view.zone)
    pictures = (
        (
            "Price",
            "usd_per_million_output_tokens",
            "cost_usd",
            "per million output tokens",
            "each step at the prices at its end",
        ),
        ("Energy", "joules_per_output_token", "energy_joules", "per output token", "prompts and idle time included"),
    )
    for place, (title, source, column, axis, note) in zip(st.columns(2), pictures, strict=True):
        known = frame.assign(**{column: frame[source]}).dropna(subset=[column])
        with place:
            picture(
                f"{title} {axis}",
                over_time(known, column, span, title=axis) if len(known) else None,
                key=f"cost-{column}",
                note=f"derived · {words.duration(step_ms / 1000)} steps · {note}",
                why="no step with both tokens and a known " + ("cost" if column == "cost_usd" else "energy"),
            )


def _names(frame: pd.DataFrame) -> pd.Series:
    """Short names for a legend: the model alone, with its server where a model runs twice."""
    model = frame["model"].str.rpartition("/")[2]
    twice = frame.groupby(model)["deployment_id"].transform("nunique") > 1
    return model.where(~twice, model + " @ " + frame["server"].str.rpartition("/")[2])


def _deployments(costs: Sequence[DeploymentCost], view: View) -> None:
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
            "missing": [cost_reason(cost.reason) if cost.reason else "" for cost in costs],
            "label": [cost.label.value for cost in costs],
            "observed_ratio": _column(costs, "coverage_ratio"),
            "joined": [figures.joined(cost) for cost in costs],
            "server": [cost.server for cost in costs],
            "runs_on": [_devices(cost) for cost in costs],
        }
    )
    money, whole = st.column_config.NumberColumn, "localized"
    columns = {
        "output_tokens": money("Output tokens", format=whole),
        "total_usd": money("Cost (USD)", format="%.4f"),
        "usd_per_million_output_tokens": money("USD per M output tokens", format="%.4f"),
        "usd_per_million_tokens_blended": money("USD per M tokens, blended", format="%.4f"),
        "joules_per_output_token": money("J per output token", format="%.3f"),
    }
    titles = {"runs_on": "runs on", "observed_ratio": "observed"}
    picked = table(frame, view, key="cost-deployments", titles=titles, columns=columns, selectable=len(costs) > 1)
    cost = costs[picked or 0]
    st.markdown(f"**{words.plain(cost.model)}** {words.plain(cost.server)}")
    st.caption(
        f"Runs on {words.plain(_devices(cost) or 'unknown hardware', limit=500)} ({figures.joined(cost)}). "
        f"Energy of: {figures.scope_in_words(cost)}. Observed {cost.coverage_ratio:.0%} of the window."
        + (f" Missing: {words.plain(cost.reason)}." if cost.reason else "")
    )
    explained(figures.of_deployment(cost, view), view, key=f"cost-{cost.deployment_id}")


def _devices(cost: DeploymentCost) -> str:
    return ", ".join(cost.targets)


def _column(costs: Sequence[DeploymentCost], name: str) -> pd.Series[float]:
    return pd.Series([getattr(cost, name) for cost in costs], dtype="float64")


if __name__ == "__main__":
    render()
