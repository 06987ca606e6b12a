"""Cells that were seen, that are not reported, and that have no sample: three different things."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd

from charts.axis import Span
from charts.heatstrip import MISSING, SEEN, UNKNOWN, grid, strip

START = 1_795_000_000_000
STEP = 60_000
SPAN = Span(START, START + 4 * STEP, STEP, ZoneInfo("UTC"))


def cells() -> pd.DataFrame:
    read = pd.DataFrame(
        {
            "series": ["a", "a", "a"],
            "bucket_at": pd.to_datetime([START, START + STEP, START + 3 * STEP], unit="ms", utc=True),
            "utilization_ratio": [0.0, float("nan"), 0.7],
        }
    )
    return grid(read, ["a", "b"], "utilization_ratio", SPAN, STEP)


def test_every_cell_has_one_of_three_states() -> None:
    found = cells()
    assert found[found["series"] == "a"]["state"].tolist() == [SEEN, UNKNOWN, MISSING, SEEN]
    assert found[found["series"] == "b"]["state"].tolist() == [MISSING] * 4


def test_zero_was_seen_and_missing_is_never_zero() -> None:
    found = cells()
    assert found["utilization_ratio"].iloc[0] == 0.0
    assert found.loc[found["state"] != SEEN, "utilization_ratio"].isna().all()


def test_a_ratio_is_coloured_from_0_to_100_and_rows_keep_their_order() -> None:
    drawn = strip(cells(), "utilization_ratio", SPAN, STEP).to_dict()
    seen = next(layer for layer in drawn["layer"] if "color" in layer["encoding"])
    assert seen["encoding"]["color"]["scale"]["domain"] == [0, 100]
    assert seen["encoding"]["y"]["sort"] == ["a", "b"]


def test_the_strip_of_nothing_at_all_is_hatched() -> None:
    nothing = grid(cells().iloc[:0], ["a"], "utilization_ratio", SPAN, STEP)
    assert nothing["state"].tolist() == [MISSING] * 4
    assert strip(nothing, "utilization_ratio", SPAN, STEP).to_dict()["layer"]


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    axis = strip(cells(), "utilization_ratio", SPAN, STEP).to_dict()["layer"][0]["encoding"]["y"]["axis"]
    assert "'…' + slice(datum.label, -" in axis["labelExpr"]
