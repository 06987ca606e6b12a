"""What a page about cost shows: which hours, in which currency, and how it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analytics.costs import DeploymentCost, Term, priced_hours
from analytics.formulas.local_time import MS_PER_HOUR, Span
from core.language import count, say
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.money import Money, money
from pages.shared.ranges import RANGES

HOURS_PER_DAY = 24
MS_PER_MINUTE = 60_000
MOST_EXPLAINED = 12
"""Deployments that a page about all of them tells of one by one, the dearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """``hours``: whole UTC hours that are accounted for and priced as a bill; ``None``: the view, by its samples."""

    hours: Span | None
    view: View
    money: Money

    @property
    def words(self) -> str:
        """The window for people: ``6 hours to 10:00``."""
        if self.hours is None:
            return self.view.words
        hours, at = round(self.hours.hours), pd.Timestamp(self.hours.end_ms, unit="ms", tz="UTC")
        clock = words.clock(at, self.view.zone, now=self.view.now)
        end = clock.removesuffix(":00") if clock.count(":") > 1 else clock  # of today it has seconds
        if hours % HOURS_PER_DAY or hours == HOURS_PER_DAY:
            return count("hour to {end}", "{number} hours to {end}", hours, end=end)
        return count("day to {end}", "{number} days to {end}", hours // HOURS_PER_DAY, end=end)

    def costs(self) -> list[DeploymentCost]:
        """Of every deployment in it, filtered as the page is."""
        known = {int(i) for i in self.view.keep(loaders.entities("deployment"))["entity_id"]}
        every = loaders.deployment_costs(self.view.start_ms, self.view.end_ms)
        return [cost for cost in every if cost.deployment_id in known]

    def terms(self, costs: Sequence[DeploymentCost]) -> list[Term]:
        """What some of them were made from."""
        if self.hours is None:
            return list(dict.fromkeys(term for cost in costs for term in cost.terms))
        ids = tuple(cost.deployment_id for cost in costs)
        explained = tuple(cost.deployment_id for cost in self.costs()[:MOST_EXPLAINED])
        found = loaders.hourly_terms(*self.hours, explained if {*ids} <= {*explained} else ids)  # mostly asked already
        return list(dict.fromkeys(term for number in ids for term in found[number]))


def window(view: View) -> Window:
    """``costs.priced_hours`` of a view."""
    hours = priced_hours(view.start_ms, view.end_ms, loaders.accounted_until_ms())
    return Window(hours=hours, view=view, money=money(view))


def last_day(view: View) -> Window:
    """The same of the 24 hours up to now, whichever range is shown; of a window of the past, that."""
    if view.is_fixed:
        return window(view)
    end_ms, day_ms = view.now_ms // MS_PER_MINUTE * MS_PER_MINUTE, HOURS_PER_DAY * MS_PER_HOUR
    return window(replace(view, start_ms=end_ms - day_ms, end_ms=end_ms, words=say(RANGES["24h"].words)))
