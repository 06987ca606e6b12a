"""What an hour of each type of accelerator costs by the settings."""

from __future__ import annotations

import pandas as pd

from analytics.capacity.output import whole_devices
from analytics.prices import hourly_price
from core.hardware import catalogue
from core.hardware.catalogue import match_accelerator
from core.settings import Settings


def hourly_prices(settings: Settings, entities: pd.DataFrame, at_ms: int) -> dict[str, float]:
    """What an hour of each type costs by the settings (USD), by model of accelerator; without a price it is not there.

    A price names a part of what drivers call a device. A type that was seen is asked for by that, any other by
    vendor and model.

    Args:
        settings: with the prices.
        entities: as ``queries.entities`` gives them.
        at_ms: the day that prices must hold on (Unix ms).
    """
    seen: dict[str, list[tuple[str, str]]] = {}
    for name, host in whole_devices(entities)[["model", "host"]].dropna().drop_duplicates().itertuples(index=False):
        found = match_accelerator(name)
        if found is not None:
            seen.setdefault(found.model, []).append((name, host))
    answer: dict[str, float] = {}
    for one in catalogue.accelerators():
        for name, host in seen.get(one.model, [(f"{one.vendor} {one.model}", "")]):
            price = hourly_price(settings, "accelerator", name, host, at_ms)
            if price is not None and price.usd_per_hour is not None:
                answer.setdefault(one.model, price.usd_per_hour)
    return answer
