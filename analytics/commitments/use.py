"""What was used of contracts, stretch by stretch; the only part that reads the store.

================  =========================  =======================================================================
unit              amounts here are           used is
================  =========================  =======================================================================
``megawatts``     MWh                        energy of devices on its hosts at the meter, cooling included where the
                                             site has a PUE
``gpu_hours``     GPU-hours                  hours in which deployments of its models held accelerators of its hosts
``tokens``        output tokens              output tokens of its models
``money``         its currency               the bill of its hosts; of a contract that names models and no hosts, what
                                             their tokens cost at hosted prices
================  =========================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics import prices
from analytics.commitments.terms import (
    day_of,
    term,
    whole_hour,
    within,
)
from analytics.device_hours import IDLE_ID, DeviceHours
from analytics.formulas.hosted import HostedTokens
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import total
from analytics.ledger import LINES, NO_ENERGY, Ledger, flat_edges, read_ledger
from analytics.serving import are_gateways, asks
from core.language import _
from core.prices import Contract
from core.settings import Settings
from core.sites import matches
from storage import queries
from storage.engine import Store

NOT_SEEN = _("nothing it pays for was seen")
NO_HOSTED_PRICE = _("no hosted price")
_KWH_PER_MWH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was seen of a contract's use over a stretch of its term. ``None``: unknown.

    ``covered_ratio`` is the part of the stretch that the amounts are from: by readings for energy; for all else, since
    counters go on while nobody looks, from the first sight of what it pays for to the store's last account.
    """

    span: Span
    used: float | None
    covered_ratio: float
    gpu_hours: float | None = None
    output_tokens: float | None = None
    prompt_tokens: float | None = None
    is_estimated: bool = False
    reason: str = ""


def uses(
    engine: Store, settings: Settings, edges_ms: Sequence[int], priced: Ledger | None = None
) -> dict[str, tuple[Use, ...]]:
    """What was used of every contract, by its name, between successive edges that lie in its term.

    Args:
        engine: the reader.
        settings: with contracts and prices.
        edges_ms: ascending, whole UTC hours (Unix ms). Where a term begins or ends or a price changes, a stretch is
            cut once more.
        priced: the bill from the first edge to the last, cut at all of these, where it was made already.
    """
    start_ms, end_ms = edges_ms[0], edges_ms[-1]
    edges = sorted({*edges_ms, *map(whole_hour, prices.price_cuts(settings, start_ms, end_ms))})
    if priced is None:
        cuts = flat_edges(settings, start_ms, end_ms) if any(map(_is_by_bill, settings.cost.contract)) else []
        accounted = queries.accounted_until(engine)
        priced = read_ledger(engine, settings, sorted({*edges, *cuts}), accounted, by_state=False)
    seen = _Seen.read(engine, priced)
    found = {}
    for contract in settings.cost.contract:
        whole = term(contract, settings)
        spans = [Span(*edge) for edge in pairwise(edges) if within(Span(*edge), whole)]
        scope = _scope(contract, settings, seen)
        found[contract.name] = tuple(_use(contract, settings, scope, span) for span in spans)
    return found


class _Seen(NamedTuple):
    """All that contracts are measured by, over one window."""

    of: DeviceHours
    rows: pd.DataFrame  # of the ledger
    entities: pd.DataFrame
    requests: pd.DataFrame  # of probes
    until_ms: int  # the store's last account

    @classmethod
    def read(cls, engine: Store, priced: Ledger) -> _Seen:
        of = priced.of
        requests = queries.probes(engine, of.start_ms, of.end_ms)
        return cls(
            of=of,
            rows=priced.rows,
            entities=queries.entities(engine).set_index("entity_id"),
            requests=requests.assign(hour_ms=queries.epoch_ms(requests["observed_at"])),
            until_ms=max(queries.accounted_until(engine).values(), default=0),
        )


class _Scope(NamedTuple):
    """What one contract pays for."""

    rows: pd.DataFrame  # of the ledger, of devices on its hosts
    held: pd.DataFrame  # hour_ms, gpu_hours
    work: pd.DataFrame  # of deployments of its models
    spent: pd.DataFrame  # hour_ms, usd (NaN without a price): tokens at hosted prices
    has_devices: bool
    has_servers: bool
    has_pue: bool
    known: Span | None  # first sight of it to the store's last account


