"""Tables of amounts: shown in the currency of the page, while their files stay in USD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pages.shared.money import Money


def in_currency(frame: pd.DataFrame, money: Money, titles: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Put each amount in the currency behind the one in USD, which only the file shows.

    Args:
        frame: amounts in columns whose names say USD.
        money: of the page.
        titles: words for each such column, marked for translation.

    Returns:
        The frame for ``table``, and its ``columns``.
    """
    converted = money.frame(frame)
    order = list(dict.fromkeys(each for name in frame.columns for each in (name, money.name(name))))
    hidden = {name: None for name in frame.columns if name not in converted}
    both = frame.assign(**{name: converted[name] for name in order if name not in frame})
    return both[order], hidden | money.columns(converted, titles)
