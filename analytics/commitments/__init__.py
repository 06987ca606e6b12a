"""Contracts: what was promised and delivered, what was used of it, what that makes a unit cost, where it leads."""

from analytics.commitments.standing import (
    SEEN_LITTLE,
    Effective,
    Forecast,
    Standing,
    burn,
    forecast,
    since_ms,
    standing,
)
from analytics.commitments.terms import (
    Phase,
    State,
    amortised,
    committed,
    days,
    days_left,
    delivered,
    state,
    term,
    weeks,
    within,
)
from analytics.commitments.use import NO_HOSTED_PRICE, NOT_SEEN, Use, together, uses

__all__ = [
    "NOT_SEEN",
    "NO_HOSTED_PRICE",
    "SEEN_LITTLE",
    "Effective",
    "Forecast",
    "Phase",
    "Standing",
    "State",
    "Use",
    "amortised",
    "burn",
    "committed",
    "days",
    "days_left",
    "delivered",
    "forecast",
    "since_ms",
    "standing",
    "state",
    "term",
    "together",
    "uses",
    "weeks",
    "within",
]
