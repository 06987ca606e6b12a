"""Everything that goes into the figures of a contract, in the order in which it is used."""

from __future__ import annotations

from analytics.commitments import Forecast, Standing
from analytics.costs import Term
from analytics.formulas.forecast import STANDARD_ERRORS
from core.language import _, say, spoken
from core.texts import significant
from core.units import Unit, show
from pages.cost.account import USED_IS, Account
from pages.cost.figures import in_full
from pages.shared import words
from pages.shared.money import BASE, Money
from pages.shared.store import settings

_PROMISED = {"megawatts": _("megawatts"), "gpu_hours": _("GPU-hours"), "tokens": _("tokens")}


def contract_terms(account: Account, when: str, money: Money) -> list[Term]:
    """Terms of the contract in its own currency, then what was made of them over the window and the term so far.

    Args:
        account: of the contract.
        when: the window in words.
        money: of the page.
    """
    contract = account.contract
    unit = say(_PROMISED.get(contract.unit, contract.currency))
    source = _settings(f"cost.contract.{settings().cost.contract.index(contract)}")
    term = say("{begins} up to {ends}", begins=str(contract.begins), ends=str(contract.ends))
    left = say("days of the term that are not over at the main site")
    found = [
        Term(say("price of the term"), f"{spoken().number(contract.price, 2)} {contract.currency}", source),
        Term(say("term"), term, source),
        Term(say("days left"), spoken().number(account.days_left), left),
        Term(say("amount"), f"{_exact(contract.amount)} {unit}", source),
        *(
            Term(say("tranche from {date}", date=str(one.begins)), f"{_exact(one.amount)} {unit}", source)
            for one in contract.tranche
        ),
        Term(say("hosts"), ", ".join(contract.hosts) or say("all"), source),
        Term(say("models"), ", ".join(contract.models) or say("all"), source),
    ]
    if money.rate_on is not None and money.currency != BASE:
        rate = say("{rate} {currency} per {base}", rate=significant(money.per_usd), currency=money.currency, base=BASE)
        on = say("settings: {key} of {date}", key="cost.rate", date=str(money.rate_on))
        found.append(Term(say("exchange rate"), rate, on))
    for stretch, one in ((when, account.now), (say("the term since the first day seen"), account.so_far)):
        if one is not None:
            found += [Term(say("over"), stretch, say("hours accounted for")), *_standing(one, account, money)]
    return found if account.ahead is None else [*found, *_forecast(account.ahead, account.unit)]


def _settings(key: str) -> str:
    return say("settings: {key}", key=key)


def _exact(amount: float) -> str:
    return significant(amount, 15)


def _standing(one: Standing, account: Account, money: Money) -> list[Term]:
    unit, not_used = account.unit, in_full(one.reason) or say("unknown")
    unknown = in_full(one.money_reason) or not_used
    rows = one.rows or (None, None)
    spread = say("price x hours here / hours of the term")
    if one.contract.currency != BASE:
        spread = say("price x hours here / hours of the term, at the exchange rate of each day")
    prices = (
        (say("price per kW-month"), one.effective.usd_per_kw_month),
        (say("price per {unit} promised", unit=account.per), one.effective.usd_per_available),
        (say("price per {unit} used", unit=account.per), one.effective.usd_per_used),
        (say("price per GPU-hour held"), one.effective.usd_per_gpu_hour),
        (say("price per million output tokens"), one.effective.usd_per_million_output_tokens),
    )
    whole, part = say("amount, as if all were there from the first day"), say("tranches from their day on")
    filled = say("below 95 % use is filled at its mean, below 50 % not told")
    share = say("cost x used / delivered, at most all")
    return [
        Term(say("committed"), show(one.committed, unit), whole),
        Term(say("delivered"), show(one.delivered, unit), part),
        Term(say("used"), show(one.used, unit, unknown=not_used), say(USED_IS[one.contract.unit])),
        Term(say("observed"), words.percent(one.use.covered_ratio, 1), filled),
        Term(say("cost"), money.show(one.usd, unknown=unknown), spread),
        Term(say("cost of the used part"), money.show(rows[0], unknown=unknown), share),
        Term(say("cost of the unused part"), money.show(rows[1], unknown=unknown), say("the rest")),
        *(Term(name, money.show(usd), say("cost / amount")) for name, usd in prices if usd is not None),
    ]


def _forecast(ahead: Forecast, unit: Unit) -> list[Term]:
    used, errors = ahead.used, significant(STANDARD_ERRORS)
    mean = say("whole days seen, and as many like their mean as are left")
    least = say("{number} standard errors less, not under what is used", number=errors)
    most = say("{number} standard errors more", number=errors)
    delivered = say("from the first day seen; the forecast is of it")
    return [
        Term(say("use by the end of the term"), show(used.estimate, unit), mean),
        Term(say("at least"), show(used.lower, unit), least),
        Term(say("at most"), show(used.upper, unit), most),
        Term(say("delivered by then"), show(ahead.delivered, unit), delivered),
    ]
