"""Power of other scopes, apart from the subject of the page: CPU packages, and whole nodes at the supply."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics.power import hours_of
from charts.power import largest
from charts.timeseries import stacked
from core.language import _, say
from core.units import JOULES_PER_KWH
from pages.energy.subject import Subject
from pages.shared import loaders, watts
from pages.shared.columns import number
from pages.shared.filters import View
from pages.shared.marks import Marks
from pages.shared.pictures import picture
from pages.shared.reasons import reasons
from pages.shared.tables import table

HELP = _("Other meters. Nodes contain accelerators and CPU packages: nothing here is added to the figures above.")
_TITLES = {"coverage_ratio": _("observed"), "scope": _("scope")}


def beside(subjects: Sequence[Subject], view: View, marks: Marks | None) -> None:
    """Each scope over time by host, and a table of all."""
    st.markdown("##### " + say("Other scopes"), help=say(HELP))
    for column, subject in zip(st.columns(len(subjects)), subjects, strict=True):
        with column:
            _over_time(subject, view, marks)
    rows = pd.concat([_rows(subject, view) for subject in subjects], ignore_index=True)
    columns = {
        "energy_kwh": number(say("Energy of whole hours (kWh)"), 3),
        "mean_watts": number(say("Mean of whole hours (W)"), 0),
    }
    table(rows, view, key="energy-beside", titles=_TITLES, columns=columns)


def _over_time(subject: Subject, view: View, marks: Marks | None) -> None:
    parts, _course = subject.power(view, "host")
    chart = None
    if len(parts):
        drawn = largest(parts, subject.metric)
        chart = stacked(drawn, subject.metric, view.span, view.step_ms, title=say("power"))
    why, remedy = reasons(subject.sources, view)
    note = " · ".join((*watts.basis(view), subject.scope))
    picture(
        say("Power of {things} by {group}", things=subject.what, group=say("host")),
        chart,
        key=f"energy-{subject.family}",
        note=note,
        why=why or say("no meter that the kernel shows"),
        remedy=remedy,
        marks=marks,
    )


def _rows(subject: Subject, view: View) -> pd.DataFrame:
    """A row per thing: power now, and energy by its accounts."""
    found = loaders.energy_by_device(subject.family, *hours_of(view.start_ms, view.end_ms))
    sums = found.set_index("entity_id").reindex(subject.frame["entity_id"]).reset_index(drop=True)
    return pd.DataFrame(
        {
            "name": subject.frame["name"].to_numpy(),
            "scope": subject.what,
            "power_watts": subject.frame[subject.metric].to_numpy(),
            "energy_kwh": sums["energy_joules"] / JOULES_PER_KWH,
            "mean_watts": sums["energy_joules"] / sums["energy_seconds"].where(sums["energy_seconds"] > 0),
            "coverage_ratio": sums["energy_seconds"] / sums["there_seconds"],
            "host": subject.frame["host"].to_numpy(),
        }
    )
