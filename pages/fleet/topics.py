"""What a device page draws, by topic; every metric of the catalog that has a course over time is in one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from charts.axis import Span, words_of
from core.catalog import FAMILIES
from core.language import _
from core.metric import Kind
from pages.shared import loaders, things
from pages.shared.filters import View

_LIMITS = {"power_watts": "power_limit_watts", "memory_used_bytes": "memory_total_bytes"}


@dataclass(frozen=True, slots=True)
class Topic:
    """Metrics that are looked at together. ``seldom``: read at the slow pace, so gaps are longer.

    ``title`` and ``help`` are marked for translation.
    """

    title: str
    metrics: tuple[str, ...]
    help: str = ""
    seldom: bool = False

    def span(self, view: View) -> Span:
        """The window, with gaps as long as the topic's pace makes them."""
        return replace(view.span, gap_ms=view.slow_gap_ms) if self.seldom else view.span


TOPICS: dict[str, tuple[Topic, ...]] = {
    "accelerator": (
        Topic(
            _("Work"),
            (
                "utilization_ratio",
                "sm_active_ratio",
                "sm_occupancy_ratio",
                "tensor_active_ratio",
                "dram_active_ratio",
                "memory_activity_ratio",
                "encoder_ratio",
                "decoder_ratio",
            ),
            _("Utilization is busy time: at least one kernel ran. SM activity tells how much of the device worked."),
        ),
        Topic(_("Memory"), ("memory_used_bytes",)),
        Topic(
            _("Power and heat"),
            (
                "power_watts",
                "memory_power_watts",
                "temperature_celsius",
                "memory_temperature_celsius",
                "temperature_margin_celsius",
            ),
        ),
        Topic(_("Clocks"), ("core_clock_hertz", "memory_clock_hertz")),
        Topic(
            _("Links"),
            (
                "pcie_rx_bytes_total",
                "pcie_tx_bytes_total",
                "pcie_rx_bytes_per_second",
                "pcie_tx_bytes_per_second",
                "nvlink_rx_bytes_total",
                "nvlink_tx_bytes_total",
                "xgmi_rx_bytes_total",
                "xgmi_tx_bytes_total",
            ),
            seldom=True,
        ),
        Topic(
            _("Errors"),
            (
                "ecc_corrected_errors_total",
                "ecc_uncorrected_errors_total",
                "remapped_rows_total",
                "retired_pages_total",
                "pcie_replays_total",
            ),
            _("Increase per step."),
            seldom=True,
        ),
        Topic(
            _("Time held down"),
            ("throttle_power_seconds_total", "throttle_thermal_seconds_total", "throttle_brake_seconds_total"),
            _("Seconds per step in which clocks were held down, as the device counts them."),
            seldom=True,
        ),
    ),
    "cpu": (
        Topic(_("Work"), ("utilization_ratio", "frequency_hertz")),
        Topic(_("Power and heat"), ("power_watts", "temperature_celsius")),
    ),
}


@dataclass(frozen=True, slots=True)
class Course:
    """One quantity over time: ``bucket_at`` and ``column``, with a limit (base unit) where there is one.

    ``help`` and ``basis`` are marked for translation.
    """

    column: str
    frame: pd.DataFrame
    help: str
    basis: str
    limit: float | None

    @property
    def still(self) -> bool:
        """Whether it is a counter that did not move: a zero that was measured."""
        return self.column.endswith("_total") and bool((self.frame[self.column] == 0).all())


def courses(topic: Topic, device: pd.DataFrame, view: View) -> list[Course]:
    """Those of a topic's metrics that were seen within the window.

    Bytes that are counted become rates; other counters their increase per step.
    """
    family = FAMILIES[str(device["family"].iloc[0])]
    window = (things.ids(device), view.start_ms, view.end_ms, view.step_ms)
    flows = tuple(name for name in topic.metrics if name.endswith("_bytes_total"))
    read = loaders.series(family.name, tuple(name for name in topic.metrics if name not in flows), *window)
    rates = loaders.rates(family.name, flows, *window)
    found: dict[str, Course] = {}
    for name in topic.metrics:
        metric = family.metric(name)
        column = f"{name.removesuffix('_total')}_per_second" if name in flows else name
        frame = (rates if name in flows else read)[["bucket_at", column]].dropna()
        if len(frame) and column not in found:  # a rate that the driver samples is only wanted without a counter
            limit = device[_LIMITS[name]].iloc[0] if name in _LIMITS else float("nan")
            basis = _("derived from a counter") if metric.kind is Kind.COUNTER else _("measured")
            found[column] = Course(column, frame, metric.help, basis, None if pd.isna(limit) else float(limit))
    return list(found.values())


def unreported(topic: Topic, seen: list[Course]) -> list[str]:
    """Words for those of a topic's metrics that are not among the courses."""
    columns = {course.column.removesuffix("_per_second").removesuffix("_total") for course in seen}
    names = [name for name in topic.metrics if name.removesuffix("_per_second").removesuffix("_total") not in columns]
    return list(dict.fromkeys(words_of(name) for name in names))
