"""Everything that goes into the figures of the power page, in the order in which it is used."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analytics.costs import Term
from analytics.power import SiteEnergy
from core.language import _, say, spoken
from core.texts import significant
from core.units import JOULES_PER_KWH, show
from pages.energy.courses import WATTS
from pages.energy.figures import GRAMS, KWH, STATE_OF
from pages.energy.subject import Subject, site_called
from pages.shared import things
from pages.shared.filters import View

_LIMIT = "power_limit_watts"
_MEANINGS = (
    _("work was done; accounts, {hours}"),
    _("idle: memory held, no work; accounts, {hours}"),
    _("idle: held by nobody; accounts, {hours}"),
    _("no state is known: not called idle; accounts, {hours}"),
)


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
    return [
        Term(
            say("power now"),
            show(things.total(now, subject.metric), WATTS),
            say("newest sample of {number} of {all} {things}", **_counted(now, subject.metric), things=subject.what),
        ),
        Term(
            say("power limits in force"),
            show(things.total(now, _LIMIT), WATTS),
            say("as set on {number} of {all} {things}", **_counted(now, _LIMIT), things=subject.what),
        ),
    ]


def _counted(frame: pd.DataFrame, column: str) -> dict[str, str]:
    return {"number": spoken().number(int(frame[column].notna().sum())), "all": spoken().number(len(frame))}


def _meters(energy: pd.DataFrame, view: View) -> list[Term]:
    parts = [
        Term(
            say("energy by {meter}", meter=say(str(label))),
            show(joules.sum(min_count=1) / JOULES_PER_KWH, KWH),
            say("{number} in the table of devices", number=spoken().number(len(joules))),
        )
        for label, joules in energy.groupby("energy_label")["energy_joules"]
    ]
    whole = energy["energy_joules"].sum(min_count=1) / JOULES_PER_KWH
    source = say("their sum, {window}; unknown ones are left out", window=view.words)
    return [*parts, Term(say("energy"), show(whole, KWH), source)]


def _states(hours: pd.DataFrame, said: str) -> list[Term]:
    sums = hours[list(STATE_OF)].sum(min_count=1) / JOULES_PER_KWH
    return [
        Term(say("energy, {part}", part=say(state)), show(sums[portion], KWH), say(meaning, hours=said))
        for (portion, state), meaning in zip(STATE_OF.items(), _MEANINGS, strict=True)
    ]


def _site(site: SiteEnergy) -> list[Term]:
    metered, factor, name = site.pue_ratio is not None, site.factor, site_called(site.name)
    pue = say("not given") if site.pue_ratio is None else significant(site.pue_ratio)
    grid = say("unknown") if factor is None else f"{significant(factor.grams_per_kwh)} g CO2e/kWh"
    made = say("energy at the meter x grid factor") if metered else say("energy x grid factor")
    meter = Term(say("at the meter, {site}", site=name), show(site.meter_kwh, KWH), say("energy x PUE"))
    return [
        Term(say("energy, {part}", part=name), show(site.kwh, KWH), say("sum of its devices")),
        Term(f"PUE, {name}", pue, say("settings, a mean over a year")),
        *([meter] if metered else []),
        Term(say("grid factor, {site}", site=name), grid, say("settings") if factor is None else factor.source),
        Term(say("operational CO2e, {site}", site=name), show(site.grams, GRAMS), made),
    ]
