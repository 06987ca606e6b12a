"""Pictures of the weekly summary: what each day cost, line by line, and a figure over nine weeks."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from charts import theme
from charts.layered import Layered

_WIDTH, _HEIGHT = 330, 150
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b3598f")
"""The light theme's, since a summary is a file as well; they read on a dark ground too. The legend names each."""


def daily(frame: pd.DataFrame, title: str) -> Layered:
    """A bar per day, cut into its lines; a day that is not wholly known has its note instead.

    Args:
        frame: ``day`` and ``line`` as they are called, ``amount`` (NaN: unknown) and ``note``, in order.
        title: of the amounts, with their unit.
    """
    order = list(dict.fromkeys(frame["day"]))
    lines = list(dict.fromkeys(frame["line"]))
    drawn = frame.assign(order=frame["line"].map(lines.index))
    x = alt.X("day:N", title=None, sort=order, axis=alt.Axis(labelAngle=0, labelOverlap=False))
    bars = (
        alt.Chart(drawn.dropna(subset=["amount"]))
        .mark_bar()
        .encode(
            x=x,
            y=alt.Y("amount:Q", title=title, stack="zero"),
            color=alt.Color(
                "line:N",
                scale=alt.Scale(domain=lines, range=list(COLOURS)),
                legend=alt.Legend(orient="top", title=None, columns=2, columnPadding=30, labelLimit=_WIDTH // 2),
            ),
            order=alt.Order("order:Q"),
        )
    )
    notes = drawn[drawn["amount"].isna()].drop_duplicates("day")
    unknown = alt.Chart(notes).mark_text(color=theme.MISSING, baseline="bottom", angle=270, align="left")
    said = unknown.encode(x=x, y=alt.value(_HEIGHT - 4), text=alt.Text("note:N"))
    return Layered(layer=[bars, said], width=_WIDTH, height=_HEIGHT, padding=theme.PADDING)


def history(frame: pd.DataFrame, title: str, weeks: Sequence[str]) -> Layered:
    """A bar per week, the last in another colour; a week without a figure has none.

    Args:
        frame: ``week`` and ``amount`` (NaN: unknown).
        title: of the figure, with its unit.
        weeks: all of them as they are called, in order.
    """
    bars = (
        alt.Chart(frame.dropna(subset=["amount"]).assign(is_last=lambda of: of["week"] == weeks[-1]))
        .mark_bar()
        .encode(
            x=alt.X("week:N", title=None, scale=alt.Scale(domain=list(weeks)), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("amount:Q", title=title),
            color=alt.ColorValue(theme.MISSING, condition={"test": "datum.is_last", "value": COLOURS[0]}),
        )
    )
    return Layered(layer=[bars], width=_WIDTH, height=_HEIGHT, padding=theme.PADDING)
