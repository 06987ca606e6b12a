"""Speed against what it takes: one mark per deployment or endpoint, coloured by what it runs on."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import altair as alt
import numpy as np
import pandas as pd

from charts import theme
from charts.layered import Layered
from core.language import _, say

SHAPES = {_("own"): "circle", _("hosted"): "diamond", _("published"): "cross"}
LABEL_PIXELS = 150
ROOM = 1.25
MOST_APART = 30  # times: beyond, the smaller values would lie on the axis
_HEIGHT = 400
_PLOT = (330, 200)  # px within the axes in half a page, about
_LETTER_PIXELS, _LINE_PIXELS, _MARK_PIXELS = 6.0, 13.0, 12.0
_OVERHANG_PIXELS = 50  # that a name may stand out over the upright axis


class _Place(NamedTuple):
    """Where a name stands beside its mark: px from the mark's middle, and to which side it runs (0: to both)."""

    dx: int
    dy: int
    side: int = 0

    @property
    def align(self) -> Literal["left", "center", "right"]:
        """As Vega calls the side."""
        return ("center", "left", "right")[self.side]


_PLACES = (_Place(0, -14), _Place(0, 15), _Place(10, 0, 1), _Place(-10, 0, -1))
"""The best first; none so far off that it could be read as the name of a neighbour."""


def speed_against(frame: pd.DataFrame, column: str, title: str) -> Layered:
    """Output tokens per second of one user over a figure per token. Up and left is better.

    Args:
        frame: name, kind (one of ``SHAPES``), hardware, ``tokens_per_second``, the column, ``conditions``;
            rows in which either number is unknown are not drawn.
        column: what it takes.
        title: of that axis.
    """
    drawn = frame.dropna(subset=["tokens_per_second", column]).rename(columns={column: "taken"})
    drawn = drawn[["name", "kind", "hardware", "tokens_per_second", "taken", "conditions"]]
    drawn = drawn.assign(label=drawn["name"].str.rpartition("/")[2])
    drawn = drawn.assign(place=_placed(drawn))
    kinds = [kind for kind in SHAPES if (drawn["kind"] == kind).any()]
    names = [name for kind in kinds for name in sorted(drawn.loc[drawn["kind"] == kind, "hardware"].unique())]
    base = alt.Chart(drawn.assign(kind=drawn["kind"].map(say))).encode(
        x=alt.X("taken:Q", title=title, scale=_scale(drawn["taken"])),
        y=alt.Y("tokens_per_second:Q", title=say("output tokens/s per user"), scale=_scale(drawn["tokens_per_second"])),
        tooltip=[
            alt.Tooltip("name:N", title=say("which")),
            alt.Tooltip("hardware:N", title=say("runs on")),
            alt.Tooltip("tokens_per_second:Q", title=say("tokens/s per user"), format=",.1f"),
            alt.Tooltip("taken:Q", title=title, format=",.4~f"),
            alt.Tooltip("conditions:N", title=say("conditions")),
        ],
    )
    marks = base.mark_point(filled=True, size=130, opacity=1).encode(
        color=alt.Color(
            "hardware:N",
            scale=alt.Scale(domain=list(dict.fromkeys(names))),
            legend=alt.Legend(orient="top", title=None, labelLimit=300, columns=2),
        ),
        shape=alt.Shape(
            "kind:N",
            scale=alt.Scale(domain=[say(kind) for kind in kinds], range=[SHAPES[kind] for kind in kinds]),
            legend=alt.Legend(orient="bottom", title=None, symbolFillColor=theme.MISSING) if len(kinds) > 1 else None,
        ),
    )
    # A middle grey: it reads on a light ground and on a dark one.
    labels = [
        base.transform_filter(f"datum.place === {number}")
        .mark_text(align=place.align, dx=place.dx, dy=place.dy, limit=LABEL_PIXELS, color=theme.MISSING)
        .encode(text=alt.Text("label:N"))
        for number, place in enumerate(_PLACES)
        if (drawn["place"] == number).any()
    ]
    return Layered(layer=[marks, *labels], height=_HEIGHT, padding=theme.PADDING)


def _placed(drawn: pd.DataFrame) -> list[float]:
    """Which of ``_PLACES`` each mark's name has, so that none covers another; NaN: no room, its tooltip tells."""
    across, up = (_share(drawn[name]) * size for name, size in zip(("taken", "tokens_per_second"), _PLOT, strict=True))
    covered = np.full((2 * len(drawn), 3), np.nan)  # middle, and half of the width: of the marks, then of the names
    covered[: len(drawn)] = np.column_stack([across, -up, np.full(len(drawn), _MARK_PIXELS / 2)])
    found = [math.nan] * len(drawn)
    for index, label in enumerate(drawn["label"]):
        x, y, _ = covered[index]
        half = min(len(label) * _LETTER_PIXELS, LABEL_PIXELS) / 2
        boxes = np.array([(x + place.dx + place.side * half, y + place.dy, half) for place in _PLACES])
        is_free = ~_overlap(boxes[:, np.newaxis], covered).any(axis=1) & (boxes[:, 0] - half >= -_OVERHANG_PIXELS)
        if is_free.any():
            best = int(is_free.argmax())
            found[index], covered[len(drawn) + index] = best, boxes[best]
    return found


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether boxes (middle, half of the width; a line high) have a part in common; none has with NaN."""
    apart = np.abs(one - other)
    are_near: np.ndarray = (apart[..., 0] < one[..., 2] + other[..., 2]) & (apart[..., 1] < _LINE_PIXELS)
    return are_near


def _domain(values: pd.Series) -> tuple[float, float, bool]:
    """From 0 to beyond the largest, so that its mark and name have room; logarithmic where they lie far apart."""
    largest, least = float(values.max()), float(values.min())
    if 0 < least < largest / MOST_APART:
        return least / ROOM, largest * ROOM * ROOM, True
    return 0.0, largest * ROOM if largest > 0 else 1.0, False


def _scale(values: pd.Series) -> alt.Scale:
    low, high, is_log = _domain(values)
    return alt.Scale(type="log" if is_log else alt.Undefined, domain=[low, high], nice=False)


def _share(values: pd.Series) -> pd.Series:
    """Where on its axis each value lies: 0 at the beginning, 1 at the end."""
    low, high, is_log = _domain(values)
    return np.log(values / low) / math.log(high / low) if is_log else (values - low) / (high - low)
