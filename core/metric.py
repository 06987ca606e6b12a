"""How a metric is declared: once, as a typed field of a reading, through one of three helpers.

The field's name carries the unit (``core.units``); the helper carries the kind, the help text and
the sources that fill it. ``core.catalog`` collects the declarations; tables, chart titles, exposition
names and the metric reference are derived from there.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from enum import StrEnum
from typing import Any, Final

from core.units import Unit, unit_of

_DECLARATION: Final = "vatio.metric"


class Kind(StrEnum):
    """How values of a metric may be combined over time."""

    GAUGE = "gauge"  # mean, min, max
    COUNTER = "counter"  # increase, with resets
    STATE = "state"  # share of time per value


@dataclass(frozen=True, slots=True)
class Metric:
    """One declared quantity of one family."""

    name: str
    family: str
    kind: Kind
    help: str
    sources: tuple[str, ...]
    integer: bool

    @property
    def unit(self) -> Unit:
        """The unit, read off the name."""
        return unit_of(self.name)

    @property
    def title(self) -> str:
        """Words for a chart axis or a column: ``power (W)``."""
        words = self.name.removesuffix("_total").removesuffix(self.unit.suffix).replace("_", " ")
        return f"{words} ({self.unit.symbol})" if self.unit.symbol else words


def _declare(kind: Kind, help_text: str, sources: str) -> Any:  # noqa: ANN401  a dataclass field stands for its type
    return field(default=None, metadata={_DECLARATION: (kind, help_text, tuple(sources.split()))})


def gauge(help_text: str, sources: str) -> Any:  # noqa: ANN401
    """A value at an instant."""
    return _declare(Kind.GAUGE, help_text, sources)


def counter(help_text: str, sources: str) -> Any:  # noqa: ANN401
    """A value that only grows, until what counts it restarts."""
    return _declare(Kind.COUNTER, help_text, sources)


def state(help_text: str, sources: str) -> Any:  # noqa: ANN401
    """A code or bit mask at an instant."""
    return _declare(Kind.STATE, help_text, sources)


def declared(family: str, a_field: Field[Any]) -> Metric | None:
    """The metric that a dataclass field declares; ``None`` for identity fields."""
    declaration = a_field.metadata.get(_DECLARATION)
    if declaration is None:
        return None
    kind, help_text, sources = declaration
    integer = str(a_field.type).startswith("int")
    return Metric(a_field.name, family, kind, help_text, sources, integer)
