"""Numbers as tiles. No data, stale and zero look different, and every number says where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import pandas as pd
import streamlit as st

from core.language import _, say
from core.units import PLAIN, Unit, show
from pages.shared import words
from pages.shared.filters import View

Basis = Literal["measured", "derived", "estimated", "missing"]
_BASES: Mapping[Basis, str] = {
    "measured": _("measured"),
    "derived": _("derived"),
    "estimated": _("estimated"),
    "missing": _("missing"),
}
MOST_IN_A_ROW = 5  # more, and they are too narrow to read
LETTERS_IN_A_ROW = 48  # of numbers side by side on a small laptop, beside the sidebar


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number with its unit, window, freshness and label.

    ``value`` is in the base unit; ``text`` replaces its wording (``3 of 8``). ``at`` is when it was
    observed; without it the figure is as fresh as its window, which is the present where none is given.
    ``note`` stands beside label and window, ``reason`` where a value is missing. Texts are in the visitor's language.
    """

    label: str
    value: float | None = None
    unit: Unit = PLAIN
    basis: Basis = "measured"
    window: str | None = None
    at: datetime | pd.Timestamp | None = None
    text: str | None = None
    help: str = ""
    note: str = ""
    reason: str = ""

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.text is None and (self.value is None or bool(pd.isna(self.value)))

    def age_seconds(self, view: View) -> float | None:
        """How old the observation is (s); ``None`` when it is not of one instant."""
        if self.at is None or pd.isna(self.at):
            return None
        return max((view.now - self.at).total_seconds(), 0.0)

    def stale(self, view: View) -> bool:
        """Whether it is too old to be called current."""
        age = self.age_seconds(view)
        return age is not None and age * 1000 > view.stale_after_ms


def shown(figure: Figure, view: View) -> tuple[str, str]:
    """The large and the small text of a figure: the one place where the three states part ways."""
    note = words.plain(figure.note)
    if figure.missing:
        return say("unknown"), f":material/blur_off: {say(_BASES['missing'])}"
    text = figure.text if figure.text is not None else show(figure.value, figure.unit)
    age = figure.age_seconds(view)
    if age is not None and figure.stale(view):
        return text, f":material/history_toggle_off: {say('stale, {age} old', age=words.duration(age))}"
    window = say("now") if figure.window is None else figure.window
    return text, " · ".join(part for part in (say(_BASES[figure.basis]), window, note) if part)


def tiles(figures: Sequence[Figure], view: View) -> None:
    """Figures in rows, as many beside each other as the longest number leaves room for; below each other if narrow."""
    texts = [shown(figure, view) for figure in figures]
    longest = max((len(large) for large, _ in texts), default=0)
    most = min(MOST_IN_A_ROW, max(LETTERS_IN_A_ROW // max(longest, 1), 1))
    width = math.ceil(len(figures) / math.ceil(len(figures) / most))
    for start in range(0, len(figures), width):
        end = start + width
        for column, figure, text in zip(st.columns(width), figures[start:end], texts[start:end], strict=False):
            with column.container(border=True, height="stretch", gap="xxsmall"):
                _tile(figure, *text)


def _tile(figure: Figure, large: str, small: str) -> None:
    why = say("No data: {reason}.", reason=figure.reason) if figure.missing and figure.reason else ""
    explained = " ".join(words.plain(part, limit=500) for part in (why, figure.help) if part)
    large_print(figure.label, large, explained)
    st.caption(small)


def large_print(label: str, number: str, help: str) -> None:
    """A number below its label, which is folded where there is little room; that of a metric would be cut."""
    st.markdown(f":small[{words.plain(label)}]", help=help or None)
    st.metric(words.plain(label), number, label_visibility="collapsed")
