"""Power over time under its caps, and energy hour by hour."""

from __future__ import annotations

import pandas as pd

from analytics.formulas.local_time import MS_PER_HOUR, local
from analytics.power import PORTIONS, contracted_watts, hours_of, incomplete_hours
from charts.axis import Span
from charts.power import energy_bars, largest, near, under_caps
from core.language import _, count, say, spoken
from core.units import show, unit_of
from pages.energy.figures import STATE_OF
from pages.energy.subject import Subject
from pages.shared import watts, words
from pages.shared.filters import View
from pages.shared.marks import Marks, happened, lacking, week_before
from pages.shared.pictures import picture
from pages.shared.reasons import reasons
from pages.shared.store import settings

WATTS = unit_of("power_watts")
_HOURS_HELP = _(
    "From the accounts of whole UTC hours. Active: work was done. Parked: memory is held, no work. Free: held by "
    "nobody. Not attributed: used while no state is known, as in gaps, and always for CPU packages."
)


def power_over_time(subject: Subject, by: str, view: View, marks: Marks | None) -> None:
    """Power by the chosen group, under the limits of devices and what contracts promise."""
    parts, course = subject.power(view, by)
    before = week_before(view, lambda then: subject.power(then, by)[0])
    unseen = subject.unseen(course)
    limits = subject.frame["power_limit_watts"].dropna()
    # Of some devices only, a sum of limits would be no limit of the sum.
    caps = {say("sum of power limits"): float(limits.sum())} if len(limits) == len(subject.frame) else {}
    caps |= {
        say("contract {name}", name=words.one_line(name, limit=60)): promised
        for name, promised in contracted_watts(settings(), subject.hosts, view.now_ms).items()
    }
    drawn = near(parts, caps)
    notes = watts.basis(view)
    notes += [
        say("{cap}: {power}, above the axis", cap=words.plain(name), power=show(cap, WATTS))
        for name, cap in caps.items()
        if name not in drawn
    ]
    if 0 < len(limits) < len(subject.frame):
        some, every = spoken().number(len(limits)), spoken().number(len(subject.frame))
        notes.append(say("power limit known of {number} of {all}, their sum is not drawn", number=some, all=every))
    if len(unseen):
        notes.append(say("grey: not every device reported, the sum is too low"))
    notes += lacking(before)
    shown = largest(parts, subject.metric)
    chart = under_caps(shown, view.span, view.step_ms, caps=drawn, unseen=unseen, before=before)
    why, remedy = reasons(subject.sources, view)
    picture(
        say("Power of {things} by {group}", things=subject.what, group=say(by)),
        chart if len(parts) else None,
        key="energy-power",
        help=say(
            "Means per step, stacked. Scope: {scope}. Dashed: caps in force now; a contract is of all behind the "
            "meter, so what is drawn here is the least that counts against it.",
            scope=subject.scope,
        ),
        note=" · ".join(notes),
        why=why,
        remedy=remedy,
        marks=marks,
    )


def energy_over_time(hours: pd.DataFrame, view: View) -> None:
    """Energy of each whole hour, or of steps of several, by what devices did.

    Args:
        hours: of all devices together.
        view: the window.
    """
    start_ms, end_ms = hours_of(view.start_ms, view.end_ms)
    sums = hours[["bucket_at", *PORTIONS]].dropna()
    lacking = incomplete_hours(hours, end_ms)
    said = pd.Series([say("observed {share}", share=words.percent(ratio)) for ratio in lacking], dtype="str")
    unseen = pd.DataFrame({"bucket_at": lacking.index, "said": said})
    span = Span(start_ms, end_ms, end_ms - start_ms, view.zone)
    notes = [say("derived"), say("{hours}, as observed", hours=whole_hours(view))]
    if len(unseen):
        notes.append(say("grey band: not all of the hour was observed"))
    bar_ms = max(view.step_ms, MS_PER_HOUR)
    hourly, step = bar_ms == MS_PER_HOUR, words.duration(bar_ms / 1000)
    picture(
        say("Energy by hour") if hourly else say("Energy by steps of {step}", step=step),
        energy_bars(sums.rename(columns=STATE_OF), span, bar_ms, unseen=unseen) if len(sums) else None,
        key="energy-hours",
        help=say(_HOURS_HELP),
        note=" · ".join(notes),
        why=say("No hour of this window is accounted for yet: that is done some minutes after its end."),
        marks=happened(view, span=span),
    )


def whole_hours(view: View) -> str:
    """The whole hours of the window, by the site's clock: ``24 whole hours to 01:00``."""
    start_ms, end_ms = hours_of(view.start_ms, view.end_ms)
    hours, end = (end_ms - start_ms) // MS_PER_HOUR, f"{local(end_ms, view.zone):%H:%M}"
    return count("whole hour to {time}", "{number} whole hours to {time}", hours, time=end)
