"""Price and energy per output token over time, hour by hour of the bill, and when prices changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics.costs import DeploymentCost
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.prices import price_cuts
from charts.axis import Span
from charts.bill import marked
from charts.layered import Layered
from charts.timeseries import over_time
from core.language import say
from core.units import Unit
from pages.cost import missing
from pages.cost.bill import dearest
from pages.cost.window import MOST_EXPLAINED, Window
from pages.shared import loaders
from pages.shared.pictures import picture
from pages.shared.store import settings

LEAST_HOURS = 24
MOST_STEPS = 48
STEPS_HOURS = (1, 3, 6, 12, 24)


def trend(costs: Sequence[DeploymentCost], shown: Window) -> None:
    """Draw the section: a line for each of the dearest deployments; at least a day, so that there is a course."""
    if shown.hours is None:
        st.markdown(f"##### {say('Over time')}")
        missing.hours(shown, say("Prices over time are those of whole hours."))
        return
    end_ms = shown.hours.end_ms
    start_ms = min(shown.hours.start_ms, end_ms - LEAST_HOURS * MS_PER_HOUR)
    hours = (end_ms - start_ms) // MS_PER_HOUR
    step = next((step for step in STEPS_HOURS if hours / step <= MOST_STEPS), STEPS_HOURS[-1])
    frame = loaders.hourly_trend(start_ms, end_ms, step)
    names = _names(costs[:MOST_EXPLAINED])
    frame = frame.assign(series=frame["deployment_id"].map(names)).dropna(subset=["series"])
    span = Span(start_ms, end_ms, round(1.5 * step * MS_PER_HOUR), shown.view.zone)
    cuts = price_cuts(settings(), start_ms, end_ms)
    changes = pd.DataFrame({"at": pd.to_datetime(pd.Series(cuts, dtype="int64"), unit="ms", utc=True)})
    changes["what"] = say("a price or exchange rate")
    notes = [say("derived"), say("{step} h steps of the bill, the last {hours} h", step=str(step), hours=str(hours))]
    notes += [say("dashed: prices changed ({number})", number=str(len(cuts)))] if cuts else []
    notes += [dearest(len(names), len(costs))] if len(names) < len(costs) else []
    money, (left, right) = shown.money, st.columns(2)
    column = money.name("cost_usd")
    priced = frame.assign(**{column: money.column(frame["usd_per_million_output_tokens"])}).dropna(subset=[column])
    metered = frame.assign(energy_joules=frame["joules_per_output_token"]).dropna(subset=["energy_joules"])
    with left:
        picture(
            say("{currency} per million output tokens", currency=money.currency),
            _drawn(priced, column, say("per M output tokens"), changes, span, money.unit),
            key="cost-trend",
            note=" · ".join([*notes, say("each hour at its price")]),
            why=say("no step with both tokens and a known cost"),
        )
    with right:
        picture(
            say("Energy per output token"),
            _drawn(metered, "energy_joules", say("per output token"), changes, span),
            key="cost-energy",
            note=" · ".join([*notes, say("prompts and idle time included")]),
            why=say("no step with both tokens and a known energy"),
        )


def _drawn(
    known: pd.DataFrame, column: str, title: str, changes: pd.DataFrame, span: Span, unit: Unit | None = None
) -> Layered | None:
    return None if known.empty else marked(over_time(known, column, span, title=title, unit=unit), changes, span)


def _names(costs: Sequence[DeploymentCost]) -> dict[int, str]:
    """A model, with its server where a model runs twice."""
    models = {cost.deployment_id: cost.model.rpartition("/")[2] for cost in costs}
    number = Counter(models.values())
    servers = {cost.deployment_id: cost.server.rpartition("/")[2] for cost in costs}
    return {i: f"{model} @ {servers[i]}" if number[model] > 1 else model for i, model in models.items()}
