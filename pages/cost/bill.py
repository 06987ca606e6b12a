"""The bill of all devices: four lines that add up, by whom or what one likes to see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pandas as pd
import streamlit as st

from analytics.device_hours import IDLE_ID, whole_hours
from analytics.ledger import LINES, Bill, Key, Ledger, bill, bills, deployment_bills
from charts.bill import stacked
from core.units import show_money
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.frame import no_data
from pages.shared.pictures import picture
from pages.shared.tables import table

MOST_BARS = 12
NOBODY = "held by nobody"
_KEYS: dict[str, str] = {"deployment": "deployment", **{key: key for key in get_args(Key)}, "name": "device"}
HELP = (
    "Every device from its first sign of life to its last, working or not: hardware by the hour, electricity while a "
    "deployment worked and while none did, and overhead by what devices cost. From the accounts of whole hours."
)


def whole_bill(view: View) -> None:
    """Draw the section."""
    st.markdown("##### The bill of all devices", help=HELP)
    start_ms, end_ms = whole_hours(view.start_ms, min(view.end_ms, loaders.accounted_until_ms()))
    if start_ms == end_ms:
        no_data("No accounted hour lies in this window.", "A bill is made of whole hours.", "choose 6h or more")
        return
    of = loaders.ledger(start_ms, end_ms)
    whole = bill(of)
    if of.rows.empty:
        no_data("No device was there in this window.")
        return
    _said(whole, view, start_ms, end_ms)
    key = st.segmented_control(
        "By", list(_KEYS), default="deployment", required=True, format_func=_KEYS.__getitem__, key="bill-by"
    )
    groups = _groups(of, key)
    frame = listed(groups)
    shown = frame.head(MOST_BARS)
    picture(
        "Who pays for what",
        stacked(shown) if frame[list(LINES)].notna().to_numpy().any() else None,
        key="bill-lines",
        note=f"{whole.quality.value} · {len(shown)} of {len(frame)}, dearest first",
        why="no line has a price",
    )
    table(frame, view, key="bill", titles={"who": _KEYS[key], "observed_ratio": "energy observed"}, columns=_columns())


def _said(whole: Bill, view: View, start_ms: int, end_ms: int) -> None:
    hours = (end_ms - start_ms) // 3_600_000
    lines = " + ".join(show_money(getattr(whole, line), unknown="unknown") for line in LINES)
    total = show_money(whole.total_usd, unknown="unknown")
    st.markdown(f"**{total}** = {lines} (hardware + electricity active + idle + overhead)".replace("$", r"\$"))
    from_, to = (words.clock(pd.Timestamp(at, unit="ms", tz="UTC"), view.zone) for at in (start_ms, end_ms))
    gap = f" Energy was observed {whole.covered_ratio:.0%} of the time." if whole.covered_ratio < 0.995 else ""
    st.caption(f"{hours} whole hours, {from_} to {to}.{gap}")
    for name, reason in whole.missing[:MOST_BARS]:
        st.caption(f":material/sell: {words.plain(name)}: {words.plain(reason)}")
    if len(whole.missing) > MOST_BARS:
        st.caption(f"and {len(whole.missing) - MOST_BARS} more")


def _groups(of: Ledger, key: str) -> Mapping[str, Bill]:
    if key != "deployment":
        return bills(of, key)  # type: ignore[arg-type]  # one of Key
    known = loaders.entities("deployment").set_index("entity_id")["labels"]
    names = {int(str(i)): f"{labels.get('model', 'unknown')} @ {labels.get('url', '')}" for i, labels in known.items()}
    return {NOBODY if i == IDLE_ID else names[i]: one for i, one in deployment_bills(of).items()}


def listed(groups: Mapping[str, Bill]) -> pd.DataFrame:
    """A row per bill, dearest first, unknown ones last."""
    rows = [
        {
            "who": words.one_line(who, limit=80),
            "total_usd": one.total_usd,
            **{line: getattr(one, line) for line in LINES},
            "active_kwh": one.active_kwh,
            "idle_kwh": one.idle_kwh,
            "observed_ratio": one.covered_ratio,
            "missing": ", ".join(sorted({reason for _, reason in one.missing})),
            "label": one.quality.value,
        }
        for who, one in groups.items()
    ]
    numbers = ["total_usd", *LINES, "active_kwh", "idle_kwh", "observed_ratio"]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(numbers, "float64"))
    return frame.sort_values("total_usd", ascending=False, na_position="last", ignore_index=True)


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    titles = ("Total", "Hardware", "Electricity, active", "Electricity, idle", "Overhead")
    money = {
        name: number(f"{title} (USD)", format="%.2f") for name, title in zip(("total_usd", *LINES), titles, strict=True)
    }
    return money | {
        "active_kwh": number("Active (kWh)", format="%.2f"),
        "idle_kwh": number("Idle (kWh)", format="%.2f"),
    }
