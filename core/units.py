"""Units: how a metric's name tells its unit, how edge values become SI, how people read them.

Inside Vatio every quantity is in the base unit that its name ends with. Conversion happens twice:
in ``collectors/sources`` on the way in and in ``show`` on the way out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.language import say, spoken

JOULES_PER_KWH = 3_600_000
HOURS_PER_YEAR = 8_760
MIB = 1 << 20
KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class Unit:
    """A base unit: the suffix that names it, its symbol, and the steps it is displayed in."""

    suffix: str
    symbol: str
    steps: tuple[tuple[float, str], ...]
    decimals: int = 1

    def step(self, magnitude: float) -> tuple[float, str]:
        """Factor and symbol that suit a magnitude; 0 is measured, and reads best in the base unit."""
        base = next((step for step in self.steps if step[0] == 1), self.steps[-1])
        return next((step for step in self.steps if magnitude >= step[0]), self.steps[-1] if magnitude else base)


def _si(symbol: str) -> tuple[tuple[float, str], ...]:
    return ((1e12, f"T{symbol}"), (1e9, f"G{symbol}"), (1e6, f"M{symbol}"), (1e3, f"k{symbol}"), (1, symbol))


_BINARY = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_COUNT = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))

# Longest suffix first: `_bytes_per_second` must win over `_seconds`.
UNITS: tuple[Unit, ...] = (
    Unit("_bytes_per_second", "B/s", tuple((f, f"{s}/s") for f, s in _BINARY)),
    Unit("_tokens_per_second", "tokens/s", tuple((f, f"{s} tokens/s".strip()) for f, s in _COUNT)),
    Unit("_requests_per_second", "req/s", ((1, "req/s"),), decimals=2),
    Unit("_watts", "W", _si("W")),
    Unit("_joules", "J", _si("J")),
    Unit("_celsius", "°C", ((1, "°C"),), decimals=0),
    Unit("_hertz", "Hz", _si("Hz")),
    Unit("_bytes", "B", _BINARY),
    Unit("_seconds", "s", ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))),
    Unit("_ratio", "%", ((0.01, "%"),)),
    Unit("_tokens", "tokens", tuple((f, f"{s} tokens".strip()) for f, s in _COUNT)),
    Unit("_requests", "requests", tuple((f, f"{s} requests".strip()) for f, s in _COUNT), decimals=0),
    Unit("_usd", "USD", ((1, "USD"),), decimals=2),
)
PLAIN = Unit("", "", _COUNT, decimals=0)


def unit_of(name: str) -> Unit:
    """The unit that a metric's name ends with; counters end ``_total`` after it."""
    base = name.removesuffix("_total")
    return next((unit for unit in UNITS if base.endswith(unit.suffix)), PLAIN)


def show(value: float | None, unit: Unit, *, unknown: str = "unknown") -> str:
    """A value as people read it: scaled, with its symbol. Unknown is a word, never a zero."""
    if value is None or math.isnan(value):
        return say(unknown)
    factor, symbol = unit.step(abs(value))
    scaled = value / factor
    decimals = unit.decimals if abs(scaled) < 100 else 0
    if scaled.is_integer() and unit.decimals == 0:
        decimals = 0
    return f"{spoken().number(scaled, decimals)} {say(symbol)}".rstrip()


def show_money(value_usd: float | None, *, unknown: str = "set a price") -> str:
    """USD with 2 decimals, 4 below one dollar (reference rule for rounding)."""
    if value_usd is None or math.isnan(value_usd):
        return say(unknown)
    return f"{spoken().number(value_usd, 4 if 0 < abs(value_usd) < 1 else 2)} USD"
