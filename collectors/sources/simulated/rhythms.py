"""When requests come: demand through the week (UTC) as a share of its weekday peak."""

from __future__ import annotations

import numpy as np

from collectors.sources.simulated.clock import DAY_TICKS, WEEK_TICKS, Floats, hour_of_day
from collectors.sources.simulated.fleet import Rhythm

_OFFICE_WEEK = (0.97, 1.0, 1.0, 0.98, 0.93, 0.62, 0.55)
CLOSED_HOURS = (1.5, 9.5)
"""UTC: 22:30 to 06:30 in São Paulo, where clocks are not changed."""
BATCH_HOURS = (22.0, 4.0)
"""UTC: 16:00 to 22:00 in Mexico City, where clocks are not changed."""
_TRICKLE = 0.03


def demand(rhythm: Rhythm) -> Floats:
    """Demand in each tick of the week, 0 to 1."""
    hour = hour_of_day()
    match rhythm:
        case Rhythm.OFFICE:
            return _office(hour)
        case Rhythm.CLOSED_AT_NIGHT:
            closed = (hour >= CLOSED_HOURS[0]) & (hour < CLOSED_HOURS[1])
            return np.where(closed, 0.0, _office(hour + 1))  # an hour ahead of the others
        case Rhythm.STEADY:
            return 0.36 + 0.64 * _bump(hour, 18.0, 1.1)
        case Rhythm.EVENING_BATCH:
            return np.where((hour >= BATCH_HOURS[0]) | (hour < BATCH_HOURS[1]), 1.0, _TRICKLE)
        case Rhythm.NEVER:
            return np.zeros(WEEK_TICKS)


def _office(hour: Floats) -> Floats:
    around = (_OFFICE_WEEK[-1], *_OFFICE_WEEK, _OFFICE_WEEK[0])
    day = np.arange(WEEK_TICKS) / DAY_TICKS
    share: Floats = (0.14 + 0.86 * _bump(hour, 15.5, 2.2)) * np.interp(day - 0.5, np.arange(-1, 8), around)
    return share


def _bump(hour: Floats, middle: float, steepness: float) -> Floats:
    """1 at one hour of the day, and less the farther from it."""
    height: Floats = np.exp(steepness * (np.cos((hour - middle) * 2 * np.pi / 24) - 1))
    return height
