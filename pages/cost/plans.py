"""Plans of capacity: the memory they fill, a table of those that hold a model and those that do not, their terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analytics import capacity
from analytics.capacity import Plan, Target
from analytics.formulas.capacity import RUNTIME_RESERVE_BYTES, USABLE_MEMORY_RATIO, Layout
from charts.capacity import memory_bars
from core.units import PLAIN, UNITS, show, unit_of
from pages.cost.amounts import in_currency
from pages.shared import words
from pages.shared.columns import configured
from pages.shared.filters import View
from pages.shared.money import BASE, Money
from pages.shared.pictures import picture
from pages.shared.tables import table

NOT_MEASURED = "no measurement"
_TITLES = {
    "memory_filled_ratio": "memory filled",
    "node_power_watts": "node by TDP, estimated",
    "accelerators_for_output": "needed for output",
    "not_known": "not known",
    "measured_by": "measured by",
}


def name(one: Plan) -> str:
    """What a plan takes: ``4 × H100 SXM``."""
    return f"{one.accelerators} × {one.accelerator.model}"


def nodes(one: Plan) -> str:
    """How many servers that is: ``1 node of 8``."""
    if one.nodes is None:
        return "nodes unknown"
    return f"{one.nodes} node{'' if one.nodes == 1 else 's'} of {one.accelerators_per_node}"


def target(one: Plan, tokens_per_second: float | None) -> Target:
    """What it takes for an output (tokens/s), if one is wanted."""
    return Target() if tokens_per_second is None else capacity.towards(one, tokens_per_second)


def memory(held: Sequence[Plan]) -> None:
    """Draw what fills an accelerator of each plan."""
    rows = [
        {
            "name": name(one),
            "layout": _layout(one.layout),
            **{f"{part}_bytes": getattr(one.memory, f"{part}_bytes") for part in ("weight", "kv", "reserve", "free")},
        }
        for one in held
    ]
    picture(
        "Memory of one accelerator",
        memory_bars(pd.DataFrame(rows)),
        key="capacity-memory",
        help="Of the one that holds most. A bar is as long as the memory is large.",
        note=f"derived · reserve: {1 - USABLE_MEMORY_RATIO:.0%} that a server leaves alone, and "
        f"{show(RUNTIME_RESERVE_BYTES, unit_of('x_bytes'))} for its runtime",
    )


def _layout(layout: Layout | None) -> str:
    if layout is None:
        return ""
    stages = f" × pipeline {layout.pipeline_parallel}" if layout.pipeline_parallel > 1 else ""
    return f"tensor {layout.tensor_parallel}{stages}"


def types(held: Sequence[Plan], tokens_per_second: float | None, money: Money, view: View, *, stored: bool) -> Plan:
    """Show those that hold it; returns the picked one, or the first."""
    st.markdown("##### Types that hold it", help="Pick a row for its arithmetic.")
    frame, amounts = in_currency(_listed(held, tokens_per_second), money, {"node_hour_usd": "Node-hour"})
    number = st.column_config.NumberColumn
    columns = amounts | {
        "measured_tokens_per_second": number("Measured tokens/s each", format="%.1f"),
        "bound_tokens_per_second": number("Bound, tokens/s in all", format="%.0f"),
    }
    picked = _shown(frame, view, "capacity-types", _TITLES, columns, stored=stored, selectable=True)
    st.caption(
        "Bound: what memory bandwidth allows at most; a bound, not a forecast. Power: TDP of the accelerators of a "
        "node, the rest of it not included. Price: its accelerators by the settings; where they are owned, electricity "
        f"comes on top. Measured: {view.words}, at the load, prompts and precision that there were, so a server with "
        "few requests gives less than it could."
    )
    return held[picked or 0]


def _listed(held: Sequence[Plan], tokens_per_second: float | None) -> pd.DataFrame:
    """One row per type that holds it; unknown figures are empty and ``not_known`` says why."""
    columns: dict[str, Any] = {
        "type": [one.accelerator.model for one in held],
        "accelerators": pd.Series([one.accelerators for one in held], dtype="Int64"),
        "nodes": pd.Series([one.nodes for one in held], dtype="Int64"),
        "memory_filled_ratio": [one.memory and one.memory.filled_ratio for one in held],
        "node_hour_usd": pd.Series([one.usd_per_node_hour for one in held], dtype="float64"),
        "measured_tokens_per_second": pd.Series(
            [one.measured[0].tokens_per_second_per_accelerator if one.measured else None for one in held],
            dtype="float64",
        ),
    }
    if tokens_per_second is not None:
        counts = [target(one, tokens_per_second).accelerators for one in held]
        columns["accelerators_for_output"] = [NOT_MEASURED if count is None else f"{count:,}" for count in counts]
    columns |= {
        "node_power_watts": pd.Series([one.node_watts for one in held], dtype="float64"),
        "layout": [_layout(one.layout) for one in held],
        "bound_tokens_per_second": pd.Series([one.decode_bound_tokens_per_second for one in held], dtype="float64"),
        "not_known": [one.reason for one in held],
        "measured_by": [one.measured[0].basis if one.measured else NOT_MEASURED for one in held],
        "vendor": [one.accelerator.vendor for one in held],
    }
    return pd.DataFrame(columns)


def refused(plans: Sequence[Plan], view: View, *, stored: bool) -> None:
    """Types that do not hold it, or of which too little is known to say so."""
    if not plans:
        return
    st.markdown("##### Types that do not hold it")
    frame = pd.DataFrame(
        {
            "type": [one.accelerator.model for one in plans],
            "reason": [one.reason for one in plans],
            "memory_bytes": [float(one.accelerator.memory_bytes) for one in plans],
            "vendor": [one.accelerator.vendor for one in plans],
        }
    )
    _shown(frame, view, "capacity-refused", {"memory_bytes": "memory of one"}, {}, stored=stored)


def _shown(
    frame: pd.DataFrame,
    view: View,
    key: str,
    titles: dict[str, str],
    columns: dict[str, Any],
    *,
    stored: bool,
    selectable: bool = False,
) -> int | None:
    """A table with its file; without a database, which says whether data are simulated, without the file."""
    if stored:
        return table(frame, view, key=key, titles=titles, columns=columns, selectable=selectable)
    shown, config = configured(frame, view.zone, titles)
    st.dataframe(shown, key=key, hide_index=True, column_config=config | columns)
    return None


def arithmetic(one: Plan, tokens_per_second: float | None, money: Money) -> None:
    """How a plan was computed, line by line; its price also in the currency."""
    st.markdown(f"##### How was this computed: {words.plain(name(one))}")
    lines = [
        (term.name, term.arithmetic, _value(term.value, term.unit))
        for term in (*one.terms, *target(one, tokens_per_second).terms)
    ]
    if one.usd_per_hour is not None:
        rate = "" if money.currency == BASE else f" × {money.per_usd:,.6g} {money.currency}/{BASE}"
        said = f"{one.nodes} × {one.usd_per_node_hour:,.6g} {BASE}/h{rate}"
        lines.append(("price of all nodes", said, f"{money.show(one.usd_per_hour)}/h"))
    frame = pd.DataFrame(lines, columns=["name", "arithmetic", "value"])
    st.table(frame.map(words.plain, limit=500), hide_index=True)
    notes = (one.accelerator.notes, f"Figures of the type: {one.accelerator.source}")
    st.caption(". ".join(words.plain(note, limit=500) for note in notes if note))


def _value(value: float | None, unit: str) -> str:
    found = next((one for one in UNITS if one.symbol == unit), PLAIN)
    if value is None or found is not PLAIN:
        return show(value, found)
    return f"{value:,.6g} {unit.removesuffix('s') if value == 1 else unit}"
