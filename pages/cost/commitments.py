"""Contracts: what was promised and used, what went unused in money, what a unit really costs, where it leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core.readings import Severity
from pages.cost.account import Account, accounts, dates, window_of, worst_first
from pages.cost.amounts import in_currency
from pages.cost.contract import contract
from pages.shared import words
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.money import Money, money
from pages.shared.store import settings
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

ENDS_SOON_DAYS = 60
EXAMPLE = """\
[[cost.contract]]
name = "capacity 2027"
unit = "megawatts"  # or "gpu_hours", "tokens", "money"
amount = 0.5        # how much of it is promised
price = 3_000_000   # for the whole term, USD unless you add a currency
begins = 2027-01-01
ends = 2028-01-01   # first day after it
"""


def render() -> None:
    """Draw the page."""
    page("Contracts", draw)


def draw(view: View) -> None:
    """Verdict, then the worst contract first: figures, burn and weeks, terms; and a table of all."""
    if not settings().cost.contract:
        no_data("No contract is known.", "", "add one to vatio.toml, with your own numbers, and restart:")
        st.code(EXAMPLE, language="toml")
        st.caption("Capacity that comes in parts: [[cost.contract.tranche]]. All keys: vatio.example.toml.")
        return
    window, currency = window_of(view), money(view)
    every = sorted(accounts(window, view), key=worst_first)
    findings = [_finding(one, currency) for one in every]
    all_well = all(one.fits and one.is_running for one in every)
    verdict([] if all_well else findings, " ".join(one.text for one in findings), view)
    st.caption(f"Used and unused: {dates(window, view)}, hours accounted for; of a term only what lies in them.")
    if currency.caption:
        st.caption(words.plain(currency.caption, limit=500))
    for number, account in enumerate(every):
        contract(account, window, currency, view, key=f"contract-{number}")
    st.markdown("#### All contracts")
    frame, columns = in_currency(_listed(every), currency, _PRICES)
    table(frame, view, key="contracts", titles=_TITLES, columns=_amounts() | columns)


def _finding(account: Account, currency: Money) -> Finding:
    """One sentence on a contract, as serious as it is."""
    name, now = account.contract.name, account.now
    if now is None:
        return Finding(Severity.INFO, f"{name}: {account.state}.")
    where = "" if account.is_running else f" It {account.state}."
    if now.used_ratio is None:
        return Finding(Severity.INFO, f"{name}: use is not known ({now.reason}).{where}")
    said = f"{name}: {now.used_ratio:.1%} of what was there was used"
    if now.rows is not None and now.rows.unused_usd:
        said += f"; {currency.show(now.rows.unused_usd)} went unused"
    if account.days_left and account.days_left <= ENDS_SOON_DAYS:
        where = f" It ends in {account.days_left} days."
    return Finding(Severity.INFO if account.fits else Severity.WARNING, f"{said}.{where}")


_TITLES = {
    "covered_ratio": "observed",
    "used_ratio": "used of delivered",
    "reason": "missing",
}
_AMOUNTS = ("committed", "delivered", "used", "unused")
_PRICES = {
    "amortised_usd": "Cost",
    "used_usd": "Used",
    "unused_usd": "Unused",
    "usd_per_kw_month": "Per kW-month",
    "usd_per_available": "Per unit promised",
    "usd_per_used": "Per unit used",
    "usd_per_gpu_hour": "Per GPU-hour used",
    "usd_per_million_output_tokens": "Per M output tokens",
}


def _amounts() -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(name.capitalize(), format="localized") for name in _AMOUNTS}


def _listed(every: Sequence[Account]) -> pd.DataFrame:
    """A row per contract; amounts in its own unit, so far as its term lies in the window."""
    numbers = ("used_ratio", *_PRICES, "covered_ratio", *_AMOUNTS)
    columns = ["contract", "used_ratio", *_PRICES, "unit", *_AMOUNTS, "covered_ratio", "state", "reason", "label"]
    return pd.DataFrame([_row(one) for one in every], columns=columns).astype(dict.fromkeys(numbers, "float64"))


def _row(account: Account) -> dict[str, object]:
    now = account.now
    row: dict[str, object] = {"contract": account.contract.name, "state": account.state, "unit": account.unit.symbol}
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
        "reason": "; ".join(part for part in (now.reason, now.money_reason) if part),
        "label": now.quality.value,
    }


if __name__ == "__main__":
    render()
