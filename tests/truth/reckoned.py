"""What pages ought to show, worked out from raw samples and ``demo.toml`` as docs/numbers.md says, in plain loops."""

from __future__ import annotations

import csv
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from typing import Any
from zoneinfo import ZoneInfo

from tests.demo.test_truth import owned_usd_per_hour
from tests.e2e.daemon import ROOT
from tests.truth.demo import DAY_MS, HOUR_MS
from tests.truth.raw import Raw, Thing

BOOK: dict[str, Any] = tomllib.loads((ROOT / "demo.toml").read_text("utf-8"))
SITES = (*BOOK["site"]["other"], BOOK["site"])  # the main one is what no other claims
PER_USD = {rate["currency"]: rate["per_usd"] for rate in BOOK["cost"]["rate"]}
MXN = PER_USD["MXN"]
HALL = "simulated-mx-*"
JOULES_PER_KWH = 3.6e6
HOURS_PER_MONTH = 730


def site(host: str) -> dict[str, Any]:
    return next(one for one in SITES if any(fnmatch(host, pattern) for pattern in one.get("hosts", ["*"])))


def pue_ratio(host: str) -> float:
    return float(site(host)["pue_ratio"])


def grams_per_kwh(host: str) -> float:
    with (ROOT / "core/hardware/regions.csv").open(encoding="utf-8") as file:
        by_code = {row["code"]: row for row in csv.DictReader(file)}
    return float(by_code[site(host)["country"]]["grid_gco2e_per_kwh"])


def usd_per_kwh(host: str, hour_ms: int) -> float:
    """Of the band that holds in an hour; none changes within one."""
    there = site(host)
    tariff = there["tariff"][0]
    now = f"{datetime.fromtimestamp(hour_ms / 1000, ZoneInfo(there['time_zone'])):%H:%M}"
    for band in tariff["band"]:
        begins, ends = band["begins"], band["ends"]
        if begins <= now < ends or (ends <= begins and (now >= begins or now < ends)):
            return float(band["per_kwh"] / PER_USD[tariff["currency"]])
    raise LookupError(now)


def _price(applies_to: str, name: str) -> dict[str, Any] | None:
    """The first that names a part of it."""
    rows = BOOK["cost"]["hardware"]
    return next((one for one in rows if one["applies_to"] == applies_to and one["match"] in name), None)


def hardware_usd_per_hour(card: Thing, cards_of_host: int) -> tuple[float, bool]:
    """Of a card with its part of the host, and whether its electricity is paid apart from that."""
    own, host = _price("accelerator", card.labels["model"]), _price("host", card.host)
    assert own is not None
    part = owned_usd_per_hour(host) / cards_of_host if host else 0.0
    return (own["per_hour"], False) if own["kind"] == "rented" else (owned_usd_per_hour(own) + part, True)


@dataclass(slots=True)
class CardHour:
    """A card in an hour: what it did, and what that cost."""

    card: Thing
    active_kwh: float  # at the meter, the next as well
    idle_kwh: float
    active_hours: float
    hardware_usd: float
    active_usd: float
    idle_usd: float
    overhead_usd: float = 0.0

    @property
    def direct_usd(self) -> float:
        return self.hardware_usd + self.active_usd + self.idle_usd

    @property
    def total_usd(self) -> float:
        return self.direct_usd + self.overhead_usd

    @property
    def kwh(self) -> float:
        return self.active_kwh + self.idle_kwh


def bill(raw: Raw, start_ms: int, end_ms: int) -> list[CardHour]:
    """Every card in every hour; overhead falls on cards as their own cost does."""
    cards = raw.things("accelerator")
    on = {host: sum(card.host == host for card in cards) for host in {card.host for card in cards}}
    packages = {host: _package_joules(raw, host, start_ms, end_ms) for host in on}
    by_hour: dict[int, list[CardHour]] = defaultdict(list)
    for card in cards:
        seconds: dict[tuple[int, bool], float] = defaultdict(float)
        joules: dict[tuple[int, bool], float] = defaultdict(float)
        for step in raw.steps(card, start_ms, end_ms):
            key = ((step.at_ms - 1) // HOUR_MS * HOUR_MS, step.state == "active")
            seconds[key] += step.seconds
            joules[key] += step.joules
        usd, electricity_on_top = hardware_usd_per_hour(card, on[card.host])
        for hour_ms in range(start_ms, end_ms, HOUR_MS):
            worked = seconds[hour_ms, True] / 3600
            part = packages[card.host][hour_ms] / on[card.host]
            to_kwh = pue_ratio(card.host) / JOULES_PER_KWH
            active = (joules[hour_ms, True] + part * worked) * to_kwh
            idle = (joules[hour_ms, False] + part * (1 - worked)) * to_kwh
            tariff = usd_per_kwh(card.host, hour_ms) if electricity_on_top else 0.0
            by_hour[hour_ms].append(CardHour(card, active, idle, worked, usd, active * tariff, idle * tariff))
    overhead = sum(one["per_month"] for one in BOOK["cost"]["overhead"]) / HOURS_PER_MONTH
    for rows in by_hour.values():
        direct = sum(row.direct_usd for row in rows)
        for row in rows:
            row.overhead_usd = overhead * row.direct_usd / direct
    return [row for rows in by_hour.values() for row in rows]


def _package_joules(raw: Raw, host: str, start_ms: int, end_ms: int) -> dict[int, float]:
    """Energy of all CPU packages of a host, by hour."""
    found: dict[int, float] = defaultdict(float)
    for socket in (one for one in raw.things("cpu") if one.host == host):
        at = raw.samples(socket, "cpu", "energy_joules_total", start_ms, end_ms)
        for hour_ms in range(start_ms, end_ms, HOUR_MS):
            found[hour_ms] += at[hour_ms + HOUR_MS] - at[hour_ms]
    return found


def quantile(q: float, histogram: list[tuple[float, float]]) -> float:
    """Linear within its bucket (s)."""
    rank, below, lower = q * sum(count for _, count in histogram), 0.0, 0.0
    for bound, count in histogram:
        if below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    raise LookupError(q)


def within(bound: float, histogram: list[tuple[float, float]]) -> float:
    return sum(count for upper, count in histogram if upper <= bound)


def delivered_mwh(start_ms: int, end_ms: int) -> float:
    """Of the hall: tranches from their day on."""
    (contract,) = BOOK["cost"]["contract"]
    zone, total = ZoneInfo(BOOK["site"]["time_zone"]), 0.0
    for hour_ms in range(start_ms, end_ms, HOUR_MS):
        day = datetime.fromtimestamp(hour_ms / 1000, zone).date()
        total += sum(one["amount"] for one in contract["tranche"] if one["begins"] <= day)
    return total


def contract_usd(start_ms: int, end_ms: int) -> float:
    """The even part of the hall's price."""
    (contract,) = BOOK["cost"]["contract"]
    days = (contract["ends"] - contract["begins"]).days
    return float(contract["price"] * (end_ms - start_ms) / DAY_MS / days)


def hall(rows: Iterable[CardHour]) -> list[CardHour]:
    return [row for row in rows if fnmatch(row.card.host, HALL)]
