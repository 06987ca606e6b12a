"""The stacked bill: lines in their order, what is unknown left out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from charts.bill import LINES, stacked


def frame() -> pd.DataFrame:
    rows = {"who": ["a", "b"], "hardware_usd": [3.0, 2.0], "electricity_active_usd": [0.5, None]}
    return pd.DataFrame({**rows, "electricity_idle_usd": [0.1, 0.2], "overhead_usd": [0.0, 0.0]})


def test_every_known_line_is_a_piece_of_its_bar():
    chart = stacked(frame())
    drawn: Any = chart.data
    assert len(drawn) == 7
    assert drawn.loc[drawn["who"] == "a", "usd"].sum() == 3.6
    assert set(drawn["line"]) == set(LINES.values())


def test_bars_stay_in_the_order_of_the_frame():
    assert stacked(frame()).to_dict()["layer"][0]["encoding"]["y"]["sort"] == ["a", "b"]
