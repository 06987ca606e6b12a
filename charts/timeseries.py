"""Quantities over time. Where nothing was seen nothing is drawn: no line and no area crosses a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from charts import theme
from charts.axis import Scale, Span, broken_at_gaps, scale_for, value_scale
from charts.cursor import cursor
from charts.layered import Layered
from charts.marks import dotted
from charts.narrow import narrow
from core.language import _, say, spoken
from core.units import Unit


def over_time(
    frame: pd.DataFrame,
    column: str,
    span: Span,
    *,
    series: str = "series",
    title: str | None = None,
    limit: float | None = None,
    before: pd.DataFrame | None = None,
    small: bool = False,
    unit: Unit | None = None,
) -> Layered:
    """One line per series; more series than there are colours become their mean between their extremes.

    Args:
        frame: ``bucket_at`` (UTC), the column in its base unit, and the series' name.
        column: what to draw; its name tells the unit.
        span: the time shown.
        series: the column that names the series.
        title: words for the axis, if not the column's own.
        limit: a cap or an objective (base unit), drawn dashed.
        before: the same a week before, as ``frame`` and a week later than it was; drawn dotted.
        small: one of many: low, its axis title above it.
        unit: of the column, if its name does not tell it.
    """
    if frame[series].nunique() > theme.MOST_SERIES:
        mean_before = None if before is None else spread(before, column)
        return band(spread(frame, column), column, span, title=title, limit=limit, before=mean_before, unit=unit)
    scale = scale_for(column, _all(frame[column], before, column), limit=limit, title=title, unit=unit)
    broken = broken_at_gaps(frame, [column], series, span)
    drawn = narrow(
        pd.DataFrame(
            {
                "at": span.wall(broken["bucket_at"]),
                "series": broken[series],
                "value": broken[column] / scale.factor,
            }
        )
    )
    y = alt.Y("value:Q", title=None if small else scale.title, scale=value_scale(column, scale))
    lines = alt.Chart(drawn).mark_line(strokeWidth=1.8, strokeCap="round")
    earlier = week_before(before, column, span, scale, y, series=series)
    layers = [
        *earlier,
        lines.encode(x=span.axis(), y=y, color=series_color(drawn, lines=True)),
        _cursor(drawn, scale, span),
    ]
    if small:
        return _layered(layers, span, limit, scale, height=theme.SMALL_HEIGHT, title=_heading(scale))
    return _layered(layers, span, limit, scale, height=theme.HEIGHT + room(earlier, frame[series]))


def band(
    frame: pd.DataFrame,
    column: str,
    span: Span,
    *,
    title: str | None = None,
    limit: float | None = None,
    before: pd.DataFrame | None = None,
    unit: Unit | None = None,
) -> Layered:
    """A mean as a line, with the span between ``_min`` and ``_max`` behind it; one series.

    ``before`` has the mean a week before, as ``over_time`` takes it, without a series.
    """
    low, high = f"{column}_min", f"{column}_max"
    scale = scale_for(column, _all(frame[high], before, column), limit=limit, title=title, unit=unit)
    broken = broken_at_gaps(frame.assign(series="mean"), [column, low, high], "series", span)
    drawn = narrow(
        pd.DataFrame(
            {
                "at": span.wall(broken["bucket_at"]),
                "value": broken[column] / scale.factor,
                "low": broken[low] / scale.factor,
                "high": broken[high] / scale.factor,
            }
        )
    )
    y = alt.Y("value:Q", title=scale.title, scale=value_scale(column, scale))
    base = alt.Chart(drawn).encode(x=span.axis())
    between = base.mark_area(opacity=theme.BAND_OPACITY).encode(
        y=alt.Y("low:Q", title=scale.title), y2=alt.Y2("high:Q")
    )
    line = base.mark_line(strokeWidth=1.8, strokeCap="round").encode(y=y)
    mean_before = None if before is None else before.assign(series=say("mean"))
    earlier = week_before(mean_before, column, span, scale, y)
    seen = drawn.dropna(subset=["value"])
    texts = {say(word): _texts(seen[name], scale) for name, word in _BAND_WORDS.items()}
    layers = [between, *earlier, line, cursor(seen["at"], texts, span)]
    return _layered(layers, span, limit, scale, height=theme.HEIGHT + room(earlier))


def week_before(
    before: pd.DataFrame | None,
    column: str,
    span: Span,
    scale: Scale,
    y: alt.Y,
    *,
    series: str = "series",
    steps: bool = False,
) -> list[alt.Chart]:
    """The layer of ``dotted`` lines in the scale of a chart; none where there is nothing to draw."""
    if before is None or before[column].isna().all():
        return []
    broken = _drawn(broken_at_gaps(before, [column], series, span), span)
    drawn = pd.DataFrame({"at": broken["at"], "series": broken[series], "value": broken[column] / scale.factor})
    return [dotted(drawn, span, y, _number("value", scale.title, scale), steps=steps)]


def room(earlier: Sequence[alt.Chart], series: pd.Series | None = None) -> int:
    """What a chart needs in height (px) for the legend of ``week_before``, and for a long one of its series."""
    names = [] if series is None else _names(series)
    rows = -(-len(names) // _columns(names))
    return (theme.LEGEND_HEIGHT if earlier else 0) + theme.LEGEND_ROW_HEIGHT * max(rows - _LEGEND_ROWS, 0)


def _all(shown: pd.Series, before: pd.DataFrame | None, column: str) -> pd.Series:
    """Every value that an axis must have room for."""
    return shown if before is None else pd.concat([shown, before[column]], ignore_index=True)


_LEGEND_ROWS = 2  # for which every chart has room
_LEGEND_LETTERS = 52  # in a row of the legend of half a page
_SYMBOL_LETTERS = 3  # as wide as a symbol and the gap after its name
_HAIR = pd.Timedelta(milliseconds=1)
_BAND_WORDS = {"value": _("mean"), "low": _("lowest"), "high": _("highest")}


def spread(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean and extremes over all series, per step: ``bucket_at``, column, ``_min``, ``_max``."""
    steps = frame.groupby("bucket_at")[column]
    return pd.DataFrame(
        {column: steps.mean(), f"{column}_min": steps.min(), f"{column}_max": steps.max()}
    ).reset_index()


