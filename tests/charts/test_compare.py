"""Speed against price: what lacks a number is not drawn, least of all at zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from charts.compare import speed_against
from tests.charts.drawn import rows

NAMES = ["meta/llama", "big", "dear"]


def points(**changes: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "name": NAMES,
            "kind": ["own", "hosted", "own"],
            "hardware": ["H100", "hosted endpoint", "MI300X"],
            "tokens_per_second": [50.0, 200.0, 40.0],
            "usd": [2.0, 8.0, 4.0],
            "conditions": ["last hour; n = 10"] * 3,
        }
    )
    return frame.assign(**changes)


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    return rows(speed_against(frame, "usd", "USD"))


def test_each_point_is_a_mark_with_its_conditions():
    found = drawn(points())
    assert found["name"].tolist() == NAMES
    assert found["label"].tolist() == ["llama", "big", "dear"]
    assert found["taken"].tolist() == [2.0, 8.0, 4.0]
    assert "conditions" in str(speed_against(points(), "usd", "USD").to_dict())


@pytest.mark.parametrize("column", ["usd", "tokens_per_second"])
def test_an_unknown_number_is_not_drawn(column: str):
    found = drawn(points(**{column: [1.0, np.nan, 3.0]}))
    assert found["name"].tolist() == ["meta/llama", "dear"]


def test_both_axes_begin_at_zero_and_hold_every_mark():
    encoding = speed_against(points(), "usd", "USD").to_dict()["layer"][0]["encoding"]
    for axis, largest in (("x", 8.0), ("y", 200.0)):
        low, high = encoding[axis]["scale"]["domain"]
        assert low == 0
        assert high > largest


def test_values_far_apart_stand_on_a_logarithmic_axis():
    encoding = speed_against(points(tokens_per_second=[50.0, 3_000.0, 40.0]), "usd", "USD").to_dict()["layer"][0][
        "encoding"
    ]
    assert encoding["y"]["scale"]["type"] == "log"
    low, high = encoding["y"]["scale"]["domain"]
    assert 0 < low < 40 < 3_000 < high
    assert "type" not in encoding["x"]["scale"]


def test_own_and_hosted_differ_by_shape_with_a_legend_only_where_both_are_there():
    def legend(frame: pd.DataFrame) -> object:
        return speed_against(frame, "usd", "USD").to_dict()["layer"][0]["encoding"]["shape"]["legend"]

    assert legend(points()) is not None
    assert legend(points(kind="own")) is None


def test_names_of_neighbours_stand_apart():
    found = drawn(points(usd=[4.0, 4.2, 8.0], tokens_per_second=[50.0, 50.0, 50.0]))
    assert found["place"].nunique() > 1


def test_a_name_without_room_is_left_to_the_tooltip():
    crowd = pd.concat([points(usd=[4.0, 4.0, 4.0], tokens_per_second=[50.0, 50.0, 50.0])] * 5, ignore_index=True)
    found = drawn(crowd)
    assert len(found) == len(crowd)
    assert found["place"].isna().any()
