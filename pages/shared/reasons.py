"""Why something is not known, in the words of the source that should have read it."""

from __future__ import annotations

from pages.shared import loaders
from pages.shared.filters import View


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
