"""What pages say of a contract: its use over a window and over its term so far, its units, its weeks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from babel.dates import format_date

from analytics import commitments
from analytics.commitments import Forecast, Phase, Standing, State, Use
from analytics.formulas.local_time import MS_PER_HOUR, Span, local
from analytics.formulas.wastes import COMMITMENT_USE_RATIO
from core.language import _, count, say, spoken
from core.prices import Contract
from core.units import Unit, unit_of
from pages.shared import loaders
from pages.shared.filters import View
from pages.shared.store import settings

DAY_MS = 24 * MS_PER_HOUR
USED_IS = {
    "megawatts": _(
        "energy of the accelerators and CPU packages of its hosts, x PUE where one is given; fans and network of the "
        "hosts are not in it"
    ),
    "gpu_hours": _("hours in which deployments of its models held accelerators of its hosts"),
    "tokens": _("output tokens of its models, by the servers' counters"),
    "money": _("the bill of its hosts, or what tokens of its models cost at hosted prices"),
}
_UNITS = {
    "megawatts": Unit("", "MWh", ((1e6, "TWh"), (1e3, "GWh"), (1, "MWh"), (1e-3, "kWh"))),
    "gpu_hours": Unit("", _("GPU-hours"), ((1, "GPU-hours"),)),
    "tokens": unit_of("output_tokens"),
}
_PER = {"megawatts": "MWh", "gpu_hours": _("GPU-hour"), "tokens": _("M tokens")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that is said of one contract; ``now`` is of the window, ``so_far`` of the term since the first sight."""

    contract: Contract
    state: State
    days_left: int
    days: Sequence[Use]
    now: Standing | None
    so_far: Standing | None
    ahead: Forecast | None

    @property
    def unit(self) -> Unit:
        """What its amounts are in; money in the currency of the contract."""
        money = Unit("", self.contract.currency, ((1, self.contract.currency),), decimals=2)
        return _UNITS.get(self.contract.unit, money)

    @property
    def per(self) -> str:
        """One of what it is priced by, said."""
        return say(_PER.get(self.contract.unit, self.contract.currency))

    @property
    def is_running(self) -> bool:
        """Whether its term has begun and is not over."""
        return self.now is not None and self.days_left > 0

    @property
    def used_ratio(self) -> float | None:
        """Used in the window over what was there."""
        return None if self.now is None else self.now.used_ratio

    @property
    def fits(self) -> bool:
        """Whether as much is used as was bought, more or less."""
        return self.used_ratio is not None and COMMITMENT_USE_RATIO <= self.used_ratio <= 1


def worst_first(account: Account) -> tuple[bool, float]:
    """Sorts accounts by how far use is from what was bought; unknown ones come last."""
    ratio = account.used_ratio
    return ratio is None, 0.0 if ratio is None else min(ratio, 1 / ratio if ratio else 0.0)


def window_of(view: View) -> Span:
    """As long as the range, and a day at the least, up to the last account."""
    end_ms = min(view.end_ms, loaders.accounted_until_ms() or view.end_ms) // MS_PER_HOUR * MS_PER_HOUR
    return Span(end_ms - max((view.end_ms - view.start_ms) // MS_PER_HOUR * MS_PER_HOUR, DAY_MS), end_ms)


def dates(window: Span, view: View) -> str:
    """A window by the clock of the site."""
    begin, end = (f"{local(at_ms, view.zone):%Y-%m-%d %H:%M}" for at_ms in window)
    return say("{begin} to {end}", begin=begin, end=end)


def told(state: State) -> str:
    """Where in its term a contract is, in words."""
    date = day_of(state)
    match state.phase:
        case Phase.AHEAD:
            return count(
                "begins on {date}, in {number} day", "begins on {date}, in {number} days", state.days, date=date
            )
        case Phase.RUNNING:
            return count(
                "running, {number} day left, the last is {date}",
                "running, {number} days left, the last is {date}",
                state.days,
                date=date,
            )
        case Phase.OVER:
            return say("ended on {date}", date=date)


def day_of(state: State) -> str:
    """The day that is to be told of a state, with its weekday."""
    return str(format_date(state.day, "EEEE, yyyy-MM-dd", locale=spoken().locale))


def accounts(window: Span, view: View) -> list[Account]:
    """Of every contract in the settings."""
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


def by_week(account: Account, view: View) -> pd.DataFrame:
    """By week (its first day, in words): used and unused, and the same in money (USD); NaN where unknown."""
    columns = ["week", "used", "unused", "used_usd", "unused_usd"]
    first_ms = commitments.since_ms(account.days)
    rows = []
    if first_ms is not None:
        for week in commitments.weeks(Span(first_ms, account.days[-1].span.end_ms), settings()):
            one = commitments.standing(account.contract, settings(), account.days, week)
            if one is not None:
                split = one.rows or (None, None)
                day = local(week.start_ms, view.zone).date()
                rows.append((format_date(day, "dd MMM", locale=spoken().locale), one.used, one.unused, *split))
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], "float64"))
