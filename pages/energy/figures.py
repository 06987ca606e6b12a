"""Energy as figures: at the device, at the meter, idle, and as emissions; and what they rest on, in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analytics.formulas.energy import ENOUGH_COVERAGE, Quality, worst
from analytics.formulas.unknown import total
from analytics.power import PORTIONS, SiteEnergy
from charts.power import STATES, UNATTRIBUTED
from core.language import _, say, spoken
from core.texts import significant
from core.units import JOULES_PER_KWH, Unit, show, unit_of
from pages.energy.subject import Subject, site_called
from pages.shared import words
from pages.shared.figures import Figure
from pages.shared.filters import View

KWH = Unit("_kwh", "kWh", ((1e6, "GWh"), (1e3, "MWh"), (1, "kWh"), (1e-3, "Wh")))
GRAMS = Unit("_gco2e", "g CO2e", ((1e6, "t CO2e"), (1e3, "kg CO2e"), (1, "g CO2e")))
STATE_OF = dict(zip(PORTIONS, (*STATES, UNATTRIBUTED), strict=True))
"""What the portions of energy are called, marked for translation."""
IDLE_HELP = _(
    "Energy of accelerators that were parked (memory held, no work) or free (held by nobody), from the accounts of "
    "whole hours. What lies in gaps belongs to no state and is not in it."
)


def used(subject: Subject, energy: pd.DataFrame, sites: Sequence[SiteEnergy], view: View) -> Figure:
    """Energy of the window at the devices, as far as it is known."""
    known = energy["energy_joules"].dropna()
    short = energy["coverage_ratio"].min() if len(known) else 1.0
    notes = []
    if len(known) < len(subject.frame):
        some, every = spoken().number(len(known)), spoken().number(len(subject.frame))
        notes.append(say("{number} of {all} devices", number=some, all=every))
    if short < ENOUGH_COVERAGE:
        notes.append(say("observed {share} at the least", share=words.percent(short)))
    return Figure(
        label=say("Energy at devices"),
        value=float(known.sum()) / JOULES_PER_KWH if len(known) else None,
        unit=KWH,
        basis=worst(*(site.quality for site in sites if site.kwh is not None), Quality.MEASURED).value,
        window=view.words,
        note=", ".join(notes),
        help=say(
            "Sum over {things} of the counter's increase, or of integrated power where there is no counter. "
            "Scope: {scope}.",
            things=subject.what,
            scope=subject.scope,
        ),
        reason=say("no device reports energy or power"),
    )


def at_meter(subject: Subject, sites: Sequence[SiteEnergy], view: View) -> list[Figure]:
    """The same with the sites' PUE; no figure where none is given."""
    if all(site.pue_ratio is None for site in sites):
        return []
    without = [site_called(site.name) for site in sites if site.pue_ratio is None]
    ratios = sorted({f"PUE {significant(site.pue_ratio)}" for site in sites if site.pue_ratio is not None})
    figure = Figure(
        label=say("At the meter"),
        value=total(*(site.meter_kwh for site in sites)),
        unit=KWH,
        basis=worst(*(site.meter_quality for site in sites)).value,
        window=view.words,
        note=", ".join(ratios),
        help=say(
            "Energy of {things} times the PUE of their site. A PUE is a mean over a year: for one window it is an "
            "estimate. The rest of the host is not in it.",
            things=subject.what,
        ),
        reason=say("no pue_ratio for {sites}", sites=", ".join(without)) if without else say("the energy is not known"),
    )
    return [figure]


def idle(hours: pd.DataFrame, said: str) -> Figure:
    """Energy of accelerators that did no work, and its share."""
    sums = hours[["energy_joules", *PORTIONS]].sum()
    _, parked, free, lost = PORTIONS
    known = sums["energy_joules"] > sums[lost]
    joules = float(sums[parked] + sums[free])
    return Figure(
        label=say("Energy while idle"),
        value=joules / JOULES_PER_KWH if known else None,
        unit=KWH,
        basis="derived",
        window=said,
        note=say("{share} of their energy", share=show(joules / sums["energy_joules"], unit_of("x_ratio")))
        if known
        else "",
        help=say(IDLE_HELP),
        reason=say("no account tells energy by state ({hours})", hours=said),
    )


def emissions(sites: Sequence[SiteEnergy], view: View) -> Figure:
    """Operational emissions by the sites' grid factors."""
    without = [site_called(site.name) for site in sites if site.factor is None]
    factors = sorted({site.factor.grams_per_kwh for site in sites if site.factor is not None})
    return Figure(
        label=say("Operational CO2e"),
        value=total(*(site.grams for site in sites)),
        unit=GRAMS,
        basis=worst(*(site.grams_quality for site in sites)).value if sites else "missing",
        window=view.words,
        note=", ".join(f"{significant(grams)} g/kWh" for grams in factors),
        help=say(
            "Energy at the meter (at the devices where no PUE is given) times the location's grid factor: operational "
            "only. What making the hardware emitted is not in it and not known; contracts and offsets do not count."
        ),
        reason=say("no grid factor for {sites}: set country or grid_gco2e_per_kwh", sites=", ".join(without))
        if without
        else say("the energy is not known"),
    )


def rests_on(subject: Subject, sites: Sequence[SiteEnergy]) -> str:
    """Scope, PUE and grid factor with their sources; Markdown."""
    parts = [say("Scope: {scope}.", scope=subject.scope)]
    for site in sites:
        told = [
            say("no PUE given")
            if site.pue_ratio is None
            else say("PUE {pue} (settings)", pue=significant(site.pue_ratio))
        ]
        if site.factor is not None:
            grams = significant(site.factor.grams_per_kwh)
            source = str(site.factor.source)
            told.append(say("{grams} g CO2e/kWh ({source}), operational only", grams=grams, source=source))
        parts.append(f"{site_called(site.name)}: {', '.join(told)}.")
    return words.plain(" ".join(parts), limit=800)
