"""Wastes: planted ones are found with their money, nothing else is, and no hour is owned twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain, product

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.device_hours import IDLE_ID, DeviceHours
from analytics.formulas.energy import Quality
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.ledger import NO_PRICE, Ledger, ledger
from analytics.wastes.by_deployment import Case
from analytics.wastes.find import NO_TOKENS_OF_ERRORS, NO_USE, find_wastes, wastes
from analytics.wastes.hours import hours
from analytics.wastes.waste import DIRECT, Commitment, Figure, Kind, Waste
from core.readings import DeploymentSample, Entity, Latency, LatencySample, Outcome, ProbeSample, Reading
from core.settings import Settings
from tests.analytics.test_ledger import BEGIN_MS, HOST, OWNED, RENTED, card, ids, kept, priced, runs_on, settings
from tests.conftest import Store

STEP_S = 300
WEEK = 168
H100 = "NVIDIA H100 80GB HBM3"
EVENING_DEAR = [
    {"begins": "18:00", "ends": "22:00", "per_kwh": 0.3},
    {"begins": "22:00", "ends": "18:00", "per_kwh": 0.1},
]
Works = Callable[[float], bool]


def steps(hours: float, begin: float = 0.0) -> range:
    return range(round(begin * 3600), round(hours * 3600) + 1, STEP_S)


def device(key: str, hours: float = WEEK, **more: object) -> list[Reading]:
    return card(key, at=steps(hours), **more)  # type: ignore[arg-type]


def served(
    key: str,
    hours: float = WEEK,
    *,
    works: Works = lambda _: True,
    running: Callable[[float], float] | None = None,
    begin: float = 0.0,
    prompt: float = 0.0,
    cached: float = 0.0,
    output: float = 10.0,
    failed: float = 0.0,
) -> list[Reading]:
    """A deployment that makes so many tokens at each sample at which it works, by the hour since the beginning."""
    labels = {"model": key.split("@")[0], "url": f"http://{key}:8000", "engine": "vLLM"}
    samples, worked = [], 0
    for s in steps(hours, begin):
        at_work = works(s / 3600)
        worked += at_work
        samples.append(
            DeploymentSample(
                key=key,
                observed_at_ms=BEGIN_MS + s * 1000,
                running_requests=float(at_work) if running is None else running(s / 3600),
                waiting_requests=0.0,
                prompt_tokens_total=prompt * worked,
                cached_prompt_tokens_total=cached * worked,
                generation_tokens_total=output * worked,
                succeeded_requests_total=float(worked),
                failed_requests_total=failed * worked,
            )
        )
    return [Entity(observed_at_ms=BEGIN_MS, family="deployment", key=key, host="box", labels=labels), *samples]


def never(_: float) -> bool:
    return False


def by_day(hour: float) -> bool:
    return 6 <= hour % 24 < 22


def found(
    store: Store, book: Settings, commitments: Iterable[Commitment] = (), *, first: int = 0, last: int = WEEK
) -> list[Waste]:
    return find_wastes(store.reader, priced(store, book, first, last), book, list(commitments))


def evidence(waste: Waste) -> dict[str, float | None]:
    return dict(waste.evidence)


# --- planted ---


def test_five_planted_wastes_are_found_with_their_money_and_nothing_else_is(store: Store):
    kept(
        store,
        *chain(*(device(key, model=H100) for key in ("p0", "p1", "n0", "busy"))),
        *device("f0", watts=100.0, held=False),
        *device("f1", watts=100.0, held=False),
        *device("b0", watts=1000.0),
        *served("llama", works=never),
        *served("chat", works=by_day),
        *served("reports-batch"),
        *served("code"),
        runs_on("llama", "p0", "p1"),
        runs_on("chat", "n0"),
        runs_on("reports-batch", "b0"),
        runs_on("code", "busy"),
        hours=WEEK,
    )
    book = settings(RENTED, OWNED, cost={"flexible_models": ["*batch*"]}, tariff=[{"band": EVENING_DEAR}])
    every = found(store, book, [Commitment("capacity", 0.5, 1000.0), Commitment("used well", 0.81, 1000.0)])
    electricity = 2 * 0.1 * WEEK * (4 * 0.3 + 20 * 0.1) / 24
    assert [(one.kind, one.what, one.cost_usd) for one in every] == [
        (Kind.PARKED, "llama", pytest.approx(2 * WEEK * 2.0, rel=0.01)),
        (Kind.FREE, "2 x AMD Instinct MI300X", pytest.approx(2 * WEEK * 1.0 + electricity, rel=0.01)),
        (Kind.COMMITMENT, "capacity", pytest.approx(300.0)),
        (Kind.TROUGH, "chat", pytest.approx(7 * 8 * 2.0, rel=0.01)),
        (Kind.DEAR_HOURS, "reports-batch", pytest.approx(7 * 4 * 1.0 * (0.3 - 0.1), rel=0.01)),
    ]
    parked, free, commitment, trough, dear = every
    of = ids(store)
    assert (parked.device_ids, parked.deployment_ids) == ((of["p0"], of["p1"]), (of["llama"],))
    assert (parked.hosts, parked.sites) == (("box",), ("this site",))
    assert parked.cash_saving_usd == pytest.approx((336.0, 672.0))
    assert free.device_ids == (of["f0"], of["f1"])
    assert free.cash_saving_usd == pytest.approx((electricity / 2, electricity))
    assert [one.freed_gpu_hours for one in every] == pytest.approx([336.0, 336.0, 0.0, 56.0, 0.0])
    assert commitment.cash_saving_usd == (0.0, 0.0)
    assert evidence(trough) == {
        "device_hours": pytest.approx(56.0),
        "days": 7.0,
        "used_ratio": pytest.approx(1 / 12 / 8),
    }
    assert evidence(dear)["usd_per_kwh"] == pytest.approx(0.3)
    assert {one.quality for one in every} == {Quality.DERIVED}


def test_an_empty_store_has_no_wastes(store: Store):
    assert found(store, settings(OWNED)) == []


# --- idle hours ---


def test_a_model_is_parked_after_a_day_without_a_request_also_where_the_day_began_before_the_window(store: Store):
    book = settings({**RENTED, "match": "MI300X"})
    kept(store, *device("0", 40), *served("llama", 40, works=lambda h: h < 2), runs_on("llama", "0"), hours=40)
    (parked,) = found(store, book, first=30, last=40)
    assert (parked.kind, parked.cost_usd) == (Kind.PARKED, pytest.approx(10 * 2.0))
    assert found(store, book, first=0, last=24) == []  # 22 hours so far


def test_an_accelerator_that_came_free_is_not_called_parked(store: Store):
    kept(store, *device("0", 30, held=False), *served("llama", 30, works=never), runs_on("llama", "0"), hours=30)
    (free,) = found(store, settings(RENTED, {**OWNED, "hosting_includes_electricity": True}), last=30)
    assert (free.kind, free.deployment_ids) == (Kind.FREE, ())
    assert (free.cost_usd, free.cash_saving_usd) == (pytest.approx(30.0), (0.0, 0.0))


def test_without_a_price_a_waste_is_listed_last_with_the_reason(store: Store):
    kept(store, *device("0", 30, held=False), *device("1", 30, model=H100, held=False), hours=30)
    priced_one, unknown = found(store, settings(RENTED), last=30)
    assert priced_one.cost_usd == pytest.approx(60.0)
    assert (unknown.cost_usd, unknown.cash_saving_usd, unknown.quality) == (None, None, Quality.MISSING)
    assert unknown.reason == f"AMD Instinct MI300X 0 on box: {NO_PRICE}"


@pytest.mark.parametrize(("days", "zone", "touched"), [(3, "UTC", 3), (2, "UTC", None), (3, "Asia/Tokyo", 4)])
def test_a_trough_comes_again_on_three_days_of_the_site(store: Store, days: int, zone: str, touched: float | None):
    last = days * 24
    book = settings({**RENTED, "match": "MI300X"}, time_zone=zone)
    chat = served("chat", last, works=lambda h: not 12 <= h % 24 < 20)  # in Tokyo from 21:00 to 05:00
    kept(store, *device("0", last), *chat, runs_on("chat", "0"), hours=last)
    listed = [(one.kind, one.cost_usd, evidence(one)["days"]) for one in found(store, book, last=last)]
    assert listed == ([] if touched is None else [(Kind.TROUGH, pytest.approx(3 * 8 * 2.0), touched)])


def test_days_on_which_a_model_was_parked_are_none_of_a_trough(store: Store):
    chat = served("chat", 80, works=lambda h: h > 30 and (h - 0.5) % 24 >= 6)
    kept(store, *device("0", 80, model=H100), *chat, runs_on("chat", "0"), hours=80)
    (parked,) = found(store, settings(RENTED), last=80)
    assert (parked.kind, parked.cost_usd) == (Kind.PARKED, pytest.approx(30 * 2.0))


@pytest.mark.parametrize(("idle_watts", "expected"), [(400.0, 0.4 * 2 * 1.0), (200.0, None)])
def test_power_without_tokens_is_what_idles_beyond_a_share(store: Store, idle_watts: float, expected: float | None):
    kept(store, *device("0", 2), *device("1", 2, watts=idle_watts, held=False))
    every = found(store, settings(OWNED, usd_per_kwh=1.0), last=2)
    assert [(one.kind, one.what, one.cost_usd) for one in every] == (
        [] if expected is None else [(Kind.IDLE_POWER, "box", pytest.approx(expected))]
    )


def test_idle_power_inside_the_rent_is_no_waste(store: Store):
    kept(store, *device("0", 2, held=False))
    assert found(store, settings({**RENTED, "match": "MI300X"}, usd_per_kwh=1.0), last=2) == []


@pytest.mark.parametrize("flexible", [[], ["chat*"]])
def test_work_is_flexible_only_where_the_settings_say_so(store: Store, flexible: list[str]):
    kept(store, *device("0", 24), *served("batch", 24), runs_on("batch", "0"), hours=24)
    book = settings(OWNED, cost={"flexible_models": flexible}, tariff=[{"band": EVENING_DEAR}])
    assert found(store, book, last=24) == []


# --- what deployments did ---


def objective(book: Settings, **limits: float) -> Settings:
    serving = {"objective": [{"model": "chat", **limits}]}
    return Settings(cost=book.cost, site=book.site, serving=serving)  # type: ignore[arg-type]


@pytest.mark.parametrize(("slow", "together", "expected"), [(0, 0.0, 12 * 2.0), (2, 0.0, None), (0, 1.0, None)])
def test_a_replica_is_to_spare_where_the_other_carried_the_peak_in_time(
    store: Store, slow: int, together: float, expected: float | None
):
    requests = LatencySample(
        key="chat@a",
        kind=Latency.TTFT,
        observed_at_ms=BEGIN_MS + MS_PER_HOUR,
        upper_bounds_seconds=(1.0, math.inf),
        increments=(100.0, slow),
        sum_seconds=50.0,
    )
    kept(
        store,
        *chain(*(device(key, 12, model=H100) for key in "ab")),
        *served("chat@a", 12, running=lambda h: 8.0 if h < 2 else 4.0),
        *served("chat@b", 12, running=lambda h: together if h < 2 else 4.0, output=1.0),
        requests,
        runs_on("chat@a", "a"),
        runs_on("chat@b", "b"),
        hours=12,
    )
    every = found(store, objective(settings(RENTED), ttft_seconds=1.0), last=12)
    if expected is None:
        assert every == []
    else:
        assert [(one.kind, one.cost_usd) for one in every] == [(Kind.SPARE_REPLICA, pytest.approx(expected))]
        assert every[0].deployment_ids == (ids(store)["chat@b"],)
        assert (evidence(every[0])["needed_requests"], evidence(every[0])["carried_requests"]) == (8.0, 8.0)


@pytest.mark.parametrize(("cached", "part"), [(20.0, 30 / (80 + 4 * 10)), (47.0, None)])
def test_low_cache_use_costs_the_work_that_the_best_month_was_spared(store: Store, cached: float, part: float | None):
    september = -24 * 15
    kept(
        store,
        *device("0", 4, model=H100),
        *served("chat", september + 3, begin=september, prompt=100.0, cached=50.0),
        *served("chat", 4, works=lambda h: h > 0, prompt=100.0, cached=cached),
        runs_on("chat", "0"),
        hours=4,
    )
    every = found(store, settings(RENTED), first=1, last=4)
    assert [(one.kind, one.cost_usd, one.freed_gpu_hours) for one in every] == (
        [] if part is None else [(Kind.LOW_CACHE, pytest.approx(part * 6.0), pytest.approx(part * 3.0))]
    )


HOSTED = {"model": "org/chat-hosted", "url": "https://elsewhere"}
ITSELF = {"model": "chat", "url": "http://chat:8000/v1"}


@pytest.mark.parametrize(
    ("labels", "in_time", "per_million", "expected"),
    [(HOSTED, 99, 1000.0, 3.76), (HOSTED, 98, 1000.0, None), (HOSTED, 99, 2e4, None), (ITSELF, 99, 1000.0, None)],
)
def test_a_tier_is_wrong_where_a_hosted_one_in_time_is_cheaper(
    store: Store, labels: dict[str, str], in_time: int, per_million: float, expected: float | None
):
    probes = [
        ProbeSample(
            key="elsewhere",
            observed_at_ms=BEGIN_MS + n * 60_000,
            outcome=Outcome.OK,
            ttft_seconds=0.1 if n < in_time else 2.0,
        )
        for n in range(100)
    ]
    kept(
        store,
        *device("0", 2, model=H100),
        *served("chat", 2),
        Entity(observed_at_ms=BEGIN_MS, family="probe", key="elsewhere", host="box", labels=labels),
        *probes,
        runs_on("chat", "0"),
    )
    offer = {"model": "*chat*", "per_million_input": 1.0, "per_million_output": per_million}
    every = found(store, objective(settings(RENTED, cost={"hosted": [offer]}), ttft_seconds=1.0), last=2)
    assert [(one.kind, one.cost_usd) for one in every] == (
        [] if expected is None else [(Kind.WRONG_TIER, pytest.approx(expected))]  # 4 USD, 240 tokens elsewhere 0.24
    )


def test_failed_requests_are_counted_and_their_unknown_cost_is_called_so(store: Store):
    kept(store, *device("0", 12, model=H100), *served("chat", 12, failed=0.1), runs_on("chat", "0"), hours=12)
    (lost,) = found(store, settings(RENTED), last=12)
    assert (lost.kind, lost.cost_usd, lost.reason) == (Kind.ERRORS, None, NO_TOKENS_OF_ERRORS)
    assert evidence(lost)["failed_requests"] == pytest.approx(14.4)
    assert (evidence(lost)["aborted_requests"], lost.stretches) == (None, ())


@pytest.mark.parametrize(
    ("used", "cost", "reason"), [(0.0, 800.0, ""), (0.5, 300.0, ""), (0.8, None, ""), (None, None, NO_USE)]
)
def test_a_commitment_is_wasted_below_its_waterline(store: Store, used: float | None, cost: float | None, reason: str):
    every = found(store, settings(), [Commitment("c", used, 1000.0)])
    listed = [(one.cost_usd, one.reason) for one in every]
    assert listed == ([] if used == 0.8 else [(None if cost is None else pytest.approx(cost), reason)])


# --- ownership ---

DEVICES, HOURS = (1, 2, 3), 80
STATES = {"active": (3600, 0, 0), "low": (300, 3300, 0), "parked": (0, 3600, 0), "free": (0, 0, 3600), "off": (0, 0, 0)}
runs = st.lists(st.tuples(st.sampled_from(sorted(STATES)), st.integers(1, 40)), min_size=1, max_size=12)
holders = st.sampled_from([IDLE_ID, 10, 11])
energies = st.sampled_from([math.nan, 0.0, 1.8e6])
said = st.lists(
    st.builds(
        Case,
        kind=st.sampled_from([Kind.SPARE_REPLICA, Kind.LOW_CACHE, Kind.WRONG_TIER]),
        deployment_id=st.sampled_from([10, 11]),
        evidence=st.just(()),
        part=st.sampled_from([0.25, 1.0]),
        less_usd=st.sampled_from([0.0, 20.0]),
    ),
    max_size=3,
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[DeviceHours, pd.DataFrame]:
    """Three devices on two hosts, what they did in every hour, and who held them."""
    names = pd.DataFrame(
        {
            "name": ["MI300X 0", "MI300X 1", H100],
            "family": "accelerator",
            "host": ["box", "box", "other"],
            "vendor": "any",
            "model": ["MI300X", "MI300X", H100],
            "host_parts": [2, 2, 1],
        },
        index=list(DEVICES),
    )
    keys = pd.DataFrame(product(DEVICES, range(HOURS)), columns=["device_id", "hour"])
    keys["hour_ms"] = BEGIN_MS + keys.pop("hour") * MS_PER_HOUR
    did = [[STATES[name] for name, count in draw(runs) for _ in range(count)] for _ in DEVICES]
    seconds = [(one + [STATES["active"]] * HOURS)[:HOURS] for one in did]
    held = ["active_seconds", "parked_seconds", "free_seconds"]
    states = keys.join(pd.DataFrame([*chain(*seconds)], columns=held, dtype="float64"))
    joules = [draw(energies) for _ in DEVICES]
    active = states["active_seconds"] / 3600
    hourly = keys.assign(
        there_ratio=draw(st.sampled_from([0.5, 1.0])),
        covered_ratio=1.0,
        energy_joules=keys["device_id"].map(dict(zip(DEVICES, joules, strict=True))),
        is_filled=False,
    )
    hourly["active_joules"] = hourly["energy_joules"] * active
    hourly["idle_joules"] = hourly["energy_joules"] - hourly["active_joules"]
    who = [(draw(holders), draw(holders)) for _ in DEVICES]
    parts = [
        keys[keys["device_id"] == number].assign(deployment_id=holder, share=0.5)
        for number, pair in zip(DEVICES, who, strict=True)
        for holder in pair
    ]
    shares = pd.concat(parts).groupby(["device_id", "hour_ms", "deployment_id"])["share"].sum().reset_index()
    rows = pd.MultiIndex.from_frame(keys[["device_id", "hour_ms"]])
    shares["row"] = rows.get_indexer(pd.MultiIndex.from_frame(shares[["device_id", "hour_ms"]]))
    edges = range(BEGIN_MS, BEGIN_MS + HOURS * MS_PER_HOUR + 1, MS_PER_HOUR)
    return DeviceHours(tuple(edges), names, hourly, shares, pd.DataFrame()), states


def owned(waste: Waste) -> list[tuple[int, int]]:
    return [(i, at) for i, start, end in waste.stretches for at in range(start, end, MS_PER_HOUR)]


def direct_usd(of: Ledger) -> pd.Series:
    return of.rows.set_index(["device_id", "hour_ms"])[list(DIRECT)].sum(axis=1)


@examples(max_examples=60, deadline=None)
@given(fleets(), said)
def test_no_hour_is_owned_twice_and_wastes_cost_no_more_than_their_hours(
    fleet: tuple[DeviceHours, pd.DataFrame], cases: list[Case]
):
    did, states = fleet
    book = settings(
        OWNED, RENTED, HOST, cost={"flexible_models": ["batch"]}, tariff=[{"band": EVENING_DEAR}], pue_ratio=1.2
    )
    of = ledger(did, book, {})
    every = wastes(hours(of, states, pd.Series({10: "chat", 11: "batch"}), book), cases)
    mine = [owned(one) for one in every]
    together = [*chain(*mine)]
    assert len(together) == len(set(together))
    paid = direct_usd(of)
    for one, its_hours in zip(every, mine, strict=True):
        if one.cost_usd is not None:
            assert 0 < one.cost_usd <= paid[its_hours].sum() + 1e-9
        assert its_hours
        assert one.freed_gpu_hours <= len(its_hours)
    known = [one.cost_usd for one in every if one.cost_usd is not None]
    assert known == sorted(known, reverse=True)
    assert sum(known) <= paid[together].sum() + 1e-9
    active = states.set_index(["device_id", "hour_ms"])["active_seconds"]
    idle = [*chain(*(owned(one) for one in every if one.kind in (Kind.PARKED, Kind.FREE)))]
    assert active[idle].sum() == 0


def test_the_first_test_that_fits_owns_the_hour(store: Store):
    kept(store, *device("0", 30), *served("batch", 30, works=never), runs_on("batch", "0"), hours=30)
    book = settings(OWNED, cost={"flexible_models": ["batch"]}, tariff=[{"band": EVENING_DEAR}])
    (parked,) = found(store, book, last=30)  # and neither power without tokens nor dear hours
    assert (parked.kind, Figure("device_hours", 30.0) in parked.evidence) == (Kind.PARKED, True)
