"""Tables: on the page as people read them, and as CSV in base units with nothing rounded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from core.language import say
from pages.shared import loaders, words
from pages.shared.columns import configured, rounded
from pages.shared.filters import View

LONG = 200  # rows
MOST_DISTINCT = 0.5  # of the rows
UNKNOWN = "–"  # a word may be wider than its column
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def table(
    frame: pd.DataFrame,
    view: View,
    *,
    key: str,
    titles: Mapping[str, str] | None = None,
    columns: Mapping[str, Any] | None = None,
    said: Collection[str] = (),
    selectable: bool = False,
) -> int | None:
    """Show a frame and offer it as a file.

    Args:
        frame: columns named with their units, values in base units; the file holds just this.
        view: gives the time zone.
        key: stable name of the table; the file is called after it.
        titles: words for a column where its own do not do, marked for translation.
        columns: ``st.column_config`` for a column that shall look otherwise; ``None`` hides it.
        said: columns whose cells are marked for translation: said on the page, in the file as they are.
        selectable: let one row be picked.

    Returns:
        Position of the picked row, if any.
    """
    texts = frame.select_dtypes(["object", "str"])  # not times: map() would take the zone off an all-unknown column
    plain = frame.assign(**texts.apply(_each, change=words.one_line))
    spoken = plain.assign(**plain[list(said)].apply(_each, change=say))
    shown, config = configured(spoken, view.zone, titles or {})
    for name in few(shown):
        shown[name] = shown[name].astype("category")  # sent as numbers, and each text once
        config[name] = st.column_config.TextColumn(config[name]["label"])
    config |= columns or {}
    shown = rounded(shown, config)
    picked: int | None = None
    if selectable:
        event = st.dataframe(
            shown,
            key=key,
            hide_index=True,
            column_config=config,
            placeholder=UNKNOWN,
            on_select="rerun",
            selection_mode="single-row",
        )
        rows = event["selection"]["rows"]
        picked = rows[0] if rows else None
    else:
        st.dataframe(shown, key=key, hide_index=True, column_config=config, placeholder=UNKNOWN)
    download(frame, key=key)
    return picked


def _each(column: pd.Series, change: Callable[[str], str]) -> pd.Series:
    """A column with its texts changed, each that differs once."""
    if not isinstance(column.dtype, pd.StringDtype):
        return column.map(lambda value: change(value) if isinstance(value, str) else value)
    number, distinct = column.factorize()
    changed = pd.array([change(text) for text in distinct], "str").take(number, allow_fill=True)
    return pd.Series(changed, column.index)


def few(frame: pd.DataFrame) -> list[str]:
    """Columns of text of which so few differ that a long table need not carry each of them."""
    if len(frame) <= LONG:
        return []
    texts = [name for name in frame.columns if isinstance(frame[name].dtype, pd.StringDtype)]
    return [name for name in texts if frame[name].nunique() <= len(frame) * MOST_DISTINCT]


def download(frame: pd.DataFrame, *, key: str) -> None:
    """A button that hands the frame over as CSV."""
    simulated = bool(loaders.facts().get("simulated"))
    name = f"vatio-{'simulated-' if simulated else ''}{key}.csv"
    st.download_button(
        "CSV",
        lambda: as_csv(frame, simulated=simulated),
        name,
        "text/csv",
        key=f"{key}-csv",
        on_click="ignore",
        icon=":material/download:",
        type="tertiary",
        help=say("The whole table in base units, times in UTC"),
    )


def as_csv(frame: pd.DataFrame, *, simulated: bool = False) -> bytes:
    """UTF-8 CSV, times in ISO 8601; text that a spreadsheet would run as a formula gets an apostrophe."""
    safe = frame.map(_inert)
    if simulated:
        safe = safe.assign(simulated=True)
    return safe.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S%z").encode()


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
