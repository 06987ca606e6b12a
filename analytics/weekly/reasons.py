"""Why a figure is unknown: keys for what the price book, the bill and the contracts say in English."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from analytics import commitments
from analytics.ledger import NO_ENERGY, NO_PRICE, NO_TARIFF
from analytics.prices import NO_RATE
from analytics.wastes.find import NO_AMOUNT, NO_TOKENS_OF_ERRORS, NO_USE
from analytics.wastes.waste import Waste


class Reason(StrEnum):
    """Why a figure is unknown, or is to be read with care."""

    NO_DATA = "no_data"
    LITTLE_SEEN = "little_seen"
    NO_PRICE = "no_price"
    NO_TARIFF = "no_tariff"
    NO_RATE = "no_rate"
    NO_ENERGY = "no_energy"
    NO_TOKENS = "no_tokens"
    FEW_TOKENS = "few_tokens"
    NOT_COUNTED = "not_counted"
    NO_OBJECTIVE = "no_objective"
    FEW_REQUESTS = "few_requests"
    NO_LATENCY = "no_latency"
    NO_GRID_FACTOR = "no_grid_factor"
    NO_CONTRACT = "no_contract"
    NOT_SEEN = "not_seen"
    NO_HOSTED_PRICE = "no_hosted_price"
    FEW_DAYS = "few_days"
    NO_TOKENS_OF_ERRORS = "no_tokens_of_errors"
    USE_UNKNOWN = "use_unknown"
    AMOUNT_UNKNOWN = "amount_unknown"


_REASONS = {
    NO_PRICE: Reason.NO_PRICE,
    NO_TARIFF: Reason.NO_TARIFF,
    NO_ENERGY: Reason.NO_ENERGY,
    NO_RATE: Reason.NO_RATE,
    commitments.NOT_SEEN: Reason.NOT_SEEN,
    commitments.SEEN_LITTLE: Reason.LITTLE_SEEN,
    commitments.NO_HOSTED_PRICE: Reason.NO_HOSTED_PRICE,
    NO_TOKENS_OF_ERRORS: Reason.NO_TOKENS_OF_ERRORS,
    NO_USE: Reason.USE_UNKNOWN,
    NO_AMOUNT: Reason.AMOUNT_UNKNOWN,
}


class Why(NamedTuple):
    """A reason, what it is about (a device, a contract; empty: everything), and the currency that has no rate."""

    reason: Reason
    about: str = ""
    currency: str = ""


def why_of(text: str, about: str = "") -> Why:
    """What the price book, the bill and the contracts say in English, as a key."""
    reason = next((one for start, one in _REASONS.items() if text.startswith(start)), Reason.AMOUNT_UNKNOWN)
    return Why(reason, about, text.removeprefix(NO_RATE).strip() if reason is Reason.NO_RATE else "")


def why_unknown(waste: Waste) -> Why | None:
    """Why what a waste costs is unknown, if it is."""
    if not waste.reason:
        return None
    about, _, text = waste.reason.partition("; ")[0].rpartition(": ")
    return why_of(text, about)
