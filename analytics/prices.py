"""What the price book of the settings says at an instant, in USD. Where a rate is missing, the reason stands instead.

A window over which a price changes is to be cut at ``price_cuts``: between two of them every answer is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from analytics.formulas import hosted
from analytics.formulas.cost import owned_usd_per_hour
from analytics.formulas.energy import Quality
from analytics.formulas.local_time import MIDNIGHT, Span, instant_ms, local
from analytics.formulas.tariff import Band, Tariff, pieces
from analytics.formulas.unknown import per, product
from core.hardware.regions import Region, regions
from core.language import _
from core.prices import HostedPrice, OwnedPrice, Price, RentedPrice
from core.settings import Settings
from core.sites import WEEKDAYS, Place, TariffVersion, matches
from core.texts import Text, text

_KINDS = {"owned": _("owned"), "rented": _("rented")}

NO_RATE = "no exchange rate for"


class Converted(NamedTuple):
    """An amount in another currency and the day of the oldest rate used; ``None`` with the reason where one lacks."""

    amount: float | None
    rate_on: date | None = None
    reason: str = ""

    def noted(self, source: Text) -> Text:
        """A source with the rate's day behind it, where a rate was needed."""
        if self.rate_on is None:
            return source
        return text(_("{source}, at the exchange rate of {day}"), source=source, day=str(self.rate_on))


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyPrice:
    """Fixed cost per hour (USD/h) and whether electricity comes on top of it; unknown for a ``reason`` only."""

    usd_per_hour: float | None
    electricity_on_top: bool
    source: Text
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectricityPrice:
    """Tariff (USD/kWh at the meter) and the price of a month's highest demand; unknown for a ``reason`` only."""

    tariff: Tariff | None
    demand_usd_per_kw_month: float | None
    source: Text
    quality: Quality
    reason: str = ""


class EnergyPrice(NamedTuple):
    """Price of energy (USD/kWh) over a window; unknown for a ``reason``, or because none was given."""

    usd_per_kwh: float | None
    source: Text
    quality: Quality
    reason: str = ""


class GridFactor(NamedTuple):
    """Emissions of electricity (g CO2e per kWh) by the location, and where that figure is from."""

    grams_per_kwh: float
    source: Text
    quality: Quality


class SiteFound(NamedTuple):
    """A site of the settings and the key that it stands at."""

    key: str
    place: Place


def site_of(settings: Settings, host: str) -> SiteFound:
    """The first site that names the host, else the one of all others."""
    for index, site in enumerate(settings.site.other):
        if any(matches(pattern, host) for pattern in site.hosts):
            return SiteFound(f"site.other.{index}", site)
    return SiteFound("site", settings.site)


def to_currency(settings: Settings, amount: float, given: str, wanted: str, at_ms: int) -> Converted:
    """An amount at the latest exchange rates known on the day of an instant.

    Args:
        settings: with the rates, all of them against USD.
        amount: in the currency ``given``.
        given: its currency, ISO 4217.
        wanted: the currency to have it in.
        at_ms: Unix ms; its day is that of the main site.
    """
    if given == wanted:
        return Converted(amount)
    day = local(at_ms, settings.site.zone).date()
    dates = []
    for currency, exponent in ((given, -1), (wanted, 1)):
        if currency == "USD":
            continue
        known = [(rate.on, rate.per_usd) for rate in settings.cost.rate if rate.currency == currency and rate.on <= day]
        if not known:
            return Converted(None, reason=f"{NO_RATE} {currency}")
        on, per_usd = max(known)
        amount *= per_usd**exponent
        dates.append(on)
    return Converted(amount, min(dates))


