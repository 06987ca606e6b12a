"""Price and energy per output token over time, hour by hour of the bill, and when prices changed."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from analytics.costs import DeploymentCost
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.prices import price_cuts
from charts.axis import Span
from charts.bill import marked
from charts.timeseries import over_time
from core.language import say
from pages.cost import missing
from pages.cost.window import Window
from pages.shared import loaders
from pages.shared.pictures import picture
from pages.shared.store import settings

LEAST_HOURS = 24
MOST_STEPS = 48
STEPS_HOURS = (1, 3, 6, 12, 24)


def trend(costs: Sequence[DeploymentCost], shown: Window) -> None:
    """Draw the section: one line per deployment that is shown; at least a day, so that there is a course to see."""
    if shown.hours is None:
        st.markdown(f"##### {say('Over time')}")
        missing.hours(shown, say("Prices over time are those of whole hours."))
        return
    end_ms = shown.hours.end_ms
    start_ms = min(shown.hours.start_ms, end_ms - LEAST_HOURS * MS_PER_HOUR)
    hours = (end_ms - start_ms) // MS_PER_HOUR
    step = next((step for step in STEPS_HOURS if hours / step <= MOST_STEPS), STEPS_HOURS[-1])
    frame = loaders.hourly_trend(start_ms, end_ms, step)
    names = {cost.deployment_id: (cost.model.rpartition("/")[2], cost.server.rpartition("/")[2]) for cost in costs}
    frame = frame[frame["deployment_id"].isin(names)].copy()
    frame["series"] = [_name(names, number) for number in frame["deployment_id"]]
    span = Span(start_ms, end_ms, round(1.5 * step * MS_PER_HOUR), shown.view.zone)
    cuts = price_cuts(settings(), start_ms, end_ms)
    changes = pd.DataFrame({"at": pd.to_datetime(pd.Series(cuts, dtype="int64"), unit="ms", utc=True)})
    changes["what"] = say("a price or exchange rate")
    notes = [say("derived"), say("{step} h steps of the bill, the last {hours} h", step=str(step), hours=str(hours))]
    notes += [say("dashed: prices changed ({number})", number=str(len(cuts)))] if cuts else []
    money, (left, right) = shown.money, st.columns(2)
    column = money.name("cost_usd")
    priced = frame.assign(**{column: money.column(frame["usd_per_million_output_tokens"])}).dropna(subset=[column])
    metered = frame.assign(energy_joules=frame["joules_per_output_token"]).dropna(subset=["energy_joules"])
    unit = "" if column == "cost_usd" else f" ({money.currency})"  # a column in USD tells its unit
    with left:
        picture(
            say("{currency} per million output tokens", currency=money.currency),
            _drawn(priced, column, say("per M output tokens") + unit, changes, span),
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


def _drawn(known: pd.DataFrame, column: str, title: str, changes: pd.DataFrame, span: Span) -> alt.LayerChart | None:
    return None if known.empty else marked(over_time(known, column, span, title=title), changes, span)


def _name(names: dict[int, tuple[str, str]], number: int) -> str:
    """The model alone, with its server where a model runs twice."""
    model, server = names[number]
    twice = sum(other == model for other, _ in names.values()) > 1
    return f"{model} @ {server}" if twice else model
