"""Which columns an export has, and what each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.catalog import FAMILIES
from core.errors import ConfigError
from core.metric import Kind, Metric
from core.readings import Latency
from core.units import unit_of
from storage import schema
from storage.soundness import iso
from storage.tabular import Column

HOUR_SECONDS, DAY_SECONDS = 3_600, 86_400
SAMPLED = tuple(schema.samples)
CHOICES = (*SAMPLED, "latency", "events", "ticks", "accounts")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export. The window is half-open, in Unix ms; empty ``metrics`` and ``keys`` mean all."""

    family: str
    start_ms: int
    end_ms: int
    metrics: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    step_seconds: float | None = None


def columns_of(wanted: Wanted) -> tuple[Column, ...]:
    """The columns of the table.

    Raises:
        ConfigError: a metric, an entity or a step was named where there is none of it.
    """
    family, step = wanted.family, wanted.step_seconds
    if wanted.start_ms >= wanted.end_ms:
        raise ConfigError(f"--to {iso(wanted.end_ms)} is not after --from {iso(wanted.start_ms)}: name a later --to")
    if family in ("events", "ticks"):
        if wanted.metrics or step is not None:
            raise ConfigError(f"{family} have neither metrics nor steps: leave out --metrics and --step")
        if family == "ticks" and wanted.keys:
            raise ConfigError("ticks belong to no entity: leave out --entity")
        return _EVENTS if family == "events" else TICKS
    if family == "accounts":
        if step not in (None, HOUR_SECONDS, DAY_SECONDS):
            raise ConfigError(f"--step {step:g} of accounts: expected 3600 (hours) or 86400 (UTC days)")
        names = _chosen(wanted, [column.name for column in ACCOUNTED])
        return (*_SUBJECT_OF_ANY, _time("Start of the hour or UTC day."), *(c for c in ACCOUNTED if c.name in names))
    start = _time("When it was observed." if step is None else "Start of the step.")
    if family == "latency":
        _chosen(wanted, [kind.value for kind in Latency])
        return (*_SUBJECT, start, *HISTOGRAM)
    metrics = metrics_of(wanted)
    if step is not None:
        return (*_SUBJECT, start, *_OF_STEP, *(column for metric in metrics for column in _stepped(metric)))
    return (*_SUBJECT, start, *(_column(metric) for metric in metrics), *(_PROBED if family == "probe" else ()))


def left_out(wanted: Wanted) -> list[str]:
    """States that a table by step does not have, since they have no mean."""
    if wanted.family not in SAMPLED or wanted.step_seconds is None or wanted.metrics:
        return []
    return [metric.name for metric in FAMILIES[wanted.family].metrics if metric.kind is Kind.STATE]


def metrics_of(wanted: Wanted) -> list[Metric]:
    """The metrics of a table of samples; by step those that can be combined."""
    every = FAMILIES[wanted.family].metrics
    names = _chosen(wanted, [metric.name for metric in every])
    chosen = [metric for metric in every if metric.name in names]
    if wanted.step_seconds is None:
        return chosen
    if wanted.metrics and (states := [metric.name for metric in chosen if metric.kind is Kind.STATE]):
        raise ConfigError(f"{states[0]} is a state and has no mean: leave it out of --metrics, or leave out --step")
    return [metric for metric in chosen if metric.kind is not Kind.STATE]


def _chosen(wanted: Wanted, names: Sequence[str]) -> Sequence[str]:
    for name in wanted.metrics:
        if name not in names:
            raise ConfigError(f"--metrics: {wanted.family} has no {name!r}, but {', '.join(names)}")
    return wanted.metrics or names


def _time(text: str) -> Column:
    return Column("time", "time", text)


def _column(metric: Metric) -> Column:
    return Column(metric.name, "integer" if metric.integer else "real", metric.help, _unit(metric.name))


def _stepped(metric: Metric) -> tuple[Column, ...]:
    unit = _unit(metric.name)
    if metric.kind is Kind.COUNTER:
        return (Column(metric.name, "real", f"Increase within the step. {metric.help}", unit),)
    parts = {"": "Mean", "_min": "Least", "_max": "Greatest"}
    return tuple(
        Column(metric.name + end, "real", f"{word} of the step. {metric.help}", unit) for end, word in parts.items()
    )


def _unit(name: str) -> str:
    return "1" if name.endswith("_ratio") else unit_of(name).symbol


_SUBJECT = (
    Column("entity", "text", "Key of the device, socket, host, deployment or probe."),
    Column("host", "text", "The machine it is in, or that watches it."),
    Column("vendor", "text", "Who made it."),
    Column("model", "text", "What it is called, or the model that is served."),
)
_SUBJECT_OF_ANY = (Column("family", "text", "What kind of thing it is."), *_SUBJECT)
_OF_STEP = (
    Column("samples", "integer", "Samples within the step."),
    Column("coverage_ratio", "real", "Share of the step in which samples followed each other.", "1"),
)
_PROBED = (
    Column("outcome", "text", "How the request ended."),
    Column("error", "text", "Why it failed."),
    Column("token_count_estimated", "flag", "The endpoint did not say how many tokens it were."),
)
HISTOGRAM = (
    Column("kind", "text", f"What was timed: {', '.join(kind.value for kind in Latency)}."),
    Column("observations", "real", "How many were counted in the interval that ends here."),
    Column("sum_seconds", "real", "Their times added up.", "s"),
    Column("upper_bounds_seconds", "reals", "Upper bound of every bucket; the last is infinite.", "s"),
    Column("increments", "reals", "How many fell into each bucket, not cumulative."),
)
_EVENTS = (
    _time("When it happened."),
    *_SUBJECT_OF_ANY[:3],
    Column("kind", "text", "What kind of event it is."),
    Column("severity", "text", "info, warning or critical."),
    Column("code", "integer", "The number its maker gives it."),
    Column("message", "text", "What happened."),
)
TICKS = (
    Column("host", "text", "The machine that looked."),
    Column("source", "text", "What was looked at."),
    Column("target", "text", "Which of its targets; empty: the source as a whole."),
    _time("When it was due."),
    Column("outcome", "text", "How it ended."),
    Column("duration_seconds", "real", "How long it took.", "s"),
    Column("readings", "integer", "How many readings came."),
    Column("ticks_missed", "integer", "How many ticks before it were left out."),
    Column("error", "text", "Why it failed."),
)
_ACCOUNT_HELP = {
    "observed_seconds": "Time between samples that followed each other.",
    "energy_joules": "Energy used.",
    "energy_seconds": "The time that this energy covers.",
    "energy_source": "Where it came from: counter, node, integrated or estimated.",
    "active_joules": "Energy while a deployment worked on it; what lies in gaps is of no state.",
    "parked_joules": "Energy while a deployment held it and did not work.",
    "free_joules": "Energy while nothing held it.",
    "active_seconds": "Time in which a deployment worked on it.",
    "parked_seconds": "Time in which a deployment held it and did not work.",
    "free_seconds": "Time in which nothing held it.",
    "off_seconds": "Time without samples.",
    **{account: FAMILIES["deployment"].metric(name).help for name, account in schema.ACCOUNTED_COUNTERS.items()},
}
ACCOUNTED = tuple(
    Column(name, "text" if name == "energy_source" else "real", _ACCOUNT_HELP[name], _unit(name))
    for name in (column.name for column in list(schema.account.c)[3:])
)
