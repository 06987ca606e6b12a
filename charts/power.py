"""Power over time under its caps, and energy by hour and state. Where not all was seen, a grey band says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from charts import theme
from charts.axis import Span, instant
from charts.layered import Layered
from charts.narrow import narrow
from charts.timeseries import room, stack
from core.language import _, say, spoken
from core.units import JOULES_PER_KWH

MOST_ROOM = 4.0  # a cap so many times above all that was drawn would flatten it: it is left to words
KWH_PER_MWH = 1_000
STATES = (_("active"), _("parked"), _("free"))
UNATTRIBUTED = _("not attributed")
_HOUR_MS = 3_600_000
_BAR = 0.86  # of its time
_UNSEEN_OPACITY = 0.22
_COLUMN = "power_watts"


def largest(frame: pd.DataFrame, column: str, most: int = theme.MOST_SERIES) -> pd.DataFrame:
    """At most so many series: the largest by their sum, and all others added up as one.

    Args:
        frame: ``bucket_at``, ``series`` and the column, which can be added up.
        column: what is drawn.
        most: as many as can be told apart.
    """
    sums = frame.groupby("series")[column].sum().sort_values(ascending=False)
    if len(sums) <= most:
        return frame
    kept = set(sums.index[: most - 1])
    rest = say("{number} others", number=spoken().number(len(sums) - len(kept)))
    folded = frame.assign(series=frame["series"].where(frame["series"].isin(kept), rest))
    return folded.groupby(["bucket_at", "series"])[[column]].sum(min_count=1).reset_index()


def near(frame: pd.DataFrame, caps: Mapping[str, float]) -> dict[str, float]:
    """Those caps (W) that can be drawn above the parts without pressing them flat."""
    highest = frame.groupby("bucket_at")[_COLUMN].sum().max()
    return {name: cap for name, cap in caps.items() if cap <= MOST_ROOM * highest}


def under_caps(
    frame: pd.DataFrame,
    span: Span,
    step_ms: int,
    *,
    caps: Mapping[str, float],
    unseen: pd.DataFrame,
    before: pd.DataFrame | None = None,
) -> Layered:
    """Parts of a power on top of each other, caps as dashed lines with their names.

    Args:
        frame: ``bucket_at``, ``series`` and ``power_watts``.
        span: the time shown.
        step_ms: from one step to the next.
        caps: W, by name; those that are not ``near`` are not drawn.
        unseen: ``bucket_at`` and ``said`` for steps in which a part of the sum is not known.
        before: the parts a week before, as ``frame`` and a week later than they were; their sum is drawn dotted.
    """
    shown = near(frame, caps)
    stacked = stack(frame, _COLUMN, span, step_ms, before=before)
    scale = stacked.scale
    drawn = pd.DataFrame({"cap": [cap / scale.factor for cap in shown.values()], "said": list(shown)})
    power = alt.Tooltip("cap:Q", title=scale.title, format=scale.format)
    rule = alt.Chart(drawn).encode(y=alt.Y("cap:Q"), tooltip=[alt.Tooltip("said:N", title=say("cap")), power])
    layers = [
        _unseen(unseen, span, step_ms),
        *stacked.layers,
        rule.mark_rule(color=theme.LIMIT, strokeDash=[5, 4], strokeWidth=1.5),
        rule.mark_text(color=theme.LIMIT, align="left", dx=4, dy=-6).encode(x=alt.value(0), text=alt.Text("said:N")),
        span.window(),
    ]
    return Layered(layer=layers, height=theme.HEIGHT + room(stacked.earlier, frame["series"]), padding=theme.PADDING)


def energy_bars(frame: pd.DataFrame, span: Span, bar_ms: int, *, unseen: pd.DataFrame) -> Layered:
    """A bar per hour, or several, of energy by state; grey is what belongs to no state.

    Args:
        frame: ``bucket_at`` (hours) and a column of joules for each of ``STATES`` and ``UNATTRIBUTED``.
        span: the hours shown.
        bar_ms: what a bar is the sum of.
        unseen: ``bucket_at`` and ``said`` for hours whose energy is not all known.
    """
    bar = (frame["bucket_at"] - pd.Timestamp(span.start_ms, unit="ms", tz="UTC")) // pd.Timedelta(bar_ms, "ms")
    summed = frame[[*STATES, UNATTRIBUTED]].groupby(bar.rename("bar")).sum().reset_index()
    summed["bucket_at"] = pd.to_datetime(span.start_ms + summed["bar"] * bar_ms, unit="ms", utc=True)
    parts = summed.melt("bucket_at", [*STATES, UNATTRIBUTED], var_name="state", value_name="joules")
    most_kwh = parts.groupby("bucket_at")["joules"].sum().max() / JOULES_PER_KWH
    factor, unit = (KWH_PER_MWH, _("MWh")) if most_kwh >= KWH_PER_MWH else (1, _("kWh"))
    parts = parts.assign(value=parts["joules"] / JOULES_PER_KWH / factor, at=span.wall(parts["bucket_at"]))
    parts = parts.assign(top=parts.groupby("bucket_at")["value"].cumsum())
    drawn = parts[["at", "state", "top", "value"]]
    drawn = drawn[drawn["value"] > 0]
    lost = drawn["state"] == UNATTRIBUTED
    layers = [_unseen(unseen, span, _HOUR_MS), _bars(drawn[~lost], span, bar_ms, unit, STATES)]
    if lost.any():
        layers.append(_bars(drawn[lost], span, bar_ms, unit, [UNATTRIBUTED], [theme.MISSING]))
    return Layered(
        layer=[*layers, span.window()],
        resolve=alt.Resolve(scale={"color": "independent"}),
        height=theme.HEIGHT,
        padding=theme.PADDING,
    )


def _bars(
    drawn: pd.DataFrame,
    span: Span,
    bar_ms: int,
    unit: str,
    states: Sequence[str],
    colours: Sequence[str] | None = None,
) -> alt.Chart:
    said = [say(state) for state in states]
    title = say("energy") + f" ({say(unit)})"
    scale = alt.Scale(domain=said) if colours is None else alt.Scale(domain=said, range=list(colours))
    bars: alt.Chart = (
        alt.Chart(narrow(drawn.assign(state=drawn["state"].map(say))))
        .transform_calculate(end=f"datum.at + {_BAR * bar_ms}", bottom="datum.top - datum.value")
        .mark_rect()
        .encode(
            x=span.axis(),
            x2=alt.X2("end:Q"),
            y=alt.Y("bottom:Q", title=title, scale=alt.Scale(zero=True, nice=True)),
            y2=alt.Y2("top:Q"),
            color=alt.Color("state:N", scale=scale, legend=alt.Legend(orient="top", title=None, symbolType="square")),
            tooltip=[
                instant(title=say("from")),
                alt.Tooltip("state:N", title=say("state")),
                alt.Tooltip("value:Q", title=say(unit), format=",.3f"),
            ],
        )
    )
    return bars


def _unseen(frame: pd.DataFrame, span: Span, step_ms: int) -> alt.Chart:
    """A grey band over all of the height for each step."""
    at = span.wall(frame["bucket_at"])
    drawn = pd.DataFrame({"at": at, "end": at + step_ms, "said": frame["said"]})
    band: alt.Chart = (
        alt.Chart(drawn)
        .mark_rect(color=theme.MISSING, opacity=_UNSEEN_OPACITY, clip=True)
        .encode(
            x=span.axis(),
            x2=alt.X2("end:Q"),
            tooltip=[instant(title=say("from")), alt.Tooltip("said:N", title=say("not all seen"))],
        )
    )
    return band
