"""Which deployment runs on which hardware, since when and how that is known; and what could not be joined."""

from __future__ import annotations

import json
from collections.abc import Collection

import pandas as pd
import streamlit as st

from core.language import _, say
from pages.shared import loaders, things, words
from pages.shared.filters import View
from pages.shared.frame import no_data
from pages.shared.tables import table

ORIGINS = {
    "processes": _("process ids"),
    "labels": _("labels of an exporter"),
    "settings": _("the settings"),
}
HELD = {"active": _("● active"), "parked": _("◐ parked")}
HOW = _(
    "A deployment is joined to accelerators by the processes on them, by labels that exporters and servers share, "
    "or by the settings."
)
_TITLES = {"since_at": _("since"), "known_by": _("known by"), "held_by": _("held by")}


def joins(view: View, *, key: str, of: Collection[int] | None = None) -> None:
    """Tables of what is joined and of what is not.

    Args:
        view: the window, and the filters.
        key: begins the tables' names.
        of: these deployments alone, and no accelerators that are held by none.
    """
    st.markdown(f"##### {say('What runs where')}", help=say(HOW))
    frame = _joined(view, of)
    if frame.empty:
        no_data(say("No deployment is joined to hardware in this window."))
    else:
        table(frame, view, key=f"{key}-joined", titles=_TITLES, said=("known_by",))
    unjoined_deployments(view, key=key, of=of)
    if of is None:
        _accelerators(view, key)


def _joined(view: View, of: Collection[int] | None) -> pd.DataFrame:
    """One row per deployment, target and stretch of time."""
    found = loaders.assignments(view.start_ms, view.end_ms)
    found = found if of is None else found[found["deployment_id"].isin(of)]
    known = loaders.entities()
    kept = set(view.keep(known)["entity_id"])
    found = found[found["deployment_id"].isin(kept) & found["target_id"].isin(kept)]
    known = known.set_index("entity_id")[["key", "host", "family", "model"]]
    served, target = known.loc[found["deployment_id"]], known.loc[found["target_id"]]
    return pd.DataFrame(
        {
            "deployment": served["key"].to_numpy(),
            "runs_on": [_target(*row) for row in zip(target["family"], target["model"], strict=True)],
            "host": target["host"].to_numpy(),
            "since_at": found["valid_from_at"].array,
            "until": _said(found["valid_to_at"], view).to_numpy(),
            "known_by": found["origin"].map(ORIGINS).fillna(found["origin"]).to_numpy(),
            "device": target["key"].to_numpy(),
        }
    )


def _said(until: pd.Series, view: View) -> pd.Series:
    told = {at: words.clock(at, view.zone) for at in until.dropna().unique()}
    return until.map(told).astype("object").fillna(say("now"))


def _target(family: str, model: str | None) -> str:
    return say("its CPUs") if family == "host" else model or say("accelerator")


def unjoined_deployments(view: View, *, key: str, of: Collection[int] | None = None) -> None:
    """Those whose hardware is not known, with the tokens that therefore belong to none; ``of``: among these."""
    if of is not None and set(of) <= set(loaders.assignments(view.start_ms, view.end_ms)["deployment_id"]):
        return  # so that nobody need look for others
    lost = view.keep(loaders.unjoined(view.start_ms, view.end_ms)[0])
    lost = lost if of is None else lost[lost["entity_id"].isin(of)]
    if lost.empty:
        return
    counters = ("generation_tokens_total", "prompt_tokens_total")
    grown = loaders.increases("deployment", counters, things.ids(lost), view.start_ms, view.end_ms)
    grown = grown.set_index("entity_id").reindex(lost["entity_id"])
    st.markdown(f"##### {say('Not known what they run on')}")
    st.markdown(say("Their tokens are counted, their cost is not. Name the accelerators of each in `vatio.toml`:"))
    address = words.one_line(next((labels.get("url", "") for labels in lost["labels"]), ""))
    device = words.one_line(next(iter(loaders.entities("accelerator")["key"]), "GPU-..."))
    lines = ["[[serving.server]]", f"url = {_toml(address)}", f"accelerators = [{_toml(device)}]"]
    st.code("\n".join(lines), language=None)
    frame = pd.DataFrame(
        {
            "deployment": lost["key"].to_numpy(),
            "host": lost["host"].to_numpy(),
            "output_tokens": grown["generation_tokens_total"].to_numpy(dtype="float64"),
            "prompt_tokens": grown["prompt_tokens_total"].to_numpy(dtype="float64"),
        }
    )
    table(frame, view, key=f"{key}-unjoined")


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _accelerators(view: View, key: str) -> None:
    """Those that somebody holds while no deployment is known to run there."""
    frame = things.accelerators(view)
    free = loaders.unjoined(view.start_ms, view.end_ms)[1]["entity_id"]
    held = frame[frame["entity_id"].isin(free) & frame["state"].isin(HELD)]
    if held.empty:
        return
    st.markdown(f"##### {say('Accelerators that are held, but by no known deployment')}")
    st.markdown(
        say(
            "If a server works there, name them in its `accelerators`, or let it be scraped; a training job or a "
            "notebook is listed by its process."
        )
    )
    holders = _holders()
    rows = pd.DataFrame(
        {
            "name": held["name"].to_numpy(),
            "device": held["key"].to_numpy(),
            "host": held["host"].to_numpy(),
            "state": held["state"].map(HELD).to_numpy(),
            "held_by": [holders.get(i, "") for i in held["entity_id"]],
            "memory_used_bytes": held["memory_used_bytes"].to_numpy(dtype="float64"),
            "power_watts": held["power_watts"].to_numpy(dtype="float64"),
        }
    )
    table(rows, view, key=f"{key}-held", titles=_TITLES, said=("state",))


def _holders() -> dict[int, str]:
    """Names of the processes on each device when it was last asked, where it tells them."""
    found = loaders.process_names()
    names: dict[int, set[str]] = {}
    for entity_id, name in zip(found["entity_id"], found["name"], strict=True):
        if name:
            names.setdefault(entity_id, set()).add(words.one_line(name, limit=60))
    return {entity_id: ", ".join(sorted(some)) for entity_id, some in names.items()}