def _scope(contract: Contract, settings: Settings, seen: _Seen) -> _Scope:
    of, entities = seen.of, seen.entities
    devices = of.devices[_fits(contract.hosts, of.devices["host"])]
    servers = _deployments(contract, entities)
    held = of.shares[of.shares["device_id"].isin(devices.index) & (of.shares["deployment_id"] != IDLE_ID)]
    held = held[held["deployment_id"].isin(servers)]
    if contract.hosts:
        servers = sorted(set(held["deployment_id"]))
    cards = devices.index[devices["family"] == "accelerator"]
    held = held[held["device_id"].isin(cards)].merge(of.hours[["device_id", "hour_ms", "there_ratio"]])
    probes = _probes(contract, entities, servers)
    by_tokens = _is_by_tokens(contract)
    things = [*servers, *probes] if by_tokens or contract.unit == "tokens" else devices.index.tolist()
    first = queries.epoch_ms(entities.loc[things, "first_seen_at"])
    work = of.work[of.work["deployment_id"].isin(servers)]
    requests = seen.requests[seen.requests["entity_id"].isin(probes)]
    return _Scope(
        rows=seen.rows[seen.rows["device_id"].isin(devices.index)],
        held=held.assign(gpu_hours=held["share"] * held["there_ratio"]),
        work=work,
        spent=_spent(settings, entities, work, requests) if by_tokens else pd.DataFrame(),
        has_devices=len(devices) > 0,
        has_servers=len(servers) > 0,
        has_pue=any(prices.site_of(settings, str(host)).place.pue_ratio for host in devices["host"].unique()),
        known=None if first.empty else Span(int(first.min()), seen.until_ms),
    )


def _fits(patterns: Sequence[str], names: Iterable[object]) -> NDArray[np.bool_]:
    """Which of them a contract that names these is for; one that names none is for all."""
    fits = [not patterns or any(matches(pattern, str(name)) for pattern in patterns) for name in names]
    return np.asarray(fits, "bool")


def _is_by_tokens(contract: Contract) -> bool:
    return contract.unit == "money" and bool(contract.models) and not contract.hosts


def _is_by_bill(contract: Contract) -> bool:
    return contract.unit == "money" and not _is_by_tokens(contract)


def _deployments(contract: Contract, entities: pd.DataFrame) -> list[int]:
    """Deployments of its models; a gateway counts for models that no server behind it is seen to serve."""
    servers = entities[entities["family"] == "deployment"]
    servers = servers[_fits(contract.models, servers["model"])]
    gateway = are_gateways(servers)
    return servers.index[~gateway | ~servers["model"].isin(servers.loc[~gateway, "model"])].tolist()


def _probes(contract: Contract, entities: pd.DataFrame, servers: list[int]) -> list[int]:
    """Probes of its models whose requests no counted server has counted already."""
    probes = entities[entities["family"] == "probe"]
    labels = entities.loc[servers, "labels"]
    counted = [any(asks(probe, server) for server in labels) for probe in probes["labels"]]
    mine = _fits(contract.models, probes["model"]) & ~np.asarray(counted, "bool")
    return [int(probe_id) for probe_id in probes.index[mine]]


