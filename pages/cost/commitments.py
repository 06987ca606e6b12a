"""Contracts: what was promised and used, what went unused in money, what a unit really costs, where it leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from analytics import commitments
from analytics.commitments import Forecast, Standing, Use
from analytics.costs import Term
from analytics.formulas.energy import ENOUGH_COVERAGE
from analytics.formulas.forecast import LEAST_DAYS
from analytics.formulas.local_time import MS_PER_HOUR, Span, local
from analytics.formulas.unknown import product
from analytics.formulas.wastes import COMMITMENT_USE_RATIO
from charts import axis
from charts.commitments import UNUSED, USED, burn, weekly_split
from core.prices import Contract
from core.readings import Severity
from core.units import Unit, show, show_money, unit_of
from pages.cost.explained import terms
from pages.shared import loaders, words
from pages.shared.figures import Basis, Figure, tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.pictures import picture
from pages.shared.store import settings
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

DAY_MS = 24 * MS_PER_HOUR
ENDS_SOON_DAYS = 60
MOST_WEEKS = 12
EXAMPLE = """\
[[cost.contract]]
name = "capacity 2027"
unit = "megawatts"  # or "gpu_hours", "tokens", "money"
amount = 0.5        # how much of it is promised
price = 3_000_000   # for the whole term, USD unless you add a currency
begins = 2027-01-01
ends = 2028-01-01   # first day after it
"""
_WATTS = unit_of("mean_watts")
_UNITS = {
    "megawatts": Unit("", "MWh", ((1e6, "TWh"), (1e3, "GWh"), (1, "MWh"), (1e-3, "kWh"))),
    "gpu_hours": Unit("", "GPU-hours", ((1, "GPU-hours"),)),
    "tokens": unit_of("output_tokens"),
}
_USED_IS = {
    "megawatts": "energy of the accelerators and CPU packages of its hosts, x PUE where one is given; fans and network "
    "of the hosts are not in it",
    "gpu_hours": "hours in which deployments of its models held accelerators of its hosts",
    "tokens": "output tokens of its models, by the servers' counters",
    "money": "the bill of its hosts, or what tokens of its models cost at hosted prices",
}
_PER = {"megawatts": "MWh", "gpu_hours": "GPU-hour", "tokens": "M tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that is said of one contract; ``now`` is of the window, ``so_far`` of the term since the first sight."""

    contract: Contract
    state: str
    days_left: int
    days: Sequence[Use]
    now: Standing | None
    so_far: Standing | None
    ahead: Forecast | None

    @property
    def unit(self) -> Unit:
        """What its amounts are in."""
        money = Unit("", self.contract.currency, ((1, self.contract.currency),), decimals=2)
        return _UNITS.get(self.contract.unit, money)

    @property
    def per(self) -> str:
        """One of what it is priced by."""
        return _PER.get(self.contract.unit, self.contract.currency)

    @property
    def is_running(self) -> bool:
        """Whether its term has begun and is not over."""
        return self.now is not None and self.days_left > 0

    @property
    def used_ratio(self) -> float | None:
        """Used in the window over what was there."""
        return None if self.now is None else self.now.used_ratio


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
    window = _window(view)
    accounts = sorted(_accounts(window, view), key=_worst_first)
    findings = [_finding(one) for one in accounts]
    all_well = all(_fits(one) and one.is_running for one in accounts)
    verdict([] if all_well else findings, " ".join(one.text for one in findings), view)
    st.caption(f"Used and unused: {_dates(window, view)}, hours accounted for; of a term only what lies in them.")
    for number, account in enumerate(accounts):
        _contract(account, window, view, key=f"contract-{number}")
    st.markdown("#### All contracts")
    table(_listed(accounts), view, key="contracts", titles=_TITLES, columns=_columns())


