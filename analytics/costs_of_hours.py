"""Who pays which part of the bill of whole hours: deployments, in all and by step of time, and what nobody held.

Money is that of ``analytics.ledger``, so that deployments and what nobody held add up to its bill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analytics.allocation import ACCELERATOR, PART_OF_PACKAGES, WITH_PACKAGES
from analytics.cost_figures import (
    INSIDE,
    NO_ENERGY,
    NO_PRICE,
    NO_TARIFF,
    NO_TOKENS,
    NOT_JOINED,
    NOT_YET,
    SPARSE,
    UNKNOWN,
    DeploymentCost,
    Term,
    changes_term,
    dearest_first,
    electricity_terms,
    hardware_terms,
    joined_by,
    usd_per_kwh,
)
from analytics.device_hours import IDLE_ID
from analytics.formulas import cost as formulas
from analytics.formulas.energy import LEAST_COVERAGE, Quality, joules_per_token, worst
from analytics.formulas.local_time import MS_PER_HOUR, Span
from analytics.formulas.unknown import per
from analytics.ledger import ENERGIES, LINES, Bill, Ledger, deployment_bills
from analytics.ledger import NO_ENERGY as UNREAD
from analytics.ledger import NO_PRICE as UNPRICED
from analytics.ledger import NO_TARIFF as UNTARIFFED
from analytics.prices import hourly_price, price_cuts, site_of
from analytics.serving import are_gateways
from core.language import _
from core.settings import Settings
from core.texts import Text, text
from storage import queries
from storage.engine import Store

_REASONS = {UNPRICED: NO_PRICE, UNTARIFFED: NO_TARIFF, UNREAD: NO_ENERGY}
_COUNTS = ["prompt_tokens", "generation_tokens", "succeeded_requests"]
_AMOUNTS = [*LINES, *ENERGIES, "energy_joules"]
_SOURCES = {"counter": Quality.MEASURED, "node": Quality.DERIVED, "integrated": Quality.DERIVED}


@dataclass(frozen=True, slots=True)
class _Read:
    """What is known of deployments beside the ledger.

    entities: by id. counts: of ``_COUNTS`` and observed_seconds, by deployment. origins: how a deployment was joined.
    energy_sources: of accelerators, by id. with_packages: hosts whose CPU packages were read.
    """

    entities: pd.DataFrame
    counts: pd.DataFrame
    origins: Mapping[int, str]
    energy_sources: Mapping[int, str]
    with_packages: frozenset[str]


def deployment_costs(engine: Store, settings: Settings, of: Ledger) -> list[DeploymentCost]:
    """Cost of every deployment that has accounts of these hours, held a device in them, or is newer; dearest first."""
    read = _read(engine, of.of.start_ms, of.of.end_ms)
    bills = deployment_bills(of)
    parts = held_parts(of).groupby("deployment_id")
    gateways = set(read.entities.index[are_gateways(read.entities)])
    born_ms = queries.epoch_ms(read.entities["first_seen_at"])
    newer = read.entities.index[(read.entities["family"] == "deployment") & (born_ms >= of.of.end_ms)]
    found = []
    for number in sorted({*read.counts.index, *bills, *newer} - gateways - {IDLE_ID}):
        held = parts.get_group(number) if number in parts.groups else None
        found.append(_cost(int(number), bills.get(number), held, read, of, settings))
    return dearest_first(found)


def held_parts(of: Ledger) -> pd.DataFrame:
    """What each holder of a device answers for, by hour.

    Returns:
        deployment_id (``IDLE_ID`` for nobody), device_id, hour_ms, hours held; the ledger's lines and energies and
        energy_joules, each the holder's part; total_usd; host, model, name of the device and active_ratio. Energy that
        was not seen of a device that is otherwise read counts as none, as in the bill; NaN: unknown.
    """
    hours = of.of.hours[["device_id", "hour_ms", "energy_joules", "active_ratio"]]
    parts = of.of.shares.merge(of.rows, on=["device_id", "hour_ms"]).merge(hours, on=["device_id", "hour_ms"])
    unread = parts["energy_joules"].isna()
    never = unread.groupby([parts["deployment_id"], parts["device_id"]]).transform("all")
    for name in _AMOUNTS:
        seen = parts[name] if name in ("hardware_usd", "overhead_usd") else parts[name].where(~unread | never, 0.0)
        parts[name] = seen * parts["share"]
    parts["total_usd"] = parts[list(LINES)].sum(axis=1, skipna=False)
    parts["hours"] = parts["share"] * parts["there_ratio"]
    return parts.join(of.devices[["host", "model", "name", "family"]], on="device_id")


def trend(of: Ledger, step_hours: int) -> pd.DataFrame:
    """Unit figures of each deployment by steps of whole hours; the last may be shorter.

    Returns:
        bucket_at, deployment_id, output_tokens, total_usd, usd_per_million_output_tokens, joules_per_output_token
        (NaN: unknown, or no tokens).
    """
    keys = ["deployment_id", "bucket_ms"]
    parts, work = (_stepped(frame, of.of.start_ms, step_hours) for frame in (held_parts(of), of.of.work))
    paid = parts[parts["deployment_id"] != IDLE_ID].groupby(keys)[["total_usd", "energy_joules"]]
    sums = paid.agg(_sum)
    tokens = work.groupby(keys)["generation_tokens"].sum(min_count=1).rename("output_tokens")
    found = sums.join(tokens, how="inner").reset_index()
    output = found["output_tokens"].where(found["output_tokens"] > 0)
    return pd.DataFrame(
        {
            "bucket_at": pd.to_datetime(found["bucket_ms"].astype("int64"), unit="ms", utc=True),
            "deployment_id": found["deployment_id"],
            "output_tokens": found["output_tokens"],
            "total_usd": found["total_usd"],
            "usd_per_million_output_tokens": found["total_usd"] / output * formulas.MILLION,
            "joules_per_output_token": found["energy_joules"] / output,
        }
    )


def _sum(amounts: pd.Series[float]) -> float:
    """Unknown when a part is."""
    return float(amounts.sum(skipna=False))


def _stepped(frame: pd.DataFrame, start_ms: int, step_hours: int) -> pd.DataFrame:
    step_ms = step_hours * MS_PER_HOUR
    return frame.assign(bucket_ms=start_ms + (frame["hour_ms"] - start_ms) // step_ms * step_ms)


def unheld(of: Ledger) -> pd.DataFrame:
    """Devices for as long as no known deployment held them, and what that cost, dearest first.

    Returns:
        name, host, hours, energy_kwh at the meter, the four lines and total_usd (NaN: unknown).
    """
    parts = held_parts(of)
    free = parts[parts["deployment_id"] == IDLE_ID]
    free = free.assign(energy_kwh=free["active_kwh"] + free["idle_kwh"])
    sums = free.groupby(["name", "host"])[["hours", "energy_kwh", *LINES, "total_usd"]]
    found = sums.agg(_sum).reset_index()
    return found.sort_values("total_usd", ascending=False, na_position="last", ignore_index=True)


def _read(engine: Store, start_ms: int, end_ms: int) -> _Read:
    entities = queries.entities(engine).set_index("entity_id")
    joined = queries.assignments(engine, start_ms, end_ms)
    edges = [start_ms, end_ms]
    deployments, devices, sockets = (
        queries.accounts(engine, family, None, edges) for family in ("deployment", "accelerator", "cpu")
    )
    hosts = entities["host"].reindex(sockets["entity_id"]).to_numpy()
    read = sockets["energy_joules"].notna().groupby(hosts).all()
    return _Read(
        entities,
        deployments.set_index("entity_id")[[*_COUNTS, "observed_seconds"]],
        dict(zip(joined["deployment_id"], joined["origin"], strict=True)),
        dict(devices.dropna(subset=["energy_source"]).set_index("entity_id")["energy_source"]),
        frozenset(map(str, read.index[read.to_numpy(dtype="bool")])),
    )


def _cost(
    number: int, paid: Bill | None, held: pd.DataFrame | None, read: _Read, of: Ledger, settings: Settings
) -> DeploymentCost:
    entity = read.entities.loc[[number]].iloc[0]
    labels: dict[str, str] = entity["labels"]
    counts = read.counts.reindex([number]).iloc[0]
    prompt, output, requests = (None if pd.isna(counts[name]) else float(counts[name]) for name in _COUNTS)
    joules = None if held is None else _known(held["energy_joules"].sum(skipna=False))
    coverage = min(_watched(entity, counts, of), 1.0 if paid is None or joules is None else paid.covered_ratio)
    sparse, is_newer = coverage < LEAST_COVERAGE, entity["first_seen_at"].timestamp() * 1000 >= of.of.end_ms
    per_output = None if sparse else output
    return DeploymentCost(
        deployment_id=number,
        key=str(entity["key"]),
        model=labels.get("model", "unknown model"),
        server=labels.get("url", ""),
        engine_name=labels.get("engine", ""),
        targets=() if held is None else tuple(_titles(held)),
        origin=read.origins.get(number, "unjoined"),
        output_tokens=output,
        prompt_tokens=prompt,
        charged_output_tokens=per_output,
        charged_prompt_tokens=None if sparse else prompt,
        charged_requests=None if sparse else requests,
        lines={line: None if paid is None else getattr(paid, line) for line in LINES},
        energy_joules=joules,
        joules_per_output_token=joules_per_token(joules, per_output),
        energy_label="missing" if joules is None else _sources(held, read),
        energy_quality=_energy_quality(joules, held, read),
        scope="" if held is None else _scope(held, read),
        coverage_ratio=coverage,
        label=Quality.MISSING if paid is None or paid.total_usd is None else paid.quality,
        reason="; ".join(_reasons(paid, sparse, output, is_newer)),
        terms=() if held is None else tuple(_terms(held, read, of, settings, number)),
    )


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _watched(entity: pd.Series[Any], counts: pd.Series[Any], of: Ledger) -> float:
    """Part of the hours since it was first seen in which a deployment was."""
    alive_ms = of.of.end_ms - max(of.of.start_ms, round(entity["first_seen_at"].timestamp() * 1000))
    seen_ms = 0.0 if pd.isna(counts["observed_seconds"]) else counts["observed_seconds"] * 1000
    return min(seen_ms / alive_ms, 1.0) if alive_ms > 0 else 0.0


def _reasons(paid: Bill | None, sparse: bool, output: float | None, is_newer: bool) -> Iterable[str]:
    if paid is None:
        return [NOT_YET if is_newer else NOT_JOINED]
    missing = dict.fromkeys(_REASONS.get(reason, reason) for _, reason in paid.missing)
    return missing or ([SPARSE] if sparse else [] if output else [NO_TOKENS])


def _titles(held: pd.DataFrame) -> list[str]:
    """What people call the devices, each once."""
    cards = held["family"] == "accelerator"
    names = (held["name"] + " on " + held["host"]).where(cards, "CPUs of " + held["host"])
    return list(dict.fromkeys(names))


def _scope(held: pd.DataFrame, read: _Read) -> str:
    """What the energy is that of, marked for translation."""
    cards = bool((held["family"] == "accelerator").any())
    packages = set(held["host"]) <= read.with_packages
    if cards:
        return WITH_PACKAGES if packages else ACCELERATOR
    return PART_OF_PACKAGES


def _sources(held: pd.DataFrame | None, read: _Read) -> str:
    ids = set() if held is None else set(held["device_id"])
    return ", ".join(sorted({read.energy_sources[i] for i in ids if i in read.energy_sources})) or _("CPU accounts")


def _energy_quality(joules: float | None, held: pd.DataFrame | None, read: _Read) -> Quality:
    if joules is None or held is None:
        return Quality.MISSING
    sources = {read.energy_sources.get(i, "integrated") for i in held["device_id"].unique()}
    return worst(*(_SOURCES.get(source, Quality.ESTIMATED) for source in sources))


def _terms(held: pd.DataFrame, read: _Read, of: Ledger, settings: Settings, number: int) -> Iterable[Term]:
    """Hours, energy and prices, devices of one model on one host together."""
    span = Span(of.of.start_ms, of.of.end_ms)
    for key, rows in held.groupby(["host", "family", "model"]):
        host, family, model = map(str, key)
        count = rows["device_id"].nunique()
        what = _devices(family, count, model, host)
        hours, active, idle = rows["hours"].sum(), rows["active_kwh"].sum(), rows["idle_kwh"].sum()
        held_hours = text(_("{hours} h"), hours=hours)
        yield Term(
            text(_("{what}: hours held"), what=what), held_hours, joined_by(read.origins.get(number, "unjoined"))
        )
        device = None if family == "host" else hourly_price(settings, "accelerator", model, host, span.end_ms - 1)
        around = hourly_price(settings, "host", host, host, span.end_ms - 1)
        parts = int(of.devices.loc[rows["device_id"].iloc[0], "host_parts"])
        yield from hardware_terms(device, around, 1 / parts)
        used = text(_("{active} kWh active, {idle} kWh idle"), active=active, idle=idle)
        yield Term(
            text(_("{what}: energy at the meter"), what=what),
            UNKNOWN if rows["active_kwh"].isna().any() else used,
            text(_("hourly accounts, {sources}"), sources=text(_sources(rows, read))),
        )
        main = device or around
        if main is not None and not main.electricity_on_top:
            yield INSIDE
        else:
            price, pue = electricity_terms(settings, site_of(settings, host), span)[1]
            paid = per(rows["electricity_active_usd"].sum() + rows["electricity_idle_usd"].sum(), active + idle)
            mean = usd_per_kwh(None if paid is None or pd.isna(paid) else paid)
            yield Term(text(_("electricity paid")), mean, text(_("mean of the hours, by energy")))
            yield from (replace(price, name=text(_("electricity price at the end"))), pue)
    if settings.cost.overhead:
        names = ", ".join(one.name for one in settings.cost.overhead)
        yield Term(
            text(_("overhead")),
            text(_("{usd} USD"), usd=held["overhead_usd"].sum()),
            text(_("settings: {names}; by what devices cost"), names=names),
        )
    if cuts := price_cuts(settings, *span):
        yield changes_term(len(cuts), text(_("each hour at the price at its beginning")))


def _devices(family: str, count: int, model: str, host: str) -> Text:
    if family == "host":
        return text(_("CPUs of {host}"), host=host)
    return text(_("{number} x {model} on {host}"), number=count, model=model, host=host)
