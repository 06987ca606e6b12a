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
from core.language import _, count, say, spoken
from core.texts import significant
from core.units import PLAIN, UNITS, show, unit_of
from pages.cost.amounts import in_currency
from pages.shared import words
from pages.shared.columns import configured, number
from pages.shared.filters import View
from pages.shared.money import BASE, Money
from pages.shared.pictures import picture
from pages.shared.tables import table

NOT_MEASURED = _("no measurement")
_TITLES = {
    "type": _("type"),
    "accelerators": _("accelerators"),
    "nodes": _("nodes"),
    "memory_filled_ratio": _("memory filled"),
    "memory_bytes": _("memory of one"),
    "node_power_watts": _("node by TDP, estimated"),
    "accelerators_for_output": _("needed for output"),
    "layout": _("layout"),
    "not_known": _("not known"),
    "measured_by": _("measured by"),
    "reason": _("reason"),
    "vendor": _("vendor"),
}


def name(one: Plan) -> str:
    """What a plan takes: ``4 × H100 SXM``."""
    return f"{one.accelerators} × {one.accelerator.model}"


def nodes(one: Plan) -> str:
    """How many servers that is: ``1 node of 8``."""
    if one.nodes is None:
        return say("nodes unknown")
    return count("{number} node of {size}", "{number} nodes of {size}", one.nodes, size=str(one.accelerators_per_node))


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
        say("Memory of one accelerator"),
        memory_bars(pd.DataFrame(rows)),
        key="capacity-memory",
        help=say("Of the one that holds most. A bar is as long as the memory is large."),
        note=say(
            "derived · reserve: {share} that a server leaves alone, and {memory} for its runtime",
            share=words.percent(1 - USABLE_MEMORY_RATIO),
            memory=show(RUNTIME_RESERVE_BYTES, unit_of("x_bytes")),
        ),
    )


def _layout(layout: Layout | None) -> str:
    if layout is None:
        return ""
    group, stages = str(layout.tensor_parallel), str(layout.pipeline_parallel)
    if layout.pipeline_parallel == 1:
        return say("tensor {group}", group=group)
    return say("tensor {group} × pipeline {stages}", group=group, stages=stages)


def types(held: Sequence[Plan], tokens_per_second: float | None, money: Money, view: View, *, stored: bool) -> Plan:
    """Show those that hold it; returns the picked one, or the first."""
    st.markdown("##### " + say("Types that hold it"), help=say("Pick a row for its arithmetic."))
    frame, amounts = in_currency(_listed(held, tokens_per_second), money, {"node_hour_usd": _("Node-hour")})
    columns = amounts | {
        "tokens_per_second_measured": number(say("Measured tokens/s each"), 1),
        "tokens_per_second_bound": number(say("Bound, tokens/s in all"), 0),
    }
    picked = _shown(frame, view, "capacity-types", columns, stored=stored, selectable=True)
    st.caption(
        say(
            "Bound: what memory bandwidth allows at most; a bound, not a forecast. Power: TDP of the accelerators of a "
            "node, the rest of it not included. Price: its accelerators by the settings; where they are owned, "
            "electricity comes on top. Measured: {window}, of that at most the newest {days} days at work, at the "
            "load, prompts and precision that there were, so a server with few requests gives less than it could.",
            window=view.words,
            days=str(capacity.DAYS),
        )
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
        "tokens_per_second_measured": pd.Series(
            [one.measured[0].tokens_per_second_per_accelerator if one.measured else None for one in held],
            dtype="float64",
        ),
    }
    if tokens_per_second is not None:
        needed = [target(one, tokens_per_second).accelerators for one in held]
        columns["accelerators_for_output"] = [
            say(NOT_MEASURED) if one is None else spoken().number(one) for one in needed
        ]
    columns |= {
        "node_power_watts": pd.Series([one.node_watts for one in held], dtype="float64"),
        "layout": [_layout(one.layout) for one in held],
        "tokens_per_second_bound": pd.Series([one.decode_bound_tokens_per_second for one in held], dtype="float64"),
        "not_known": [one.reason for one in held],
        "measured_by": [str(one.measured[0].basis) if one.measured else say(NOT_MEASURED) for one in held],
        "vendor": [one.accelerator.vendor for one in held],
    }
    return pd.DataFrame(columns)


def refused(plans: Sequence[Plan], view: View, *, stored: bool) -> None:
    """Types that do not hold it, or of which too little is known to say so."""
    if not plans:
        return
    st.markdown("##### " + say("Types that do not hold it"))
    frame = pd.DataFrame(
        {
            "type": [one.accelerator.model for one in plans],
            "reason": [one.reason for one in plans],
            "memory_bytes": [float(one.accelerator.memory_bytes) for one in plans],
            "vendor": [one.accelerator.vendor for one in plans],
        }
    )
    _shown(frame, view, "capacity-refused", {}, stored=stored)


def _shown(
    frame: pd.DataFrame,
    view: View,
    key: str,
    columns: dict[str, Any],
    *,
    stored: bool,
    selectable: bool = False,
) -> int | None:
    """A table with its file; without a database, which says whether data are simulated, without the file."""
    if stored:
        return table(frame, view, key=key, titles=_TITLES, columns=columns, selectable=selectable)
    shown, config = configured(frame, view.zone, _TITLES)
    st.dataframe(shown, key=key, hide_index=True, column_config=config | columns)
    return None


def arithmetic(one: Plan, tokens_per_second: float | None, money: Money) -> None:
    """How a plan was computed, line by line; its price also in the currency."""
    st.markdown("##### " + say("How was this computed: {plan}", plan=words.plain(name(one))))
    lines = [
        (say(term.name), str(term.arithmetic), _value(term.value, term.unit))
        for term in (*one.terms, *target(one, tokens_per_second).terms)
    ]
    if one.usd_per_hour is not None and one.usd_per_node_hour is not None:
        rate = "" if money.currency == BASE else f" × {significant(money.per_usd)} {money.currency}/{BASE}"
        told = f"{one.nodes} × {significant(one.usd_per_node_hour)} {BASE}/h{rate}"
        lines.append((say("price of all nodes"), told, f"{money.show(one.usd_per_hour)}/h"))
    frame = pd.DataFrame(lines, columns=[say("name"), say("arithmetic"), say("value")])
    st.table(frame.map(words.plain, limit=500), hide_index=True)
    notes = [say("Remark: {remark}.", remark=one.accelerator.notes)] if one.accelerator.notes else []
    notes.append(say("Figures of the type: {source}.", source=one.accelerator.source))
    st.caption(" ".join(words.plain(note, limit=500) for note in notes))


def _value(value: float | None, unit: str) -> str:
    found = next((one for one in UNITS if one.symbol == unit), PLAIN)
    if value is None or found is not PLAIN:
        return show(value, found)
    if unit == "nodes":
        return count("{number} node", "{number} nodes", round(value))
    if unit == "accelerators":
        return count("{number} accelerator", "{number} accelerators", round(value))
    return f"{significant(value)} {unit}"
