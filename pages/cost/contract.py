"""One contract: figures of the window, what has added up over its term, and its weeks in money."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analytics import commitments
from analytics.commitments import Standing
from analytics.formulas.energy import ENOUGH_COVERAGE
from analytics.formulas.forecast import LEAST_DAYS
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import product
from charts import axis
from charts.commitments import UNUSED, USED, burn, weekly_split
from core.language import say, spoken
from core.units import show, unit_of
from pages.cost.account import USED_IS, Account, by_week, dates, told
from pages.cost.contract_terms import contract_terms
from pages.cost.figures import in_full
from pages.shared import words
from pages.shared.explained import terms
from pages.shared.figures import Basis, Figure, tiles
from pages.shared.filters import View
from pages.shared.money import Money
from pages.shared.pictures import picture
from pages.shared.store import settings

MOST_WEEKS = 12
_WATTS = unit_of("mean_watts")


def contract(account: Account, window: Span, money: Money, view: View, *, key: str) -> None:
    """Everything on one contract."""
    st.markdown(f"#### {words.plain(account.contract.name)}")
    state = told(account.state)
    lines = [f"{state[:1].upper()}{state[1:]}."]
    if account.contract.estimate:
        lines.append(say("Its terms are bounds, so every figure is an estimate."))
    st.caption(" ".join(lines))
    if account.now is not None:
        tiles(_of_use(account, account.now, dates(window, view), money), view)
        tiles([*([_forecast(account)] if account.days_left else []), _days_left(account)], view)
        unknown = "; ".join(dict.fromkeys(part for part in (account.now.reason, account.now.money_reason) if part))
        if unknown:
            st.caption(":material/blur_off: " + say("Not known: {reasons}.", reasons=words.plain(in_full(unknown))))
    if account.days:
        left, right = st.columns(2)
        with left:
            _burn(account, view, key=f"{key}-burn")
        with right:
            _weeks(account, money, view, key=f"{key}-weeks")
    with st.expander(say("How was this computed?"), icon=":material/function:"):
        terms(contract_terms(account, dates(window, view), money))


def _of_use(account: Account, now: Standing, when: str, money: Money) -> list[Figure]:
    seen = ""
    if now.use.covered_ratio < ENOUGH_COVERAGE:
        seen = say("observed {share}", share=words.percent(now.use.covered_ratio))
    basis: Basis = now.quality.value
    money_basis: Basis = basis if now.rows is not None else "missing"
    unknown = in_full(now.money_reason or now.reason)
    used, promised = now.effective.usd_per_used, now.effective.usd_per_available
    return [
        Figure(
            label=say("Used"),
            text=None if now.used_ratio is None else words.percent(now.used_ratio, 1),
            basis=basis,
            window=_amounts(now, account),
            note=seen,
            reason=in_full(now.reason),
            help=say("{window}. Use is {what}.", window=when, what=say(USED_IS[account.contract.unit])),
        ),
        Figure(
            label=say("Unused"),
            text=None if now.rows is None else money.show(now.rows.unused_usd),
            basis=money_basis,
            window=say("of {amount}", amount=money.show(now.usd, unknown=unknown)),
            reason=unknown,
            help=say("{window}. The price is spread evenly over the term.", window=when),
        ),
        Figure(
            label=say("Per {unit} used", unit=account.per),
            text=None if used is None else money.show(used),
            basis=money_basis,
            window=say("{price} as promised", price=money.show(promised)),
            reason=unknown,
        ),
    ]


def _amounts(now: Standing, account: Account) -> str:
    """Used of what was there. Power is promised, so its mean is told; all else adds up."""
    if account.contract.unit == "megawatts":
        used, delivered = (
            show(product(amount, 1e6 / now.use.span.hours), _WATTS) for amount in (now.used, now.delivered)
        )
        return say("mean {used} of {delivered}", used=used, delivered=delivered)
    used, delivered = (show(amount, account.unit) for amount in (now.used, now.delivered))
    if account.contract.unit == "tokens" and now.use.prompt_tokens is not None:
        prompts = show(now.use.prompt_tokens, account.unit)
        return say("{used} of {delivered}, and {prompts} of prompts", used=used, delivered=delivered, prompts=prompts)
    return say("{used} of {delivered}", used=used, delivered=delivered)


def _forecast(account: Account) -> Figure:
    help_ = say(
        "Use from the first day seen to the end of the term over what will be there, if the days to come are like "
        "those seen: no trend, no price that changes."
    )
    if account.ahead is None or not account.ahead.delivered:
        why = say("it needs {number} whole days of data", number=spoken().number(LEAST_DAYS))
        return Figure(label=say("Forecast of use"), reason=why, help=help_)
    share = account.ahead.used.scaled(1 / account.ahead.delivered)
    low, high = words.percent(share.lower), words.percent(share.upper)
    return Figure(
        label=say("Forecast of use"),
        text=low if low == high else say("{low} to {high}", low=low, high=high),
        basis="estimated",
        window=say("of {amount}", amount=show(account.ahead.delivered, account.unit)),
        help=help_,
    )


def _days_left(account: Account) -> Figure:
    days = (account.contract.ends - account.contract.begins).days
    return Figure(
        label=say("Days left"),
        text=spoken().number(account.days_left),
        basis="measured",
        window=say("of {amount}", amount=spoken().number(days)),
    )


def _burn(account: Account, view: View, *, key: str) -> None:
    """What has added up since the first day seen, and where it leads."""
    frame = commitments.burn(account.contract, settings(), account.days)
    if len(frame):
        amounts = [name for name in frame.columns if name != "at"]
        factor, symbol = account.unit.step(float(frame[amounts].max().max()))
        frame[amounts] /= factor
        first, last = (
            (at - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(milliseconds=1) for at in frame["at"].iloc[[0, -1]]
        )
        shown = axis.Span(first, last, 0, view.zone)
    note = say("adds up from the first day seen · dashed: what is there to be used")
    if account.ahead is not None:
        note = say(
            "adds up from the first day seen · dashed: what is there to be used · band: the range of the forecast"
        )
    picture(
        say("Use over the term"),
        burn(frame, shown, say(symbol)) if len(frame) else None,
        key=key,
        note=note,
        why=say("nothing it pays for was seen in its term"),
    )


def _weeks(account: Account, money: Money, view: View, *, key: str) -> None:
    """Used and unused part of each week, in money where it is known."""
    weeks = by_week(account, view).tail(MOST_WEEKS)
    if weeks["used_usd"].notna().any():
        symbol, parts = money.currency, [money.column(weeks[name]) for name in ("used_usd", "unused_usd")]
    else:
        factor, symbol = account.unit.step(float(weeks[["used", "unused"]].max().fillna(0.0).max()))
        parts = [weeks[name] / factor for name in ("used", "unused")]
    frame = pd.DataFrame({"week": weeks["week"], USED: parts[0], UNUSED: parts[1]})
    picture(
        say("Used and unused by week"),
        weekly_split(frame, say(symbol)) if frame[USED].notna().any() else None,
        key=key,
        note=say("weeks from Monday; the first and the last may be parts of one"),
        why=say("no week was seen well enough"),
    )
