"""Who answers for the cost of a week: deployments by site, and models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analytics.device_hours import IDLE_ID
from analytics.formulas.cost import usd_per_million
from analytics.formulas.unknown import total
from analytics.ledger import Ledger, deployment_bills
from analytics.weekly.summary import CostRow, ModelCost
from storage import queries
from storage.engine import Store


def _named(engine: Store) -> dict[int, tuple[str, str]]:
    """Model and address of every deployment, and of what nobody held."""
    found = queries.entities(engine, "deployment")
    names = zip(found["entity_id"], found["model"].fillna(found["key"]), found["labels"], strict=True)
    return {IDLE_ID: ("", "")} | {int(i): (str(model), str(labels.get("url", ""))) for i, model, labels in names}


def models(priced: Ledger, rows: Iterable[CostRow], is_observed: bool) -> tuple[ModelCost, ...]:
    """What each model cost, dearest first."""
    made = priced.of.work.groupby("deployment_id")["generation_tokens"].sum(min_count=1).dropna()
    by_model: dict[str, list[CostRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    found = []
    for model, parts in by_model.items():
        usd = total(*(one.bill.total_usd for one in parts))
        kwh = total(*(amount for one in parts for amount in (one.bill.active_kwh, one.bill.idle_kwh)))
        output = total(*(made.get(number) for number in {one.deployment_id for one in parts}))
        found.append(ModelCost(model, usd, kwh, output, usd_per_million(usd, output) if is_observed else None))
    return tuple(sorted(found, key=lambda one: (one.usd is None, -(one.usd or 0.0), one.model)))


def rows(engine: Store, priced: Ledger) -> Iterator[CostRow]:
    """What each deployment cost at each site, and what nobody held."""
    named = _named(engine)
    site_of_row = priced.devices["site"].reindex(priced.rows["device_id"]).to_numpy()
    there = priced.rows[["device_id", "hour_ms", "there_ratio"]].assign(site=site_of_row)
    held = priced.of.shares.merge(there, on=["device_id", "hour_ms"])
    hours = (held["share"] * held["there_ratio"]).groupby([held["site"], held["deployment_id"]]).sum()
    for site in sorted(set(site_of_row)):
        for number, one in sorted(deployment_bills(priced, site_of_row == site).items()):
            yield CostRow(str(site), number, *named[number], float(hours[site, number]), one)
