"""What draws the power, how much energy that made, what of it was idle, and whether the meters agree."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analytics.formulas.unknown import per
from analytics.power import contracted_watts, energy_by_site, hours_of
from core.language import _, say, spoken
from core.readings import Severity
from core.units import JOULES_PER_KWH, show
from pages.energy import figures
from pages.energy.beside import beside
from pages.energy.courses import WATTS, energy_over_time, power_over_time, whole_hours
from pages.energy.devices import devices_table, meters_table, sites_table
from pages.energy.subject import GROUPS, Subject, accelerators, nodes, packages
from pages.energy.terms import energy_terms
from pages.shared import loaders, things, watts, words
from pages.shared.choice import choice
from pages.shared.explained import terms
from pages.shared.figures import tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.marks import happened
from pages.shared.reasons import reasons
from pages.shared.store import settings
from pages.shared.verdict import Finding, verdict


def render() -> None:
    """Draw the page."""
    page(_("Power and energy"), draw, controls=controls)


def controls() -> None:
    """By what power is stacked."""
    choice(say("Stacked by"), GROUPS, "power-by", default=GROUPS[0])


def draw(view: View) -> None:
    """Verdict, figures, power over time, energy by hour, devices and their meters, and what lies beside them."""
    cards, sockets, hosts = accelerators(view), packages(view), nodes(view)
    main, others = (cards, [sockets, hosts]) if len(cards.frame) else (sockets, [hosts])
    if main.frame.empty:
        no_data(say("Nothing was seen that draws power"), *reasons((*cards.sources, *sockets.sources), view))
        return
    energy = _energy(main, view)
    sites = energy_by_site(settings(), energy)
    whole = hours_of(view.start_ms, view.end_ms)
    hours, by_state = (
        loaders.energy_by_hour(main.family, main.ids, *whole),
        loaders.energy_by_device(main.family, *whole),
    )
    found, sentence = _findings(main, energy, view), _sentence(main, energy, view)
    verdict([*found, Finding(Severity.INFO, sentence)] if found else [], sentence, view)
    now = watts.accelerator_power if main is cards else watts.cpu_power
    tiles(
        [
            now(main.frame, view),
            figures.used(main, energy, sites, view),
            *figures.at_meter(main, sites, view),
            *([figures.idle(hours, whole_hours(view))] if main is cards else []),
            figures.emissions(sites, view),
        ],
        view,
    )
    st.caption(figures.rests_on(main, sites))
    with st.expander(say("How was this computed?"), icon=":material/function:"):
        terms(energy_terms(main, energy, hours, sites, whole_hours(view), view))
    marks, (left, right) = happened(view), st.columns(2)
    with left:
        power_over_time(main, st.session_state.get("power-by") or GROUPS[0], view, marks)
    with right:
        energy_over_time(hours, view)
    sites_table(sites, view)
    devices_table(energy, by_state, view)
    meters_table(energy, view)
    beside(others, view, marks)


def _energy(main: Subject, view: View) -> pd.DataFrame:
    """The subject's things, with what is known of the energy of each over the window."""
    found = loaders.checked_energy(main.family, view.start_ms, view.end_ms)
    joined = main.frame.merge(found, "left", "entity_id")
    return joined.assign(
        energy_label=joined["energy_label"].fillna("missing"),
        quality=joined["quality"].fillna("missing"),
        is_doubtful=joined["is_doubtful"].eq(True),
    )


def _sentence(main: Subject, energy: pd.DataFrame, view: View) -> str:
    """What is drawn of what may be drawn, and what that made in the window."""
    now = things.current(main.frame, view)
    drawn, joules = things.total(now, main.metric), things.total(energy, "energy_joules")
    capped = now.dropna(subset=[main.metric, "power_limit_watts"])
    share = per(float(capped[main.metric].sum()), float(capped["power_limit_watts"].sum()))
    used = show(None if joules is None else joules / JOULES_PER_KWH, figures.KWH)
    told = {"things": f"{main.what[:1].upper()}{main.what[1:]}", "power": show(drawn, WATTS)}
    told |= {"energy": used, "window": view.words}
    if share is None:
        return say("{things} draw {power}; {energy} in the {window}.", **told)
    if len(capped) < len(now):
        limits = _("{things} draw {power}, {share} of the power limits known; {energy} in the {window}.")
    else:
        limits = _("{things} draw {power}, {share} of the power limits; {energy} in the {window}.")
    return say(limits, **told, share=words.percent(share))


def _findings(main: Subject, energy: pd.DataFrame, view: View) -> list[Finding]:
    """Meters that contradict each other or are silent, and contracts that are exceeded."""
    found = [
        Finding(
            Severity.WARNING,
            say(
                "{device}: its energy counter says {times} times what its power samples say, which count",
                device=row["name"],
                times=spoken().number(row["counter_over_samples"], 2),
            ),
        )
        for row in energy[energy["is_doubtful"]].to_dict("records")
    ]
    now = things.current(main.frame, view)
    silent = int(now[main.metric].isna().sum())
    if silent:
        text = say(
            "{number} of {all} {things} do not report power: sums lack them",
            number=spoken().number(silent),
            all=spoken().number(len(now)),
            things=main.what,
        )
        found.append(Finding(Severity.INFO, text))
    drawn = things.total(now, main.metric) or 0.0
    for name, promised in contracted_watts(settings(), main.hosts, view.now_ms).items():
        if drawn > promised:
            text = say(
                "{power} is more than the {promised} of contract {name}",
                power=show(drawn, WATTS),
                promised=show(promised, WATTS),
                name=name,
            )
            found.append(Finding(Severity.CRITICAL, text))
    return found


if __name__ == "__main__":
    render()
