"""Sites in the settings: where machines stand, what electricity costs there and when, and how clean it is."""

from __future__ import annotations

import re
from datetime import date, time
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator

from core.hardware.regions import regions
from core.section import Currency, Day, Name, NotNegative, Number, Section

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
_MINUTES_PER_DAY = 24 * 60
_MINUTES_PER_WEEK = 7 * _MINUTES_PER_DAY


def matches(pattern: str, name: str) -> bool:
    """Whether a shell pattern such as ``gpu-*`` fits a whole name, upper and lower case alike."""
    return fnmatchcase(name.casefold(), pattern.casefold())


def _time(value: object) -> time:
    """A time of day by the minute; ``24:00``, as people write the end of a day, is the next one's midnight."""
    if value == "24:00":
        return time()
    if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError('expected a time of day in quotes such as "18:00"')
    return time.fromisoformat(value)


_TimeOfDay = Annotated[time, BeforeValidator(_time)]


class TariffBand(Section):
    """A price of electricity at some times of the week.

    A band that ends no later than it begins crosses midnight; ``days`` are those it begins on.
    """

    begins: _TimeOfDay
    ends: _TimeOfDay
    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] = WEEKDAYS
    per_kwh: NotNegative

    def minutes(self) -> list[int]:
        """Minutes of the week in which it holds, counted from Monday 00:00."""
        first, end = (at.hour * 60 + at.minute for at in (self.begins, self.ends))
        length = (end - first) % _MINUTES_PER_DAY or _MINUTES_PER_DAY
        days = [WEEKDAYS.index(day) * _MINUTES_PER_DAY for day in set(self.days)]
        return [(day + first + minute) % _MINUTES_PER_WEEK for day in days for minute in range(length)]


class TariffVersion(Section):
    """What electricity costs from a day on: one price, or bands that share out the week."""

    valid_from: Day | None = None
    currency: Currency = "USD"
    per_kwh: NotNegative | None = None
    band: tuple[TariffBand, ...] = ()
    demand_per_kw_month: NotNegative = 0.0

    @field_validator("band")
    @classmethod
    def _shares_out_the_week(cls, bands: tuple[TariffBand, ...]) -> tuple[TariffBand, ...]:
        prices = [0] * _MINUTES_PER_WEEK
        for band in bands:
            for minute in band.minutes():
                prices[minute] += 1
        wrong = next((minute for minute, count in enumerate(prices) if count != 1), None)
        if bands and wrong is not None:
            day, minute = divmod(wrong, _MINUTES_PER_DAY)
            raise ValueError(
                f"expected one price for every time of the week, got {prices[wrong] or 'none'} "
                f"for {WEEKDAYS[day]} {time(*divmod(minute, 60)):%H:%M}"
            )
        return bands

    @model_validator(mode="after")
    def _flat_or_by_time(self) -> Self:
        if (self.per_kwh is None) == (not self.band):
            raise ValueError("expected per_kwh or band, one of them")
        return self


class Place(Section):
    """What is to be known of a site. Where nothing is said of price or grid, those of the country stand in."""

    name: Name = "this site"
    time_zone: str = "UTC"
    country: str | None = None
    pue_ratio: Annotated[Number, Field(ge=1, le=5)] | None = None
    usd_per_kwh: NotNegative | None = None
    tariff: tuple[TariffVersion, ...] = ()
    grid_gco2e_per_kwh: NotNegative | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError("expected an IANA time zone such as America/Santiago")
        return zone

    @field_validator("country")
    @classmethod
    def _known_country(cls, country: str | None) -> str | None:
        if country is not None and country not in regions():
            raise ValueError(f"expected one of {', '.join(sorted(regions()))}; elsewhere set price and grid factor")
        return country

    @field_validator("tariff")
    @classmethod
    def _one_after_the_other(cls, versions: tuple[TariffVersion, ...]) -> tuple[TariffVersion, ...]:
        if len({version.valid_from for version in versions}) < len(versions):
            raise ValueError("expected a different valid_from in every version")
        return versions

    @model_validator(mode="after")
    def _one_tariff(self) -> Self:
        if self.usd_per_kwh is not None and self.tariff:
            raise ValueError("expected usd_per_kwh or tariff, not both")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The zone of its days, weeks and tariff."""
        return ZoneInfo(self.time_zone)

    def version_on(self, day: date) -> int | None:
        """Index of the tariff's version that holds on a day of its zone; ``None`` before the first."""
        begun = [
            (one.valid_from or date.min, index)
            for index, one in enumerate(self.tariff)
            if one.valid_from is None or one.valid_from <= day
        ]
        return max(begun)[1] if begun else None


class OtherSite(Place):
    """A site of the hosts it names."""

    name: Name
    hosts: Annotated[tuple[Name, ...], Field(min_length=1)]


class Site(Place):
    """The site of all hosts that no other names; its zone is that of reports."""

    other: tuple[OtherSite, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [self.name, *(site.name for site in self.other)]
        if len(set(names)) < len(names):
            raise ValueError("expected a different name for every site")
        return self
