"""The bill of all devices: four lines that add up, by whom or what one likes to see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pandas as pd
import streamlit as st

from analytics.device_hours import IDLE_ID
from analytics.ledger import LINES, Bill, Key, Ledger, bill, bills, deployment_bills
from charts.bill import stacked
from pages.cost import missing
from pages.cost.figures import LINE_WORDS
from pages.cost.window import Window
from pages.shared import loaders, words
from pages.shared.frame import no_data
from pages.shared.money import Money
from pages.shared.pictures import picture
from pages.shared.tables import table

MOST_BARS = 12
NOBODY = "held by nobody"
_KEYS: dict[str, str] = {"deployment": "deployment", **{key: key for key in get_args(Key)}, "name": "device"}
HELP = (
    "Every device from its first sign of life to its last, working or not: hardware by the hour, electricity while a "
    "deployment worked and while none did, and overhead by what devices cost. From the accounts of whole hours."
)


def whole_bill(shown: Window) -> None:
    """Draw the section."""
    st.markdown("##### The bill of all devices", help=HELP)
    if shown.hours is None:
        missing.hours(shown, "A bill is made of whole hours.")
        return
    of = loaders.ledger(*shown.hours)
    whole = bill(of)
    if of.rows.empty:
        no_data("No device was there in this window.")
        return
    _said(whole, shown)
    key = st.segmented_control(
        "By", list(_KEYS), default="deployment", required=True, format_func=_KEYS.__getitem__, key="bill-by"
    )
    groups = _groups(of, key)
    frame, money = listed(groups), shown.money
    top = frame.head(MOST_BARS).assign(**{line: money.column(frame[line].head(MOST_BARS)) for line in LINES})
    picture(
        "Who pays for what",
        stacked(top, money.currency) if frame[list(LINES)].notna().to_numpy().any() else None,
        key="bill-lines",
        note=f"{whole.quality.value} · {len(top)} of {len(frame)}, dearest first",
        why="no line has a price",
    )
    converted = money.frame(frame)
    titles = {"who": _KEYS[key], "observed_ratio": "energy observed"}
    table(converted, shown.view, key="bill", titles=titles, columns=_columns(converted, money))


def _said(whole: Bill, shown: Window) -> None:
    money = shown.money
    lines = " + ".join(money.show(getattr(whole, line)) for line in LINES)
    st.markdown(f"**{money.show(whole.total_usd)}** = {lines} (hardware + electricity active + idle + overhead)")
    gap = f" Energy was observed {whole.covered_ratio:.0%} of the time." if whole.covered_ratio < 0.995 else ""
    st.caption(f"{words.plain(shown.words.capitalize())}, every device, whatever the filters say.{gap}")
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


def _columns(converted: pd.DataFrame, money: Money) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    titles = {"total_usd": "Total", **{line: LINE_WORDS[line] for line in LINES}}
    return money.columns(converted, titles) | {
        "active_kwh": number("Active (kWh)", format="%.2f"),
        "idle_kwh": number("Idle (kWh)", format="%.2f"),
    }
