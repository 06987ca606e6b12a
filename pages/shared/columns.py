"""How columns of a table look: titles and formats follow from a column's name, as on charts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from streamlit import column_config
from streamlit.elements.lib.column_types import ColumnConfig

from charts.axis import scale_for, words_of
from core.language import _, say
from core.units import unit_of

WORDS = (
    *(
        _("code"),
        _("endpoint"),
        _("last error"),
        _("message"),
        _("month"),
        _("names"),
        _("pid"),
        _("remedy"),
        _("rows"),
    ),
    *(_("severity"), _("socket"), _("spent"), _("table"), _("target"), _("ticks"), _("until")),
)
"""Names of columns that are said as they are; others are metrics, or a page gives them a title."""

_SCALED = ("_bytes", "_bytes_per_second", "_hertz", "_tokens_per_second")  # their base units make long numbers


def configured(frame: pd.DataFrame, zone: ZoneInfo, titles: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A frame in base units as a table for people.

    Ratios become bars from 0 to 100 %, other quantities numbers with their unit in the title, times
    the site's wall clock.

    Args:
        frame: columns named with their units.
        zone: the site's.
        titles: words for a column where its own do not do, marked for translation.

    Returns:
        The frame to show and its ``column_config``.
    """
    shown = frame.copy()
    config: dict[str, Any] = {}
    for name in frame.columns:
        words = _capital(say(titles[name]) if name in titles else words_of(name.removesuffix("_at")))
        unit = unit_of(name)
        if name.endswith("_at"):
            shown[name] = frame[name].dt.tz_convert(zone).dt.tz_localize(None)
            config[name] = column_config.DatetimeColumn(words, format="MM-DD HH:mm:ss")
        elif name.endswith("_ratio"):
            shown[name] = frame[name] * 100
            config[name] = column_config.ProgressColumn(words, format="%.0f %%", min_value=0.0, max_value=100.0)
        elif name.endswith(_SCALED):
            scale = scale_for(name, frame[name], title=words)
            shown[name] = frame[name] / scale.factor
            config[name] = number(scale.title, _decimals(shown[name], 1))
        elif pd.api.types.is_float_dtype(frame[name]):
            title = f"{words} ({say(unit.symbol)})" if unit.symbol else words
            config[name] = number(title, _decimals(shown[name], unit.decimals))
        else:
            config[name] = column_config.Column(words)
    return shown, config


def number(title: str, decimals: int) -> ColumnConfig:
    """A column of numbers with so many decimals, as the browser's language writes them."""
    return column_config.NumberColumn(title, format="localized", step=10**-decimals)


def rounded(frame: pd.DataFrame, config: Mapping[str, Any]) -> pd.DataFrame:
    """Numbers with as many decimals as their columns show: the browser would cut off the rest."""
    steps = {name: ((config.get(name) or {}).get("type_config") or {}).get("step") for name in frame.columns}
    return frame.round({name: -round(math.log10(step)) for name, step in steps.items() if step})


def _decimals(values: pd.Series, most: int) -> int:
    """None where all that is known is whole."""
    known = values.dropna()
    return 0 if (known == known.round()).all() else most


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
