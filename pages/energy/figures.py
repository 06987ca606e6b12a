"""Energy as figures: at the device, at the meter, idle, and as emissions; and what they rest on, in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analytics.formulas.energy import ENOUGH_COVERAGE, Quality, worst
from analytics.formulas.unknown import total
from analytics.power import PORTIONS, SiteEnergy
from charts.power import STATES, UNATTRIBUTED
from core.units import JOULES_PER_KWH, Unit, show, unit_of
from pages.energy.subject import Subject
from pages.shared import words
from pages.shared.figures import Figure
from pages.shared.filters import View

KWH = Unit("_kwh", "kWh", ((1e6, "GWh"), (1e3, "MWh"), (1, "kWh"), (1e-3, "Wh")))
GRAMS = Unit("_gco2e", "g CO2e", ((1e6, "t CO2e"), (1e3, "kg CO2e"), (1, "g CO2e")))
STATE_OF = dict(zip(PORTIONS, (*STATES, UNATTRIBUTED), strict=True))
"""What the portions of energy are called."""
IDLE_HELP = (
    "Energy of accelerators that were parked (memory held, no work) or free (held by nobody), from the accounts of "
    "whole hours. What lies in gaps belongs to no state and is not in it."
)


def used(subject: Subject, energy: pd.DataFrame, sites: Sequence[SiteEnergy], view: View) -> Figure:
    """Energy of the window at the devices, as far as it is known."""
    known = energy["energy_joules"].dropna()
    short = energy["coverage_ratio"].min() if len(known) else 1.0
    notes = [f"{len(known)} of {len(subject.frame)} devices"] if len(known) < len(subject.frame) else []
    notes += [f"observed {short:.0%} at the least"] if short < ENOUGH_COVERAGE else []
    return Figure(
        label="Energy at devices",
        value=float(known.sum()) / JOULES_PER_KWH if len(known) else None,
        unit=KWH,
        basis=worst(*(site.quality for site in sites if site.kwh is not None), Quality.MEASURED).value,
        window=view.words,
        note=", ".join(notes),
        help=f"Sum over {subject.what} of the counter's increase, or of integrated power where there is no counter. "
        f"Scope: {subject.scope}.",
        reason="no device reports energy or power",
    )


def at_meter(subject: Subject, sites: Sequence[SiteEnergy], view: View) -> list[Figure]:
    """The same with the sites' PUE; no figure where none is given."""
    if all(site.pue_ratio is None for site in sites):
        return []
    without = [site.name for site in sites if site.pue_ratio is None]
    ratios = sorted({f"PUE {site.pue_ratio:g}" for site in sites if site.pue_ratio is not None})
    figure = Figure(
        label="At the meter",
        value=total(*(site.meter_kwh for site in sites)),
        unit=KWH,
        basis=worst(*(site.meter_quality for site in sites)).value,
        window=view.words,
        note=", ".join(ratios),
        help=f"Energy of {subject.what} times the PUE of their site. A PUE is a mean over a year: "
        "for one window it is an estimate. The rest of the host is not in it.",
        reason=f"no pue_ratio for {', '.join(without)}" if without else "the energy is not known",
    )
    return [figure]


def idle(hours: pd.DataFrame, said: str) -> Figure:
    """Energy of accelerators that did no work, and its share."""
    sums = hours[["energy_joules", *PORTIONS]].sum()
    _, parked, free, lost = PORTIONS
    known = sums["energy_joules"] > sums[lost]
    joules = float(sums[parked] + sums[free])
    return Figure(
        label="Energy while idle",
        value=joules / JOULES_PER_KWH if known else None,
        unit=KWH,
        basis="derived",
        window=said,
        note=f"{show(joules / sums['energy_joules'], unit_of('x_ratio'))} of their energy" if known else "",
        help=IDLE_HELP,
        reason=f"no account tells energy by state ({said})",
    )


def emissions(sites: Sequence[SiteEnergy], view: View) -> Figure:
    """Operational emissions by the sites' grid factors."""
    without = [site.name for site in sites if site.factor is None]
    factors = sorted({site.factor.grams_per_kwh for site in sites if site.factor is not None})
    return Figure(
        label="Operational CO2e",
        value=total(*(site.grams for site in sites)),
        unit=GRAMS,
        basis=worst(*(site.grams_quality for site in sites)).value if sites else "missing",
        window=view.words,
        note=", ".join(f"{grams:g} g/kWh" for grams in factors),
        help="Energy at the meter (at the devices where no PUE is given) times the location's grid factor: operational "
        "only. What making the hardware emitted is not in it and not known; contracts and offsets do not count.",
        reason=f"no grid factor for {', '.join(without)}: set country or grid_gco2e_per_kwh"
        if without
        else "the energy is not known",
    )


def rests_on(subject: Subject, sites: Sequence[SiteEnergy]) -> str:
    """Scope, PUE and grid factor with their sources; Markdown."""
    parts = [f"Scope: {subject.scope}."]
    for site in sites:
        said = ["no PUE given" if site.pue_ratio is None else f"PUE {site.pue_ratio:g} (settings)"]
        if site.factor is not None:
            said.append(f"{site.factor.grams_per_kwh:g} g CO2e/kWh ({site.factor.source}), operational only")
        parts.append(f"{site.name}: {', '.join(said)}.")
    return words.plain(" ".join(parts), limit=800)
