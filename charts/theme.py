"""Colours with a meaning, and sizes. Series colours are the theme's (``.streamlit/config.toml``), for both modes.

These few must read on a light and on a dark ground; none carries meaning without a word or a shape.
"""

from __future__ import annotations

MISSING = "#8a8f98"  # no data: grey, with strokes over it
LIMIT = "#cc4a14"  # a cap or an objective
MARK = "#8461b8"  # something that happened
EARLIER = "#7d8590"  # the same, a week before
DOTS = [1, 4]  # of its line, whose ends are round
BAND_OPACITY = 0.2
LEGEND_HEIGHT = 48  # px that a legend below a chart takes from it
LEGEND_ROW_HEIGHT = 18  # px of one row of a legend
HEIGHT = 220  # px of a chart over time; fixed, so that live charts do not jump
SMALL_HEIGHT = 150  # px of one small multiple
ROW_HEIGHT = 20  # px of one row of a heat strip
STRIP_MARGIN = 120  # px of its legend and axis
MOST_POINTS = 2_000  # per series: more than a screen has columns
MOST_SERIES = 8  # as many as there are colours
PADDING = {"left": 0, "right": 8, "top": 4, "bottom": 4}
