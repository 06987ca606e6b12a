"""Frames of what there is, with its newest sample beside it: what pages count, draw and list."""

from __future__ import annotations

import pandas as pd

from analytics.serving import are_gateways
from charts.axis import words_of
from core.language import say
from pages.shared import loaders
from pages.shared.filters import View

KNOWN_FOR_MS = 900_000  # what is read now and then stays current for this long
_SELDOM = ("memory_total_bytes", "power_limit_watts", "processes", "row_remap_state", "recovery_action")


def accelerators(view: View, only: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every accelerator the filters let through, newest sample and state beside it.

    Args:
        view: the filters, and what counts as stale.
        only: entities to take instead, whatever the filters say.

    Returns:
        The columns of ``entities``; ``name``; ``slice`` (part of another device); ``stale``; every
        metric; ``state`` (active, parked, free, off) with its ``basis``; ``power_of_limit_ratio``;
        ``memory_held_ratio``; ``runs``.
    """
    now_ms = loaders.now_ms(view.now_ms)  # one for all of a page, however long it takes
    frame = _with_newest("accelerator", view, only)
    known = loaders.latest_known("accelerator", _SELDOM, now_ms - KNOWN_FOR_MS).set_index("entity_id")
    for metric in _SELDOM:
        frame[metric] = frame[metric].fillna(frame["entity_id"].map(known[metric]))
    states = loaders.accelerator_states(now_ms, view.stale_after_ms)
    frame = frame.merge(states, on="entity_id", how="left")
    frame["slice"] = frame["parent_key"].isin(set(loaders.entities("accelerator")["key"]))
    frame["power_of_limit_ratio"] = frame["power_watts"] / frame["power_limit_watts"]
    frame["memory_held_ratio"] = frame["memory_used_bytes"] / frame["memory_total_bytes"]
    frame["runs"] = frame["entity_id"].map(_served_on(view)).astype("object").fillna("")
    return frame


def sockets(view: View, only: pd.DataFrame | None = None) -> pd.DataFrame:
    """CPU sockets: the columns of ``entities``, ``name``, ``stale`` and every metric."""
    return _with_newest("cpu", view, only)


def hosts(view: View) -> pd.DataFrame:
    """Hosts: the columns of ``entities``, ``name``, ``stale`` and every metric."""
    return _with_newest("host", view)


def deployments(view: View) -> pd.DataFrame:
    """Deployments: the columns of ``entities``, ``name``, ``stale``, ``gateway`` and every metric."""
    frame = _with_newest("deployment", view)
    return frame.assign(gateway=are_gateways(frame))


def _with_newest(family: str, view: View, only: pd.DataFrame | None = None) -> pd.DataFrame:
    kept = view.keep(loaders.entities(family)) if only is None else only
    frame = kept.merge(loaders.latest(family), on="entity_id", how="left")
    age = view.now - frame["observed_at"]
    frame["stale"] = ~(age <= pd.Timedelta(milliseconds=view.stale_after_ms))  # NaT: never seen
    frame["name"] = names(frame)
    return frame


@loaders.cached(loaders.NOW_TTL, 4)
def names_of_all() -> dict[int, str]:
    """``names`` of all entities, by ``entity_id``."""
    entities = loaders.entities()
    return dict(zip(entities["entity_id"].tolist(), names(entities), strict=True))


def names(frame: pd.DataFrame) -> pd.Series:
    """A short name for each entity, unique within the frame, the same every time."""
    several_hosts = frame["host"].nunique() > 1
    columns = (frame[name].to_numpy(dtype="object") for name in ("family", "key", "host", "vendor", "model", "labels"))
    chosen = pd.Series(
        [_name(several_hosts, *row) for row in zip(*columns, strict=True)], index=frame.index, dtype="str"
    )
    twice = chosen.duplicated(keep=False)
    return chosen.where(~twice, chosen + " " + frame["key"].str[-8:])


def _name(several_hosts: bool, family: str, key: str, host: str, vendor: object, model: object, told: object) -> str:
    labels = told if isinstance(told, dict) else {}
    called = str(model or "").removeprefix(f"{vendor} ")
    if family == "accelerator":
        index = labels.get("index")
        short = f"{called or say('accelerator')} #{index}" if index else called or key
    elif family == "deployment":
        return f"{called} @ {labels['url']}" if called and labels.get("url") else key
    elif family == "cpu":
        short = key.removeprefix(f"{host}/")
    else:
        return key
    return f"{host} {short}" if several_hosts else short


def _served_on(view: View) -> dict[int, str]:
    """What runs on each accelerator at this moment, by the names of the models."""
    joined = loaders.assignments(view.start_ms, view.end_ms)
    joined = joined[joined["valid_to_at"].isna()]
    models = loaders.entities("deployment").set_index("entity_id")
    called = models["model"].where(models["model"].fillna("") != "", models["key"]).to_dict()
    runs: dict[int, set[str]] = {}
    for deployment_id, target_id in zip(joined["deployment_id"], joined["target_id"], strict=True):
        runs.setdefault(int(target_id), set()).add(str(called[deployment_id]))
    return {target: ", ".join(sorted(found)) for target, found in runs.items()}


def ids(frame: pd.DataFrame) -> tuple[int, ...]:
    """The entities of a frame, as loaders take them."""
    return tuple(int(i) for i in frame["entity_id"])


def named(readings: pd.DataFrame, things: pd.DataFrame, by: str = "name") -> pd.DataFrame:
    """Readings with the name (or another column) of what they are about, as ``series``."""
    return readings.assign(series=readings["entity_id"].map(things.set_index("entity_id")[by]))


def tidy(steps: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column per quantity, indexed by ``bucket_at``, as one column with the quantity's words as ``series``."""
    named_ = steps.rename(columns=words_of).reset_index()
    return named_.melt("bucket_at", var_name="series", value_name=column).dropna(subset=[column])


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Accelerators without their slices, which would count twice; slices alone stay as they are."""
    return frame if frame["slice"].all() else frame[~frame["slice"]]


def current(frame: pd.DataFrame, view: View) -> pd.DataFrame:
    """The rows of the last moment that is known: what fell silent before it is left out."""
    oldest = frame["observed_at"].max() - pd.Timedelta(milliseconds=view.stale_after_ms)
    latest: pd.DataFrame = frame.loc[frame["observed_at"] >= oldest]
    return latest


def total(frame: pd.DataFrame, column: str) -> float | None:
    """Sum of what is known; ``None`` when nothing is."""
    values = frame[column].dropna()
    return float(values.sum()) if len(values) else None


def mean(frame: pd.DataFrame, column: str) -> float | None:
    """Mean of what is known; ``None`` when nothing is."""
    values = frame[column].dropna()
    return float(values.mean()) if len(values) else None
