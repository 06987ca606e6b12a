"""What a source of inference servers reports, tick by tick."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from collectors.sources.serving.source import ServingSource
from core.errors import NoData
from core.readings import Reading

T = TypeVar("T")
HOST = "node1"


def collect(source: ServingSource) -> list[Reading]:
    try:
        return list(source.collect())
    except NoData:
        return []


def of(kind: type[T], readings: Iterable[Reading]) -> list[T]:
    return [reading for reading in readings if isinstance(reading, kind)]


def one(kind: type[T], readings: Iterable[Reading]) -> T:
    (reading,) = of(kind, readings)
    return reading
