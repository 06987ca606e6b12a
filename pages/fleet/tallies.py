"""The overview's figures and tables, from frames of things."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analytics import cost_totals
from core.catalog import FAMILIES
from core.readings import Outcome
from core.units import show, show_money, unit_of
from pages.shared import loaders, things, watts, words
from pages.shared.figures import Figure
from pages.shared.filters import View
from pages.shared.reasons import cost_reason, reasons

_BYTES = unit_of("memory_used_bytes")
STATES = ("active", "parked", "free", "off")
STATE_WORDS = {"active": "● active", "parked": "◐ parked", "free": "○ free", "off": "⊘ off"}  # a shape beside the word
_BUSY_HELP = (
    "active: work was done in the last five minutes, by the server's requests where one is known, else by busy time. "
    "parked: memory is held, nothing is done. free: no process holds it. off: no sample."
)


def accelerators_active(frame: pd.DataFrame, view: View) -> Figure:
    """How many devices work, of all there are; slices count with their device."""
    whole = things.whole(frame)
    counts = whole["state"].value_counts()
    rest = ", ".join(f"{counts[state]} {state}" for state in STATES[1:] if counts.get(state))
    text: str | None = f"{counts.get('active', 0)} of {len(whole)}" if len(whole) else "none found"
    if len(whole) and whole["stale"].all():
        text, rest = None, f"no sample since {words.clock(whole['observed_at'].max(), view.zone, now=view.now)}"
    return Figure(label="Accelerators active", text=text, basis="derived", note=rest, reason=rest, help=_BUSY_HELP)


def busy(frame: pd.DataFrame, view: View) -> Figure:
    """Mean busy time, and SM activity beside it where devices report it."""
    now = things.current(frame, view)
    active = things.mean(now, "sm_active_ratio")
    return Figure(
        label="Busy time" if len(frame) == 1 else "Busy time, mean",
        value=things.mean(now, "utilization_ratio"),
        unit=unit_of("utilization_ratio"),
        at=now["observed_at"].max(),
        note=f"SM activity {show(active, unit_of('sm_active_ratio'))}" if active is not None else "",
        help="Share of time with at least one kernel running, mean over devices; not how full they were. "
        "SM activity, where it is reported, is the share of cycles in which an SM held a warp.",
        reason="no device reports it",
    )


def memory_held(frame: pd.DataFrame, view: View) -> Figure:
    """Device memory held, of all there is."""
    now = things.current(frame, view)
    now = things.whole(now[now["memory_total_bytes"].notna()])
    used, size = things.total(now, "memory_used_bytes"), things.total(now, "memory_total_bytes")
    return Figure(
        label="Memory held",
        value=used / size if used is not None and size else None,
        unit=unit_of("x_ratio"),
        at=now["observed_at"].max(),
        note=f"{show(used, _BYTES)} of {show(size, _BYTES)}",
        help="Device memory held by processes. A loaded model holds memory and may do no work.",
        reason="no device reports it",
    )


def hottest(frame: pd.DataFrame, view: View) -> Figure:
    """The hottest sensor of all devices."""
    now = things.current(frame, view)
    celsius = now[["temperature_celsius", "memory_temperature_celsius"]].max(axis=1)
    return Figure(
        label="Hottest",
        value=float(celsius.max()) if celsius.notna().any() else None,
        unit=unit_of("temperature_celsius"),
        at=now["observed_at"].max(),
        note=str(now["name"][celsius == celsius.max()].iloc[0]) if celsius.notna().any() else "",
        help="Highest of core, hotspot and memory temperature over all devices.",
        reason="no device reports a temperature",
    )


def of_device(frame: pd.DataFrame, view: View) -> list[Figure]:
    """The figures of one device, accelerator or socket."""
    row = frame.iloc[0]
    if row["family"] == "accelerator":
        state = Figure(
            label="State",
            text=STATE_WORDS.get(row["state"]),
            basis="derived",
            note=f"by {row['basis']}",
            help=_BUSY_HELP,
            reason="no sample was ever stored",
        )
        drawn = replace(watts.accelerator_power(frame, view), label="Power")
        heat = replace(hottest(frame, view), note="")
        return [state, busy(frame, view), memory_held(frame, view), drawn, heat, _held_down(row)]
    metrics = {"utilization_ratio": "Busy time", "power_watts": "Package power"}
    metrics |= {"temperature_celsius": "Temperature", "frequency_hertz": "Clock, mean of cores"}
    return [
        Figure(
            label=label,
            value=row[metric],
            unit=unit_of(metric),
            at=row["observed_at"],
            help=FAMILIES["cpu"].metric(metric).help,
            reason=reasons(("cpu", "epyc"), view)[0],
        )
        for metric, label in metrics.items()
    ]


def _held_down(row: pd.Series) -> Figure:
    reasons_ = words.throttle(row["throttle_reasons"])
    text = {"none": "no", "unknown": None}.get(reasons_, "yes")
    return Figure(
        label="Held down",
        text=text,
        at=row["observed_at"],
        note=reasons_ if text == "yes" else "",
        help="Whether clocks are held down right now, and why. A power cap on a busy device is normal.",
        reason="the device does not say",
    )


def unit_price(deployments: pd.DataFrame, view: View) -> Figure:
    """What a million output tokens cost over the window, all deployments together."""
    ids = set(things.ids(deployments))
    costs = [cost for cost in loaders.deployment_costs(view.start_ms, view.end_ms) if cost.deployment_id in ids]
    total = cost_totals.total(costs)
    usd = total.usd_per_million_output_tokens
    why = cost_reason(total.reason) if costs else "no server"
    return Figure(
        label="USD per million output tokens",
        text=show_money(usd, unknown=why),
        basis=total.label.value if usd is not None else "missing",
        window=view.words,
        help="Hardware and electricity over output tokens; the page Tokens opens it to its terms.",
    )


def host_cpu(frame: pd.DataFrame, view: View) -> Figure:
    """CPU busy time, mean over hosts."""
    now = things.current(frame, view)
    return Figure(
        label="Host CPU busy",
        value=things.mean(now, "cpu_utilization_ratio"),
        unit=unit_of("cpu_utilization_ratio"),
        at=now["observed_at"].max(),
        note=f"mean of {len(now)} hosts" if len(now) > 1 else "",
        help="Share of time not idle, over all logical CPUs of a host.",
        reason="no host ever reported",
    )


def host_memory(frame: pd.DataFrame, view: View) -> Figure:
    """Memory in use, of all hosts together."""
    now = things.current(frame, view)
    used, size = things.total(now, "memory_used_bytes"), things.total(now, "memory_total_bytes")
    return Figure(
        label="Host memory used",
        value=used / size if used is not None and size else None,
        unit=unit_of("x_ratio"),
        at=now["observed_at"].max(),
        note=f"{show(used, _BYTES)} of {show(size, _BYTES)}",
        help="Total less available memory.",
        reason="no host reports it",
    )


def not_accelerators(hosts: pd.DataFrame, accelerators: pd.DataFrame, view: View) -> Figure:
    """The share of node power that is not accelerators, over hosts where both are known."""
    boards = things.current(things.whole(accelerators), view)
    known = boards.groupby("host")["power_watts"].sum(min_count=1)
    silent = set(boards.loc[boards["power_watts"].isna(), "host"])
    nodes = things.current(hosts, view).set_index("key")["node_power_watts"].dropna()
    nodes = nodes[nodes.index.isin(known.dropna().index.difference(sorted(silent)))]
    share = 1 - float(known[nodes.index].sum()) / float(nodes.sum()) if len(nodes) else None
    return Figure(
        label="Not accelerators",
        value=share,
        unit=unit_of("x_ratio"),
        basis="derived",
        at=hosts["observed_at"].max(),
        help="Share of node power that accelerators do not draw: CPUs, memory, fans, losses of the supply.",
        reason="it takes a host with accelerators whose power and node power are both known",
    )


def output_tokens(frame: pd.DataFrame, view: View) -> Figure:
    """Output tokens per second over the last minute, all servers together."""
    recent = token_rates(frame[~frame["gateway"]], view)["generation_tokens_per_second"].dropna()
    return Figure(
        label="Output tokens",
        value=float(recent.sum()) if len(recent) else None,
        unit=unit_of("x_tokens_per_second"),
        basis="derived",
        window="last minute",
        help="Increase of the servers' output token counters, reasoning included, per second; gateways left out.",
        reason="no inference server reports" if frame.empty else "no server counted output tokens in the last minute",
    )


def token_rates(frame: pd.DataFrame, view: View) -> pd.DataFrame:
    """entity_id and generation_tokens_per_second over the last minute."""
    start_ms, end_ms = view.recent
    return loaders.rates(
        "deployment", ("generation_tokens_total",), things.ids(frame), start_ms, end_ms, end_ms - start_ms
    )


def sources_healthy(view: View) -> Figure:
    """How many sources deliver, of those that are here."""
    health = loaders.recent_health()
    if view.host is not None:
        health = health[health["host"] == view.host]
    here = health[(health["absent"] == 0) & (health["target"] == "")]
    well = here[(here["available"] == 1) & here["outcome"].notna() & (here["outcome"] != Outcome.FAILED.value)]
    return Figure(
        label="Sources healthy",
        text=f"{len(well)} of {len(here)}" if here["last_tick_at"].notna().any() else None,
        at=here["last_tick_at"].max(),
        help="Collector sources whose library or device is here and whose last tick did not fail. See Health.",
        reason="no source was asked within the last hour",
    )


def host_table(hosts: pd.DataFrame, accelerators: pd.DataFrame) -> pd.DataFrame:
    """One row per host, ratios from 0 to 1."""
    whole = things.whole(accelerators).groupby("host").size()
    return pd.DataFrame(
        {
            "host": hosts["key"],
            "reports": hosts["stale"].map({True: "stale", False: "yes"}),
            "accelerators": hosts["key"].map(whole).fillna(0).astype("int64"),
            "cpu_utilization_ratio": hosts["cpu_utilization_ratio"],
            "memory_used_ratio": hosts["memory_used_bytes"] / hosts["memory_total_bytes"],
            "disk_used_ratio": hosts["disk_used_bytes"] / hosts["disk_total_bytes"],
            "load_1m": hosts["load_1m"],
            "node_power_watts": hosts["node_power_watts"],
            "observed_at": hosts["observed_at"],
        }
    )


def socket_table(sockets: pd.DataFrame) -> pd.DataFrame:
    """One row per CPU socket."""
    columns = ["utilization_ratio", "power_watts", "power_limit_watts", "temperature_celsius", "frequency_hertz"]
    return pd.DataFrame(
        {
            "socket": sockets["key"],
            "model": sockets["model"],
            "reports": sockets["stale"].map({True: "stale", False: "yes"}),
            **{column: sockets[column] for column in columns},
            "observed_at": sockets["observed_at"],
        }
    )


def server_table(deployments: pd.DataFrame, view: View) -> pd.DataFrame:
    """One row per model and server."""
    rates = token_rates(deployments, view).set_index("entity_id")["generation_tokens_per_second"]
    return pd.DataFrame(
        {
            "model": deployments["model"].fillna(deployments["key"]),
            "server": [labels.get("url", "") for labels in deployments["labels"]],
            "engine": [labels.get("engine", "") for labels in deployments["labels"]],
            "reports": deployments["stale"].map({True: "stale", False: "yes"}),
            "running_requests": deployments["running_requests"],
            "waiting_requests": deployments["waiting_requests"],
            "kv_cache_usage_ratio": deployments["kv_cache_usage_ratio"],
            "output_tokens_per_second": deployments["entity_id"].map(rates),
            "observed_at": deployments["observed_at"],
        }
    )