def stacked(
    frame: pd.DataFrame,
    column: str,
    span: Span,
    step_ms: int,
    *,
    series: str = "series",
    title: str | None = None,
    limit: float | None = None,
    before: pd.DataFrame | None = None,
) -> Layered:
    """Parts of a sum on top of each other. A step in which a part was not seen has nothing of it.

    ``before`` has the parts a week before, as ``over_time`` takes them; their sum is drawn.
    """
    found = stack(frame, column, span, step_ms, series=series, title=title, limit=limit, before=before)
    height = theme.HEIGHT + room(found.earlier, frame[series])
    return _layered(found.layers, span, limit, found.scale, height=height)


@dataclass(frozen=True, slots=True)
class Stack:
    """What ``stacked`` draws, for a picture of more layers."""

    parts: alt.Chart
    earlier: list[alt.Chart]
    cursor: alt.Chart
    scale: Scale

    @property
    def layers(self) -> list[alt.Chart]:
        """In the order in which they lie over each other."""
        return [self.parts, *self.earlier, self.cursor]


def stack(
    frame: pd.DataFrame,
    column: str,
    span: Span,
    step_ms: int,
    *,
    series: str = "series",
    title: str | None = None,
    limit: float | None = None,
    before: pd.DataFrame | None = None,
) -> Stack:
    """As ``stacked``; the picture is not put together."""
    known = frame.dropna(subset=[column]).sort_values(["bucket_at", series])
    top = known.groupby("bucket_at")[column].cumsum()
    sums = None if before is None else _sums(before, column)
    scale = scale_for(column, _all(top, sums, column), limit=limit, title=title)
    parts = pd.DataFrame(
        {
            "bucket_at": known["bucket_at"],
            "series": known[series],
            "top": top / scale.factor,
            "value": known[column] / scale.factor,
        }
    )
    parts["bottom"] = parts["top"] - parts["value"]
    drawn = narrow(_drawn(_as_steps(parts, span, step_ms), span)[["at", "series", "bottom", "top"]])
    area: alt.Chart = (
        alt.Chart(drawn)
        .mark_area(interpolate="step-after", opacity=1)
        .encode(
            x=span.axis(),
            y=alt.Y("bottom:Q", title=scale.title, scale=value_scale(column, scale)),
            y2=alt.Y2("top:Q"),
            color=series_color(drawn),
        )
    )
    y = alt.Y("value:Q", title=scale.title, scale=value_scale(column, scale))
    earlier = week_before(sums, column, span, scale, y, steps=True)
    return Stack(area, earlier, _cursor(_drawn(parts, span), scale, span, step_ms), scale)