def _window(view: View) -> Span:
    """As long as the range, and a day at the least, up to the last account."""
    end_ms = min(view.end_ms, loaders.accounted_until_ms() or view.end_ms) // MS_PER_HOUR * MS_PER_HOUR
    return Span(end_ms - max((view.end_ms - view.start_ms) // MS_PER_HOUR * MS_PER_HOUR, DAY_MS), end_ms)


def _accounts(window: Span, view: View) -> list[Account]:
    current, by_day, recent = settings(), loaders.contract_days(window.end_ms), loaders.contract_uses(*window)
    found = []
    for contract in current.cost.contract:
        days = by_day[contract.name]
        first_ms = commitments.since_ms(days)
        so_far = None if first_ms is None else Span(first_ms, window.end_ms)
        found.append(
            Account(
                contract=contract,
                state=commitments.state(contract, current, view.now_ms),
                days_left=commitments.days_left(contract, current, view.now_ms),
                days=days,
                now=commitments.standing(contract, current, recent[contract.name], window),
                so_far=None if so_far is None else commitments.standing(contract, current, days, so_far),
                ahead=commitments.forecast(contract, current, days),
            )
        )
    return found


def _worst_first(account: Account) -> tuple[bool, float]:
    ratio = account.used_ratio
    return ratio is None, 0.0 if ratio is None else min(ratio, 1 / ratio if ratio else 0.0)


def _dates(window: Span, view: View) -> str:
    begin, end = (local(at_ms, view.zone) for at_ms in window)
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def _finding(account: Account) -> Finding:
    """One sentence on a contract, as serious as it is."""
    name, now = account.contract.name, account.now
    if now is None:
        return Finding(Severity.INFO, f"{name}: {account.state}.")
    where = "" if account.is_running else f" It {account.state}."
    if now.used_ratio is None:
        return Finding(Severity.INFO, f"{name}: use is not known ({now.reason}).{where}")
    said = f"{name}: {now.used_ratio:.1%} of what was there was used"
    if now.rows is not None and now.rows.unused_usd:
        said += f"; {show_money(now.rows.unused_usd)} went unused"
    if account.days_left and account.days_left <= ENDS_SOON_DAYS:
        where = f" It ends in {account.days_left} days."
    return Finding(Severity.INFO if _fits(account) else Severity.WARNING, f"{said}.{where}")


def _fits(account: Account) -> bool:
    """Whether as much is used as was bought, more or less."""
    return account.used_ratio is not None and COMMITMENT_USE_RATIO <= account.used_ratio <= 1


def _contract(account: Account, window: Span, view: View, *, key: str) -> None:
    """Everything on one contract."""
    st.markdown(f"#### {words.plain(account.contract.name)}")
    bounds = " Its terms are bounds, so every figure is an estimate." if account.contract.estimate else ""
    st.caption(f"{account.state[:1].upper()}{account.state[1:]}.{bounds}")
    if account.now is not None:
        tiles(_figures(account, account.now, window, view), view)
        unknown = "; ".join(dict.fromkeys(part for part in (account.now.reason, account.now.money_reason) if part))
        if unknown:
            st.caption(f":material/blur_off: Not known: {words.plain(unknown)}.")
    if account.days:
        left, right = st.columns(2)
        with left:
            _burn(account, view, key=f"{key}-burn")
        with right:
            _weeks(account, view, key=f"{key}-weeks")
    with st.expander("How was this computed?", icon=":material/function:"):
        terms(_terms(account, window, view))


def _figures(account: Account, now: Standing, window: Span, view: View) -> list[Figure]:
    dates = _dates(window, view)
    seen = "" if now.use.covered_ratio >= ENOUGH_COVERAGE else f"observed {now.use.covered_ratio:.0%}"
    mean = "mean " if account.contract.unit == "megawatts" else ""
    amount = f"{mean}{_amount(now.used, now, account)} of {_amount(now.delivered, now, account)}"
    if account.contract.unit == "tokens" and now.use.prompt_tokens is not None:
        amount += f", and {show(now.use.prompt_tokens, account.unit)} of prompts"
    basis: Basis = now.quality.value
    money_basis: Basis = basis if now.rows is not None else "missing"
    unknown = now.money_reason or now.reason
    return [
        Figure(
            label="Used",
            text=None if now.used_ratio is None else f"{now.used_ratio:.1%}",
            basis=basis,
            window=amount,
            note=seen,
            reason=now.reason,
            help=f"{dates}. Use is {_USED_IS[account.contract.unit]}.",
        ),
        Figure(
            label="Unused",
            text=None if now.rows is None else show_money(now.rows.unused_usd),
            basis=money_basis,
            window=f"of {show_money(now.usd, unknown=unknown)}",
            reason=unknown,
            help=f"{dates}. The price is spread evenly over the term.",
        ),
        Figure(
            label=f"Per {account.per} used",
            text=_price(now.effective.usd_per_used),
            basis=money_basis,
            window=f"{_price(now.effective.usd_per_available) or 'unknown'} as promised",
            reason=unknown,
        ),
        *([_forecast(account)] if account.days_left else []),
        Figure(
            label="Days left",
            text=f"{account.days_left:,}",
            basis="measured",
            window=f"of {(account.contract.ends - account.contract.begins).days:,}",
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


def _price(usd: float | None) -> str | None:
    return None if usd is None else show_money(usd)


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


def _weeks(account: Account, view: View, *, key: str) -> None:
    """Used and unused part of each week, in money where it is known."""
    weeks = _by_week(account, view)
    in_money = weeks["used_usd"].notna().any()
    names = ["used_usd", "unused_usd"] if in_money else ["used", "unused"]
    frame = weeks.tail(MOST_WEEKS)[["week", *names]].set_axis(["week", USED, UNUSED], axis="columns")
    factor, symbol = (
        (1.0, "USD") if in_money else account.unit.step(float(frame[[USED, UNUSED]].max().fillna(0.0).max()))
    )
    frame[[USED, UNUSED]] /= factor
    picture(
        "Used and unused by week",
        weekly_split(frame, symbol) if frame[USED].notna().any() else None,
        key=key,
        note="weeks from Monday; the first and the last may be parts of one",
        why="no week was seen well enough",
    )


def _by_week(account: Account, view: View) -> pd.DataFrame:
    columns = ["week", "used", "unused", "used_usd", "unused_usd"]
    first_ms = commitments.since_ms(account.days)
    rows = []
    if first_ms is not None:
        for week in commitments.weeks(Span(first_ms, account.days[-1].span.end_ms), settings()):
            one = commitments.standing(account.contract, settings(), account.days, week)
            if one is not None:
                split = one.rows or (None, None)
                rows.append((f"{local(week.start_ms, view.zone):%d %b}", one.used, one.unused, *split))
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], "float64"))


_TITLES = {
    "covered_ratio": "observed",
    "used_ratio": "used of delivered",
    "reason": "missing",
}


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    amounts = {
        name: number(name.capitalize(), format="localized") for name in ("committed", "delivered", "used", "unused")
    }
    money = {
        "amortised_usd": "Cost (USD)",
        "used_usd": "Used (USD)",
        "unused_usd": "Unused (USD)",
        "usd_per_kw_month": "USD per kW-month",
        "usd_per_available": "USD per unit promised",
        "usd_per_used": "USD per unit used",
        "usd_per_gpu_hour": "USD per GPU-hour used",
        "usd_per_million_output_tokens": "USD per M output tokens",
    }
    return amounts | {name: number(title, format="%.2f") for name, title in money.items()}


def _listed(accounts: Sequence[Account]) -> pd.DataFrame:
    """A row per contract; amounts in its own unit, so far as its term lies in the window."""
    return pd.DataFrame([_row(account) for account in accounts]).astype(
        dict.fromkeys(("used", "unused", "used_ratio", "covered_ratio", *_columns()), "float64")
    )


def _row(account: Account) -> dict[str, object]:
    now = account.now
    row: dict[str, object] = {"contract": account.contract.name, "state": account.state, "unit": account.unit.symbol}
    if now is None:
        return row | dict.fromkeys(("used_ratio", "covered_ratio", *_columns())) | {"reason": "", "label": "missing"}
    rows = now.rows or (None, None)
    return row | {
        "used_ratio": now.used_ratio,
        "committed": now.committed,
        "delivered": now.delivered,
        "used": now.used,
        "unused": now.unused,
        "covered_ratio": now.use.covered_ratio,
        "amortised_usd": now.usd,
        "used_usd": rows[0],
        "unused_usd": rows[1],
        **now.effective._asdict(),
        "reason": "; ".join(part for part in (now.reason, now.money_reason) if part),
        "label": now.quality.value,
    }


def _terms(account: Account, window: Span, view: View) -> list[Term]:
    """Everything that went in, in the order in which it is used."""
    contract, unit = account.contract, account.unit
    number = settings().cost.contract.index(contract)
    source = f"settings: cost.contract.{number}"
    found = [
        Term("price of the term", f"{contract.price:,.2f} {contract.currency}", source),
        Term("term", f"{contract.begins} up to {contract.ends}", source),
        Term("amount", f"{contract.amount:,.6g} {contract.unit.replace('_', ' ')}", source),
        *(Term(f"tranche from {one.begins}", f"{one.amount:,.6g}", source) for one in contract.tranche),
        Term("hosts", ", ".join(contract.hosts) or "all", source),
        Term("models", ", ".join(contract.models) or "all", source),
    ]
    for words_, one in ((_dates(window, view), account.now), ("the term since the first day seen", account.so_far)):
        if one is not None:
            found += _standing_terms(one, unit, account.per, words_)
    return found


def _standing_terms(one: Standing, unit: Unit, per: str, when: str) -> list[Term]:
    unknown = one.money_reason or one.reason or "unknown"
    rows = one.rows or (None, None)
    prices = {
        "kW-month": one.effective.usd_per_kw_month,
        f"{per} promised": one.effective.usd_per_available,
        f"{per} used": one.effective.usd_per_used,
        "GPU-hour held": one.effective.usd_per_gpu_hour,
        "million output tokens": one.effective.usd_per_million_output_tokens,
    }
    return [
        Term(f"committed, {when}", show(one.committed, unit), "amount, as if all were there from the first day"),
        Term("delivered", show(one.delivered, unit), "tranches from their day on"),
        Term("used", show(one.used, unit, unknown=one.reason or "unknown"), _USED_IS[one.contract.unit]),
        Term("observed", f"{one.use.covered_ratio:.1%}", "below 95 % use is filled at its mean, below 50 % not told"),
        Term("cost", show_money(one.usd, unknown=unknown), "price x hours here / hours of the term"),
        Term("cost of the used part", show_money(rows[0], unknown=unknown), "cost x used / delivered, at most all"),
        Term("cost of the unused part", show_money(rows[1], unknown=unknown), "the rest"),
        *(
            Term(f"price per {name}", show_money(usd), "cost / amount")
            for name, usd in prices.items()
            if usd is not None
        ),
    ]


if __name__ == "__main__":
    render()
