"""One quantity of many things over time: a line for each, or what they have in common."""

from __future__ import annotations

import pandas as pd

from charts.layered import Layered
from charts.theme import MOST_SERIES
from charts.timeseries import band, over_time
from pages.shared import loaders, things
from pages.shared.filters import View


def by_thing(
    family: str,
    metric: str,
    frame: pd.DataFrame,
    view: View,
    *,
    title: str | None = None,
    limit: float | None = None,
) -> Layered | None:
    """A line for each thing; of many the mean and the extremes. ``None`` without any value."""
    window = (things.ids(frame), view.start_ms, view.end_ms, view.step_ms)
    if len(frame) > MOST_SERIES:
        read = loaders.spread(family, metric, *window)
        return band(read, metric, view.span, title=title, limit=limit) if len(read) else None
    read = things.named(loaders.series(family, (metric,), *window), frame)
    return over_time(read, metric, view.span, title=title, limit=limit) if len(read) else None
