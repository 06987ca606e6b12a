"""Which engine an answer comes from, and what of it is worth holding on to."""

from __future__ import annotations

from functools import cache

from collectors.scrape.exposition import Selector, describe_other
from collectors.sources.serving import ENGINES
from collectors.sources.serving.engine import METRICS_PATH, Engine
from core.errors import CollectorError

OTHER_PATHS = tuple(engine.path for engine in ENGINES if engine.path != METRICS_PATH and not engine.per_minute)
"""Where the page may be when it is not at ``METRICS_PATH``."""

_EXCERPT = 512


def engine_of(page: bytes) -> Engine | None:
    """The engine that shows a page, or the lines kept of one."""
    return next((engine for engine in ENGINES if engine.recognises(page)), None)


def recognise(kept: bytes) -> Engine:
    """The engine whose lines were kept.

    Raises:
        CollectorError: it is no page, or of no engine that is known.
    """
    if (engine := engine_of(kept)) is None:
        raise CollectorError(describe_other(kept))
    return engine


def keep(body: bytes) -> bytes:
    """The lines of interest of an engine's page; the beginning of any other answer.

    Raises:
        CollectorError: the page is larger than any inference server's.
    """
    engine = engine_of(body)
    return body[:_EXCERPT] if engine is None else _selector(engine)(body)


def rewritten(path: str, body: bytes) -> bytes:
    """The same for an answer at a path where an engine answers in a form of its own.

    Raises:
        CollectorError: the page is larger than any inference server's, or the answer is of another form.
    """
    rewrite = next((engine.rewrite for engine in ENGINES if engine.rewrite and engine.path == path), None)
    return keep(body if rewrite is None else rewrite(body))


def is_per_minute(path: str) -> bool:
    """Whether what answers at a path says everything about whole minutes, and is to be asked once in each."""
    return any(engine.per_minute and path.startswith(engine.path) for engine in ENGINES)


@cache
def _selector(engine: Engine) -> Selector:
    return Selector(set(engine.series_names()), typed=engine.prefixes)
