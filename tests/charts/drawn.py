"""What a chart draws, layer by layer."""

from __future__ import annotations

from typing import Any

import pandas as pd


def rows(chart: Any, layer: int = 0) -> pd.DataFrame:
    """The data of a layer: its own, or else what the chart tells once for several."""
    own = chart.layer[layer].data
    data: pd.DataFrame = own if isinstance(own, pd.DataFrame) else chart.data
    return data