def _sums(parts: pd.DataFrame, column: str) -> pd.DataFrame:
    """What the parts make together, step by step."""
    return parts.dropna(subset=[column]).groupby("bucket_at")[[column]].sum().reset_index().assign(series=say("sum"))


def _as_steps(parts: pd.DataFrame, span: Span, step_ms: int) -> pd.DataFrame:
    """Each row holds until its step ends; an unbroken run of steps gets a last row there, and a break after it."""
    step = pd.Timedelta(milliseconds=step_ms)
    following = parts.groupby("series")["bucket_at"].shift(-1)
    last = parts[~(following - parts["bucket_at"] <= step)]
    ends = last.assign(bucket_at=last["bucket_at"] + step)
    breaks = ends.assign(bucket_at=ends["bucket_at"] + _HAIR, top=float("nan"), bottom=float("nan"))
    return pd.concat([parts, ends, breaks]).sort_values(["series", "bucket_at"], ignore_index=True)


def series_color(drawn: pd.DataFrame, *, lines: bool = False) -> alt.Color:
    """The theme's colours, given out by name, and their legend: of lines strokes; a single series needs none."""
    names = _names(drawn["series"])
    symbol: dict[str, Any]
    if lines:
        symbol = {"symbolType": "stroke", "symbolStrokeWidth": 3}
    else:
        symbol = {"symbolType": "square", "symbolSize": 90, "symbolStrokeWidth": 0, "symbolOpacity": 1}
    legend = alt.Legend(orient="top", title=None, labelLimit=360, columns=_columns(names), **symbol)
    return alt.Color("series:N", scale=alt.Scale(domain=names or [""]), legend=legend if len(names) > 1 else None)


def _names(series: pd.Series) -> list[str]:
    return sorted(series.dropna().unique())


def _columns(names: Sequence[str]) -> int:
    """As many as stand side by side uncut."""
    return max(_LEGEND_LETTERS // max((len(name) + _SYMBOL_LETTERS for name in names), default=1), 1)


def _heading(scale: Scale) -> alt.TitleParams:
    return alt.TitleParams(scale.title, anchor="start", fontSize=13, offset=8)


def _drawn(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    return frame.assign(at=span.wall(frame["bucket_at"]))


def _number(column: str, title: str, scale: Scale) -> alt.Tooltip:
    return alt.Tooltip(f"{column}:Q", title=title, format=scale.format)


def _cursor(drawn: pd.DataFrame, scale: Scale, span: Span, step_ms: int | None = None) -> alt.Chart:
    """Over lines or, where it is told how long a step is, over a stack: with the sum of its parts."""
    known = drawn[drawn["value"].notna()]
    at, column = np.unique(known["at"], return_inverse=True)
    row, names = pd.factorize(known["series"], sort=True)
    told = known["value"].to_numpy()
    values = np.full((len(names), len(at)), np.nan, told.dtype)
    values[row, column] = told
    texts = {str(name): _texts(of_name, scale) for name, of_name in zip(names, values, strict=True)}
    if step_ms and len(texts) > 1:
        texts[say("sum")] = _texts(np.nansum(values, axis=0), scale)
    return cursor(pd.Series(at), texts, span, step_ms=step_ms)


def _texts(values: pd.Series | NDArray[Any], scale: Scale) -> list[str]:
    number = spoken().number
    return [
        say("unknown") if math.isnan(value) else f"{number(value, scale.decimals)} {scale.symbol}".rstrip()
        for value in values.tolist()
    ]


def _layered(
    layers: list[alt.Chart], span: Span, limit: float | None, scale: Scale, *, height: int, **told: alt.TitleParams
) -> Layered:
    if limit is not None:
        at = pd.DataFrame({"limit": [limit / scale.factor]})
        layers.append(
            alt.Chart(at).mark_rule(color=theme.LIMIT, strokeDash=[5, 4], strokeWidth=1.5).encode(y=alt.Y("limit:Q"))
        )
    return Layered(layer=[*layers, span.window()], height=height, padding=theme.PADDING, **told)
