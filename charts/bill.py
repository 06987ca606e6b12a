"""The lines of a bill, stacked: who pays, and for what."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import theme

LINES = {
    "hardware_usd": "hardware",
    "electricity_active_usd": "electricity, active",
    "electricity_idle_usd": "electricity, idle",
    "overhead_usd": "overhead",
}
_ROW = 34
_AROUND = 120
LABEL_PIXELS = 140


def stacked(frame: pd.DataFrame) -> alt.LayerChart:
    """A bar per row of the frame, cut into its lines.

    Args:
        frame: ``who`` and the columns of ``LINES`` (USD); lines that are unknown are not drawn.
    """
    drawn = frame[["who", *LINES]].melt("who", var_name="line", value_name="usd").dropna(subset=["usd"])
    drawn = drawn.assign(order=drawn["line"].map(list(LINES).index), line=drawn["line"].map(LINES))
    bars = (
        alt.Chart(drawn)
        .mark_bar()
        .encode(
            x=alt.X("usd:Q", title="USD", stack="zero"),
            y=alt.Y(
                "who:N", title=None, sort=list(frame["who"]), axis=alt.Axis(labelLimit=LABEL_PIXELS, labelOverlap=False)
            ),
            color=alt.Color(
                "line:N",
                scale=alt.Scale(domain=list(LINES.values())),
                legend=alt.Legend(orient="top", title=None, columns=2, labelLimit=LABEL_PIXELS),
            ),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("who:N", title="who"),
                alt.Tooltip("line:N", title="line"),
                alt.Tooltip("usd:Q", title="USD", format=",.2f"),
            ],
        )
    )
    return alt.LayerChart(layer=[bars], height=_AROUND + _ROW * len(frame), padding=theme.PADDING)
