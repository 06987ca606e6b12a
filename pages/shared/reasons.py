"""Why something is not known, in the words of the source that should have read it."""

from __future__ import annotations

from analytics.cost_figures import NO_ENERGY, NO_PRICE, NO_TARIFF, NO_TOKENS, NOT_JOINED, NOT_YET, SPARSE
from analytics.prices import NO_RATE
from core.language import _, say
from pages.shared import loaders
from pages.shared.filters import View

_COST = {
    NO_PRICE: _("set a price"),
    NO_TARIFF: _("set a tariff"),
    NO_TOKENS: _("no tokens"),
    NO_ENERGY: _("no energy reading"),
    NOT_JOINED: _("not joined"),
    NOT_YET: _("its first hour is not over"),
    SPARSE: _("seen too little"),
}


def reasons(sources: tuple[str, ...], view: View) -> tuple[str, str]:
    """What sources said at their last discovery; those of absent hardware only where the others are silent.

    Args:
        sources: their names.
        view: gives the host.

    Returns:
        Why, and what to do; foreign text, empty when they said nothing.
    """
    health = loaders.recent_health()
    said = health[health["source"].isin(sources) & (health["reason"].fillna("") != "") & (health["target"] == "")]
    if view.host is not None:
        said = said[said["host"] == view.host]
    here = said[said["absent"] == 0]
    said = (said if here.empty else here).drop_duplicates(["source", "reason"])
    why = "; ".join(f"{row['source']}: {row['reason']}" for row in said.to_dict("records"))
    remedy = "; ".join(dict.fromkeys(text for text in said["remedy"] if text))
    return why, remedy


def cost_reason(reason: str) -> str:
    """Why a cost or a price per token is missing, in the few words that fit in its place."""
    short = next((words for full, words in _COST.items() if full in reason), None)
    if short is not None:
        return say(short)
    rate = next((part for part in reason.split("; ") if part.startswith(NO_RATE)), None)
    if rate is not None:
        return say("no exchange rate for {currency}", currency=rate.removeprefix(NO_RATE).strip())
    return say("unknown")
