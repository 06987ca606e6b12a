"""Energy and state seconds of a thousand accelerators over eight weeks, by week, from their accounts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from storage import accounts, queries, schema
from storage.accounts import Accounts, Pending
from storage.engine import Address, reader_engine
from storage.schema import HOUR_MS
from storage.session import writing

ACCELERATORS, WEEKS, READS = 1_000, 8, 7
ZONES = ("UTC", "America/Santiago")  # days that are whole UTC days, and days that are not


@dataclass(frozen=True, slots=True)
class WeeklyRead:
    """Best of several."""

    zone: str
    milliseconds: float
    rows: int


@contextmanager
def filled(address: Address) -> Iterator[None]:
    """A store with the accounts of every hour of eight weeks; samples are not needed for them."""
    chance = random.Random(1)
    begin_ms = _edges(ZoneInfo("UTC"))[0] - 24 * HOUR_MS
    hours = (WEEKS * 7 + 2) * 24
    names = [column.name for column in schema.account.c][3:]
    with writing(address, host="bench") as writer:
        for number in range(ACCELERATORS):
            rows: list[tuple[object, ...]] = []
            active = chance.uniform(0, 3600)
            entity_id = writer.call(
                partial(writer.rows.entity_id, family="accelerator", key=f"GPU-{number}", at_ms=begin_ms)
            )
            for hour in range(hours):
                of = {
                    "observed_seconds": 3600.0,
                    "energy_joules": 100 * 3600 + 600 * active,
                    "energy_seconds": 3600.0,
                    "energy_source": "counter",
                    "active_seconds": active,
                    "parked_seconds": 3600 - active,
                    "off_seconds": 0.0,
                }
                rows.append((1, entity_id, begin_ms + hour * HOUR_MS, *(of.get(name) for name in names)))
            end_ms = begin_ms + hours * HOUR_MS
            made = Accounts(Pending(entity_id, "accelerator", begin_ms), end_ms, end_ms, rows, [], 0)
            writer.call(partial(accounts.store, made=made))
        yield


def _edges(zone: ZoneInfo) -> list[int]:
    """Mondays in a time zone, which are 167, 168 or 169 hours apart (Unix ms)."""
    monday = datetime(2026, 9, 7, tzinfo=zone)
    return [int((monday + timedelta(weeks=week)).timestamp()) * 1000 for week in range(WEEKS + 1)]


def read(address: Address) -> Iterator[WeeklyRead]:
    """Each zone's weeks, through the query that pages use."""
    reader = reader_engine(address)
    for zone in ZONES:
        edges, best, rows = _edges(ZoneInfo(zone)), float("inf"), 0
        for _ in range(READS):
            began = time.perf_counter()
            frame = queries.accounts(reader, "accelerator", None, edges)
            best, rows = min(best, time.perf_counter() - began), len(frame)
        if rows != ACCELERATORS * WEEKS or frame["energy_joules"].isna().any():
            raise RuntimeError(f"{rows} rows of weeks instead of {ACCELERATORS * WEEKS}")
        yield WeeklyRead(zone, best * 1e3, rows)
    reader.dispose()
