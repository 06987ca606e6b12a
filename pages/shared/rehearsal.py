"""What a server does before it listens, so that its first visitors need not wait for it."""

from __future__ import annotations

import logging
from importlib import import_module
from pkgutil import walk_packages

import pages
from core.errors import ConfigError, StoreError
from pages.cost import commitments
from pages.fleet import overview
from pages.shared import filters
from pages.shared.filters import View
from pages.shared.store import open_store, settings
from storage import queries

log = logging.getLogger(__name__)
_NO_VISITOR = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
_DRAWN = (
    commitments.draw,  # whose weeks that are over hold for an hour
    overview.draw,  # which is opened first
)


def rehearse() -> None:
    """Import all that any page needs, and draw some of them for nobody. What fails here, pages tell their visitors."""
    for module in walk_packages(pages.__path__, f"{pages.__name__}."):
        import_module(module.name)
    import_module("streamlit.emojis")  # all there are, for the icon of a page
    _NO_VISITOR.disabled = True  # else it says at each element that nobody is there
    try:
        view = filters.current(settings())
        if not _is_told(view):
            return
        for draw in _DRAWN:
            draw(view)
    except (ConfigError, StoreError):
        log.info("nothing can be read yet")
    except Exception:
        log.warning("a page could not be drawn before the first visit", exc_info=True)
    finally:
        _NO_VISITOR.disabled = False


def _is_told(view: View) -> bool:
    """Whether samples come in. Where none do, the gap would stay in what is kept for minutes after they come again.

    Asked past what is kept, so that it is not this answer that the first visitor sees.
    """
    newest_ms = queries.newest_sample_at_ms(open_store().engine)
    return newest_ms is not None and view.now_ms - newest_ms <= view.stale_after_ms
