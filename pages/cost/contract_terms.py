"""Everything that goes into the figures of a contract, in the order in which it is used."""

from __future__ import annotations

from analytics.commitments import Forecast, Standing
from analytics.costs import Term
from analytics.formulas.forecast import STANDARD_ERRORS
from core.units import Unit, show
from pages.cost.account import USED_IS, Account
from pages.shared.money import BASE, Money
from pages.shared.store import settings


def contract_terms(account: Account, when: str, money: Money) -> list[Term]:
    """Terms of the contract in its own currency, then what was made of them over the window and the term so far.

    Args:
        account: of the contract.
        when: the window in words.
        money: of the page.
    """
    contract = account.contract
    unit = contract.currency if contract.unit == "money" else contract.unit.replace("_", " ")
    source = f"settings: cost.contract.{settings().cost.contract.index(contract)}"
    found = [
        Term("price of the term", f"{contract.price:,.2f} {contract.currency}", source),
        Term("term", f"{contract.begins} up to {contract.ends}", source),
        Term("days left", f"{account.days_left:,}", "days of the term that are not over at the main site"),
        Term("amount", f"{contract.amount:,.15g} {unit}", source),
        *(Term(f"tranche from {one.begins}", f"{one.amount:,.15g} {unit}", source) for one in contract.tranche),
        Term("hosts", ", ".join(contract.hosts) or "all", source),
        Term("models", ", ".join(contract.models) or "all", source),
    ]
    if money.rate_on is not None and money.currency != BASE:
        rate = f"{money.per_usd:,.6g} {money.currency} per {BASE}"
        found.append(Term("exchange rate", rate, f"settings: cost.rate of {money.rate_on}"))
    for stretch, one in ((when, account.now), ("the term since the first day seen", account.so_far)):
        if one is not None:
            found += [Term("over", stretch, "hours accounted for"), *_standing(one, account, money)]
    return found if account.ahead is None else [*found, *_forecast(account.ahead, account.unit)]


def _standing(one: Standing, account: Account, money: Money) -> list[Term]:
    unit, unknown = account.unit, one.money_reason or one.reason or "unknown"
    rows = one.rows or (None, None)
    spread = "price x hours here / hours of the term"
    if one.contract.currency != BASE:
        spread += ", at the exchange rate of each day"
    prices = {
        "kW-month": one.effective.usd_per_kw_month,
        f"{account.per} promised": one.effective.usd_per_available,
        f"{account.per} used": one.effective.usd_per_used,
        "GPU-hour held": one.effective.usd_per_gpu_hour,
        "million output tokens": one.effective.usd_per_million_output_tokens,
    }
    return [
        Term("committed", show(one.committed, unit), "amount, as if all were there from the first day"),
        Term("delivered", show(one.delivered, unit), "tranches from their day on"),
        Term("used", show(one.used, unit, unknown=one.reason or "unknown"), USED_IS[one.contract.unit]),
        Term("observed", f"{one.use.covered_ratio:.1%}", "below 95 % use is filled at its mean, below 50 % not told"),
        Term("cost", money.show(one.usd, unknown=unknown), spread),
        Term("cost of the used part", money.show(rows[0], unknown=unknown), "cost x used / delivered, at most all"),
        Term("cost of the unused part", money.show(rows[1], unknown=unknown), "the rest"),
        *(
            Term(f"price per {name}", money.show(usd), "cost / amount")
            for name, usd in prices.items()
            if usd is not None
        ),
    ]


def _forecast(ahead: Forecast, unit: Unit) -> list[Term]:
    used, mean = ahead.used, "whole days seen, and as many like their mean as are left"
    return [
        Term("use by the end of the term", show(used.estimate, unit), mean),
        Term("at least", show(used.lower, unit), f"{STANDARD_ERRORS:g} standard errors less, not under what is used"),
        Term("at most", show(used.upper, unit), f"{STANDARD_ERRORS:g} standard errors more"),
        Term("delivered by then", show(ahead.delivered, unit), "from the first day seen; the forecast is of it"),
    ]
