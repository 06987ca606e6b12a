"""What happened in a window and what was a week before it: what charts over time draw besides their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import altair as alt
import pandas as pd
import streamlit as st

from analytics.prices import price_cuts
from charts.axis import Span
from charts.layered import Layered
from charts.marks import SIGNS, WEEK_MS, mark_layers, with_marks
from core.language import count, say
from core.readings import Severity
from pages.shared import loaders, things, words
from pages.shared.filters import BEFORE, MARKS, View
from pages.shared.store import settings
from storage.queries import epoch_ms

MOST = 20  # more would hide what they shall explain
MOST_NAMED = 3
_SIGN_OF = {
    "restart": "restart",
    "throttle": "throttle",
    "xid": "error",
    "ras": "error",
    "device-lost": "lost",
    "device-back": "lost",
}
_CHANGED = " change"  # ends the kind of an event that a changed label makes
_RANKS = {severity.value: rank for rank, severity in enumerate((Severity.CRITICAL, Severity.WARNING, Severity.INFO))}
_COLUMNS = ["at", "sign", "what", "thing"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What happened in a span: as ``charts.marks`` takes it, as it draws it, and how many marks more there would be."""

    shown: pd.DataFrame
    layers: list[alt.Chart]
    left_out: int

    def over(self, chart: Layered) -> Layered:
        """The chart with them on it."""
        return with_marks(chart, self.layers)

    @property
    def said(self) -> str:
        """Which signs there are and what is left out; empty where nothing happened."""
        if self.shown.empty:
            return ""
        seen = set(self.shown["sign"])
        signs = ", ".join(f"{sign.character} {say(sign.word)}" for name, sign in SIGNS.items() if name in seen)
        told = say("marks: {signs}", signs=signs)
        if not self.left_out:
            return told
        more = count("{number} less severe is not drawn", "{number} less severe are not drawn", self.left_out)
        return f"{told}; {more}"


def happened(view: View, ids: Sequence[int] | None = None, span: Span | None = None) -> Marks | None:
    """What explains a change in charts over time; ``None`` where nobody wants to see it.

    A page asks once for all charts of a window.

    Args:
        view: the window, and the filters.
        ids: entities that the charts are about, if not all that the filters let through.
        span: of the charts, if not the window.
    """
    if not st.session_state.get(MARKS, True):
        return None
    span = span or view.span
    kept = view.keep(loaders.entities())["entity_id"] if ids is None else ids
    found = [_events(kept, span.start_ms, span.end_ms), _prices(span.start_ms, span.end_ms)]
    marks = _once(pd.concat(found), view.step_ms)
    first = marks.sort_values(["rank", "at"], ascending=[True, False]).head(MOST)
    shown = first.sort_values("at")[_COLUMNS].reset_index(drop=True)
    return Marks(shown, mark_layers(shown, span), len(marks) - len(first))


def _events(kept: Sequence[int] | pd.Series, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Those stored that may explain something; what concerns the collector alone may not."""
    events = loaders.events(start_ms, end_ms)
    signs = events["kind"].map(_SIGN_OF).astype("object")
    events = events.assign(sign=signs.where(~events["kind"].str.endswith(_CHANGED), "change"))
    events = events[events["sign"].notna() & (events["entity_id"].isna() | events["entity_id"].isin(kept))]
    names = things.names_of_all() if len(events) else {}
    return pd.DataFrame(
        {
            "at": events["observed_at"],
            "sign": events["sign"],
            "what": events["message"].map(words.one_line),
            "thing": events["entity_id"].map(names).fillna("").map(words.one_line),
            "rank": events["severity"].map(_RANKS),
        }
    )


def _prices(start_ms: int, end_ms: int) -> pd.DataFrame:
    """When a price of the settings begins or ends to hold."""
    cuts = price_cuts(settings(), start_ms, end_ms)
    at = pd.to_datetime(pd.Series(cuts, dtype="int64"), unit="ms", utc=True).astype("datetime64[ms, UTC]")
    what = say("a price, tariff, contract or exchange rate")
    return pd.DataFrame({"at": at, "sign": "price", "what": what, "thing": say("settings")}).assign(
        rank=_RANKS[Severity.WARNING]
    )


def _once(marks: pd.DataFrame, step_ms: int) -> pd.DataFrame:
    """What happened to several things within one step is one mark, such as a new driver of all devices of a host."""
    step = epoch_ms(marks["at"]) // step_ms
    groups = marks.groupby([step.rename("step"), "sign", "what", "rank"], sort=False)
    return groups.agg(at=("at", "min"), thing=("thing", _listed)).reset_index()


def _listed(names: pd.Series) -> str:
    distinct = sorted(set(names))
    told = ", ".join(distinct[:MOST_NAMED])
    more = len(distinct) - MOST_NAMED
    return told if more <= 0 else count("{names} and {number} other", "{names} and {number} others", more, names=told)


def week_before(view: View, read: Callable[[View], pd.DataFrame]) -> pd.DataFrame | None:
    """What a chart shows, 7 × 24 h earlier and moved to the present; ``None`` where nobody wants to see it.

    Args:
        view: the window shown.
        read: gives the chart's frame, with its ``bucket_at``, for a view.
    """
    if not st.session_state.get(BEFORE, False):
        return None
    then = read(replace(view, start_ms=view.start_ms - WEEK_MS, end_ms=view.end_ms - WEEK_MS))
    return then.assign(bucket_at=then["bucket_at"] + pd.Timedelta(milliseconds=WEEK_MS))


def lacking(before: pd.DataFrame | None) -> list[str]:
    """What small print says where there was nothing a week before."""
    return [say("7 × 24 h earlier: nothing stored")] if before is not None and before.empty else []
