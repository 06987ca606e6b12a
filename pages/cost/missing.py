"""What stands in the way of a figure, with the lines to paste that remove it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics.cost_totals import Idle
from analytics.costs import NO_PRICE, NO_TARIFF, DeploymentCost
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.frame import no_data
from pages.shared.joins import unjoined_deployments
from pages.shared.tables import table

IDLE_TITLES = {"hours": "hours in the window", "energy_joules": "energy", "hardware_usd": "hardware"}


def no_deployments() -> None:
    """Stands for the page while there is nobody who makes tokens."""
    no_data(
        "No inference server was seen, so there are no tokens to divide by.",
        "",
        "start one, or name it in a [[serving.server]] entry",
    )


def price(costs: Sequence[DeploymentCost]) -> None:
    """The entries to add where a price is missing; nothing where none is."""
    hardware = [cost for cost in costs if NO_PRICE in cost.reason]
    tariff = [cost for cost in costs if NO_TARIFF in cost.reason]
    if not hardware and not tariff:
        return
    with st.container(border=True):
        st.markdown(":material/sell: **Set a price.** Add this to `vatio.toml`, with your own numbers, and restart:")
        st.code("\n".join(_snippet(bool(hardware))), language="toml")
        st.caption('Bought hardware: kind = "owned" with capex and life_years; see vatio.example.toml.')


def _snippet(hardware: bool) -> list[str]:
    lines = []
    if hardware:
        for model in _models() or [""]:
            lines += [
                "[[cost.hardware]]",
                'kind = "rented"',
                f'applies_to = "{"accelerator" if model else "host"}"',
                f"match = {json.dumps(model, ensure_ascii=False)}  # part of the name",
                "per_hour = 2.50  # your price, USD unless you add a currency",
                "",
            ]
    return [*lines, "[site]", "usd_per_kwh = 0.12  # your tariff; only for hardware that you own"]


def _models() -> list[str]:
    return sorted({words.one_line(model) for model in loaders.entities("accelerator")["model"].dropna()} - {""})


def joins(idle: Sequence[Idle], view: View) -> None:
    """Deployments without hardware and accelerators without a deployment: listed, never dropped."""
    unjoined_deployments(view, key="cost")
    if idle:
        st.markdown("##### Accelerators without a deployment")
        st.markdown(
            "What they cost is in the bill, and in no figure per token. If a server works there, name them in its "
            "`accelerators`; if not, give them work or give them back."
        )
        frame = pd.DataFrame(
            {
                "model": [one.model for one in idle],
                "key": [one.key for one in idle],
                "host": [one.host for one in idle],
                "hours": [one.hours for one in idle],
                "energy_joules": pd.Series([one.energy_joules for one in idle], dtype="float64"),
                "hardware_usd": pd.Series([one.hardware_usd for one in idle], dtype="float64"),
                "electricity_usd": pd.Series([one.electricity_usd for one in idle], dtype="float64"),
                "total_usd": pd.Series([one.total_usd for one in idle], dtype="float64"),
            }
        )
        table(frame, view, key="cost-idle", titles=IDLE_TITLES)
