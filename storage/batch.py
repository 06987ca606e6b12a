"""What one tick of one source brought, and its form as JSON for the spool.

The form is a list of ``[class name, {field: value}]``, derived from the dataclasses: enums by value, tuples as
lists, times and units as the fields name them. A field that is ``None`` by default is left out while it is.
What another release wrote and this one does not know costs that record or that field and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import EnumType
from functools import cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from core.health import SourceStatus, TickReport
from core.readings import SAMPLE_TYPES, Assignment, DeviceProcess, Entity, Event, LatencySample, Reading

KEPT: tuple[type, ...] = (
    *SAMPLE_TYPES,
    LatencySample,
    Entity,
    Event,
    DeviceProcess,
    Assignment,
    TickReport,
    SourceStatus,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one tick of one source brought."""

    readings: tuple[Reading, ...] = ()
    ticks: tuple[TickReport, ...] = ()
    statuses: tuple[SourceStatus, ...] = ()


def to_json(batch: Batch) -> bytes:
    """Encode on one line of ASCII; readings that the store does not keep are left out.

    NaN and infinities are written as Python's ``json`` spells them, so that a histogram's last bound returns.
    """
    records = (*batch.readings, *batch.ticks, *batch.statuses)
    # ASCII: a process name may hold bytes that are no text, and only escapes bring those back.
    return _ENCODER.encode([[type(it).__name__, _written(it)] for it in records if type(it) in KEPT]).encode("ascii")


def from_json(content: bytes) -> tuple[Batch, list[str]]:
    """Decode what ``to_json`` wrote, and name the records and fields that this release does not know."""
    unknown: list[str] = []
    try:
        written = json.loads(content)
    except ValueError:
        written = None
    if not isinstance(written, list):
        return Batch(), ["batch"]
    records = [record for entry in written if (record := _record(entry, unknown)) is not None]
    ticks = tuple(record for record in records if isinstance(record, TickReport))
    statuses = tuple(record for record in records if isinstance(record, SourceStatus))
    readings = tuple(record for record in records if not isinstance(record, TickReport | SourceStatus))
    return Batch(cast("tuple[Reading, ...]", readings), ticks, statuses), unknown


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=dict)  # dict: labels may be any mapping
_KINDS: dict[str, Callable[..., object]] = {kind.__name__: kind for kind in KEPT}
_Reader = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the fields of one class are written and read."""

    names: tuple[str, ...]
    values: Callable[[object], tuple[object, ...]]
    kept_when_none: frozenset[str]
    readers: Mapping[str, _Reader]  # each raises ValueError for a value that the field cannot hold


@cache
def _shape(kind: type) -> _Shape:
    hints = get_type_hints(kind)
    names = tuple(field.name for field in fields(kind))
    return _Shape(
        names=names,
        values=attrgetter(*names),
        kept_when_none=frozenset(field.name for field in fields(kind) if field.default is not None),
        readers={name: _reader(hints[name]) for name in names},
    )


def _written(record: object) -> dict[str, object]:
    kind: type = type(record)
    shape = _shape(kind)
    return {
        name: value
        for name, value in zip(shape.names, shape.values(record), strict=True)
        if value is not None or name in shape.kept_when_none
    }


def _record(entry: object, unknown: list[str]) -> object | None:
    match entry:
        case [str(name), dict(written)] if name in _KINDS:
            kind = _KINDS[name]
        case [str(name), *_]:
            unknown.append(name)
            return None
        case _:
            unknown.append("record")
            return None
    readers = _shape(kind).readers
    values = {}
    for field, value in written.items():
        reader = readers.get(field)
        try:
            if reader is None:
                raise ValueError(field)
            values[field] = reader(value)
        except ValueError:
            unknown.append(f"{name}.{field}")
    try:
        return kind(**values)
    except TypeError:  # a field without a default is missing or was refused above
        unknown.append(name)
        return None


def _reader(hint: Any) -> _Reader:  # noqa: ANN401  what get_type_hints returns
    arguments = get_args(hint)
    match get_origin(hint) or hint:
        case origin if origin is UnionType:
            (one,) = set(arguments) - {NoneType}
            return _optional(_reader(one))
        case origin if origin is tuple:
            return _many(_reader(arguments[0]))
        case origin if origin is Mapping:
            return _labels
        case origin if origin is Literal:
            return _one_of(arguments)
        case EnumType() as enum:
            return enum
        case origin if origin is float:
            return _exactly(float, int)
        case origin if origin in (int, str, bool):
            return _exactly(origin)
    raise TypeError(f"{hint} has no form in JSON")


def _exactly(*types: type) -> _Reader:
    def read(value: object) -> object:
        if type(value) not in types:
            raise ValueError(value)
        return value

    return read


def _optional(reader: _Reader) -> _Reader:
    return lambda value: None if value is None else reader(value)


def _many(reader: _Reader) -> _Reader:
    def read(value: object) -> object:
        if not isinstance(value, list):
            raise ValueError(value)
        return tuple(map(reader, value))

    return read


def _one_of(choices: tuple[object, ...]) -> _Reader:
    def read(value: object) -> object:
        if value not in choices:
            raise ValueError(value)
        return value

    return read


def _labels(value: object) -> object:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(value)
    return value
