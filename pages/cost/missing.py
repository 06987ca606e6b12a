"""What stands in the way of a figure, with the lines to paste that remove it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics.costs import NO_PRICE, NO_TARIFF, DeploymentCost
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.ledger import LINES
from core.language import _, say
from pages.cost.figures import LINE_WORDS
from pages.cost.window import Window
from pages.shared import loaders, words
from pages.shared.columns import number
from pages.shared.frame import no_data
from pages.shared.joins import unjoined_deployments
from pages.shared.tables import table

IDLE_TITLES = {
    "name": _("device"),
    "host": _("host"),
    "hours": _("hours not held"),
}


def no_deployments() -> None:
    """Stands for the page while there is nobody who makes tokens."""
    no_data(
        say("No inference server was seen, so there are no tokens to divide by."),
        "",
        say("start one, or name it in a [[serving.server]] entry"),
    )


def hours(shown: Window, why: str) -> None:
    """Stands for what only the accounts of whole hours tell; ``why`` is said."""
    short = shown.view.end_ms - shown.view.start_ms < MS_PER_HOUR
    remedy = say("choose 1h or more") if short else say("wait until the first whole hour is over")
    no_data(say("No accounted hour lies in this window."), why, remedy)


def price(costs: Sequence[DeploymentCost]) -> None:
    """The entries to add where a price is missing; nothing where none is."""
    hardware = [cost for cost in costs if NO_PRICE in cost.reason]
    tariff = [cost for cost in costs if NO_TARIFF in cost.reason]
    if not hardware and not tariff:
        return
    with st.container(border=True):
        st.markdown(
            say(":material/sell: **Set a price.** Add this to `vatio.toml`, with your own numbers, and restart:")
        )
        st.code("\n".join(_snippet(bool(hardware))), language=None)
        st.caption(say('Bought hardware: kind = "owned" with capex and life_years; see vatio.example.toml.'))


def _snippet(hardware: bool) -> list[str]:
    lines = []
    if hardware:
        for model in _models() or [""]:
            lines += [
                "[[cost.hardware]]",
                'kind = "rented"',
                f'applies_to = "{"accelerator" if model else "host"}"',
                f"match = {json.dumps(model, ensure_ascii=False)}  # {say('part of the name')}",
                f"per_hour = 2.50  # {say('your price, USD unless you add a currency')}",
                "",
            ]
    return [*lines, "[site]", f"usd_per_kwh = 0.12  # {say('your tariff; only for hardware that you own')}"]


def _models() -> list[str]:
    return sorted({words.one_line(model) for model in loaders.entities("accelerator")["model"].dropna()} - {""})


def joins(shown: Window) -> None:
    """Deployments without hardware, and hardware without a deployment with what it cost: listed, never dropped."""
    view = shown.view
    unjoined_deployments(view, key="cost")
    free = pd.DataFrame() if shown.hours is None else loaders.unheld(*shown.hours)
    if free.empty:
        return
    st.markdown(f"##### {say('Hardware without a deployment')}")
    st.markdown(
        say(
            "What it cost is in the bill, and in no figure per token. If a server works there, name its devices in "
            "`accelerators`; if not, give them work or give them back."
        )
    )
    frame = shown.money.frame(free)
    titles = {line: LINE_WORDS[line] for line in LINES} | {"total_usd": _("Total")}
    columns = {"energy_kwh": number(say("Energy (kWh)"), 3), **shown.money.columns(frame, titles)}
    table(frame, view, key="cost-idle", titles=IDLE_TITLES, columns=columns)
