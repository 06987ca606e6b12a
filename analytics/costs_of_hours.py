"""Who pays which part of the bill of whole hours: deployments, in all and by step of time, and what nobody held.

Money is that of ``analytics.ledger``, so that deployments and what nobody held add up to its bill.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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
from analytics.ledger import ENERGIES, LINES, Bill, Ledger, deployment_bills, never_read
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

    entities: by id. counts: of ``_COUNTS`` and observed_seconds, by deployment; NaN: unknown. origins: how a deployment
    was joined. devices: name, host, family and model, by id. held: ids of the devices that a deployment held.
    energy_sources: of accelerators, by id. with_packages: hosts whose CPU packages were read.
    """

    entities: Mapping[int, Mapping[Hashable, Any]]
    counts: Mapping[int, Mapping[Hashable, float]]
    origins: Mapping[int, str]
    devices: Mapping[int, Mapping[Hashable, Any]]
    held: Mapping[int, Sequence[int]]
    energy_sources: Mapping[int, str]
    with_packages: frozenset[str]


def deployment_costs(engine: Store, settings: Settings, of: Ledger, *, explained: bool = True) -> list[DeploymentCost]:
    """Cost of every deployment that has accounts of these hours, held a device in them, or is newer; dearest first.

    Args:
        engine: the reader.
        settings: with prices.
        of: the bill.
        explained: whether terms are wanted, which ``terms`` gives of a few.
    """
    parts = held_parts(of)
    read = _read(engine, parts, of)
    bills, joules = deployment_bills(of), _joules(parts)
    told = _explained(parts, read, of, settings, read.entities) if explained else {}
    return dearest_first(
        [
            _cost(number, bills.get(number), joules.get(number), read, of, told.get(number, ()))
            for number in read.entities
        ]
    )


def terms(
    engine: Store, settings: Settings, of: Ledger, deployment_ids: Collection[int]
) -> dict[int, tuple[Term, ...]]:
    """The terms of those of some deployments that ``deployment_costs`` tells of; none where one held no device."""
    parts = held_parts(of)
    read = _read(engine, parts, of)
    told = _explained(parts, read, of, settings, deployment_ids)
    return {number: told.get(number, ()) for number in read.entities if number in deployment_ids}


def _explained(
    parts: pd.DataFrame, read: _Read, of: Ledger, settings: Settings, deployment_ids: Collection[int]
) -> dict[int, tuple[Term, ...]]:
    asked = parts[parts["deployment_id"].isin(list(deployment_ids))]
    asked = asked.join(of.devices[["host", "family", "model"]], on="device_id")
    return {
        int(str(number)): tuple(_terms(rows, read, of, settings, int(str(number))))
        for number, rows in asked.groupby("deployment_id")
    }


def held_parts(of: Ledger) -> pd.DataFrame:
    """What each holder of a device answers for, by hour.

    Returns:
        deployment_id (``IDLE_ID`` for nobody), device_id, hour_ms, hours held; the ledger's lines and energies and
        energy_joules, each the holder's part; total_usd; active_ratio of the device. Energy that was not seen of a
        device that is otherwise read counts as none, as in the bill; NaN: unknown.
    """
    shares, rows = of.of.shares, of.rows
    share, at = shares["share"].to_numpy(), shares["row"].to_numpy()
    columns = {name: shares[name].to_numpy() for name in ("deployment_id", "device_id", "hour_ms")}
    columns["hours"] = share * rows["there_ratio"].to_numpy()[at]
    joules = of.of.hours["energy_joules"].to_numpy()[at]
    unread = np.isnan(joules)
    unseen = unread & ~never_read(unread, columns["deployment_id"] * (1 << 32) + columns["device_id"])
    for name in _AMOUNTS:
        amounts = joules if name == "energy_joules" else rows[name].to_numpy()[at]
        if name not in ("hardware_usd", "overhead_usd"):
            amounts = np.where(unseen, 0.0, amounts)
        columns[name] = amounts * share
    columns["total_usd"] = np.sum([columns[line] for line in LINES], axis=0)
    columns["active_ratio"] = of.of.hours["active_ratio"].to_numpy()[at]
    return pd.DataFrame(columns, copy=False)


def _joules(parts: pd.DataFrame) -> dict[int, float]:
    """Energy at the devices by holder; NaN where a part is unknown."""
    group, numbers = pd.factorize(parts["deployment_id"].to_numpy())
    sums = np.bincount(group, parts["energy_joules"].to_numpy(), len(numbers))
    return dict(zip(map(int, numbers), map(float, sums), strict=True))


def trend(of: Ledger, step_hours: int) -> pd.DataFrame:
    """Unit figures of each deployment by steps of whole hours; the last may be shorter.

    Returns:
        bucket_at, deployment_id, output_tokens, total_usd, usd_per_million_output_tokens, joules_per_output_token
        (NaN: unknown, or no tokens).
    """
    keys = ["deployment_id", "bucket_ms"]
    parts, work = (_stepped(frame, of.of.start_ms, step_hours) for frame in (held_parts(of), of.of.work))
    sums = _sums(parts[parts["deployment_id"] != IDLE_ID], keys, ["total_usd", "energy_joules"])
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


