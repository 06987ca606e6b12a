"""The filter bar that all pages share, kept in the URL, and the ``View`` it stands for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from charts.axis import Span
from core.errors import StoreError
from core.language import say
from core.settings import Settings
from pages.shared import loaders, ranges, words
from pages.shared.ranges import CUSTOM, DEFAULT_RANGE, RANGES, SETTLE_MS, Window

ALL = "all"
MARKS, BEFORE = "marks", "before"  # what charts show besides their own; so they stand in the address
LEAST_STALE_MS = 15_000  # a flush, a cached answer and a refresh may lie between a tick and the eye
STALE_INTERVALS = 3
_FILTERS = ("host", "vendor", "hardware", "model", "deployment")
LEAST_LOOK_SECONDS = 5.0
MOST_DRAW_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a page shows: a half-open window of finished steps, and which things.

    words: the window for people: ``last hour``.
    is_fixed: whether it lies between two instants, and does not move on with the clock.
    """

    words: str
    is_fixed: bool
    start_ms: int
    end_ms: int
    step_ms: int
    now_ms: int
    interval_ms: int
    slow_interval_ms: int
    zone: ZoneInfo
    host: str | None = None
    vendor: str | None = None
    hardware: str | None = None
    model: str | None = None
    deployment: str | None = None

    @property
    def stale_after_ms(self) -> int:
        """Age (ms) beyond which a figure is not current any more: three intervals, and what pages lag behind."""
        return max(STALE_INTERVALS * self.interval_ms, LEAST_STALE_MS)

    @property
    def gap_ms(self) -> int:
        """Distance (ms) between neighbouring points beyond which a line is broken."""
        return round(1.5 * max(self.step_ms, self.stale_after_ms))

    @property
    def slow_gap_ms(self) -> int:
        """The same for what is read at the slow pace."""
        return round(1.5 * max(self.step_ms, STALE_INTERVALS * self.slow_interval_ms))

    @property
    def recent(self) -> tuple[int, int]:
        """The window (Unix ms) for what is called a rate "now": the last minute, or three intervals."""
        end_ms = (self.now_ms - SETTLE_MS) // SETTLE_MS * SETTLE_MS
        return end_ms - max(60_000, self.stale_after_ms), end_ms

    @property
    def span(self) -> Span:
        """The window as charts take it."""
        return Span(self.start_ms, self.end_ms, self.gap_ms, self.zone)

    @property
    def resolution(self) -> str:
        """The step for people: ``30 s steps``."""
        return say("{step} steps", step=words.duration(self.step_ms / 1000))

    @property
    def now(self) -> datetime:
        """The instant of this run, UTC."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def coarse_step_ms(self, columns: int) -> int:
        """A step (ms) that cuts the window into at most ``columns``, each with several samples."""
        wanted = max((self.end_ms - self.start_ms) / columns, self.stale_after_ms)
        return math.ceil(wanted / self.step_ms) * self.step_ms

    def keep(self, things: pd.DataFrame) -> pd.DataFrame:
        """Those entities (as ``queries.entities`` gives them) that the filters let through.

        ``vendor`` and ``hardware`` choose among accelerators; ``model`` and ``deployment`` among
        deployments, and the accelerators these run on.
        """
        kept = things if self.host is None else things[things["host"] == self.host]
        if self.vendor is not None:
            kept = kept[(kept["family"] != "accelerator") | (kept["vendor"] == self.vendor)]
        if self.hardware is not None:
            kept = kept[(kept["family"] != "accelerator") | (kept["model"] == self.hardware)]
        if self.model is None and self.deployment is None:
            return kept
        return self._served(kept)

    def _served(self, things: pd.DataFrame) -> pd.DataFrame:
        deployments = loaders.entities("deployment")
        if self.model is not None:
            deployments = deployments[deployments["model"] == self.model]
        if self.deployment is not None:
            deployments = deployments[deployments["key"] == self.deployment]
        used = loaders.assignments(self.start_ms, self.end_ms)
        targets = used[used["deployment_id"].isin(deployments["entity_id"])]["target_id"]
        chosen = things["entity_id"].isin([*deployments["entity_id"], *targets])
        return things[chosen | ~things["family"].isin(["deployment", "accelerator"])]


def bar(settings: Settings, *, applies: bool = True) -> None:
    """Draw the filters. Called by ``dashboard.py`` alone, so that choices outlive a change of page.

    Args:
        settings: with the pace of refreshing.
        applies: whether the page looks at them; where not, they are kept but cannot be changed.
    """
    with st.container(horizontal=True, vertical_alignment="center", key="filters"):
        st.segmented_control(
            say("Time range"),
            [*RANGES, CUSTOM],
            default=DEFAULT_RANGE,
            required=True,
            key="range",
            bind="query-params",
            label_visibility="collapsed",
            disabled=not applies,
        )
        st.toggle(
            say("Live"),
            value=True,
            key="live",
            bind="query-params",
            disabled=not applies,
            help=say(
                "Look for new samples every {seconds} s, and draw what is new with each step of the range, at least "
                "once a minute. Off: the page stands still.",
                seconds=f"{look_seconds(settings):g}",
            ),
        )
        for key, label, value, explained in (
            (
                MARKS,
                say("Marks"),
                True,
                say("Restarts, version and price changes and errors, drawn on charts over time."),
            ),
            (
                BEFORE,
                say("Week before"),
                False,
                say("Power, tokens, latency and mean busy time 7 × 24 h earlier, as a dotted grey line."),
            ),
        ):
            st.toggle(label, value=value, key=key, bind="query-params", disabled=not applies, help=explained)
        if st.session_state.get("range") == CUSTOM:
            _ends(settings, applies=applies)
    with st.sidebar:  # not in a popover: closed, it would lose its part of the address on a change of page
        for name, (title, values) in _options().items():
            chosen = st.session_state.get(name, st.query_params.get(name, ALL))
            if len(values) > 1 or chosen != ALL:
                st.selectbox(
                    title,
                    [ALL, *values],
                    key=name,
                    bind="query-params",
                    format_func=words.one_line,
                    disabled=not applies,
                )


def _ends(settings: Settings, *, applies: bool) -> None:
    """Between which clock times of the site, where the range is one's own."""
    ends = ranges.yesterday_to_now(datetime.now(settings.site.zone))
    for key, label, at in zip(("from", "to"), (say("From"), say("To")), ends, strict=True):
        st.datetime_input(label, at, key=key, bind="query-params", disabled=not applies, label_visibility="collapsed")


