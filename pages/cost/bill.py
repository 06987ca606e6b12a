"""The bill of all devices: four lines that add up, by whom or what one likes to see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analytics.device_hours import IDLE_ID
from analytics.formulas.local_time import Span
from analytics.ledger import LINES, Bill
from charts.bill import stacked
from core.language import _, say, spoken
from pages.cost import missing
from pages.cost.figures import LINE_WORDS, in_full
from pages.cost.window import Window
from pages.shared import loaders, words
from pages.shared.columns import number
from pages.shared.frame import no_data
from pages.shared.money import Money
from pages.shared.pictures import picture
from pages.shared.tables import table

MOST_BARS = 12
WHOLE = 0.995  # of the time; less is said
TITLES = {"observed_ratio": _("energy observed"), "missing": _("missing"), "label": _("label")}
NOBODY = _("held by nobody")
_KEYS: dict[str, str] = {
    "deployment": _("deployment"),
    "site": _("site"),
    "host": _("host"),
    "vendor": _("vendor"),
    "model": _("model"),
    "name": _("device"),
}
HELP = _(
    "Every device from its first sign of life to its last, working or not: hardware by the hour, electricity while a "
    "deployment worked and while none did, and overhead by what devices cost. From the accounts of whole hours."
)


def whole_bill(shown: Window) -> None:
    """Draw the section."""
    st.markdown(f"##### {say('The bill of all devices')}", help=say(HELP))
    if shown.hours is None:
        missing.hours(shown, say("A bill is made of whole hours."))
        return
    whole = loaders.bill(*shown.hours)
    if whole is None:
        no_data(say("No device was there in this window."))
        return
    _said(whole, shown)
    key = st.segmented_control(
        say("By"),
        list(_KEYS),
        default="deployment",
        required=True,
        format_func=lambda key: say(_KEYS[key]),
        key="bill-by",
    )
    frame, money = listed(_groups(shown.hours, key)), shown.money
    top = frame.head(MOST_BARS).assign(**{line: money.column(frame[line].head(MOST_BARS)) for line in LINES})
    picture(
        say("Who pays for what"),
        stacked(top, money.currency) if frame[list(LINES)].notna().to_numpy().any() else None,
        key="bill-lines",
        note=f"{say(whole.quality.value)} · {dearest(len(top), len(frame))}",
        why=say("no line has a price"),
    )
    converted = money.frame(frame)
    titles = {"who": _KEYS[key], **TITLES}
    table(converted, shown.view, key="bill", titles=titles, columns=_columns(converted, money), said=("label",))


def dearest(some: int, every: int) -> str:
    """That only some are drawn, and which."""
    return say("{some} of {all}, dearest first", some=spoken().number(some), all=spoken().number(every))


def _said(whole: Bill, shown: Window) -> None:
    money = shown.money
    lines = " + ".join(money.show(getattr(whole, line)) for line in LINES)
    total = money.show(whole.total_usd)
    st.markdown(
        say("**{total}** = {lines} (hardware + electricity active + idle + overhead)", total=total, lines=lines)
    )
    window = words.plain(shown.words.capitalize())
    told = [say("{window}, every device, whatever the filters say.", window=window)]
    if whole.covered_ratio < WHOLE:
        told.append(say("Energy was observed {share} of the time.", share=words.percent(whole.covered_ratio)))
    st.caption(" ".join(told))
    for name, reason in whole.missing[:MOST_BARS]:
        st.caption(f":material/sell: {words.plain(name)}: {words.plain(in_full(reason))}")
    if len(whole.missing) > MOST_BARS:
        st.caption(say("and {number} more", number=spoken().number(len(whole.missing) - MOST_BARS)))


def _groups(hours: Span, key: str) -> Mapping[str, Bill]:
    if key != "deployment":
        return loaders.bills(*hours, key)  # type: ignore[arg-type]  # one of Key
    known = loaders.entities("deployment").set_index("entity_id")["labels"]
    names = {
        int(str(i)): f"{labels.get('model') or say('unknown')} @ {labels.get('url', '')}" for i, labels in known.items()
    }
    return {say(NOBODY) if i == IDLE_ID else names[i]: one for i, one in loaders.deployment_bills(*hours).items()}


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
            "missing": ", ".join(sorted({in_full(reason) for _, reason in one.missing})),
            "label": one.quality.value,
        }
        for who, one in groups.items()
    ]
    numbers = ["total_usd", *LINES, "active_kwh", "idle_kwh", "observed_ratio"]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(numbers, "float64"))
    return frame.sort_values("total_usd", ascending=False, na_position="last", ignore_index=True)


def _columns(converted: pd.DataFrame, money: Money) -> dict[str, Any]:
    titles = {"total_usd": _("Total"), **{line: LINE_WORDS[line] for line in LINES}}
    return money.columns(converted, titles) | {
        "active_kwh": number(say("Active (kWh)"), 2),
        "idle_kwh": number(say("Idle (kWh)"), 2),
    }