def _sums(frame: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Sums by keys, which are unknown when a part is."""
    grouped = frame.groupby(keys)
    return grouped[columns].sum().where(grouped[columns].count().eq(grouped.size(), axis=0))


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
    by_device = _sums(free, ["device_id"], ["hours", "energy_kwh", *LINES, "total_usd"])
    named = by_device.join(of.devices[["name", "host"]])
    found = _sums(named, ["name", "host"], list(by_device.columns)).reset_index()
    return found.sort_values("total_usd", ascending=False, na_position="last", ignore_index=True)


def _read(engine: Store, parts: pd.DataFrame, of: Ledger) -> _Read:
    entities = queries.entities(engine).set_index("entity_id")
    start_ms, end_ms = of.of.start_ms, of.of.end_ms
    joined = queries.assignments(engine, start_ms, end_ms)
    deployments, devices, sockets = (
        queries.accounts(engine, family, None, [start_ms, end_ms], columns)
        for family, columns in (
            ("deployment", (*_COUNTS, "observed_seconds")),
            ("accelerator", ("energy_source",)),
            ("cpu", ("energy_joules",)),
        )
    )
    born_ms = queries.epoch_ms(entities["first_seen_at"])
    newer = entities.index[(entities["family"] == "deployment") & (born_ms >= end_ms)]
    shown = {*deployments["entity_id"], *parts["deployment_id"].unique(), *newer} - set(
        entities.index[are_gateways(entities)]
    )
    hosts = entities["host"].reindex(sockets["entity_id"]).to_numpy()
    whole = sockets["energy_joules"].notna().groupby(hosts).all()
    metered = devices.dropna(subset=["energy_source"])
    held: dict[int, list[int]] = {}
    for number, device_id in parts[["deployment_id", "device_id"]].drop_duplicates().itertuples(index=False):
        held.setdefault(number, []).append(device_id)
    return _Read(
        _rows(entities[entities.index.isin(shown)]),
        _rows(deployments.set_index("entity_id")[[*_COUNTS, "observed_seconds"]]),
        dict(zip(joined["deployment_id"], joined["origin"], strict=True)),
        _rows(of.devices[["name", "host", "family", "model"]]),
        held,
        dict(zip(metered["entity_id"].tolist(), metered["energy_source"].tolist(), strict=True)),
        frozenset(map(str, whole.index[whole.to_numpy(dtype="bool")])),
    )


def _rows(frame: pd.DataFrame) -> dict[int, dict[Hashable, Any]]:
    names = frame.columns.tolist()
    columns = [frame[name].tolist() for name in names]
    rows = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    return dict(zip(frame.index.tolist(), rows, strict=True))


def _cost(
    number: int, paid: Bill | None, joules: float | None, read: _Read, of: Ledger, terms: tuple[Term, ...]
) -> DeploymentCost:
    entity, held = read.entities[number], read.held.get(number, ())
    labels: dict[str, str] = entity["labels"]
    counts = read.counts.get(number, {})
    prompt, output, requests = (_known(counts.get(name)) for name in _COUNTS)
    joules = _known(joules)
    coverage = min(_watched(entity, counts, of), 1.0 if paid is None or joules is None else paid.covered_ratio)
    sparse, is_newer = coverage < LEAST_COVERAGE, entity["first_seen_at"].timestamp() * 1000 >= of.of.end_ms
    per_output = None if sparse else output
    return DeploymentCost(
        deployment_id=number,
        key=str(entity["key"]),
        model=labels.get("model", "unknown model"),
        server=labels.get("url", ""),
        engine_name=labels.get("engine", ""),
        targets=tuple(_titles(held, read)),
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
        scope=_scope(held, read),
        coverage_ratio=coverage,
        label=Quality.MISSING if paid is None or paid.total_usd is None else paid.quality,
        reason="; ".join(_reasons(paid, sparse, output, is_newer)),
        terms=terms,
    )


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _watched(entity: Mapping[Hashable, Any], counts: Mapping[Hashable, float], of: Ledger) -> float:
    """Part of the hours since it was first seen in which a deployment was."""
    alive_ms = of.of.end_ms - max(of.of.start_ms, round(entity["first_seen_at"].timestamp() * 1000))
    return min(counts.get("observed_seconds", 0.0) * 1000 / alive_ms, 1.0) if alive_ms > 0 else 0.0


def _reasons(paid: Bill | None, sparse: bool, output: float | None, is_newer: bool) -> Iterable[str]:
    if paid is None:
        return [NOT_YET if is_newer else NOT_JOINED]
    missing = dict.fromkeys(_REASONS.get(reason, reason) for _, reason in paid.missing)
    return missing or ([SPARSE] if sparse else [] if output else [NO_TOKENS])


def _titles(held: Sequence[int], read: _Read) -> Iterable[str]:
    """What people call the devices, each once."""
    return dict.fromkeys(
        f"{device['name']} on {device['host']}" if device["family"] == "accelerator" else f"CPUs of {device['host']}"
        for device in map(read.devices.__getitem__, held)
    )


def _scope(held: Sequence[int], read: _Read) -> str:
    """What the energy is that of, marked for translation; nothing where nothing is held."""
    if not held:
        return ""
    if all(read.devices[i]["family"] != "accelerator" for i in held):
        return PART_OF_PACKAGES
    return WITH_PACKAGES if {read.devices[i]["host"] for i in held} <= read.with_packages else ACCELERATOR


def _sources(held: Iterable[int], read: _Read) -> str:
    return ", ".join(sorted({read.energy_sources[i] for i in held if i in read.energy_sources})) or _("CPU accounts")


def _energy_quality(joules: float | None, held: Sequence[int], read: _Read) -> Quality:
    if joules is None or not held:
        return Quality.MISSING
    sources = {read.energy_sources.get(i, "integrated") for i in held}
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
            text(_("hourly accounts, {sources}"), sources=text(_sources(rows["device_id"], read))),
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
