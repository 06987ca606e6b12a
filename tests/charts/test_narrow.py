from __future__ import annotations

import pandas as pd

from charts.narrow import narrow


def test_numbers_lose_what_nobody_sees_and_instants_nothing() -> None:
    frame = pd.DataFrame({"at": [1_760_054_400_123.0], "value": [0.1], "series": ["a"], "devices": [3]})
    found = narrow(frame)
    assert found["at"].tolist() == frame["at"].tolist()
    assert found.dtypes.astype(str).to_dict() == {
        "at": "float64",
        "value": "float32",
        "series": "category",
        "devices": "int64",
    }
    assert found["series"].tolist() == ["a"]


def test_nothing_stays_nothing() -> None:
    assert narrow(pd.DataFrame({"at": [], "value": [], "series": pd.Series([], dtype="str")})).empty
