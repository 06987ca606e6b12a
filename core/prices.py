"""The price book in the settings: hardware, hosted APIs, overhead, contracts and exchange rates.

Each price names its currency and the days from which and until which it holds. What it makes at an instant is
``analytics.prices``.
"""

from __future__ import annotations

import math
from datetime import date
from itertools import combinations
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from core.section import Currency, Day, Name, NotNegative, Positive, Ratio, Section


class Price(Section):
    """A price in a currency, from the first day on which it holds until the first on which it no longer does.

    Of those whose keys in ``ONE_FOR`` are the same, at most one may hold at a time.
    """

    ONE_FOR: ClassVar[tuple[str, ...]]

    currency: Currency = "USD"
    valid_from: Day | None = None
    valid_to: Day | None = None

    @model_validator(mode="after")
    def _holds_some_time(self) -> Self:
        if self._begins >= self._ends:
            raise ValueError("expected valid_from before valid_to")
        return self

    @property
    def _begins(self) -> date:
        return self.valid_from or date.min

    @property
    def _ends(self) -> date:
        return self.valid_to or date.max

    def holds_on(self, day: date) -> bool:
        """Whether it is the price on a day."""
        return self._begins <= day < self._ends

    def meets(self, other: Self) -> bool:
        """Whether both are the price of the same on some day; names are the same in upper and lower case."""
        same = all(getattr(self, key).casefold() == getattr(other, key).casefold() for key in self.ONE_FOR)
        return same and self._begins < other._ends and other._begins < self._ends


_Price = TypeVar("_Price", bound=Price)


def _one_at_a_time(prices: tuple[_Price, ...]) -> tuple[_Price, ...]:
    for (first, one), (second, other) in combinations(enumerate(prices), 2):
        if one.meets(other):
            raise ValueError(
                f"expected one price at a time, but {first} and {second} have the same {' and '.join(one.ONE_FOR)} "
                "and hold at once; end one with valid_to"
            )
    return prices


_OneAtATime = AfterValidator(_one_at_a_time)


class _HardwarePrice(Price):
    """Which devices or hosts it is for: those whose name ``match`` is part of."""

    ONE_FOR = ("applies_to", "match")

    applies_to: Literal["accelerator", "host"]
    match: str = ""


class RentedPrice(_HardwarePrice):
    """Hardware paid by the hour; its electricity is inside the rent."""

    kind: Literal["rented"]
    per_hour: NotNegative


class OwnedPrice(_HardwarePrice):
    """Hardware that was bought; electricity comes on top unless hosting includes it."""

    kind: Literal["owned"]
    capex: NotNegative
    residual: NotNegative = 0.0
    life_years: Positive = 4.0
    capital_cost_ratio: Ratio = 0.0
    maintenance_ratio: Ratio = 0.0
    hosting_per_kw_month: NotNegative = 0.0
    contracted_watts: NotNegative = 0.0
    hosting_includes_electricity: bool = False

    @model_validator(mode="after")
    def _residual_below_capex(self) -> Self:
        if self.residual > self.capex:
            raise ValueError("expected residual <= capex")
        return self


HardwarePrice = Annotated[RentedPrice | OwnedPrice, Field(discriminator="kind")]


class HostedPrice(Price):
    """List price of a hosted API per million tokens; without ``per_million_cached``, cached tokens have none."""

    ONE_FOR = ("model", "endpoint")

    model: Name
    endpoint: Name = "*"
    per_million_input: NotNegative
    per_million_cached: NotNegative | None = None
    per_million_output: NotNegative


class Overhead(Price):
    """What is paid by the month whatever runs: staff, network, licences."""

    ONE_FOR = ("name",)

    name: Name
    per_month: NotNegative


class Tranche(Section):
    """A part of what a contract promises, there from a day on."""

    begins: Day
    amount: Positive


class Contract(Section):
    """Capacity, use or money promised for a term, at a price for the whole of it.

    ``estimate`` marks a contract whose terms are bounds ("up to 750 MW"): every figure made from it is an estimate.
    """

    name: Name
    unit: Literal["megawatts", "gpu_hours", "tokens", "money"]
    amount: Positive
    price: NotNegative
    currency: Currency = "USD"
    begins: Day
    ends: Day
    tranche: tuple[Tranche, ...] = ()
    hosts: tuple[Name, ...] = ()
    models: tuple[Name, ...] = ()
    estimate: bool = False

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.begins >= self.ends:
            raise ValueError("expected begins before ends")
        if any(not self.begins <= one.begins < self.ends for one in self.tranche):
            raise ValueError("expected every tranche to begin within the contract")
        if self.tranche and not math.isclose(sum(one.amount for one in self.tranche), self.amount):
            raise ValueError(f"expected tranches that add up to amount = {self.amount:g}")
        return self


class Rate(Section):
    """What a US dollar cost in a currency on a day; it holds until the next one."""

    currency: Currency
    on: Day
    per_usd: Positive

    @field_validator("currency")
    @classmethod
    def _not_the_dollar(cls, currency: str) -> str:
        if currency == "USD":
            raise ValueError("expected another currency than USD: a rate is its price of a US dollar")
        return currency


class CostSettings(Section):
    """Prices. Without any, pages show energy and J per token and ask for a price.

    ``flexible_models`` are patterns of models whose work can wait for cheap hours.
    """

    output_weight_ratio: Positive = 4.0
    currency: Currency = "USD"
    flexible_models: tuple[Name, ...] = ()
    hardware: Annotated[tuple[HardwarePrice, ...], _OneAtATime] = ()
    hosted: Annotated[tuple[HostedPrice, ...], _OneAtATime] = ()
    overhead: Annotated[tuple[Overhead, ...], _OneAtATime] = ()
    contract: tuple[Contract, ...] = ()
    rate: tuple[Rate, ...] = ()

    @field_validator("contract")
    @classmethod
    def _told_apart(cls, contracts: tuple[Contract, ...]) -> tuple[Contract, ...]:
        if len({contract.name for contract in contracts}) < len(contracts):
            raise ValueError("expected a different name in every [[cost.contract]]")
        return contracts

    @field_validator("rate")
    @classmethod
    def _one_rate_a_day(cls, rates: tuple[Rate, ...]) -> tuple[Rate, ...]:
        if len({(rate.currency, rate.on) for rate in rates}) < len(rates):
            raise ValueError("expected one rate for a currency and day")
        return rates
