"""Arithmetic in which what is unknown (``None``) stays unknown."""

from __future__ import annotations

import math


def product(*factors: float | None) -> float | None:
    """All factors multiplied; ``None`` when one is unknown, even beside a zero."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def total(*parts: float | None) -> float | None:
    """All parts added; ``None`` when one is unknown or there is none."""
    known = [part for part in parts if part is not None]
    return math.fsum(known) if parts and len(known) == len(parts) else None


def per(amount: float | None, units: float | None) -> float | None:
    """The amount that falls to one unit; ``None`` when a side is unknown or there are no units."""
    if amount is None or not units:
        return None
    return amount / units
