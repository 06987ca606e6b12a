"""The document of a week as a page: what the files say, with what a browser can do beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd
import streamlit as st

from charts.layered import Layered
from core.language import say
from pages.shared import words
from pages.shared.pictures import plot
from pages.summary.computed import Computed
from reports.document import Document
from reports.figures import Tile
from reports.sections import Section, Table

COLUMNS = 3
MOST_LARGE = 15  # characters that fit into a tile in large print
PICTURE_PIXELS = 260
_COLOURS: Mapping[str, Literal["green", "red", "gray"]] = {"good": "green", "bad": "red", "": "gray"}
_ICONS = {"good": ":material/thumb_up: ", "bad": ":material/thumb_down: ", "": ""}


def head(said: Document) -> None:
    """Which week, what is to be known of all of it, and the verdict."""
    st.markdown(f"#### {words.plain(said.title)}")
    st.caption(words.plain(said.subtitle, limit=500))
    for notice in said.notices:
        st.caption(f":material/info: {words.plain(notice, limit=500)}")
    st.info(words.plain(" ".join(said.verdict), limit=1_000), icon=":material/summarize:")


def tiles(said: Document, computed: Mapping[str, Computed]) -> None:
    """The twelve figures, each with a button that opens what it was made from.

    Args:
        said: the week in words.
        computed: how each was computed, by the key of the headline, in the order of the tiles.
    """
    made = list(zip(said.tiles, computed.items(), strict=True))
    for begin in range(0, len(made), COLUMNS):
        for place, (tile, (key, how)) in zip(st.columns(COLUMNS), made[begin : begin + COLUMNS], strict=False):
            with place, st.container(border=True, height="stretch"):
                _tile(tile)
                _computed(how, key=f"week-how-{key}")


def _computed(how: Computed, *, key: str) -> None:
    with st.popover(say("How computed"), icon=":material/function:", type="tertiary", key=key):
        st.markdown(how.rule)
        st.caption(say("Window: {window}.", window=words.plain(how.window)))
        rows = tuple((str(term.name), str(term.value), str(term.source)) for term in how.terms)
        _table(Table((say("Input"), say("Value"), say("Source")), rows, ()), key=f"{key}-terms")


def _tile(tile: Tile) -> None:
    label, value = words.plain(tile.label), words.plain(tile.value) if tile.is_known else "—"
    changed = _ICONS[tile.tone] + words.plain(tile.change) if tile.change else None
    st.caption(label)  # that of a metric would be cut
    if tile.is_known and len(tile.value) > MOST_LARGE:  # so would a range
        st.markdown(f"**{value}**")
        if changed:
            st.badge(changed, color=_COLOURS[tile.tone])
    else:
        colour = _COLOURS[tile.tone]
        st.metric(label, value, changed, colour, delta_arrow="off", label_visibility="collapsed")
    notes = tile.notes if tile.is_known else (tile.value, *tile.notes)
    st.caption("  \n".join(words.plain(note) for note in notes))


def pictures(charts: Iterable[tuple[str, Layered]]) -> None:
    """Those that have something to show, side by side."""
    drawn = list(charts)
    for number, (place, (title, chart)) in enumerate(zip(st.columns(max(len(drawn), 1)), drawn, strict=False)):
        with place:
            st.markdown(f"##### {words.plain(title)}")
            plot(chart, key=f"week-{number}", alt=title, height=PICTURE_PIXELS)


def sections(parts: Sequence[Section]) -> None:
    """Sentences and tables, in order."""
    for number, part in enumerate(parts):
        st.markdown(f"##### {words.plain(part.title)}")
        for line in part.lines:
            st.markdown(words.plain(line, limit=1_000))
        if part.table is not None:
            _table(part.table, key=f"week-{part.title}-{number}")


def _table(of: Table, key: str) -> None:
    """Whole sentences stand in its cells, so they are wrapped, not cut."""
    cells = [[words.plain(cell, limit=500) for cell in row] for row in of.rows]
    st.table(pd.DataFrame(cells, columns=[words.plain(name) for name in of.head]), hide_index=True, border="horizontal")
