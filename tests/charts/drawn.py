"""What a chart draws, layer by layer."""

from __future__ import annotations

from typing import Any

import pandas as pd

from charts.axis import WINDOW
from charts.layered import Layered


def layers(chart: Layered) -> list[dict[str, Any]]:
    """What a browser is told of those that can be seen."""
    return [layer for layer in chart.to_dict()["layer"] if layer.get("name") != WINDOW]


def rows(chart: Layered, layer: int = 0) -> pd.DataFrame:
    """The data of a layer that can be seen."""
    data: Any = [one for one in chart.layer if one.name != WINDOW][layer].data
    assert isinstance(data, pd.DataFrame)
    return data


def records(chart: Layered, layer: int = 0) -> list[dict[str, Any]]:
    """The same as a browser gets it."""
    return drawn(chart)[layer][1]


def drawn(chart: Layered) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each layer that can be seen, as a browser is told of it, with its data."""
    spec = chart.whole()
    return [(one, spec["datasets"][one["data"]["name"]]) for one in spec["layer"] if one.get("name") != WINDOW]
