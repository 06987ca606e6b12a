"""A fleet of known truth over weeks, and a store that has accounted for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from analytics.formulas.local_time import iso_week
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    Entity,
    Latency,
    LatencySample,
    Reading,
)
from core.settings import Settings, StorageSettings
from storage.upkeep import Upkeep
from tests.conftest import Store

HOUR_MS = 3_600_000
ZONE = "America/Santiago"
OWNED = {"kind": "owned", "applies_to": "accelerator", "capex": 35_040.0, "life_years": 4}  # 1 USD/h
BOOK: dict[str, Any] = {"hardware": [OWNED]}
SITE: dict[str, Any] = {"time_zone": ZONE, "usd_per_kwh": 0.1, "pue_ratio": 1.2, "grid_gco2e_per_kwh": 250.0}
STEP_MS = HOUR_MS // 4
MONDAY_MS = iso_week(2026, 40, ZoneInfo(ZONE)).start_ms
IN_PESOS = {"hardware": [{**OWNED, "currency": "CLP"}]}
ENDED = {
    "name": "hall",
    "unit": "gpu_hours",
    "amount": 1000.0,
    "price": 1000.0,
    "hosts": ["box"],
    "begins": "2026-09-01",
    "ends": "2026-10-01",
}
PROMISED = {"objective": [{"model": "llama", "ttft_seconds": 0.5, "target_ratio": 0.9}]}
WEEK = 168


def fleet(hours: int, begin: int = 0, *, tokens_per_second: float = 10.0, model: str = "llama") -> Iterator[Reading]:
    """One card that serves at 500 W for half of each day and is parked at 100 W else; one that is free at 50 W."""
    start_ms, joules, tokens = MONDAY_MS + begin * HOUR_MS, 0.0, 0.0
    labels = {"vendor": "AMD", "model": "MI300X"}
    for key in ("A", "B"):
        yield Entity(
            observed_at_ms=start_ms, family="accelerator", key=key, host="box", labels={**labels, "index": key}
        )
    server = {"model": model, "url": "http://box:8000", "engine": "vLLM"}
    yield Entity(observed_at_ms=start_ms, family="deployment", key="d", host="box", labels=server)
    yield Assignment(
        deployment_key="d",
        target_family="accelerator",
        target_keys=("A",),
        origin="processes",
        observed_at_ms=start_ms,
    )
    for at_ms in range(start_ms, start_ms + hours * HOUR_MS + 1, STEP_MS):
        works = (at_ms - MONDAY_MS - 1) // HOUR_MS % 24 < 12  # of the step that ends here
        joules += (500 if works else 100) * STEP_MS / 1000
        tokens += tokens_per_second * STEP_MS / 1000 if works else 0.0
        free_joules = (at_ms - start_ms) / 1000 * 50.0
        yield AcceleratorSample(key="A", observed_at_ms=at_ms, energy_joules_total=joules, processes=1)
        yield AcceleratorSample(key="B", observed_at_ms=at_ms, energy_joules_total=free_joules, processes=0)
        yield DeploymentSample(
            key="d",
            observed_at_ms=at_ms,
            generation_tokens_total=tokens,
            prompt_tokens_total=2 * tokens,
            succeeded_requests_total=tokens / 100,
            failed_requests_total=0.0,
            running_requests=float(works),
            waiting_requests=0.0,
        )
        yield LatencySample(
            key="d",
            kind=Latency.TTFT,
            observed_at_ms=at_ms,
            upper_bounds_seconds=(0.1, 0.5, float("inf")),
            increments=(9.0, 1.0, 0.0),
            sum_seconds=1.0,
        )


def settings(cost: dict[str, Any] | None = None, site: dict[str, Any] | None = None, **more: Any) -> Settings:
    return Settings(cost=BOOK if cost is None else cost, site=site or SITE, **more)  # type: ignore[arg-type]


def account(store: Store, until_ms: int, *readings: Reading) -> None:
    store.write(*readings)
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.account(until_ms + HOUR_MS // 2)
