"""The bill of random fleets through a real store, against a plain sum over their hours and devices."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.demand import monthly_peaks
from analytics.device_hours import device_hours, device_stretches
from analytics.ledger import LINES, Bill, Key, Ledger, bill, bills, deployment_bills, flat_edges, ledger
from core.readings import AcceleratorSample, Assignment, CpuSample, Entity, Reading
from core.settings import Settings, StorageSettings
from storage import queries
from storage.engine import reader_engine, writer_engine
from storage.upkeep import Upkeep
from storage.writer import Writer
from tests.conftest import Store

HOUR_MS = 3_600_000
HOURS = 12
BEGIN = datetime(2025, 10, 31, 18, tzinfo=ZoneInfo("UTC"))  # a month ends in the window, whatever the zone
BEGIN_MS = int(BEGIN.timestamp()) * 1000
STEP_MINUTES = 6  # longer than a lull that still counts as work
SEEN_MINUTES = 36  # of an hour of which the rest, more than three steps, is not seen
CENT = 0.005
PER_USD = {"USD": 1.0, "CLP": 900.0}
MODELS = ("MI300X", "H100")
KEYS: tuple[Key, ...] = ("site", "host", "vendor", "model", "name")


# --- the fleet as it is ---


@dataclass(frozen=True)
class Card:
    """What it does in each of its hours; it has a counter, or tells power, which is then the same at all times."""

    host: str
    model: str
    first_hour: int
    is_late: bool  # it comes in the middle of that hour
    kinds: tuple[str, ...]
    watts: dict[str, float]
    has_counter: bool

    @property
    def begin_minute(self) -> int:
        return 60 * self.first_hour + 30 * self.is_late

    @property
    def end_minute(self) -> int:
        return 60 * (self.first_hour + len(self.kinds))

    def kind(self, hour: int) -> str | None:
        return self.kinds[hour - self.first_hour] if 0 <= hour - self.first_hour < len(self.kinds) else None

    def there(self, hour: int) -> float:
        return 0.0 if self.kind(hour) is None else 0.5 if self.is_late and hour == self.first_hour else 1.0

    def used_kwh(self, hour: int) -> float:
        kind = self.kind(hour)
        return 0.0 if kind is None else self.watts[kind] * self.there(hour) / 1000

    def seen_kwh(self, hour: int) -> float:
        unseen = self.kind(hour) == "partly" and not self.has_counter
        return self.used_kwh(hour) * (SEEN_MINUTES / 60 if unseen else 1.0)

    def active_kwh(self, hour: int) -> float:
        """A counter goes on while nobody looks, and what it counts then is of no state; seen power stands for a gap."""
        parts = {"active": 1.0, "partly": SEEN_MINUTES / 60 if self.has_counter else 1.0}
        return self.used_kwh(hour) * parts.get(self.kind(hour) or "", 0.0)


@dataclass(frozen=True)
class Fleet:
    cards: tuple[Card, ...]
    package_watts: dict[str, float]  # by host
    held: tuple[tuple[str, tuple[int, ...], float], ...]  # deployment, cards, from which hour on
    sites: dict[str, dict[str, Any]]  # by the first letter of a host
    own_price: dict[str, tuple[str, float] | None]  # kind and USD per hour, by model
    host_price: tuple[str, float] | None
    overhead_per_month: float


usd = st.integers(1, 50).map(lambda cents: cents / 10)
maybe = st.booleans()
price = st.tuples(st.sampled_from(["owned", "rented", "hosted"]), usd)
times = st.sampled_from(["00:00", "07:15", "18:30", "22:00"])
bands = st.tuples(times, times, usd, usd).filter(lambda band: band[0] != band[1])


@st.composite
def cards(draw: st.DrawFn) -> Card:
    first, has_counter = draw(st.integers(0, 5)), draw(maybe)
    seen = st.sampled_from(["active", "parked", "free"])
    inside = st.sampled_from(["active", "parked", "free", "partly", *["silent"] * has_counter])
    middle = draw(st.lists(inside, max_size=HOURS - first - 2))
    watts = draw(st.tuples(*[st.integers(50, 900)] * 3)) if has_counter else (draw(st.integers(50, 900)),) * 3
    powers = dict(zip(["active", "parked", "free"], map(float, watts), strict=True))
    return Card(
        host=draw(st.sampled_from(["main-1", "main-2", "edge-1"])),
        model=draw(st.sampled_from(MODELS)),
        first_hour=first,
        is_late=draw(maybe),
        kinds=(draw(seen), *middle, draw(seen)),
        watts=powers | {"partly": powers["active"], "silent": powers["active"]},
        has_counter=has_counter,
    )


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Any]:
    def version(valid_from: str | None) -> dict[str, Any]:
        begins, ends, high, low = draw(bands)
        banded = {
            "band": [
                {"begins": begins, "ends": ends, "per_kwh": high},
                {"begins": ends, "ends": begins, "per_kwh": low},
            ]
        }
        return {
            "valid_from": valid_from,
            "currency": draw(st.sampled_from(list(PER_USD))),
            "demand_per_kw_month": draw(st.sampled_from([0.0, 900.0, 5000.0])),
            **(banded if draw(maybe) else {"per_kwh": high}),
        }

    later = draw(st.sampled_from([None, "2025-10-31", "2025-11-01"]))
    return {
        "time_zone": draw(st.sampled_from(["UTC", "America/Santiago", "Asia/Kolkata"])),
        "pue_ratio": draw(st.sampled_from([None, 1.3])),
        "tariff": [version(None), *([] if later is None else [version(later)])],
    }


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    found = tuple(draw(st.lists(cards(), min_size=1, max_size=4)))
    some = st.lists(st.sampled_from(range(len(found))), min_size=1, unique=True).map(tuple)
    held = {name: (draw(some), draw(st.integers(0, 4 * HOURS)) / 4) for name in draw(st.sampled_from(["", "a", "ab"]))}
    host_price = draw(st.none() | price)
    return Fleet(
        cards=found,
        package_watts={host: draw(st.integers(20, 400)) for host in {card.host for card in found} if draw(maybe)},
        held=tuple((name, *one) for name, one in held.items()),
        sites={"m": draw(sites()), "e": draw(sites())},
        own_price={model: draw(price if host_price is None else st.none() | price) for model in MODELS},
        host_price=host_price,
        overhead_per_month=draw(st.sampled_from([0.0, 7300.0])),
    )


# --- as it is told ---


def readings(fleet: Fleet) -> Iterator[Reading]:
    for number, card in enumerate(fleet.cards):
        at_ms = BEGIN_MS + card.begin_minute * 60_000
        labels = {"vendor": "AMD" if card.model == "MI300X" else "NVIDIA", "model": card.model, "index": str(number)}
        yield Entity(observed_at_ms=at_ms, family="accelerator", key=str(number), host=card.host, labels=labels)
        joules = 0.0
        for minute in range(card.begin_minute, card.end_minute + 1, STEP_MINUTES):
            kind = card.kind((minute - 1) // 60) or card.kinds[0]  # of the step that ends here
            joules += 60 * STEP_MINUTES * card.watts[kind] if minute > card.begin_minute else 0.0
            is_inside = minute % 60 != 0
            if is_inside and (kind == "silent" or (kind == "partly" and minute % 60 > SEEN_MINUTES)):
                continue
            yield AcceleratorSample(
                key=str(number),
                observed_at_ms=BEGIN_MS + minute * 60_000,
                processes=int(kind != "free"),
                utilization_ratio=0.9 if kind in ("active", "partly") else 0.0,
                energy_joules_total=joules if card.has_counter else None,
                power_watts=None if card.has_counter else card.watts[kind],
            )
    for host, watts in fleet.package_watts.items():
        yield Entity(observed_at_ms=BEGIN_MS, family="cpu", key=f"{host}/0", host=host)
        for minute in range(0, 60 * HOURS + 1, STEP_MINUTES):
            at_ms = BEGIN_MS + minute * 60_000
            yield CpuSample(key=f"{host}/0", observed_at_ms=at_ms, energy_joules_total=60 * minute * watts)
    for name, targets, hour in fleet.held:
        yield Entity(observed_at_ms=BEGIN_MS, family="deployment", key=name, host="main-1", labels={"model": name})
        yield Assignment(
            deployment_key=name,
            target_family="accelerator",
            target_keys=tuple(map(str, targets)),
            origin="processes",
            observed_at_ms=BEGIN_MS + round(hour * HOUR_MS),
        )


def hardware(applies_to: str, match: str, kind: str, per_hour: float) -> dict[str, object]:
    of = {"applies_to": applies_to, "match": match}
    if kind == "rented":
        return {**of, "kind": "rented", "per_hour": per_hour}
    has_power = kind == "hosted"
    return {**of, "kind": "owned", "capex": 35_040 * per_hour, "hosting_includes_electricity": has_power}


def book(fleet: Fleet) -> Settings:
    own = [hardware("accelerator", model, *one) for model, one in fleet.own_price.items() if one is not None]
    around = [] if fleet.host_price is None else [hardware("host", "", *fleet.host_price)]
    cost = {
        "hardware": [*own, *around],
        "overhead": [{"name": "staff", "per_month": fleet.overhead_per_month}],
        "rate": [{"currency": "CLP", "on": "2025-10-01", "per_usd": PER_USD["CLP"]}],
    }
    edge = {"name": "edge", "hosts": ["edge-*"], **fleet.sites["e"]}
    return Settings(cost=cost, site={**fleet.sites["m"], "other": [edge]})  # type: ignore[arg-type]


# --- a bill made by hand ---


def version_at(site: dict[str, Any], at: datetime) -> dict[str, Any]:
    day = at.astimezone(ZoneInfo(site["time_zone"])).date()
    return [one for one in site["tariff"] if one["valid_from"] is None or one["valid_from"] <= str(day)][-1]


def usd_per_kwh(site: dict[str, Any], at: datetime) -> float:
    """Mean of the minutes of an hour."""
    version = version_at(site, at)
    if "per_kwh" in version:
        return version["per_kwh"] / PER_USD[version["currency"]]
    first, second = version["band"]
    begins, ends = first["begins"], first["ends"]
    minutes = 0
    for minute in range(60):
        clock = f"{(at + timedelta(minutes=minute)).astimezone(ZoneInfo(site['time_zone'])):%H:%M}"
        minutes += begins <= clock < ends if begins < ends else clock >= begins or clock < ends
    mean = (first["per_kwh"] * minutes + second["per_kwh"] * (60 - minutes)) / 60
    return mean / PER_USD[version["currency"]]


def demand_usd_per_kwh(fleet: Fleet, letter: str, at: datetime) -> float:
    """Price of a kW-month in an hour, times the kW-months of its month for each kWh of that month."""
    site = fleet.sites[letter]
    zone, version = ZoneInfo(site["time_zone"]), version_at(site, at)
    now = at.astimezone(zone)
    month = datetime(now.year, now.month, 1, tzinfo=zone).astimezone(BEGIN.tzinfo)
    after = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=zone).astimezone(BEGIN.tzinfo)
    here = [card for card in fleet.cards if card.host[0] == letter]
    packages = {host: watts for host, watts in fleet.package_watts.items() if host[0] == letter}
    kwh = [
        sum(card.seen_kwh(hour) for card in here) + sum(packages.values()) / 1000
        for hour in range(HOURS)
        if month <= BEGIN + timedelta(hours=hour) < after
    ]
    first = 0 if packages else min(card.begin_minute for card in here)
    last = 60 * HOURS if fleet.package_watts else max(card.end_minute for card in fleet.cards)
    begin, end = max(month, BEGIN + timedelta(minutes=first)), min(after, BEGIN + timedelta(minutes=last))
    months = max(kwh) * (end - begin) / (after - month)
    return version["demand_per_kw_month"] / PER_USD[version["currency"]] * months / sum(kwh)


def by_hand(fleet: Fleet) -> dict[str, float]:
    lines = dict.fromkeys(LINES, 0.0)
    for hour in range(HOURS):
        at = BEGIN + timedelta(hours=hour)
        there = [card for card in fleet.cards if card.there(hour)]
        if there:
            lines["overhead_usd"] += fleet.overhead_per_month / 730
        for card in there:
            site = fleet.sites[card.host[0]]
            parts = sum(one.host == card.host for one in fleet.cards)
            own, around = fleet.own_price[card.model], fleet.host_price
            per_hour = (own[1] if own else 0.0) + (around[1] / parts if around else 0.0)
            lines["hardware_usd"] += per_hour * card.there(hour)
            if (own or around or ("", 0.0))[0] != "owned":
                continue
            package = fleet.package_watts.get(card.host, 0.0) / 1000 / parts
            active = card.active_kwh(hour) + (package if card.kind(hour) in ("active", "partly") else 0.0)
            idle = card.used_kwh(hour) + package - active
            usd = (usd_per_kwh(site, at) + demand_usd_per_kwh(fleet, card.host[0], at)) * (site["pue_ratio"] or 1.0)
            lines["electricity_active_usd"] += active * usd
            lines["electricity_idle_usd"] += idle * usd
    return lines


# --- what must hold ---


@pytest.fixture
def told(store: Store, tmp_path: Path) -> Callable[[Fleet], Any]:
    """Makes stores that have accounted for a fleet."""
    store.writer.stop()
    store.reader.dispose()
    numbers = itertools.count()

    @contextmanager
    def tell(fleet: Fleet) -> Iterator[Store]:
        path = Path(shutil.copy(store.path, tmp_path / f"{next(numbers)}.db"))
        one = Store(path, path, Writer(writer_engine(path), host="main-1", flush_seconds=0.01), reader_engine(path))
        one.writer.start()
        try:
            one.write(*readings(fleet))
            upkeep = Upkeep(one.reader, one.writer, StorageSettings(keep_samples_days=100_000))
            upkeep.account(BEGIN_MS + (HOURS + 1) * HOUR_MS)
            yield one
        finally:
            one.writer.stop()
            one.reader.dispose()

    return tell


def priced(store: Store, settings: Settings, first: int, last: int) -> Ledger:
    window = (BEGIN_MS + first * HOUR_MS, BEGIN_MS + last * HOUR_MS)
    return ledger(device_hours(store.reader, *window, 4.0), settings, monthly_peaks(store.reader, settings, *window))


def priced_at_once(store: Store, settings: Settings) -> Ledger:
    window = (BEGIN_MS, BEGIN_MS + HOURS * HOUR_MS)
    edges_ms, until_ms = flat_edges(settings, *window), queries.accounted_until(store.reader)
    of = device_stretches(store.reader, edges_ms, until_ms, 4.0)
    return ledger(of, settings, monthly_peaks(store.reader, settings, *window))


def added(some: Collection[Bill]) -> dict[str, float]:
    return {line: sum(getattr(one, line) for one in some) for line in LINES}


CHARGED: dict[str, Any] = {
    "time_zone": "UTC",
    "pue_ratio": None,
    "tariff": [{"valid_from": None, "currency": "USD", "demand_per_kw_month": 5000.0, "per_kwh": 0.1}],
}
OVER_THE_END_OF_A_MONTH = Fleet(
    cards=(Card("main-1", "H100", 0, False, ("active",) * HOURS, {"active": 900.0}, True),),
    package_watts={},
    held=(),
    sites={"m": CHARGED, "e": CHARGED},
    own_price={"H100": ("owned", 1.0)},
    host_price=None,
    overhead_per_month=0.0,
)


@examples(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(OVER_THE_END_OF_A_MONTH, 3)
@given(fleets(), st.integers(1, HOURS - 1))
def test_bills_add_up_to_the_cent_and_are_what_one_adds_up_by_hand(
    told: Callable[[Fleet], Any], fleet: Fleet, cut: int
):
    expected, settings = pytest.approx(by_hand(fleet), abs=CENT, rel=0), book(fleet)
    with told(fleet) as store:
        whole = priced(store, settings, 0, HOURS)
        split = [bill(priced(store, settings, *window)) for window in ((0, cut), (cut, HOURS))]
        at_once = bill(priced_at_once(store, settings))
    assert added([bill(whole)]) == expected
    assert added([at_once]) == expected
    assert added(split) == expected
    for groups in (deployment_bills(whole).values(), *(bills(whole, key).values() for key in KEYS)):
        assert added(groups) == expected
