"""How a quantity stands on an axis: its title, the unit it is drawn in, and the time it is drawn at.

A column's name tells its unit (``core.units``). Values are scaled once per chart, to the step that
suits the largest of them, so that an axis reads ``power (kW)`` with plain numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from charts import theme
from core.language import say
from core.metric import Kind, Metric
from core.units import Unit, unit_of

_RATIO_DOMAIN = [0, 100]
_DEGREES_AROUND = 3
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_TICK_STEPS_MS = tuple(minutes * _MINUTE_MS for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 10_080))
_MOST_TICKS = 8
_CLOCK = "%Y-%m-%d %H:%M:%S"
WINDOW = "window"
"""Name of the layer, and of its data, that tells a time axis what it shows."""
_TOLD = f"data('{WINDOW}')[0]"
_TIME_SCALE = alt.Scale(domain=[alt.ExprRef(f"{_TOLD}.begin"), alt.ExprRef(f"{_TOLD}.end")], nice=False, zero=False)
_TIME_AXIS = alt.Axis(
    values=alt.ExprRef(f"sequence({_TOLD}.first_tick, {_TOLD}.end + 1, {_TOLD}.tick_step)"),
    labelExpr=f"utcFormat(datum.value, {_TOLD}.form)",
    labelOverlap="greedy",
    grid=False,
)


_SPELLED = {
    "cpu": "CPU", "ecc": "ECC", "kv": "KV", "sm": "SM", "dram": "DRAM", "pcie": "PCIe", "nvlink": "NVLink",
    "xgmi": "XGMI", "rx": "received", "tx": "sent", "1m": "1 min", "io": "I/O", "iowait": "waiting for disk",
}  # fmt: skip


class TooManyPoints(ValueError):
    """A series has more points than a screen has columns: ask for a longer step."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A quantity as drawn: divided by ``factor``, called ``title``; what must fit lies between the ends (base unit)."""

    factor: float
    symbol: str
    title: str
    decimals: int
    smallest: float
    largest: float

    @property
    def format(self) -> str:
        """How Vega is to write such a number."""
        return f",.{self.decimals}f"


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of time that a chart shows, in the site's zone; also what counts as a gap."""

    start_ms: int
    end_ms: int
    gap_ms: int
    zone: ZoneInfo

    @property
    def _offset_ms(self) -> int:
        """The zone's distance from UTC at the end of the span; one for all of it, so that time stays even."""
        offset = datetime.fromtimestamp(self.end_ms / 1000, self.zone).utcoffset()
        return round(offset.total_seconds() * 1000) if offset else 0

    def wall(self, at: pd.Series) -> pd.Series:
        """UTC times as milliseconds of the site's wall clock, as ``axis`` prints them."""
        return pd.Series(_epoch_ms(at) + self._offset_ms, at.index, dtype="float64")

    def clock(self, at: pd.Series) -> list[str]:
        """Times that ``wall`` made, as tooltips show them; where there are many, a text each is cheaper than a date."""
        texts = {ms: f"{datetime.fromtimestamp(ms / 1000, UTC):{_CLOCK}}" for ms in at.unique()}
        return [texts[ms] for ms in at]

    def axis(self, column: str = "at") -> alt.X:
        """The time axis over a column that ``wall`` made, for charts with the layer ``window``.

        The axis is of plain numbers, with ticks set here and written by ``utcFormat``: a temporal axis
        would be shifted to the zone of whoever looks at it.
        """
        return alt.X(f"{column}:Q", title=None, scale=_TIME_SCALE, axis=_TIME_AXIS)

    def window(self) -> alt.Chart:
        """An unseen layer that tells the time axis its begin, its end and its ticks: all of the span, seen or not.

        They come as data, because a chart whose specification stays the same is moved by a browser as time goes on;
        one with another is built anew, which takes longer and flickers.
        """
        start, end = self.start_ms + self._offset_ms, self.end_ms + self._offset_ms
        step = next((step for step in _TICK_STEPS_MS if (end - start) / step <= _MOST_TICKS), _TICK_STEPS_MS[-1])
        told = {
            "begin": start,
            "end": end,
            "first_tick": -(-start // step) * step,
            "tick_step": step,
            "form": "%a %d" if step >= _DAY_MS else "%H:%M",
        }
        unseen: alt.Chart = (
            alt.Chart(pd.DataFrame([told]), name=WINDOW).mark_rule(opacity=0).encode(x=self.axis("begin"))
        )
        return unseen


def window_of(spec: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """Where the time axis of a whole specification begins and ends, by the site's clock; ``None`` without one."""
    if WINDOW not in spec["datasets"]:
        return None
    (told,) = spec["datasets"][WINDOW]
    begin, end = (datetime.fromtimestamp(told[at] / 1000, UTC) for at in ("begin", "end"))
    return begin, end


def instant(column: str = "at", title: str | None = None) -> alt.Tooltip:
    """A column that ``Span.wall`` made, as a tooltip shows it; called "time" where no title is given."""
    return alt.Tooltip(f"utcyearmonthdatehoursminutesseconds({column}):T", title=title or say("time"), format=_CLOCK)


def words_of(column: str) -> str:
    """A column's name without its unit, as words in the language of the thread: ``memory used``."""
    words = Metric(column, "", Kind.GAUGE, "", (), integer=False).title.partition(" (")[0]
    spelled = " ".join(_SPELLED.get(word, word) for word in words.split())
    return say(spelled)


def scale_for(
    column: str,
    values: pd.Series,
    *,
    limit: float | None = None,
    title: str | None = None,
    unit: Unit | None = None,
) -> Scale:
    """The step of a unit, by default the column's, that suits the largest of the values and the limit."""
    unit = unit or unit_of(column)
    ends = [float(end) for end in (values.min(), values.max(), limit) if end is not None and not pd.isna(end)] or [0.0]
    factor, symbol = unit.step(max(abs(end) for end in ends))
    words = title or words_of(column)
    said = say(symbol) if symbol else ""
    return Scale(factor, said, f"{words} ({said})" if said else words, max(unit.decimals, 1), min(ends), max(ends))


def value_scale(column: str, scale: Scale) -> alt.Scale:
    """Ratios always run from 0 to 100 %; temperatures need no zero; all else starts there."""
    if column.endswith("_celsius"):
        return alt.Scale(domain=[scale.smallest - _DEGREES_AROUND, scale.largest + _DEGREES_AROUND], zero=False)
    if column.endswith("_ratio"):
        return alt.Scale(domain=_RATIO_DOMAIN, clamp=True)
    if scale.largest == 0:
        return alt.Scale(domain=[0, 1])  # a line of zeros lies on the ground, not in the middle
    return alt.Scale(zero=True, nice=True)


def broken_at_gaps(frame: pd.DataFrame, columns: Sequence[str], series: str, span: Span) -> pd.DataFrame:
    """The frame with an empty row in each gap, so that no line is drawn across what was not seen.

    Args:
        frame: ``bucket_at``, the columns and the series' name.
        columns: what is drawn; rows in which the first is unknown count as not seen.
        series: the column that tells series apart.
        span: says how far apart neighbours may be.

    Raises:
        TooManyPoints: a series has more points than ``theme.MOST_POINTS``.
    """
    if len(frame) > theme.MOST_POINTS and int(frame.groupby(series).size().max()) > theme.MOST_POINTS:
        raise TooManyPoints(f"{columns[0]}: over {theme.MOST_POINTS} points in one series; read it in longer steps")
    known = frame.loc[frame[columns[0]].notna(), ["bucket_at", series, *columns]]
    at_ms, of = _epoch_ms(known["bucket_at"]), pd.factorize(known[series], sort=True)[0]
    order = np.lexsort((at_ms, of))
    at_ms, of = at_ms[order], of[order]
    gaps = np.flatnonzero((np.diff(at_ms) > span.gap_ms) & (np.diff(of) == 0)) + 1
    broken = known.take(np.insert(order, gaps, order[gaps - 1])).reset_index(drop=True)
    if len(gaps):
        empty = np.zeros(len(broken), "bool")
        empty[gaps + np.arange(len(gaps))] = True
        broken["bucket_at"] += empty * np.timedelta64(1, "ms")
        for column in columns:
            broken[column] = np.where(empty, np.nan, broken[column])
    return broken


def _epoch_ms(at: pd.Series) -> NDArray[np.int64]:
    """UTC times as Unix milliseconds."""
    return at.to_numpy("datetime64[ms]").astype("int64")
