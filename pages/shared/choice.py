"""Choices that the address keeps as they are, whatever they are shown as: bound to it, the shown words would stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from core.language import say


def choice(label: str, options: Sequence[str], key: str, default: str | None = None) -> None:
    """Buttons, one of which can be chosen.

    Args:
        label: said.
        options: marked for translation; as they are in the address and in ``st.session_state``.
        key: of both.
        default: is chosen at first, and then always one is; without it none need be.
    """
    _begin(options, key, default)
    chosen = st.segmented_control(label, options, required=default is not None, key=key, format_func=say)
    _keep(chosen, key, default)


def selection(
    label: str, options: Sequence[str], key: str, default: str, *, help: str, format_func: Callable[[str], str]
) -> None:
    """The same as a list that opens, with one always chosen and its own words for each option."""
    _begin(options, key, default)
    chosen = st.selectbox(label, options, key=key, help=help, format_func=format_func)
    _keep(chosen, key, default)


def _begin(options: Sequence[str], key: str, default: str | None) -> None:
    """At first what the address asks for is chosen, if it can be."""
    asked = st.query_params.get(key)
    st.session_state.setdefault(key, asked if asked in options else default)


def _keep(chosen: str | None, key: str, default: str | None) -> None:
    if chosen is None or chosen == default:
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = chosen
