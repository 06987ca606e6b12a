"""The weekly summary as JSON for programs: every field of ``WeeklySummary``, described by ``weekly.schema.json``.

Amounts are USD, times ISO 8601 in UTC, shares 0 to 1, and null is unknown; keys, not words, so no language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any

from analytics.ledger import Bill
from analytics.wastes.waste import Waste
from analytics.weekly import WeeklySummary, why_unknown
from core import VERSION
from core.language import SOURCE, language, speaking
from core.texts import Text
from reports.words import Words
from storage.soundness import iso

SCHEMA = "weekly.schema.json"
_LEFT_OUT = {"stretches"}  # hours of devices, one by one: thousands of rows that the store has


def file(summary: WeeklySummary, _words: Words) -> bytes:
    """The content of the file."""
    with speaking(language(SOURCE)):  # sources of prices are texts
        content = {"vatio": VERSION, "is_whole": summary.is_whole, **_object(summary)}
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def plain(value: object) -> object:
    """Data classes and named tuples as objects, tuples as arrays; ``*_ms`` become ISO 8601 under ``*_at``."""
    if isinstance(value, Text):
        return str(value)
    if is_dataclass(value) or hasattr(value, "_fields"):
        return _object(value)
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


def _object(value: Any) -> Mapping[str, object]:  # noqa: ANN401  any data class or named tuple
    names = value._fields if hasattr(value, "_fields") else [one.name for one in fields(value)]
    found: dict[str, object] = {}
    for name in names:
        part = getattr(value, name)
        if name.endswith("_ms"):
            found[f"{name.removesuffix('_ms')}_at"] = _times(part)
        elif name not in _LEFT_OUT:
            found[name] = plain(part)
    if isinstance(value, Bill):
        found["total_usd"] = value.total_usd
    if isinstance(value, Waste):
        found["reason"] = plain(why_unknown(value))
    return found


def _times(at_ms: int | tuple[int, ...] | None) -> object:
    if isinstance(at_ms, tuple):
        return [iso(one) for one in at_ms]
    return None if at_ms is None else iso(at_ms)
