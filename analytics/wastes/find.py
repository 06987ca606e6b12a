"""The wastes of a window with what they cost, what of it is cash, and what capacity they hold back.

The tests stand in the order of ``Kind``. An hour of a device belongs to the first that claims it, so no GPU-hour is
counted twice, and wastes together never cost more than the hours that they own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analytics.formulas.energy import Quality
from analytics.formulas.unknown import total
from analytics.formulas.wastes import saving_usd, unused_commitment_usd
from analytics.ledger import Ledger, claimed_bill
from analytics.wastes import by_hour
from analytics.wastes.by_deployment import Case, cases, deployments
from analytics.wastes.hours import Hours, hours, read_states, stretches
from analytics.wastes.waste import Claim, Commitment, Figure, Kind, Waste
from core.settings import Settings
from storage.engine import Store

NO_TOKENS_OF_ERRORS = "no server counts the tokens of requests that failed or were cancelled"
NO_USE = "what was used of it is not known"
NO_AMOUNT = "what it costs is not known"
_Test = Callable[[Hours, by_hour.Rows], Iterator[Claim]]
_BY_HOUR: Mapping[Kind, _Test] = {
    Kind.PARKED: by_hour.parked,
    Kind.FREE: by_hour.free,
    Kind.TROUGH: by_hour.trough,
    Kind.IDLE_POWER: by_hour.idle_power,
    Kind.DEAR_HOURS: by_hour.dear_hours,
}


def find_wastes(engine: Store, of: Ledger, settings: Settings, commitments: Sequence[Commitment] = ()) -> list[Waste]:
    """All wastes of the window of a bill, dearest first, those of unknown cost last.

    Args:
        engine: the reader.
        of: the bill, normally of a week.
        settings: those that it was priced by.
        commitments: contracts, what part of each was used, and what it costs over the window.
    """
    there = deployments(engine)
    states = read_states(engine, of.of)
    return wastes(hours(of, states, there["model"], settings), cases(engine, of, settings, there), commitments)


def wastes(of: Hours, said: Sequence[Case], commitments: Sequence[Commitment] = ()) -> list[Waste]:
    """The same from what was read: hours of devices, and what is said of deployments."""
    owned = np.zeros(len(of.rows), "bool")
    found = [waste for one in commitments if (waste := _commitment(one)) is not None]
    for kind in Kind:
        about = [case for case in said if case.kind is kind]
        found += [_unknown(of, case) for case in about if case.part is None]
        tests = _BY_HOUR[kind](of, ~owned) if kind in _BY_HOUR else _claims(of, about)
        for claim in tests:
            free = ~owned[claim.rows]
            claim = replace(claim, rows=claim.rows[free], parts=claim.parts[free])
            waste = _priced(of, claim)
            if waste is not None:
                owned[claim.rows] = True
                found.append(waste)
    return sorted(found, key=lambda one: (one.cost_usd is None, -(one.cost_usd or 0.0), list(Kind).index(one.kind)))


def _claims(of: Hours, said: Iterable[Case]) -> Iterator[Claim]:
    """The hours that deployments hold, each by its share."""
    for case in said:
        if case.part is not None:
            held = of.shares[of.shares["deployment_id"] == case.deployment_id]
            yield Claim(
                kind=case.kind,
                what=str(of.models[case.deployment_id]),
                rows=held["row"].to_numpy(),
                parts=held["share"].to_numpy() * case.part,
                less_usd=case.less_usd,
                deployment_ids=(case.deployment_id,),
                evidence=case.evidence,
            )


def _priced(of: Hours, claim: Claim) -> Waste | None:
    """A claim as a waste; none if it has no hours, or nothing was paid for them."""
    if not len(claim.rows):
        return None
    found, cash_of = (claimed_bill(one, claim.rows, claim.parts, claim.lines) for one in (of.of, of.cash))
    cost, cash = (total(one.total_usd, -claim.less_usd) for one in (found, cash_of))
    if cost is not None and cost <= 0:
        return None
    rows = of.rows.iloc[claim.rows]
    there = rows["there_ratio"].where(rows["is_card"], 0.0)
    frees = "hardware_usd" in claim.lines
    estimated = Quality.ESTIMATED if rows["is_estimated"].any() else Quality.DERIVED
    sites = of.of.devices["site"].reindex(rows["device_id"].unique())
    return Waste(
        kind=claim.kind,
        what=claim.what,
        hosts=tuple(sorted(set(rows["host"]))),
        sites=tuple(sorted(set(sites))),
        deployment_ids=claim.deployment_ids,
        stretches=stretches(rows),
        evidence=(Figure("device_hours", float(rows["there_ratio"].sum())), *claim.evidence),
        cost_usd=cost,
        cash_saving_usd=saving_usd(cash),
        freed_gpu_hours=float((there * claim.parts).sum()) if frees else 0.0,
        quality=Quality.MISSING if cost is None else estimated,
        reason="; ".join(f"{what}: {why}" for what, why in found.missing) if cost is None else "",
    )


def _commitment(one: Commitment) -> Waste | None:
    """What lies unused of a contract. It owns no hour of a device, and is paid for whatever is done."""
    unused = unused_commitment_usd(one.used_ratio, one.amortised_usd)
    if unused is not None and unused <= 0:
        return None
    reason = NO_USE if one.used_ratio is None else NO_AMOUNT
    return Waste(
        kind=Kind.COMMITMENT,
        what=one.name,
        hosts=(),
        sites=(),
        deployment_ids=(),
        stretches=(),
        evidence=(Figure("used_ratio", one.used_ratio), Figure("amortised_usd", one.amortised_usd)),
        cost_usd=unused,
        cash_saving_usd=(0.0, 0.0),
        freed_gpu_hours=0.0,
        quality=Quality.MISSING if unused is None else one.quality,
        reason=reason if unused is None else "",
    )


def _unknown(of: Hours, case: Case) -> Waste:
    """What a deployment lost at an unknown cost; it owns no hour."""
    device_ids = of.shares.loc[of.shares["deployment_id"] == case.deployment_id, "device_id"].unique()
    devices = of.of.devices.loc[device_ids]
    return Waste(
        kind=case.kind,
        what=str(of.models[case.deployment_id]),
        hosts=tuple(sorted(set(devices["host"]))),
        sites=tuple(sorted(set(devices["site"]))),
        deployment_ids=(case.deployment_id,),
        stretches=(),
        evidence=case.evidence,
        cost_usd=None,
        cash_saving_usd=None,
        freed_gpu_hours=0.0,
        quality=Quality.MISSING,
        reason=NO_TOKENS_OF_ERRORS,
    )