def _spent(settings: Settings, entities: pd.DataFrame, work: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """What tokens of servers and probes cost: what the probe booked, else the hosted price of their model."""
    served = work.rename(columns={"deployment_id": "entity_id", "generation_tokens": "output_tokens"})
    rows = pd.concat([served, requests], ignore_index=True)
    usd = [
        _hosted_usd(settings, entities.loc[row["entity_id"]], row) if pd.isna(row.get("cost_usd")) else row["cost_usd"]
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame({"hour_ms": rows["hour_ms"], "usd": pd.Series(usd, dtype="float64")})


def _hosted_usd(settings: Settings, entity: pd.Series[Any], row: dict[Any, Any]) -> float | None:
    """Tokens at the first hosted price that holds for the model there; failed requests have no tokens to pay for."""
    prompt, cached, output = (
        0.0 if pd.isna(row.get(name)) else float(row[name])
        for name in ("prompt_tokens", "cached_prompt_tokens", "output_tokens")
    )
    day = day_of(settings, row["hour_ms"])
    called = [str(entity["key"]), str(entity["labels"].get("url", ""))]
    for price in settings.cost.hosted:
        if (
            price.holds_on(day)
            and matches(price.model, str(entity["model"]))
            and any(matches(price.endpoint, name) for name in called)
        ):
            counted = HostedTokens(
                uncached_tokens=max(prompt - cached, 0.0), cached_tokens=cached, write_tokens=0.0, output_tokens=output
            )
            return prices.hosted_usd(settings, price, counted, row["hour_ms"])
    return None if prompt or output else 0.0


def _use(contract: Contract, settings: Settings, scope: _Scope, span: Span) -> Use:
    known = None if scope.known is None else within(span, scope.known)
    if known is None:
        return Use(span=span, used=None, covered_ratio=0.0, reason=NOT_SEEN)
    rows, held, work = (_in(frame, span) for frame in (scope.rows, scope.held, scope.work))
    gpu_hours = float(held["gpu_hours"].sum()) if scope.has_devices else None
    output, prompt = (
        float(work[name].sum()) if scope.has_servers else None for name in ("generation_tokens", "prompt_tokens")
    )
    used, covered, reason, estimated = None, known.hours / span.hours, "", False
    match contract.unit:
        case "megawatts":
            used, read = _megawatt_hours(rows)
            covered, reason = covered * read, "" if used is not None else NO_ENERGY
            estimated = scope.has_pue  # the mean of a year, put on some days of it
        case "gpu_hours":
            used = gpu_hours
        case "tokens":
            used = output
        case "money":
            used, reason = _money(contract, settings, scope, span)
            estimated = _is_by_bill(contract) and bool(rows["is_estimated"].any())
    return Use(
        span=span,
        used=used,
        covered_ratio=0.0 if used is None else covered,
        gpu_hours=gpu_hours,
        output_tokens=output,
        prompt_tokens=prompt,
        is_estimated=estimated,
        reason=reason or ("" if used is not None else NOT_SEEN),
    )


def _in(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    if frame.empty:
        return frame
    return frame[(frame["hour_ms"] >= span.start_ms) & (frame["hour_ms"] < span.end_ms)]


def _megawatt_hours(rows: pd.DataFrame) -> tuple[float | None, float]:
    """Energy at the meter (MWh) and the part of the devices' time that it was read in."""
    there = rows["there_ratio"].sum()
    if not there:
        return 0.0, 1.0  # they were taken away
    kwh = rows["active_kwh"] + rows["idle_kwh"]
    read = float((rows["there_ratio"] * rows["covered_ratio"]).sum() / there)
    return (float(kwh.sum()) / _KWH_PER_MWH, read) if read else (None, 0.0)


def _money(contract: Contract, settings: Settings, scope: _Scope, span: Span) -> tuple[float | None, str]:
    """Bill or spend of a stretch in the contract's currency, or why it is unknown."""
    if _is_by_tokens(contract):
        spent = _in(scope.spent, span)["usd"] if len(scope.spent) else pd.Series(dtype="float64")
        if spent.isna().any():
            return None, NO_HOSTED_PRICE
        usd = float(spent.sum())
    else:
        rows = _in(scope.rows, span)
        lacking = rows.loc[~rows["reason"].isin(["", NO_ENERGY]), "reason"]
        if len(lacking):
            return None, str(lacking.iloc[0])
        usd = float(np.nansum(rows[list(LINES)].to_numpy(dtype="float64")))
    there = prices.to_currency(settings, usd, "USD", contract.currency, span.start_ms)
    return there.amount, there.reason


def together(of: Iterable[Use], span: Span) -> Use:
    """Successive uses that lie in a stretch as one; what is missing between them lowers the coverage."""
    parts = [one for one in of if span.start_ms <= one.span.start_ms and one.span.end_ms <= span.end_ms]

    def added(name: str) -> float | None:
        return total(*(amount for one in parts if (amount := getattr(one, name)) is not None))

    return Use(
        span=span,
        used=added("used"),
        covered_ratio=min(sum(one.covered_ratio * one.span.hours for one in parts) / span.hours, 1.0),
        gpu_hours=added("gpu_hours"),
        output_tokens=added("output_tokens"),
        prompt_tokens=added("prompt_tokens"),
        is_estimated=any(one.is_estimated for one in parts),
        reason=next((one.reason for one in parts if one.reason), "" if parts else NOT_SEEN),
    )
