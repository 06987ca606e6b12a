"""Two weeks of the demo that end at a fixed instant, served by the real dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from collectors.past import lay_down, missing
from collectors.sources.simulated.source import SimulatedSource
from core.settings import StorageSettings, load
from reports.keep import keep_weeks
from storage import summaries
from storage.batch import Batch
from storage.engine import reader_engine
from storage.session import writing
from storage.upkeep import Upkeep
from tests.e2e.daemon import ROOT
from tests.e2e.dashboard import serving

TICK_MS = 10_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def _ms(*at: int) -> int:
    return round(datetime(*at, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


LAST_MS = _ms(2026, 7, 9, 14, 10)
"""The newest sample: within the incident of that day, and days after what is looked at below was laid down."""
DAY = (_ms(2026, 7, 2, 6), _ms(2026, 7, 3, 6))
"""Thursday, 2 July, from midnight to midnight in Mexico City."""
WEEK = (_ms(2026, 6, 29, 6), _ms(2026, 7, 6, 6))
"""Week 27 of 2026 there: the hall grows on its third day."""
DAY_IN_ADDRESS = "range=custom&from=2026-07-02T00:00&to=2026-07-03T00:00&live=false"
WEEK_IN_ADDRESS = "week=2026-W27"


@contextmanager
def served(folder: Path) -> Iterator[tuple[Path, str]]:
    """Lay the demo down and show it; yields the database and the dashboard's address."""
    path, config = folder / "demo.db", folder / "demo.toml"
    config.write_text((ROOT / "demo.toml").read_text("utf-8").replace("var/demo-fleet.db", str(path)), "utf-8")
    settings, source = load(config), SimulatedSource()
    with writing(path, host="simulated") as writer:
        for stretch in missing(None, LAST_MS - TICK_MS, TICK_MS, weeks=2):
            lay_down(writer, source, stretch)
        writer.submit(Batch((*source.processes(LAST_MS), *source.at(LAST_MS))))  # a live tick
        reader = reader_engine(path)
        Upkeep(reader, writer, StorageSettings(keep_samples_days=100_000)).account(LAST_MS)
        reader.dispose()
    with summaries.writing(path, str(path)) as engine:
        list(keep_weeks(engine, settings, LAST_MS))
    with serving(config) as url:
        yield path, url