def _options() -> dict[str, tuple[str, list[str]]]:
    try:
        things = loaders.entities()
    except StoreError:
        things = pd.DataFrame(columns=["family", "key", "host", "vendor", "model"])
    accelerators = things[things["family"] == "accelerator"]
    deployments = things[things["family"] == "deployment"]
    return {
        "host": (say("Host"), _distinct(things[things["family"] == "host"]["key"])),
        "vendor": (say("Accelerator vendor"), _distinct(accelerators["vendor"])),
        "hardware": (say("Accelerator model"), _distinct(accelerators["model"])),
        "model": (say("Served model"), _distinct(deployments["model"])),
        "deployment": (say("Deployment"), _distinct(deployments["key"])),
    }


def _distinct(values: pd.Series) -> list[str]:
    return sorted({str(value) for value in values.dropna()} - {ALL, ""})


def narrowed() -> list[str]:
    """What the filters let through alone, such as a host's name; empty where they let everything through."""
    chosen = (st.session_state.get(name, ALL) for name in _FILTERS)
    return [words.one_line(value) for value in chosen if value not in (ALL, None)]


def look_seconds(settings: Settings) -> float:
    """How often a live page looks for new samples (s)."""
    return max(settings.collectors.interval_seconds, LEAST_LOOK_SECONDS)


def draw_seconds(settings: Settings) -> float:
    """How often it draws what it shows (s): as often as its steps, which is when pictures change."""
    step_seconds = current(settings).step_ms / 1000
    return max(look_seconds(settings), min(step_seconds, MOST_DRAW_SECONDS))


def current(settings: Settings, *, now_ms: int | None = None) -> View:
    """The view that the filters stand for at this moment; defaults where a page runs without the bar."""
    interval_ms = round(settings.collectors.interval_seconds * 1000)
    at_ms = int(time.time() * 1000) if now_ms is None else now_ms
    window = _window(settings, at_ms, interval_ms)
    picked = {
        key: None if value == ALL else value
        for key in _FILTERS
        if (value := st.session_state.get(key, ALL)) is not None
    }
    return View(
        words=window.words,
        is_fixed=window.is_fixed,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        step_ms=window.step_ms,
        now_ms=at_ms,
        interval_ms=interval_ms,
        slow_interval_ms=round(settings.collectors.slow_interval_seconds * 1000),
        zone=settings.site.zone,
        **picked,
    )


def _window(settings: Settings, now_ms: int, interval_ms: int) -> Window:
    """What the range stands for; one's own needs both ends, which are there when the bar was drawn."""
    state = st.session_state
    name = state.get("range") or DEFAULT_RANGE
    begin, end = state.get("from"), state.get("to")
    if name != CUSTOM or begin is None or end is None:
        return ranges.until_now(name if name in RANGES else DEFAULT_RANGE, now_ms, interval_ms)
    return ranges.between(begin, end, settings.site.zone, now_ms, interval_ms)
