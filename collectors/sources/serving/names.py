"""Names on a page that its engine does not have, and the other way round: each is said once.

A new version brings new series and renames old ones. The page is read on, and a person learns what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from collectors.scrape.exposition import Page
from collectors.sources.serving.engine import Engine
from core.readings import Latency, Severity

MAX_REMEMBERED = 500
MAX_NAMED = 20
MAX_NAME = 80

_THAT_MATTER = frozenset(("running_requests", "waiting_requests", "generation_tokens_total", Latency.TTFT.value))
_NAME = re.compile(r"[a-zA-Z_:][\w:]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class News:
    """What is new about a server's names."""

    unknown: frozenset[str]
    missing: frozenset[str]

    @property
    def severity(self) -> Severity:
        """A warning where something is missing that pages cannot do without."""
        return Severity.WARNING if self.missing & _THAT_MATTER else Severity.INFO

    def __str__(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"does not show {_listed(self.missing)}")
        if self.unknown:
            parts.append(f"shows what Vatio does not know: {_listed(self.unknown)}")
        return "; ".join(parts)


@dataclass(slots=True)
class Census:
    """What was already said of one server."""

    _looked_at: tuple[Collection[str], str, bool] | None = None
    _version: str = ""
    _said: set[str] = field(default_factory=set)

    def news(self, engine: Engine, page: Page, version: str, *, worked: bool) -> News | None:
        """What is to be said of a page; ``None`` when nothing is, nearly always.

        Args:
            engine: whose page it is.
            page: all of it.
            version: of the server; another version is another server.
            worked: whether the server has done anything yet. Many a series appears with its first event, so only
                then is one missing.
        """
        looked_at = (page.types.keys(), version, worked)
        if looked_at == self._looked_at:
            return None
        self._looked_at = looked_at
        if version != self._version:
            if self._version:  # otherwise it was only not told yet
                self._said.clear()
            self._version = version
        unknown = {name[:MAX_NAME] for name in page.types if _NAME.fullmatch(name) and not engine.knows(name)}
        missing = engine.missing(page) if worked else frozenset[str]()
        room = max(0, MAX_REMEMBERED - len(self._said))
        news = News(frozenset(sorted(unknown - self._said)[:room]), missing - self._said)
        self._said |= news.unknown | news.missing
        return news if news.unknown or news.missing else None


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"