def hourly_price(
    settings: Settings, applies_to: Literal["accelerator", "host"], name: str, host: str, at_ms: int
) -> HourlyPrice | None:
    """The first price that holds and whose ``match`` is part of the name; ``None`` when no price was given.

    Args:
        settings: with the prices.
        applies_to: which level of prices to look at.
        name: of the device or host.
        host: where it is; its site's zone tells which day it is.
        at_ms: Unix ms.
    """
    day = local(at_ms, site_of(settings, host).place.zone).date()
    for index, price in enumerate(settings.cost.hardware):
        if price.applies_to == applies_to and price.match.casefold() in name.casefold() and price.holds_on(day):
            rate = to_currency(settings, 1.0, price.currency, "USD", at_ms)
            return HourlyPrice(
                usd_per_hour=None if rate.amount is None else _usd_per_hour(price, rate.amount),
                electricity_on_top=isinstance(price, OwnedPrice) and not price.hosting_includes_electricity,
                source=rate.noted(
                    text(_("settings: {key} ({kind})"), key=f"cost.hardware.{index}", kind=text(_KINDS[price.kind]))
                ),
                reason=rate.reason,
            )
    return None


def _usd_per_hour(price: RentedPrice | OwnedPrice, usd: float) -> float:
    """What a price makes per hour (USD); ``usd`` is what one of its currency is worth."""
    if isinstance(price, RentedPrice):
        return price.per_hour * usd
    return owned_usd_per_hour(
        capex_usd=price.capex * usd,
        residual_usd=price.residual * usd,
        life_years=price.life_years,
        capital_cost_ratio=price.capital_cost_ratio,
        maintenance_ratio=price.maintenance_ratio,
        hosting_usd_per_kw_month=price.hosting_per_kw_month * usd,
        contracted_kilowatts=price.contracted_watts / 1000,
    )


def hosted_usd(settings: Settings, offer: HostedPrice, tokens: hosted.HostedTokens, at_ms: int) -> float | None:
    """Tokens at a hosted API's list price (USD); unknown where a count, a price or an exchange rate is."""
    price = hosted.HostedPrice(
        input_usd_per_million=offer.per_million_input,
        cached_usd_per_million=offer.per_million_cached,
        output_usd_per_million=offer.per_million_output,
    )
    usd = to_currency(settings, 1.0, offer.currency, "USD", at_ms).amount
    return product(hosted.hosted_usd(tokens, price), usd)


def tariff_at(settings: Settings, site: SiteFound, at_ms: int) -> ElectricityPrice | None:
    """What electricity costs at a site, on average of its country where no price was given; ``None`` without either."""
    key, place = site
    if place.usd_per_kwh is not None:
        return _flat(place, place.usd_per_kwh, _settings(f"{key}.usd_per_kwh"), Quality.MEASURED)
    if place.tariff:
        index = place.version_on(local(at_ms, place.zone).date())
        if index is None:
            return None
        version = place.tariff[index]
        rate = to_currency(settings, 1.0, version.currency, "USD", at_ms)
        return ElectricityPrice(
            tariff=None if rate.amount is None else _tariff(place.zone, _bands(version, rate.amount)),
            demand_usd_per_kw_month=None if rate.amount is None else version.demand_per_kw_month * rate.amount,
            source=rate.noted(_settings(f"{key}.tariff.{index}")),
            quality=Quality.MEASURED,
            reason=rate.reason,
        )
    region = _region(place)
    if region is None or region.usd_per_kwh is None:
        return None
    source = _default(region, region.price_period, region.price_source)
    return _flat(place, region.usd_per_kwh, source, Quality.ESTIMATED)


def energy_price(settings: Settings, site: SiteFound, span: Span) -> EnergyPrice:
    """Price of energy that was used over a span, by the tariff at its end; of bands the mean, as if used evenly."""
    price = tariff_at(settings, site, span.end_ms - 1)
    if price is None:
        return EnergyPrice(None, _settings(f"{site.key}.usd_per_kwh"), Quality.MISSING)
    if price.tariff is None:
        return EnergyPrice(None, price.source, Quality.MISSING, price.reason)
    if len(price.tariff.bands) == 1:
        return EnergyPrice(price.tariff.bands[0].usd_per_kwh, price.source, price.quality)
    mean = _mean_usd_per_kwh(price.tariff, span)
    source = text(_("{source}, mean of its bands by the hours they hold"), source=price.source)
    return EnergyPrice(mean, source, Quality.ESTIMATED)


