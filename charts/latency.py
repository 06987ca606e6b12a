"""Latency over time: quantiles and mean as lines, the whole distribution as a heat map, two clocks side by side.

Latency spans decades, so it stands on a logarithmic axis, in milliseconds below one second.
"""

from __future__ import annotations

import math

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from charts import theme
from charts.axis import Span, broken_at_gaps, instant
from charts.cursor import cursor
from charts.layered import Layered
from charts.marks import dotted
from charts.narrow import narrow
from core.language import _, say, spoken
from core.units import show, unit_of

SERIES = {"p50_seconds": "p50", "p95_seconds": "p95", "p99_seconds": "p99", "mean_seconds": _("mean")}
_P95 = "p95_seconds"
AT_LEAST = "at least (beyond the highest bucket)"
_SECONDS = unit_of("x_seconds")
_LABEL = "datum.value < 1 ? format(datum.value * 1000, '~g') + ' ms' : format(datum.value, '~g') + ' s'"
MOST_LABELS = 8
LEAST_SHARE = 1e-4  # of a step's requests: fainter cells are drawn as this, never left out


def quantile_lines(
    frame: pd.DataFrame,
    span: Span,
    *,
    limit_seconds: float | None = None,
    before: pd.DataFrame | None = None,
    height: int = theme.HEIGHT,
) -> Layered:
    """p50, p95, p99 and the mean; triangles mark values of which only a lower limit is known.

    Args:
        frame: as ``analytics.latency.quantiles`` gives it.
        span: the time shown.
        limit_seconds: what is promised, drawn dashed.
        before: the same a week before, as ``frame`` and a week later than it was; of it p95 is drawn, dotted.
        height: px.
    """
    drawn, names = _tidy(frame, span), [say(name) for name in SERIES.values()]
    earlier = None if before is None else _p95(before, span)
    limits = [] if limit_seconds is None else [limit_seconds]
    axis = seconds_axis(
        pd.Series([*drawn["seconds"], *limits, *([] if earlier is None else earlier["seconds"])], dtype="float64")
    )
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=names),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3),
    )
    dashes = alt.StrokeDash(
        "series:N", scale=alt.Scale(domain=names, range=[[1, 0], [1, 0], [1, 0], [4, 3]]), legend=None
    )
    lines = alt.Chart(narrow(drawn[["at", "series", "seconds"]])).mark_line(strokeWidth=1.8, strokeCap="round")
    lines = lines.encode(x=span.axis(), y=axis, color=color, strokeDash=dashes)
    # A lone step between two gaps has no line, and a lower limit must not look like a value.
    apart = drawn.loc[drawn["is_lone"] | (drawn["kind"] == AT_LEAST), ["at", "series", "seconds", "kind"]]
    points = (
        alt.Chart(apart)
        .mark_point(filled=True)
        .encode(
            x=span.axis(),
            y=axis,
            color=color,
            shape=alt.Shape(
                "kind:N", scale=alt.Scale(domain=["", AT_LEAST], range=["circle", "triangle-up"]), legend=None
            ),
            size=alt.Size("kind:N", scale=alt.Scale(domain=["", AT_LEAST], range=[12, 70]), legend=None),
        )
    )
    layers = [lines, points, _cursor(frame, span)]
    if earlier is not None and earlier["seconds"].notna().any():
        layers.insert(0, dotted(earlier, span, axis, _text(), name=SERIES[_P95]))
        height += theme.LEGEND_HEIGHT
    if limit_seconds is not None:
        text = say("objective: {limit}", limit=seconds_text(limit_seconds))
        rule = alt.Chart(pd.DataFrame({"seconds": [limit_seconds], "text": [text]}))
        rule = rule.mark_rule(color=theme.LIMIT, strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(rule.encode(y=axis, tooltip=[alt.Tooltip("text:N", title=say("limit"))]))
    return Layered(layer=[*layers, span.window()], height=height)


def _cursor(frame: pd.DataFrame, span: Span) -> alt.Chart:
    """Each figure of a step, and of how many observations they are."""
    known = frame[[*SERIES]].notna()
    seen = frame[known.any(axis=1)].sort_values("bucket_at")
    texts = {
        say(name): [seconds_text(s, at_least=b) for s, b in zip(seen[column], _at_least(seen, column), strict=True)]
        for column, name in SERIES.items()
        if known[column].any()
    }
    texts[say("observations")] = [spoken().number(number) for number in seen["observations"]]
    return cursor(span.wall(seen["bucket_at"]), texts, span)


def _at_least(frame: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    """Whether only a lower limit of a figure is known."""
    name = column.replace("_seconds", "_at_least")
    return frame[name].to_numpy("bool") if name in frame else np.zeros(len(frame), "bool")


def _p95(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    """What ``_tidy`` makes of one quantile, and its ``text``."""
    drawn = _tidy(frame, span)
    p95 = drawn[drawn["series"] == SERIES[_P95]]
    beyond = p95["kind"] == AT_LEAST
    return p95.assign(text=[seconds_text(s, at_least=b) for s, b in zip(p95["seconds"], beyond, strict=True)])


def _text() -> alt.Tooltip:
    return alt.Tooltip("text:N", title=say("latency"))


def _tidy(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    names = [say(name) for name in SERIES.values()]
    every = pd.DataFrame(
        {
            "bucket_at": frame["bucket_at"].take(np.tile(np.arange(len(frame)), len(names))).array,
            "series": pd.Categorical(np.repeat(names, len(frame)), sorted(names)),
            "seconds": frame[[*SERIES]].to_numpy("float64").ravel("F"),
            "at_least": np.concatenate([_at_least(frame, column) for column in SERIES]).astype("float64"),
        }
    )
    tidy = broken_at_gaps(every, ["seconds", "at_least"], "series", span)
    seconds, series = tidy["seconds"].to_numpy(), tidy["series"].cat.codes.to_numpy()
    known = ~np.isnan(seconds)
    linked = known[1:] & known[:-1] & (series[1:] == series[:-1])
    return pd.DataFrame(
        {
            "at": span.wall(tidy["bucket_at"]),
            "series": tidy["series"],
            "seconds": np.where(seconds > 0, seconds, np.nan),  # a logarithm knows no zero
            "kind": np.where(tidy["at_least"] == 1, AT_LEAST, ""),
            "is_lone": known & ~np.append(linked, False) & ~np.append(False, linked),
        }
    )


def seconds_text(seconds: float, *, at_least: bool = False) -> str:
    """A latency as people read it; ``>=`` where the histogram ends before it."""
    text = show(seconds, _SECONDS)
    return f"≥ {text}" if at_least else text


def seconds_axis(seconds: pd.Series) -> alt.Y:
    """A logarithmic axis from the 1, 2 or 5 below the least value to the one above the largest; ms below a second."""
    known = seconds[(seconds > 0) & np.isfinite(seconds)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.01, 1.0)
    steps = [digit * 10.0**power for power in range(-7, 8) for digit in (1, 2, 5)]
    start = max(step for step in steps if step <= low * 0.999)
    end = min(step for step in steps if step >= high * 1.001)
    ticks = [step for step in steps if start <= step <= end]
    if len(ticks) > MOST_LABELS:
        ticks = [step for step in ticks if f"{step:e}".startswith("1")]
    axis = alt.Axis(labelExpr=_LABEL, values=ticks)
    return alt.Y("seconds:Q", title=None, scale=alt.Scale(type="log", domain=[start, end], nice=False), axis=axis)


def heat_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of a heat map.

    Args:
        frame: ``bucket_at``, ``upper_bounds_seconds``, ``increments`` as ``storage.queries.latency`` gives
            them; rows of one step and one set of bounds are added up.

    Returns:
        bucket_at, upper_seconds (inf in the last), count, share (of the step). Empty buckets have no row.
    """
    rows = [
        (at, upper, count)
        for at, bounds, increments in zip(
            frame["bucket_at"], frame["upper_bounds_seconds"], frame["increments"], strict=True
        )
        for upper, count in zip(bounds, increments, strict=True)
        if count > 0
    ]
    found = pd.DataFrame(rows, columns=["bucket_at", "upper_seconds", "count"])
    cells = found.groupby(["bucket_at", "upper_seconds"])["count"].sum().reset_index()
    cells["share"] = cells["count"] / cells.groupby("bucket_at")["count"].transform("sum")
    return cells


def heat_map(frame: pd.DataFrame, span: Span, step_ms: int) -> Layered:
    """How requests spread over the server's own buckets, step by step; colour is the share of the step."""
    cells = heat_cells(frame)
    bounds = sorted({bound for row in frame["upper_bounds_seconds"] for bound in row})
    used = bounds[bounds.index(cells["upper_seconds"].min()) : bounds.index(cells["upper_seconds"].max()) + 1]
    names = [_bucket_name(bound, bounds) for bound in reversed(used)]
    drawn = pd.DataFrame(
        {
            "at": span.wall(cells["bucket_at"]),
            "end": span.wall(cells["bucket_at"]) + step_ms,
            "bucket": [_bucket_name(bound, bounds) for bound in cells["upper_seconds"]],
            "count": cells["count"],
            "share": cells["share"].clip(lower=LEAST_SHARE),
        }
    )
    cells_chart = (
        alt.Chart(drawn)
        .mark_rect()
        .encode(
            x=span.axis(),
            x2=alt.X2("end:Q"),
            y=alt.Y(
                "bucket:O",
                title=None,
                sort=names,
                scale=alt.Scale(domain=names),
                axis=alt.Axis(ticks=False, labelOverlap=False),
            ),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(type="sqrt", domain=[0, 1]),
                legend=alt.Legend(
                    orient="top",
                    title=say("share of the step's requests"),
                    format="~%",
                    values=[0.01, 0.1, 0.5, 1],
                    gradientLength=180,
                    gradientThickness=8,
                ),
            ),
            tooltip=[
                instant(title=say("from")),
                alt.Tooltip("bucket:N", title=say("took")),
                alt.Tooltip("count:Q", title=say("requests"), format=",.0f"),
                alt.Tooltip("share:Q", title=say("share"), format=".1%"),
            ],
        )
    )
    return Layered(layer=[cells_chart, span.window()], height=theme.ROW_HEIGHT * len(names) + theme.STRIP_MARGIN)


def _bucket_name(upper: float, bounds: list[float]) -> str:
    if math.isinf(upper):
        return f"> {show(bounds[-2], _SECONDS)}" if len(bounds) > 1 else say("any")
    return f"≤ {show(upper, _SECONDS)}"


def two_clocks(server: pd.DataFrame, probes: pd.DataFrame, span: Span, *, height: int = theme.HEIGHT) -> Layered:
    """The server's own p50 as a line, each probe from outside as a point.

    Args:
        server: ``bucket_at``, ``seconds``.
        probes: ``observed_at``, ``seconds``; only requests that were answered.
        span: the time shown.
        height: px.
    """
    names = [say("server, p50"), say("probe, each request")]
    line = broken_at_gaps(server.assign(series=names[0]), ["seconds"], "series", span)
    points = probes.rename(columns={"observed_at": "bucket_at"}).assign(series=names[1])
    axis = seconds_axis(pd.concat([line["seconds"], points["seconds"]]))
    layers = []
    for part, mark in ((line, "line"), (points, "point")):
        drawn = pd.DataFrame(
            {
                "at": span.wall(part["bucket_at"]),
                "series": part["series"],
                "seconds": part["seconds"].where(part["seconds"] > 0),
                "text": [seconds_text(seconds) for seconds in part["seconds"]],
            }
        )
        chart = alt.Chart(drawn)
        marked = chart.mark_line(strokeWidth=1.8) if mark == "line" else chart.mark_point(filled=True, size=18)
        layers.append(
            marked.encode(
                x=span.axis(),
                y=axis,
                color=alt.Color("series:N", scale=alt.Scale(domain=names), legend=alt.Legend(orient="top", title=None)),
                tooltip=[instant(title=say("from")), alt.Tooltip("series:N", title=say("clock")), _text()],
            )
        )
    return Layered(layer=[*layers, span.window()], height=height)
