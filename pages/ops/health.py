"""Is the monitor itself well: every source and target, the store, and what probes spend."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.language import _, say, spoken
from core.units import show, unit_of
from pages.ops import sources
from pages.shared import loaders, words
from pages.shared.columns import number
from pages.shared.figures import Figure, tiles
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.joins import joins
from pages.shared.store import settings
from pages.shared.tables import table
from pages.shared.verdict import verdict

TITLES = {
    "mean_duration_seconds": _("mean duration"),
    "ticks_missed": _("missed"),
    "last_success_at": _("last success"),
    "checked_at": _("looked for"),
    "file_bytes": _("file"),
    "since_at": _("since"),
}


def render() -> None:
    """Draw the page."""
    page(_("Health"), draw)


def draw(view: View) -> None:
    """Verdict, the monitor's own freshness, sources and targets, what is not understood or not joined, store, spend."""
    rows = sources.states(view)
    dropped = int(loaders.facts().get("batches_dropped", "0"))
    spool = loaders.spool()
    if rows:
        happened = loaders.events(view.start_ms, view.end_ms + view.stale_after_ms)
        clock = happened[happened["kind"] == "clock"]
        verdict(sources.findings(rows, dropped, spool.waiting, clock), sources.summary(rows), view)
    _tiles(rows, dropped, spool, view)
    _sources(rows, view)
    _unknown_metrics(view)
    if len(loaders.entities("deployment")):
        joins(view, key="health")
    _store(view)
    _spend(view)


def _tiles(rows: list[sources.Row], dropped: int, spool: loaders.Spooled, view: View) -> None:
    own = sources.own(rows)
    here = [row for row in own if row["state"] != sources.ABSENT]
    well = sum(row["state"] not in (*sources.BAD, sources.WAITING) for row in here)
    newest = loaders.newest_sample_at_ms()
    missed = sum(row["ticks_missed"] for row in own if row["ticks_missed"] == row["ticks_missed"])
    sizes = loaders.store_size()
    tiles(
        [
            Figure(
                label=say("Sources delivering"),
                text=say("{part} of {all}", part=spoken().number(well), all=spoken().number(len(here)))
                if own
                else None,
                help=say("Of those that are here, in part or in full; what is absent is listed below."),
                reason=say("no source was ever started"),
            ),
            Figure(
                label=say("Last tick"),
                text=say("{age} ago", age=words.duration(max(view.now_ms - newest, 0) / 1000)) if newest else None,
                at=pd.Timestamp(newest, unit="ms", tz="UTC") if newest else None,
                help=say("When the collector daemon last stored anything: how fresh this dashboard is."),
                reason=say("nothing was ever stored"),
            ),
            Figure(
                label=say("Ticks missed"),
                value=missed if own else None,
                window=view.words,
                reason=say("no ticks"),
            ),
            Figure(
                label=say("Batches dropped"),
                value=float(dropped),
                window=say("ever"),
                help=say("Lost because the store could not be written for too long."),
            ),
            Figure(
                label=say("Batches waiting"),
                value=float(spool.waiting),
                help=say(
                    "In the spool ({size}): what the database could not take yet.",
                    size=show(spool.bytes, unit_of("file_bytes")),
                ),
            ),
            Figure(label=say("Store"), value=float(sizes["file_bytes"].max()), unit=unit_of("file_bytes")),
        ],
        view,
    )


def _sources(rows: list[sources.Row], view: View) -> None:
    st.markdown(
        f"##### {say('Sources and targets')}",
        help=say("A source reads one library or protocol; a target is one address."),
    )
    if not rows:
        no_data(say("No source has reported yet."), "", say("start the collector daemon: make run"))
        return
    order = ["state", "source", "target", "host", "last_success_at", "mean_duration_seconds", "ticks", "failed"]
    order += ["ticks_missed", "error", "reason", "remedy"]
    frame = pd.DataFrame(rows)[order].rename(columns={"error": "last_error"})
    frame["last_error"] = frame["last_error"].where(frame["state"] == sources.FAILED, "")
    seconds = number(say("Mean duration (s)"), 4)
    table(
        frame,
        view,
        key="health-sources",
        titles=TITLES,
        columns={"mean_duration_seconds": seconds},
        said=("state",),
    )
    st.caption(
        say(
            "Ticks, failures and durations: {window}. Reason and remedy: as the last discovery gave them.",
            window=view.words,
        )
    )
    for row in rows:
        if row["reason"] and not row["target"]:
            with st.container(border=True):
                source, reason = words.plain(row["source"]), words.plain(row["reason"], limit=500)
                st.markdown(f"**{source}**: {say(row['state'])}. {reason}")
                if row["remedy"]:
                    st.caption(say("Remedy: {remedy}", remedy=words.plain(row["remedy"], limit=500)))


def _unknown_metrics(view: View) -> None:
    """What servers export under names that are not known, newest per server; nothing where there is none."""
    found = loaders.newest_events("unknown metrics")
    found = found if view.host is None else found[found["host"] == view.host]
    if found.empty:
        return
    st.markdown(
        f"##### {say('Unknown metrics')}",
        help=say("A server of a version that is newer or older than what Vatio knows; all else of it is read as ever."),
    )
    frame = found.rename(columns={"key": "server", "message": "names", "observed_at": "since_at"})
    shown = frame[["severity", "server", "names", "since_at", "host"]]
    table(shown, view, key="health-unknown", titles=TITLES, said=("severity",))


def _store(view: View) -> None:
    st.markdown(f"##### {say('Store')}")
    sizes = loaders.store_size()
    place = words.plain(settings().storage.place, limit=500)
    st.caption(say("Samples and range of each family. Database: {place}", place=place))
    table(
        sizes[["table", "rows", "sealed", "first_at", "last_at"]],
        view,
        key="health-store",
        titles={"first_at": _("from"), "last_at": _("to")},
        columns={"rows": number(say("Rows"), 0), "sealed": number(say("Samples in blocks"), 0)},
    )


def _spend(view: View) -> None:
    st.markdown(f"##### {say('What probes spend')}", help=say("A probe that would pass its cap is refused, not sent."))
    probes, spent = settings().probe, loaders.probe_spend()
    if not probes and spent.empty:
        st.caption(say("No [[probe]] is set, so nothing is spent."))
        return
    caps = {probe.name: probe.monthly_cap_usd for probe in probes}
    month = f"{view.now:%Y-%m}"
    idle = [name for name in caps if not ((spent["endpoint"] == name) & (spent["month"] == month)).any()]
    none = pd.DataFrame({"endpoint": idle, "month": month, "spent_usd": 0.0})
    frame = pd.concat([spent, none]) if idle else spent
    frame = frame.assign(cap_usd=frame["endpoint"].map(caps).astype("float64"))
    frame["used_ratio"] = frame["spent_usd"] / frame["cap_usd"].where(frame["cap_usd"] > 0)
    money = {
        name: number(title, 4) for name, title in (("spent_usd", say("Spent (USD)")), ("cap_usd", say("Cap (USD)")))
    }
    table(
        frame.sort_values(["month", "endpoint"], ascending=[False, True]),
        view,
        key="health-spend",
        titles={"used_ratio": _("of the cap")},
        columns=money,
    )
    st.caption(
        say("By endpoint and UTC month; a request without a bill counts with its worst case. No cap: no price is set.")
    )


if __name__ == "__main__":
    render()
