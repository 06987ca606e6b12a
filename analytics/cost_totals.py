"""Cost of several deployments together, its course over time, and what stands idle beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from analytics import efficiency
from analytics.allocation import Window, host_parts
from analytics.costs import NO_TOKENS, CostFigures, DeploymentCost, unjoined
from analytics.formulas.cost import electricity_usd, usd_per_million
from analytics.formulas.energy import Quality, facility_kwh, joules_per_token, worst
from analytics.formulas.local_time import Span
from analytics.formulas.unknown import per, product
from analytics.prices import energy_price, hourly_price, site_of
from core.settings import Settings
from storage.engine import Store

MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Total(CostFigures):
    """Sums over those deployments whose part is known.

    Money is divided by the tokens of the deployments it belongs to (``priced``), energy by the tokens
    of those with a known energy (``metered``); ``reason`` names what keeps the others out.
    """

    deployments: int
    priced: int
    metered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """An accelerator that no deployment is known to run on, and what it cost over the window (USD).

    A host's own price falls to its accelerators in equal parts, as for those in use.
    """

    entity_id: int
    key: str
    model: str
    host: str
    hours: float
    energy_joules: float | None
    hardware_usd: float | None
    electricity_usd: float | None

    @property
    def total_usd(self) -> float | None:
        """Both together; unknown when one is."""
        return _sum([self.hardware_usd, self.electricity_usd])


def total(costs: Sequence[DeploymentCost]) -> Total:
    """All deployments as one."""
    priced = [cost for cost in costs if cost.total_usd is not None]
    metered = [cost for cost in costs if cost.energy_joules is not None]
    money = _sum([cost.total_usd for cost in priced])
    joules = _sum([cost.energy_joules for cost in metered])
    # A deployment that was seen too little has no figure per token; then the sum has none either.
    paid_output = _tokens(priced, lambda cost: cost.usd_per_million_output_tokens)
    paid_prompt = _sum([cost.prompt_tokens for cost in priced])
    paid = None if paid_output is None or paid_prompt is None else paid_output + paid_prompt
    metered_output = _tokens(metered, lambda cost: cost.joules_per_output_token)
    return Total(
        deployments=len(costs),
        priced=len(priced),
        metered=len(metered),
        output_tokens=_sum([cost.output_tokens for cost in costs]),
        prompt_tokens=_sum([cost.prompt_tokens for cost in costs]),
        hardware_usd=_sum([cost.hardware_usd for cost in priced]),
        electricity_usd=_sum([cost.electricity_usd for cost in priced]),
        total_usd=money,
        usd_per_million_output_tokens=usd_per_million(money, paid_output),
        usd_per_million_tokens_blended=usd_per_million(money, paid),
        energy_joules=joules,
        joules_per_output_token=joules_per_token(joules, metered_output),
        energy_quality=worst(*(cost.energy_quality for cost in metered)) if metered else Quality.MISSING,
        coverage_ratio=min((cost.coverage_ratio for cost in costs), default=0.0),
        label=worst(*(cost.label for cost in priced)) if priced else Quality.MISSING,
        reason="; ".join(dict.fromkeys(cost.reason for cost in costs if cost.reason)),
    )


def lines(of: Total) -> list[tuple[str, float, float]]:
    """What adds up to the cost: name, USD, share of the whole; empty where the cost is unknown."""
    if not of.total_usd or of.hardware_usd is None or of.electricity_usd is None:
        return []
    parts = [("hardware", of.hardware_usd), ("electricity", of.electricity_usd), ("total", of.total_usd)]
    return [(name, usd, usd / of.total_usd) for name, usd in parts]


def _tokens(costs: list[DeploymentCost], figure: Callable[[DeploymentCost], float | None]) -> float | None:
    """Output tokens of deployments; unknown when one of them has tokens but no figure per token."""
    if any(figure(cost) is None and cost.reason != NO_TOKENS for cost in costs):
        return None
    return _sum([cost.output_tokens for cost in costs])


def trend(at: Iterable[tuple[int, Sequence[DeploymentCost]]]) -> pd.DataFrame:
    """Unit figures of successive windows.

    Args:
        at: start of each window (Unix ms) and its costs.

    Returns:
        bucket_at, deployment_id, model, server, output_tokens, total_usd,
        usd_per_million_output_tokens, joules_per_output_token (NaN: unknown, or no tokens).
    """
    names = ("deployment_id", "model", "server")
    numbers = ("output_tokens", "total_usd", "usd_per_million_output_tokens", "joules_per_output_token")
    rows = [(start_ms, *(getattr(cost, n) for n in (*names, *numbers))) for start_ms, costs in at for cost in costs]
    frame = pd.DataFrame(rows, columns=["bucket_at", *names, *numbers]).astype(dict.fromkeys(numbers, "float64"))
    frame["bucket_at"] = pd.to_datetime(frame["bucket_at"].astype("int64"), unit="ms", utc=True)
    return frame


def idle(engine: Store, settings: Settings, start_ms: int, end_ms: int) -> list[Idle]:
    """Accelerators without a deployment in the whole window, with what they cost meanwhile."""
    accelerators = unjoined(engine, start_ms, end_ms)[1]
    window = Window.read(engine, start_ms, end_ms)
    ids = [int(i) for i in accelerators["entity_id"]]
    joules = efficiency.energy(engine, "accelerator", ids, start_ms, end_ms).set_index("entity_id")["energy_joules"]
    span, found = Span(start_ms, end_ms), []
    for row in accelerators.to_dict("records"):
        model = str(row["model"] or "")
        name = str(row["host"])
        site = site_of(settings, name)
        price = hourly_price(settings, "accelerator", model, name, end_ms - 1)
        host = hourly_price(settings, "host", name, name, end_ms - 1)
        host_part = 0.0 if host is None else per(host.usd_per_hour, host_parts(window, name))
        first_ms = int(row["first_seen_at"].timestamp() * 1000)
        hours = max(end_ms - max(start_ms, first_ms), 0) / MS_PER_HOUR
        used = joules.get(row["entity_id"])
        energy = None if used is None or pd.isna(used) else float(used)
        kwh = None if energy is None else facility_kwh(energy, site.place.pue_ratio)
        usd_per_kwh = energy_price(settings, site, span).usd_per_kwh
        included = price is not None and not price.electricity_on_top
        found.append(
            Idle(
                entity_id=int(row["entity_id"]),
                key=str(row["key"]),
                model=model,
                host=name,
                hours=hours,
                energy_joules=energy,
                hardware_usd=None if price is None else product(_sum([price.usd_per_hour, host_part]), hours),
                electricity_usd=0.0 if included else electricity_usd(kwh, usd_per_kwh),
            )
        )
    return found


def idle_usd(found: Sequence[Idle]) -> float | None:
    """Cost of all idle accelerators together (USD)."""
    return _sum([one.total_usd for one in found])


def _sum(parts: Sequence[float | None]) -> float | None:
    """A sum is unknown when a part is, or when there is nothing to add."""
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None
