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
from core.units import show, unit_of
from pages.cost.account import USED_IS, Account, by_week, dates
from pages.cost.contract_terms import contract_terms
from pages.cost.explained import terms
from pages.shared import words
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
    bounds = " Its terms are bounds, so every figure is an estimate." if account.contract.estimate else ""
    st.caption(f"{account.state[:1].upper()}{account.state[1:]}.{bounds}")
    if account.now is not None:
        tiles(_of_use(account, account.now, dates(window, view), money), view)
        tiles([*([_forecast(account)] if account.days_left else []), _days_left(account)], view)
        unknown = "; ".join(dict.fromkeys(part for part in (account.now.reason, account.now.money_reason) if part))
        if unknown:
            st.caption(f":material/blur_off: Not known: {words.plain(unknown)}.")
    if account.days:
        left, right = st.columns(2)
        with left:
            _burn(account, view, key=f"{key}-burn")
        with right:
            _weeks(account, money, view, key=f"{key}-weeks")
    with st.expander("How was this computed?", icon=":material/function:"):
        terms(contract_terms(account, dates(window, view), money))


def _of_use(account: Account, now: Standing, when: str, money: Money) -> list[Figure]:
    seen = "" if now.use.covered_ratio >= ENOUGH_COVERAGE else f"observed {now.use.covered_ratio:.0%}"
    mean = "mean " if account.contract.unit == "megawatts" else ""
    amount = f"{mean}{_amount(now.used, now, account)} of {_amount(now.delivered, now, account)}"
    if account.contract.unit == "tokens" and now.use.prompt_tokens is not None:
        amount += f", and {show(now.use.prompt_tokens, account.unit)} of prompts"
    basis: Basis = now.quality.value
    money_basis: Basis = basis if now.rows is not None else "missing"
    unknown = now.money_reason or now.reason
    used, promised = now.effective.usd_per_used, now.effective.usd_per_available
    return [
        Figure(
            label="Used",
            text=None if now.used_ratio is None else f"{now.used_ratio:.1%}",
            basis=basis,
            window=amount,
            note=seen,
            reason=now.reason,
            help=f"{when}. Use is {USED_IS[account.contract.unit]}.",
        ),
        Figure(
            label="Unused",
            text=None if now.rows is None else money.show(now.rows.unused_usd),
            basis=money_basis,
            window=f"of {money.show(now.usd, unknown=unknown)}",
            reason=unknown,
            help=f"{when}. The price is spread evenly over the term.",
        ),
        Figure(
            label=f"Per {account.per} used",
            text=None if used is None else money.show(used),
            basis=money_basis,
            window=f"{money.show(promised)} as promised",
            reason=unknown,
        ),
    ]


def _amount(amount: float | None, now: Standing, account: Account) -> str:
    """Power is promised, so its mean is told; all else adds up."""
    if account.contract.unit != "megawatts":
        return show(amount, account.unit)
    return show(product(amount, 1e6 / now.use.span.hours), _WATTS)


def _forecast(account: Account) -> Figure:
    help_ = (
        "Use from the first day seen to the end of the term over what will be there, if the days to come are like "
        "those seen: no trend, no price that changes."
    )
    if account.ahead is None or not account.ahead.delivered:
        why = f"it needs {LEAST_DAYS} whole days of data"
        return Figure(label="Forecast of use", reason=why, help=help_)
    share = account.ahead.used.scaled(1 / account.ahead.delivered)
    same = f"{share.lower:.0%}" == f"{share.upper:.0%}"
    return Figure(
        label="Forecast of use",
        text=f"{share.lower:.0%}" if same else f"{share.lower:.0%} to {share.upper:.0%}",
        basis="estimated",
        window=f"of {show(account.ahead.delivered, account.unit)}",
        help=help_,
    )


def _days_left(account: Account) -> Figure:
    return Figure(
        label="Days left",
        text=f"{account.days_left:,}",
        basis="measured",
        window=f"of {(account.contract.ends - account.contract.begins).days:,}",
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
    picture(
        "Use over the term",
        burn(frame, shown, symbol) if len(frame) else None,
        key=key,
        note="adds up from the first day seen · dashed: what is there to be used"
        + ("" if account.ahead is None else " · band: the range of the forecast"),
        why="nothing it pays for was seen in its term",
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
        "Used and unused by week",
        weekly_split(frame, symbol) if frame[USED].notna().any() else None,
        key=key,
        note="weeks from Monday; the first and the last may be parts of one",
        why="no week was seen well enough",
    )
