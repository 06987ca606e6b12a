"""A row per thing, a column per step: who worked, who idled, and who was not seen at all."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span, scale_for, value_scale
from charts.layered import Layered
from charts.narrow import narrow
from core.language import _, say

SEEN, UNKNOWN, MISSING = _("seen"), _("not reported"), _("no sample")
_NAME_PIXELS = 260
_HEAD, _TAIL = 28, 15  # letters of a name too long for that: it begins with the host and ends with the index
_SHORT = (
    f"length(datum.label) > {_HEAD + _TAIL + 1} "
    f"? slice(datum.label, 0, {_HEAD}) + '…' + slice(datum.label, -{_TAIL}) : datum.label"
)
_STROKE = "M-0.9,0.9L0.9,-0.9"  # one slanted stroke per cell: hatching


def grid(frame: pd.DataFrame, names: list[str], column: str, span: Span, step_ms: int) -> pd.DataFrame:
    """Every cell of the strip, also those without a sample.

    Args:
        frame: ``series``, ``bucket_at`` and the column.
        names: all rows there shall be, in order.
        column: what is shown.
        span: the time shown; steps count from its start.
        step_ms: width of a cell.

    Returns:
        series, bucket_at, the column, state (``SEEN``, ``UNKNOWN``, ``MISSING``).
    """
    starts = pd.to_datetime(range(span.start_ms, span.end_ms, step_ms), unit="ms", utc=True)
    cells = pd.MultiIndex.from_product([names, starts], names=["series", "bucket_at"]).to_frame(index=False)
    cells["bucket_at"] = cells["bucket_at"].astype("datetime64[ms, UTC]")
    found = frame[["series", "bucket_at", column]].assign(
        bucket_at=lambda rows: rows["bucket_at"].astype("datetime64[ms, UTC]"), sampled=True
    )
    cells = cells.merge(found, on=["series", "bucket_at"], how="left")
    cells["state"] = SEEN
    cells.loc[cells[column].isna(), "state"] = UNKNOWN
    cells.loc[cells["sampled"].isna(), "state"] = MISSING
    return cells.drop(columns="sampled")


def strip(cells: pd.DataFrame, column: str, span: Span, step_ms: int, *, title: str | None = None) -> Layered:
    """The picture of ``grid``: colour for what was seen, grey for what is not reported, hatched for no sample."""
    scale = scale_for(column, cells[column], title=title)
    at = span.wall(cells["bucket_at"])
    drawn = pd.DataFrame(
        {
            "at": at,
            "time": span.clock(at),
            "series": cells["series"],
            "value": cells[column] / scale.factor,
            "state": cells["state"].map(say),
        }
    )
    order = list(dict.fromkeys(cells["series"]))
    rows = alt.Y(
        "series:N",
        title=None,
        sort=order,
        scale=alt.Scale(domain=order),
        axis=alt.Axis(
            labelExpr=_SHORT, labelLimit=_NAME_PIXELS, labelOverlap=False, grid=False, ticks=False, domain=False
        ),
    )
    color = alt.Color(
        "value:Q",
        scale=value_scale(column, scale),
        legend=alt.Legend(orient="top", title=scale.title, gradientLength=90, gradientThickness=8),
    )
    value = alt.Tooltip("value:Q", title=scale.title, format=scale.format)
    state = alt.Tooltip("state:N", title=say("state"))

    def cells_in(chosen: pd.Series[bool], told: alt.Tooltip) -> alt.Chart:
        """With what is told of them; thousands are drawn, so that nothing is worked out there that is known here."""
        of = drawn.loc[chosen, ["at", "time", "series", "value" if told is value else "state"]]
        tooltip = [alt.Tooltip("time:N", title=say("from")), alt.Tooltip("series:N", title=say("which")), told]
        return alt.Chart(narrow(of)).encode(y=rows, tooltip=tooltip)

    def wide(chart: alt.Chart) -> alt.Chart:
        placed: alt.Chart = chart.transform_calculate(end=f"datum.at + {step_ms}").encode(
            x=span.axis(), x2=alt.X2("end:Q")
        )
        return placed

    is_seen, is_missing = cells["state"] == SEEN, cells["state"] == MISSING
    seen = wide(cells_in(is_seen, value)).mark_rect(clip=True).encode(color=color)
    absent = wide(cells_in(~is_seen, state)).mark_rect(color=theme.MISSING, opacity=0.25, clip=True)
    hatched = (
        cells_in(is_missing, state)
        .transform_calculate(middle=f"datum.at + {step_ms / 2}")
        .mark_point(shape=_STROKE, size=60, stroke=theme.MISSING, strokeWidth=1.2, filled=False, clip=True)
        .encode(x=span.axis("middle"))
    )
    return Layered(
        layer=[absent, seen, hatched, span.window()],
        height=theme.ROW_HEIGHT * len(order) + theme.STRIP_MARGIN,
        padding=theme.PADDING,
    )
