"""Contracts: what was promised and used, what went unused in money, what a unit really costs, where it leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analytics.commitments import Standing
from core.language import _, count, say
from core.readings import Severity
from pages.cost.account import Account, accounts, dates, day_of, told, window_of, worst_first
from pages.cost.amounts import in_currency
from pages.cost.contract import contract
from pages.cost.figures import in_full
from pages.shared import words
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.money import Money, money
from pages.shared.store import settings
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

ENDS_SOON_DAYS = 60


def render() -> None:
    """Draw the page."""
    page(_("Contracts"), draw)


def draw(view: View) -> None:
    """Verdict, then the worst contract first: figures, burn and weeks, terms; and a table of all."""
    if not settings().cost.contract:
        remedy = say("add one to vatio.toml, with your own numbers, and restart:")
        no_data(say("No contract is known."), "", remedy)
        st.code(_example(), language=None)
        st.caption(
            say(
                "Capacity that comes in parts: {parts}. All keys: {file}.",
                parts="`[[cost.contract.tranche]]`",
                file="`vatio.example.toml`",
            )
        )
        return
    window, currency = window_of(view), money(view)
    every = sorted(accounts(window, view), key=worst_first)
    findings = [_finding(one, currency) for one in every]
    all_well = all(one.fits and one.is_running for one in every)
    verdict([] if all_well else findings, " ".join(one.text for one in findings), view)
    st.caption(
        say(
            "Used and unused: {window}, hours accounted for; of a term only what lies in them.",
            window=dates(window, view),
        )
    )
    if currency.caption:
        st.caption(words.plain(currency.caption, limit=500))
    for number, account in enumerate(every):
        contract(account, window, currency, view, key=f"contract-{number}")
    st.markdown("#### " + say("All contracts"))
    frame, columns = in_currency(_listed(every), currency, _PRICES)
    table(frame, view, key="contracts", titles=_TITLES, columns=_amounts() | columns, said=("label",))


def _example() -> str:
    """Lines for the settings, to begin with."""
    others = say("or {units}", units='"gpu_hours", "tokens", "money"')
    promised, ends = say("how much of it is promised"), say("first day after it")
    price = say("for the whole term, USD unless you add a currency")
    return f"""\
[[cost.contract]]
name = "capacity 2027"
unit = "megawatts"  # {others}
amount = 0.5        # {promised}
price = 3_000_000   # {price}
begins = 2027-01-01
ends = 2028-01-01   # {ends}
"""


def _finding(account: Account, currency: Money) -> Finding:
    """One sentence on a contract, as serious as it is."""
    name, now = account.contract.name, account.now
    if now is None:
        return Finding(Severity.INFO, say("{contract}: {state}.", contract=name, state=told(account.state)))
    lines = [_of_use(name, now, currency)]
    if not account.is_running:
        lines.append(say("It ended on {date}.", date=day_of(account.state)))
    elif account.days_left <= ENDS_SOON_DAYS and now.used_ratio is not None:
        lines.append(count("It ends in {number} day.", "It ends in {number} days.", account.days_left))
    well = account.fits or now.used_ratio is None
    return Finding(Severity.INFO if well else Severity.WARNING, " ".join(lines))


def _of_use(name: str, now: Standing, currency: Money) -> str:
    if now.used_ratio is None:
        return say("{contract}: use is not known ({reason}).", contract=name, reason=in_full(now.reason))
    share = words.percent(now.used_ratio, 1)
    if now.rows is None or not now.rows.unused_usd:
        return say("{contract}: {share} of what was there was used.", contract=name, share=share)
    return say(
        "{contract}: {share} of what was there was used; {amount} went unused.",
        contract=name,
        share=share,
        amount=currency.show(now.rows.unused_usd),
    )


_TITLES = {
    "contract": _("contract"),
    "unit": _("unit"),
    "covered_ratio": _("observed"),
    "used_ratio": _("used of delivered"),
    "state": _("state"),
    "reason": _("missing"),
    "label": _("label"),
}
_AMOUNTS = {
    "committed": _("Committed"),
    "delivered": _("Delivered"),
    "used": _("Used"),
    "unused": _("Unused"),
}
_PRICES = {
    "amortised_usd": _("Cost"),
    "used_usd": _("Used"),
    "unused_usd": _("Unused"),
    "usd_per_kw_month": _("Per kW-month"),
    "usd_per_available": _("Per unit promised"),
    "usd_per_used": _("Per unit used"),
    "usd_per_gpu_hour": _("Per GPU-hour used"),
    "usd_per_million_output_tokens": _("Per M output tokens"),
}


def _amounts() -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(say(title), format="localized") for name, title in _AMOUNTS.items()}


def _listed(every: Sequence[Account]) -> pd.DataFrame:
    """A row per contract; amounts in its own unit, so far as its term lies in the window."""
    numbers = ("used_ratio", *_PRICES, "covered_ratio", *_AMOUNTS)
    columns = ["contract", "used_ratio", *_PRICES, "unit", *_AMOUNTS, "covered_ratio", "state", "reason", "label"]
    return pd.DataFrame([_row(one) for one in every], columns=columns).astype(dict.fromkeys(numbers, "float64"))


def _row(account: Account) -> dict[str, object]:
    now = account.now
    row: dict[str, object] = {
        "contract": account.contract.name,
        "state": told(account.state),
        "unit": say(account.unit.symbol),
    }
    if now is None:
        return row | {"reason": "", "label": "missing"}
    rows = now.rows or (None, None)
    return row | {
        "used_ratio": now.used_ratio,
        "amortised_usd": now.usd,
        "used_usd": rows[0],
        "unused_usd": rows[1],
        **now.effective._asdict(),
        "committed": now.committed,
        "delivered": now.delivered,
        "used": now.used,
        "unused": now.unused,
        "covered_ratio": now.use.covered_ratio,
        "reason": "; ".join(in_full(part) for part in (now.reason, now.money_reason) if part),
        "label": now.quality.value,
    }


if __name__ == "__main__":
    render()
