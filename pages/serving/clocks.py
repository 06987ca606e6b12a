"""A server's clock beside that of probes, and what endpoints say of their own time."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analytics.serving import asks
from charts import latency as charts
from charts.axis import Span
from core.language import _, count, say, spoken
from core.readings import Outcome
from pages.serving.subject import Subject
from pages.shared import loaders
from pages.shared.columns import number
from pages.shared.filters import View
from pages.shared.marks import Marks
from pages.shared.pictures import picture
from pages.shared.tables import table

_OWN = {
    "ttft_seconds": _("first token, probe's clock"),
    "connect_seconds": _("connecting, before that"),
    "server_queue_seconds": _("queue, server's clock"),
    "server_prefill_seconds": _("prompt, server's clock"),
    "server_decode_seconds": _("generating, server's clock"),
    "server_e2e_seconds": _("whole request, server's clock"),
    "e2e_seconds": _("whole request, probe's clock"),
}
_TITLES = {"part": _("part"), "requests_seen": "n"}


def probing(subject: Subject) -> list[int]:
    """The probes that ask this model on these servers."""
    return [
        int(probe["entity_id"])
        for probe in loaders.entities("probe").to_dict("records")
        if any(asks(probe["labels"], row["labels"]) for row in subject.rows)
    ]


def asked(subject: Subject, view: View) -> pd.DataFrame:
    """Every request of those probes within the window."""
    requests = loaders.probes(view.start_ms, view.end_ms)
    mine: pd.DataFrame = requests[requests["entity_id"].isin(probing(subject))]
    return mine


def two_clocks(subject: Subject, ttft: pd.DataFrame, view: View, marks: Marks | None, span: Span) -> None:
    """Server (its quantiles by step) and probe side by side, where a probe asks this model on one of these servers."""
    requests = asked(subject, view)
    answered = requests[requests["outcome"] == Outcome.OK.value]
    lost = len(requests) - len(answered)
    known = answered[answered["ttft_seconds"].notna()]
    points = known.rename(columns={"ttft_seconds": "seconds"})[["observed_at", "seconds"]]
    server = ttft.rename(columns={"p50_seconds": "seconds"})
    picture(
        say("TTFT by two clocks"),
        charts.two_clocks(server[["bucket_at", "seconds"]], points, span) if len(points) else None,
        key="latency-clocks",
        help=say("The server counts from a request's arrival; the probe from the moment it sends, network included."),
        note=count(
            "{number} probe, {lost} of them not answered. A probe alone shows the best case.",
            "{number} probes, {lost} of them not answered. A probe alone shows the best case.",
            len(requests),
            lost=spoken().number(lost),
        ),
        why=say("no probe asked this server in the window")
        if probing(subject)
        else say("no [[probe]] is set for this server and model"),
        about=subject.name,
        marks=marks,
    )
    _own_clock(answered, view)


def _own_clock(answered: pd.DataFrame, view: View) -> None:
    """Medians of what the endpoint says of its own time; nothing where it says nothing."""
    said = [name for name in _OWN if name.startswith("server_") and answered[name].notna().any()]
    if not said:
        return
    shown = [name for name in _OWN if answered[name].notna().any()]
    rows = pd.DataFrame(
        {
            "part": [_OWN[name] for name in shown],
            "median_seconds": [float(answered[name].median()) for name in shown],
            "requests_seen": [int(answered[name].notna().sum()) for name in shown],
        }
    )
    seconds = {"median_seconds": number(say("Median (s)"), 4)}
    table(rows, view, key="latency-own-clock", titles=_TITLES, columns=seconds, said=("part",))
    st.caption(say("measured · medians do not add up to the median of the whole."))