@lru_cache(maxsize=256)  # every device of a site asks the same
def _mean_usd_per_kwh(tariff: Tariff, span: Span) -> float | None:
    return per(sum(piece.span.hours * piece.band.usd_per_kwh for piece in pieces(tariff, span)), span.hours)


def _flat(place: Place, usd_per_kwh: float, source: Text, quality: Quality) -> ElectricityPrice:
    tariff = _tariff(place.zone, (Band(usd_per_kwh=usd_per_kwh),))
    return ElectricityPrice(tariff=tariff, demand_usd_per_kw_month=0.0, source=source, quality=quality)


@lru_cache(maxsize=256)  # each tariff made looks through its week for a time without a price
def _tariff(zone: ZoneInfo, bands: tuple[Band, ...]) -> Tariff:
    return Tariff(zone, bands)


def _bands(version: TariffVersion, usd: float) -> tuple[Band, ...]:
    if version.per_kwh is not None:
        return (Band(usd_per_kwh=version.per_kwh * usd),)
    return tuple(
        Band(
            usd_per_kwh=band.per_kwh * usd,
            begins=band.begins,
            ends=band.ends,
            weekdays=frozenset(map(WEEKDAYS.index, band.days)),
        )
        for band in version.band
    )


def grid_factor(site: SiteFound) -> GridFactor | None:
    """Emissions of a site's electricity; its country's where none were given, ``None`` without either."""
    key, place = site
    if place.grid_gco2e_per_kwh is not None:
        return GridFactor(place.grid_gco2e_per_kwh, _settings(f"{key}.grid_gco2e_per_kwh"), Quality.MEASURED)
    region = _region(place)
    if region is None:
        return None
    source = _default(region, region.grid_year, region.grid_source)
    if region.notes:
        source = text(_("{source}; {notes}"), source=source, notes=region.notes)
    return GridFactor(region.grid_gco2e_per_kwh, source, Quality.ESTIMATED)


def _settings(key: str) -> Text:
    return text(_("settings: {key}"), key=key)


def _default(region: Region, when: object, source: str) -> Text:
    return text(_("default of {country}, {when}, {source}"), country=region.code, when=str(when), source=source)


def _region(place: Place) -> Region | None:
    return None if place.country is None else regions()[place.country]


def price_cuts(settings: Settings, start_ms: int, end_ms: int) -> tuple[int, ...]:
    """Instants (Unix ms) inside a window at which a price, or the exchange rate of its currency, changes, in order."""
    cost, main = settings.cost, settings.site
    sites = (main, *main.other)
    versions = [(version, site.zone) for site in sites for version in site.tariff]
    terms = (*cost.hardware, *cost.hosted, *cost.overhead, *cost.contract)
    currencies = {one.currency for one in (*terms, *(version for version, _ in versions))}
    days = [(version.valid_from, zone) for version, zone in versions]
    days += [(day, site.zone) for price in cost.hardware for day in _bounds(price) for site in sites]
    days += [(day, main.zone) for price in (*cost.hosted, *cost.overhead) for day in _bounds(price)]
    days += [
        (day, main.zone) for one in cost.contract for day in (one.begins, one.ends, *(t.begins for t in one.tranche))
    ]
    days += [(rate.on, main.zone) for rate in cost.rate if rate.currency in currencies]
    cuts = {instant_ms(day, MIDNIGHT, zone) for day, zone in days if day is not None}
    return tuple(sorted(cut for cut in cuts if start_ms < cut < end_ms))


def _bounds(price: Price) -> tuple[date | None, date | None]:
    return price.valid_from, price.valid_to
