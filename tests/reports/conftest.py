"""Summaries of weeks of known truth, made once from real stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics.weekly import WeeklySummary, weekly_summary
from core.readings import Reading
from core.settings import Settings
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.writer import Writer
from tests.analytics.weeks import BOOK, ENDED, HOUR_MS, IN_PESOS, MONDAY_MS, PROMISED, WEEK, account, fleet, settings
from tests.conftest import Store

NASTY = '<b>=llama & "#strong[x]" \'é</b>'
"""A model whose name means something to every format."""

READINGS: dict[str, Callable[[], Iterator[Reading]]] = {
    "whole": lambda: fleet(WEEK + 170, begin=-WEEK, model=NASTY),
    "nothing": lambda: iter(()),
    "half": lambda: (one for part in (fleet(40), fleet(1, begin=167)) for one in part),
    "no tokens": lambda: fleet(WEEK, tokens_per_second=0.0),
}
PESOS = {"currency": "CLP"}
RATE = {"rate": [{"currency": "CLP", "on": "2026-09-01", "per_usd": 900.0}]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("whole", {**BOOK, "contract": [ENDED]}),
    "nothing": ("nothing", BOOK),
    "half": ("half", BOOK),
    "no prices": ("whole", {}),
    "no tokens": ("no tokens", BOOK),
    "no rate": ("whole", {**IN_PESOS, **PESOS}),
    "pesos": ("whole", {**BOOK, **PESOS, **RATE}),
}


def the_settings(store: Store | None, cost: dict[str, Any]) -> Settings:
    storage = {} if store is None else {"storage": {"url": f"sqlite:///{store.path}"}}
    objective = {"objective": [{**PROMISED["objective"][0], "model": "llama"}]}
    return settings(cost, serving=objective, simulated=True, **storage)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Store]]:
    """Stores by the name of what is in them."""
    made: dict[str, Store] = {}

    def store_of(name: str) -> Store:
        if name not in made:
            path = Path(tmp_path_factory.mktemp("weekly")) / "vatio.db"
            engine = writer_engine(path)
            upgrade(engine)
            writer = Writer(engine, host="box", flush_seconds=0.01, retry_seconds=0.05)
            writer.start()
            made[name] = Store(path, path, writer, reader_engine(path))
            account(made[name], MONDAY_MS + WEEK * HOUR_MS, *READINGS[name]())
        return made[name]

    yield store_of
    for store in made.values():
        store.writer.stop()
        store.reader.dispose()


@pytest.fixture(scope="session")
def summaries(stores: Callable[[str], Store]) -> Callable[[str], WeeklySummary]:
    """Summaries of week 40 by the name of the case."""
    made: dict[str, WeeklySummary] = {}

    def summary_of(name: str) -> WeeklySummary:
        if name not in made:
            readings, cost = CASES[name]
            at_ms = MONDAY_MS + WEEK * HOUR_MS
            made[name] = weekly_summary(stores(readings).reader, the_settings(None, cost), 2026, 40, at_ms)
        return made[name]

    return summary_of
