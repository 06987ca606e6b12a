"""Figures that open to what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analytics.costs import Term
from core.language import say
from pages.shared import words
from pages.shared.figures import Figure, large_print, shown
from pages.shared.filters import View

PER_ROW = 3


@dataclass(frozen=True, slots=True)
class Explained:
    """A figure, how it is computed (our own words, marked for translation), and the terms that went in."""

    figure: Figure
    formula: str
    terms: Sequence[Term] = ()


def explained(figures: Sequence[Explained], view: View, *, key: str) -> None:
    """Tiles, each with a button that opens its inputs; below each other on a narrow screen."""
    for start in range(0, len(figures), PER_ROW):
        columns = st.columns(PER_ROW)
        for number, (column, one) in enumerate(zip(columns, figures[start:], strict=False), start):
            with column, st.container(border=True, height="stretch", gap="small"):
                large, small = shown(one.figure, view)
                large_print(one.figure.label, large, one.figure.help)
                st.caption(small)
                with st.popover(
                    say("How computed"), icon=":material/function:", type="tertiary", key=f"{key}-{number}"
                ):
                    st.markdown(say(one.formula))
                    st.caption(say("Window: {window}.", window=words.plain(one.figure.window)))
                    if one.terms:
                        terms(one.terms)


def terms(inputs: Sequence[Term]) -> None:
    """Inputs as a table: what, how much, from where."""
    rows = [tuple(words.one_line(part) for part in (term.name, term.value, term.source)) for term in inputs]
    titles = [say("Input"), say("Value"), say("Source")]
    narrow = {titles[0]: st.column_config.Column(width="medium")}  # the value beside it must be seen
    st.dataframe(pd.DataFrame(rows, columns=titles), hide_index=True, column_config=narrow)
