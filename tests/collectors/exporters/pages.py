"""Pages of exporters as tests read them: hand-written ones, and what a dialect makes of a text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from collectors.scrape.exposition import PageReader, Selector
from collectors.sources.exporters import DIALECTS
from collectors.sources.exporters.dialect import Dialect, DialectReader, Look
from core.catalog import FAMILIES
from core.readings import Entity, Reading, Sample

T = TypeVar("T")
FIXTURES = Path(__file__).parents[2] / "fixtures/exporters"
AT_MS = 1_760_000_000_000
HOST = "target-1"


def written(name: str) -> str:
    """A page of ``tests/fixtures/exporters``."""
    return (FIXTURES / f"{name}.prom").read_text()


def dialect_of(text: str) -> Dialect:
    """The one dialect that a page speaks."""
    (dialect,) = (dialect for dialect in DIALECTS if dialect.speaks(b"\n" + text.encode()))
    return dialect


class Watched:
    """One target that is looked at again and again."""

    def __init__(self, dialect: Dialect) -> None:
        self._select = Selector(dialect.series)
        self._pages = PageReader()
        self._reader: DialectReader = dialect.reader()

    def look(self, text: str, at_ms: int = AT_MS, *, host: str = HOST, federated: bool = False) -> list[Reading]:
        """What the page says."""
        return list(
            self._reader.read(
                Look(
                    page=self._pages.read(self._select(text.encode())),
                    at_ms=at_ms,
                    host=host,
                    own_host="hub",
                    watched_since_ms=AT_MS,
                    federated=federated,
                )
            )
        )


def looked(text: str, *, host: str = HOST, federated: bool = False) -> list[Reading]:
    """What a page says at first sight."""
    return Watched(dialect_of(text)).look(text, host=host, federated=federated)


def of(kind: type[T], readings: Iterable[Reading]) -> list[T]:
    return [reading for reading in readings if isinstance(reading, kind)]


def samples(readings: Iterable[Reading]) -> list[Sample]:
    return [reading for reading in readings if isinstance(reading, Sample)]


def values(readings: Iterable[Reading], key: str) -> dict[str, Any]:
    """The metrics that the sample of this key has."""
    (sample,) = (reading for reading in readings if isinstance(reading, Sample) and reading.key == key)
    names = (metric.name for metric in FAMILIES[sample.family].metrics)
    return {name: value for name in names if (value := getattr(sample, name)) is not None}


def entities(readings: Iterable[Reading]) -> dict[str, Entity]:
    return {entity.key: entity for entity in of(Entity, readings)}
