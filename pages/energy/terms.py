"""Everything that goes into the figures of the power page, in the order in which it is used."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analytics.costs import Term
from analytics.power import SiteEnergy
from core.units import JOULES_PER_KWH, show
from pages.energy.courses import WATTS
from pages.energy.figures import GRAMS, KWH, STATE_OF
from pages.energy.subject import Subject
from pages.shared import things
from pages.shared.filters import View

_LIMIT = "power_limit_watts"


def energy_terms(
    subject: Subject, energy: pd.DataFrame, hours: pd.DataFrame, sites: Sequence[SiteEnergy], said: str, view: View
) -> list[Term]:
    """Power now, energy by meter and by state, and what makes it energy at the meter and emissions.

    Args:
        subject: of the page.
        energy: its things with what is known of the energy of each.
        hours: its accounts.
        sites: where they are.
        said: the hours in words.
        view: the window.
    """
    return [
        *_power(subject, view),
        *_meters(energy, view),
        *(_states(hours, said) if subject.family == "accelerator" else []),
        *(term for site in sites for term in _site(site)),
    ]


def _power(subject: Subject, view: View) -> list[Term]:
    now = things.current(subject.frame, view)
    counted = {name: f"{now[name].notna().sum()} of {len(now)} {subject.what}" for name in (subject.metric, _LIMIT)}
    return [
        Term(
            "power now", show(things.total(now, subject.metric), WATTS), f"newest sample of {counted[subject.metric]}"
        ),
        Term("power limits in force", show(things.total(now, _LIMIT), WATTS), f"as set on {counted[_LIMIT]}"),
    ]


def _meters(energy: pd.DataFrame, view: View) -> list[Term]:
    parts = [
        Term(
            f"energy by {label}",
            show(joules.sum(min_count=1) / JOULES_PER_KWH, KWH),
            f"{len(joules)} in the table of devices",
        )
        for label, joules in energy.groupby("energy_label")["energy_joules"]
    ]
    whole = energy["energy_joules"].sum(min_count=1) / JOULES_PER_KWH
    return [*parts, Term("energy", show(whole, KWH), f"their sum, {view.words}; unknown ones are left out")]


def _states(hours: pd.DataFrame, said: str) -> list[Term]:
    sums = hours[list(STATE_OF)].sum(min_count=1) / JOULES_PER_KWH
    why = ("work was done", "idle: memory held, no work", "idle: held by nobody", "no state is known: not called idle")
    return [
        Term(f"energy, {state}", show(sums[portion], KWH), f"{meaning}; accounts, {said}")
        for (portion, state), meaning in zip(STATE_OF.items(), why, strict=True)
    ]


def _site(site: SiteEnergy) -> list[Term]:
    metered, factor = site.pue_ratio is not None, site.factor
    pue = "not given" if site.pue_ratio is None else f"{site.pue_ratio:g}"
    grid = "unknown" if factor is None else f"{factor.grams_per_kwh:g} g CO2e/kWh"
    basis = "energy at the meter" if metered else "energy"
    return [
        Term(f"energy, {site.name}", show(site.kwh, KWH), "sum of its devices"),
        Term(f"PUE, {site.name}", pue, "settings, a mean over a year"),
        *([Term(f"at the meter, {site.name}", show(site.meter_kwh, KWH), "energy x PUE")] if metered else []),
        Term(f"grid factor, {site.name}", grid, "settings" if factor is None else factor.source),
        Term(f"operational CO2e, {site.name}", show(site.grams, GRAMS), f"{basis} x grid factor"),
    ]
